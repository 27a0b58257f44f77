//! `ledgerline subscription …`.

use std::time::Duration;

use clap::{Args, Subcommand};
use ledgerline_client::{StartPosition, SubscriptionMode, SubscriptionOptions, api, wall_time};
use serde_json::{Value, json};

use super::client::{Output, Server, block_on, explain};
use super::topic::time;
use super::values;

/// Make, look at and delete subscriptions: groups of consumers that share a place in a topic.
#[derive(Debug, Args)]
pub(crate) struct Subscription {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    server: Server,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a subscription. No message published after that passes it by.
    Create {
        #[command(flatten)]
        which: Which,

        /// One consumer in order (exclusive), or many that share the messages (shared).
        #[arg(long, env = "LEDGERLINE_MODE", value_parser = values::mode, default_value = "exclusive")]
        mode: SubscriptionMode,

        /// How long a delivered message may stay unacked before it is delivered again [default: the server's].
        #[arg(long, env = "LEDGERLINE_ACK_DEADLINE", value_parser = values::duration, value_name = "TIME")]
        ack_deadline: Option<Duration>,

        /// Where it starts: earliest, latest, or an offset.
        #[arg(long, env = "LEDGERLINE_FROM", value_parser = values::start, default_value = "earliest", value_name = "POSITION")]
        from: StartPosition,
    },
    /// Show a subscription.
    Get {
        #[command(flatten)]
        which: Which,
    },
    /// Take a subscription away, with its place in the topic. Its consumers end; other subscriptions lose nothing.
    Delete {
        #[command(flatten)]
        which: Which,
    },
    /// List the subscriptions of a topic.
    List {
        /// The topic.
        topic: String,
    },
    /// Show how a subscription stands: its backlog, what consumers hold, its place.
    Stats {
        #[command(flatten)]
        which: Which,
    },
}

/// Which subscription.
#[derive(Debug, Args)]
struct Which {
    /// The topic: a single name, or `tenants/…/namespaces/…/topics/…`.
    topic: String,

    /// The subscription's name.
    subscription: String,
}

impl Which {
    fn name(&self) -> String {
        format!("{}/subscriptions/{}", self.topic, self.subscription)
    }
}

impl Subscription {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let value = block_on(async {
            let admin = self.server.connect().await?.admin();
            match &self.command {
                Command::Create {
                    which,
                    mode,
                    ack_deadline,
                    from,
                } => {
                    let options = SubscriptionOptions {
                        mode: Some(*mode),
                        ack_deadline: *ack_deadline,
                        start: Some(*from),
                    };
                    let made = admin.create_subscription(&which.name(), options).await;
                    made.map(|subscription| show(&subscription))
                }
                Command::Get { which } => admin
                    .get_subscription(&which.name())
                    .await
                    .map(|it| show(&it)),
                Command::Delete { which } => admin
                    .delete_subscription(&which.name())
                    .await
                    .map(|()| json!({ "deleted": which.name() })),
                Command::List { topic } => {
                    let all = admin.list_subscriptions(topic).await;
                    all.map(|all| all.iter().map(show).collect())
                }
                Command::Stats { which } => admin
                    .subscription_stats(&which.name())
                    .await
                    .map(|it| stats(&it)),
            }
            .map_err(explain)
        })?;
        self.output.print(&value);
        Ok(())
    }
}

fn show(subscription: &api::Subscription) -> Value {
    let mode = match subscription.mode() {
        api::SubscriptionMode::Unspecified => Value::Null,
        api::SubscriptionMode::Exclusive => json!("exclusive"),
        api::SubscriptionMode::Shared => json!("shared"),
    };
    let state = match subscription.state() {
        api::SubscriptionState::Unspecified => Value::Null,
        api::SubscriptionState::Creating => json!("creating"),
        api::SubscriptionState::Active => json!("active"),
    };
    let deadline = subscription
        .ack_deadline
        .and_then(|it| Duration::try_from(it).ok());
    json!({
        "name": subscription.name,
        "mode": mode,
        "state": state,
        "ack_deadline": deadline.map(|deadline| format!("{deadline:?}")),
        "created": time(subscription.create_time.as_ref().and_then(wall_time)),
        "uid": subscription.uid,
    })
}

fn stats(stats: &api::SubscriptionStats) -> Value {
    json!({
        "name": stats.name,
        "backlog_messages": stats.backlog_messages,
        "unacked_messages": stats.unacked_messages,
        "waiting_messages": stats.waiting_messages,
        "cursor": stats.cursor,
        "next_offset": stats.next_offset,
        "consumers": stats.consumers,
    })
}
