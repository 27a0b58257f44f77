//! `ledgerline cluster …`.

use clap::{Args, Subcommand, ValueEnum};
use ledgerline_client::{Admin, Error, api};
use serde_json::{Value, json};

use super::client::{Output, Server, block_on, explain};

/// Look at a cluster, and take nodes out of it.
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

    /// List the nodes, and how many ledgers each bookie and how many shards each serving node has.
    Nodes,

    /// Empty a node: a bookie's copies move to the other bookies, a serving node's topics to the other serving nodes.
    ///
    /// A bookie gets no new ledgers, and goes on serving what it has until its copies have moved; `cluster repair plan` shows
    /// how far that is. A serving node opens no topics any more, and gives away those it has a few at a time; `cluster nodes`
    /// shows how many are left. Refused when too few nodes of its kind would be left. A restart of the node takes nothing
    /// back.
    Drain(Which),

    /// Take a drain back.
    Undrain(Which),

    /// Take a drained bookie out of the cluster, for good.
    ///
    /// Refused while a ledger names it. Its name is used up: stop its process, and give a new one another name.
    Decommission {
        /// The bookie's name.
        node: String,
    },

    /// Look at the repair of copies.
    Repair {
        #[command(subcommand)]
        command: Repair,
    },
}

/// A bookie or a serving node.
#[derive(Debug, Args)]
struct Which {
    /// The node's name.
    node: String,

    /// Which node, where a bookie and a serving node have the same name.
    #[arg(long, env = "LEDGERLINE_ROLE", value_enum, value_name = "ROLE")]
    role: Option<Role>,
}

/// What a node does.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    /// Stores ledgers.
    Bookie,
    /// Serves topics.
    Serving,
}

impl Which {
    async fn drain(&self, admin: &Admin, draining: bool) -> Result<(), Error> {
        let role = self.role.map(|role| match role {
            Role::Bookie => api::NodeRole::Bookie,
            Role::Serving => api::NodeRole::Serving,
        });
        admin.drain_node(&self.node, role, draining).await
    }
}

#[derive(Debug, Subcommand)]
enum Repair {
    /// Show which ledgers are not whole, what is being done about it, and what cannot be made good.
    Plan,
}

impl Cluster {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self {
            command,
            server,
            output,
        } = self;
        let shown = block_on(async {
            let admin = server.connect().await?.admin();
            command.ask(&admin).await.map_err(explain)
        })?;
        output.print(&shown);
        Ok(())
    }
}

impl Command {
    async fn ask(self, admin: &Admin) -> Result<Value, Error> {
        Ok(match self {
            Self::Status => show(&admin.cluster_status().await?),
            Self::Nodes => nodes(&admin.cluster_status().await?, &admin.repair_plan().await?),
            Self::Drain(which) => {
                which.drain(admin, true).await?;
                json!({ "name": which.node, "state": "draining" })
            }
            Self::Undrain(which) => {
                which.drain(admin, false).await?;
                json!({ "name": which.node, "state": "active" })
            }
            Self::Decommission { node } => {
                admin.decommission_node(&node).await?;
                json!({ "name": node, "state": "gone" })
            }
            Self::Repair {
                command: Repair::Plan,
            } => plan(&admin.repair_plan().await?),
        })
    }
}

/// Every node in one row; those that have left the cluster are left out.
fn nodes(status: &api::ClusterStatus, plan: &api::RepairPlan) -> Value {
    let serving = |node: &&api::Node| node.role() == api::NodeRole::Serving;
    let serving = status.nodes.iter().filter(serving).map(|node| {
        json!({
            "name": node.name,
            "role": "serving",
            "state": serving_state(node),
            "address": node.address,
            "zone": Value::Null,
            "shards": node.shards,
            "ledgers": Value::Null,
            "due": Value::Null,
            "leaving": Value::Null,
        })
    });
    let there = |bookie: &&api::BookieStatus| bookie.duty() != api::BookieDuty::Gone;
    let bookies = status.bookies.iter().filter(there).map(|bookie| {
        let part = plan.bookies.iter().find(|part| part.name == bookie.name);
        let is_lost = part.is_some_and(|part| part.lost);
        let state = match (bookie.live, is_lost, bookie.duty()) {
            (_, true, _) => "lost".to_owned(),
            (false, false, _) => "away".to_owned(),
            (true, false, api::BookieDuty::Draining) => "draining".to_owned(),
            (true, false, _) => word(bookie.state().as_str_name(), "BOOKIE_STATE_"),
        };
        json!({
            "name": bookie.name,
            "role": "bookie",
            "state": state,
            "address": bookie.address,
            "zone": (!bookie.zone.is_empty()).then_some(&bookie.zone),
            "shards": Value::Null,
            "ledgers": part.map(|part| part.ledgers),
            "due": part.map(|part| part.due),
            "leaving": part.map(|part| part.leaving),
        })
    });
    Value::Array(serving.chain(bookies).collect())
}

/// How a serving node stands: a live one that is drained is draining until it has nothing left.
fn serving_state(node: &api::Node) -> String {
    match (node.state(), node.draining, node.shards) {
        (api::SessionState::Live, true, 0) => "drained".to_owned(),
        (api::SessionState::Live, true, _) => "draining".to_owned(),
        (state, ..) => word(state.as_str_name(), "SESSION_STATE_"),
    }
}

fn plan(plan: &api::RepairPlan) -> Value {
    let bookie = |bookie: &api::RepairOfBookie| {
        json!({
            "name": bookie.name,
            "ledgers": bookie.ledgers,
            "due": bookie.due,
            "leaving": bookie.leaving,
            "lost": bookie.lost,
        })
    };
    json!({
        "state": if plan.known { "known" } else { "not looked at yet" },
        "concerns": plan.concerns,
        "closed": plan.closed_ledgers,
        "whole": plan.whole_ledgers,
        "short": plan.short_ledgers,
        "moving": plan.moving_ledgers,
        "waiting": plan.waiting_ledgers,
        "beyond_repair": plan.beyond_repair_ledgers,
        "copies_last_minute": plan.copies_last_minute,
        "seconds_left": plan.left_seconds,
        "bookies": plan.bookies.iter().map(bookie).collect::<Vec<_>>(),
    })
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
            "shards": node.shards,
            "draining": node.draining,
        })
    };
    let bookie = |bookie: &api::BookieStatus| {
        json!({
            "name": bookie.name,
            "id": bookie.id,
            "writes": word(bookie.state().as_str_name(), "BOOKIE_STATE_"),
            "live": bookie.live,
            "duty": word(bookie.duty().as_str_name(), "BOOKIE_DUTY_"),
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
