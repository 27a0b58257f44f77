//! What goes on in a store whose records were carried over from another one.

use catalog::{MemStore, Passage, Write, carry, check};
use types::chain::{LedgerState, LogKind, ShardChange, ShardOutcome};
use types::cluster::NodeRole;
use types::{LedgerSeq, Quorum, Reason};

use crate::world::{World, end, extend, restarted, state_of};

use LogKind::Message;

impl World {
    /// The same cluster on a new store, whose revisions are above the old one's.
    fn carried(&mut self, passage: Passage) {
        let mut store = MemStore::new();
        let all = |puts| Write {
            conditions: Vec::new(),
            puts,
            removes: Vec::new(),
            changes: Vec::new(),
        };
        while store.revision() < self.store.revision() {
            store.write(all(Vec::new())).unwrap();
        }
        let puts = self.store.image().iter();
        let puts = puts.map(|(key, found)| (key.clone(), carry(key, found.clone(), passage)));
        store.write(all(puts.collect())).unwrap();
        assert_eq!(check(store.image()), []);
        self.store = store;
    }
}

#[test]
fn an_owner_goes_on_after_a_move_with_the_record_that_it_is_told() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, extend(Message, None, Some(&[1])));
    world.carried(Passage::Move);
    let roll = extend(Message, Some(end(Some(4), 12)), Some(&[1]));
    let Ok(ShardOutcome::Conflict(now)) = world.change(&view, roll.clone()) else {
        panic!("its version is one of the old store");
    };
    assert_eq!(now.record, view.record);
    assert_eq!(now.tails, view.tails);
    let next = world.commit(&now, roll);
    assert_eq!(next.record.owner, Some(session));
    assert_eq!(next.record.message.links[1].seq, LedgerSeq::new(1));
    assert!(next.tail(Message).unwrap().created > view.version);
    // A claim keeps when a ledger was made, too.
    world.carried(Passage::Move);
    let claimed = world.claim(shard, session).unwrap();
    let made = |view: &types::chain::ShardView| view.tail(Message).unwrap().created;
    assert_eq!(made(&claimed), made(&next));
}

#[test]
fn a_bookie_whose_record_was_carried_keeps_its_birth_and_a_lost_disk_gets_a_later_one() {
    for passage in [Passage::Move, Passage::Restore] {
        let mut world = World::new();
        let (record, _) = world.bookie("b1");
        world.carried(passage);
        let session = world.open(NodeRole::Bookie, "b1").id;
        let again = world.register(restarted(&record), session).unwrap();
        assert_eq!(again.born, record.born);
        let mut lost = restarted(&again);
        lost.damaged = true;
        let session = world.open(NodeRole::Bookie, "b1").id;
        let reborn = world.register(lost, session).unwrap();
        assert!(reborn.born > record.born, "{passage:?}");
        assert_eq!(reborn.born, world.store.revision());
    }
}

#[test]
fn after_a_restore_no_ledger_epoch_or_session_of_the_forgotten_time_comes_again() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, extend(Message, None, Some(&[1])));
    let made = view.tail(Message).unwrap().created;
    world.carried(Passage::Restore);
    // The owner of then has no say, and its lease is waited for.
    let late = world.change(&view, extend(Message, Some(end(None, 0)), None));
    assert!(matches!(late, Ok(ShardOutcome::Conflict(_))), "{late:?}");
    let next = world.serving("s2").id;
    assert!(next.get() > 1 << 40);
    let problem = world.claim(shard, next).unwrap_err();
    assert_eq!(problem.reason, Reason::OwnerAlive);
    world.expire(session);
    let view = world.claim(shard, next).unwrap();
    let epoch = view.record.epoch;
    assert!(epoch.get() > 1 << 32);
    assert_eq!(
        state_of(&view, Message),
        Some(LedgerState::Recovering { epoch })
    );
    assert_eq!(view.tail(Message).unwrap().created, made);
    let recovered = ShardChange::CloseRecovered {
        message: Some(end(Some(9), 10)),
        state: None,
    };
    let view = world.commit(&view, recovered);
    let view = world.commit(&view, extend(Message, None, Some(&[1])));
    let tail = view.tail(Message).unwrap();
    assert_eq!(tail.id.seq(), LedgerSeq::new(1 << 20));
    assert!(tail.created > made);
    // And once there, one follows the other as ever.
    let view = world.commit(&view, extend(Message, Some(end(None, 10)), Some(&[1])));
    let tail = view.tail(Message).unwrap();
    assert_eq!(tail.id.seq(), LedgerSeq::new((1 << 20) + 1));
    assert!(world.topic("other", Quorum::ONE).get() > 1 << 40);
}
