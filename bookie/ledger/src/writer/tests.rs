use bytes::Bytes;
use types::chain::LedgerState;
use types::{LedgerSeq, LogId};

use super::*;

const BOOKIES: [BookieId; 3] = [BookieId::new(1), BookieId::new(2), BookieId::new(3)];

struct Stage {
    writer: Writer,
    config: Config,
    effects: Vec<Effect>,
}

impl Stage {
    fn new() -> Self {
        let record = LedgerRecord {
            id: LedgerId::new(LogId::new(1), LedgerSeq::new(0)),
            created: Revision::new(1),
            ensemble: BOOKIES.to_vec(),
            quorum: Quorum::THREE_TWO,
            state: LedgerState::Open,
            verified: Vec::new(),
            moving: None,
        };
        let config = Config::default();
        let with = (MonoTime::ZERO, &config);
        let writer = Writer::new(&record, Epoch::new(1), Offset::new(0), |_| false, with);
        Self {
            writer,
            config,
            effects: Vec::new(),
        }
    }

    fn act<R>(&mut self, act: impl FnOnce(&mut Writer, &mut Turn<'_>) -> R) -> R {
        let mut turn = Turn {
            now: MonoTime::ZERO,
            config: &self.config,
            log: LogKind::Message,
            effects: &mut self.effects,
        };
        act(&mut self.writer, &mut turn)
    }

    fn append(&mut self, entry: u64) {
        let queued = Queued {
            token: Token::new(entry),
            payload: Payload::whole(Bytes::from_static(b"a")),
            next_offset: Offset::new(entry + 1),
        };
        self.act(|writer, turn| writer.append(turn, queued));
    }

    fn answer(&mut self, bookie: BookieId, entry: u64, result: AddResult) {
        let entry = EntryId::new(entry);
        self.act(|writer, turn| writer.added(turn, bookie, entry, result));
    }
}

#[test]
fn an_entry_that_a_busy_bookie_never_takes_is_forgotten_once_it_is_confirmed() {
    for is_busy_first in [true, false] {
        let mut stage = Stage::new();
        stage.append(0);
        if is_busy_first {
            stage.answer(BOOKIES[0], 0, AddResult::Busy);
        }
        stage.answer(BOOKIES[1], 0, AddResult::Stored);
        stage.answer(BOOKIES[2], 0, AddResult::Stored);
        if !is_busy_first {
            stage.answer(BOOKIES[0], 0, AddResult::Busy);
        }
        for entry in 1..100 {
            stage.append(entry);
            for bookie in BOOKIES {
                stage.answer(bookie, entry, AddResult::Stored);
            }
        }
        assert_eq!(stage.writer.lac(), Some(EntryId::new(99)));
        assert_eq!(stage.writer.slots.len(), 0, "is_busy_first={is_busy_first}");
    }
}

#[test]
fn a_pending_entry_that_found_no_room_is_sent_again_whatever_else_is_stored_meanwhile() {
    let mut stage = Stage::new();
    stage.append(0);
    stage.append(1);
    stage.answer(BOOKIES[0], 0, AddResult::Busy);
    stage.answer(BOOKIES[0], 1, AddResult::Stored);
    stage.answer(BOOKIES[1], 0, AddResult::Stored);
    stage.effects.clear();
    let due = stage.writer.deadline(&stage.config);
    let config = stage.config;
    let mut turn = Turn {
        now: due.expect("something is owed"),
        config: &config,
        log: LogKind::Message,
        effects: &mut stage.effects,
    };
    stage.writer.tick(&mut turn);
    let is_sent_again = |effect: &Effect| {
        matches!(effect, Effect::Send { bookie, request: Request::Add(add) }
            if *bookie == BOOKIES[0] && add.entry.id == EntryId::new(0))
    };
    assert!(stage.effects.iter().any(is_sent_again));
}

#[test]
fn a_bookie_without_room_is_tried_again_soon_whatever_else_it_stores() {
    let mut stage = Stage::new();
    stage.append(0);
    stage.append(1);
    stage.answer(BOOKIES[0], 0, AddResult::Busy);
    stage.answer(BOOKIES[0], 1, AddResult::Stored);
    let due = stage
        .writer
        .deadline(&stage.config)
        .expect("it owes an answer");
    assert!(
        due < MonoTime::ZERO.after(stage.config.resend_after / 10),
        "{due:?}"
    );
}
