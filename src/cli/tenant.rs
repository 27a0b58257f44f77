//! `ledgerline tenant …`.

use clap::{Args, Subcommand};
use ledgerline_client::{api, wall_time};
use serde_json::{Value, json};

use super::client::{Output, Server, block_on, explain};
use super::topic::time;
use super::values;

/// Make and look at tenants: each has namespaces of its own.
#[derive(Debug, Args)]
pub(crate) struct Tenant {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    server: Server,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a tenant.
    Create {
        /// Its name: a single one, or `tenants/…`.
        tenant: String,
    },
    /// Show a tenant.
    Get {
        /// Its name.
        tenant: String,
    },
    /// List tenants.
    List,
}

impl Tenant {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let value = block_on(async {
            let admin = self.server.connect().await?.admin();
            match &self.command {
                Command::Create { tenant } => {
                    let name = values::tenant(tenant);
                    let single = name.trim_start_matches("tenants/");
                    admin.create_tenant(single).await.map(|it| show(&it))
                }
                Command::Get { tenant } => {
                    let tenant = admin.get_tenant(&values::tenant(tenant)).await;
                    tenant.map(|it| show(&it))
                }
                Command::List => {
                    let all = admin.list_tenants().await;
                    all.map(|all| all.iter().map(show).collect())
                }
            }
            .map_err(explain)
        })?;
        self.output.print(&value);
        Ok(())
    }
}

fn show(tenant: &api::Tenant) -> Value {
    json!({
        "name": tenant.name,
        "created": time(tenant.create_time.as_ref().and_then(wall_time)),
    })
}
