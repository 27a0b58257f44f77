//! `ledgerline bench …`: how fast, measured so that nothing is hidden, and whether what was read is what was published.
//!
//! - `flags`: what may be said. `report`: what is told at the end; `live`: on the way; `figures`: how.
//! - `tail`, `backlog` and `topics` are the scenarios: publishing with or without subscriptions at the end of the topic,
//!   reading what a topic holds, and making topics. `scene`: what they work with, and what they leave behind.
//! - `publish` and `unary` are the producers, `read` the consumers; each of their tasks counts into a `meter`.
//! - `stamp` makes messages that tell which they are, `verify` judges what came of them.
//! - `probe` asks the disk, `pace` says when a message is due or may be read, `outbox` hands receipts to who waits for
//!   them.

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
mod scene;
mod stamp;
mod tail;
mod topics;
mod unary;
mod verify;

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use host::Host;
use ledgerline_client::TopicOptions;
use serde_json::json;

use super::client::{Server, block_on};
use crate::terminal;
use backlog::Readers;
use figures::counted;
use flags::{Common, Scenario};
use live::Live;
use probe::Probe;
use publish::Load;
use report::Report;
use scene::{Names, Scene};
use topics::Making;

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

/// What a scenario does, its flags checked.
#[derive(Debug, Clone)]
enum Work {
    /// Publishes.
    Publish(Load),
    /// Publishes to so many subscriptions at the end of a topic.
    Deliver(Load, u32),
    /// Reads so many messages, or all there are; publishes them first if there are none.
    Read(Load, Option<u64>, Readers),
    /// Makes topics.
    Topics(Making),
}

impl Work {
    /// What is published, in topics that are made for that before; none where no message is.
    const fn load(&self) -> Option<&Load> {
        match self {
            Self::Publish(load) | Self::Deliver(load, _) | Self::Read(load, ..) => Some(load),
            Self::Topics(_) => None,
        }
    }

    /// The names of its topics.
    fn names(&self, base: String) -> Names {
        match self.load() {
            Some(Load { topics: 1, .. }) => Names::One(base),
            _ => Names::Numbered(base),
        }
    }
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        block_on(self.measure())
    }

    /// Measures, tells what was measured, and takes away what it made for that.
    async fn measure(self) -> anyhow::Result<()> {
        let work = self.scenario.work(self.common.timeout)?;
        let stop = terminal::stop_signal();
        let host = Host::real("bench");
        let client = self.server.connect().await?;
        // No message: nothing to compare with a write to the disk.
        let probe = match work.load() {
            Some(_) => self.probe(&host)?,
            None => None,
        };
        let run = u32::try_from(host.rng.below(1 << 32)).expect("it is below 2^32");
        let base = self.common.topic.clone();
        let base = base.unwrap_or_else(|| format!("bench-{run:08x}"));
        let scene = Scene {
            client,
            host,
            servers: self.server.servers.clone().into(),
            names: work.names(base),
            options: TopicOptions {
                quorum: self.common.quorum,
                retention: None,
            },
            made: Arc::default(),
            run,
            live: Arc::new(Live::new(self.common.progress)),
            stop,
        };
        let mut report = Report::new(self.scenario.name(), scene.names.base(), probe);
        let done = self.tell(&scene, &work, &mut report).await;
        // However it ended, and after its figures were told: a cluster that is gone does not answer.
        self.clean_up(&scene, &work, report.has_complaint()).await;
        done
    }

    fn probe(&self, host: &Host) -> anyhow::Result<Option<Probe>> {
        let default = std::env::temp_dir();
        match self.common.probe_dir.as_deref().unwrap_or(&default) {
            dir if dir == Path::new("none") => Ok(None),
            dir => probe::run(host, dir).map(Some),
        }
    }

    /// Measures, and tells what was measured.
    async fn tell(&self, scene: &Scene, work: &Work, report: &mut Report) -> anyhow::Result<()> {
        if self.common.topic.is_some() {
            report.keeps(&scene.topic(0));
        }
        let done = carry_out(scene, work, report).await;
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
    async fn clean_up(&self, scene: &Scene, work: &Work, has_complaint: bool) {
        let is_own = self.common.topic.is_none();
        if is_own && has_complaint {
            terminal::say("note: what was published stays, so that it can be looked at");
        }
        if is_own && !has_complaint {
            let at_once = match work {
                Work::Topics(making) => making.at_once,
                _ => 1,
            };
            scene.delete_topics(at_once).await;
        } else {
            scene.delete_subscriptions().await;
        }
    }
}

async fn carry_out(scene: &Scene, work: &Work, report: &mut Report) -> anyhow::Result<()> {
    if let Some(load) = work.load() {
        report.quorum(scene.find_or_make_topics(load.topics).await?);
    }
    match work {
        Work::Publish(load) => {
            report.describe(load, "");
            tail::publish(scene, load, report).await
        }
        Work::Deliver(load, subscriptions) => {
            let more = counted(*subscriptions, "subscription");
            report.describe(load, &format!(", {more}"));
            report.set("subscriptions", json!(subscriptions));
            tail::deliver(scene, load, *subscriptions, report).await
        }
        Work::Read(load, count, readers) => {
            backlog::read(scene, load, *count, *readers, report).await
        }
        Work::Topics(making) => topics::make(scene, *making, report).await,
    }
}
