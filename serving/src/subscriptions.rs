//! Subscriptions of the shards that a node serves: made and taken away.

use std::time::Duration;

use types::command::{Answer, Command, Query, Reply};
use types::topic::{StartPosition, SubscriptionMode, SubscriptionRecord, SubscriptionState};
use types::{ErrorKind, Problem, Reason, SubscriptionName};

use crate::convert;
use crate::node::{Local, Node, odd_answer};

/// The ack deadline of subscriptions that do not name one.
const ACK_DEADLINE: Duration = Duration::from_secs(30);

/// How long a new subscription may wait for its first position to be on disk.
const CURSOR_WITHIN: Duration = Duration::from_secs(10);

/// A subscription to be made.
pub(crate) struct NewSubscription {
    pub(crate) mode: SubscriptionMode,
    pub(crate) ack_deadline: Option<Duration>,
    pub(crate) start: StartPosition,
}

impl Node {
    /// A subscription that must exist.
    pub(crate) async fn subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<SubscriptionRecord, Problem> {
        self.found_subscription(name)
            .await?
            .filter(|record| record.state != SubscriptionState::Deleted)
            .ok_or_else(|| no_subscription(name))
    }

    /// A subscription's record, also when it was deleted.
    async fn found_subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionRecord>, Problem> {
        match self.query(Query::Subscription(name.clone())).await? {
            Answer::Subscription(record) => Ok(record),
            _ => Err(odd_answer()),
        }
    }

    /// Makes a subscription of a shard that is served here: numbered by meta, its cursor durable, then usable.
    pub(crate) async fn create_subscription(
        &self,
        shard: &Local,
        name: SubscriptionName,
        new: NewSubscription,
    ) -> Result<SubscriptionRecord, Problem> {
        let create = Command::CreateSubscription {
            name: name.clone(),
            mode: new.mode,
            ack_deadline: new.ack_deadline.unwrap_or(ACK_DEADLINE),
            start: new.start,
            at: self.host.clock.wall(),
        };
        match self.execute(create).await {
            Ok(Reply::Subscription(record)) => self.activate(shard, record).await,
            Ok(_) => Err(odd_answer()),
            Err(problem) if problem.reason == Reason::AlreadyExists => {
                let record = self.subscription(&name).await?;
                if record.state == SubscriptionState::Creating {
                    // Somebody began and may have died: finishing it is the same for everybody.
                    return self.activate(shard, record).await;
                }
                Err(problem)
            }
            Err(problem) => Err(problem),
        }
    }

    /// Takes a subscription of a shard that is served here away. When it returns its consumers have ended or are about to,
    /// and its name may be used again. Where `uid` is not empty, only the one of that number: the call may have waited until
    /// another one has the name.
    pub(crate) async fn delete_subscription(
        &self,
        shard: &Local,
        name: SubscriptionName,
        uid: &str,
    ) -> Result<(), Problem> {
        let found = self.found_subscription(&name).await?;
        let found = found.filter(|record| convert::is_meant(uid, record.id));
        let record = found.ok_or_else(|| no_subscription(&name))?;
        let was_there = record.state != SubscriptionState::Deleted;
        if was_there {
            let delete = Command::DeleteSubscription {
                name: name.clone(),
                id: record.id,
                session: self.session,
            };
            match self.execute(delete).await {
                Ok(_) => tracing::info!(subscription = %name, "subscription deleted"),
                // Deleted by an earlier try, and another one has its name already.
                Err(problem) if problem.reason == Reason::VersionMismatch => {}
                Err(problem) if problem.kind() == ErrorKind::Unknown => {
                    let found = self.found_subscription(&name).await?;
                    let is_there = |it: &SubscriptionRecord| {
                        it.id == record.id && it.state != SubscriptionState::Deleted
                    };
                    if found.as_ref().is_some_and(is_there) {
                        return Err(problem);
                    }
                }
                Err(problem) => return Err(problem),
            }
        }
        // Also when an earlier call deleted it and its answer was lost: the shard may still have it. The one that is open now: it may have
        // been opened since, with a list from before. One that is over need not hear of it, its next owner reads a list without it.
        if let Some(open) = self.local(shard.id) {
            let _ = open.drop_subscription(record.id).await;
        }
        was_there
            .then_some(())
            .ok_or_else(|| no_subscription(&name))
    }

    /// Finishes a subscription that somebody began to make.
    pub(crate) async fn resume_subscription(
        &self,
        shard: &Local,
        name: &SubscriptionName,
    ) -> Result<SubscriptionRecord, Problem> {
        let record = self.subscription(name).await?;
        match record.state {
            SubscriptionState::Active => Ok(record),
            // Meta refuses one that was deleted.
            SubscriptionState::Creating | SubscriptionState::Deleted => {
                self.activate(shard, record).await
            }
        }
    }

    async fn activate(
        &self,
        shard: &Local,
        record: SubscriptionRecord,
    ) -> Result<SubscriptionRecord, Problem> {
        let (name, id) = (record.name.clone(), record.id);
        let made = shard.handle.create_cursor(record);
        let made = self.host.clock.timeout(CURSOR_WITHIN, made).await;
        made.map_err(|_| cursor_late(&name))??;
        match self
            .execute(Command::ActivateSubscription { name, id })
            .await?
        {
            Reply::Subscription(record) => {
                tracing::info!(subscription = %record.name, "subscription created");
                Ok(record)
            }
            _ => Err(odd_answer()),
        }
    }
}

fn no_subscription(name: &SubscriptionName) -> Problem {
    Problem::new(
        Reason::SubscriptionNotFound,
        format!("there is no subscription {name}; create it first, or open the consumer with `create_if_missing`"),
    )
    .with_resource(name)
}

/// A new subscription is not on disk in time.
fn cursor_late(name: &SubscriptionName) -> Problem {
    let text = format!(
        "the first position of the subscription is not on disk after {CURSOR_WITHIN:?}; `ledgerline cluster status` says \
         whether too few bookies take writes; then repeat the call, which goes on with it"
    );
    Problem::new(Reason::OutcomeUnknown, text).with_resource(name)
}
