//! Every small case: what three bookies may hold of three entries, in every order of the three.

use bytes::Bytes;
use types::Payload;
use types::chain::{LedgerState, LogKind};
use types::{LedgerSeq, LogId};

use super::*;
use crate::config::Config;

/// What a bookie says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    It,
    Never,
    Unknown,
}

const ENTRIES: usize = 3;
const BOOKIES: usize = 3;
const WAYS: [Has; 3] = [Has::It, Has::Never, Has::Unknown];
type World = [[Has; ENTRIES]; BOOKIES];

fn record() -> LedgerRecord {
    let epoch = Epoch::new(2);
    LedgerRecord {
        id: LedgerId::new(LogId::new(1), LedgerSeq::new(0)),
        created: Revision::new(5),
        ensemble: (1..=3).map(BookieId::new).collect(),
        quorum: Quorum::THREE_TWO,
        state: LedgerState::Recovering { epoch },
        verified: Vec::new(),
        moving: None,
    }
}

fn entry(id: EntryId) -> Entry {
    let payload = Payload::whole(Bytes::from_static(b"x"));
    Entry::new(record().id, id, Offset::new(id.get() + 1), payload)
}

/// Answers a request as the world has it; none for what nobody answers.
fn answer(world: &mut World, bookie: usize, request: &Request) -> Option<Answer> {
    let ledger = record().id;
    Some(match request {
        Request::ReadLac(read) => {
            assert!(read.fence.is_some(), "every request of recovery fences");
            Answer::Lac {
                ledger,
                result: LacResult::Lac(None),
            }
        }
        Request::Read(read) => {
            assert!(read.fence.is_some(), "every read of recovery fences");
            let place = usize::try_from(read.entry.get()).unwrap();
            let has = world[bookie].get(place).copied();
            let result = match has.unwrap_or(Has::Never) {
                Has::It => ReadResult::Found {
                    entry: entry(read.entry),
                    lac: None,
                },
                Has::Never => ReadResult::NeverHad,
                Has::Unknown => ReadResult::Unknown,
            };
            Answer::Read {
                ledger,
                entry: read.entry,
                result,
            }
        }
        Request::Add(add) => {
            assert_eq!((add.kind, add.lac), (AddKind::Recovery, None));
            let place = usize::try_from(add.entry.id.get()).unwrap();
            world[bookie][place] = Has::It;
            Answer::Added {
                ledger,
                entry: add.entry.id,
                result: AddResult::Stored,
            }
        }
        Request::SetLac(_) => return None,
    })
}

/// Plays a recovery until nothing happens any more, the bookies answering the first one always first.
/// Every world is played, and so is every order of the three.
fn play(mut world: World, window: usize) -> (Option<LinkEnd>, World) {
    let config = Config {
        recovery_window: window,
        ..Config::default()
    };
    let mut effects = Vec::new();
    let mut turn = Turn {
        now: MonoTime::ZERO,
        config: &config,
        log: LogKind::Message,
        effects: &mut effects,
    };
    let mut recovery = Recovery::start(&mut turn, &record(), Epoch::new(2), Offset::new(0));
    for _ in 0..100 {
        let next = (0..BOOKIES).find_map(|place| {
            let bookie = BookieId::new(u64::try_from(place).unwrap() + 1);
            let is_for = |effect: &Effect| matches!(effect, Effect::Send { bookie: to, .. } if *to == bookie);
            let index = turn.effects.iter().position(is_for)?;
            Some((place, bookie, turn.effects.remove(index)))
        });
        let Some((place, bookie, Effect::Send { request, .. })) = next else {
            break;
        };
        if let Some(answer) = answer(&mut world, place, &request) {
            recovery.answered(&mut turn, bookie, answer);
        }
    }
    (recovery.end(), world)
}

fn worlds() -> impl Iterator<Item = World> {
    (0..3_usize.pow(9)).map(|mut code| {
        let mut world = [[Has::Never; ENTRIES]; BOOKIES];
        for cell in world.iter_mut().flatten() {
            *cell = WAYS[code % 3];
            code /= 3;
        }
        world
    })
}

fn count(world: &World, entry: usize, has: Has) -> usize {
    world.iter().filter(|bookie| bookie[entry] == has).count()
}

#[test]
fn recovery_never_ends_below_what_an_ack_quorum_may_hold() {
    for world in worlds() {
        // The longest prefix that could have been acked: each entry on two bookies that have it or cannot say.
        let could_be_acked = (0..ENTRIES)
            .take_while(|e| count(&world, *e, Has::It) + count(&world, *e, Has::Unknown) >= 2)
            .count();
        let acked = (0..could_be_acked)
            .rev()
            .find(|e| count(&world, *e, Has::It) >= 1)
            .map_or(0, |e| e + 1);
        for window in [1, 16] {
            let (Some(end), _) = play(world, window) else {
                continue; // It waits: safe.
            };
            let kept = end.last.map_or(0, |last| last.get() + 1);
            assert!(
                usize::try_from(kept).unwrap() >= acked,
                "{world:?} ended at {end:?}"
            );
        }
    }
}

#[test]
fn recovery_ends_exactly_when_negatives_suffice_and_leaves_two_copies_of_all() {
    for world in worlds() {
        let (end, after) = play(world, 2);
        // What decides an entry: a copy makes it part of the ledger, unless two negatives came before it.
        let decided = (0..ENTRIES).find(|e| count(&world, *e, Has::It) == 0);
        let is_decidable = decided.is_none_or(|e| count(&world, e, Has::Never) >= 2);
        let has_race = (0..ENTRIES)
            .any(|e| count(&world, e, Has::It) == 1 && count(&world, e, Has::Never) == 2);
        if !has_race {
            assert_eq!(end.is_some(), is_decidable, "{world:?}");
        }
        let Some(end) = end else { continue };
        let kept = usize::try_from(end.last.map_or(0, |last| last.get() + 1)).unwrap();
        assert_eq!(end.next_offset.get(), u64::try_from(kept).unwrap());
        for e in 0..kept {
            assert!(count(&after, e, Has::It) >= 2, "{world:?} {end:?}");
        }
        for e in kept..ENTRIES {
            assert_eq!(
                count(&after, e, Has::It),
                count(&world, e, Has::It),
                "nothing is written back above the end"
            );
        }
    }
}
