//! Between a shard's core and the world: its effects are performed, answers are handed in, its clock is kept.

use bookie::Ask;
use types::chain::LogKind;
use types::command::Command;
use types::{BookieId, Epoch, MonoTime, SessionId, WallTime};

use super::agenda::{Nanos, SECOND};
use super::event::{Message, MetaAsk, ReplyTo, Said, Timer};
use super::marks::Mark;
use super::net::Host;
use super::servers::{Call, Server, Serving};
use super::shard_core::{Ended, Shard, ShardEffect, ShardEvent, ShardSetup};
use super::world::World;

const RUN_TIMEOUT: Nanos = 2 * SECOND;

impl World {
    /// Begins to serve the shard.
    pub(super) fn shard_open(&mut self, at: usize, owner: &Option<SessionId>) {
        let Some(session) = self.servers[at].session else {
            return;
        };
        if self.servers[at].shard.is_some() {
            return;
        }
        let others = self
            .servers
            .iter()
            .any(|s| s.shard.is_some() && s.session == *owner && s.session != Some(session));
        if others {
            self.marks.hit(Mark::ClaimedFromLiving);
        }
        let key = self.next_number();
        let setup = ShardSetup {
            shard: self.shard,
            topic: self.topic.clone(),
            session,
            seed: self.rng.u128(),
            config: self.swarm.shard.clone(),
        };
        let server = &mut self.servers[at];
        server.is_certain_told = true;
        server.shard = Some(Serving {
            key,
            shard: Shard::new(setup),
            timer: None,
            runs: Vec::new(),
        });
        let candidates = server.candidates.clone();
        self.trace(|| format!("serving-{at} opens the shard key={key}"));
        self.shard_event(at, ShardEvent::Candidates(candidates));
        self.shard_event(at, ShardEvent::Open);
        for (stream, opening) in std::mem::take(&mut self.servers[at].waiting) {
            self.opened(at, stream, opening);
        }
    }

    /// Whether the node's own clock says that its lease is certain; told to the shard when it changed.
    pub(super) fn lease_looked_at(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let is_certain = self.now < server.certain_until;
        if server.shard.is_some() && server.is_certain_told != is_certain {
            server.is_certain_told = is_certain;
            if !is_certain {
                self.marks.hit(Mark::LeaseUncertain);
            }
            self.shard_handles(at, ShardEvent::LeaseCertain(is_certain));
        }
    }

    /// Hands the shard an event, and what it gives rise to.
    pub(super) fn shard_event(&mut self, at: usize, event: ShardEvent) {
        self.lease_looked_at(at);
        self.shard_handles(at, event);
        while let Some(event) = self.servers[at].again.pop_front() {
            self.shard_handles(at, event);
        }
        self.shard_timer(at);
    }

    fn shard_handles(&mut self, at: usize, event: ShardEvent) {
        let now = self.now;
        let server = &mut self.servers[at];
        let mono = MonoTime::from_nanos(now - server.began + SECOND);
        let Some(serving) = &mut server.shard else {
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
            self.shard_wants(at, effect);
        }
    }

    fn shard_timer(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let Some(serving) = &mut server.shard else {
            return;
        };
        let Some(due) = serving.shard.deadline() else {
            return;
        };
        let due = (due.as_nanos() + server.began)
            .saturating_sub(SECOND)
            .max(self.now);
        if serving.timer.is_none_or(|timer| timer > due) {
            serving.timer = Some(due);
            let timer = Timer::Shard(serving.key);
            let wait = due - self.now;
            self.server_timer(at, wait, timer);
        }
    }

    pub(super) fn shard_timed(&mut self, at: usize, key: u64) {
        let now = self.now;
        let Some(serving) = &mut self.servers[at].shard else {
            return;
        };
        if serving.key == key && serving.timer.is_some_and(|timer| timer <= now) {
            serving.timer = None;
            self.shard_event(at, ShardEvent::Deadline);
        }
    }

    fn shard_wants(&mut self, at: usize, effect: ShardEffect) {
        let Some(serving) = &self.servers[at].shard else {
            return;
        };
        let (key, epoch) = (serving.key, serving.shard.epoch());
        match effect {
            ShardEffect::Send { bookie, request } => self.shard_sends(at, key, bookie, request),
            ShardEffect::Run { tag, bookie, run } => {
                if let Some(serving) = &mut self.servers[at].shard {
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
                let command = claim.command;
                let ask = MetaAsk::Command(Box::new(Command::ClaimShard(claim)));
                self.call(
                    at,
                    Call::Change {
                        shard: key,
                        command,
                    },
                    ask,
                );
            }
            ShardEffect::Command(change) => {
                let command = change.command;
                let ask = MetaAsk::Command(Box::new(Command::ChangeShard(change)));
                self.call(
                    at,
                    Call::Change {
                        shard: key,
                        command,
                    },
                    ask,
                );
            }
            ShardEffect::Query { id, query } => {
                self.call(at, Call::Query { shard: key, id }, MetaAsk::Query(query));
            }
            told => self.shard_tells(at, epoch, told),
        }
    }

    /// What goes to clients and people.
    fn shard_tells(&mut self, at: usize, epoch: Option<Epoch>, effect: ShardEffect) {
        match effect {
            ShardEffect::Tell { stream, told } => {
                self.server_says(stream.get(), Said::Told { told, epoch });
            }
            ShardEffect::CursorDurable { subscription, .. } => {
                if let Some(stream) = self.servers[at].cursors.remove(&subscription)
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
                self.servers[at].cursors.remove(&subscription);
            }
            ShardEffect::Opened { epoch, notes } => self.shard_opened(at, epoch, &notes),
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
            ShardEffect::Over(ended) => self.shard_over(at, &ended),
            ShardEffect::Send { .. }
            | ShardEffect::Run { .. }
            | ShardEffect::Claim(_)
            | ShardEffect::Command(_)
            | ShardEffect::Query { .. } => unreachable!("performed by the caller"),
        }
    }

    fn shard_opened(&mut self, at: usize, epoch: Epoch, notes: &topic::OpeningNotes) {
        self.trace(|| format!("serving-{at} serves epoch={epoch} {notes:?}"));
        if notes.cursors_missing > 0 && !self.swarm.is_beyond {
            self.violation(
                "I28",
                format!("epoch {epoch}: cursors are missing {notes:?}"),
            );
        }
        let serving = |s: &Server| {
            s.shard
                .as_ref()
                .is_some_and(|s| s.shard.owned().is_serving())
        };
        if self.servers.iter().filter(|s| serving(s)).count() > 1 {
            self.marks.hit(Mark::TwoOwners);
        }
    }

    fn shard_over(&mut self, at: usize, ended: &Ended) {
        self.trace(|| format!("serving-{at} over: {ended:?}"));
        match ended {
            Ended::Owner(ledger::Over::Released) => self.marks.hit(Mark::Released),
            Ended::Owner(_) => {}
            Ended::Unusable(problem) => {
                self.violation("open", format!("the logs cannot be used: {problem}"));
            }
        }
        let server = &mut self.servers[at];
        server.shard = None;
        server.cursors.clear();
        server.again.clear();
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
        if !is_sent && !self.servers[at].again.contains(&lost) {
            self.servers[at].again.push_back(lost);
        }
    }

    fn bookie_of(&self, id: BookieId) -> Option<usize> {
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
            self.shard_event(at, ShardEvent::Answer { bookie, answer });
        }
    }

    pub(super) fn run_over(
        &mut self,
        at: usize,
        key: u64,
        tag: u64,
        items: Vec<types::storage::RunItem>,
    ) {
        if !self.serves(at, key) {
            return;
        }
        let Some(serving) = &mut self.servers[at].shard else {
            return;
        };
        let Some(place) = serving.runs.iter().position(|run| *run == tag) else {
            return;
        };
        serving.runs.swap_remove(place);
        self.shard_event(
            at,
            ShardEvent::Run {
                tag,
                items,
                is_last: true,
            },
        );
    }
}
