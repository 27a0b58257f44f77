//! Where a shard reads from: meta's records of ledgers, and the bookies that hold them.

use std::collections::{BTreeMap, BTreeSet};

use ledger::RunPlan;
use types::chain::LedgerRecord;
use types::command::Query;
use types::storage::RunItem;
use types::{BookieId, EntryId, LedgerId, LedgerSeq, LogId, MonoTime, TopicName, WallTime};

use super::config::ShardConfig;
use super::event::{QueryId, ShardEffect};
use super::runs::{RunId, RunOutput, Runs};
use super::shrink_map;

/// One call of the shard: the time it is, and what it wants done.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) now: MonoTime,
    pub(super) wall: WallTime,
    pub(super) effects: &'a mut Vec<ShardEffect>,
}

/// What a query to meta is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The records of these ledgers.
    Ledgers(Vec<LedgerId>),
    /// The next page of the topic's subscriptions.
    Subscriptions,
    /// The topic's record: how long its messages stay.
    Topic,
    /// The shard's record, for the owner.
    Record,
    /// The same, asked when the lease had lapsed so often and was certain again: does the epoch still stand?
    Reign {
        /// So often.
        lapses: u64,
    },
}

/// Which entries to read, and how much of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) ledger: LedgerId,
    pub(super) first: EntryId,
    pub(super) last: EntryId,
    pub(super) max_bytes: u64,
    pub(super) payload_limit: Option<u32>,
}

/// The records known, the queries and the runs under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    /// Made with the first run: a new topic has none.
    runs: Option<Box<Runs>>,
    outputs: Vec<(RunId, RunOutput)>,
    records: BTreeMap<LedgerId, LedgerRecord>,
    asked: BTreeSet<LedgerId>,
    queries: BTreeMap<QueryId, Purpose>,
    next_query: u64,
    /// Bookies without a connection: asked last.
    lost: BTreeSet<BookieId>,
}

impl Sources {
    /// Asks meta something.
    pub(super) fn query(&mut self, step: &mut Step<'_>, query: Query, purpose: Purpose) {
        let id = QueryId(self.next_query);
        self.next_query += 1;
        self.queries.insert(id, purpose);
        step.effects.push(ShardEffect::Query { id, query });
    }

    /// Gives back the room that it has from busier times.
    pub(super) fn shrink(&mut self) {
        if let Some(runs) = &mut self.runs {
            runs.shrink();
        }
        self.outputs.shrink_to_fit();
        if self.asked.is_empty() {
            self.asked = BTreeSet::new();
        }
        if self.lost.is_empty() {
            self.lost = BTreeSet::new();
        }
    }

    /// Asks for the topic's record.
    pub(super) fn ask_topic(&mut self, step: &mut Step<'_>, name: TopicName) {
        self.query(step, Query::Topic(name), Purpose::Topic);
    }

    /// A log's oldest ledgers are dropped: their records are of no use.
    pub(super) fn forget(&mut self, log: LogId, first: LedgerSeq) {
        let (from, to) = (
            LedgerId::new(log, LedgerSeq::new(0)),
            LedgerId::new(log, first),
        );
        self.records.retain(|id, _| !(from..to).contains(id));
    }

    /// Whether a query for this is under way.
    pub(super) fn asks(&self, purpose: &Purpose) -> bool {
        self.queries.values().any(|asked| asked == purpose)
    }

    /// A query was answered: what it was for.
    pub(super) fn answered(&mut self, query: QueryId) -> Option<Purpose> {
        let purpose = self.queries.remove(&query);
        shrink_map(&mut self.queries);
        purpose
    }

    /// Keeps a ledger's record: its creation never changes, and its bookies only when a copy of it moved, which reads
    /// that find nothing notice ([`Sources::forget_record`]).
    pub(super) fn keep(&mut self, record: &LedgerRecord) {
        self.asked.remove(&record.id);
        self.records
            .entry(record.id)
            .or_insert_with(|| record.clone());
    }

    /// The record may be old, since its bookies have no copy to give: meta is asked again at the next need.
    pub(super) fn forget_record(&mut self, ledger: LedgerId) {
        self.records.remove(&ledger);
    }

    /// Records that were asked for did not come: ask again at the next need.
    pub(super) fn missed(&mut self, ledgers: &[LedgerId]) {
        for ledger in ledgers {
            self.asked.remove(ledger);
        }
    }

    /// Whether a ledger's record is here; asks meta for it otherwise.
    pub(super) fn has_record(&mut self, step: &mut Step<'_>, ledger: LedgerId) -> bool {
        self.want_records(step, [ledger]);
        self.records.contains_key(&ledger)
    }

    /// Asks meta for the records that are not here, in one query.
    pub(super) fn want_records(
        &mut self,
        step: &mut Step<'_>,
        ledgers: impl IntoIterator<Item = LedgerId>,
    ) {
        let is_new = |id: &LedgerId| !self.records.contains_key(id) && !self.asked.contains(id);
        let missing: Vec<LedgerId> = ledgers.into_iter().filter(is_new).collect();
        if missing.is_empty() {
            return;
        }
        self.asked.extend(&missing);
        let query = Query::Ledgers(missing.clone());
        self.query(step, query, Purpose::Ledgers(missing));
    }

    /// Begins to read a run. The ledger's record must be here.
    pub(super) fn read(&mut self, step: &mut Step<'_>, config: &ShardConfig, span: Span) -> RunId {
        let record = &self.records[&span.ledger];
        let plan = RunPlan {
            ledger: span.ledger,
            created: record.created,
            ensemble: self.order(record, step.now),
            first: span.first,
            last: span.last,
            max_bytes: span.max_bytes,
            payload_limit: span.payload_limit,
            speculate_after: config.speculate_after,
            retry_after: config.retry_after,
        };
        let runs = self.runs.get_or_insert_default();
        runs.start(step.now, plan, step.effects, &mut self.outputs)
    }

    /// Connected bookies that do not keep readers waiting first, begun at a place of the ledger's own: readers of one ledger meet at one bookie's cache,
    /// readers of many spread.
    fn order(&self, record: &LedgerRecord, now: MonoTime) -> Vec<BookieId> {
        let mut order = record.ensemble.clone();
        if !order.is_empty() {
            let len = u64::try_from(order.len()).expect("lengths fit 64 bits");
            let place = record.id.log().get() ^ u64::from(record.id.seq().get());
            let turn = usize::try_from(place % len).expect("it is below a length");
            order.rotate_left(turn);
        }
        let runs = self.runs.as_ref();
        let is_slow = |id| runs.is_some_and(|runs| runs.is_slow(id, now));
        order.sort_by_key(|it| (self.lost.contains(it), is_slow(*it)));
        order
    }

    /// Nobody waits for a run any more.
    pub(super) fn cancel(&mut self, run: RunId) {
        if let Some(runs) = &mut self.runs {
            runs.cancel(run);
        }
    }

    /// Items of an answer came.
    pub(super) fn items(&mut self, step: &mut Step<'_>, answer: (u64, Vec<RunItem>, bool)) {
        if let Some(runs) = &mut self.runs {
            runs.items(step.now, answer, step.effects, &mut self.outputs);
        }
    }

    /// Takes what became of the runs since the last call.
    pub(super) fn take_outputs(&mut self) -> Vec<(RunId, RunOutput)> {
        std::mem::take(&mut self.outputs)
    }

    /// A bookie can or cannot be reached.
    pub(super) fn connected(&mut self, bookie: BookieId, is_connected: bool) {
        if is_connected {
            self.lost.remove(&bookie);
        } else {
            self.lost.insert(bookie);
        }
    }

    /// When to call [`Sources::expire`].
    pub(super) fn deadline(&self) -> Option<MonoTime> {
        self.runs.as_ref().and_then(|runs| runs.deadline())
    }

    /// Time has passed.
    pub(super) fn expire(&mut self, step: &mut Step<'_>) {
        if let Some(runs) = &mut self.runs {
            runs.expire(step.now, step.effects, &mut self.outputs);
        }
    }
}

#[cfg(test)]
mod tests {
    use types::Quorum;
    use types::chain::LedgerState;

    use super::*;

    const LEDGER: LedgerId = LedgerId::new(LogId::new(1), LedgerSeq::new(0));

    fn asked(effects: &[ShardEffect]) -> Vec<BookieId> {
        let asked = effects.iter().filter_map(|effect| match effect {
            ShardEffect::Run { bookie, .. } => Some(*bookie),
            _ => None,
        });
        asked.collect()
    }

    #[test]
    fn a_bookie_that_kept_one_read_waiting_is_not_the_first_that_the_next_one_asks() {
        let record = LedgerRecord {
            id: LEDGER,
            created: types::Revision::new(1),
            ensemble: (1..=3).map(BookieId::new).collect(),
            quorum: Quorum::THREE_TWO,
            state: LedgerState::Open,
            verified: Vec::new(),
            moving: None,
        };
        let span = Span {
            ledger: LEDGER,
            first: EntryId::new(0),
            last: EntryId::new(9),
            max_bytes: 1000,
            payload_limit: None,
        };
        let (config, mut sources) = (ShardConfig::default(), Sources::default());
        sources.keep(&record);
        let mut effects = Vec::new();
        let mut step = Step {
            now: MonoTime::ZERO,
            wall: WallTime::from_nanos(0),
            effects: &mut effects,
        };
        let waiting = sources.read(&mut step, &config, span);
        step.now = step.now.after(config.speculate_after);
        sources.expire(&mut step);
        sources.cancel(waiting);

        sources.read(&mut step, &config, span);

        let asked = asked(&effects);
        assert_eq!(asked.len(), 3);
        assert!(!asked[1..].contains(&asked[0]), "{asked:?}");
    }
}
