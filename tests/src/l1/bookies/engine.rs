//! The engine of a bookie: requests handed in, effects performed, disk jobs run in the time they take.

use bookie::{Answer, Ask, Effect, Job, JobDone, Token, Worker};
use host::disk::Disk as _;
use types::cluster::BookieState;
use types::storage::{AddResult, LacResult, ReadResult};

use super::{Call, Process};
use crate::l1::agenda::{MS, SECOND};
use crate::l1::event::{Asker, Event, Message, ReplyTo, after};
use crate::l1::marks::Mark;
use crate::l1::net::Host;
use crate::l1::world::World;

impl World {
    /// A request arrives at a bookie.
    pub(in crate::l1) fn bookie_asked(
        &mut self,
        at: usize,
        server: usize,
        reply: ReplyTo,
        ask: Ask,
    ) {
        if self.bookies[at].is_open() {
            self.ask_engine(at, Asker::Server { server, reply }, vec![ask]);
        }
    }

    /// Hands requests to the engine, all at once.
    pub(in crate::l1) fn ask_engine(&mut self, at: usize, asker: Asker, asks: Vec<Ask>) {
        let mut requests = Vec::with_capacity(asks.len());
        for ask in asks {
            self.observer.asked(at, &ask);
            let bookie = &mut self.bookies[at];
            let token = bookie.next_token;
            bookie.next_token += 1;
            if !matches!(ask, Ask::SetLac(_)) {
                bookie.waiting.insert(token, (asker, ask.clone()));
            }
            requests.push(bookie::Request {
                token: Token(token),
                ask,
            });
        }
        self.engine(at, bookie::Event::Requests(requests));
    }

    /// Hands the engine an event and performs its effects.
    pub(in crate::l1) fn engine(&mut self, at: usize, event: bookie::Event) {
        let now = self.now;
        let bookie = &mut self.bookies[at];
        let mono = bookie.mono(now);
        let Process::Open(engine) = &mut bookie.process else {
            return;
        };
        let mut effects = Vec::new();
        engine.handle(mono, event, &mut effects);
        let (life, stats) = (bookie.life, engine.stats());
        let found = self.observer.engine_stands(at, life, &stats);
        self.violations(found);
        for effect in effects {
            if self.bookies[at].life != life {
                break; // The process ended with the job before: what else it wanted ends with it.
            }
            self.engine_wants(at, effect);
        }
        self.engine_timer(at);
    }

    fn engine_timer(&mut self, at: usize) {
        let bookie = &mut self.bookies[at];
        let Process::Open(engine) = &bookie.process else {
            return;
        };
        let Some(due) = engine.deadline() else {
            return;
        };
        let due = (due.as_nanos() + bookie.began)
            .saturating_sub(SECOND)
            .max(self.now);
        if bookie.timer.is_none_or(|timer| timer > due) {
            bookie.timer = Some(due);
            let life = bookie.life;
            self.agenda
                .put(due, Event::EngineTimer { bookie: at, life });
        }
    }

    /// The engine's timer.
    pub(in crate::l1) fn engine_timed(&mut self, at: usize) {
        let now = self.now;
        let bookie = &mut self.bookies[at];
        if bookie.timer.is_none_or(|timer| timer > now) {
            return;
        }
        bookie.timer = None;
        self.engine(at, bookie::Event::Deadline);
    }

    fn engine_wants(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Reply { token, answer } => self.engine_replies(at, token, answer),
            Effect::Run { worker, job } => {
                let queue = self.bookies[at].workers.entry(worker).or_default();
                queue.jobs.push_back(job);
                self.next_job(at, worker);
            }
            Effect::Forget(_) => {}
            Effect::MarkMoved(_) => self.bookie_call(at, Call::Report),
            Effect::Standing(standing) => {
                let bookie = &mut self.bookies[at];
                bookie.is_full = standing == bookie::Standing::ReadOnly;
                bookie.standing = match standing {
                    bookie::Standing::ReadWrite => BookieState::ReadWrite,
                    bookie::Standing::ReadOnly => BookieState::ReadOnly,
                };
                self.bookie_call(at, Call::Report);
            }
            Effect::Alarm(bookie::engine::Alarm::Mismatch { ledger, entry }) => {
                self.violation(
                    "I13",
                    format!("bookie-{at}: second payload {ledger} {entry}"),
                );
            }
            Effect::Alarm(bookie::engine::Alarm::DamagedBlock { ledgers, .. }) => {
                self.repair_damaged(at, &ledgers);
                self.marks.hit(Mark::DamagedBlock);
                if !self.observer.may_be_damaged(at) {
                    self.violation(
                        "I22",
                        format!("bookie-{at}: damaged block that nobody damaged"),
                    );
                }
            }
            Effect::Fatal(what) => {
                self.marks.hit(Mark::StorageFailed);
                self.trace(|| format!("bookie-{at} fatal: {what}"));
                let wait = 100 * MS + self.rng.below(2 * SECOND);
                self.bookie_crash(at, wait);
            }
            Effect::Stopped => {
                let wait = 100 * MS + self.rng.below(2 * SECOND);
                self.bookie_crash(at, wait);
            }
        }
    }

    fn engine_replies(&mut self, at: usize, token: Token, answer: Answer) {
        let bookie = &mut self.bookies[at];
        let Some((asker, ask)) = bookie.waiting.remove(&token.0) else {
            self.violation("engine", format!("bookie-{at} answers twice: {answer:?}"));
            return;
        };
        if bookie.is_full
            && matches!(
                &answer,
                Answer::Read(ReadResult::Found { .. } | ReadResult::NeverHad)
                    | Answer::ReadLac(LacResult::Lac(_))
            )
        {
            self.marks.hit(Mark::FenceWhileFull);
        }
        if answer == Answer::Add(AddResult::ReadOnly) {
            self.marks.hit(Mark::AddReadOnly);
        }
        let found = self.observer.replied(at, &ask, &answer, &mut self.marks);
        self.violations(found);
        match (asker, answer) {
            (Asker::Server { server, reply }, answer) => {
                let message = Message::Says {
                    bookie: at,
                    reply,
                    answer,
                };
                self.say_on_link(at, server, message);
            }
            (Asker::Repair { bookie, life, step }, Answer::ReadRun(items)) => {
                let message = Message::Fetched { life, step, items };
                self.send(Host::Bookie(at), Host::Bookie(bookie), message);
            }
            (asker, answer) => {
                // Within the process, once the engine has said everything.
                let says = Event::EngineSays {
                    bookie: at,
                    life: self.bookies[at].life,
                    asker,
                    ask: Box::new(ask),
                    answer: Box::new(answer),
                };
                self.agenda.put(self.now, says);
            }
        }
    }

    /// The engine answered its own process, or who reads proof.
    pub(in crate::l1) fn engine_says(
        &mut self,
        at: usize,
        asker: Asker,
        ask: &Ask,
        answer: Answer,
    ) {
        match asker {
            Asker::Repair { step, .. } => self.repair_hears(at, step, ask, answer),
            Asker::Proof => self.proof_hears(at, ask, answer),
            Asker::Server { .. } => {}
        }
    }

    fn next_job(&mut self, at: usize, worker: Worker) {
        let run_later = self.rng.one_in(3);
        let wait = self.rng.below(MS);
        let bookie = &mut self.bookies[at];
        let life = bookie.life;
        let queue = bookie.workers.entry(worker).or_default();
        if queue.is_busy {
            return;
        }
        let Some(job) = queue.jobs.pop_front() else {
            return;
        };
        queue.is_busy = true;
        if run_later {
            let event = Event::JobBegins {
                bookie: at,
                life,
                worker,
                job: Box::new(job),
            };
            self.agenda.put(self.now + wait, event);
        } else {
            self.run_job(at, worker, job);
        }
    }

    /// A job does its work; its end is told when the time it took has passed.
    pub(in crate::l1) fn run_job(&mut self, at: usize, worker: Worker, job: Job) {
        let name = job.name();
        let bookie = &mut self.bookies[at];
        let life = bookie.life;
        let before = bookie.disk.busy();
        let dies = bookie.dies_in_job;
        if dies {
            bookie.disk.record_snapshots(true);
        }
        let done = job.run();
        if dies {
            self.marks.hit(Mark::DiedInJob);
            return self.die_in_job(at);
        }
        if bookie.disk.is_off() {
            self.marks.hit(Mark::PowerInJob);
            self.trace(|| format!("bookie-{at} loses power in job {name}"));
            let wait = 100 * MS + self.rng.below(3 * SECOND);
            return self.bookie_crash(at, wait);
        }
        if name == "merge" {
            self.marks.hit(Mark::Merged);
        }
        let took = after(0, bookie.disk.busy() - before);
        let event = Event::JobEnds {
            bookie: at,
            life,
            worker,
            done: Box::new(done),
        };
        self.agenda.put(self.now + took, event);
    }

    /// The process dies at some call of the job that just ran: its disk is what it was then.
    fn die_in_job(&mut self, at: usize) {
        let rng = self.rng.fork("kill");
        let bookie = &mut self.bookies[at];
        let snapshots = bookie.disk.take_snapshots();
        bookie.disk.record_snapshots(false);
        bookie.dies_in_job = false;
        if !snapshots.is_empty() {
            let (op, snapshot) = &snapshots[rng.index(snapshots.len())];
            let op = *op;
            let disk = snapshot.after_kill(&rng);
            disk.set_latency(bookie.latency);
            bookie.process = Process::Down;
            bookie.disk = disk;
            self.trace(|| format!("bookie-{at} dies in a job after call {op}"));
        }
        let wait = 50 * MS + self.rng.below(2 * SECOND);
        self.bookie_crash(at, wait);
    }

    /// A job ended.
    pub(in crate::l1) fn job_done(&mut self, at: usize, worker: Worker, done: JobDone) {
        if let Some(queue) = self.bookies[at].workers.get_mut(&worker) {
            queue.is_busy = false;
        }
        let failed = done.error().map(ToString::to_string);
        let life = self.bookies[at].life;
        self.engine(at, bookie::Event::Done(done));
        if let (Some(error), Worker::Journal) = (failed, worker)
            && self.bookies[at].life == life
        {
            self.violation(
                "I21",
                format!("bookie-{at} goes on after a failed frame: {error}"),
            );
        }
        if self.bookies[at].life == life {
            self.next_job(at, worker);
        }
    }
}
