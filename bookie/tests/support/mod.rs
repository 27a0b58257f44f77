//! One bookie on a simulated disk, with a meta of one record, a queue for each worker, and a model of what must hold.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use bookie::{
    Answer, Ask, Config, Effect, Engine, Event, Job, OpenError, OpenReport, Opening, Place,
    Request, Standing, Token, Worker,
};
use bytes::Bytes;
use host::Rng;
use host::disk::Disk;
use host::disk::sim::SimDisk;
use types::cluster::{BookieClaim, BookieDuty, BookieRecord, BookieState};
use types::storage::{
    Add, AddKind, AddResult, Entry, LacResult, Read, ReadLac, ReadResult, ReadRun, RunItem,
};
use types::{
    BookieId, ClusterId, EntryId, Epoch, LedgerId, LedgerSeq, LogId, MonoTime, Offset, Payload,
    Revision, SessionId,
};

pub const CLUSTER: ClusterId = ClusterId::new(0xc1);

/// A revision above every birth in a test that loses nothing.
pub const CREATED: Revision = Revision::new(1_000);

pub fn ledger(log: u64, seq: u32) -> LedgerId {
    LedgerId::new(LogId::new(log), LedgerSeq::new(seq))
}

pub fn config() -> Config {
    Config::small(PathBuf::from("journal"), PathBuf::from("data"))
}

/// The payload of an entry: told by its place, so that a stray one is seen.
pub fn payload(ledger: LedgerId, id: u64, size: usize) -> Payload {
    let word = format!("{ledger}:{id};");
    let bytes: Vec<u8> = word.bytes().cycle().take(size).collect();
    Payload::whole(Bytes::from(bytes))
}

pub fn entry(ledger: LedgerId, id: u64, size: usize) -> Entry {
    let payload = payload(ledger, id, size);
    Entry::new(ledger, EntryId::new(id), Offset::new(id + 1), payload)
}

pub fn add(ledger: LedgerId, id: u64, size: usize, epoch: u64) -> Add {
    Add {
        ledger,
        created: CREATED,
        epoch: Epoch::new(epoch),
        lac: id.checked_sub(1).map(EntryId::new),
        kind: AddKind::Write,
        entry: entry(ledger, id, size),
    }
}

/// Meta's record of one bookie.
#[derive(Debug, Clone, Default)]
pub struct Meta {
    pub record: Option<BookieRecord>,
    pub revision: u64,
}

impl Meta {
    /// Registers the bookie, born again when the claim does not continue the record.
    pub fn register(&mut self, claim: BookieClaim) -> BookieRecord {
        self.revision += 1;
        let known = self.record.as_ref();
        let continues = known.is_some_and(|known| {
            !claim.damaged
                && claim.id == Some(known.id)
                && claim.born == Some(known.born)
                && claim.incarnation > known.incarnation
                && claim.mark >= known.mark
        });
        let born = match known {
            Some(known) if continues => known.born,
            _ => Revision::new(self.revision),
        };
        let mark = known.map_or(0, |known| known.mark).max(claim.mark);
        let record = BookieRecord {
            zone: None,
            id: BookieId::new(1),
            name: claim.name,
            address: claim.address,
            born,
            incarnation: claim.incarnation,
            mark,
            state: BookieState::ReadWrite,
            duty: BookieDuty::Active,
            session: SessionId::new(self.revision),
            live: true,
        };
        self.record = Some(record.clone());
        record
    }
}

/// A bookie that runs, its workers' queues, and what it said.
pub struct Bookie {
    pub disk: SimDisk,
    pub config: Config,
    pub meta: Meta,
    pub now: u64,
    pub engine: Option<Engine>,
    pub queues: BTreeMap<Worker, VecDeque<Job>>,
    pub answers: BTreeMap<u64, Answer>,
    pub fatal: Option<String>,
    pub is_stopped: bool,
    pub standings: Vec<Standing>,
    pub alarms: usize,
    pub entropy: u128,
    next_token: u64,
    effects: Vec<Effect>,
}

impl Bookie {
    pub fn new(disk: SimDisk, config: Config) -> Self {
        Self {
            disk,
            config,
            meta: Meta::default(),
            now: 1,
            engine: None,
            queues: BTreeMap::new(),
            answers: BTreeMap::new(),
            fatal: None,
            is_stopped: false,
            standings: Vec::new(),
            alarms: 0,
            entropy: 0x5eed,
            next_token: 0,
            effects: Vec::new(),
        }
    }

    pub fn place(&self) -> Place {
        Place {
            cluster: CLUSTER,
            name: "b-1".parse().unwrap(),
            entropy: self.entropy,
        }
    }

    pub fn opening(&mut self) -> Result<Opening, OpenError> {
        self.entropy = self
            .entropy
            .wrapping_mul(0x2545_f491_4f6c_dd1d)
            .wrapping_add(1);
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        Opening::start(self.config.clone(), disk, self.place())
    }

    /// Opens, with meta's answer between.
    pub fn open(&mut self) -> Result<OpenReport, OpenError> {
        self.drop_engine();
        let opening = self.opening()?;
        let record = self.meta.register(opening.claim("b-1:1".to_owned()));
        let (engine, report) = opening.finish(&record, MonoTime::from_nanos(self.now))?;
        self.engine = Some(engine);
        Ok(report)
    }

    /// The process is gone, and all that was under way.
    pub fn drop_engine(&mut self) {
        self.engine = None;
        self.queues.clear();
        self.answers.clear();
        self.fatal = None;
        self.is_stopped = false;
    }

    pub fn power_loss(&mut self, rng: &Rng) {
        self.drop_engine();
        self.disk.crash(rng);
    }

    pub fn kill(&mut self) {
        self.drop_engine();
        self.disk.crash_process();
    }

    pub fn handle(&mut self, event: Event) {
        let engine = self.engine.as_mut().expect("open");
        engine.handle(MonoTime::from_nanos(self.now), event, &mut self.effects);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Reply { token, answer } => {
                    assert!(
                        self.answers.insert(token.0, answer).is_none(),
                        "one answer for each request"
                    );
                }
                Effect::Run { worker, job } => {
                    self.queues.entry(worker).or_default().push_back(job);
                }
                Effect::MarkMoved(mark) => {
                    let record = self.meta.record.as_mut().expect("registered");
                    assert!(mark > record.mark, "the mark moves on");
                    record.mark = mark;
                }
                Effect::Forget(_) => {}
                Effect::Standing(standing) => self.standings.push(standing),
                Effect::Alarm(_) => self.alarms += 1,
                Effect::Fatal(what) => self.fatal = Some(what),
                Effect::Stopped => self.is_stopped = true,
            }
        }
    }

    pub fn ask(&mut self, ask: Ask) -> Token {
        let token = self.token();
        self.handle(Event::Requests(vec![Request { token, ask }]));
        token
    }

    pub fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// Runs the first job of a worker; false when it has none.
    pub fn run_one(&mut self, worker: Worker) -> bool {
        let Some(job) = self.queues.get_mut(&worker).and_then(VecDeque::pop_front) else {
            return false;
        };
        let done = job.run();
        self.handle(Event::Done(done));
        true
    }

    /// Workers that have a job.
    pub fn busy(&self) -> Vec<Worker> {
        let queues = self.queues.iter();
        let busy = queues.filter(|(_, queue)| !queue.is_empty());
        busy.map(|(worker, _)| *worker).collect()
    }

    /// Runs jobs, one worker after the other, until there are none.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let busy = self.busy();
            if busy.is_empty() || self.fatal.is_some() {
                return;
            }
            for worker in busy {
                self.run_one(worker);
            }
        }
        panic!("work without end");
    }

    /// Lets time pass, as far as the next deadline.
    pub fn tick(&mut self) {
        let engine = self.engine.as_ref().expect("open");
        if let Some(deadline) = engine.deadline() {
            self.now = self.now.max(deadline.as_nanos());
            self.handle(Event::Deadline);
        }
    }

    /// Asks, runs everything, and gives the answer.
    pub fn answer(&mut self, ask: Ask) -> Option<Answer> {
        let token = self.ask(ask);
        self.settle();
        self.answers.remove(&token.0)
    }

    pub fn added(&mut self, add: Add) -> AddResult {
        match self.answer(Ask::Add(add)) {
            Some(Answer::Add(result)) => result,
            other => panic!("no answer to an add: {other:?} fatal={:?}", self.fatal),
        }
    }

    pub fn read(&mut self, ledger: LedgerId, id: u64, fence: Option<u64>) -> ReadResult {
        let read = Read {
            ledger,
            created: CREATED,
            entry: EntryId::new(id),
            fence: fence.map(Epoch::new),
        };
        match self.answer(Ask::Read(read)) {
            Some(Answer::Read(result)) => result,
            other => panic!("no answer to a read: {other:?} fatal={:?}", self.fatal),
        }
    }

    pub fn read_lac(&mut self, ledger: LedgerId, fence: Option<u64>) -> LacResult {
        let ask = ReadLac {
            ledger,
            created: CREATED,
            fence: fence.map(Epoch::new),
        };
        match self.answer(Ask::ReadLac(ask)) {
            Some(Answer::ReadLac(result)) => result,
            other => panic!("no answer to a read of a LAC: {other:?}"),
        }
    }

    pub fn run(&mut self, ledger: LedgerId, first: u64, last: u64, max_bytes: u64) -> Vec<RunItem> {
        let ask = ReadRun {
            ledger,
            created: CREATED,
            first: EntryId::new(first),
            last: EntryId::new(last),
            max_bytes,
            payload_limit: None,
        };
        match self.answer(Ask::ReadRun(ask)) {
            Some(Answer::ReadRun(items)) => items,
            other => panic!("no answer to a run: {other:?}"),
        }
    }

    /// Stops cleanly.
    pub fn stop(&mut self) {
        self.handle(Event::Stop);
        self.settle();
        assert!(self.is_stopped, "fatal={:?}", self.fatal);
        self.drop_engine();
    }
}

/// Whether a read found the very entry that was added.
pub fn is_found(result: &ReadResult, wanted: &Entry) -> bool {
    matches!(result, ReadResult::Found { entry, .. } if entry == wanted)
}

/// What must hold: entries and fences that were answered.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// Sizes of entries that were acked.
    pub acked: BTreeMap<(LedgerId, u64), usize>,
    /// Sizes of entries that were sent.
    pub sent: BTreeMap<(LedgerId, u64), usize>,
    /// Fences that were answered.
    pub fences: BTreeMap<LogId, u64>,
}

impl Model {
    /// Checks everything that was answered, and some of what was never sent.
    pub fn check(&self, bookie: &mut Bookie) {
        for ((ledger, id), size) in &self.acked {
            let result = bookie.read(*ledger, *id, None);
            assert!(
                is_found(&result, &entry(*ledger, *id, *size)),
                "acked entry lost {ledger} {id}: {result:?}"
            );
        }
        for ((ledger, id), size) in &self.sent {
            if self.acked.contains_key(&(*ledger, *id)) {
                continue;
            }
            match bookie.read(*ledger, *id, None) {
                ReadResult::NeverHad => {}
                ReadResult::Found { entry: found, .. } => {
                    assert_eq!(found, entry(*ledger, *id, *size), "another entry");
                }
                other => panic!("{other:?} for an entry that was sent {ledger} {id}"),
            }
        }
        self.check_fences(bookie);
    }

    pub fn check_fences(&self, bookie: &mut Bookie) {
        for (log, epoch) in &self.fences {
            let Some(lower) = epoch.checked_sub(1) else {
                continue;
            };
            let late = add(LedgerId::new(*log, LedgerSeq::new(9)), 0, 10, lower);
            let result = bookie.added(late);
            assert!(
                matches!(result, AddResult::Fenced { by } if by.get() >= *epoch),
                "fence lost log={log} epoch={epoch}: {result:?}"
            );
        }
    }
}
