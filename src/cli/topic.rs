//! `ledgerline topic …`.

use std::time::Duration;

use clap::{Args, Subcommand};
use ledgerline_client::{Admin, ByteSize, Quorum, Retention, TopicOptions, WallTime, api};
use serde_json::{Value, json};

use super::client::{Output, Server, block_on, explain};
use super::opening;
use super::values::{self, Keep};
use crate::terminal;

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
    /// Make a topic. A warning tells when the cluster has too few bookies for its copies.
    Create {
        /// Its name: a single one, or `tenants/…/namespaces/…/topics/…`.
        topic: String,

        /// Copies of each message, and how many of them are fsynced before it is acked [default: the cluster's].
        #[arg(long, env = "LEDGERLINE_QUORUM", value_parser = values::quorum, value_name = "WRITE/ACK")]
        quorum: Option<Quorum>,

        #[command(flatten)]
        retention: RetentionArgs,
    },
    /// Change how long a topic's messages stay.
    Update {
        /// Its name.
        topic: String,

        #[command(flatten)]
        retention: RetentionArgs,
    },
    /// Take a topic away, with its subscriptions and all its messages. Nothing brings them back.
    Delete {
        /// Its name.
        topic: String,
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

/// How long messages stay that no subscription needs any more.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct RetentionArgs {
    /// Keep messages that every subscription acked for so long, such as 12h, 7d, 0s, or forever [default: 7d].
    #[arg(long, env = "LEDGERLINE_RETENTION", value_parser = values::keep_time, value_name = "TIME")]
    retention: Option<Keep<Duration>>,

    /// Keep so many bytes of the newest messages, such as 10GiB, or all. With both limits the one that is reached first
    /// counts [default: all].
    #[arg(long, env = "LEDGERLINE_RETENTION_SIZE", value_parser = values::keep_bytes, value_name = "SIZE")]
    retention_size: Option<Keep<ByteSize>>,
}

impl RetentionArgs {
    /// The retention it names; none when it names nothing. What it leaves out is as in `otherwise`.
    pub(crate) fn over(self, otherwise: Retention) -> Option<Retention> {
        if self.retention.is_none() && self.retention_size.is_none() {
            return None;
        }
        Some(Retention {
            time: self.retention.map_or(otherwise.time, Keep::limit),
            bytes: self.retention_size.map_or(otherwise.bytes, Keep::limit),
        })
    }
}

impl Topic {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let value = block_on(async {
            let admin = self.server.connect().await?.admin();
            match &self.command {
                Command::Create {
                    topic,
                    quorum,
                    retention,
                } => {
                    let options = TopicOptions {
                        quorum: *quorum,
                        retention: retention.over(Retention::DEFAULT),
                    };
                    let made = admin.create_topic(topic, options).await;
                    let made = made.map_err(explain)?;
                    warn_of_lack(&admin, &made).await;
                    Ok(show(&made))
                }
                Command::Update { topic, retention } => {
                    let before = admin.get_topic(topic).await.map_err(explain)?;
                    let Some(retention) = retention.over(kept(&before)) else {
                        anyhow::bail!(
                            "nothing to change: name --retention, --retention-size, or both"
                        );
                    };
                    let changed = admin.set_retention(topic, retention).await;
                    changed.map(|topic| show(&topic))
                }
                Command::Delete { topic } => {
                    let deleted = admin.delete_topic(topic).await;
                    deleted.map(|()| json!({ "deleted": topic }))
                }
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

/// Says when the cluster's bookies are too few for a new topic. They may come later, so that is no error.
async fn warn_of_lack(admin: &Admin, topic: &api::Topic) {
    // Without an answer there is nothing to say: the topic was made.
    let Ok(status) = admin.cluster_status().await else {
        return;
    };
    if let Some(lack) = opening::lack(topic.quorum.unwrap_or_default(), &status) {
        terminal::say(format_args!("warning: {lack}"));
    }
}

/// A timestamp of the API as text.
pub(super) fn time(time: Option<WallTime>) -> Value {
    time.map_or(Value::Null, |time| json!(values::rfc3339(time)))
}

/// The retention that a topic has.
fn kept(topic: &api::Topic) -> Retention {
    let kept = topic.retention.unwrap_or_default();
    Retention {
        time: kept.time.and_then(|time| Duration::try_from(time).ok()),
        bytes: kept.bytes.map(ByteSize::new),
    }
}

fn show(topic: &api::Topic) -> Value {
    let kept = kept(topic);
    let quorum = topic
        .quorum
        .as_ref()
        .map(|quorum| format!("{}/{}", quorum.write, quorum.ack));
    json!({
        "name": topic.name,
        "quorum": quorum,
        "retention": kept.time.map_or("forever".to_owned(), values::time),
        "retention_size": kept.bytes.map_or("all".to_owned(), |bytes| bytes.to_string()),
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
