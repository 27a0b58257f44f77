//! A shard with two logs that a test confirms, cuts and reopens as it likes.
#![expect(clippy::unwrap_used, reason = "a test that meets the impossible stops")]
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use topic::state::SnapshotFinder;
use topic::{
    AckResult, Config, Delivery, Effect, Event, OffsetRange, OpenConsumer, OpenProducer, Opened,
    Opening, OpeningNotes, Position, Publish, ReadRequest, Receipt, StoredEntry, StreamId, Token,
    Topic,
};
use types::batch::{Body, Codec, Codecs, Compression};
use types::chain::LogKind;
use types::topic::{StartPosition, SubscriptionMode, SubscriptionRecord, SubscriptionState};
use types::{
    EntryId, Epoch, LedgerId, LedgerSeq, LogId, MonoTime, Offset, Payload, SequenceId,
    SubscriptionId, TopicId, WallTime,
};

/// One log: what was appended, and how much of it is confirmed.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    id: LogId,
    seq: u32,
    next_entry: u64,
    pub(crate) entries: Vec<(Position, Payload, Offset)>,
    pub(crate) confirmed: usize,
    tokens: VecDeque<Token>,
}

impl Log {
    fn new(id: u64) -> Self {
        Self {
            id: LogId::new(id),
            seq: 0,
            next_entry: 0,
            entries: Vec::new(),
            confirmed: 0,
            tokens: VecDeque::new(),
        }
    }

    fn append(&mut self, token: Token, payload: Payload, next: Offset) {
        let ledger = LedgerId::new(self.id, LedgerSeq::new(self.seq));
        let entry = EntryId::new(self.next_entry);
        self.next_entry += 1;
        self.entries
            .push((Position { ledger, entry }, payload, next));
        self.tokens.push_back(token);
    }

    fn confirm(&mut self) -> Option<(Token, Position)> {
        let token = self.tokens.pop_front()?;
        let position = self.entries[self.confirmed].0;
        self.confirmed += 1;
        Some((token, position))
    }

    /// A new ledger; what was not confirmed is written again in it.
    fn roll(&mut self) {
        self.seq += 1;
        self.next_entry = 0;
        for (position, _, _) in &mut self.entries[self.confirmed..] {
            position.ledger = LedgerId::new(self.id, LedgerSeq::new(self.seq));
            position.entry = EntryId::new(self.next_entry);
            self.next_entry += 1;
        }
    }

    /// The end that a recovery finds: all that was confirmed, and `keep` entries more at most.
    fn recover(&mut self, keep: usize) {
        self.entries.truncate(self.confirmed + keep);
        self.confirmed = self.entries.len();
        self.tokens.clear();
        self.roll();
    }

    fn next_offset(&self) -> Offset {
        self.entries
            .last()
            .map_or(Offset::new(0), |(_, _, next)| *next)
    }
}

/// The shard.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) topic: Topic,
    pub(crate) notes: OpeningNotes,
    pub(crate) epoch: u64,
    pub(crate) now: MonoTime,
    pub(crate) message: Log,
    pub(crate) state: Log,
    pub(crate) subscriptions: Vec<SubscriptionRecord>,
    pub(crate) reads: VecDeque<ReadRequest>,
    /// What is for the clients, since it was taken last.
    pub(crate) out: Vec<Effect>,
    /// What the next consumers open themselves.
    pub(crate) codecs: Codecs,
    next_stream: u64,
}

pub(crate) fn small() -> Config {
    Config {
        producers_max: 8,
        producer_names_max: 3,
        producer_batches_max: 3,
        producer_messages_max: 100,
        recent_batches: 4,
        receipts_max: 8,
        consumers_max: 3,
        unacked_max: 50,
        ranges_max: 10,
        waiting_acks_max: 4,
        subscriptions_max: 3,
        ..Config::default()
    }
}

/// A batch of messages of the given payloads, each at most 100 bytes.
pub(crate) fn batch(payloads: &[&str]) -> Bytes {
    let mut bytes = BytesMut::new();
    for payload in payloads {
        let len = u8::try_from(payload.len()).unwrap();
        assert!(len <= 100);
        bytes.put_slice(&[0x0a, len + 2, 0x0a, len]);
        bytes.put_slice(payload.as_bytes());
    }
    bytes.freeze()
}

/// The payloads of a batch made by [`batch`].
pub(crate) fn payloads(mut batch: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let [0x0a, _, 0x0a, len, rest @ ..] = batch {
        let (payload, rest) = rest.split_at(usize::from(*len));
        found.push(String::from_utf8(payload.to_vec()).unwrap());
        batch = rest;
    }
    assert!(batch.is_empty());
    found
}

/// A batch as a producer sends it that compresses with LZ4: a block of literals only.
pub(crate) fn compressed(batch: &[u8]) -> Body {
    let mut block = vec![0xf0];
    let mut rest = batch.len().checked_sub(15).expect("a batch of some length");
    while rest >= 255 {
        block.push(255);
        rest -= 255;
    }
    block.push(u8::try_from(rest).unwrap());
    block.extend_from_slice(batch);
    Body {
        bytes: block.into(),
        compression: Some(Compression {
            codec: Codec::Lz4,
            uncompressed_bytes: u32::try_from(batch.len()).unwrap(),
        }),
    }
}

/// The payloads of a batch made by [`batch`], compressed or not.
pub(crate) fn payloads_of(body: &Body) -> Vec<String> {
    match body.compression {
        None => payloads(&body.bytes),
        Some(compression) => payloads(&compression::open(compression, &body.bytes).unwrap()),
    }
}

pub(crate) fn range(start: u64, end: u64) -> OffsetRange {
    OffsetRange::new(Offset::new(start), Offset::new(end))
}

pub(crate) fn subscription(
    id: u64,
    mode: SubscriptionMode,
    start: StartPosition,
) -> SubscriptionRecord {
    SubscriptionRecord {
        id: SubscriptionId::new(id),
        topic: TopicId::new(1),
        name: format!("orders/subscriptions/s{id}").parse().unwrap(),
        mode,
        ack_deadline: Duration::from_secs(30),
        start,
        state: SubscriptionState::Creating,
        created_at: WallTime::from_nanos(0),
    }
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        assert_eq!(config.validate(), Ok(()));
        let opened = Opened {
            epoch: Epoch::new(1),
            first_offset: Offset::new(0),
            next_offset: Offset::new(0),
            state_next_offset: Offset::new(0),
            subscriptions: Vec::new(),
        };
        let (topic, notes) = Opening::new(config.clone()).finish(opened).unwrap();
        Self {
            config,
            topic,
            notes,
            epoch: 1,
            now: MonoTime::from_nanos(1_000),
            message: Log::new(10),
            state: Log::new(11),
            subscriptions: Vec::new(),
            reads: VecDeque::new(),
            out: Vec::new(),
            codecs: Codecs::NONE,
            next_stream: 0,
        }
    }

    pub(crate) fn wall(&self) -> WallTime {
        WallTime::from_nanos(1_000_000_000 + self.now.as_nanos())
    }

    pub(crate) fn log(&mut self, log: LogKind) -> &mut Log {
        match log {
            LogKind::Message => &mut self.message,
            LogKind::State => &mut self.state,
        }
    }

    /// Hands an event in, and keeps what comes of it.
    pub(crate) fn send(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.topic
            .handle(self.now, self.wall(), event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Append(append) => {
                    let log = self.log(append.log);
                    log.append(append.token, append.payload, append.next_offset);
                }
                Effect::Read(read) => {
                    assert_eq!(
                        read.end,
                        self.topic.confirmed_end(),
                        "only what is confirmed is read"
                    );
                    self.reads.push_back(read);
                }
                Effect::CursorDurable { subscription, .. } => {
                    let mut known = self.subscriptions.iter_mut();
                    let found = known.find(|known| known.id == subscription).unwrap();
                    found.state = SubscriptionState::Active;
                    self.out.push(effect);
                }
                other => self.out.push(other),
            }
        }
        assert!(
            self.topic.deadline().is_none_or(|at| at > self.now),
            "no deadline in the past"
        );
    }

    /// Confirms the oldest append of a log. Tells whether there was one.
    pub(crate) fn confirm(&mut self, log: LogKind) -> bool {
        let Some((token, position)) = self.log(log).confirm() else {
            return false;
        };
        self.send(Event::Appended {
            log,
            token,
            position,
        });
        true
    }

    /// Answers the oldest read as a correct shell does. Tells whether there was one.
    pub(crate) fn answer_read(&mut self) -> bool {
        let Some(read) = self.reads.pop_front() else {
            return false;
        };
        let (mut bytes, mut messages) = (0, 0);
        let mut entries = Vec::new();
        for (position, payload, next) in &self.message.entries[..self.message.confirmed] {
            if *next <= read.from {
                continue;
            }
            let entry = StoredEntry::decode(*position, payload).unwrap();
            let is_past = entry.header.first_offset >= read.end;
            if is_past
                || !entries.is_empty() && (bytes >= read.max_bytes || messages >= read.max_messages)
            {
                break;
            }
            bytes += entry.body.len() as u64;
            messages += u64::from(entry.header.count);
            entries.push(entry);
        }
        self.send(Event::EntriesRead {
            subscription: read.subscription,
            read: read.read,
            entries,
        });
        true
    }

    /// Confirms and answers until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        while self.confirm(LogKind::Message) || self.confirm(LogKind::State) || self.answer_read() {
        }
    }

    pub(crate) fn roll(&mut self, log: LogKind) {
        self.log(log).roll();
    }

    /// Lets time pass, stopping at every deadline, and settles each time.
    pub(crate) fn pass(&mut self, by: Duration) {
        let end = self.now.after(by);
        while let Some(at) = self.topic.deadline().filter(|at| *at <= end) {
            self.now = at;
            self.send(Event::Deadline);
            self.settle();
        }
        self.now = end;
        self.send(Event::Deadline);
        self.settle();
    }

    /// The owner dies; another one recovers both logs, of each of which some unconfirmed entries may have survived.
    pub(crate) fn crash(&mut self, keep_message: usize, keep_state: usize) {
        self.message.recover(keep_message);
        self.state.recover(keep_state);
        self.reads.clear();
        self.out.clear();
        self.epoch += 1;
        let (from_snapshot, notes) = self.reopen(self.scan_start());
        let (from_everything, _) = self.reopen(0);
        assert_eq!(
            from_snapshot, from_everything,
            "where the scan begins makes no difference"
        );
        (self.topic, self.notes) = (from_snapshot, notes);
    }

    /// The first entry of the newest state ledger that holds a whole snapshot.
    fn scan_start(&self) -> usize {
        let mut end = self.state.entries.len();
        while end > 0 {
            let ledger = self.state.entries[end - 1].0.ledger;
            let begins = |(at, _, _): &(Position, Payload, Offset)| at.ledger == ledger;
            let start = self.state.entries.iter().position(begins).unwrap();
            let mut finder = SnapshotFinder::default();
            for (_, payload, _) in &self.state.entries[start..end] {
                let bytes = payload.to_bytes();
                let prefix = &bytes[..bytes.len().min(SnapshotFinder::PREFIX_LEN)];
                finder.feed(prefix).unwrap();
            }
            if finder.is_found() {
                return start;
            }
            end = start;
        }
        0
    }

    fn reopen(&self, state_start: usize) -> (Topic, OpeningNotes) {
        let mut opening = Opening::new(self.config.clone());
        for (position, payload, _) in &self.state.entries[state_start..] {
            opening
                .replay_state(*position, &payload.to_bytes())
                .unwrap();
        }
        let covered = opening.covered();
        for (position, payload, _) in &self.message.entries {
            if covered.is_none_or(|covered| *position > covered) {
                let bytes = payload.to_bytes();
                let prefix = &bytes[..bytes.len().min(topic::format::HEADER_LEN_MAX)];
                opening.replay_header(*position, prefix).unwrap();
            }
        }
        let opened = Opened {
            epoch: Epoch::new(self.epoch),
            first_offset: Offset::new(0),
            next_offset: self.message.next_offset(),
            state_next_offset: self.state.next_offset(),
            subscriptions: self.subscriptions.clone(),
        };
        opening.finish(opened).unwrap()
    }

    // Clients.

    pub(crate) fn stream(&mut self) -> StreamId {
        self.next_stream += 1;
        StreamId::new(self.next_stream)
    }

    pub(crate) fn open_producer(&mut self, name: Option<&str>, resume: bool) -> StreamId {
        let stream = self.stream();
        self.send(Event::OpenProducer(OpenProducer {
            stream,
            name: name.map(|name| name.parse().unwrap()),
            resume,
        }));
        stream
    }

    pub(crate) fn publish(&mut self, stream: StreamId, first: u64, payloads: &[&str]) {
        self.send(Event::Publish(Publish {
            stream,
            first_sequence: SequenceId::new(first),
            count: u32::try_from(payloads.len()).unwrap(),
            body: batch(payloads).into(),
        }));
    }

    /// Publishes one batch for each list of payloads, settles, and forgets what came of it.
    pub(crate) fn fill(&mut self, batches: &[&[&str]]) {
        self.fill_kept(batches);
        self.out.clear();
    }

    fn fill_kept(&mut self, batches: &[&[&str]]) {
        let stream = self.open_producer(None, false);
        let mut next = 0;
        for payloads in batches {
            self.publish(stream, next, payloads);
            next += payloads.len() as u64;
            self.settle();
        }
        self.send(Event::CloseStream { stream });
    }

    /// Publishes `count` single messages `0`, `1`, … and settles.
    pub(crate) fn fill_singles_kept(&mut self, count: u64) {
        let texts: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        for text in &texts {
            self.fill_kept(&[&[text]]);
        }
    }

    /// As [`World::fill_singles_kept`], and forgets what came of it.
    pub(crate) fn fill_singles(&mut self, count: u64) {
        self.fill_singles_kept(count);
        self.out.clear();
    }

    pub(crate) fn create(
        &mut self,
        id: u64,
        mode: SubscriptionMode,
        start: StartPosition,
    ) -> SubscriptionId {
        let record = subscription(id, mode, start);
        self.subscriptions.push(record.clone());
        self.send(Event::CreateCursor {
            subscription: record,
        });
        SubscriptionId::new(id)
    }

    pub(crate) fn consume(&mut self, id: SubscriptionId, permits: (i64, i64)) -> StreamId {
        self.consume_as(id, permits, true)
    }

    pub(crate) fn consume_as(
        &mut self,
        subscription: SubscriptionId,
        permits: (i64, i64),
        confirm_acks: bool,
    ) -> StreamId {
        let stream = self.stream();
        self.send(Event::OpenConsumer(OpenConsumer {
            stream,
            subscription,
            mode: None,
            name: Some(format!("c{}", stream.get()).parse().unwrap()),
            ack_deadline: None,
            confirm_acks,
            permits,
            codecs: self.codecs,
        }));
        stream
    }

    pub(crate) fn ack(&mut self, stream: StreamId, request_id: u64, ranges: &[OffsetRange]) {
        self.send(Event::Ack(topic::Ack {
            stream,
            request_id,
            generation: types::Generation::new(1),
            ranges: ranges.to_vec(),
            cumulative_end: None,
        }));
    }

    // What came out.

    pub(crate) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn receipts(&mut self) -> Vec<(StreamId, Receipt)> {
        let receipts = self.take().into_iter().filter_map(|effect| match effect {
            Effect::Receipt { stream, receipt } => Some((stream, receipt)),
            _ => None,
        });
        receipts.collect()
    }

    pub(crate) fn deliveries(&mut self) -> Vec<(StreamId, Delivery)> {
        let deliveries = self.take().into_iter().filter_map(|effect| match effect {
            Effect::Deliver { stream, delivery } => Some((stream, delivery)),
            _ => None,
        });
        deliveries.collect()
    }

    /// What was delivered to a stream: payloads with their attempts.
    pub(crate) fn delivered_to(&mut self, stream: StreamId) -> Vec<(String, u32)> {
        let all = self.deliveries();
        let own = all.into_iter().filter(|(to, _)| *to == stream);
        own.flat_map(|(_, delivery)| {
            let attempt = delivery.attempt;
            let messages = payloads_of(&delivery.batch);
            assert_eq!(messages.len() as u64, u64::from(delivery.count));
            messages.into_iter().map(move |payload| (payload, attempt))
        })
        .collect()
    }

    pub(crate) fn ack_results(&mut self) -> Vec<AckResult> {
        let results = self.take().into_iter().filter_map(|effect| match effect {
            Effect::AckResult { result, .. } => Some(result),
            _ => None,
        });
        results.collect()
    }

    /// All confirmed messages, in order.
    pub(crate) fn stored(&self) -> Vec<StoredEntry> {
        let confirmed = &self.message.entries[..self.message.confirmed];
        let entries = confirmed.iter();
        entries
            .map(|(at, payload, _)| StoredEntry::decode(*at, payload).unwrap())
            .collect()
    }
}
