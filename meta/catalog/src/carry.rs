//! Records on their way from one store to another, and what of them must not be told anew.
//!
//! In its new store every record has a new version. Two revisions are remembered elsewhere and are carried over in the
//! record itself: when a ledger was made, and a bookie's birth, which bookies compare with each other and keep on their
//! disks.
//!
//! A *move* goes on where the old store ended: nothing else changes. A *restore* may forget what came after its image.
//! What that history gave away must not be given again, so all that is numbered goes on far above; and what it said of
//! copies is not believed.

use types::chain::{EPOCHS_OF_RESTORE, LedgerState};
use types::{
    BookieId, Epoch, LogId, NodeId, Revision, SessionId, ShardId, SubscriptionId, TopicId,
};

use crate::{Counters, Key, LedgerBody, Record, Versioned};

/// How far a restore raises each counter, and the revision.
const NUMBERS_OF_RESTORE: u64 = 1 << 40;

/// How records come from one store to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// The old store ended with the image, and the new one goes on from there.
    Move,
    /// There may have been changes after the image; they are forgotten.
    Restore,
}

impl Passage {
    /// The revision that all of the new store's are above, when the image was taken at this one.
    pub const fn base(self, taken: Revision) -> Revision {
        match self {
            Self::Move => taken,
            Self::Restore => Revision::new(taken.get().saturating_add(NUMBERS_OF_RESTORE)),
        }
    }
}

/// A record as the new store keeps it.
pub fn carry(key: &Key, found: Versioned, passage: Passage) -> Record {
    let birth = found.birth();
    match (key, found.record) {
        (Key::Birth(_), _) => Record::BornAt(birth),
        (_, Record::Ledger(body)) => {
            let created = Some(body.created.unwrap_or(found.created));
            let body = LedgerBody { created, ..body };
            Record::Ledger(match passage {
                Passage::Move => body,
                Passage::Restore => doubt(body),
            })
        }
        (_, Record::Shard(mut shard)) if passage == Passage::Restore => {
            shard.epoch = raise_epoch(shard.epoch);
            Record::Shard(shard)
        }
        (_, Record::Counters(counters)) if passage == Passage::Restore => {
            Record::Counters(raise(counters))
        }
        (_, record) => record,
    }
}

/// Copies may have moved since the image: all of them are looked at again.
fn doubt(body: LedgerBody) -> LedgerBody {
    let state = match body.state {
        LedgerState::Open => LedgerState::Open,
        LedgerState::Recovering { epoch } => LedgerState::Recovering {
            epoch: raise_epoch(epoch),
        },
        LedgerState::Closed { last, .. } => LedgerState::Closed {
            last,
            complete: false,
        },
    };
    LedgerBody {
        state,
        verified: Vec::new(),
        moving: None,
        ..body
    }
}

/// Above all epochs of the history that is forgotten; the part above [`EPOCHS_OF_RESTORE`] counts restores.
const fn raise_epoch(epoch: Epoch) -> Epoch {
    Epoch::new(epoch.get().saturating_add(EPOCHS_OF_RESTORE))
}

fn raise(counters: Counters) -> Counters {
    let above = |number: u64| number.saturating_add(NUMBERS_OF_RESTORE);
    Counters {
        log: LogId::new(above(counters.log.get())),
        topic: TopicId::new(above(counters.topic.get())),
        shard: ShardId::new(above(counters.shard.get())),
        subscription: SubscriptionId::new(above(counters.subscription.get())),
        node: NodeId::new(above(counters.node.get())),
        bookie: BookieId::new(above(counters.bookie.get())),
        session: SessionId::new(above(counters.session.get())),
    }
}

#[cfg(test)]
mod tests {
    use types::chain::{Assignment, Chain, LogKind, ShardRecord, Verified};
    use types::{LedgerId, LedgerSeq, Quorum};

    use super::*;

    fn found(record: Record, created: u64, modified: u64) -> Versioned {
        Versioned {
            record,
            created: Revision::new(created),
            modified: Revision::new(modified),
        }
    }

    fn ledger(state: LedgerState) -> (Key, LedgerBody) {
        let id = LedgerId::new(LogId::new(1), LedgerSeq::new(4));
        let body = LedgerBody::tail(vec![BookieId::new(1)], Quorum::ONE, state);
        (Key::Ledger(id), body)
    }

    #[test]
    fn births_and_makings_of_ledgers_survive_any_number_of_passages() {
        let birth = Key::Birth(BookieId::new(1));
        let (key, body) = ledger(LedgerState::Open);
        for passage in [Passage::Move, Passage::Restore] {
            let mut born = found(Record::Birth, 3, 9);
            let mut made = found(Record::Ledger(body.clone()), 5, 7);
            for again in 100..103 {
                born = found(carry(&birth, born, passage), again, again);
                made = found(carry(&key, made, passage), again, again);
                assert_eq!(born.birth(), Revision::new(9));
                let Record::Ledger(body) = &made.record else {
                    panic!("a ledger stays one");
                };
                assert_eq!(body.created, Some(Revision::new(5)));
            }
        }
    }

    #[test]
    fn a_move_changes_nothing_else_and_a_restore_believes_no_copy() {
        let closed = LedgerState::Closed {
            last: None,
            complete: true,
        };
        let (key, body) = ledger(closed);
        let body = LedgerBody {
            verified: vec![Verified {
                bookie: BookieId::new(1),
                born: Revision::new(2),
            }],
            moving: Some(Assignment {
                from: BookieId::new(1),
                to: BookieId::new(2),
                number: Revision::new(3),
            }),
            ..body
        };
        let there = found(Record::Ledger(body.clone()), 5, 7);
        let created = Some(Revision::new(5));
        let moved = LedgerBody { created, ..body };
        assert_eq!(
            carry(&key, there.clone(), Passage::Move),
            Record::Ledger(moved)
        );
        let Record::Ledger(restored) = carry(&key, there, Passage::Restore) else {
            panic!("a ledger stays one");
        };
        let looked_at_anew = LedgerState::Closed {
            last: None,
            complete: false,
        };
        assert_eq!(restored.state, looked_at_anew);
        assert!(restored.verified.is_empty() && restored.moving.is_none());
    }

    /// Bookies may hold ledgers that the image does not know: none of their numbers is given again.
    #[test]
    fn a_restore_gives_no_number_and_no_epoch_of_the_forgotten_history() {
        let chain = |log| Chain {
            first: LedgerSeq::new(7),
            ..Chain::empty(LogId::new(log))
        };
        let shard = ShardRecord {
            id: ShardId::new(1),
            topic: TopicId::new(1),
            quorum: Quorum::ONE,
            epoch: Epoch::new(5),
            owner: None,
            last_command: None,
            message: chain(1),
            state: chain(2),
            is_deleted: false,
        };
        let key = Key::Shard(shard.id);
        assert_eq!(shard.next_seq(LogKind::Message), LedgerSeq::new(7));
        let mut last = shard.clone();
        for _ in 0..3 {
            let there = found(Record::Shard(last.clone()), 1, 1);
            let Record::Shard(restored) = carry(&key, there, Passage::Restore) else {
                panic!("a shard stays one");
            };
            assert!(restored.epoch.get() >= last.epoch.get() + EPOCHS_OF_RESTORE);
            let (new, old) = (
                restored.next_seq(LogKind::State),
                last.next_seq(LogKind::State),
            );
            assert!(new.get() >= old.get() + (1 << 20) - 7, "{old} {new}");
            last = restored;
        }
        let there = found(Record::Counters(Counters::FIRST), 1, 1);
        let Record::Counters(raised) = carry(&Key::Counters, there, Passage::Restore) else {
            panic!("counters stay counters");
        };
        assert!(raised.topic.get() > 1 << 40 && raised.session.get() > 1 << 40);
        let there = found(Record::Shard(shard.clone()), 1, 1);
        assert_eq!(carry(&key, there, Passage::Move), Record::Shard(shard));
    }
}
