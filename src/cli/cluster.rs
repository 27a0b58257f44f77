//! `ledgerline cluster …`.

use clap::{Args, Subcommand};
use ledgerline_client::api;
use serde_json::{Value, json};

use super::client::{Output, Server, block_on, explain};

/// Look at a cluster.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    server: Server,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show which nodes there are, how they stand, and what is wrong.
    Status,
}

impl Cluster {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Command::Status = self.command;
        let status = block_on(async {
            let admin = self.server.connect().await?.admin();
            admin.cluster_status().await.map_err(explain)
        })?;
        self.output.print(&show(&status));
        Ok(())
    }
}

/// A word of an enumeration of the API, without its prefix, in lower case.
fn word(full: &str, prefix: &str) -> String {
    full.trim_start_matches(prefix)
        .to_lowercase()
        .replace('_', "-")
}

fn show(status: &api::ClusterStatus) -> Value {
    let node = |node: &api::Node| {
        json!({
            "name": node.name,
            "role": word(node.role().as_str_name(), "NODE_ROLE_"),
            "state": word(node.state().as_str_name(), "SESSION_STATE_"),
            "clients": node.endpoint,
            "address": node.address,
            "session": node.session,
        })
    };
    let bookie = |bookie: &api::BookieStatus| {
        json!({
            "name": bookie.name,
            "id": bookie.id,
            "writes": word(bookie.state().as_str_name(), "BOOKIE_STATE_"),
            "live": bookie.live,
            "address": bookie.address,
            "starts": bookie.incarnation,
        })
    };
    json!({
        "cluster": status.cluster_id,
        "version": status.version,
        "standing": word(status.standing().as_str_name(), "STANDING_"),
        "concerns": status.concerns,
        "nodes": status.nodes.iter().map(node).collect::<Vec<_>>(),
        "bookies": status.bookies.iter().map(bookie).collect::<Vec<_>>(),
    })
}
