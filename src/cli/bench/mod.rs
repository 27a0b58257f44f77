//! `ledgerline bench …`: how fast, measured so that nothing is hidden, and whether what was read is what was published.
//!
//! - `flags`: what may be said. `report`: what is told at the end; `live`: on the way; `figures`: how.
//! - `tail` and `backlog` are the scenarios: publishing with or without subscriptions at the end of the topic, and
//!   reading what a topic holds.
//! - `publish` and `unary` are the producers, `read` the consumers; each of their tasks counts into a `meter`.
//! - `stamp` makes messages that tell which they are, `verify` judges what came of them.
//! - `probe` asks the disk, `pace` says when a message is due, `outbox` hands receipts to who waits for them.

mod backlog;
mod figures;
mod flags;
mod live;
mod meter;
mod outbox;
mod pace;
mod probe;
mod publish;
mod read;
mod report;
mod stamp;
mod tail;
mod unary;
mod verify;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use host::Host;
use ledgerline_client::{Client, Error, Reason, TopicOptions};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::client::{Server, block_on, explain};
use super::opening;
use crate::terminal::{self, Interrupted};
use backlog::Readers;
use flags::{Catchup, Common, Fanout, Scenario, Shared};
use live::Live;
use meter::Meter;
use pace::End;
use publish::Load;
use report::Report;

/// Measure a cluster, and check that it keeps what it promises.
///
/// Each message carries its number and a checksum. What is read is checked: a message that is lost,
/// stored twice, out of order or corrupted makes the exit code 1. This machine's disk is probed
/// first: no ack can be faster than a write and sync of the disk. Ctrl-C ends a bench with what was
/// measured so far, and exit code 130.
///
/// Examples:
///   ledgerline bench publish
///   ledgerline bench latency --size 100B
///   ledgerline bench e2e --rate 20000 --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Bench {
    #[command(subcommand)]
    scenario: Scenario,

    #[command(flatten)]
    server: Server,

    #[command(flatten)]
    common: Common,
}

/// How long taking away what a run made may take.
const CLEAN_UP_WITHIN: Duration = Duration::from_secs(15);

/// What a bench works with.
#[derive(Debug, Clone)]
struct Scene {
    client: Client,
    host: Host,
    servers: Arc<[String]>,
    topics: Arc<[String]>,
    /// Subscriptions that the run made, or began to make.
    subscriptions: Arc<Mutex<Vec<String>>>,
    /// What this run stamps its messages with.
    run: u32,
    live: Arc<Live>,
    stop: CancellationToken,
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        block_on(self.measure())
    }

    /// Measures, tells what was measured, and takes away what it made for that.
    async fn measure(self) -> anyhow::Result<()> {
        let load = self.scenario.load(self.common.timeout)?;
        let stop = terminal::stop_signal();
        let host = Host::real("bench");
        let client = self.server.connect().await?;
        let default = std::env::temp_dir();
        let probe = match self.common.probe_dir.as_deref().unwrap_or(&default) {
            dir if dir == Path::new("none") => None,
            dir => Some(probe::run(&host, dir)?),
        };
        let run = u32::try_from(host.rng.below(1 << 32)).expect("it is below 2^32");
        let base = self.common.topic.clone();
        let base = base.unwrap_or_else(|| format!("bench-{run:08x}"));
        let topics = match self.scenario.topics() {
            1 => vec![base.clone()],
            count => (0..count).map(|it| format!("{base}-{it}")).collect(),
        };
        let scene = Scene {
            client,
            host,
            servers: self.server.servers.clone().into(),
            topics: topics.into(),
            subscriptions: Arc::default(),
            run,
            live: Arc::new(Live::new(self.common.progress)),
            stop,
        };
        let mut report = Report::new(self.scenario.name(), &base, probe);
        let done = self.tell(&scene, &load, &mut report).await;
        // However it ended, and after its figures were told: a cluster that is gone does not answer.
        self.clean_up(&scene, report.has_complaint()).await;
        done
    }

    /// Measures, and tells what was measured.
    async fn tell(&self, scene: &Scene, load: &Load, report: &mut Report) -> anyhow::Result<()> {
        report.quorum(scene.unless_stopped(self.find_or_make_all(scene)).await?);
        if self.common.topic.is_some() {
            report.keeps(scene.topic(0));
        }
        let done = self.carry_out(scene, load, report).await;
        scene.live.clear();
        if let Err(error) = &done {
            report.failed(error);
        }
        if scene.stop.is_cancelled() {
            report.interrupted();
        }
        if report.has_figure() {
            report.print(self.common.json);
        }
        done?;
        report.outcome()
    }

    /// Takes away what the run made for itself: its topics, unless somebody will want to look at what is in them, and of a
    /// topic that stays its subscriptions, since what they hold back would stay for ever.
    async fn clean_up(&self, scene: &Scene, has_complaint: bool) {
        let is_own = self.common.topic.is_none();
        if is_own && has_complaint {
            terminal::say("note: what was published stays, so that it can be looked at");
        }
        let deleting = Box::pin(async {
            if is_own && !has_complaint {
                scene.delete_topics().await;
            } else {
                scene.delete_subscriptions().await;
            }
        });
        let done = scene.host.clock.timeout(CLEAN_UP_WITHIN, deleting).await;
        if done.is_err() {
            terminal::say(format_args!(
                "note: the servers take too long to delete what {} left behind",
                scene.topic(0)
            ));
        }
    }

    async fn carry_out(
        &self,
        scene: &Scene,
        load: &Load,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        match &self.scenario {
            Scenario::Publish(_) | Scenario::Latency(_) => {
                report.describe(load, "");
                tail::publish(scene, load, report).await
            }
            Scenario::E2e(_) => {
                report.describe(load, "");
                report.set("subscriptions", json!(1));
                tail::deliver(scene, load, 1, report).await
            }
            Scenario::Fanout(Fanout { subscriptions, .. }) => {
                report.describe(load, &format!(", {subscriptions} subscriptions"));
                report.set("subscriptions", json!(subscriptions));
                tail::deliver(scene, load, *subscriptions, report).await
            }
            Scenario::Catchup(Catchup { backlog }) => {
                backlog::read(scene, load, backlog.count, Readers::One, report).await
            }
            Scenario::Shared(Shared { consumers, backlog }) => {
                let readers = Readers::Sharing(*consumers);
                backlog::read(scene, load, backlog.count, readers, report).await
            }
        }
    }

    /// Makes the topics that there are not; their quorum.
    async fn find_or_make_all(&self, scene: &Scene) -> anyhow::Result<String> {
        let mut quorum = String::new();
        for topic in &*scene.topics {
            quorum = self.find_or_make(&scene.client, topic).await?;
        }
        Ok(quorum)
    }

    async fn find_or_make(&self, client: &Client, topic: &str) -> anyhow::Result<String> {
        let admin = client.admin();
        let found = match admin.get_topic(topic).await {
            Err(error) if error.reason() == Reason::TopicNotFound => {
                let options = TopicOptions {
                    quorum: self.common.quorum,
                    retention: None,
                };
                admin.create_topic(topic, options).await
            }
            found => found,
        };
        let quorum = found.map_err(explain)?.quorum.unwrap_or_default();
        Ok(format!("{}/{}", quorum.write, quorum.ack))
    }
}

impl Scene {
    fn topic(&self, index: u32) -> &str {
        &self.topics[index as usize]
    }

    /// Shows how it goes while the work is done.
    async fn during<T>(
        &self,
        what: &str,
        shown: (&Meter, Option<End>),
        work: impl Future<Output = T>,
    ) -> T {
        self.live.during(&self.host.clock, what, shown, work).await
    }

    /// Opens something of a topic before anything is measured.
    fn open<T>(
        &self,
        topic: &str,
        within: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> impl Future<Output = anyhow::Result<T>> {
        // Boxed: what calls the servers is large.
        self.unless_stopped(Box::pin(opening::open(&self.client, topic, within, work)))
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

    fn check_stopped(&self) -> anyhow::Result<()> {
        if self.stop.is_cancelled() {
            return Err(nothing_measured());
        }
        Ok(())
    }

    /// A subscription that is about to be made. Whoever is interrupted does not know whether it was.
    fn makes(&self, subscription: &str) {
        self.lock().push(subscription.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        // The list is whole after each statement.
        self.subscriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn delete_subscriptions(&self) {
        let names = std::mem::take(&mut *self.lock());
        for name in names {
            match self.client.admin().delete_subscription(&name).await {
                Err(error) if error.reason() == Reason::SubscriptionNotFound => {}
                Err(error) => {
                    terminal::say(format_args!("note: subscription {name} stays: {error}"));
                }
                Ok(()) => {}
            }
        }
    }

    async fn delete_topics(&self) {
        for topic in &*self.topics {
            match self.client.admin().delete_topic(topic).await {
                Err(error) if error.reason() == Reason::TopicNotFound => {}
                Err(error) => terminal::say(format_args!("note: topic {topic} stays: {error}")),
                Ok(()) => {}
            }
        }
    }
}

fn nothing_measured() -> anyhow::Error {
    Interrupted("nothing was measured yet".to_owned()).into()
}
