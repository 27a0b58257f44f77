//! The pure pieces of the hot path, one by one. `cargo bench -p benches`.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement reads the clock and speaks to a person"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ledger::{Acceptor, Held};
use topic::{
    Config, Effect, Event, OpenProducer, Opened, Opening, Position, Publish, StreamId, Topic,
};
use types::batch::{Limits, MessageParts};
use types::chain::LogKind;
use types::storage::{Add, AddKind, Entry};
use types::{
    EntryId, Epoch, LedgerId, LedgerSeq, LogId, MonoTime, Offset, Payload, Revision, SequenceId,
    WallTime,
};

/// How long each piece is timed.
const TIMED: Duration = Duration::from_millis(500);

/// Times `once`, which handles `bytes` bytes of payload, and prints the best of five runs.
fn time(name: &str, bytes: usize, mut once: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let (began, mut count) = (Instant::now(), 0_u32);
        while began.elapsed() < TIMED / 5 {
            for _ in 0..64 {
                once();
            }
            count += 64;
        }
        best = best.min(began.elapsed().as_secs_f64() / f64::from(count));
    }
    let rate = bytes as f64 / best / 1e9;
    println!("{name:<44} {:>12.0} ns {rate:>9.2} GB/s", best * 1e9);
}

fn batch(messages: usize) -> Bytes {
    let payload = [7; 1024];
    let attributes = BTreeMap::new();
    let mut batch = BytesMut::new();
    for _ in 0..messages {
        let parts = MessageParts {
            payload: &payload,
            attributes: &attributes,
            ..MessageParts::default()
        };
        parts.append_to(&mut batch);
    }
    batch.freeze()
}

const LEDGER: LedgerId = LedgerId::new(LogId::new(1), LedgerSeq::new(0));

fn add(body: &Bytes) -> Add {
    let payload = Payload::new(Bytes::from_static(&[1; 64]), body.clone());
    Add {
        ledger: LEDGER,
        created: Revision::new(5),
        epoch: Epoch::new(1),
        lac: None,
        kind: AddKind::Write,
        entry: Entry::new(LEDGER, EntryId::new(0), Offset::new(64), payload),
    }
}

/// A shard's rules with one open producer.
fn open_topic() -> Topic {
    let opened = Opened {
        epoch: Epoch::new(1),
        first_offset: Offset::new(0),
        next_offset: Offset::new(0),
        state_next_offset: Offset::new(0),
        subscriptions: Vec::new(),
    };
    let opening = Opening::new(Config::default()).finish(opened);
    let (mut topic, _) = opening.expect("an empty shard opens");
    let open = OpenProducer {
        stream: StreamId::new(1),
        name: None,
        resume: false,
    };
    topic.handle(now(), wall(), Event::OpenProducer(open), &mut Vec::new());
    topic
}

const fn now() -> MonoTime {
    MonoTime::ZERO
}

const fn wall() -> WallTime {
    WallTime::from_nanos(1)
}

fn main() {
    let body = batch(64);
    println!("64 messages of 1 KiB are {} bytes as a batch", body.len());
    time("check a batch of 64 messages", body.len(), || {
        black_box(types::batch::check(black_box(&body), &Limits::default()))
            .expect("it is well formed");
    });
    let payload = Payload::new(Bytes::from_static(&[1; 64]), body.clone());
    time("checksum of its entry", body.len(), || {
        let (id, next) = (EntryId::new(0), Offset::new(64));
        black_box(Entry::checksum(LEDGER, id, next, black_box(&payload)));
    });
    let mut acceptor = Acceptor::new(Revision::new(1));
    let add = add(&body);
    time("the bookie's decision on an add", 0, || {
        black_box(acceptor.add(black_box(&add), Held::Absent));
    });
    let (mut topic, mut effects) = (open_topic(), Vec::new());
    let mut sequence = 0;
    time("a batch of 64 from publish to receipt", body.len(), || {
        let publish = Publish {
            stream: StreamId::new(1),
            first_sequence: SequenceId::new(sequence),
            count: 64,
            body: body.clone().into(),
        };
        topic.handle(now(), wall(), Event::Publish(publish), &mut effects);
        let token = match effects.pop() {
            Some(Effect::Append(append)) => append.token,
            other => unreachable!("a batch in order is appended: {other:?}"),
        };
        let position = Position {
            ledger: LEDGER,
            entry: EntryId::new(sequence / 64),
        };
        let appended = Event::Appended {
            log: LogKind::Message,
            token,
            position,
        };
        topic.handle(now(), wall(), appended, &mut effects);
        effects.clear();
        sequence += 64;
    });
}
