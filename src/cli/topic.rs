//! `ledgerline topic …`.

use clap::{Args, Subcommand};
use ledgerline_client::{Quorum, WallTime, api};
use serde_json::{Value, json};

use super::client::{Output, Server, block_on, explain};
use super::values;

/// Make and look at topics.
#[derive(Debug, Args)]
pub(crate) struct Topic {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    server: Server,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a topic.
    Create {
        /// Its name: a single one, or `tenants/…/namespaces/…/topics/…`.
        topic: String,

        /// Copies of each message, and how many of them are fsynced before it is acked [default: the cluster's].
        #[arg(long, env = "LEDGERLINE_QUORUM", value_parser = values::quorum, value_name = "WRITE/ACK")]
        quorum: Option<Quorum>,
    },
    /// Show a topic.
    Get {
        /// Its name.
        topic: String,
    },
    /// List topics.
    List {
        /// Of this namespace, `tenants/…/namespaces/…` [default: the default one].
        #[arg(
            long,
            env = "LEDGERLINE_NAMESPACE",
            default_value = "",
            hide_default_value = true
        )]
        namespace: String,
    },
    /// Show how a topic stands: its owner, its offsets, who uses it.
    Stats {
        /// Its name.
        topic: String,
    },
}

impl Topic {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let value = block_on(async {
            let admin = self.server.connect().await?.admin();
            match &self.command {
                Command::Create { topic, quorum } => admin
                    .create_topic(topic, *quorum)
                    .await
                    .map(|topic| show(&topic)),
                Command::Get { topic } => admin.get_topic(topic).await.map(|topic| show(&topic)),
                Command::List { namespace } => {
                    let topics = admin.list_topics(namespace).await;
                    topics.map(|topics| topics.iter().map(show).collect())
                }
                Command::Stats { topic } => admin.topic_stats(topic).await.map(|it| stats(&it)),
            }
            .map_err(explain)
        })?;
        self.output.print(&value);
        Ok(())
    }
}

/// A timestamp of the API as text.
pub(super) fn time(time: Option<WallTime>) -> Value {
    time.map_or(Value::Null, |time| json!(values::rfc3339(time)))
}

fn show(topic: &api::Topic) -> Value {
    let quorum = topic
        .quorum
        .as_ref()
        .map(|quorum| format!("{}/{}", quorum.write, quorum.ack));
    json!({
        "name": topic.name,
        "quorum": quorum,
        "shards": topic.shards,
        "created": time(topic.create_time.as_ref().and_then(ledgerline_client::wall_time)),
        "uid": topic.uid,
    })
}

fn stats(stats: &api::TopicStats) -> Value {
    let shard = |shard: &api::ShardStats| {
        json!({
            "shard": shard.shard,
            "owner": shard.endpoint,
            "epoch": shard.epoch,
            "first_offset": shard.first_offset,
            "next_offset": shard.next_offset,
            "producers": shard.producers,
            "subscriptions": shard.subscriptions,
        })
    };
    json!({
        "name": stats.name,
        "shards": stats.shards.iter().map(shard).collect::<Vec<_>>(),
    })
}
