//! What meta is asked each round, and what its answers let go. No IO.

use std::collections::BTreeSet;

use types::chain::{LedgerRecord, LedgerState, LogStanding};
use types::{BookieId, LedgerId, LogId};

use crate::Reclaim;

/// Most logs or ledgers of one question.
const PAGE: usize = 256;
/// Most questions of a kind in one round; the next round goes on where it ended.
const PAGES: usize = 16;
/// Rounds from one look at all ledgers to the next: they seldom move.
const LEDGERS_EVERY: u64 = 10;

/// How far the asking is.
#[derive(Debug, Default)]
pub struct Asking {
    round: u64,
    /// The log that the next round begins with.
    next_log: Option<LogId>,
    /// The ledger that the next round goes on with, while a look at all of them is under way.
    next_ledger: Option<LedgerId>,
    /// Logs that meta did not name though they were asked about; each is warned about once.
    unnamed: BTreeSet<LogId>,
}

/// What one round asks, in pages.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// What became of these logs.
    pub logs: Vec<Vec<LogId>>,
    /// The records of these ledgers.
    pub ledgers: Vec<Vec<LedgerId>>,
}

impl Asking {
    /// What to ask in this round about what is held.
    pub fn questions(&mut self, held: &BTreeSet<LedgerId>) -> Questions {
        let all: BTreeSet<LogId> = held.iter().map(|ledger| ledger.log()).collect();
        let (logs, next) = pages(&all, self.next_log);
        self.next_log = next;
        let mut questions = Questions {
            logs,
            ledgers: Vec::new(),
        };
        let is_time = self.round.is_multiple_of(LEDGERS_EVERY);
        if is_time || self.next_ledger.is_some() {
            (questions.ledgers, self.next_ledger) = pages(held, self.next_ledger);
        }
        self.round += 1;
        questions
    }

    /// What an answer about logs lets go. A log that meta does not name lets nothing go (I24); those are returned, each
    /// once.
    pub fn logs(
        &mut self,
        asked: &[LogId],
        answer: &[(LogId, LogStanding)],
        held: &BTreeSet<LedgerId>,
        word: &mut Reclaim,
    ) -> Vec<LogId> {
        for (log, standing) in answer.iter().filter(|(log, _)| asked.contains(log)) {
            match standing {
                LogStanding::Deleted => word.deleted.push(*log),
                LogStanding::Live { first } => {
                    let oldest = held.range(LedgerId::new(*log, types::LedgerSeq::new(0))..);
                    let mut oldest = oldest.take_while(|ledger| ledger.log() == *log);
                    if oldest.next().is_some_and(|oldest| oldest.seq() < *first) {
                        word.trimmed.push((*log, *first));
                    }
                }
            }
        }
        let is_named = |log: &LogId| answer.iter().any(|(named, _)| named == log);
        let unnamed = asked.iter().filter(|log| !is_named(log));
        unnamed
            .copied()
            .filter(|log| self.unnamed.insert(*log))
            .collect()
    }
}

/// What an answer about ledgers lets go: those that are closed, name others, and are not on their way here. One without
/// a record is left to the word about its log.
pub fn ledgers(asked: &[LedgerId], answer: &[LedgerRecord], me: BookieId, word: &mut Reclaim) {
    let elsewhere = answer.iter().filter(|record| {
        asked.contains(&record.id)
            && matches!(record.state, LedgerState::Closed { .. })
            && !record.ensemble.contains(&me)
            && !is_moving_to(record, me)
    });
    word.given_up.extend(elsewhere.map(|record| record.id));
}

/// Whether repair is bringing a ledger to a bookie: meta says so before the first copy is made.
fn is_moving_to(record: &LedgerRecord, bookie: BookieId) -> bool {
    record.moving.is_some_and(|it| it.to == bookie)
}

/// The pages of one round from `next` on, and where the round after it goes on; nothing when it came to the end.
fn pages<T: Copy + Ord>(all: &BTreeSet<T>, next: Option<T>) -> (Vec<Vec<T>>, Option<T>) {
    let mut rest = match next {
        Some(next) => all.range(next..),
        None => all.range(..),
    };
    let round: Vec<T> = rest.by_ref().take(PAGE * PAGES).copied().collect();
    let pages = round.chunks(PAGE).map(<[T]>::to_vec).collect();
    (pages, rest.next().copied())
}

#[cfg(test)]
mod tests {
    use types::chain::Assignment;
    use types::{Epoch, LedgerSeq, Quorum, Revision};

    use super::*;

    const ME: BookieId = BookieId::new(1);

    fn ledger(log: u64, seq: u32) -> LedgerId {
        LedgerId::new(LogId::new(log), LedgerSeq::new(seq))
    }

    fn held(logs: u64) -> BTreeSet<LedgerId> {
        (0..logs).map(|log| ledger(log, 3)).collect()
    }

    fn record(id: LedgerId, state: LedgerState, bookies: [u64; 2]) -> LedgerRecord {
        LedgerRecord {
            id,
            created: Revision::new(1),
            ensemble: bookies.map(BookieId::new).to_vec(),
            quorum: Quorum::new(2, 1).unwrap(),
            state,
            verified: Vec::new(),
            moving: None,
        }
    }

    const CLOSED: LedgerState = LedgerState::Closed {
        last: None,
        complete: true,
    };

    #[test]
    fn every_log_is_asked_about_in_turn_in_bounded_pages() {
        let held = held(10_000);
        let mut asking = Asking::default();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let questions = asking.questions(&held);
            assert!(questions.logs.len() <= PAGES);
            assert!(questions.logs.iter().all(|page| page.len() <= PAGE));
            seen.extend(questions.logs.concat());
        }
        assert_eq!(seen.len(), 10_000);
        assert!(seen.is_sorted(), "each once");
        let again = asking.questions(&held);
        assert_eq!(again.logs[0][0], LogId::new(0), "and from the front");
    }

    #[test]
    fn ledgers_are_looked_at_seldom_and_then_all_of_them() {
        let many = held(5_000);
        let mut asking = Asking::default();
        let counts: Vec<usize> = (0..12)
            .map(|_| asking.questions(&many).ledgers.concat().len())
            .collect();
        assert_eq!(counts, [4_096, 904, 0, 0, 0, 0, 0, 0, 0, 0, 4_096, 904]);
        assert_eq!(
            Asking::default().questions(&BTreeSet::new()),
            Questions::default()
        );
    }

    #[test]
    fn a_trim_is_news_only_where_an_older_ledger_is_held() {
        let held = BTreeSet::from([ledger(1, 4), ledger(1, 9), ledger(2, 0), ledger(3, 7)]);
        let live = |first| LogStanding::Live {
            first: LedgerSeq::new(first),
        };
        let asked = [1, 2, 3].map(LogId::new);
        let answer = [
            (LogId::new(1), live(5)),
            (LogId::new(2), live(0)),
            (LogId::new(3), live(7)),
        ];
        let mut word = Reclaim::default();
        let unnamed = Asking::default().logs(&asked, &answer, &held, &mut word);
        assert_eq!(unnamed, []);
        let expected = Reclaim {
            trimmed: vec![(LogId::new(1), LedgerSeq::new(5))],
            ..Reclaim::default()
        };
        assert_eq!(word, expected);
    }

    #[test]
    fn a_log_that_meta_does_not_name_lets_nothing_go_and_is_told_once() {
        let mut asking = Asking::default();
        let asked = [LogId::new(1), LogId::new(2)];
        // An answer about a log that was not asked about says nothing either.
        let answer = [
            (LogId::new(2), LogStanding::Deleted),
            (LogId::new(9), LogStanding::Deleted),
        ];
        let held = held(10);
        let mut word = Reclaim::default();
        let unnamed = asking.logs(&asked, &answer, &held, &mut word);
        assert_eq!(unnamed, [LogId::new(1)]);
        assert_eq!(word.deleted, [LogId::new(2)]);
        assert_eq!(asking.logs(&asked, &answer, &held, &mut word), []);
        assert_eq!(word.trimmed, []);
    }

    #[test]
    fn only_closed_ledgers_that_name_others_are_given_up() {
        let recovering = LedgerState::Recovering {
            epoch: Epoch::new(2),
        };
        let answer = [
            record(ledger(1, 0), CLOSED, [2, 3]),
            record(ledger(1, 1), CLOSED, [2, 1]),
            record(ledger(1, 2), recovering, [2, 3]),
            record(ledger(1, 3), LedgerState::Open, [2, 3]),
            record(ledger(7, 0), CLOSED, [2, 3]),
        ];
        let here = Assignment {
            from: BookieId::new(2),
            to: ME,
            number: Revision::new(1),
        };
        let on_its_way = LedgerRecord {
            moving: Some(here),
            ..record(ledger(1, 5), CLOSED, [2, 3])
        };
        let answer = [&answer[..], &[on_its_way]].concat();
        // 1/4 has no record: it is left to the word about its log.
        let asked = [0, 1, 2, 3, 4, 5].map(|seq| ledger(1, seq));
        let mut word = Reclaim::default();
        ledgers(&asked, &answer, ME, &mut word);
        assert_eq!(word.given_up, [ledger(1, 0)]);
    }
}
