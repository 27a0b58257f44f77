//! Who gets which messages: redeliveries before new ones, consumers in turn, never beyond a grant.

use bytes::Bytes;

use types::batch::Body;
use types::topic::SubscriptionMode;
use types::{MonoTime, Offset, WallTime};

use super::{Lease, Subscription};
use crate::{
    BatchFault, BlockedReason, Config, Delivery, Effect, OffsetRange, ReadId, ReadRequest,
    StoredEntry, StreamId, Unreadable,
};

/// What a subscription sees of its shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) config: &'a Config,
    pub(crate) now: MonoTime,
    pub(crate) wall: WallTime,
    /// The first offset not confirmed: nothing at or beyond it is ever shown.
    pub(crate) confirmed_end: Offset,
    /// Nothing may be delivered just now.
    pub(crate) is_held: bool,
}

/// What [`Subscription::pump`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// It waits for an answer, for a time or for a consumer.
    Waits,
    /// It has consumers with permits and nothing for them: it wants to hear of new messages.
    AtTail,
}

/// Messages that may be delivered now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    range: OffsetRange,
    /// How often they were delivered.
    attempts: u32,
}

/// A batch, or a part of one, cut at its records.
struct Part {
    batch: Body,
    count: u64,
}

impl Subscription {
    /// Asks for the next entries, if somebody would take them.
    pub(crate) fn pump(&mut self, scene: Scene<'_>, effects: &mut Vec<Effect>) -> Pumped {
        if self.read.is_some() || scene.is_held || self.retry_at.is_some_and(|at| at > scene.now) {
            return Pumped::Waits;
        }
        let (mut messages, mut bytes) = (0_u64, 0_u64);
        for consumer in self.consumers.values() {
            let room = consumer.room(scene.config);
            if room > 0 {
                messages = messages.saturating_add(room);
                bytes = bytes.saturating_add(consumer.room_bytes());
            }
        }
        if messages == 0 {
            return Pumped::Waits;
        }
        let everything = OffsetRange::new(Offset::new(0), scene.confirmed_end);
        let Some(wanted) = self.next_wanted(everything) else {
            return Pumped::AtTail;
        };
        let read = ReadId::new(self.next_read);
        self.next_read += 1;
        self.retry_at = None;
        let request = ReadRequest {
            subscription: self.id,
            read,
            from: wanted.range.start,
            end: scene.confirmed_end,
            max_bytes: bytes.min(scene.config.read_bytes.get()),
            max_messages: messages,
        };
        self.read = Some(request);
        effects.push(Effect::Read(request));
        Pumped::Waits
    }

    /// The first messages of `within` that may be delivered now.
    fn next_wanted(&self, within: OffsetRange) -> Option<Wanted> {
        let again = self.ready.at_or_after(within.start);
        if let Some(piece) = again.filter(|piece| piece.range.start < within.end) {
            return Some(Wanted {
                range: OffsetRange::new(piece.range.start, piece.range.end.min(within.end)),
                attempts: piece.value,
            });
        }
        let start = within.start.max(self.frontier);
        let range = self
            .acked
            .first_unacked(OffsetRange::new(start, within.end))?;
        Some(Wanted { range, attempts: 0 })
    }

    /// Entries came: delivers what may be delivered of them. What nobody takes now is read again later.
    pub(crate) fn entries_read(
        &mut self,
        scene: Scene<'_>,
        read: ReadId,
        entries: &[StoredEntry],
        effects: &mut Vec<Effect>,
    ) {
        let Some(request) = self.read.take_if(|asked| asked.read == read) else {
            return; // Late: it was given up.
        };
        let holds = |entry: &StoredEntry| {
            let header = &entry.header;
            header.first_offset <= request.from && request.from < header.next_offset()
        };
        if !entries.first().is_some_and(holds) {
            self.read_failed_at(scene);
            return;
        }
        if scene.is_held || self.is_overtaken(scene, request.from) {
            return; // Asked again, from where it is wanted then.
        }
        let mut next = entries[0].header.first_offset;
        for entry in entries {
            let header = &entry.header;
            assert_eq!(header.first_offset, next, "entries come without a gap");
            next = header.next_offset();
            assert!(
                header.next_offset() <= scene.confirmed_end,
                "nothing beyond what is confirmed is shown entry={:?}",
                entry.position
            );
            if !self.deliver_entry(scene, entry, effects) {
                return;
            }
        }
    }

    /// Whether messages below what was read came back while it was read, as those of a consumer that is gone do. One
    /// consumer gets them in order, so the lower ones go first: a cumulative ack of the higher ones would ack them unseen.
    fn is_overtaken(&self, scene: Scene<'_>, from: Offset) -> bool {
        let below = OffsetRange::new(Offset::new(0), from.min(scene.confirmed_end));
        self.mode == SubscriptionMode::Exclusive && self.next_wanted(below).is_some()
    }

    /// A read failed: it is asked again after a while.
    pub(crate) fn read_failed(&mut self, scene: Scene<'_>, read: ReadId) {
        if self.read.take_if(|asked| asked.read == read).is_some() {
            self.read_failed_at(scene);
        }
    }

    fn read_failed_at(&mut self, scene: Scene<'_>) {
        self.retry_at = Some(scene.now.after(scene.config.read_retry));
    }

    /// Delivers what may be delivered of one entry. Tells whether somebody would take more.
    fn deliver_entry(
        &mut self,
        scene: Scene<'_>,
        entry: &StoredEntry,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let header = &entry.header;
        let mut within = OffsetRange::new(header.first_offset, header.next_offset());
        while let Some(wanted) = self.next_wanted(within) {
            let Some((stream, room)) = self.next_consumer(scene.config) else {
                self.opened.wait();
                return false;
            };
            let part = match self.cut(entry, wanted.range, stream, room) {
                Ok(part) => part,
                Err(fault) => {
                    // The batch does not hold what its header says. It was validated when it came and has a checksum, so
                    // this is a program's error somewhere: no message of it is given out as another one.
                    effects.push(self.unreadable(entry, fault));
                    self.read_failed_at(scene);
                    return false;
                }
            };
            let end = wanted.range.start.plus(part.count);
            let range = OffsetRange::new(wanted.range.start, end);
            self.deliver(
                scene,
                entry,
                stream,
                (range, wanted.attempts, part.batch),
                effects,
            );
            within.start = end;
        }
        self.opened.forget();
        true
    }

    /// Tells of a batch that this subscription waits at.
    fn unreadable(&mut self, entry: &StoredEntry, fault: BatchFault) -> Effect {
        let header = &entry.header;
        let before = self.unreadable.replace(entry.position);
        Effect::Unreadable(Unreadable {
            subscription: self.name.clone(),
            position: entry.position,
            messages: OffsetRange::new(header.first_offset, header.next_offset()),
            fault,
            is_first: before != Some(entry.position),
        })
    }

    /// The consumer whose turn it is, and how many messages it may get.
    fn next_consumer(&self, config: &Config) -> Option<(StreamId, u64)> {
        let with_room = |(stream, consumer): (&StreamId, &crate::subscription::Consumer)| {
            let room = consumer.room(config);
            (room > 0).then_some((*stream, room))
        };
        let last = self.last_served;
        let mut after = self
            .consumers
            .iter()
            .filter(|(stream, _)| Some(**stream) > last);
        let mut before = self
            .consumers
            .iter()
            .filter(|(stream, _)| Some(**stream) <= last);
        after
            .find_map(with_room)
            .or_else(|| before.find_map(with_room))
    }

    /// Cuts what a consumer may get out of an entry: whole and as it came when it may have all of it, and knows how to
    /// open it where it is compressed. Else the batch is opened here, the one place that does.
    fn cut(
        &mut self,
        entry: &StoredEntry,
        range: OffsetRange,
        stream: StreamId,
        room: u64,
    ) -> Result<Part, BatchFault> {
        let header = &entry.header;
        let count = range.len().min(room);
        let consumer = &self.consumers[&stream];
        let bytes_max = consumer.room_bytes();
        let body_len = u64::try_from(entry.body.len()).expect("lengths fit 64 bits");
        let is_whole = count == u64::from(header.count) && body_len <= bytes_max;
        let codec = header.compression.map(|compression| compression.codec);
        if is_whole && codec.is_none_or(|codec| consumer.codecs.has(codec)) {
            return Ok(Part {
                batch: entry.batch(),
                count,
            });
        }
        let opened = self.opened.batch(entry)?;
        let skip = range.start.get() - header.first_offset.get();
        let part = super::part::cut(&opened, skip, count, bytes_max);
        let (mut bytes, count) = part.ok_or(BatchFault::Records)?;
        if codec.is_some() && bytes.len() < opened.len() {
            // The entry is there anyhow; what was opened is not, and a small part must not hold all of it in memory.
            bytes = Bytes::copy_from_slice(&bytes);
        }
        Ok(Part {
            batch: bytes.into(),
            count,
        })
    }

    fn deliver(
        &mut self,
        scene: Scene<'_>,
        entry: &StoredEntry,
        stream: StreamId,
        (range, attempts, batch): (OffsetRange, u32, Body),
        effects: &mut Vec<Effect>,
    ) {
        let consumer = self.consumers.get_mut(&stream).expect("it was just chosen");
        let bytes = u64::try_from(batch.len()).expect("lengths fit 64 bits");
        consumer.spend(range.len(), bytes);
        self.last_served = Some(stream);
        let attempt = attempts.saturating_add(1);
        let deadline = scene.now.after(consumer.ack_deadline);
        let expire_time = scene.wall.after(consumer.ack_deadline);
        self.ready.take(range, |_| ());
        let lease = Lease {
            consumer: stream,
            attempt,
        };
        self.leases.insert(range, deadline, lease);
        self.frontier = self.frontier.max(range.end);
        let header = &entry.header;
        let skip = range.start.get() - header.first_offset.get();
        let first_sequence = header.first_sequence.checked_plus(skip);
        let delivery = Delivery {
            subscription: self.id,
            generation: self.generation,
            position: entry.position,
            first_offset: range.start,
            count: u32::try_from(range.len()).expect("a part of an entry"),
            batch,
            publish_time: header.publish_time,
            producer: header.producer.clone(),
            first_sequence: first_sequence.expect("the header was checked"),
            attempt,
            lease_deadline: deadline,
            lease_expire_time: expire_time,
        };
        effects.push(Effect::Deliver { stream, delivery });
    }

    /// Why a consumer gets nothing just now.
    pub(crate) fn blocked(&self, scene: Scene<'_>, stream: StreamId) -> Option<BlockedReason> {
        let consumer = self.consumers.get(&stream)?;
        if scene.is_held || self.retry_at.is_some() {
            return Some(BlockedReason::Storage);
        }
        let everything = OffsetRange::new(Offset::new(0), scene.confirmed_end);
        if self.next_wanted(everything).is_none() {
            return Some(BlockedReason::NoMessages);
        }
        if consumer.is_out_of_permits() {
            return Some(BlockedReason::NoPermits);
        }
        (consumer.room(scene.config) == 0).then_some(BlockedReason::UnackedLimit)
    }
}
