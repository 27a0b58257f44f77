//! An engine at work: its jobs on threads of their own, in order within a worker, as in a bookie's node.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, bail};
use bookie::{Answer, Ask, Effect, Engine, Event, Job, JobDone, Request, Stats, Token, Worker};
use host::{DiskWorker, Host};

use crate::Machine;

/// Ends of jobs that may wait to be taken. A worker with another one waits too.
const ENDED: usize = 1024;
/// How long nothing may happen before it is looked whether the measurement was stopped.
const LOOK_UP: Duration = Duration::from_millis(200);

/// Answers, in the order in which they came.
pub(crate) type Answers = Vec<(Token, Answer)>;

/// An engine and its workers.
pub(crate) struct Running<'a> {
    machine: &'a Machine,
    /// The workers are of its tasks.
    host: Host,
    engine: Engine,
    workers: BTreeMap<Worker, DiskWorker>,
    tell: SyncSender<JobDone>,
    ended: Receiver<JobDone>,
    under_way: usize,
    effects: Vec<Effect>,
}

impl<'a> Running<'a> {
    /// Starts the workers.
    pub(crate) fn start(machine: &'a Machine, engine: Engine) -> Self {
        let host = machine.host.fork("bookie");
        let workers = Worker::ALL.map(|worker| (worker, host.disk_worker(worker.name())));
        let (tell, ended) = sync_channel(ENDED);
        Self {
            machine,
            host,
            engine,
            workers: workers.into_iter().collect(),
            tell,
            ended,
            under_way: 0,
            effects: Vec::new(),
        }
    }

    /// Hands requests in that came together.
    ///
    /// # Errors
    ///
    /// When the storage failed.
    pub(crate) fn ask(
        &mut self,
        requests: Vec<Request>,
        answers: &mut Answers,
    ) -> anyhow::Result<()> {
        self.handle(Event::Requests(requests));
        self.perform(answers)
    }

    /// Asks one thing and waits for its answer. Nothing else may be waited for.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    pub(crate) fn ask_one(&mut self, ask: Ask) -> anyhow::Result<Answer> {
        let token = Token(u64::MAX);
        let mut answers = Answers::new();
        self.ask(vec![Request { token, ask }], &mut answers)?;
        loop {
            if let Some((_, answer)) = answers.pop() {
                return Ok(answer);
            }
            self.wait(&mut answers)?;
        }
    }

    /// Waits until jobs have ended or the engine's time has come, for a moment at most.
    ///
    /// # Errors
    ///
    /// When the storage failed, or a person stopped the measurement.
    pub(crate) fn wait(&mut self, answers: &mut Answers) -> anyhow::Result<()> {
        self.machine.check()?;
        let deadline = self.engine.deadline();
        let now = self.host.clock.now();
        let within = deadline.map_or(LOOK_UP, |at| at.since(now).min(LOOK_UP));
        match self.ended.recv_timeout(within) {
            Ok(job) => {
                self.done(job);
                while let Ok(job) = self.ended.try_recv() {
                    self.done(job);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                if deadline.is_some_and(|at| at <= self.host.clock.now()) {
                    self.handle(Event::Deadline);
                }
            }
            Err(RecvTimeoutError::Disconnected) => bail!("its other end is in the same struct"),
        }
        self.perform(answers)
    }

    /// Waits until nothing is under way: flushes and merges are done.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        while self.under_way > 0 {
            self.wait(&mut Answers::new())?;
        }
        Ok(())
    }

    /// The engine's numbers.
    pub(crate) fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// The clock and the rest of the machine.
    pub(crate) const fn host(&self) -> &Host {
        &self.host
    }

    /// Ends it as a kill does: nothing is closed or flushed. Jobs that were begun end first, so that nothing of them is
    /// written beside what comes after.
    ///
    /// # Errors
    ///
    /// When they do not end, or one panicked.
    pub(crate) fn kill(self) -> anyhow::Result<()> {
        drop(self.ended);
        self.machine.stop(&self.host)
    }

    fn handle(&mut self, event: Event) {
        let now = self.host.clock.now();
        self.engine.handle(now, event, &mut self.effects);
    }

    fn done(&mut self, job: JobDone) {
        self.under_way -= 1;
        self.handle(Event::Done(job));
    }

    fn perform(&mut self, answers: &mut Answers) -> anyhow::Result<()> {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Reply { token, answer } => answers.push((token, answer)),
                Effect::Run { worker, job } => self.run(worker, job)?,
                // A refusal comes as an answer, and nobody asks it to stop.
                Effect::Forget(_)
                | Effect::MarkMoved(_)
                | Effect::Standing(_)
                | Effect::Stopped => {}
                Effect::Alarm(alarm) => bail!("storage is not as it must be: {alarm:?}"),
                Effect::Fatal(what) => bail!("storage failed: {what}"),
            }
        }
        self.effects = effects;
        Ok(())
    }

    fn run(&mut self, worker: Worker, job: Job) -> anyhow::Result<()> {
        let tell = self.tell.clone();
        // Nobody takes the end of what a kill cuts off.
        let then = move |job| drop(tell.send(job));
        let queue = self.workers.get(&worker);
        let queue = queue.context("every worker was started")?;
        let queued = queue.try_submit_then(move || job.run(), then);
        queued.with_context(|| format!("no room for a job worker={}", worker.name()))?;
        self.under_way += 1;
        Ok(())
    }
}
