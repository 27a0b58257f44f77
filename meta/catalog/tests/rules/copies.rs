use types::chain::{Assignment, LedgerRecord, LedgerState, LogKind, Move, Verified, WholeCopy};
use types::cluster::{BookieDuty, BookieRecord};
use types::command::{Answer, COPIES_MAX, Command, Query, Reply};
use types::{BookieId, LedgerId, Problem, Quorum, Reason, SessionId};

use crate::world::{World, blank, end, extend, restarted};

/// A ledger on bookies 1 to 3, closed with ten entries, and a fourth bookie.
struct Closed {
    world: World,
    bookies: Vec<(BookieRecord, SessionId)>,
    ledger: LedgerId,
}

fn closed() -> Closed {
    let (mut world, bookies, view) = open();
    let ledger = view.record.message.tail_id().unwrap();
    world.commit(
        &view,
        extend(LogKind::Message, Some(end(Some(9), 10)), None),
    );
    Closed {
        world,
        bookies,
        ledger,
    }
}

fn open() -> (
    World,
    Vec<(BookieRecord, SessionId)>,
    types::chain::ShardView,
) {
    let mut world = World::new();
    let bookies = ["b1", "b2", "b3", "b4"].map(|name| world.bookie(name));
    let shard = world.topic("orders", Quorum::THREE_TWO);
    let session = world.serving("s1").id;
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, extend(LogKind::Message, None, Some(&[1, 2, 3])));
    (world, bookies.to_vec(), view)
}

impl Closed {
    fn record(&self) -> LedgerRecord {
        match self.world.store.query(&Query::Ledgers(vec![self.ledger])) {
            Ok(Answer::Ledgers(mut found)) => found.pop().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn is_complete(&self) -> bool {
        matches!(
            self.record().state,
            LedgerState::Closed { complete: true, .. }
        )
    }

    fn assign(&mut self, from: u64, to: u64) -> Result<Reply, Problem> {
        self.world.apply(Command::AssignCopy {
            ledger: self.ledger,
            moving: Some(moving(from, to)),
        })
    }

    /// The word of the bookie at this place of `bookies`.
    fn whole(&mut self, place: usize) -> Result<Reply, Problem> {
        let (record, session) = &self.bookies[place];
        let copy = self.record().whole_copy(record.id);
        let word = word(record, *session, vec![copy]);
        self.world.apply(word)
    }
}

fn moving(from: u64, to: u64) -> Move {
    Move {
        from: BookieId::new(from),
        to: BookieId::new(to),
    }
}

fn word(record: &BookieRecord, session: SessionId, copies: Vec<WholeCopy>) -> Command {
    Command::CopiesWhole {
        bookie: record.id,
        session,
        born: record.born,
        copies,
    }
}

fn of_a_member(ledger: LedgerId) -> WholeCopy {
    WholeCopy {
        ledger,
        assignment: None,
    }
}

fn ids(ids: &[u64]) -> Vec<BookieId> {
    ids.iter().copied().map(BookieId::new).collect()
}

#[test]
fn ledger_is_complete_when_every_member_said_so() {
    let mut it = closed();
    for place in 0..3 {
        assert!(!it.is_complete());
        it.whole(place).unwrap();
    }
    assert!(it.is_complete());
    let revision = it.world.store.revision();
    it.whole(1).unwrap();
    assert_eq!(it.world.store.revision(), revision, "again writes nothing");
}

#[test]
fn open_ledger_takes_no_word_and_no_move() {
    let (mut world, bookies, view) = open();
    let ledger = view.record.message.tail_id().unwrap();
    let (record, session) = &bookies[0];
    let before = world.store.revision();
    world
        .apply(word(record, *session, vec![of_a_member(ledger)]))
        .unwrap();
    assert_eq!(world.store.revision(), before);
    let moved = Command::AssignCopy {
        ledger,
        moving: Some(moving(1, 4)),
    };
    assert_eq!(world.apply(moved).unwrap_err().reason, Reason::BadField);
}

#[test]
fn target_takes_the_place_only_with_a_whole_copy() {
    let mut it = closed();
    it.whole(1).unwrap();
    it.assign(1, 4).unwrap();
    assert_eq!(it.record().ensemble, ids(&[1, 2, 3]));
    it.whole(3).unwrap();
    let record = it.record();
    assert_eq!(record.ensemble, ids(&[4, 2, 3]));
    assert_eq!(record.moving, None);
    assert!(record.is_verified(BookieId::new(4), it.bookies[3].0.born));
    assert!(record.is_verified(BookieId::new(2), it.bookies[1].0.born));
    it.whole(0).unwrap();
    assert_eq!(it.record(), record, "who was replaced has no say");
    it.whole(2).unwrap();
    assert!(it.is_complete());
}

#[test]
fn whole_copy_stays_counted_while_it_moves_away() {
    let mut it = closed();
    for place in 0..3 {
        it.whole(place).unwrap();
    }
    it.assign(2, 4).unwrap();
    assert!(it.is_complete());
    it.whole(3).unwrap();
    assert_eq!(it.record().ensemble, ids(&[1, 4, 3]));
    assert!(it.is_complete());
}

#[test]
fn move_is_replaced_and_called_off() {
    let mut it = closed();
    it.world.bookie("b5");
    it.assign(1, 4).unwrap();
    it.assign(2, 5).unwrap();
    let asked = it.record().moving.as_ref().map(Assignment::asked);
    assert_eq!(asked, Some(moving(2, 5)));
    it.whole(3).unwrap();
    assert_eq!(it.record().ensemble, ids(&[1, 2, 3]), "no longer its move");
    let off = Command::AssignCopy {
        ledger: it.ledger,
        moving: None,
    };
    it.world.apply(off).unwrap();
    assert_eq!(it.record().moving, None);
}

#[test]
fn late_word_about_an_earlier_assignment_takes_no_place() {
    let mut it = closed();
    it.assign(1, 4).unwrap();
    let (record, session) = it.bookies[3].clone();
    let early = it.record().whole_copy(record.id);
    let off = Command::AssignCopy {
        ledger: it.ledger,
        moving: None,
    };
    it.world.apply(off).unwrap();
    // Here the copy is given up; then the same place is to be taken again.
    it.assign(1, 4).unwrap();
    let before = it.record();
    for late in [early, of_a_member(it.ledger)] {
        let late = word(&record, session, vec![late]);
        it.world.apply(late).unwrap();
        assert_eq!(it.record(), before);
    }
    it.whole(3).unwrap();
    assert_eq!(it.record().ensemble, ids(&[4, 2, 3]));
}

#[test]
fn copy_moves_only_from_a_member_to_a_registered_bookie_that_has_none() {
    let mut it = closed();
    for (from, to, field) in [(4, 4, "from"), (1, 2, "to"), (1, 1, "to"), (1, 9, "to")] {
        let problem = it.assign(from, to).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some(field), "{from} to {to}");
    }
}

#[test]
fn word_of_an_older_birth_or_of_another_process_is_refused() {
    let mut it = closed();
    let (old, first) = it.bookies[0].clone();
    it.world.expire(first);
    let second = it.world.open(types::cluster::NodeRole::Bookie, "b1").id;
    let reborn = it.world.register(blank("b1"), second).unwrap();
    assert!(reborn.born > old.born);
    for (record, session) in [(&old, first), (&old, second), (&reborn, first)] {
        let said = word(record, session, vec![of_a_member(it.ledger)]);
        let problem = it.world.apply(said).unwrap_err();
        assert_eq!(problem.reason, Reason::SessionUnknown);
    }
    it.bookies[0] = (reborn, second);
    it.whole(0).unwrap();
}

#[test]
fn newer_birth_takes_the_place_of_an_older_ones_word() {
    let mut it = closed();
    it.whole(0).unwrap();
    let (_, first) = it.bookies[0];
    it.world.expire(first);
    let session = it.world.open(types::cluster::NodeRole::Bookie, "b1").id;
    let record = it.world.register(blank("b1"), session).unwrap();
    let born = record.born;
    it.bookies[0] = (record, session);
    assert!(!it.record().is_verified(BookieId::new(1), born));
    it.whole(0).unwrap();
    let bookie = BookieId::new(1);
    assert_eq!(it.record().verified, [Verified { bookie, born }]);
}

#[test]
fn too_many_ledgers_at_once_are_refused() {
    let mut it = closed();
    let (record, session) = it.bookies[0].clone();
    let log = it.ledger.log();
    let many = (0..=u32::try_from(COPIES_MAX).unwrap())
        .map(|seq| of_a_member(LedgerId::new(log, types::LedgerSeq::new(seq))))
        .collect();
    let problem = it.world.apply(word(&record, session, many)).unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("copies"));
}

#[test]
fn draining_outlives_a_restart_and_is_taken_back() {
    let mut world = World::new();
    let (record, session) = world.bookie("b1");
    let drain = |draining| Command::DrainBookie {
        id: record.id,
        draining,
    };
    world.apply(drain(true)).unwrap();
    world.expire(session);
    let session = world.open(types::cluster::NodeRole::Bookie, "b1").id;
    let again = world.register(restarted(&record), session).unwrap();
    assert_eq!(again.duty, BookieDuty::Draining);
    assert!(!again.takes_ledgers());
    world.apply(drain(false)).unwrap();
    let Ok(Answer::Bookies(bookies)) = world.store.query(&Query::Bookies) else {
        panic!("the query must answer");
    };
    assert!(bookies[0].takes_ledgers());
}

#[test]
fn only_a_drained_bookie_is_retired_and_its_name_is_used_up() {
    let mut world = World::new();
    let (record, session) = world.bookie("b1");
    let id = record.id;
    let retire = Command::RetireBookie { id };
    let early = world.apply(retire.clone()).unwrap_err();
    assert!(early.message.contains("drain it first"), "{early}");
    let drain = |draining| Command::DrainBookie { id, draining };
    world.apply(drain(true)).unwrap();
    world.apply(retire.clone()).unwrap();
    world.apply(retire).unwrap();
    let back = world.apply(drain(false)).unwrap_err();
    assert_eq!(back.reason, Reason::WrongNode);
    world.expire(session);
    let session = world.open(types::cluster::NodeRole::Bookie, "b1").id;
    for claim in [restarted(&record), blank("b1")] {
        let refused = world.register(claim, session).unwrap_err();
        assert_eq!(refused.reason, Reason::WrongNode);
        assert!(refused.message.contains("--name"), "{refused}");
    }
}
