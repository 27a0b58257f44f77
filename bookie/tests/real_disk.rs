//! The engine on a real file system, jobs run one after the other.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bookie::{Answer, Ask, Config, Effect, Engine, Event, Opening, Place, Request, Token};
use bytes::Bytes;
use host::disk::{Disk, RealDisk};
use types::cluster::{BookieRecord, BookieState};
use types::storage::{Add, AddKind, AddResult, Entry, Read, ReadResult};
use types::{
    BookieId, ClusterId, EntryId, Epoch, LedgerId, LedgerSeq, LogId, MonoTime, Offset, Payload,
    Revision, SessionId,
};

const LEDGER: LedgerId = LedgerId::new(LogId::new(1), LedgerSeq::new(0));

fn open(config: &Config, entropy: u128) -> Engine {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let place = Place {
        cluster: ClusterId::new(7),
        name: "b-1".parse().unwrap(),
        entropy,
    };
    let opening = Opening::start(config.clone(), disk, place).unwrap();
    let claim = opening.claim("b-1:1".to_owned());
    let record = BookieRecord {
        id: BookieId::new(1),
        name: claim.name,
        address: claim.address,
        born: claim.born.unwrap_or(Revision::new(1)),
        incarnation: claim.incarnation,
        mark: claim.mark,
        state: BookieState::ReadWrite,
        session: SessionId::new(1),
        live: true,
    };
    let (engine, report) = opening.finish(&record, MonoTime::ZERO).unwrap();
    assert!(report.damage.is_empty(), "{report:?}");
    engine
}

fn entry(id: u64, size: usize) -> Entry {
    let payload = Payload::whole(Bytes::from(vec![u8::try_from(id % 251).unwrap(); size]));
    Entry::new(LEDGER, EntryId::new(id), Offset::new(id + 1), payload)
}

/// Hands events in and runs every job that comes of them; the answers.
fn drive(engine: &mut Engine, first: Event) -> Vec<(Token, Answer)> {
    let mut events = VecDeque::from([first]);
    let mut effects = Vec::new();
    let mut answers = Vec::new();
    while let Some(event) = events.pop_front() {
        engine.handle(MonoTime::ZERO, event, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Reply { token, answer } => answers.push((token, answer)),
                Effect::Run { job, .. } => events.push_back(Event::Done(job.run())),
                Effect::Fatal(what) => panic!("{what}"),
                Effect::MarkMoved(_) | Effect::Standing(_) | Effect::Alarm(_) | Effect::Stopped => {
                }
            }
        }
    }
    answers
}

fn add_all(engine: &mut Engine, ids: std::ops::Range<u64>, size: usize) {
    let requests = ids.clone().map(|id| Request {
        token: Token(id),
        ask: Ask::Add(Add {
            ledger: LEDGER,
            created: Revision::new(5),
            epoch: Epoch::new(1),
            lac: None,
            kind: AddKind::Write,
            entry: entry(id, size),
        }),
    });
    let answers = drive(engine, Event::Requests(requests.collect()));
    let stored = answers
        .iter()
        .filter(|(_, answer)| *answer == Answer::Add(AddResult::Stored));
    assert_eq!(stored.count(), ids.count());
}

fn check(engine: &mut Engine, id: u64, size: usize) {
    let read = Ask::Read(Read {
        ledger: LEDGER,
        created: Revision::new(5),
        entry: EntryId::new(id),
        fence: None,
    });
    let token = Token(id);
    let answers = drive(engine, Event::Requests(vec![Request { token, ask: read }]));
    let [(_, Answer::Read(ReadResult::Found { entry: found, .. }))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(*found, entry(id, size));
}

fn config(dir: &Path, base: impl Fn(std::path::PathBuf, std::path::PathBuf) -> Config) -> Config {
    base(dir.join("b/journal"), dir.join("b/data"))
}

#[test]
fn entries_survive_restarts_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), Config::small);
    config.free_low = types::ByteSize::new(0);
    config.cache = types::ByteSize::mib(1);
    for round in 0..3 {
        let mut engine = open(&config, u128::from(round) + 1);
        for id in 0..100 {
            add_all(&mut engine, round * 100 + id..round * 100 + id + 1, 900);
        }
        for id in 0..(round + 1) * 100 {
            check(&mut engine, id, 900);
        }
        if round == 1 {
            drive(&mut engine, Event::Stop);
            assert!(engine.is_over());
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn measure_writes() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let config = config(dir.path(), Config::new);
    let mut engine = open(&config, 1);
    for group in 0..512_u64 {
        add_all(&mut engine, group * 16..group * 16 + 16, 64 << 10);
    }
    eprintln!("{:?}", engine.stats());
}
