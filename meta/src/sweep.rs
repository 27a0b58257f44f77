//! Sweeps away what deleted topics left behind: the records of their ledgers and shards.
//!
//! A deletion is one commit, however long the topic's chains are; the rest is done here, a part at a time. What a process
//! did not get to before it stopped, the next one finds when it starts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use catalog::{Key, KeyRange, Need, Record, encode_key};
use host::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::command::{Command, Reply};
use types::{Problem, ShardId};

use crate::execute::{Numbering, execute, problem};
use crate::store::Store;

/// Shards read at a time when a process starts.
const PAGE: usize = 1000;
/// Deletions that wait to be swept. What does not fit is found at the next start.
const WAITING: usize = 1024;
/// The wait between two parts: a sweep is nobody's hurry.
const PAUSE: Duration = Duration::from_millis(10);
/// How often deletions are looked for that nobody told: whose answer was lost, or that did not fit.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Where deletions are told to the sweep.
#[derive(Debug, Clone)]
pub(crate) struct Sweep(mpsc::Sender<ShardId>);

impl Sweep {
    /// A command was carried out: a deleted topic's shards are swept.
    pub(crate) fn done(&self, command: &Command, reply: &Reply) {
        if let (Command::DeleteTopic { .. }, Reply::Topic(topic)) = (command, reply) {
            for shard in &topic.shards {
                let _ = self.0.try_send(*shard); // Full: the next start finds it.
            }
        }
    }
}

/// The loop that sweeps.
pub(crate) struct SweepTask {
    store: Arc<dyn Store>,
    numbering: Arc<Numbering>,
    clock: Clock,
    deleted: mpsc::Receiver<ShardId>,
    stop: CancellationToken,
}

impl SweepTask {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        numbering: Arc<Numbering>,
        clock: Clock,
        stop: CancellationToken,
    ) -> (Sweep, Self) {
        let (sender, deleted) = mpsc::channel(WAITING);
        let task = Self {
            store,
            numbering,
            clock,
            deleted,
            stop,
        };
        (Sweep(sender), task)
    }

    /// Runs until the node stops.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.sweep_all() => {}
        }
    }

    async fn sweep_all(&mut self) {
        loop {
            match self.left_behind().await {
                Ok(shards) => {
                    for shard in shards {
                        self.sweep(shard).await;
                    }
                }
                Err(problem) => warn!(%problem, "deleted topics could not be looked for"),
            }
            let look_at = self.clock.now().after(LOOK_EVERY);
            loop {
                let left = look_at.since(self.clock.now());
                match self.clock.timeout(left, self.deleted.recv()).await {
                    Ok(Some(shard)) => self.sweep(shard).await,
                    Ok(None) => return, // The process stops.
                    Err(_) => break,
                }
            }
        }
    }

    /// The shards of deleted topics whose records are there.
    async fn left_behind(&self) -> Result<BTreeSet<ShardId>, Problem> {
        let mut found = BTreeSet::new();
        let mut range = KeyRange::shards(PAGE);
        loop {
            let mut need = Need::default();
            need.ranges.insert(range.clone());
            let read = self.store.read(need).await;
            let snapshot = read.map_err(|error| problem(&error))?;
            let Some(page) = snapshot.ranges.get(&range) else {
                return Ok(found);
            };
            for (key, versioned) in page {
                if let (Key::Shard(id), Record::Shard(shard)) = (key, &versioned.record)
                    && shard.is_deleted
                {
                    found.insert(*id);
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => range = range.after(&encode_key(last)),
                _ => return Ok(found),
            }
        }
    }

    async fn sweep(&self, shard: ShardId) {
        while self.is_there(shard).await {
            let command = Command::SweepShard { shard };
            match execute(self.store.as_ref(), &self.numbering, &command).await {
                Ok(_) => self.clock.sleep(PAUSE).await,
                Err(problem) => {
                    // The next look finds it again.
                    warn!(%shard, %problem, "a deleted topic's records could not be swept");
                    return;
                }
            }
        }
        info!(%shard, "deleted topic swept");
    }

    /// Whether a shard's record is there; so it is when it cannot be read.
    async fn is_there(&self, shard: ShardId) -> bool {
        let key = Key::Shard(shard);
        let mut need = Need::default();
        need.keys.insert(key.clone());
        match self.store.read(need).await {
            Ok(snapshot) => snapshot.records.get(&key).is_some_and(Option::is_some),
            Err(_) => true, // The command tells why not.
        }
    }
}
