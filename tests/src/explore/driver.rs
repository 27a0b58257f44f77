//! An owner with the little its node adds: what it appends, and how often.

use bytes::Bytes;
use ledger::{Effect, Event, Owner, Token};
use types::chain::LogKind;
use types::{MonoTime, Offset, Payload};

/// One owner of the world's shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Driver {
    /// The machine.
    pub owner: Owner,
    /// Whether it was told to claim.
    pub is_started: bool,
    /// Whether the shard is open.
    pub is_open: bool,
    /// Which number it has among the owners.
    pub number: u8,
    /// How many entries it appended.
    pub appended: u8,
    next_offset: [Offset; 2],
}

impl Driver {
    pub(super) fn new(number: u8, owner: Owner) -> Self {
        Self {
            owner,
            is_started: false,
            is_open: false,
            number,
            appended: 0,
            next_offset: [Offset::new(0); 2],
        }
    }

    /// Hands an event in.
    pub(super) fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.owner.handle(MonoTime::ZERO, event, &mut effects);
        for effect in &effects {
            if let Effect::Opened(view) = effect {
                self.is_open = true;
                self.next_offset = LogKind::BOTH.map(|kind| {
                    let next = view.record.chain(kind).next_offset();
                    next.expect("a shard that opens has no open tail")
                });
            }
        }
        effects
    }

    /// Appends the next entry: its payload is one byte that no other append has.
    pub(super) fn append(&mut self, log: LogKind) -> Vec<Effect> {
        let token = self.number * 16 + self.appended;
        self.appended += 1;
        let place = usize::from(log == LogKind::State);
        self.next_offset[place] = self.next_offset[place].next();
        self.handle(Event::Append {
            log,
            token: Token::new(token.into()),
            payload: Payload::whole(Bytes::from(vec![token])),
            next_offset: self.next_offset[place],
        })
    }
}
