//! The auditor against the catalog's own store: no disk, no clock, no wire.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catalog::{Key, MemStore, check, check_step};
use host::Rng;
use types::chain::{
    Claim, LedgerRecord, LedgerState, LinkEnd, LogKind, ShardChange, ShardCommand, ShardOutcome,
    ShardView,
};
use types::cluster::{BookieClaim, BookieRecord, BookieState, NodeRole};
use types::command::{Answer, COPIES_MAX, Command, Query, Reply};
use types::repair::BeyondWhy;
use types::{
    BookieId, ClusterId, CommandId, EntryId, Incarnation, LedgerId, MonoTime, Offset, Quorum,
    SessionId, WallTime,
};

use super::core::{Findings, Memory};

const GRACE: Duration = Duration::from_secs(300);
const AT: WallTime = WallTime::from_nanos(1);

/// A cluster: the records, and what the bookies' disks really hold.
struct World {
    store: MemStore,
    memory: Memory,
    now: MonoTime,
    commands: u128,
    /// Copies that are whole on a disk.
    disks: BTreeSet<(BookieId, LedgerId)>,
    moves: usize,
    /// How many failure domains there are; bookies are in them in turn.
    zones: u64,
}

impl World {
    /// Some bookies, and ledgers of three copies that are closed with ten entries, whole on every disk.
    fn new(bookies: u64, ledgers: usize) -> Self {
        Self::in_zones(0, bookies, ledgers)
    }

    /// The same, with the bookies in so many failure domains in turn.
    fn in_zones(zones: u64, bookies: u64, ledgers: usize) -> Self {
        let mut world = Self {
            store: MemStore::new(),
            memory: Memory::default(),
            now: MonoTime::ZERO,
            commands: 0,
            disks: BTreeSet::new(),
            moves: 32,
            zones,
        };
        world.apply(Command::Bootstrap {
            cluster: ClusterId::new(1),
            at: AT,
        });
        for id in 1..=bookies {
            world.start(BookieId::new(id), true);
        }
        world.close_ledgers(ledgers);
        world
    }

    /// Closes ledgers of one topic, on three bookies each, in turn.
    fn close_ledgers(&mut self, count: usize) {
        let topic = self.apply(Command::CreateTopic {
            name: "orders".parse().unwrap(),
            quorum: Quorum::THREE_TWO,
            retention: types::topic::Retention::DEFAULT,
            at: AT,
        });
        let Reply::Topic(topic) = topic else {
            panic!("a topic is made");
        };
        let session = self.session(NodeRole::Serving, "s1");
        let command = self.id();
        let mut view = self.shard(Command::ClaimShard(Claim {
            shard: topic.shards[0],
            session,
            command,
        }));
        let bookies = self.bookies();
        for turn in 0..count {
            let members = (0..3).map(|place| bookies[(turn + place) % bookies.len()].id);
            let members: Vec<BookieId> = members.collect();
            view = self.extend(&view, None, Some(members.clone()));
            let ledger = view.record.message.tail_id().unwrap();
            let last = EntryId::new(9);
            let next_offset =
                Offset::new(view.record.message.tail().unwrap().first_offset.get() + 10);
            let end = LinkEnd {
                last: Some(last),
                next_offset,
            };
            view = self.extend(&view, Some(end), None);
            self.disks
                .extend(members.into_iter().map(|id| (id, ledger)));
        }
    }

    fn extend(
        &mut self,
        view: &ShardView,
        close: Option<LinkEnd>,
        successor: Option<Vec<BookieId>>,
    ) -> ShardView {
        let command = ShardCommand {
            shard: view.record.id,
            epoch: view.record.epoch,
            command: self.id(),
            planned_on: view.version,
            change: ShardChange::Extend {
                log: LogKind::Message,
                close,
                successor,
            },
        };
        self.shard(Command::ChangeShard(command))
    }

    fn shard(&mut self, command: Command) -> ShardView {
        match self.apply(command) {
            Reply::Shard(ShardOutcome::Committed(view)) => view,
            other => panic!("{other:?}"),
        }
    }

    fn id(&mut self) -> CommandId {
        self.commands += 1;
        CommandId::new(self.commands)
    }

    fn session(&mut self, role: NodeRole, name: &str) -> SessionId {
        let command = self.id();
        match self.apply(Command::OpenSession {
            role,
            name: name.parse().unwrap(),
            address: format!("{name}:1"),
            endpoint: String::new(),
            lease: Duration::from_secs(2),
            command,
        }) {
            Reply::Session(session) => session.id,
            other => panic!("{other:?}"),
        }
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.execute(&command).unwrap()
    }

    /// Carries a command out. Whatever it is, the records keep their rules, and no ledger that had a copy on a disk of
    /// its ensemble has fewer such copies after (I26).
    fn execute(&mut self, command: &Command) -> Result<Reply, types::Problem> {
        let before = self.store.clone();
        let copies = self.copies();
        let reply = self.store.apply(command);
        let mut violations = check(self.store.image());
        violations.extend(check_step(before.image(), self.store.image()));
        assert_eq!(violations, [], "after {command:?}");
        for (ledger, count) in self.copies() {
            assert!(
                copies.get(&ledger).is_none_or(|had| *had <= count),
                "{ledger} lost a copy by {command:?}"
            );
        }
        reply
    }

    /// How many bookies that a ledger names hold it whole.
    fn copies(&self) -> BTreeMap<LedgerId, usize> {
        let holds = |it: &LedgerRecord| {
            let members = it.ensemble.iter();
            members
                .filter(|id| self.disks.contains(&(**id, it.id)))
                .count()
        };
        self.ledgers().iter().map(|it| (it.id, holds(it))).collect()
    }

    fn ledgers(&self) -> Vec<LedgerRecord> {
        let ids = self.store.image().keys().filter_map(|key| match key {
            Key::Ledger(id) => Some(*id),
            _ => None,
        });
        match self.store.query(&Query::Ledgers(ids.collect())) {
            Ok(Answer::Ledgers(ledgers)) => ledgers,
            other => panic!("{other:?}"),
        }
    }

    fn bookies(&self) -> Vec<BookieRecord> {
        match self.store.query(&Query::Bookies) {
            Ok(Answer::Bookies(bookies)) => bookies,
            other => panic!("{other:?}"),
        }
    }

    fn bookie(&self, id: BookieId) -> Option<BookieRecord> {
        self.bookies().into_iter().find(|bookie| bookie.id == id)
    }

    /// Starts a bookie, on its disk or on a blank one.
    fn start(&mut self, id: BookieId, is_blank: bool) {
        let name = format!("b{id}");
        if let Some(known) = self.bookie(id) {
            self.stop(known.id);
        }
        let session = self.session(NodeRole::Bookie, &name);
        let known = self.bookie(id).filter(|_| !is_blank);
        let claim = BookieClaim {
            zone: (self.zones > 0).then(|| format!("z{}", id.get() % self.zones).parse().unwrap()),
            name: name.parse().unwrap(),
            address: format!("{name}:1"),
            id: known.as_ref().map(|it| it.id),
            born: known.as_ref().map(|it| it.born),
            incarnation: known.map_or(Incarnation::new(1), |it| it.incarnation.next()),
            mark: 0,
            damaged: false,
        };
        if is_blank {
            self.disks.retain(|(bookie, _)| *bookie != id);
        }
        self.apply(Command::RegisterBookie { claim, session });
    }

    fn stop(&mut self, id: BookieId) {
        let bookie = self.bookie(id).unwrap();
        let session = bookie.session;
        if bookie.live {
            self.apply(Command::EndSession { session });
        }
    }

    /// A bookie has no room any more.
    fn fill(&mut self, id: BookieId) {
        let bookie = self.bookie(id).unwrap();
        self.apply(Command::ReportBookie {
            id,
            session: bookie.session,
            state: BookieState::ReadOnly,
            mark: 0,
        });
    }

    fn look(&mut self) -> Findings {
        let bookies = self.bookies();
        let mut look = self.memory.look(self.now, GRACE, &bookies);
        for ledger in self.ledgers() {
            look.ledger(&ledger);
        }
        look.finish(self.moves)
    }

    /// A look, and what it wants of meta.
    fn audit(&mut self) -> Findings {
        let findings = self.look();
        for (ledger, moving) in findings.moves.clone() {
            self.apply(Command::AssignCopy { ledger, moving });
        }
        findings
    }

    /// What a bookie that is there does with its due copies: it finds them whole, copies them from a bookie that holds
    /// them, or cannot.
    fn work(&mut self, id: BookieId, due: &BTreeSet<LedgerId>) {
        let Some(bookie) = self.bookie(id).filter(|it| it.live) else {
            return;
        };
        let mut whole = Vec::new();
        let mut stuck = Vec::new();
        for record in self.ledgers().iter().filter(|it| due.contains(&it.id)) {
            let has = |id: BookieId| self.disks.contains(&(id, record.id));
            let sources = record.ensemble.iter().copied();
            let mut live = sources.filter(|id| self.bookie(*id).is_some_and(|it| it.live));
            if has(id) || live.any(has) {
                whole.push(record.whole_copy(id));
            } else {
                stuck.push(record.id);
            }
        }
        self.disks
            .extend(whole.iter().map(|copy| (id, copy.ledger)));
        self.memory.stuck(id, stuck);
        for copies in whole.chunks(COPIES_MAX) {
            self.apply(Command::CopiesWhole {
                bookie: id,
                session: bookie.session,
                born: bookie.born,
                copies: copies.to_vec(),
            });
        }
    }

    /// Looks and works until nothing changes any more.
    fn settle(&mut self) -> Findings {
        for _ in 0..100 {
            let before = self.store.revision();
            let findings = self.audit();
            let due = self.look().due;
            for (id, due) in &due {
                self.work(*id, due);
            }
            if self.store.revision() == before {
                return findings;
            }
        }
        panic!("the audit does not settle");
    }

    fn wait(&mut self, by: Duration) {
        self.now = self.now.after(by);
    }

    fn members(&self) -> BTreeSet<BookieId> {
        self.ledgers()
            .into_iter()
            .flat_map(|it| it.ensemble)
            .collect()
    }
}

fn b(id: u64) -> BookieId {
    BookieId::new(id)
}

#[test]
fn closed_ledgers_are_complete_once_every_member_looked() {
    let mut world = World::new(3, 5);
    let plan = world.look().plan;
    assert_eq!((plan.closed, plan.short, plan.whole), (5, 5, 0));
    let plan = world.settle().plan;
    assert!(plan.is_empty(), "{plan:?}");
    assert_eq!((plan.closed, plan.whole), (5, 5));
    let is_complete =
        |it: &LedgerRecord| matches!(it.state, LedgerState::Closed { complete: true, .. });
    assert!(world.ledgers().iter().all(is_complete));
}

#[test]
fn bookie_born_again_is_given_all_its_ledgers() {
    let mut world = World::new(3, 5);
    world.settle();
    world.start(b(2), true);
    let findings = world.look();
    assert_eq!(findings.plan.short, 5);
    assert_eq!(findings.due[&b(2)].len(), 5);
    assert!(findings.due[&b(1)].is_empty());
    assert!(world.settle().plan.is_empty());
    assert!(world.copies().values().all(|copies| *copies == 3));
}

#[test]
fn bookie_that_is_away_is_lost_after_the_grace_and_not_before() {
    let mut world = World::new(4, 8);
    world.settle();
    world.stop(b(1));
    assert!(world.audit().moves.is_empty());
    assert!(!world.memory.wants_look(world.now));
    assert!(world.memory.wants_look(world.now.after(GRACE)));
    world.wait(GRACE - Duration::from_nanos(1));
    assert!(world.audit().moves.is_empty());
    world.wait(Duration::from_nanos(1));
    assert!(!world.audit().moves.is_empty());
    let plan = world.settle().plan;
    assert!(plan.is_empty(), "{plan:?}");
    assert!(!world.members().contains(&b(1)));
    assert!(world.copies().values().all(|copies| *copies == 3));
}

#[test]
fn copies_of_a_bookie_that_comes_back_stay_where_they_are() {
    let mut world = World::new(4, 8);
    world.settle();
    world.stop(b(1));
    world.audit();
    world.wait(GRACE);
    let begun = world.audit().moves.len();
    assert!(begun > 0);
    world.start(b(1), false);
    let moves = world.audit().moves;
    assert_eq!(moves.len(), begun);
    assert!(moves.iter().all(|(_, moving)| moving.is_none()));
    assert!(world.settle().plan.is_empty());
}

#[test]
fn only_so_many_moves_go_on_at_a_time() {
    let mut world = World::new(4, 12);
    world.moves = 2;
    world.settle();
    world.stop(b(1));
    world.audit();
    world.wait(GRACE);
    let plan = world.audit().plan;
    assert_eq!((plan.moving, plan.waiting), (2, 7));
    assert!(world.look().moves.is_empty(), "the same two go on");
    assert!(world.settle().plan.is_empty());
}

#[test]
fn without_a_bookie_to_take_the_copy_it_is_said_and_not_tried() {
    let mut world = World::new(3, 2);
    world.settle();
    world.stop(b(3));
    world.audit();
    world.wait(GRACE);
    let findings = world.audit();
    assert!(findings.moves.is_empty());
    assert_eq!(findings.plan.beyond_count, 2);
    let why = BeyondWhy::NoTarget { of: b(3) };
    assert!(findings.plan.beyond.iter().all(|it| it.why == why));
    assert_eq!(world.memory.tell(&findings.beyond).len(), 2);
    assert!(world.memory.tell(&findings.beyond).is_empty(), "told once");
    world.start(b(4), true);
    assert!(world.settle().plan.is_empty());
}

#[test]
fn ledger_whose_every_bookie_is_lost_is_given_to_nobody() {
    let mut world = World::new(6, 1);
    world.settle();
    for id in 1..=3 {
        world.stop(b(id));
    }
    world.audit();
    world.wait(GRACE);
    let findings = world.audit();
    assert!(findings.moves.is_empty());
    assert_eq!(findings.plan.beyond[0].why, BeyondWhy::NoCopy);
    world.start(b(2), false);
    assert!(world.settle().plan.is_empty(), "one copy makes it good");
}

#[test]
fn copy_that_cannot_be_made_is_said_and_stands_in_no_others_way() {
    let mut world = World::new(4, 4);
    world.moves = 1;
    world.settle();
    // The first ledger is nowhere whole any more.
    let first = world.ledgers()[0].id;
    world.disks.retain(|(_, ledger)| *ledger != first);
    world.stop(b(1));
    world.audit();
    world.wait(GRACE);
    let plan = world.settle().plan;
    assert_eq!((plan.beyond_count, plan.waiting), (1, 0), "{plan:?}");
    assert_eq!(plan.beyond[0].ledger, first);
    assert_eq!(plan.beyond[0].why, BeyondWhy::EntriesMissing { at: b(4) });
}

#[test]
fn what_a_bookie_cannot_copy_is_looked_at_once_though_no_record_changed() {
    let mut world = World::new(4, 2);
    let ledgers: Vec<LedgerId> = world.ledgers().iter().map(|it| it.id).collect();
    world.settle();
    assert!(!world.memory.wants_look(world.now));
    world.memory.stuck(b(4), ledgers.clone());
    assert!(world.memory.wants_look(world.now));
    world.look();
    world.memory.stuck(b(4), ledgers.clone());
    world.memory.stuck(b(4), ledgers.into_iter().take(1));
    assert!(!world.memory.wants_look(world.now), "nothing new");
}

#[test]
fn copies_on_their_way_to_a_bookie_without_room_go_to_another_and_hold_up_nothing() {
    let mut world = World::new(4, 6);
    world.moves = 1;
    world.settle();
    world.stop(b(1));
    world.audit();
    world.wait(GRACE);
    world.audit();
    // The one move goes to bookie 4, which fills before it begins.
    let on_its_way = |world: &World| {
        let moving = world.ledgers().into_iter().find_map(|it| it.moving);
        moving.map(|it| it.to)
    };
    assert_eq!(on_its_way(&world), Some(b(4)));
    world.fill(b(4));
    let findings = world.audit();
    assert_eq!(on_its_way(&world), Some(b(4)), "there is no other");
    assert!(findings.plan.beyond_count > 0, "{:?}", findings.plan);
    world.start(b(5), true);
    world.audit();
    assert_eq!(on_its_way(&world), Some(b(5)));
    assert!(world.settle().plan.is_empty());
    assert!(!world.ledgers().iter().any(|it| it.ensemble.contains(&b(1))));
}

#[test]
fn bookie_that_registered_during_a_look_is_not_taken_for_lost() {
    let mut world = World::new(5, 5);
    world.settle();
    let before = &world.bookies()[..4];
    let mut look = world.memory.look(world.now, GRACE, before);
    for ledger in world.ledgers() {
        look.ledger(&ledger);
    }
    let findings = look.finish(world.moves);
    assert_eq!(findings.moves, []);
    assert_eq!(findings.plan.beyond_count, 0);
}

#[test]
fn drained_bookie_is_left_by_all_its_copies_and_gets_none() {
    let mut world = World::new(5, 10);
    world.settle();
    world.apply(Command::DrainBookie {
        id: b(2),
        draining: true,
    });
    assert!(world.settle().plan.is_empty());
    assert!(!world.members().contains(&b(2)));
    world.stop(b(1));
    world.audit();
    world.wait(GRACE);
    assert!(world.settle().plan.is_empty());
    assert!(!world.members().contains(&b(2)));
}

#[test]
fn the_bookie_with_the_fewest_ledgers_takes_over() {
    let mut world = World::new(3, 6);
    world.settle();
    world.start(b(4), true);
    world.start(b(5), true);
    world.stop(b(1));
    world.audit();
    world.wait(GRACE);
    world.settle();
    let count = |id| {
        let ledgers = world.ledgers();
        ledgers
            .iter()
            .filter(|it| it.ensemble.contains(&id))
            .count()
    };
    assert_eq!((count(b(4)), count(b(5))), (3, 3));
}

#[test]
fn a_copy_goes_where_no_other_copy_is() {
    // On three bookies that follow each other: one in each zone.
    let mut world = World::in_zones(3, 9, 9);
    world.settle();
    for lost in [b(1), b(5)] {
        world.stop(lost);
        world.audit();
        world.wait(GRACE);
        world.settle();
        assert!(!world.members().contains(&lost));
    }
    for ledger in world.ledgers() {
        let zones: BTreeSet<u64> = ledger.ensemble.iter().map(|id| id.get() % 3).collect();
        assert_eq!(zones.len(), 3, "{ledger:?}");
    }
}

#[test]
fn whatever_bookies_do_no_swap_costs_a_copy_and_what_can_be_made_good_is() {
    for seed in 0..60 {
        let rng = Rng::seeded(seed);
        let mut world = World::new(5, 6);
        world.moves = 1 + usize::try_from(rng.below(4)).unwrap();
        for _ in 0..40 {
            let id = b(1 + rng.below(5));
            match rng.below(8) {
                0 => world.stop(id),
                1 => world.start(id, rng.one_in(3)),
                2 => {
                    let draining = rng.one_in(2);
                    world.apply(Command::DrainBookie { id, draining });
                }
                3 => world.wait(GRACE),
                4 | 5 => drop(world.audit()),
                _ => {
                    // The work of a look that may be old by now.
                    let due = world.look().due.remove(&id).unwrap_or_default();
                    world.work(id, &due);
                }
            }
        }
        for id in 1..=5 {
            world.start(b(id), false);
            world.apply(Command::DrainBookie {
                id: b(id),
                draining: false,
            });
        }
        world.wait(GRACE);
        let plan = world.settle().plan;
        for (ledger, copies) in world.copies() {
            let is_beyond = plan.beyond.iter().any(|it| it.ledger == ledger);
            assert!(
                copies == 3 || (copies == 0 && is_beyond),
                "seed {seed}: {plan:?}"
            );
        }
    }
}
