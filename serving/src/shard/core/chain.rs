//! Which entry of which ledger holds an offset of the message log.
//!
//! Of every ledger some *points* are known: "entry `e` starts with offset `o`". This reign's own entries leave points
//! behind at every few KiB; searches in older ledgers leave what they learned. Between two points a reader asks the
//! bookies.

use std::collections::{BTreeMap, VecDeque};

use topic::{EntryHeader, Position};
use types::chain::{Chain, LinkEnd};
use types::{EntryId, LedgerId, LedgerSeq, Offset, WallTime};

/// Bytes of this reign's entries between two points.
const POINT_BYTES: u64 = 64 << 10;

/// Most points that are kept of one ledger; beyond it every second one goes.
const POINTS_MAX: usize = 8_192;

/// The ledgers of the message log, and what is known of the places in them. Only what is confirmed or closed.
#[derive(Debug, Clone)]
pub(super) struct MessageChain {
    /// The first offset that is not trimmed.
    first_offset: Offset,
    ledgers: VecDeque<Ledger>,
}

/// What the last entry of a ledger tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndFacts {
    /// When it was published.
    pub(super) time: WallTime,
    /// Bytes of the batches of the log up to it.
    pub(super) log_bytes: u64,
}

impl EndFacts {
    /// What an entry's header tells.
    pub(super) const fn of(header: &EntryHeader) -> Self {
        Self {
            time: header.publish_time,
            log_bytes: header.log_bytes,
        }
    }
}

/// A closed ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed {
    /// The ledger.
    pub(super) id: LedgerId,
    /// Its last entry, none when it is empty.
    pub(super) last: Option<EntryId>,
    /// The first offset after it.
    pub(super) next_offset: Offset,
    /// What its last entry tells, where known.
    pub(super) end: Option<EndFacts>,
}

/// The open ledger, which has an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenSince {
    /// When its first entry was published.
    pub(super) since: WallTime,
    /// Bytes of its entries.
    pub(super) bytes: u64,
}

#[derive(Debug, Clone)]
struct Ledger {
    id: LedgerId,
    first_offset: Offset,
    /// The last entry that may be read.
    last: Option<EntryId>,
    /// The first offset after it.
    next_offset: Offset,
    /// First offsets of entries. The first entry's own is implied.
    points: BTreeMap<Offset, EntryId>,
    /// Bytes since the last point.
    bytes: u64,
    is_closed: bool,
    /// When this reign's first entry in it was published, and the bytes of those since.
    opened: Option<OpenSince>,
    /// What the last entry tells.
    end: Option<EndFacts>,
}

/// Where an entry may be: in `ledger`, from `low` to `high`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bracket {
    /// The ledger.
    pub(super) ledger: LedgerId,
    /// The first entry it can be.
    pub(super) low: EntryId,
    /// The last entry it can be.
    pub(super) high: EntryId,
    /// The last entry of the ledger that may be read.
    pub(super) last: EntryId,
}

impl MessageChain {
    /// The chain as it stands once both tails are closed.
    pub(super) fn new(chain: &Chain) -> Self {
        let ledgers = chain.links.iter().filter_map(|link| {
            let end = link.end?;
            let id = LedgerId::new(chain.log, link.seq);
            let ledger = Ledger::new(id, link.first_offset, end);
            Some(Ledger {
                is_closed: true,
                ..ledger
            })
        });
        Self {
            first_offset: chain.first_offset,
            ledgers: ledgers.collect(),
        }
    }

    /// A new open ledger.
    pub(super) fn extended(&mut self, id: LedgerId, first_offset: Offset) {
        let end = LinkEnd {
            last: None,
            next_offset: first_offset,
        };
        self.ledgers.push_back(Ledger::new(id, first_offset, end));
    }

    /// The next entry of the open ledger is confirmed.
    pub(super) fn confirmed(
        &mut self,
        position: Position,
        next_offset: Offset,
        bytes: u64,
        end: EndFacts,
    ) {
        let ledger = self.ledgers.back_mut().expect("its ledger was told before");
        assert_eq!(ledger.id, position.ledger, "confirmed in the newest ledger");
        let first_offset = ledger.next_offset;
        ledger.last = Some(position.entry);
        ledger.next_offset = next_offset;
        ledger.bytes += bytes;
        ledger.end = Some(end);
        let opened = ledger.opened.get_or_insert(OpenSince {
            since: end.time,
            bytes: 0,
        });
        opened.bytes += bytes;
        if ledger.bytes >= POINT_BYTES {
            ledger.bytes = 0;
            ledger.learn(first_offset, position.entry);
        }
    }

    /// Keeps that an entry starts with an offset.
    pub(super) fn learn(&mut self, ledger: LedgerId, offset: Offset, entry: EntryId) {
        let found = self.ledgers.iter_mut().rev().find(|l| l.id == ledger);
        if let Some(found) = found {
            found.learn(offset, entry);
        }
    }

    /// Where the entry that holds `offset` may be; none when no entry that may be read holds it.
    pub(super) fn find(&self, offset: Offset) -> Option<Bracket> {
        // Empty ledgers share their first offset with their successor; the newest of those is the one that holds it.
        let after = self.ledgers.partition_point(|l| l.first_offset <= offset);
        let ledger = self
            .ledgers
            .range(..after)
            .rev()
            .find(|l| l.last.is_some())?;
        let last = ledger.last.filter(|_| offset < ledger.next_offset)?;
        let below = ledger.points.range(..=offset).next_back();
        let above = ledger.points.range(offset.next()..).next();
        let low = below.map_or(EntryId::new(0), |(_, entry)| *entry);
        let high = above.and_then(|(_, entry)| entry.prev()).unwrap_or(last);
        Some(Bracket {
            ledger: ledger.id,
            low,
            high: if below.is_some_and(|(at, _)| *at == offset) {
                low
            } else {
                high.min(last)
            },
            last,
        })
    }

    /// The ledgers with entries, oldest first, with the last entry of each.
    pub(super) fn ledgers(&self) -> impl Iterator<Item = (LedgerId, EntryId)> + '_ {
        let some = |ledger: &Ledger| Some((ledger.id, ledger.last?));
        self.ledgers.iter().filter_map(some)
    }

    /// The end of a ledger as far as it may be read.
    pub(super) fn end_of(&self, ledger: LedgerId) -> Option<LinkEnd> {
        let found = self.ledgers.iter().rev().find(|l| l.id == ledger)?;
        Some(LinkEnd {
            last: found.last,
            next_offset: found.next_offset,
        })
    }

    /// The first offset there is.
    pub(super) const fn first_offset(&self) -> Offset {
        self.first_offset
    }

    /// The newest ledger is closed.
    pub(super) fn close(&mut self, ledger: LedgerId) {
        if let Some(found) = self.ledgers.back_mut().filter(|found| found.id == ledger) {
            found.is_closed = true;
        }
    }

    /// The closed ledgers, oldest first.
    pub(super) fn closed(&self) -> impl Iterator<Item = Closed> + '_ {
        let closed = self.ledgers.iter().filter(|ledger| ledger.is_closed);
        closed.map(|ledger| Closed {
            id: ledger.id,
            last: ledger.last,
            next_offset: ledger.next_offset,
            end: ledger.end,
        })
    }

    /// How long the open ledger has had entries; none when there is none.
    pub(super) fn open_since(&self) -> Option<OpenSince> {
        self.ledgers
            .back()
            .filter(|ledger| !ledger.is_closed)?
            .opened
    }

    /// Keeps what the last entry of a ledger tells.
    pub(super) fn learn_end(&mut self, ledger: LedgerId, end: EndFacts) {
        if let Some(found) = self.ledgers.iter_mut().find(|found| found.id == ledger) {
            found.end = Some(end);
        }
    }

    /// Whether that is known.
    pub(super) fn knows_end(&self, ledger: LedgerId) -> bool {
        let mut ledgers = self.ledgers.iter();
        ledgers.any(|found| found.id == ledger && found.end.is_some())
    }

    /// The oldest ledgers are dropped.
    pub(super) fn trim(&mut self, first: LedgerSeq, first_offset: Offset) {
        self.first_offset = first_offset;
        while self.ledgers.front().is_some_and(|l| l.id.seq() < first) {
            self.ledgers.pop_front();
        }
    }
}

impl Ledger {
    fn new(id: LedgerId, first_offset: Offset, end: LinkEnd) -> Self {
        Self {
            id,
            first_offset,
            last: end.last,
            next_offset: end.next_offset,
            points: BTreeMap::new(),
            bytes: 0,
            is_closed: false,
            opened: None,
            end: None,
        }
    }

    fn learn(&mut self, offset: Offset, entry: EntryId) {
        // A point past the end would name an entry that is not there.
        if self.last.is_none_or(|last| entry > last) || entry == EntryId::new(0) {
            return;
        }
        if self.points.len() >= POINTS_MAX {
            let mut keep = false;
            self.points.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
        self.points.insert(offset, entry);
    }
}

#[cfg(test)]
mod tests {
    use types::LogId;
    use types::chain::ChainLink;

    use super::*;

    const LOG: LogId = LogId::new(7);
    const END: EndFacts = EndFacts {
        time: WallTime::from_nanos(5),
        log_bytes: 9,
    };

    fn ledger(seq: u32) -> LedgerId {
        LedgerId::new(LOG, LedgerSeq::new(seq))
    }

    fn link(seq: u32, first: u64, last: Option<u64>, next: u64) -> ChainLink {
        ChainLink {
            seq: LedgerSeq::new(seq),
            first_offset: Offset::new(first),
            end: Some(LinkEnd {
                last: last.map(EntryId::new),
                next_offset: Offset::new(next),
            }),
        }
    }

    fn chain() -> MessageChain {
        MessageChain::new(&Chain {
            log: LOG,
            first: LedgerSeq::new(0),
            first_offset: Offset::new(0),
            links: vec![
                link(0, 0, Some(9), 100),
                link(1, 100, None, 100),
                link(2, 100, Some(0), 101),
                link(3, 101, None, 101),
            ],
        })
    }

    fn found(chain: &MessageChain, offset: u64) -> Option<(u32, u64, u64)> {
        let at = chain.find(Offset::new(offset))?;
        Some((at.ledger.seq().get(), at.low.get(), at.high.get()))
    }

    #[test]
    fn empty_ledgers_hold_no_offset() {
        let chain = chain();
        assert_eq!(found(&chain, 0), Some((0, 0, 9)));
        assert_eq!(found(&chain, 99), Some((0, 0, 9)));
        assert_eq!(found(&chain, 100), Some((2, 0, 0)));
        assert_eq!(found(&chain, 101), None);
    }

    #[test]
    fn points_narrow_the_bracket_down_to_the_entry() {
        let mut chain = chain();
        chain.learn(ledger(0), Offset::new(40), EntryId::new(4));
        chain.learn(ledger(0), Offset::new(70), EntryId::new(6));
        chain.learn(ledger(0), Offset::new(100), EntryId::new(10));
        assert_eq!(found(&chain, 39), Some((0, 0, 3)));
        assert_eq!(found(&chain, 40), Some((0, 4, 4)));
        assert_eq!(found(&chain, 41), Some((0, 4, 5)));
        assert_eq!(found(&chain, 99), Some((0, 6, 9)));
    }

    #[test]
    fn what_is_confirmed_can_be_found_and_nothing_beyond_it() {
        let mut chain = chain();
        chain.extended(ledger(4), Offset::new(101));
        assert_eq!(found(&chain, 101), None);
        for entry in 0..4 {
            let position = Position {
                ledger: ledger(4),
                entry: EntryId::new(entry),
            };
            chain.confirmed(position, Offset::new(101 + (entry + 1) * 10), 40 << 10, END);
        }
        assert_eq!(found(&chain, 111), Some((4, 1, 1)));
        assert_eq!(found(&chain, 140), Some((4, 3, 3)));
        assert_eq!(found(&chain, 141), None);
    }

    #[test]
    fn points_are_bounded() {
        let mut chain = MessageChain::new(&Chain {
            log: LOG,
            first: LedgerSeq::new(0),
            first_offset: Offset::new(0),
            links: vec![link(0, 0, Some(100_000), 100_001)],
        });
        for entry in 0..100_000 {
            chain.learn(ledger(0), Offset::new(entry), EntryId::new(entry));
        }
        assert!(chain.ledgers[0].points.len() <= POINTS_MAX);
        assert_eq!(found(&chain, 99_999), Some((0, 99_999, 99_999)));
    }
}
