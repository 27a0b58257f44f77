//! `ledgerline namespace …`.

use clap::{Args, Subcommand};
use ledgerline_client::{api, wall_time};
use serde_json::{Value, json};

use super::client::{Output, Server, block_on, explain};
use super::topic::time;
use super::values;

/// Make and look at namespaces: each belongs to a tenant and has topics of its own.
#[derive(Debug, Args)]
pub(crate) struct Namespace {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    server: Server,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a namespace. Its tenant must exist.
    Create {
        /// Its name: a single one of the tenant `default`, or `tenants/…/namespaces/…`.
        namespace: String,
    },
    /// Show a namespace.
    Get {
        /// Its name.
        namespace: String,
    },
    /// List the namespaces of a tenant.
    List {
        /// Its name: a single one, or `tenants/…`.
        #[arg(default_value = "default")]
        tenant: String,
    },
}

impl Namespace {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let value = block_on(async {
            let admin = self.server.connect().await?.admin();
            match &self.command {
                Command::Create { namespace } => {
                    let name = values::namespace(namespace);
                    let Some((tenant, single)) = name.split_once("/namespaces/") else {
                        anyhow::bail!("expected a single name, or tenants/…/namespaces/…");
                    };
                    let made = admin.create_namespace(tenant, single).await;
                    made.map(|it| show(&it))
                }
                Command::Get { namespace } => {
                    let found = admin.get_namespace(&values::namespace(namespace)).await;
                    found.map(|it| show(&it))
                }
                Command::List { tenant } => {
                    let all = admin.list_namespaces(&values::tenant(tenant)).await;
                    all.map(|all| all.iter().map(show).collect())
                }
            }
            .map_err(explain)
        })?;
        self.output.print(&value);
        Ok(())
    }
}

fn show(namespace: &api::Namespace) -> Value {
    json!({
        "name": namespace.name,
        "created": time(namespace.create_time.as_ref().and_then(wall_time)),
    })
}
