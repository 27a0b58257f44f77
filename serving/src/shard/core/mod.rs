//! One shard served: the owner of its ledgers, the topic its users see, its replay and its reads, as one machine.
//!
//! [`Shard`] is synchronous and pure: no task, no clock, no channel. The production task and the simulator drive exactly
//! this. One value is one attempt to serve; it ends with [`ShardEffect::Over`].
//!
//! | phase | what happens |
//! |---|---|
//! | claiming | `ledger::Owner` claims the shard, finds the ends of both tails and closes them |
//! | replaying | `replay` folds the state log, the headers of the message log and meta's list into a topic |
//! | serving | `serving` passes the topic's appends to the owner and the owner's confirmations back, and reads |
//! | over | nothing: every stream was told |
//!
//! What asks for something before the shard serves waits in `waiting`, bounded in number and time.

mod chain;
mod config;
mod event;
mod perform;
mod queries;
mod reads;
mod replay;
mod runs;
mod serving;
mod sources;
mod tail;
#[cfg(test)]
mod tests;
mod trim;
mod waiting;
mod words;

pub use config::{ShardConfig, ShardConfigError};
pub use event::{Ended, QueryId, Request, ShardEffect, ShardEvent, Told};
pub(super) use words::given_up;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ledger::{Candidate, Outcome, Owner};
use topic::{OffsetRange, TopicStats};
use types::chain::{LedgerRecord, LogKind};
use types::{BookieId, ByteSize, Epoch, LedgerId, MonoTime, Problem, Reason, SessionId, ShardId};
use types::{TopicName, WallTime};

use chain::MessageChain;
use replay::{Replay, Shelf};
use serving::{Around, Serving};
use sources::{Sources, Step};
use waiting::{Waiting, refuse};

/// How far a shard is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It is being claimed, recovered or replayed.
    Opening {
        /// What is waited for, when it takes longer than usual.
        waits_for: Option<String>,
    },
    /// It serves.
    Serving {
        /// The owner's epoch.
        epoch: Epoch,
    },
    /// It is being given up.
    Releasing,
    /// It is over; what clients are told.
    Over(Box<Problem>),
}

/// Who serves what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSetup {
    /// The shard.
    pub shard: ShardId,
    /// The topic it belongs to.
    pub topic: TopicName,
    /// The node's session.
    pub session: SessionId,
    /// 128 random bits, fresh for each [`Shard`]: the ids of its commands are made from it.
    pub seed: u128,
    /// Limits and patience.
    pub config: Arc<ShardConfig>,
}

/// Gives back the room of a map that was emptied: it keeps a node, as large as eleven entries.
pub(super) fn shrink_map<K, V>(map: &mut BTreeMap<K, V>) {
    if map.is_empty() {
        *map = BTreeMap::new();
    }
}

/// What a shard takes beside a [`Shard`] once it serves.
#[cfg(test)]
pub(super) const fn serving_bytes() -> usize {
    size_of::<Serving>()
}

/// Lists that a shard needs while it handles events ([`Shard::borrow`]).
#[derive(Debug, Default)]
pub struct Scratch {
    of_owner: Vec<ledger::Effect>,
    of_topic: Vec<topic::Effect>,
}

impl Scratch {
    const fn is_empty(&self) -> bool {
        self.of_owner.is_empty() && self.of_topic.is_empty()
    }
}

/// One shard served.
#[derive(Debug, Clone)]
pub struct Shard {
    setup: ShardSetup,
    owner: Owner,
    owner_effects: Vec<ledger::Effect>,
    sources: Sources,
    phase: Phase,
    waiting: Waiting,
    /// What the owner waits for while it recovers.
    stuck: Option<String>,
    is_lease_certain: bool,
    /// How often the lease was not certain any more, and whether meta has confirmed the epoch since the last time.
    lapses: u64,
    is_reign_doubtful: bool,
    /// When meta is asked again to confirm it.
    confirm_at: Option<MonoTime>,
    is_record_stale: bool,
    release: Option<Release>,
}

/// How far the giving up of the shard is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Release {
    /// Nothing is admitted, and acks that nobody waits for are gathered until then, then written.
    Draining {
        until: Option<MonoTime>,
        /// What the owner is told then. Boxed: a shard is as large all its life as when it goes.
        how: Box<ledger::Event>,
    },
    /// The owner closes both logs, and hands the shard over or retires.
    HandingOver,
}

#[derive(Debug, Clone)]
enum Phase {
    Claiming,
    Replaying(Box<Replay>, MessageChain),
    Serving(Box<Serving>),
    Over(Box<Problem>),
}

impl Shard {
    /// A shard to be: nothing happens before [`ShardEvent::Open`].
    pub fn new(setup: ShardSetup) -> Self {
        let config = Arc::clone(&setup.config.ledger);
        let owner = Owner::new(setup.shard, setup.session, setup.seed, config);
        Self {
            setup,
            owner,
            owner_effects: Vec::new(),
            sources: Sources::default(),
            phase: Phase::Claiming,
            waiting: Waiting::default(),
            stuck: None,
            is_lease_certain: true,
            lapses: 0,
            is_reign_doubtful: false,
            confirm_at: None,
            is_record_stale: false,
            release: None,
        }
    }

    /// Takes an event and adds what is to be done to `effects`.
    ///
    /// # Panics
    ///
    /// When [`ShardEvent::Open`] comes a second time.
    pub fn handle(
        &mut self,
        now: MonoTime,
        wall: WallTime,
        event: ShardEvent,
        effects: &mut Vec<ShardEffect>,
    ) {
        let step = &mut Step { now, wall, effects };
        if let Phase::Over(problem) = &self.phase {
            if let ShardEvent::Request(request) = event {
                refuse(step, request, problem);
            }
            return;
        }
        match event {
            ShardEvent::Open => self.owner(step, ledger::Event::Claim),
            ShardEvent::Request(request) => self.request(step, request),
            ShardEvent::Candidates(candidates) => self.candidates(step, candidates),
            ShardEvent::Answer { bookie, answer } => {
                self.owner(step, ledger::Event::Answer { bookie, answer });
            }
            ShardEvent::Run {
                tag,
                items,
                is_last,
            } => self.sources.items(step, (tag, items, is_last)),
            ShardEvent::Connected(bookie) => {
                self.sources.connected(bookie, true);
                self.owner(step, ledger::Event::Connected(bookie));
            }
            ShardEvent::Lost(bookie) => {
                self.sources.connected(bookie, false);
                self.owner(step, ledger::Event::Lost(bookie));
            }
            ShardEvent::Outcome { command, outcome } => {
                self.keep_tails(&outcome);
                self.owner(step, ledger::Event::Outcome { command, outcome });
            }
            ShardEvent::Queried { query, result } => self.queried(step, query, result),
            ShardEvent::RecordChanged => self.record_changed(step),
            ShardEvent::LeaseCertain(is_certain) => self.lease(step, is_certain),
            ShardEvent::Release => self.release(step, ledger::Event::Release),
            ShardEvent::Retire => self.release(step, ledger::Event::Retire),
            ShardEvent::Deadline => self.expire(step),
        }
        self.settle(step);
    }

    /// Takes lists with room for what its parts want of each other while events are handled: a node has many more shards
    /// than threads. A shard without them makes its own.
    pub fn borrow(&mut self, scratch: &mut Scratch) {
        debug_assert!(self.owner_effects.is_empty() && scratch.is_empty());
        self.owner_effects = std::mem::take(&mut scratch.of_owner);
        if let Phase::Serving(serving) = &mut self.phase {
            serving.topic_effects = std::mem::take(&mut scratch.of_topic);
        }
    }

    /// Gives them back, empty as they are between two events.
    pub fn give_back(&mut self, scratch: &mut Scratch) {
        scratch.of_owner = std::mem::take(&mut self.owner_effects);
        if let Phase::Serving(serving) = &mut self.phase {
            scratch.of_topic = std::mem::take(&mut serving.topic_effects);
        }
        debug_assert!(scratch.is_empty(), "one shard's wishes are not another's");
    }

    /// Gives back the room that it has from busier times: most shards of a node do nothing.
    pub fn shrink(&mut self) {
        self.sources.shrink();
        if let Phase::Serving(serving) = &mut self.phase {
            serving.shrink();
        }
    }

    /// When to call again with [`ShardEvent::Deadline`].
    pub fn deadline(&self) -> Option<MonoTime> {
        let phase = match &self.phase {
            Phase::Over(_) => return None,
            Phase::Claiming => None,
            Phase::Replaying(replay, _) => replay.deadline(),
            Phase::Serving(serving) => serving.deadline(),
        };
        let waiting = self.waiting.deadline(self.setup.config.open_patience);
        let release = match &self.release {
            Some(Release::Draining { until, .. }) => *until,
            Some(Release::HandingOver) | None => None,
        };
        [
            release,
            self.owner.deadline(),
            self.sources.deadline(),
            self.confirm_at,
            waiting,
            phase,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        match &self.phase {
            Phase::Over(problem) => Status::Over(problem.clone()),
            _ if self.release.is_some() => Status::Releasing,
            Phase::Claiming | Phase::Replaying(..) => Status::Opening {
                waits_for: self.waits_for(),
            },
            Phase::Serving(serving) => Status::Serving {
                epoch: serving.topic().epoch(),
            },
        }
    }

    /// The owner's epoch, once the claim is committed.
    pub fn epoch(&self) -> Option<Epoch> {
        self.owner.epoch()
    }

    /// How the topic stands; none unless it serves.
    pub fn stats(&self) -> Option<TopicStats> {
        match &self.phase {
            Phase::Serving(serving) => Some(serving.topic().stats()),
            Phase::Claiming | Phase::Replaying(..) | Phase::Over(_) => None,
        }
    }

    /// The messages that wait for the disk; none unless it serves.
    pub fn unconfirmed(&self) -> Option<OffsetRange> {
        match &self.phase {
            Phase::Serving(serving) => Some(serving.topic().unconfirmed()),
            Phase::Claiming | Phase::Replaying(..) | Phase::Over(_) => None,
        }
    }

    /// What it was made of.
    pub const fn setup(&self) -> &ShardSetup {
        &self.setup
    }

    /// The owner of its ledgers, for observers.
    pub const fn owned(&self) -> &Owner {
        &self.owner
    }

    fn owner(&mut self, step: &Step<'_>, event: ledger::Event) {
        self.owner.handle(step.now, event, &mut self.owner_effects);
    }

    /// The bookies there are. An open ledger at one that is no candidate any more, because it is drained, is rolled: its
    /// copies can move only once it is closed, and a ledger with few writes would keep the bookie for long.
    fn candidates(&mut self, step: &Step<'_>, candidates: Arc<[Candidate]>) {
        let all: BTreeSet<BookieId> = candidates.iter().map(|it| it.bookie).collect();
        self.owner(step, ledger::Event::Candidates(candidates));
        let Some(view) = self.owner.view() else {
            return;
        };
        let has_gone = |tail: &&LedgerRecord| tail.ensemble.iter().any(|id| !all.contains(id));
        let enough = all.len() >= view.record.quorum.write();
        let tails = view.tails.iter().filter(|_| enough).filter(has_gone);
        let left: Vec<LedgerId> = tails.map(|tail| tail.id).collect();
        for log in LogKind::BOTH {
            let open = self.owner.open_ledger(log);
            if open.is_some_and(|open| left.contains(&open)) {
                self.owner(step, ledger::Event::Roll(log));
            }
        }
    }

    /// What is waited for, when it takes longer than usual.
    fn waits_for(&self) -> Option<String> {
        match &self.phase {
            Phase::Replaying(replay, _) => replay.waits_for().cloned(),
            Phase::Claiming => self.stuck.clone(),
            Phase::Serving(_) | Phase::Over(_) => None,
        }
    }

    /// What a request is told that cannot wait any longer.
    fn opening(&self) -> Problem {
        let shard = self.setup.shard;
        let problem = Problem::new(Reason::ShardOpening, "");
        let problem = problem
            .with("shard", shard.get())
            .retry_after(self.setup.config.retry_after);
        let (message, problem) = match self.waits_for() {
            Some(what) => (
                format!("the shard is being opened, it waits: {what}"),
                problem.with("waits_for", what),
            ),
            None => ("the shard is being opened, try again".to_owned(), problem),
        };
        Problem { message, ..problem }
    }

    fn request(&mut self, step: &mut Step<'_>, request: Request) {
        if let Phase::Serving(serving) = &mut self.phase {
            return serving.event(step, request.into());
        }
        let most = self.setup.config.waiting_max;
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.push(step, most, request, || self.opening());
        self.waiting = waiting;
    }

    /// Bytes of the newest entries that are kept in memory.
    pub fn tail_bytes(&self) -> u64 {
        match &self.phase {
            Phase::Serving(serving) => serving.tail_bytes(),
            _ => 0,
        }
    }

    /// Keeps no more of them than the host has room for, which it tells when it hears what there is and what the shard's
    /// configuration allows.
    pub fn limit_tail(&mut self, room: impl FnOnce(u64, ByteSize) -> ByteSize) {
        let limit = room(self.tail_bytes(), self.setup.config.tail_cache);
        if let Phase::Serving(serving) = &mut self.phase {
            serving.limit_tail(limit);
        }
    }

    /// Ledgers' records come for nothing with the shard's own.
    fn keep_tails(&mut self, outcome: &Outcome) {
        if let Outcome::Committed(view) | Outcome::Conflict(view) = outcome {
            for tail in &view.tails {
                self.sources.keep(tail);
            }
        }
    }

    /// A lease that is certain again says that the session lives. Whether its epoch still does, meta is asked first:
    /// while the lease was not certain, another may have claimed the shard, and given out what this owner has not.
    fn lease(&mut self, step: &mut Step<'_>, is_certain: bool) {
        if self.is_lease_certain && !is_certain {
            self.lapses += 1;
            self.is_reign_doubtful = true;
        }
        self.is_lease_certain = is_certain;
        self.confirm_reign(step);
        self.hold_or_deliver(step);
    }

    fn release(&mut self, step: &mut Step<'_>, how: ledger::Event) {
        if self.release.is_some() {
            return;
        }
        let problem = given_up();
        self.waiting.refuse_all(step, &problem);
        let mut until = None;
        if let Phase::Serving(serving) = &mut self.phase {
            serving.release(step, problem);
            // The topic gathers acks that nobody waits for; they are worth the moment.
            until = Some(step.now.after(self.setup.config.topic.ack_delay));
        }
        self.release = Some(Release::Draining {
            until,
            how: Box::new(how),
        });
    }

    /// Hands the shard over once what gathered is written: what is appended later is stored by nobody.
    fn hand_over(&mut self, step: &Step<'_>) -> bool {
        let Some(Release::Draining { until, how }) = &mut self.release else {
            return false;
        };
        if until.is_some_and(|at| at <= step.now) {
            *until = None;
        }
        let is_drained = match &self.phase {
            Phase::Serving(serving) => until.is_none() && !serving.writes_state(),
            _ => true,
        };
        if is_drained {
            let how = ledger::Event::clone(how);
            self.release = Some(Release::HandingOver);
            self.owner(step, how);
        }
        is_drained
    }

    fn expire(&mut self, step: &mut Step<'_>) {
        if self.owner.deadline().is_some_and(|at| at <= step.now) {
            self.owner(step, ledger::Event::Deadline);
        }
        if self.sources.deadline().is_some_and(|at| at <= step.now) {
            self.sources.expire(step);
        }
        if self.confirm_at.is_some_and(|at| at <= step.now) {
            self.confirm_reign(step);
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        let patience = self.setup.config.open_patience;
        waiting.expire(step, patience, || self.opening());
        self.waiting = waiting;
        match &mut self.phase {
            Phase::Replaying(replay, chain) => {
                let mut shelf = Shelf {
                    config: &self.setup.config,
                    chain,
                    sources: &mut self.sources,
                };
                let expired = replay.expire(step, &mut shelf);
                self.check(step, expired);
            }
            Phase::Serving(serving) => {
                let mut around = Around {
                    config: &self.setup.config,
                    sources: &mut self.sources,
                    owner: &mut self.owner,
                    owner_effects: &mut self.owner_effects,
                };
                serving.expire(step, &mut around);
            }
            Phase::Claiming | Phase::Over(_) => {}
        }
    }
}
