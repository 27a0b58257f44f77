//! Bookies: the real engine on a simulated disk, its workers, and the life of its process.

mod engine;
mod repair;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bookie::node::asking::Asking;
use bookie::{Ask, Config, Engine, Job, OpenError, Opening, Place, Worker};
use host::disk::sim::{DirImage, Latency, SimDisk};
use types::cluster::{BookieState, NodeRole};
use types::command::{Answer, Command, Query, Reply};
use types::{
    BookieId, ClusterId, CommandId, LedgerId, LogId, MonoTime, NodeName, Reason, Revision,
    SessionId,
};

use super::agenda::{MS, Nanos, SECOND};
use super::event::{Asker, Event, Message, MetaAnswer, MetaAsk, Timer, after};
use super::marks::Mark;
use super::net::Host;
use super::world::World;
use repair::Repair;

/// One bookie.
#[derive(Debug)]
pub(super) struct Bookie {
    pub(super) name: NodeName,
    pub(super) config: Config,
    pub(super) disk: SimDisk,
    /// Counts processes: what belongs to an older one is late.
    pub(super) life: u32,
    pub(super) process: Process,
    pub(super) id: Option<BookieId>,
    pub(super) session: Option<SessionId>,
    pub(super) born: Revision,
    /// When the process began: its monotonic clock starts there.
    began: Nanos,
    workers: BTreeMap<Worker, Queue>,
    waiting: BTreeMap<u64, (Asker, Ask)>,
    next_token: u64,
    timer: Option<Nanos>,
    calls: BTreeMap<u64, Call>,
    standing: BookieState,
    /// Whether meta knows the mark of this start: nothing is answered before.
    is_admitted: bool,
    /// Adds are refused for want of room.
    pub(super) is_full: bool,
    /// The next disk job ends with the process.
    pub(super) dies_in_job: bool,
    /// Copies of both directories, from an earlier process.
    pub(super) copy: Option<(u32, DirImage, DirImage)>,
    /// Whether it is to stay down.
    pub(super) is_gone: bool,
    pub(super) latency: Latency,
    repair: Repair,
    pub(super) asking: Asking,
    /// The ledgers it held when it last asked meta what may go.
    pub(super) held: Option<BTreeSet<LedgerId>>,
}

/// How far a bookie's process is.
pub(super) enum Process {
    /// There is none.
    Down,
    /// Its directories are read; meta is asked.
    Opening(Option<Box<Opening>>),
    /// It answers.
    Open(Box<Engine>),
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Opening(_) => "opening",
            Self::Open(_) => "open",
        })
    }
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    is_busy: bool,
}

/// What a bookie asked of meta.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Open(Command),
    Register(Command),
    Beat,
    Admit,
    Report,
    /// A step of the repair.
    Repair {
        step: u64,
        ask: MetaAsk,
    },
    /// What became of logs, and of ledgers held.
    Logs(Vec<LogId>, BTreeSet<LedgerId>),
    Ledgers(Vec<LedgerId>),
}

/// How long a call may take before it is made again.
const CALL_TIMEOUT: Nanos = 700 * MS;
/// How often meta is told how a bookie stands when nothing changes: a report may be lost, or overtaken by an older one.
const REPORT_EVERY: Nanos = 3 * SECOND;

impl Bookie {
    pub(super) fn new(at: usize, swarm: &super::swarm::Swarm, seed: u64) -> Self {
        let config = Config {
            journal_file: swarm.journal,
            journal_first_file: swarm.journal,
            memtable: swarm.memtable,
            entry_max: 4 << 10,
            space_every: Duration::from_millis(300),
            ..Config::small(PathBuf::from("journal"), PathBuf::from("data"))
        };
        let latency = Latency {
            per_op: Duration::from_micros(5),
            per_mib: Duration::from_millis(2),
            per_sync: Duration::from_micros(300),
            jitter_max: Duration::from_micros(100),
        };
        let disk = SimDisk::new(seed);
        disk.set_latency(latency);
        let name = format!("bookie-{at}");
        Self {
            name: name.parse().expect("a plain word is a name"),
            config,
            disk,
            life: 0,
            process: Process::Down,
            id: None,
            session: None,
            born: Revision::new(0),
            began: 0,
            workers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_token: 0,
            timer: None,
            calls: BTreeMap::new(),
            standing: BookieState::ReadWrite,
            is_admitted: false,
            is_full: false,
            dies_in_job: false,
            copy: None,
            is_gone: false,
            latency,
            repair: Repair::default(),
            asking: Asking::default(),
            held: None,
        }
    }

    /// When its process began.
    pub(super) const fn began(&self) -> Nanos {
        self.began
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.process, Process::Open(_)) && self.is_admitted
    }

    pub(super) const fn is_down(&self) -> bool {
        matches!(self.process, Process::Down)
    }

    fn mono(&self, now: Nanos) -> MonoTime {
        MonoTime::from_nanos(now - self.began + SECOND)
    }

    /// What was asked in an earlier round of what may go is asked anew.
    pub(super) fn forget_reclaim_calls(&mut self) {
        let calls = &mut self.calls;
        calls.retain(|_, call| !matches!(call, Call::Logs(..) | Call::Ledgers(_)));
    }

    /// Both directories.
    pub(super) fn dirs(&self) -> [PathBuf; 2] {
        [
            self.config.journal_dir.clone(),
            self.config.data_dir.clone(),
        ]
    }
}

impl World {
    /// A bookie's process begins: it reads its directories and asks meta.
    pub(super) fn bookie_start(&mut self, at: usize) {
        let now = self.now;
        let entropy = self.rng.u128();
        let bookie = &mut self.bookies[at];
        if !bookie.is_down() || bookie.is_gone {
            return;
        }
        bookie.life += 1;
        bookie.began = now;
        bookie.session = None;
        bookie.standing = BookieState::ReadWrite;
        bookie.is_full = false;
        bookie.is_admitted = false;
        let place = Place {
            cluster: ClusterId::new(1),
            name: bookie.name.clone(),
            entropy,
        };
        let disk = Arc::new(bookie.disk.clone());
        match Opening::start(bookie.config.clone(), disk, place) {
            Ok(opening) => {
                let damage = opening.damage().to_vec();
                bookie.process = Process::Opening(Some(Box::new(opening)));
                let open = Command::OpenSession {
                    role: NodeRole::Bookie,
                    name: bookie.name.clone(),
                    address: format!("{}:1", bookie.name),
                    endpoint: String::new(),
                    lease: self.swarm.lease,
                    command: CommandId::new(entropy),
                };
                self.trace(|| format!("bookie-{at} starts damage={damage:?}"));
                if !damage.is_empty() && !self.observer.may_be_damaged(at) {
                    self.violation(
                        "I19",
                        format!("bookie-{at} finds damage that nobody did: {damage:?}"),
                    );
                }
                self.bookie_call(at, Call::Open(open));
            }
            Err(error) => self.bookie_unopened(at, &error),
        }
    }

    fn bookie_unopened(&mut self, at: usize, error: &OpenError) {
        self.marks.hit(Mark::OpenFailed);
        let text = error.to_string();
        self.trace(|| format!("bookie-{at} does not open: {text}"));
        match error {
            OpenError::Disk { .. } => {}
            OpenError::IdentityLost { .. } if self.observer.may_be_damaged(at) => {
                // What the message tells the operator to do.
                let bookie = &self.bookies[at];
                for dir in bookie.dirs() {
                    bookie.disk.wipe(&dir);
                }
            }
            OpenError::NewerFormat { .. }
            | OpenError::Swapped { .. }
            | OpenError::Record { .. }
            | OpenError::OtherBookie { .. }
            | OpenError::OtherCluster { .. }
                if self.observer.may_be_damaged(at) =>
            {
                let bookie = &self.bookies[at];
                for dir in bookie.dirs() {
                    bookie.disk.wipe(&dir);
                }
            }
            _ => self.violation("open", format!("bookie-{at}: {text}")),
        }
        self.bookie_dies(at);
        let wait = 200 * MS + self.rng.below(SECOND);
        self.agenda
            .put(self.now + wait, Event::BookieStarts { bookie: at });
    }

    /// Asks meta.
    pub(super) fn bookie_call(&mut self, at: usize, call: Call) {
        let ask = match &call {
            Call::Open(command) | Call::Register(command) => {
                MetaAsk::Command(Box::new(command.clone()))
            }
            Call::Beat => match self.bookies[at].session {
                Some(session) => MetaAsk::Alive(session),
                None => return,
            },
            Call::Admit | Call::Report => match self.bookie_report(at) {
                Some(command) => MetaAsk::Command(Box::new(command)),
                None => return,
            },
            Call::Repair { ask, .. } => ask.clone(),
            Call::Logs(logs, _) => MetaAsk::Query(Query::Logs(logs.clone())),
            Call::Ledgers(ledgers) => MetaAsk::Query(Query::Ledgers(ledgers.clone())),
        };
        let number = self.next_number();
        let life = self.bookies[at].life;
        let again = match call {
            Call::Open(_) | Call::Register(_) | Call::Admit => Some(CALL_TIMEOUT),
            Call::Report => Some(REPORT_EVERY),
            Call::Beat | Call::Repair { .. } | Call::Logs(..) | Call::Ledgers(_) => None,
        };
        let calls = &mut self.bookies[at].calls;
        if matches!(call, Call::Report) {
            calls.retain(|_, older| !matches!(older, Call::Report));
        }
        calls.insert(number, call);
        let message = Message::MetaAsk {
            from: Host::Bookie(at),
            life,
            call: number,
            ask,
        };
        self.send(Host::Bookie(at), Host::Meta, message);
        if let Some(wait) = again {
            self.bookie_timer(at, wait, Timer::Call(number));
        }
    }

    fn bookie_report(&self, at: usize) -> Option<Command> {
        let bookie = &self.bookies[at];
        let Process::Open(engine) = &bookie.process else {
            return None;
        };
        Some(Command::ReportBookie {
            id: bookie.id?,
            session: bookie.session?,
            mark: engine.mark(),
            state: bookie.standing,
        })
    }

    pub(super) fn bookie_timer(&mut self, at: usize, wait: Nanos, timer: Timer) {
        let life = self.bookies[at].life;
        let event = Event::BookieTimer {
            bookie: at,
            life,
            timer,
        };
        self.agenda.put(self.now + wait, event);
    }

    /// A timer of the process.
    pub(super) fn bookie_timed(&mut self, at: usize, timer: Timer) {
        match timer {
            Timer::Beat => {
                self.bookie_call(at, Call::Beat);
                let wait = after(0, self.swarm.lease / 4);
                self.bookie_timer(at, wait, Timer::Beat);
            }
            Timer::Call(number) => {
                if let Some(call) = self.bookies[at].calls.remove(&number) {
                    self.bookie_call(at, call);
                }
            }
            Timer::Repair(number) => self.repair_timed(at, number),
            Timer::Reclaim => self.bookie_asks_what_may_go(at),
            Timer::Proof => self.proof_goes_on(at),
            _ => {}
        }
    }

    /// Meta answered a bookie.
    pub(super) fn bookie_told(&mut self, at: usize, number: u64, answer: MetaAnswer) {
        let calls = &mut self.bookies[at].calls;
        if matches!(calls.get(&number), Some(Call::Report)) {
            return; // It is told again all the same.
        }
        let Some(call) = calls.remove(&number) else {
            return;
        };
        match (call, answer) {
            (Call::Open(_), MetaAnswer::Command(Ok(Reply::Session(session)))) => {
                let bookie = &mut self.bookies[at];
                bookie.session = Some(session.id);
                let Process::Opening(Some(opening)) = &bookie.process else {
                    return;
                };
                let claim = opening.claim(format!("{}:1", bookie.name));
                let register = Command::RegisterBookie {
                    claim,
                    session: session.id,
                };
                let wait = after(0, self.swarm.lease / 4);
                self.bookie_timer(at, wait, Timer::Beat);
                self.bookie_call(at, Call::Register(register));
            }
            (Call::Register(command), MetaAnswer::Command(Ok(Reply::Bookie(record)))) => {
                self.bookie_registered(at, &command, &record);
            }
            (Call::Admit, MetaAnswer::Command(Ok(_))) => {
                self.bookies[at].is_admitted = true;
                if self.swarm.repairs {
                    self.repair_rests(at, MS);
                    self.bookie_timer(at, MS, Timer::Reclaim);
                }
            }
            (Call::Repair { step, .. }, answer) => self.repair_told(at, step, answer),
            (Call::Logs(asked, held), MetaAnswer::Query(Ok(Answer::Logs(standings)))) => {
                self.bookie_hears_of_logs(at, &asked, &held, &standings);
            }
            (Call::Ledgers(asked), MetaAnswer::Query(Ok(Answer::Ledgers(records)))) => {
                self.bookie_hears_of_ledgers(at, &asked, &records);
            }
            (
                Call::Open(_) | Call::Register(_) | Call::Admit,
                MetaAnswer::Command(Err(problem)),
            ) => {
                if problem.reason == Reason::ExclusiveHeld {
                    self.marks.hit(Mark::HolderAlive);
                }
                self.trace(|| format!("bookie-{at} is not admitted: {problem}"));
                self.bookie_crash(at, 300 * MS);
            }
            (Call::Beat, MetaAnswer::Alive(false)) => {
                // A newer process of this name has begun: this one stops.
                self.trace(|| format!("bookie-{at}: session over"));
                self.bookie_crash(at, 300 * MS);
            }
            _ => {}
        }
    }

    fn bookie_registered(
        &mut self,
        at: usize,
        command: &Command,
        record: &types::cluster::BookieRecord,
    ) {
        let now = self.now;
        let bookie = &mut self.bookies[at];
        let Process::Opening(opening) = &mut bookie.process else {
            return;
        };
        let Some(opening) = opening.take() else {
            return;
        };
        let mono = bookie.mono(now);
        match opening.finish(record, mono) {
            Ok((engine, report)) => {
                bookie.process = Process::Open(Box::new(engine));
                bookie.id = Some(record.id);
                bookie.born = record.born;
                if report.cut_tail {
                    self.marks.hit(Mark::TornTail);
                }
                if let Command::RegisterBookie { claim, .. } = command
                    && claim.born.is_some_and(|born| born != record.born)
                {
                    self.marks.hit(Mark::BornAgain);
                }
                self.trace(|| format!("bookie-{at} open {report:?}"));
                let found = self.observer.bookie_opened(at, record);
                self.violations(found);
                self.bookie_call(at, Call::Admit);
                self.engine(at, bookie::Event::Deadline);
            }
            Err(error) => self.bookie_unopened(at, &error),
        }
    }

    /// The process dies, and starts again after `wait`.
    pub(super) fn bookie_crash(&mut self, at: usize, wait: Nanos) {
        self.bookie_dies(at);
        self.agenda
            .put(self.now + wait, Event::BookieStarts { bookie: at });
    }

    /// The process dies.
    pub(super) fn bookie_dies(&mut self, at: usize) {
        self.repair_dies(at);
        self.proof_stops(at);
        let bookie = &mut self.bookies[at];
        bookie.process = Process::Down;
        bookie.life += 1;
        bookie.workers.clear();
        bookie.waiting.clear();
        bookie.calls.clear();
        bookie.asking = Asking::default();
        bookie.held = None;
        bookie.timer = None;
        bookie.dies_in_job = false;
        if bookie.disk.is_off() {
            bookie.disk.restart();
        } else {
            bookie.disk.crash_process();
        }
        self.links_break(at);
    }

    /// The machine loses power.
    pub(super) fn bookie_power(&mut self, at: usize) {
        let rng = self.rng.fork("power");
        self.bookie_dies(at);
        self.bookies[at].disk.crash(&rng);
    }
}
