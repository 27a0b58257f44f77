//! The loop that repairs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bookie_client::RunReader;
use host::Host;
use meta_client::{MetaClient, MetaError, Session};
use proto::meta::DueAsk;
use tokio_util::sync::CancellationToken;
use types::chain::{LedgerRecord, LedgerState, WholeCopy};
use types::cluster::BookieRecord;
use types::command::{Answer, COPIES_MAX, Command, Query};
use types::storage::{Add, AddKind, AddResult, Entry};
use types::{EntryId, Epoch, LedgerId};

use super::core::{Fetch, Next, Pace, Setbacks};
use super::{Damage, RepairConfig, RepairMetrics};
use crate::codec::wide;
use crate::node::handle::{EngineGone, EngineHandle};
use crate::node::streams::Outbox;
use crate::{Ask, Holdings, HoldingsResult};

/// How long a bookie may take to give a run.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait when this bookie's own engine is busy.
const BUSY: Duration = Duration::from_millis(50);
/// How often a busy engine is asked before the ledger is left for later.
const BUSY_MAX: usize = 200;

/// Repairs until the bookie stops.
pub(in crate::node) struct RepairTask {
    pub(in crate::node) host: Host,
    pub(in crate::node) config: RepairConfig,
    pub(in crate::node) meta: MetaClient,
    pub(in crate::node) session: Session,
    pub(in crate::node) own: BookieRecord,
    pub(in crate::node) engine: EngineHandle,
    pub(in crate::node) damage: Damage,
    pub(in crate::node) metrics: Arc<RepairMetrics>,
    pub(in crate::node) closing: CancellationToken,
}

/// What moves on from ledger to ledger.
struct Work {
    reader: RunReader,
    pace: Pace,
    setbacks: Setbacks,
    /// Ledgers with a damaged copy here that was not made good yet.
    damaged: BTreeSet<LedgerId>,
}

/// Why a copy is not whole.
enum Short {
    /// It could not be completed; `is_nowhere` when an entry is nowhere to be had.
    Failed { entry: EntryId, is_nowhere: bool },
    /// This bookie has no room or no time for it now.
    Later,
    /// The bookie stops.
    Stopping,
}

impl From<EngineGone> for Short {
    fn from(_: EngineGone) -> Self {
        Self::Stopping
    }
}

/// Copies that were found whole.
#[derive(Debug, Default)]
struct Whole {
    /// Not told yet.
    found: Vec<WholeCopy>,
    /// How many meta was told of.
    told: usize,
}

impl RepairTask {
    /// Runs until the node stops.
    pub(in crate::node) async fn run(self) {
        let mut work = Work {
            reader: RunReader::new(&self.host, self.meta.cluster(), READ_TIMEOUT),
            pace: Pace::new(self.config.rate),
            setbacks: Setbacks::default(),
            damaged: BTreeSet::new(),
        };
        let stop = self.host.tasks.token();
        let mut wait = self.config.interval;
        loop {
            let round = async {
                self.host.clock.sleep(wait).await;
                self.mend(&mut work).await?;
                self.round(&mut work).await
            };
            let done = tokio::select! {
                biased; // Stop first.
                () = stop.cancelled() => return,
                () = self.closing.cancelled() => return,
                done = round => done,
            };
            wait = match done {
                // Where there was work there may be more.
                Ok(done) if done > 0 => Duration::ZERO,
                Ok(_) => self.config.interval,
                Err(error) => {
                    tracing::debug!(%error, "meta has no work for the repair");
                    self.config.interval
                }
            };
        }
    }

    /// Asks for work and does it; how many copies were found whole.
    async fn round(&self, work: &mut Work) -> Result<usize, MetaError> {
        let now = self.host.clock.now();
        let stuck = work.setbacks.stuck(now);
        let due = DueAsk {
            bookie: self.own.id,
            limit: work.setbacks.limit(now, COPIES_MAX, &stuck),
            stuck,
        };
        let mut ledgers = self.meta.due_copies(&due).await?;
        ledgers.retain(|record| !work.setbacks.is_waiting(now, record.id));
        ledgers.truncate(COPIES_MAX);
        if ledgers.is_empty() {
            return Ok(0);
        }
        let bookies = self.bookies().await?;
        let mut whole = Whole::default();
        for record in &ledgers {
            match self.complete(work, &bookies, record, &mut whole).await {
                Ok(_) => {
                    work.setbacks.over(record.id);
                    whole.found.push(record.whole_copy(self.own.id));
                }
                Err(Short::Stopping) => return Ok(whole.told),
                Err(short) => self.set_back(work, record.id, &short),
            }
        }
        self.tell(&mut whole).await?;
        Ok(whole.told)
    }

    /// Makes copies good in which damage was found. Of a ledger that is still written, or held elsewhere by now, nothing
    /// is done: the one is looked at when it is closed, the other is nobody's affair here.
    async fn mend(&self, work: &mut Work) -> Result<(), MetaError> {
        work.damaged.append(&mut self.damage.take());
        let now = self.host.clock.now();
        let due = work.damaged.iter().copied();
        let due = due.filter(|id| !work.setbacks.is_waiting(now, *id));
        let due: Vec<LedgerId> = due.take(COPIES_MAX).collect();
        if due.is_empty() {
            return Ok(());
        }
        let records = match self.meta.query(Query::Ledgers(due.clone())).await? {
            Answer::Ledgers(records) => records,
            _ => return Err(MetaError::odd_answer()),
        };
        let bookies = self.bookies().await?;
        for id in due {
            let record = records.iter().find(|record| record.id == id);
            let is_ours = |record: &&LedgerRecord| {
                let is_closed = matches!(record.state, LedgerState::Closed { .. });
                is_closed && record.ensemble.contains(&self.own.id)
            };
            let Some(record) = record.filter(is_ours) else {
                work.damaged.remove(&id);
                continue;
            };
            match self
                .complete(work, &bookies, record, &mut Whole::default())
                .await
            {
                Ok(copied) => {
                    work.setbacks.over(id);
                    work.damaged.remove(&id);
                    // A damaged block that was made good before is found again until its file is reclaimed.
                    if copied {
                        self.metrics.mended.inc();
                        tracing::info!(ledger = %id, "damaged copy made good");
                    }
                }
                Err(Short::Stopping) => return Ok(()),
                Err(short) => self.set_back(work, id, &short),
            }
        }
        Ok(())
    }

    async fn bookies(&self) -> Result<Vec<BookieRecord>, MetaError> {
        match self.meta.query(Query::Bookies).await? {
            Answer::Bookies(bookies) => Ok(bookies),
            _ => Err(MetaError::odd_answer()),
        }
    }

    /// Tells meta which copies are whole.
    async fn tell(&self, whole: &mut Whole) -> Result<(), MetaError> {
        if whole.found.is_empty() {
            return Ok(());
        }
        let copies = std::mem::take(&mut whole.found);
        let count = copies.len();
        let word = Command::CopiesWhole {
            bookie: self.own.id,
            session: self.session.id(),
            born: self.own.born,
            copies,
        };
        self.meta.execute(word).await?;
        self.metrics.whole.add(wide(count));
        whole.told += count;
        Ok(())
    }

    fn set_back(&self, work: &mut Work, ledger: LedgerId, short: &Short) {
        self.metrics.failed.inc();
        let now = self.host.clock.now();
        match short {
            Short::Failed { entry, is_nowhere } => {
                if work.setbacks.failed(now, ledger, *is_nowhere) {
                    tracing::warn!(%ledger, %entry, "no bookie that is there has the entry; start one that had a copy");
                }
            }
            Short::Later | Short::Stopping => {
                work.setbacks.failed(now, ledger, false);
            }
        }
    }

    /// Makes this bookie's copy of a ledger whole: whether there was anything to copy.
    async fn complete(
        &self,
        work: &mut Work,
        bookies: &[BookieRecord],
        record: &LedgerRecord,
        whole: &mut Whole,
    ) -> Result<bool, Short> {
        let LedgerState::Closed {
            last: Some(last), ..
        } = record.state
        else {
            return Ok(false); // Of an empty ledger there is nothing to hold.
        };
        let mut before = Vec::new();
        loop {
            let missing = self.missing(record.id, last).await?;
            if missing.is_empty() {
                return Ok(!before.is_empty());
            }
            if missing == before {
                return Err(Short::Later); // Stored, and not to be seen: not to be had by trying at once.
            }
            before.clone_from(&missing);
            if !self.engine.is_writable() {
                return Err(Short::Later); // The reserve is for those who cannot wait.
            }
            // Copying takes its time: what was found whole before is told first, so that no word is old when it comes (I26).
            if self.tell(whole).await.is_err() {
                return Err(Short::Later);
            }
            let fetch = Fetch::new(record, self.own.id, bookies, missing);
            self.fetch(work, bookies, record, fetch).await?;
        }
    }

    /// What this bookie lacks of a ledger.
    async fn missing(
        &self,
        ledger: LedgerId,
        last: EntryId,
    ) -> Result<Vec<(EntryId, EntryId)>, Short> {
        for _ in 0..BUSY_MAX {
            match self.engine.holdings(Holdings { ledger, last }).await? {
                HoldingsResult::Missing(missing) => return Ok(missing),
                HoldingsResult::Busy => self.host.clock.sleep(BUSY).await,
            }
        }
        Err(Short::Later)
    }

    /// Fetches what is missing, and stores it.
    async fn fetch(
        &self,
        work: &mut Work,
        bookies: &[BookieRecord],
        record: &LedgerRecord,
        mut fetch: Fetch,
    ) -> Result<(), Short> {
        loop {
            let (from, run) = match fetch.next() {
                Next::Done => return Ok(()),
                Next::Failed { entry, is_nowhere } => {
                    return Err(Short::Failed { entry, is_nowhere });
                }
                Next::Read { from, run } => (from, run),
            };
            let items = match bookies.iter().find(|bookie| bookie.id == from) {
                None => None,
                Some(bookie) => match work.reader.read(bookie, &run).await {
                    Ok(items) => Some(items),
                    Err(error) => {
                        tracing::debug!(bookie = %from, ledger = %record.id, %error, "no copy from there");
                        None
                    }
                },
            };
            let entries = fetch.came(from, items);
            let bytes = entries.iter().map(|entry| wide(entry.payload.len())).sum();
            let count = wide(entries.len());
            self.store(record, entries).await?;
            self.metrics.copied_bytes.add(bytes);
            self.metrics.copied_entries.add(count);
            let wait = work.pace.passed(self.host.clock.now(), bytes);
            if !wait.is_zero() {
                self.host.clock.sleep(wait).await;
            }
        }
    }

    /// Stores entries, durably. What finds no room waits: writers go first.
    async fn store(&self, record: &LedgerRecord, entries: Vec<Entry>) -> Result<(), Short> {
        let outbox = Arc::new(Outbox::default());
        let mut waiting = entries;
        for _ in 0..BUSY_MAX {
            if waiting.is_empty() {
                return Ok(());
            }
            let adds = waiting.iter().map(|entry| {
                let add = Add {
                    ledger: record.id,
                    created: record.created,
                    epoch: Epoch::new(0), // Not looked at in a repair.
                    lac: None,
                    kind: AddKind::Repair,
                    entry: entry.clone(),
                };
                (entry.id.get(), Ask::Add(add))
            });
            self.engine.add(&outbox, adds.collect()).await?;
            let mut busy = Vec::new();
            let mut answered = 0;
            while answered < waiting.len() {
                let answers = tokio::select! {
                    biased; // An engine that is gone answers nothing any more.
                    () = self.engine.stopped() => return Err(Short::Stopping),
                    answers = outbox.take() => answers,
                };
                answered += answers.len();
                for (id, result) in answers {
                    match result {
                        AddResult::Stored => {}
                        AddResult::Busy => busy.push(id),
                        // It was trimmed, or another payload is there, which the engine told aloud.
                        AddResult::Sealed(_)
                        | AddResult::Mismatch
                        | AddResult::ReadOnly
                        | AddResult::Fenced { .. } => return Err(Short::Later),
                    }
                }
            }
            waiting.retain(|entry| busy.contains(&entry.id.get()));
            if !waiting.is_empty() {
                self.host.clock.sleep(BUSY).await;
            }
        }
        Err(Short::Later)
    }
}
