//! Whether what was read is what was published: nothing lost, nothing stored twice, in order, as it was made.

use std::collections::BTreeMap;

use super::stamp::{Stamp, Unstamped};

/// What became of the messages that were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Read for the first time, and as they were made.
    pub(super) verified: u64,
    /// Acked, and never read.
    pub(super) lost: u64,
    /// Stored at two places: a producer promises that this never happens.
    pub(super) doubled: u64,
    /// Read after a later one of the same stream, where order is promised.
    pub(super) out_of_order: u64,
    /// Not as they were made.
    pub(super) corrupted: u64,
    /// The same place of the topic delivered again, which consumers have to expect when something breaks.
    pub(super) redelivered: u64,
    /// Of another run, or not of a bench at all.
    pub(super) foreign: u64,
}

impl Verdict {
    /// What breaks a promise, in words; none when nothing does.
    pub(super) fn complaint(&self) -> Option<String> {
        let broken = [
            (self.lost, "lost"),
            (self.doubled, "stored twice"),
            (self.out_of_order, "out of order"),
            (self.corrupted, "corrupted, or not made by a bench"),
        ];
        let told: Vec<String> = broken
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        (!told.is_empty()).then(|| format!("messages: {}", told.join(", ")))
    }

    /// Both together.
    pub(super) fn add(&mut self, other: &Self) {
        self.verified += other.verified;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
        self.corrupted += other.corrupted;
        self.redelivered += other.redelivered;
        self.foreign += other.foreign;
    }
}

/// Checks what the consumers of one subscription read.
#[derive(Debug)]
pub(super) struct Verifier {
    /// The run whose messages are expected; none: of any.
    own: Option<u32>,
    /// One consumer, which is promised the order of each stream.
    is_ordered: bool,
    /// The topic begins here: of what was before nothing is known.
    first_offset: u64,
    /// Places of the topic that were read.
    offsets: Bits,
    streams: BTreeMap<(u32, u32), Stream>,
    verdict: Verdict,
}

/// What was read of one stream.
#[derive(Debug, Default)]
struct Stream {
    numbers: Bits,
    /// The least number that was read.
    least: u64,
    /// The one after the greatest.
    next: u64,
}

impl Verifier {
    /// Expects messages of the run `own` alone; none: of any run, from `first_offset` on.
    pub(super) fn new(own: Option<u32>, is_ordered: bool, first_offset: u64) -> Self {
        Self {
            own,
            is_ordered,
            first_offset,
            offsets: Bits::default(),
            streams: BTreeMap::new(),
            verdict: Verdict::default(),
        }
    }

    /// Takes a message as it was read at a place of the topic.
    pub(super) fn take(&mut self, offset: u64, content: Result<Stamp, Unstamped>) {
        let Some(is_new) = self
            .offsets
            .insert(offset.saturating_sub(self.first_offset))
        else {
            self.verdict.corrupted += 1; // No topic is that long.
            return;
        };
        match content {
            Err(Unstamped::Foreign) if self.own.is_some() => self.verdict.foreign += 1,
            Ok(stamp) if self.own.is_some_and(|own| own != stamp.run) => self.verdict.foreign += 1,
            Err(_) => self.verdict.corrupted += 1,
            Ok(_) if !is_new => self.verdict.redelivered += 1,
            Ok(stamp) => self.take_stamped(stamp),
        }
    }

    fn take_stamped(&mut self, stamp: Stamp) {
        let stream = self.streams.entry((stamp.run, stamp.stream)).or_default();
        match stream.numbers.insert(stamp.number) {
            Some(true) => {}
            Some(false) => {
                self.verdict.doubled += 1;
                return;
            }
            None => {
                self.verdict.corrupted += 1; // No stream is that long.
                return;
            }
        }
        if stream.next == 0 {
            stream.least = stamp.number;
        }
        stream.least = stream.least.min(stamp.number);
        if self.is_ordered && stamp.number < stream.next {
            self.verdict.out_of_order += 1;
        }
        stream.next = stream.next.max(stamp.number + 1);
        self.verdict.verified += 1;
    }

    /// How many of the messages that are expected are here.
    pub(super) const fn arrived(&self) -> u64 {
        match self.own {
            Some(_) => self.verdict.verified + self.verdict.corrupted,
            // Every place of the topic counts, whatever is there.
            None => self.offsets.count,
        }
    }

    /// What was found so far; nothing is lost yet.
    pub(super) const fn so_far(&self) -> Verdict {
        self.verdict
    }

    /// What was found when all that was acked should be here: of each stream of the own run so many messages.
    pub(super) fn all_of(&self, acked: &[u64]) -> Verdict {
        let run = self.own.unwrap_or_default();
        let missing = (0..).zip(acked).map(|(stream, &acked)| {
            let seen = self.streams.get(&(run, stream));
            acked - seen.map_or(0, |seen| seen.below(acked))
        });
        self.with_missing(missing.sum())
    }

    /// What was found when everything up to the last message read should be here.
    pub(super) fn all_so_far(&self) -> Verdict {
        let missing = self.streams.values().map(|stream| {
            // Retention took the beginnings of streams.
            let least = if self.first_offset > 0 {
                stream.least
            } else {
                0
            };
            stream.next - least - stream.numbers.count
        });
        self.with_missing(missing.sum())
    }

    /// A message that came corrupted is missing, but not lost as well.
    fn with_missing(&self, missing: u64) -> Verdict {
        Verdict {
            lost: missing.saturating_sub(self.verdict.corrupted),
            ..self.verdict
        }
    }
}

impl Stream {
    /// How many numbers below `end` were read.
    fn below(&self, end: u64) -> u64 {
        // Beyond are at most the messages without an ack at the end of a run.
        let beyond = (end..self.next).filter(|&number| self.numbers.contains(number));
        self.numbers.count - beyond.count() as u64
    }
}

/// A set of numbers that are mostly dense: one bit each, in pieces that are made when they are needed.
#[derive(Debug, Default)]
struct Bits {
    pieces: Vec<Option<Box<[u64; WORDS]>>>,
    count: u64,
}

const WORDS: usize = 1024;
const PIECE: u64 = WORDS as u64 * 64;
/// Numbers from here on are nonsense, and would take much memory.
const NUMBERS_MAX: u64 = 1 << 40;

impl Bits {
    /// Whether it was not there before; none for a number that is too large.
    fn insert(&mut self, number: u64) -> Option<bool> {
        if number >= NUMBERS_MAX {
            return None;
        }
        let (piece, word, bit) = place(number);
        if piece >= self.pieces.len() {
            self.pieces.resize_with(piece + 1, || None);
        }
        let piece = self.pieces[piece].get_or_insert_with(|| Box::new([0; WORDS]));
        let is_new = piece[word] & bit == 0;
        piece[word] |= bit;
        self.count += u64::from(is_new);
        Some(is_new)
    }

    fn contains(&self, number: u64) -> bool {
        let (piece, word, bit) = place(number);
        let piece = self.pieces.get(piece).and_then(Option::as_ref);
        piece.is_some_and(|piece| piece[word] & bit != 0)
    }
}

/// The piece, the word in it, and the bit in that.
fn place(number: u64) -> (usize, usize, u64) {
    let index = |number: u64| usize::try_from(number).expect("pieces fit the machine's memory");
    (
        index(number / PIECE),
        index(number % PIECE / 64),
        1 << (number % 64),
    )
}

#[cfg(test)]
mod tests {
    use super::super::stamp::{Maker, Noise, read};
    use super::*;
    use types::MonoTime;

    const RUN: u32 = 9;

    /// Messages of one stream, as a topic holds them.
    fn messages(count: usize) -> Vec<(u64, Vec<u8>)> {
        let noise = Noise::new(&host::Rng::seeded(1), 64, 0);
        let mut maker = Maker::new(&noise, RUN, 0);
        let payload = |at| (at, maker.next(MonoTime::ZERO).to_vec());
        (0..).take(count).map(payload).collect()
    }

    fn judged(own: Option<u32>, is_ordered: bool, messages: &[(u64, Vec<u8>)]) -> Verifier {
        let mut verifier = Verifier::new(own, is_ordered, 0);
        for (offset, payload) in messages {
            verifier.take(*offset, read(payload));
        }
        verifier
    }

    /// The verdict of an exclusive consumer on ten messages that were acked.
    fn of_ten(messages: &[(u64, Vec<u8>)]) -> Verdict {
        judged(Some(RUN), true, messages).all_of(&[10])
    }

    #[test]
    fn what_came_as_it_was_published_is_verified() {
        let verdict = of_ten(&messages(10));
        let expected = Verdict {
            verified: 10,
            ..Verdict::default()
        };
        assert_eq!((verdict, verdict.complaint()), (expected, None));
        let whole = judged(None, true, &messages(10));
        assert_eq!((whole.all_so_far(), whole.arrived()), (expected, 10));
    }

    #[test]
    fn a_dropped_message_is_lost() {
        for at in [0, 4, 9] {
            let mut dropped = messages(10);
            dropped.remove(at);
            let verdict = of_ten(&dropped);
            assert_eq!((verdict.verified, verdict.lost), (9, 1), "message {at}");
            assert!(verdict.complaint().unwrap().contains("1 lost"));
        }
        // Without knowing how many were acked the last one cannot be missed, but the others are.
        for (at, lost) in [(0, 1), (4, 1), (9, 0)] {
            let mut dropped = messages(10);
            dropped.remove(at);
            let verdict = judged(None, true, &dropped).all_so_far();
            assert_eq!(verdict.lost, lost, "message {at}");
        }
    }

    #[test]
    fn a_message_stored_twice_is_doubled_and_one_delivered_twice_is_not() {
        let mut doubled = messages(10);
        doubled.push((10, doubled[3].1.clone()));
        let verdict = of_ten(&doubled);
        assert_eq!(
            (verdict.doubled, verdict.redelivered, verdict.lost),
            (1, 0, 0)
        );
        assert!(verdict.complaint().unwrap().contains("1 stored twice"));
        let mut again = messages(10);
        again.push(again[3].clone());
        let verdict = of_ten(&again);
        assert_eq!(
            (verdict.doubled, verdict.redelivered, verdict.lost),
            (0, 1, 0)
        );
        assert_eq!(verdict.complaint(), None);
    }

    #[test]
    fn swapped_messages_are_out_of_order_where_order_is_promised() {
        let mut swapped = messages(10);
        swapped.swap(3, 4);
        let verdict = of_ten(&swapped);
        assert_eq!((verdict.out_of_order, verdict.lost), (1, 0));
        assert!(verdict.complaint().unwrap().contains("1 out of order"));
        let shared = judged(Some(RUN), false, &swapped).all_of(&[10]);
        assert_eq!((shared.verified, shared.complaint()), (10, None));
    }

    #[test]
    fn an_altered_message_is_corrupted_and_not_lost_as_well() {
        for byte in [6, 20, 40] {
            let mut altered = messages(10);
            altered[3].1[byte] ^= 1;
            let verdict = of_ten(&altered);
            assert_eq!((verdict.verified, verdict.corrupted), (9, 1), "byte {byte}");
            assert_eq!(verdict.lost, 0, "byte {byte}");
            assert!(verdict.complaint().unwrap().contains("1 corrupted"));
        }
    }

    #[test]
    fn messages_of_others_are_no_complaint_in_a_run_of_its_own() {
        let mut mixed = messages(10);
        mixed.push((10, b"somebody else's".to_vec()));
        let verdict = of_ten(&mixed);
        assert_eq!((verdict.foreign, verdict.complaint()), (1, None));
        let verdict = judged(Some(RUN + 1), true, &mixed).all_of(&[]);
        assert_eq!((verdict.foreign, verdict.verified), (11, 0));
        let any = judged(None, true, &mixed).all_so_far();
        assert!(any.complaint().unwrap().contains("not made by a bench"));
    }

    #[test]
    fn what_was_sent_without_an_ack_may_be_there_or_not() {
        for there in 10..=12 {
            let verdict = of_ten(&messages(there));
            assert_eq!((verdict.lost, verdict.complaint()), (0, None), "{there}");
        }
    }

    #[test]
    fn what_retention_took_is_not_lost() {
        let mut verifier = Verifier::new(None, true, 4);
        let mut kept = messages(10).split_off(4);
        kept.remove(2);
        for (offset, payload) in &kept {
            verifier.take(*offset, read(payload));
        }
        let verdict = verifier.all_so_far();
        assert_eq!((verdict.verified, verdict.lost), (5, 1));
    }

    #[test]
    fn numbers_without_end_take_no_memory() {
        let mut bits = Bits::default();
        assert_eq!(bits.insert(u64::MAX), None);
        assert_eq!(bits.insert(NUMBERS_MAX), None);
        assert!(bits.pieces.is_empty());
        assert_eq!(bits.insert(PIECE + 3), Some(true));
        assert_eq!(bits.insert(PIECE + 3), Some(false));
        assert!(bits.contains(PIECE + 3) && !bits.contains(3) && !bits.contains(PIECE + 4));
        assert_eq!(bits.count, 1);
    }
}
