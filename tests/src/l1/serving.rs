//! Between a shard's core and the world: its effects are performed, answers are handed in, its clock is kept.

use std::collections::{BTreeMap, VecDeque};

use bookie::Ask;
use ledger::Over;
use types::chain::LogKind;
use types::command::Command;
use types::{BookieId, CommandId, Epoch, MonoTime, Reason, SessionId, ShardId, WallTime};

use super::agenda::{Nanos, SECOND};
use super::event::{Message, MetaAsk, ReplyTo, Said, Timer};
use super::marks::Mark;
use super::net::Host;
use super::servers::{Call, Server, Serving};
use super::shard_core::{Ended, Shard, ShardEffect, ShardEvent, ShardSetup};
use super::world::World;

const RUN_TIMEOUT: Nanos = 2 * SECOND;

impl World {
    /// Begins to serve a shard.
    pub(super) fn shard_open(&mut self, at: usize, shard: ShardId, owner: &Option<SessionId>) {
        let Some(session) = self.servers[at].session else {
            return;
        };
        if self.servers[at].serving_shard(shard).is_some() {
            return;
        }
        let others = self.servers.iter().any(|s| {
            s.serving_shard(shard).is_some() && s.session == *owner && s.session != Some(session)
        });
        if others {
            self.marks.hit(Mark::ClaimedFromLiving);
        }
        let key = self.next_number();
        let setup = ShardSetup {
            shard,
            topic: self.topic.clone(),
            session,
            seed: self.rng.u128(),
            config: self.swarm.shard.clone(),
        };
        let server = &mut self.servers[at];
        server.serving.push(Serving {
            key,
            shard: Shard::new(setup),
            timer: None,
            runs: Vec::new(),
            is_certain_told: true,
            cursors: BTreeMap::new(),
            again: VecDeque::new(),
        });
        let candidates = server.candidates.clone();
        self.trace(|| format!("serving-{at} opens {shard} key={key}"));
        self.shard_event(at, key, ShardEvent::Candidates(candidates));
        self.shard_event(at, key, ShardEvent::Open);
        for (stream, opening) in std::mem::take(&mut self.servers[at].waiting) {
            self.opened(at, key, stream, opening);
        }
    }

    /// Whether the node's own clock says that its lease is certain; told to each shard when it changed.
    pub(super) fn lease_looked_at(&mut self, at: usize) {
        for key in self.servers[at].keys() {
            self.lease_told(at, key);
        }
    }

    fn lease_told(&mut self, at: usize, key: u64) {
        let server = &mut self.servers[at];
        let is_certain = self.now < server.certain_until;
        if let Some(serving) = server.serving_mut(key)
            && serving.is_certain_told != is_certain
        {
            serving.is_certain_told = is_certain;
            if !is_certain {
                self.marks.hit(Mark::LeaseUncertain);
            }
            self.shard_handles(at, key, ShardEvent::LeaseCertain(is_certain));
        }
    }

    /// Hands a shard an event, and what it gives rise to.
    pub(super) fn shard_event(&mut self, at: usize, key: u64, event: ShardEvent) {
        self.lease_told(at, key);
        self.shard_handles(at, key, event);
        let next = |server: &mut Server| server.serving_mut(key)?.again.pop_front();
        while let Some(event) = next(&mut self.servers[at]) {
            self.shard_handles(at, key, event);
        }
        self.shard_timer(at, key);
    }

    /// The same, for all shards that are served there.
    pub(super) fn every_shard(&mut self, at: usize, event: &ShardEvent) {
        for key in self.servers[at].keys() {
            self.shard_event(at, key, event.clone());
        }
    }

    fn shard_handles(&mut self, at: usize, key: u64, event: ShardEvent) {
        let now = self.now;
        let server = &mut self.servers[at];
        let mono = MonoTime::from_nanos(now - server.began + SECOND);
        let Some(serving) = server.serving_mut(key) else {
            return;
        };
        let mut effects = Vec::new();
        let wall = WallTime::from_nanos(1_800_000_000 * SECOND + now);
        serving.shard.handle(mono, wall, event, &mut effects);
        let owner = serving.shard.owned();
        let lacs = LogKind::BOTH.map(|log| owner.open_ledger(log).zip(owner.lac(log)));
        let epoch = serving.shard.epoch();
        for (ledger, lac) in lacs.into_iter().flatten() {
            let found = self
                .observer
                .confirmed(&self.meta.store, ledger, lac, epoch);
            self.violations(found);
        }
        for effect in effects {
            self.shard_wants(at, key, effect);
        }
    }

    fn shard_timer(&mut self, at: usize, key: u64) {
        let server = &mut self.servers[at];
        let began = server.began;
        let Some(serving) = server.serving_mut(key) else {
            return;
        };
        let Some(due) = serving.shard.deadline() else {
            return;
        };
        let due = (due.as_nanos() + began)
            .saturating_sub(SECOND)
            .max(self.now);
        if serving.timer.is_none_or(|timer| timer > due) {
            serving.timer = Some(due);
            let timer = Timer::Shard(key);
            let wait = due - self.now;
            self.server_timer(at, wait, timer);
        }
    }

    pub(super) fn shard_timed(&mut self, at: usize, key: u64) {
        let now = self.now;
        let Some(serving) = self.servers[at].serving_mut(key) else {
            return;
        };
        if serving.timer.is_some_and(|timer| timer <= now) {
            serving.timer = None;
            self.shard_event(at, key, ShardEvent::Deadline);
        }
    }

    fn shard_wants(&mut self, at: usize, key: u64, effect: ShardEffect) {
        if !self.serves(at, key) {
            return;
        }
        match effect {
            ShardEffect::Send { bookie, request } => self.shard_sends(at, key, bookie, request),
            ShardEffect::Run { tag, bookie, run } => {
                if let Some(serving) = self.servers[at].serving_mut(key) {
                    serving.runs.push(tag);
                }
                if let Some(bookie) = self.bookie_of(bookie) {
                    let reply = ReplyTo::Run { shard: key, tag };
                    let ask = Ask::ReadRun(run);
                    let message = Message::Ask {
                        server: at,
                        reply,
                        ask,
                    };
                    self.send(Host::Server(at), Host::Bookie(bookie), message);
                }
                self.server_timer(at, RUN_TIMEOUT, Timer::Run(key, tag));
            }
            ShardEffect::Claim(claim) => {
                self.claims(at);
                self.asks_change(at, key, claim.command, Command::ClaimShard(claim));
            }
            ShardEffect::Command(change) => {
                self.asks_change(at, key, change.command, Command::ChangeShard(change));
            }
            ShardEffect::Query { id, query } => {
                self.call(at, Call::Query { shard: key, id }, MetaAsk::Query(query));
            }
            told => self.shard_tells(at, key, told),
        }
    }

    /// A shard asks meta for a claim or a change.
    fn asks_change(&mut self, at: usize, shard: u64, command: CommandId, change: Command) {
        let call = Call::Change { shard, command };
        self.call(at, call, MetaAsk::Command(Box::new(change)));
    }

    /// What goes to clients and people.
    fn shard_tells(&mut self, at: usize, key: u64, effect: ShardEffect) {
        let Some(serving) = self.servers[at].serving_mut(key) else {
            return;
        };
        match effect {
            ShardEffect::Tell { stream, told } => {
                let (shard, epoch) = (serving.shard.setup().shard, serving.shard.epoch());
                let is_certain = self.now < self.servers[at].certain_until;
                self.told_by(shard, &told, is_certain);
                self.server_says(stream.get(), Said::Told { told, epoch });
            }
            ShardEffect::CursorDurable { subscription, .. } => {
                if let Some(stream) = serving.cursors.remove(&subscription)
                    && let Some(plan) = self.sub_of(stream)
                {
                    let name = self.subs[plan].name.clone();
                    let activate = Command::ActivateSubscription {
                        name,
                        id: subscription,
                    };
                    let ask = MetaAsk::Command(Box::new(activate));
                    self.call(at, Call::ActivateSub { stream }, ask);
                }
            }
            ShardEffect::CursorRefused { subscription, .. } => {
                serving.cursors.remove(&subscription);
            }
            ShardEffect::Opened { epoch, notes } => self.shard_opened(at, key, epoch, &notes),
            ShardEffect::Stuck(stuck) => {
                self.trace(|| format!("serving-{at} waits: {stuck:?}"));
                match stuck {
                    ledger::Stuck::Recovery { .. } => self.marks.hit(Mark::RecoveryStuck),
                    ledger::Stuck::TooFewBookies { .. } => self.marks.hit(Mark::TooFewBookies),
                    ledger::Stuck::Meta { .. } => {}
                }
            }
            ShardEffect::Mismatch {
                bookie,
                ledger,
                entry,
            } => self.violation(
                "I13",
                format!("{bookie} holds another payload {ledger} {entry}"),
            ),
            ShardEffect::Unreadable(batch) => self.violation(
                "I22",
                format!("a stored batch is not what it says {batch:?}"),
            ),
            ShardEffect::Trimmed { log, first, .. } => {
                self.trace(|| format!("serving-{at} trims {log:?} first={first}"));
                self.marks.hit(Mark::Trimmed);
            }
            ShardEffect::Over(ended) => self.shard_over(at, key, &ended),
            ShardEffect::Send { .. }
            | ShardEffect::Run { .. }
            | ShardEffect::Claim(_)
            | ShardEffect::Command(_)
            | ShardEffect::Query { .. } => unreachable!("performed by the caller"),
        }
    }

    fn shard_opened(&mut self, at: usize, key: u64, epoch: Epoch, notes: &topic::OpeningNotes) {
        let Some(shard) = self.servers[at].serving_mut(key).map(|s| s.id()) else {
            return;
        };
        self.trace(|| format!("serving-{at} serves epoch={epoch} {notes:?}"));
        // An owner that was deposed while it replayed may hear of a subscription that its successor made.
        let is_newest = self
            .shard_view(shard)
            .is_some_and(|(view, _)| view.record.epoch == epoch);
        if notes.cursors_missing > 0 && is_newest && !self.swarm.is_beyond {
            self.violation(
                "I28",
                format!("epoch {epoch}: cursors are missing {notes:?}"),
            );
        }
        let serving = |s: &Server| {
            s.serving_shard(shard)
                .is_some_and(|s| s.shard.owned().is_serving())
        };
        if self.servers.iter().filter(|s| serving(s)).count() > 1 {
            self.marks.hit(Mark::TwoOwners);
        }
    }

    fn shard_over(&mut self, at: usize, key: u64, ended: &Ended) {
        self.trace(|| format!("serving-{at} over: {ended:?}"));
        match ended {
            Ended::Owner(Over::Released) => self.marks.hit(Mark::Released),
            Ended::Owner(_) => {}
            Ended::Unusable(problem) => {
                self.violation("open", format!("the logs cannot be used: {problem}"));
            }
        }
        let is_no_more = matches!(
            ended,
            Ended::Owner(
                Over::Deleted
                    | Over::ClaimRefused {
                        reason: Some(Reason::TopicNotFound)
                    }
            )
        );
        let server = &mut self.servers[at];
        if is_no_more && server.serving_mut(key).map(|s| s.id()) == server.shard_known() {
            server.topic = None; // What the node knew of the name is old.
        }
        server.serving.retain(|serving| serving.key != key);
        self.deletion_goes_on(at, key);
    }

    fn shard_sends(&mut self, at: usize, key: u64, id: BookieId, request: ledger::Request) {
        let Some(bookie) = self.bookie_of(id) else {
            return;
        };
        let is_sent = match request {
            ledger::Request::Add(add) => {
                let reply = ReplyTo::Add {
                    shard: key,
                    link: 0,
                    ledger: add.ledger,
                    entry: add.entry.id,
                };
                self.order(at, bookie, reply, Ask::Add(add))
            }
            ledger::Request::SetLac(set) => {
                self.order(at, bookie, ReplyTo::Nobody, Ask::SetLac(set))
            }
            ledger::Request::Read(read) => {
                let (ledger, entry) = (read.ledger, read.entry);
                let reply = ReplyTo::Read {
                    shard: key,
                    ledger,
                    entry,
                };
                let ask = Ask::Read(read);
                let message = Message::Ask {
                    server: at,
                    reply,
                    ask,
                };
                self.send(Host::Server(at), Host::Bookie(bookie), message);
                true
            }
            ledger::Request::ReadLac(read) => {
                let reply = ReplyTo::Lac {
                    shard: key,
                    ledger: read.ledger,
                };
                let ask = Ask::ReadLac(read);
                let message = Message::Ask {
                    server: at,
                    reply,
                    ask,
                };
                self.send(Host::Server(at), Host::Bookie(bookie), message);
                true
            }
        };
        let lost = ShardEvent::Lost(id);
        if let Some(serving) = self.servers[at].serving_mut(key)
            && !is_sent
            && !serving.again.contains(&lost)
        {
            serving.again.push_back(lost);
        }
    }

    /// The place of a bookie.
    pub(super) fn bookie_of(&self, id: BookieId) -> Option<usize> {
        self.bookies.iter().position(|bookie| bookie.id == Some(id))
    }

    /// A bookie answered a serving node.
    pub(super) fn bookie_said(
        &mut self,
        at: usize,
        from: usize,
        reply: ReplyTo,
        answer: bookie::Answer,
    ) {
        let Some(bookie) = self.bookies[from].id else {
            return;
        };
        let (key, answer) = match (reply, answer) {
            (
                ReplyTo::Add {
                    shard,
                    link,
                    ledger,
                    entry,
                },
                bookie::Answer::Add(result),
            ) => {
                if !self.servers[at].links[from].stands(link) {
                    return; // An answer on a stream that broke.
                }
                (
                    shard,
                    ledger::Answer::Added {
                        ledger,
                        entry,
                        result,
                    },
                )
            }
            (
                ReplyTo::Read {
                    shard,
                    ledger,
                    entry,
                },
                bookie::Answer::Read(result),
            ) => (
                shard,
                ledger::Answer::Read {
                    ledger,
                    entry,
                    result,
                },
            ),
            (ReplyTo::Lac { shard, ledger }, bookie::Answer::ReadLac(result)) => {
                (shard, ledger::Answer::Lac { ledger, result })
            }
            (ReplyTo::Run { shard, tag }, bookie::Answer::ReadRun(items)) => {
                return self.run_over(at, shard, tag, items);
            }
            _ => return,
        };
        if self.serves(at, key) {
            self.shard_event(at, key, ShardEvent::Answer { bookie, answer });
        }
    }

    pub(super) fn run_over(
        &mut self,
        at: usize,
        key: u64,
        tag: u64,
        items: Vec<types::storage::RunItem>,
    ) {
        let Some(serving) = self.servers[at].serving_mut(key) else {
            return;
        };
        let Some(place) = serving.runs.iter().position(|run| *run == tag) else {
            return;
        };
        serving.runs.swap_remove(place);
        self.shard_event(
            at,
            key,
            ShardEvent::Run {
                tag,
                items,
                is_last: true,
            },
        );
    }
}
