//! What a bench works with: a cluster, and what the run made of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use host::{Elapsed, Host};
use ledgerline_client::{Client, Error, Reason, TopicOptions, api};
use tokio_util::sync::CancellationToken;

use super::live::Live;
use super::meter::{Counted, Meter};
use super::pace::End;
use crate::cli::client::explain;
use crate::cli::opening;
use crate::terminal::{self, Interrupted};

/// How many things that the run made are deleted at a time, at least.
const DELETED_AT_ONCE: usize = 64;
/// How long the servers may take to delete the next of them: a run made one topic or a million, and no time for all of
/// them is right for both.
const DELETED_WITHIN: Duration = Duration::from_secs(15);
/// How long what is being made is waited for when the user stops the run.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait before what was refused for a moment is asked for again.
pub(super) const AGAIN: Duration = Duration::from_millis(20);

/// What a bench works with.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) client: Client,
    pub(super) host: Host,
    pub(super) servers: Arc<[String]>,
    pub(super) names: Names,
    /// How topics are made.
    pub(super) options: TopicOptions,
    pub(super) made: Arc<Mutex<Made>>,
    /// What this run stamps its messages with.
    pub(super) run: u32,
    pub(super) live: Arc<Live>,
    pub(super) stop: CancellationToken,
}

/// The names of a run's topics.
#[derive(Debug, Clone)]
pub(super) enum Names {
    /// There is one.
    One(String),
    /// There are several, each with a number behind the name.
    Numbered(String),
}

impl Names {
    /// What all have in common.
    pub(super) fn base(&self) -> &str {
        match self {
            Self::One(base) | Self::Numbered(base) => base,
        }
    }
}

/// What a run made, or began to make: whoever is interrupted does not know whether it was.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// The first so many of its topics.
    topics: u32,
    subscriptions: Vec<String>,
}

impl Scene {
    /// The name of one of the topics.
    pub(super) fn topic(&self, index: u32) -> String {
        match &self.names {
            Names::One(name) => name.clone(),
            Names::Numbered(base) => format!("{base}-{index}"),
        }
    }

    /// Shows how it goes while the work is done.
    pub(super) async fn during<T>(
        &self,
        what: &str,
        shown: (&Meter, Option<End>),
        work: impl Future<Output = T>,
    ) -> T {
        self.live.during(&self.host.clock, what, shown, work).await
    }

    /// Opens something of a topic before anything is measured.
    pub(super) fn open<T>(
        &self,
        topic: &str,
        within: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> impl Future<Output = anyhow::Result<T>> {
        // Boxed: what calls the servers is large.
        self.unless_stopped(Box::pin(opening::open(&self.client, topic, within, work)))
    }

    /// Makes something in a topic before anything is measured.
    pub(super) fn make<T>(
        &self,
        topic: &str,
        within: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> impl Future<Output = anyhow::Result<T>> {
        self.unless_stopped_before(Box::pin(opening::open(&self.client, topic, within, work)))
    }

    /// Does something that comes before anything is measured.
    async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(nothing_measured()),
            done = work => done,
        }
    }

    /// Makes something before anything is measured. Once begun it is waited for, if not for long: what came after it was
    /// deleted would stay.
    async fn unless_stopped_before<T>(
        &self,
        mut work: impl Future<Output = anyhow::Result<T>> + Unpin,
    ) -> anyhow::Result<T> {
        self.check_stopped()?;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                // Whatever came of it, it is deleted.
                let _ = self.host.clock.timeout(SETTLED_WITHIN, work).await;
                Err(nothing_measured())
            }
            done = &mut work => done,
        }
    }

    pub(super) fn check_stopped(&self) -> anyhow::Result<()> {
        if self.stop.is_cancelled() {
            return Err(nothing_measured());
        }
        Ok(())
    }

    /// A topic that is about to be made, and those before it.
    pub(super) fn makes_topic(&self, index: u32) {
        let mut made = self.made();
        made.topics = made.topics.max(index + 1);
    }

    /// A subscription that is about to be made.
    pub(super) fn makes_subscription(&self, name: &str) {
        self.made().subscriptions.push(name.to_owned());
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        // It is whole after each statement.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes those of the first `count` topics that there are not; their quorum.
    pub(super) async fn find_or_make_topics(&self, count: u32) -> anyhow::Result<String> {
        let mut quorum = String::new();
        for index in 0..count {
            let topic = &self.topic(index);
            self.makes_topic(index);
            let making = Box::pin(self.find_or_make(topic));
            quorum = quorum_of(&self.unless_stopped_before(making).await?);
        }
        Ok(quorum)
    }

    async fn find_or_make(&self, topic: &str) -> anyhow::Result<api::Topic> {
        let admin = self.client.admin();
        let found = match admin.get_topic(topic).await {
            Err(error) if error.reason() == Reason::TopicNotFound => {
                admin.create_topic(topic, self.options).await
            }
            found => found,
        };
        found.map_err(explain)
    }

    /// Deletes the topics that the run made, so many at a time if that is more than usual. Says what stays.
    pub(super) async fn delete_topics(&self, at_once: u32) {
        let count = self.made().topics;
        let names = (0..count).map(|index| self.topic(index));
        let at_once = DELETED_AT_ONCE.max(at_once as usize);
        let admin = &self.client.admin();
        let delete = async |name: &str| admin.delete_topic(name).await;
        self.delete_all(Counted::Topics, names, at_once, delete)
            .await;
    }

    /// Deletes the subscriptions that the run made. Says what stays.
    pub(super) async fn delete_subscriptions(&self) {
        let names = std::mem::take(&mut self.made().subscriptions).into_iter();
        let at_once = DELETED_AT_ONCE;
        let admin = &self.client.admin();
        let delete = async |name: &str| admin.delete_subscription(name).await;
        self.delete_all(Counted::Subscriptions, names, at_once, delete)
            .await;
    }

    /// Deletes what has these names, until none goes any more for [`DELETED_WITHIN`].
    async fn delete_all(
        &self,
        counted: Counted,
        names: impl ExactSizeIterator<Item = String>,
        at_once: usize,
        delete: impl AsyncFn(&str) -> Result<(), Error>,
    ) {
        let clock = &self.host.clock;
        let meter = Meter::new(counted, clock.now(), Duration::ZERO);
        let all = names.len() as u64;
        let end = End {
            count: Some(all),
            duration: Duration::ZERO,
        };
        let delete = &delete;
        // Boxed: what calls the servers is large.
        let each = names.map(|name| Box::pin(self.delete(name, delete)));
        let mut deletions = stream::iter(each).buffer_unordered(at_once);
        let mut refused = None;
        let work = async {
            while let Some(deleted) = clock.timeout(DELETED_WITHIN, deletions.next()).await? {
                match deleted {
                    Ok(()) => meter.count(clock.now(), 1, 0, &[]),
                    Err(why) => _ = refused.get_or_insert(why),
                }
            }
            Ok::<(), Elapsed>(())
        };
        let what = format!("deleting {}", counted.name());
        let done = self.during(&what, (&meter, Some(end)), work).await;
        self.live.clear();
        let left = all - meter.measured().count;
        let (base, what) = (self.names.base(), counted.name());
        if done.is_err() {
            terminal::say(format_args!(
                "note: the servers take too long to delete what {base} left behind: {left} {what} of {all} may stay"
            ));
        } else if let Some(why) = refused {
            terminal::say(format_args!("note: {left} {what} of {all} stay: {why}"));
        }
    }

    /// Deletes one thing, and again while that is refused for a moment. That it is not there is fine.
    async fn delete(
        &self,
        name: String,
        delete: &impl AsyncFn(&str) -> Result<(), Error>,
    ) -> Result<(), String> {
        loop {
            let Err(error) = delete(&name).await else {
                return Ok(());
            };
            let reason = error.reason();
            if matches!(reason, Reason::TopicNotFound | Reason::SubscriptionNotFound) {
                return Ok(());
            }
            if !error.is_retryable() && !error.is_outcome_unknown() {
                return Err(format!("{name}: {error}"));
            }
            self.host.clock.sleep(AGAIN).await;
        }
    }
}

/// The quorum of a topic, in words.
pub(super) fn quorum_of(topic: &api::Topic) -> String {
    let quorum = topic.quorum.unwrap_or_default();
    format!("{}/{}", quorum.write, quorum.ack)
}

fn nothing_measured() -> anyhow::Error {
    Interrupted("nothing was measured yet".to_owned()).into()
}
