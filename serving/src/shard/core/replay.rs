//! From two closed logs to a topic that can be served.
//!
//! The state log is read from the newest ledger with a complete snapshot on: the newest ledger first, then one further back
//! each time none was found. Then the headers of the message log are read from what the snapshot covers to the end.
//! Meta's list of subscriptions is read meanwhile. Nothing is skipped: an entry that cannot be read now is tried again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use topic::state::SnapshotFinder;
use topic::{Opened, Opening, OpeningError, OpeningNotes, Position, Topic};
use types::chain::{LogKind, ShardView};
use types::command::{Page, Query};
use types::storage::RunItem;
use types::topic::{SubscriptionRecord, SubscriptionState};
use types::{EntryId, LedgerId, MonoTime, Offset, Payload, Problem, Reason, TopicName};

use super::chain::MessageChain;
use super::config::ShardConfig;
use super::runs::{RunId, RunOutput};
use super::sources::{Purpose, Sources, Span, Step};

/// Subscriptions that are asked for at once.
const PAGE: usize = 500;

/// Bytes of state entries that are read in one run.
const STATE_RUN_BYTES: u64 = 4 << 20;

/// Entries whose headers are read in one run.
const HEADERS_RUN: u64 = 4_096;

/// Between two places of the message log that are kept while its headers are read.
const POINT_EVERY: u64 = 64;

/// The replay of one shard.
#[derive(Debug, Clone)]
pub(super) struct Replay {
    topic: TopicName,
    view: ShardView,
    subscriptions: Vec<SubscriptionRecord>,
    has_subscriptions: bool,
    stage: Stage,
    opening: Opening,
    run: Option<RunId>,
    retry_at: Option<MonoTime>,
    waits_for: Option<String>,
    give_up_wait: Duration,
}

#[derive(Debug, Clone)]
enum Stage {
    State(StateScan),
    Headers(VecDeque<Left>),
    Done,
}

/// The search for the newest snapshot.
#[derive(Debug, Clone)]
struct StateScan {
    /// Ledgers not read yet, the next one last.
    older: Vec<Left>,
    /// The ledger being read.
    now: Option<Left>,
    /// Its entries so far.
    read: Vec<(Position, Payload)>,
    /// The entries of the ledgers read before, which come after it.
    newer: Vec<(Position, Payload)>,
}

/// What is left to read of a ledger.
#[derive(Debug, Clone, Copy)]
struct Left {
    ledger: LedgerId,
    next: EntryId,
    last: EntryId,
}

/// What a shard needs to replay.
#[derive(Debug)]
pub(super) struct Shelf<'a> {
    pub(super) config: &'a ShardConfig,
    pub(super) chain: &'a mut MessageChain,
    pub(super) sources: &'a mut Sources,
}

impl Replay {
    /// Begins: both logs are recovered and closed.
    pub(super) fn start(
        step: &mut Step<'_>,
        shelf: &mut Shelf<'_>,
        topic: TopicName,
        view: ShardView,
    ) -> Self {
        let state = &view.record.state;
        let older = state.links.iter().filter_map(|link| {
            Some(Left {
                ledger: LedgerId::new(state.log, link.seq),
                next: EntryId::new(0),
                last: link.end?.last?,
            })
        });
        let scan = StateScan {
            older: older.collect(),
            now: None,
            read: Vec::new(),
            newer: Vec::new(),
        };
        // Most likely these are needed: one question instead of several.
        let state = scan.older.last().map(|left| left.ledger);
        let message = shelf.chain.ledgers().last().map(|(ledger, _)| ledger);
        shelf
            .sources
            .want_records(step, state.into_iter().chain(message));
        let replay = Self {
            topic,
            view,
            subscriptions: Vec::new(),
            has_subscriptions: false,
            stage: Stage::State(scan),
            opening: Opening::new(Arc::clone(&shelf.config.topic)),
            run: None,
            retry_at: None,
            waits_for: None,
            give_up_wait: shelf.config.retry_after,
        };
        replay.ask_subscriptions(step, shelf.sources);
        replay
    }

    /// What it waits for, when something does not answer.
    pub(super) const fn waits_for(&self) -> Option<&String> {
        self.waits_for.as_ref()
    }

    /// Asks for the next page. The list is read after the claim was committed: every cursor that an earlier owner made is of a
    /// subscription that is in it.
    fn ask_subscriptions(&self, step: &mut Step<'_>, sources: &mut Sources) {
        let after = self.subscriptions.last();
        let page = Page {
            after: after.map(|subscription| subscription.name.as_str().to_owned()),
            limit: PAGE,
        };
        let query = Query::Subscriptions(self.topic.clone(), page);
        sources.query(step, query, Purpose::Subscriptions);
    }

    /// A page of subscriptions came. The last page is the empty one.
    pub(super) fn subscriptions(
        &mut self,
        step: &mut Step<'_>,
        sources: &mut Sources,
        page: Vec<SubscriptionRecord>,
    ) {
        if page.is_empty() {
            self.has_subscriptions = true;
        } else {
            self.subscriptions.extend(page);
            self.ask_subscriptions(step, sources);
        }
    }

    /// Something is not to be had now.
    pub(super) fn hindered(&mut self, now: MonoTime, waits_for: String) {
        self.waits_for = Some(waits_for);
        self.retry_at = Some(now.after(self.give_up_wait));
    }

    /// Goes on as far as it can.
    ///
    /// # Errors
    ///
    /// What the logs hold cannot be used.
    pub(super) fn advance(
        &mut self,
        step: &mut Step<'_>,
        shelf: &mut Shelf<'_>,
    ) -> Result<(), OpeningError> {
        if self.run.is_some() || self.retry_at.is_some() {
            return Ok(());
        }
        loop {
            match &mut self.stage {
                Stage::State(scan) => {
                    if scan.now.is_none() {
                        scan.now = scan.older.pop();
                    }
                    let Some(left) = scan.now else {
                        self.fold_state(shelf)?;
                        continue;
                    };
                    self.run = read(step, shelf, left, LogKind::State);
                    return Ok(());
                }
                Stage::Headers(ledgers) => {
                    let Some(left) = ledgers.front().copied() else {
                        self.stage = Stage::Done;
                        return Ok(());
                    };
                    self.run = read(step, shelf, left, LogKind::Message);
                    return Ok(());
                }
                Stage::Done => return Ok(()),
            }
        }
    }

    /// The state log is read as far back as needed: folds it, and begins with the headers.
    fn fold_state(&mut self, shelf: &Shelf<'_>) -> Result<(), OpeningError> {
        let Stage::State(scan) = &mut self.stage else {
            return Ok(());
        };
        for (position, payload) in std::mem::take(&mut scan.newer) {
            self.opening.replay_state(position, &payload.to_bytes())?;
        }
        let covered = self.opening.covered();
        let ledgers = shelf.chain.ledgers().filter_map(|(ledger, last)| {
            let next = match covered {
                Some(covered) if ledger < covered.ledger => return None,
                Some(covered) if ledger == covered.ledger => covered.entry.next(),
                _ => EntryId::new(0),
            };
            (next <= last).then_some(Left { ledger, next, last })
        });
        self.stage = Stage::Headers(ledgers.collect());
        Ok(())
    }

    /// Something became of a run. False when it is not the replay's.
    ///
    /// # Errors
    ///
    /// What the logs hold cannot be used.
    pub(super) fn output(
        &mut self,
        step: &mut Step<'_>,
        shelf: &mut Shelf<'_>,
        run: RunId,
        output: RunOutput,
    ) -> Result<bool, OpeningError> {
        if self.run != Some(run) {
            return Ok(false);
        }
        match output {
            RunOutput::Item(item) => {
                self.waits_for = None;
                self.item(shelf, item)?;
            }
            RunOutput::Done => {
                self.run = None;
                self.run_done()?;
                self.advance(step, shelf)?;
            }
            RunOutput::Lost(entry) => {
                self.run = None;
                let ledger = self.reading().map(|left| left.ledger);
                if let Some(ledger) = ledger {
                    // Its copies may have moved since the record was read.
                    shelf.sources.forget_record(ledger);
                }
                let at = ledger.map_or_else(String::new, |ledger| format!("{ledger}/{entry}"));
                self.hindered(
                    step.now,
                    format!("no copy of an entry can be read entry={at}"),
                );
            }
        }
        Ok(true)
    }

    fn reading(&self) -> Option<Left> {
        match &self.stage {
            Stage::State(scan) => scan.now,
            Stage::Headers(ledgers) => ledgers.front().copied(),
            Stage::Done => None,
        }
    }

    fn item(&mut self, shelf: &mut Shelf<'_>, item: RunItem) -> Result<(), OpeningError> {
        match (&mut self.stage, item) {
            (Stage::State(scan), RunItem::Entry(entry)) => {
                if let Some(left) = &mut scan.now {
                    let position = Position {
                        ledger: left.ledger,
                        entry: entry.id,
                    };
                    left.next = entry.id.next();
                    scan.read.push((position, entry.payload));
                }
            }
            (
                Stage::Headers(ledgers),
                RunItem::Prefix {
                    id,
                    next_offset,
                    prefix,
                },
            ) => {
                if let Some(left) = ledgers.front_mut() {
                    let position = Position {
                        ledger: left.ledger,
                        entry: id,
                    };
                    left.next = id.next();
                    self.opening.replay_header(position, &prefix)?;
                    if id.next().get().is_multiple_of(POINT_EVERY) {
                        shelf.chain.learn(left.ledger, next_offset, id.next());
                    }
                }
            }
            // The reader gives what was asked for.
            _ => {}
        }
        Ok(())
    }

    fn run_done(&mut self) -> Result<(), OpeningError> {
        match &mut self.stage {
            Stage::State(scan) => {
                let is_read = scan.now.is_some_and(|left| left.next > left.last);
                if is_read {
                    scan.now = None;
                    let has_snapshot = has_snapshot(&scan.read)?;
                    let newer = std::mem::take(&mut scan.newer);
                    scan.newer = std::mem::take(&mut scan.read);
                    scan.newer.extend(newer);
                    if has_snapshot {
                        scan.older.clear();
                    }
                }
            }
            Stage::Headers(ledgers) => {
                if ledgers.front().is_some_and(|left| left.next > left.last) {
                    ledgers.pop_front();
                }
            }
            Stage::Done => {}
        }
        Ok(())
    }

    /// When to call [`Replay::expire`].
    pub(super) const fn deadline(&self) -> Option<MonoTime> {
        self.retry_at
    }

    /// Time has passed.
    ///
    /// # Errors
    ///
    /// What the logs hold cannot be used.
    pub(super) fn expire(
        &mut self,
        step: &mut Step<'_>,
        shelf: &mut Shelf<'_>,
    ) -> Result<(), OpeningError> {
        if self.retry_at.is_some_and(|at| at <= step.now) {
            self.retry_at = None;
            if !self.has_subscriptions && !shelf.sources.asks(&Purpose::Subscriptions) {
                self.ask_subscriptions(step, shelf.sources);
            }
            self.advance(step, shelf)?;
        }
        Ok(())
    }

    /// Whether everything was read.
    pub(super) const fn is_done(&self) -> bool {
        self.has_subscriptions && matches!(self.stage, Stage::Done)
    }

    /// Ends the replay: the topic as both logs and meta tell of it.
    ///
    /// # Errors
    ///
    /// What the logs hold cannot be used.
    pub(super) fn finish(
        self,
        first_offset: Offset,
    ) -> Result<(Topic, OpeningNotes), OpeningError> {
        let record = &self.view.record;
        let end = "both logs are closed";
        let is_live = |found: &SubscriptionRecord| found.state != SubscriptionState::Deleted;
        let live = self.subscriptions.into_iter().filter(is_live);
        let opened = Opened {
            epoch: record.epoch,
            first_offset,
            next_offset: record.message.next_offset().expect(end),
            state_next_offset: record.state.next_offset().expect(end),
            subscriptions: live.collect(),
        };
        self.opening.finish(opened)
    }
}

/// Begins to read what is left of a ledger; none while its record is not here.
fn read(step: &mut Step<'_>, shelf: &mut Shelf<'_>, left: Left, kind: LogKind) -> Option<RunId> {
    if !shelf.sources.has_record(step, left.ledger) {
        return None;
    }
    let span = match kind {
        LogKind::State => Span {
            ledger: left.ledger,
            first: left.next,
            last: left.last,
            max_bytes: STATE_RUN_BYTES,
            payload_limit: None,
        },
        LogKind::Message => {
            let most = left.next.get().saturating_add(HEADERS_RUN - 1);
            let header = u32::try_from(topic::format::HEADER_LEN_MAX).expect("a header is short");
            Span {
                ledger: left.ledger,
                first: left.next,
                last: left.last.min(EntryId::new(most)),
                max_bytes: HEADERS_RUN * u64::from(header),
                payload_limit: Some(header),
            }
        }
    };
    Some(shelf.sources.read(step, shelf.config, span))
}

/// Whether a ledger's entries hold a complete snapshot.
fn has_snapshot(entries: &[(Position, Payload)]) -> Result<bool, OpeningError> {
    let mut finder = SnapshotFinder::default();
    for (position, payload) in entries {
        let found = finder.feed(&payload.to_bytes());
        let found = found.map_err(|source| OpeningError::Format {
            position: *position,
            source,
        })?;
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What clients are told of a shard whose logs cannot be used.
pub(super) fn unusable(error: &OpeningError) -> Problem {
    let text = format!("the shard cannot be opened by this program: {error}");
    Problem::new(Reason::Internal, text)
}
