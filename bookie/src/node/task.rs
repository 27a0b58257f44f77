//! The task that owns the engine: requests in, one batch for each wake-up; jobs out to the disk workers; answers back
//! to whoever waits, one hand-over for each stream and flush.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bookie_client::LocalAdds;
use host::{DiskWorker, Host};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use types::MonoTime;
use types::storage::{AddResult, LacResult, ReadResult, RunItem};

use super::handle::{Call, EngineHandle, Report};
use super::local;
use super::metrics::Metrics;
use super::repair::Damage;
use super::streams::Outbox;
use crate::codec::wide;
use crate::engine::Alarm;
use crate::{
    Answer, Ask, Effect, Engine, Event, HoldingsResult, Job, JobDone, Request, ScrubResult,
    Standing, Token, Worker,
};

/// Calls that wait for the engine. Beyond it their tasks wait, and with them the streams they read from.
const INBOX: usize = 1024;
/// Most calls that one wake-up takes in.
const BATCH: usize = 256;
/// How often the engine's numbers are told while it is busy. An idle one has its deadlines.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// A write or a sync failed: the process must stop, and recover from its journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("storage failed, the process must stop reason={reason}")]
pub(super) struct StorageFailed {
    reason: String,
}

/// Starts the task and the workers.
pub(super) fn start(
    host: &Host,
    engine: Engine,
    metrics: Arc<Metrics>,
    damage: Damage,
) -> (EngineHandle, watch::Receiver<Report>) {
    if engine.standing() == Standing::ReadOnly {
        say_standing(&engine);
    }
    let (inbox, calls) = mpsc::channel(INBOX);
    let first = Report {
        mark: engine.mark(),
        standing: engine.standing(),
    };
    let (reports, told) = watch::channel(first);
    let stop = CancellationToken::new();
    let stopped = CancellationToken::new();
    let workers = Worker::ALL.map(|worker| (worker, host.disk_worker(worker.name())));
    let task = EngineTask {
        host: host.clone(),
        engine,
        workers: workers.into_iter().collect(),
        done: Arc::default(),
        waiting: BTreeMap::new(),
        next: 0,
        local: None,
        local_turn: 0,
        local_answers: Vec::new(),
        reports,
        metrics,
        damage,
        tell_at: MonoTime::ZERO,
    };
    let run = task.run(calls, stop.clone(), stopped.clone());
    host.tasks.spawn("engine", run);
    (
        EngineHandle {
            inbox,
            stop,
            stopped,
            reports: told.clone(),
        },
        told,
    )
}

/// Jobs that ended. As many as the engine has under way, which it bounds itself.
#[derive(Debug, Default)]
struct Done {
    jobs: Mutex<Vec<JobDone>>,
    filled: Notify,
}

impl Done {
    fn push(&self, job: JobDone) {
        // One vector, whole after each statement.
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(job);
        self.filled.notify_one();
    }

    fn take(&self) -> Vec<JobDone> {
        std::mem::take(&mut *self.jobs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Who asked for an add.
enum Asker {
    /// A stream.
    Stream(Arc<Outbox>),
    /// A serving node in this process, of this turn.
    Local(u64),
}

/// Who waits for an answer.
enum Waiting {
    Add {
        asker: Asker,
        id: u64,
        bytes: u64,
    },
    Read {
        reply: oneshot::Sender<ReadResult>,
        is_fencing: bool,
    },
    ReadLac(oneshot::Sender<LacResult>),
    ReadRun(oneshot::Sender<Vec<RunItem>>),
    Holdings(oneshot::Sender<HoldingsResult>),
    Scrub(oneshot::Sender<ScrubResult>),
}

/// Who waits for the answer to an add, which other requests of a stream have none of.
fn waiting_add(ask: &Ask, asker: Asker, id: u64) -> Option<Waiting> {
    match ask {
        Ask::Add(add) => Some(Waiting::Add {
            asker,
            id,
            bytes: wide(add.entry.payload.len()),
        }),
        _ => None,
    }
}

/// Waits until there are adds of a serving node in this process, if there is one.
async fn filled(local: Option<&dyn LocalAdds>) {
    match local {
        Some(local) => local.filled().notified().await,
        None => std::future::pending().await,
    }
}

/// Tells the operator whether the disks have room.
fn say_standing(engine: &Engine) {
    let (free, needed) = engine.free_and_low();
    let standing = engine.standing();
    match standing {
        Standing::ReadWrite => {
            tracing::info!(?standing, %free, "the disks have room: messages are stored");
        }
        Standing::ReadOnly => tracing::warn!(
            ?standing,
            %free,
            %needed,
            "the disks are low on space: nothing new is stored until there is more; free some, or lower --free-low"
        ),
    }
}

struct EngineTask {
    host: Host,
    engine: Engine,
    workers: BTreeMap<Worker, DiskWorker>,
    done: Arc<Done>,
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    /// Adds of a serving node in this process.
    local: Option<Arc<dyn LocalAdds>>,
    /// The how manieth this is: what an earlier one asked is not answered, its numbers mean something else here.
    local_turn: u64,
    /// Answers to them that gather while effects are performed.
    local_answers: Vec<(u64, AddResult)>,
    reports: watch::Sender<Report>,
    metrics: Arc<Metrics>,
    damage: Damage,
    /// When to tell the engine's numbers again.
    tell_at: MonoTime,
}

/// Whether the loop goes on.
#[derive(PartialEq, Eq)]
enum Goes {
    On,
    Stopped,
}

impl EngineTask {
    async fn run(
        mut self,
        mut calls: mpsc::Receiver<Call>,
        stop: CancellationToken,
        stopped: CancellationToken,
    ) -> Result<(), StorageFailed> {
        // However the task ends, nobody waits for it in vain.
        let _stopped = stopped.drop_guard();
        let cancelled = self.host.tasks.token();
        let done = Arc::clone(&self.done);
        let mut is_stopping = false;
        let mut batch = Vec::with_capacity(BATCH);
        let mut effects = Vec::new();
        let mut alarm = self.host.clock.alarm();
        loop {
            let deadline = self.engine.deadline();
            tokio::select! {
                biased; // The end, then what frees room, then new work, then time.
                () = cancelled.cancelled() => return Ok(()),
                () = stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    self.engine.handle(self.host.clock.now(), Event::Stop, &mut effects);
                }
                () = done.filled.notified() => {
                    for job in done.take() {
                        self.engine.handle(self.host.clock.now(), Event::Done(job), &mut effects);
                    }
                }
                () = filled(self.local.as_deref()), if !is_stopping => {}
                count = calls.recv_many(&mut batch, BATCH), if !is_stopping => {
                    if count == 0 {
                        return Ok(()); // Nobody is left to ask.
                    }
                }
                () = alarm.deadline(deadline) => {
                    self.engine.handle(self.host.clock.now(), Event::Deadline, &mut effects);
                }
            }
            if !is_stopping {
                self.take_in(&mut calls, &mut batch, &mut effects);
            }
            let goes = self.perform(&mut effects).await?;
            // Neither what wakes the loop nor what it takes makes way for others by itself.
            tokio::task::consume_budget().await;
            self.tell_stats();
            if goes == Goes::Stopped {
                return Ok(());
            }
        }
    }

    /// Tells the engine's numbers, unless that was done just now: some of them are sums over its files.
    fn tell_stats(&mut self) {
        let now = self.host.clock.now();
        if self.tell_at <= now {
            self.tell_at = now.after(TELL_EVERY);
            self.metrics.tell(self.engine.stats());
        }
    }

    /// Hands in what has come, whatever the task was woken for: no source of work keeps another one waiting.
    fn take_in(
        &mut self,
        calls: &mut mpsc::Receiver<Call>,
        batch: &mut Vec<Call>,
        effects: &mut Vec<Effect>,
    ) {
        while batch.len() < BATCH
            && let Ok(call) = calls.try_recv()
        {
            batch.push(call);
        }
        let mut requests = self.requests(batch, effects);
        self.local_requests(&mut requests);
        if !requests.is_empty() {
            let now = self.host.clock.now();
            self.engine.handle(now, Event::Requests(requests), effects);
        }
    }

    /// Takes everything that a serving node in this process asks.
    fn local_requests(&mut self, requests: &mut Vec<Request>) {
        let Some(local) = &self.local else { return };
        let mut asked = Vec::new();
        local.take(&mut asked);
        requests.reserve(asked.len());
        for (id, request) in asked {
            let Some(ask) = local::asked(request) else {
                continue; // It has no answer; a stream would end.
            };
            let waiting = waiting_add(&ask, Asker::Local(self.local_turn), id);
            requests.push(self.request(ask, waiting));
        }
    }

    /// Numbers the calls and notes who waits. What the bookie's own shell asks is done at once.
    fn requests(&mut self, batch: &mut Vec<Call>, effects: &mut Vec<Effect>) -> Vec<Request> {
        let mut requests = Vec::with_capacity(batch.len());
        for call in batch.drain(..) {
            match call {
                Call::Adds { outbox, asks } => {
                    for (id, ask) in asks {
                        let waiting = waiting_add(&ask, Asker::Stream(Arc::clone(&outbox)), id);
                        requests.push(self.request(ask, waiting));
                    }
                }
                Call::Serve(adds) => {
                    self.local = Some(adds);
                    self.local_turn += 1;
                    self.local_answers.clear();
                }
                Call::Read(read, reply) => {
                    let is_fencing = read.fence.is_some();
                    let waiting = Waiting::Read { reply, is_fencing };
                    requests.push(self.request(Ask::Read(read), Some(waiting)));
                }
                Call::ReadLac(read, reply) => {
                    requests.push(self.request(Ask::ReadLac(read), Some(Waiting::ReadLac(reply))));
                }
                Call::ReadRun(run, reply) => {
                    requests.push(self.request(Ask::ReadRun(run), Some(Waiting::ReadRun(reply))));
                }
                Call::BeginReclaim(reply) => drop(reply.send(self.engine.begin_reclaim())),
                Call::Reclaim(word) => {
                    let now = self.host.clock.now();
                    self.engine.handle(now, Event::Reclaim(word), effects);
                }
                Call::Usage(logs, reply) => drop(reply.send(self.engine.usage(logs))),
                Call::Scrub(ask, reply) => {
                    requests.push(self.request(Ask::Scrub(ask), Some(Waiting::Scrub(reply))));
                }
                Call::Holdings(ask, reply) => {
                    let waiting = Some(Waiting::Holdings(reply));
                    requests.push(self.request(Ask::Holdings(ask), waiting));
                }
            }
        }
        requests
    }

    fn request(&mut self, ask: Ask, waiting: Option<Waiting>) -> Request {
        let token = Token(self.next);
        self.next += 1;
        if let Some(waiting) = waiting {
            self.waiting.insert(token.0, waiting);
        }
        Request { token, ask }
    }

    async fn perform(&mut self, effects: &mut Vec<Effect>) -> Result<Goes, StorageFailed> {
        let mut filled: Vec<Arc<Outbox>> = Vec::new();
        let mut goes = Goes::On;
        for effect in effects.drain(..) {
            match effect {
                Effect::Reply { token, answer } => self.reply(token, answer, &mut filled),
                Effect::Run { worker, job } => self.start(worker, job).await,
                Effect::Forget(forgotten) => {
                    let queue = self
                        .workers
                        .get(&Worker::Store)
                        .expect("every worker was started");
                    // A worker that is gone has failed the node: the end of this task is on its way.
                    let _ = queue.submit(move || drop(forgotten)).await;
                }
                Effect::MarkMoved(mark) => self.reports.send_modify(|report| report.mark = mark),
                Effect::Standing(standing) => {
                    self.reports
                        .send_modify(|report| report.standing = standing);
                    say_standing(&self.engine);
                }
                Effect::Alarm(alarm) => {
                    tracing::error!(?alarm, "storage is not as it must be");
                    if let Alarm::DamagedBlock { ledgers, .. } = alarm {
                        self.metrics.damaged_blocks().inc();
                        self.damage.found(&ledgers);
                    }
                }
                Effect::Fatal(reason) => return Err(StorageFailed { reason }),
                Effect::Stopped => goes = Goes::Stopped,
            }
        }
        for outbox in filled {
            outbox.flush();
        }
        if let Some(local) = &self.local
            && !self.local_answers.is_empty()
        {
            local.answered(std::mem::take(&mut self.local_answers));
        }
        Ok(goes)
    }

    fn reply(&mut self, token: Token, answer: Answer, filled: &mut Vec<Arc<Outbox>>) {
        // Who waited may be gone: a stream that broke, a call that was given up.
        match (self.waiting.remove(&token.0), answer) {
            (Some(Waiting::Add { asker, id, bytes }), Answer::Add(result)) => {
                self.metrics.added(result, bytes);
                let outbox = match asker {
                    Asker::Stream(outbox) => outbox,
                    Asker::Local(turn) => {
                        if turn == self.local_turn {
                            self.local_answers.push((id, result));
                        }
                        return;
                    }
                };
                outbox.push(id, result);
                if !filled.iter().any(|known| Arc::ptr_eq(known, &outbox)) {
                    filled.push(outbox);
                }
            }
            (Some(Waiting::Read { reply, is_fencing }), Answer::Read(result)) => {
                self.metrics.read(is_fencing, &result);
                drop(reply.send(result));
            }
            (Some(Waiting::ReadLac(reply)), Answer::ReadLac(result)) => {
                self.metrics.read_lac(result);
                let _ = reply.send(result);
            }
            (Some(Waiting::ReadRun(reply)), Answer::ReadRun(items)) => {
                self.metrics.read_run(&items);
                drop(reply.send(items));
            }
            (Some(Waiting::Holdings(reply)), Answer::Holdings(result)) => {
                drop(reply.send(result));
            }
            (Some(Waiting::Scrub(reply)), Answer::Scrub(result)) => drop(reply.send(result)),
            (None, _) => {}
            (Some(_), answer) => {
                tracing::error!(?answer, "the engine gave an answer of another kind");
            }
        }
    }

    async fn start(&self, worker: Worker, job: Job) {
        let done = Arc::clone(&self.done);
        let queue = self.workers.get(&worker).expect("every worker was started");
        let metrics = (worker == Worker::Journal).then(|| Arc::clone(&self.metrics));
        let clock = self.host.clock.clone();
        let run = move || {
            let Some(metrics) = metrics else {
                return job.run();
            };
            let begun = clock.now();
            let job = job.run();
            metrics.journal_sync().record(clock.now().since(begun));
            job
        };
        // A worker that is gone has failed the node: the end of this task is on its way.
        let _ = queue.submit_then(run, move |job| done.push(job)).await;
    }
}
