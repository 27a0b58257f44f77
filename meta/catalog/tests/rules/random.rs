//! Any mix of commands, delayed, repeated, lost and planned again, keeps every rule.

use catalog::{Commit, Key, MemStore, Planned, Record, Versioned, check, check_step};
use proptest::prelude::*;
use types::chain::{
    Claim, LinkEnd, LogKind, Move, ShardChange, ShardCommand, ShardOutcome, ShardView, WholeCopy,
};
use types::cluster::{BookieClaim, BookieRecord, BookieState, NodeRole};
use types::command::{Answer, Command, Query, Reply};
use types::topic::Retention;
use types::{
    BookieId, ClusterId, CommandId, EntryId, Incarnation, LedgerId, LedgerSeq, Offset, Quorum,
    Revision, SessionId, ShardId, TopicId, TopicName,
};

use crate::world::{AT, opening};

/// One thing that happens. Numbers are reduced to what is there.
#[derive(Debug, Clone)]
enum Step {
    Open {
        bookie: bool,
        node: u8,
        repeat: bool,
    },
    Lease {
        session: u8,
        how: u8,
    },
    Register {
        bookie: u8,
        session: u8,
        lost: u8,
    },
    Report {
        bookie: u8,
        session: u8,
        mark: u8,
    },
    Topic {
        name: u8,
        how: u8,
    },
    Sweep {
        shard: u8,
    },
    Claim {
        shard: u8,
        session: u8,
        repeat: bool,
    },
    Change {
        shard: u8,
        stale: u8,
        what: u8,
        last: u8,
    },
    AcceptLoss {
        shard: u8,
        state: bool,
        more: u8,
    },
    Assign {
        ledger: u8,
        from: u8,
        to: u8,
    },
    Whole {
        ledger: u8,
        bookie: u8,
        older: bool,
    },
    /// Carries out a commit that was planned earlier, if it still holds.
    Land {
        which: u8,
    },
}

fn step() -> impl Strategy<Value = (Step, bool)> {
    let b = any::<u8>;
    let step = prop_oneof![
        2 => (any::<bool>(), b(), any::<bool>())
            .prop_map(|(bookie, node, repeat)| Step::Open { bookie, node, repeat }),
        2 => (b(), b()).prop_map(|(session, how)| Step::Lease { session, how }),
        2 => (b(), b(), b())
            .prop_map(|(bookie, session, lost)| Step::Register { bookie, session, lost }),
        1 => (b(), b(), b())
            .prop_map(|(bookie, session, mark)| Step::Report { bookie, session, mark }),
        2 => (b(), b()).prop_map(|(name, how)| Step::Topic { name, how }),
        1 => b().prop_map(|shard| Step::Sweep { shard }),
        4 => (b(), b(), any::<bool>())
            .prop_map(|(shard, session, repeat)| Step::Claim { shard, session, repeat }),
        8 => (b(), b(), b(), b())
            .prop_map(|(shard, stale, what, last)| Step::Change { shard, stale, what, last }),
        1 => (b(), any::<bool>(), b())
            .prop_map(|(shard, state, more)| Step::AcceptLoss { shard, state, more }),
        2 => (b(), b(), b())
            .prop_map(|(ledger, from, to)| Step::Assign { ledger, from, to }),
        4 => (b(), b(), prop::bool::weighted(0.2))
            .prop_map(|(ledger, bookie, older)| Step::Whole { ledger, bookie, older }),
        4 => b().prop_map(|which| Step::Land { which }),
    ];
    // Every fourth command is delayed between planning and committing.
    (step, prop::bool::weighted(0.25))
}

struct Run {
    store: MemStore,
    delayed: Vec<(Command, Box<Commit>)>,
    /// Every view an owner ever saw: commands are planned on any of them.
    views: Vec<ShardView>,
    /// The commands that landed, by id: none lands twice.
    landed: Vec<CommandId>,
    bookies: Vec<BookieRecord>,
    commands: u128,
}

impl Run {
    fn new() -> Self {
        let mut run = Self {
            store: MemStore::new(),
            delayed: Vec::new(),
            views: Vec::new(),
            landed: Vec::new(),
            bookies: Vec::new(),
            commands: 100,
        };
        run.apply(Command::Bootstrap {
            cluster: ClusterId::new(1),
            at: AT,
        });
        run
    }

    fn id(&mut self, repeat: bool) -> CommandId {
        self.commands += u128::from(!repeat);
        CommandId::new(self.commands)
    }

    fn apply(&mut self, command: Command) {
        let (reply, _) = self.store.execute(&command);
        self.note(&command, reply.ok());
    }

    fn note(&mut self, command: &Command, reply: Option<Reply>) {
        match (command, reply) {
            (Command::ChangeShard(command), Some(Reply::Shard(ShardOutcome::Committed(view)))) => {
                assert!(
                    !self.landed.contains(&command.command),
                    "{command:?} landed twice"
                );
                assert!(view.version > command.planned_on);
                self.landed.push(command.command);
                self.views.push(view);
            }
            (
                _,
                Some(Reply::Shard(ShardOutcome::Committed(view) | ShardOutcome::Conflict(view))),
            ) => self.views.push(view),
            (_, Some(Reply::Bookie(record))) => self.bookies.push(record),
            _ => {}
        }
    }

    fn command(&mut self, step: &Step) -> Option<Command> {
        Some(match *step {
            Step::Open {
                bookie,
                node,
                repeat,
            } => {
                let role = if bookie {
                    NodeRole::Bookie
                } else {
                    NodeRole::Serving
                };
                let id = self.id(repeat);
                opening(role, ["a", "b", "c"][usize::from(node % 3)], id)
            }
            Step::Lease { session: s, how } => match how % 4 {
                0 => Command::EndSession {
                    session: session(s),
                },
                1 => Command::ReviveSession {
                    session: session(s),
                },
                _ => Command::ExpireSession {
                    session: session(s),
                },
            },
            Step::Register {
                bookie,
                session: s,
                lost,
            } => Command::RegisterBookie {
                claim: self.bookie_claim(bookie, lost),
                session: session(s),
            },
            Step::Report {
                bookie,
                session: s,
                mark,
            } => Command::ReportBookie {
                id: BookieId::new(u64::from(bookie % 3) + 1),
                session: session(s),
                mark: mark.into(),
                state: BookieState::ReadWrite,
            },
            Step::Topic { name, how } => return self.topic(name, how),
            Step::Sweep { shard } => Command::SweepShard {
                shard: ShardId::new(u64::from(shard % 3) + 1),
            },
            Step::Claim {
                shard,
                session: s,
                repeat,
            } => Command::ClaimShard(Claim {
                shard: ShardId::new(u64::from(shard % 3) + 1),
                session: session(s),
                command: self.id(repeat),
            }),
            Step::Change {
                shard,
                stale,
                what,
                last,
            } => {
                return self.change(shard, stale, what, last);
            }
            Step::AcceptLoss { shard, state, more } => return self.loss(shard, state, more),
            Step::Assign { .. } | Step::Whole { .. } => return self.copies(step),
            Step::Land { .. } => return None,
        })
    }

    /// A command on the copies of some ledger.
    fn copies(&self, step: &Step) -> Option<Command> {
        Some(match *step {
            Step::Assign { ledger, from, to } => Command::AssignCopy {
                ledger: self.ledger(ledger)?,
                moving: (to % 8 > 0).then(|| Move {
                    from: BookieId::new(u64::from(from % 3) + 1),
                    to: BookieId::new(u64::from(to % 3) + 1),
                }),
            },
            Step::Whole {
                ledger,
                bookie,
                older,
            } => {
                let id = BookieId::new(u64::from(bookie % 3) + 1);
                let mut known = self.bookies.iter().filter(|record| record.id == id);
                let record = if older {
                    known.next()
                } else {
                    known.next_back()
                }?;
                Command::CopiesWhole {
                    bookie: id,
                    session: record.session,
                    born: record.born,
                    copies: vec![self.copy(self.ledger(ledger)?, id)],
                }
            }
            _ => return None,
        })
    }

    /// The copy of a ledger that a bookie has looked at just now.
    fn copy(&self, ledger: LedgerId, bookie: BookieId) -> WholeCopy {
        let moving = match self.store.image().get(&Key::Ledger(ledger)) {
            Some(Versioned {
                record: Record::Ledger(body),
                ..
            }) => body.moving,
            _ => None,
        };
        let here = moving.filter(|assigned| assigned.to == bookie);
        WholeCopy {
            ledger,
            assignment: here.map(|assigned| assigned.number),
        }
    }

    /// One of the ledgers there are.
    fn ledger(&self, which: u8) -> Option<LedgerId> {
        let ledgers = self.store.image().keys().filter_map(|key| match key {
            Key::Ledger(id) => Some(*id),
            _ => None,
        });
        let ledgers: Vec<LedgerId> = ledgers.collect();
        let at = usize::from(which).checked_rem(ledgers.len())?;
        Some(ledgers[at])
    }

    fn topic(&self, name: u8, how: u8) -> Option<Command> {
        let name: TopicName = ["x", "y"][usize::from(name % 2)].parse().unwrap();
        match how % 4 {
            0 => Some(Command::UpdateTopic {
                name,
                retention: Retention::FOREVER,
            }),
            1 => self.delete(name, how),
            _ => Some(Command::CreateTopic {
                name,
                quorum: Quorum::ONE,
                retention: Retention::DEFAULT,
                at: AT,
            }),
        }
    }

    /// A deletion by the owner, or by another session.
    fn delete(&self, name: TopicName, how: u8) -> Option<Command> {
        let Ok(Answer::Topic(Some(topic))) = self.store.query(&Query::Topic(name.clone())) else {
            return None;
        };
        let record = self.view(topic.shards[0])?.record;
        let owner = record.owner;
        let other = session(how);
        let is_stale = how >= 224;
        Some(Command::DeleteTopic {
            name,
            id: if is_stale {
                TopicId::new(topic.id.get() + 1)
            } else {
                topic.id
            },
            session: owner.filter(|_| how < 192).unwrap_or(other),
            epoch: record.epoch,
        })
    }

    fn loss(&self, shard: u8, state: bool, more: u8) -> Option<Command> {
        let view = self.view(ShardId::new(u64::from(shard % 2) + 1))?;
        let kind = LogKind::BOTH[usize::from(state)];
        let link = view.record.chain(kind).tail()?;
        Some(Command::AcceptLoss {
            ledger: view.record.chain(kind).tail_id()?,
            last: (more > 0).then_some(EntryId::new(more.into())),
            next_offset: link.first_offset.plus(more.into()),
            reason: "test".to_owned(),
            at: AT,
        })
    }

    fn bookie_claim(&self, bookie: u8, lost: u8) -> BookieClaim {
        let name = ["a", "b", "c"][usize::from(bookie % 3)];
        let known = self.bookies.iter().rev().find(|r| r.name.as_str() == name);
        let mut claim = known.map_or_else(|| crate::world::blank(name), crate::world::restarted);
        match lost % 6 {
            0 => claim = crate::world::blank(name),
            1 => claim.damaged = true,
            2 => claim.incarnation = Incarnation::new(1),
            3 => claim.born = Some(Revision::new(2)),
            _ => {}
        }
        claim
    }

    fn view(&self, shard: ShardId) -> Option<ShardView> {
        match self.store.query(&Query::Shard(shard)) {
            Ok(Answer::Shard(view, _)) => view,
            other => panic!("{other:?}"),
        }
    }

    /// A change that makes sense on some view, which may be an old one.
    fn change(&mut self, shard: u8, stale: u8, what: u8, last: u8) -> Option<Command> {
        let present = self.view(ShardId::new(u64::from(shard % 3) + 1));
        let view = match stale % 4 {
            0 if !self.views.is_empty() => {
                self.views[usize::from(stale) % self.views.len()].clone()
            }
            _ => present?,
        };
        let end = |kind: LogKind| {
            view.record.chain(kind).tail().map(|link| LinkEnd {
                last: (last > 0).then_some(EntryId::new(last.into())),
                next_offset: Offset::new(link.first_offset.get() + u64::from(last)),
            })
        };
        let kind = LogKind::BOTH[usize::from(what % 2)];
        let bookie = BookieId::new(u64::from(last % 3) + 1);
        let change = match what % 10 {
            0..=2 => ShardChange::CloseRecovered {
                message: end(LogKind::Message),
                state: end(LogKind::State),
            },
            3..=5 => ShardChange::Extend {
                log: kind,
                close: end(kind),
                successor: Some(vec![bookie]),
            },
            6 => ShardChange::Extend {
                log: kind,
                close: end(kind),
                successor: None,
            },
            7 | 8 => ShardChange::Trim {
                log: kind,
                first: LedgerSeq::new(view.record.chain(kind).first.get() + u32::from(last % 4)),
            },
            _ => ShardChange::Release,
        };
        Some(Command::ChangeShard(ShardCommand {
            shard: view.record.id,
            epoch: view.record.epoch,
            command: self.id(false),
            planned_on: view.version,
            change,
        }))
    }

    fn take(&mut self, step: &Step, delay: bool) {
        if let Step::Land { which } = step {
            if self.delayed.is_empty() {
                return;
            }
            let at = usize::from(*which) % self.delayed.len();
            let (command, commit) = self.delayed.swap_remove(at);
            // A conflict is planned again; so is, now and then, what had landed: a repeated request.
            match self.store.commit(*commit) {
                Ok(committed) => {
                    self.note(&command, Some(committed.reply));
                    if which % 2 == 0 {
                        self.apply(command);
                    }
                }
                Err(_) => self.apply(command),
            }
            return;
        }
        let Some(command) = self.command(step) else {
            return;
        };
        match self.store.plan(&command) {
            Planned::Write(commit) if delay => self.delayed.push((command, commit)),
            _ => self.apply(command),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_rules(steps in prop::collection::vec(step(), 1..120)) {
        let mut run = Run::new();
        for (step, delay) in &steps {
            let before = run.store.clone();
            run.take(step, *delay);
            let mut violations = check(run.store.image());
            violations.extend(check_step(before.image(), run.store.image()));
            prop_assert_eq!(&violations, &[], "after {:?}", step);
        }
    }
}

fn session(number: u8) -> SessionId {
    SessionId::new(u64::from(number % 10) + 1)
}
