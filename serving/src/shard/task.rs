//! The task of a shard: waits, hands everything that came to the core, performs what the core wants, once per wake-up.
//!
//! It decides nothing about the protocol. It never waits for a client, a bookie or meta: clients have outboxes, the pool
//! has queues, and calls of meta run beside it and come back as events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use bookie_client::{BookieLink, Directory, Order, PoolEvent, PoolEvents, Sent};
use host::Host;
use ledger::{Outcome, Over};
use meta_client::{MetaClient, Session};
use topic::{Publish, Receipt, StreamId, TopicStats, Unreadable};
use types::chain::{LogKind, ShardOutcome};
use types::command::{Command, Query, Reply};
use types::storage::{AddResult, LacResult, ReadResult};
use types::topic::SubscriptionRecord;
use types::{
    BookieId, CommandId, ErrorKind, Generation, LedgerSeq, MonoTime, Offset, Problem, Reason,
    SubscriptionId,
};

use crate::metrics::Metrics;
use crate::tail_memory::TailPart;

use super::ShardParts;
use super::core::{Ended, QueryId, Request, Shard, ShardEffect, ShardEvent, ShardSetup, Status};
use super::session::{Bell, Inlet};
use super::streams::{Batch, Slot, Streams};

/// Requests that wait for the task; beyond it whoever asks waits.
const INBOX: usize = 1_024;

/// Answers of meta that wait for the task.
const META_INBOX: usize = 64;

/// Most requests, and most events of bookies, that are handed to the core in one wake-up.
const BATCH: usize = 256;

/// How long the giving up of a shard waits without anything happening: with too few bookies that take writes, nothing will.
const STILL: Duration = Duration::from_secs(3);

/// What the handle asks of the task.
#[derive(Debug)]
pub(super) enum Message {
    /// A stream begins.
    Open {
        request: Request,
        inlet: Inlet,
        slot: Option<Slot>,
    },
    /// A batch of a producer.
    Publish { publish: Publish, batch: Batch },
    /// The receipt of a batch that was refused before it came here.
    Refuse { stream: StreamId, receipt: Receipt },
    /// Anything else of a stream.
    Request(Request),
    /// The first cursor of a subscription.
    DropSubscription(SubscriptionId),
    CreateCursor {
        subscription: Box<SubscriptionRecord>,
        reply: oneshot::Sender<Result<Generation, Problem>>,
    },
    /// How the topic stands.
    Stats(oneshot::Sender<Option<TopicStats>>),
    /// Give the shard up.
    Leave { within: Duration, how: ShardEvent },
}

/// Starts the task of a shard.
pub(super) fn start(
    host: &Host,
    setup: ShardSetup,
    parts: ShardParts,
    bell: Arc<Bell>,
    streams: Streams,
) -> (mpsc::Sender<Box<Message>>, watch::Receiver<Status>) {
    let host = host.fork(&setup.shard.to_string());
    let (inbox, requests) = mpsc::channel(INBOX);
    let (to_pool, pool_events) = bookie_client::inbox();
    let (to_meta, meta_events) = mpsc::channel(META_INBOX);
    let core = Shard::new(setup);
    let (status, watched) = watch::channel(core.status());
    let task = ShardTask {
        link: parts.pool.register(to_pool),
        directory: parts.pool.directory().clone(),
        meta: parts.meta,
        lease: parts.lease,
        tail: parts.tails.part(),
        is_lease_certain: true,
        core,
        effects: Vec::new(),
        again: VecDeque::new(),
        requests,
        pool_events,
        to_meta,
        meta_events,
        bell,
        status,
        streams,
        cursors: BTreeMap::new(),
        metrics: parts.metrics,
        release_by: None,
        moved_at: MonoTime::ZERO,
        is_over: false,
        host: host.clone(),
    };
    host.tasks.spawn("core", task.run());
    (inbox, watched)
}

/// What a client is told that cannot be served.
pub(super) fn problem_of(status: &Status) -> Problem {
    match status {
        Status::Over(problem) => problem.clone(),
        Status::Opening { waits_for } => {
            let problem =
                Problem::new(Reason::ShardOpening, "the shard is being opened, try again");
            let problem = problem.retry_after(Duration::from_millis(200));
            match waits_for {
                Some(what) => Problem {
                    message: format!("the shard is being opened, it waits: {what}"),
                    ..problem.with("waits_for", what)
                },
                None => problem,
            }
        }
        Status::Serving { .. } | Status::Releasing => given_up(),
    }
}

fn given_up() -> Problem {
    let text = "the node gives the shard up, ask another";
    Problem::new(Reason::NotOwner, text).retry_after(Duration::ZERO)
}

struct ShardTask {
    host: Host,
    core: Shard,
    effects: Vec<ShardEffect>,
    /// Events that performing effects gave rise to.
    again: VecDeque<ShardEvent>,
    /// Boxed, as what comes from meta: a channel sets room for 32 aside, and a node serves many shards.
    requests: mpsc::Receiver<Box<Message>>,
    link: BookieLink,
    directory: Directory,
    pool_events: PoolEvents,
    meta: MetaClient,
    to_meta: mpsc::Sender<Box<ShardEvent>>,
    meta_events: mpsc::Receiver<Box<ShardEvent>>,
    lease: Session,
    /// The core's part of the node's memory for tails.
    tail: TailPart,
    /// What the core was told of the lease.
    is_lease_certain: bool,
    bell: Arc<Bell>,
    status: watch::Sender<Status>,
    streams: Streams,
    /// Who waits for a subscription's first cursor.
    cursors: BTreeMap<SubscriptionId, Vec<oneshot::Sender<Result<Generation, Problem>>>>,
    metrics: Arc<Metrics>,
    release_by: Option<MonoTime>,
    /// When a bookie or meta last did something for this shard; told while it is being given up.
    moved_at: MonoTime,
    is_over: bool,
}

impl ShardTask {
    async fn run(mut self) {
        let candidates = self.directory.candidates();
        self.hand_in(ShardEvent::Candidates(candidates));
        self.hand_in(ShardEvent::Open);
        let mut lease = self.lease.certain();
        let mut is_lease_told = true;
        let mut alarm = self.host.clock.alarm();
        loop {
            self.perform();
            if self.is_over {
                break;
            }
            self.core
                .limit_tail(|bytes, most| self.tail.hold(bytes, most));
            let deadline = [self.core.deadline(), self.gives_up_at()];
            let deadline = deadline.into_iter().flatten().min();
            tokio::select! {
                biased; // Stop first; answers before new work, so that what is under way gets done.
                () = self.host.tasks.stopped() => break,
                Some(event) = self.pool_events.recv() => self.pool_event(event),
                Some(event) = self.meta_events.recv() => self.meta_event(*event),
                // What there is to tell of it is found below, and before every event. Once nobody keeps it, its time runs
                // out.
                changed = lease.changed(), if is_lease_told => is_lease_told = changed.is_ok(),
                () = self.bell.rung() => self.rung(),
                () = self.directory.changed() => {
                    let candidates = self.directory.candidates();
                    self.hand_in(ShardEvent::Candidates(candidates));
                }
                message = self.requests.recv() => match message {
                    Some(message) => self.message(*message),
                    None => break, // Nobody has a handle any more.
                },
                () = alarm.deadline(deadline) => {}
            }
            self.drain();
        }
        self.end();
    }

    /// Takes what else has come, so that one flush serves it all, and looks at the time: a busy shard's timer never comes
    /// to its turn otherwise.
    fn drain(&mut self) {
        for _ in 0..BATCH {
            let Ok(event) = self.pool_events.try_recv() else {
                break;
            };
            self.pool_event(event);
        }
        while let Ok(event) = self.meta_events.try_recv() {
            self.meta_event(*event);
        }
        for _ in 0..BATCH {
            let Ok(message) = self.requests.try_recv() else {
                break;
            };
            self.message(*message);
        }
        let now = self.host.clock.now();
        self.look_at_lease();
        if self.core.deadline().is_some_and(|at| at <= now) {
            self.hand_in(ShardEvent::Deadline);
        }
        if self.gives_up_at().is_some_and(|at| at <= now) {
            warn!(shard = %self.core.setup().shard, "shard not given up in time, the next owner recovers it");
            self.is_over = true;
        }
    }

    /// When the giving up of the shard is given up itself: when its time is over, or nothing has happened for a while.
    fn gives_up_at(&self) -> Option<MonoTime> {
        let by = self.release_by?;
        Some(by.min(self.moved_at.after(STILL)))
    }

    fn meta_event(&mut self, event: ShardEvent) {
        let is_unknown = matches!(
            event,
            ShardEvent::Outcome {
                outcome: Outcome::Unknown,
                ..
            } | ShardEvent::Queried { result: Err(_), .. }
        );
        if !is_unknown {
            self.moved_at = self.host.clock.now();
        }
        self.hand_in(event);
    }

    fn hand_in(&mut self, event: ShardEvent) {
        self.look_at_lease();
        let (now, wall) = (self.host.clock.now(), self.host.clock.wall());
        self.core.handle(now, wall, event, &mut self.effects);
    }

    /// Tells the core what has become of the lease, by the clock of this moment: a process that was frozen wakes up
    /// here before the task that renews the lease has noticed anything.
    fn look_at_lease(&mut self) {
        let (now, wall) = (self.host.clock.now(), self.host.clock.wall());
        let is_certain = self.lease.lease_is_certain(now);
        if self.is_lease_certain != is_certain {
            self.is_lease_certain = is_certain;
            let event = ShardEvent::LeaseCertain(is_certain);
            self.core.handle(now, wall, event, &mut self.effects);
        }
    }

    fn request(&mut self, request: Request) {
        self.hand_in(ShardEvent::Request(request));
    }

    fn pool_event(&mut self, event: PoolEvent) {
        match event {
            PoolEvent::Answers { bookie, answers } => {
                for answer in answers {
                    if is_done(&answer) {
                        self.moved_at = self.host.clock.now();
                    }
                    self.hand_in(ShardEvent::Answer { bookie, answer });
                }
            }
            PoolEvent::Run {
                tag,
                items,
                is_last,
                ..
            } => self.hand_in(ShardEvent::Run {
                tag,
                items,
                is_last,
            }),
            PoolEvent::Connected(bookie) => self.hand_in(ShardEvent::Connected(bookie)),
            PoolEvent::Lost(bookie) => self.hand_in(ShardEvent::Lost(bookie)),
        }
    }

    fn rung(&mut self) {
        let rung = self.bell.take();
        for stream in rung.closed {
            if self.streams.close(stream) {
                self.request(Request::CloseStream(stream));
            }
        }
        for stream in rung.read {
            if let Some(request) = self.streams.read(stream) {
                self.request(request);
            }
        }
        if rung.has_record_changed {
            self.hand_in(ShardEvent::RecordChanged);
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Open {
                mut request,
                inlet,
                slot,
            } => {
                // A reader that is gone already was told closed before the stream was known here.
                if !inlet.is_closed() {
                    self.streams.open(&mut request, inlet, slot);
                    self.request(request);
                }
            }
            Message::Publish { publish, batch } => {
                if self.streams.has(publish.stream) {
                    self.streams.took(publish.stream, batch);
                    self.request(Request::Publish(publish));
                }
            }
            Message::Refuse { stream, receipt } => self.streams.refuse(stream, receipt),
            Message::Request(request) => {
                let is_known = request
                    .stream()
                    .is_some_and(|stream| self.streams.has(stream));
                if is_known && let Some(request) = self.streams.grant(request) {
                    self.request(request);
                }
            }
            Message::CreateCursor {
                subscription,
                reply,
            } => {
                self.cursors.entry(subscription.id).or_default().push(reply);
                self.request(Request::CreateCursor(*subscription));
            }
            Message::DropSubscription(subscription) => {
                self.request(Request::DropSubscription(subscription));
            }
            Message::Stats(reply) => {
                // Whoever asked may be gone.
                let _ = reply.send(self.core.stats());
            }
            Message::Leave { within, how } => {
                let now = self.host.clock.now();
                self.moved_at = now;
                let by = now.after(within);
                self.release_by = Some(self.release_by.map_or(by, |before| before.min(by)));
                self.hand_in(how);
            }
        }
    }

    /// Performs what the core wants, and what that gives rise to.
    fn perform(&mut self) {
        let mut requests = Vec::new();
        loop {
            let mut effects = std::mem::take(&mut self.effects);
            for effect in effects.drain(..) {
                self.perform_one(effect);
            }
            self.effects = effects; // Keeps its memory.
            self.streams.flush(&mut requests);
            for request in requests.drain(..) {
                self.request(request);
            }
            while let Some(event) = self.again.pop_front() {
                self.hand_in(event);
            }
            if self.effects.is_empty() {
                break;
            }
        }
        self.streams.measure(&self.host.clock);
        self.streams.settle(self.core.unconfirmed());
        self.tell_status();
    }

    fn tell_status(&self) {
        let status = self.core.status();
        self.status.send_if_modified(|told| {
            let has_changed = *told != status;
            if has_changed {
                *told = status;
            }
            has_changed
        });
    }

    fn trimmed(&self, log: LogKind, first: LedgerSeq, first_offset: Offset) {
        let shard = self.core.setup().shard;
        match log {
            LogKind::Message => info!(%shard, %first, %first_offset, "old messages dropped"),
            LogKind::State => debug!(%shard, %first, "old state dropped"),
        }
    }

    /// A subscription waits at a batch, and tries again and again: people are told once.
    fn unreadable(&self, unreadable: &Unreadable) {
        self.metrics.unreadable();
        let Unreadable {
            subscription,
            position,
            messages,
            fault,
            is_first,
        } = unreadable;
        if *is_first {
            error!(
                shard = %self.core.setup().shard, topic = %self.core.setup().topic, %subscription, ?position, %messages, %fault,
                "a stored batch cannot be read, and the subscription waits at it"
            );
        }
    }

    fn perform_one(&mut self, effect: ShardEffect) {
        match effect {
            ShardEffect::Send { bookie, request } => self.send(bookie, request),
            ShardEffect::Run { tag, bookie, run } => {
                if self.link.send(bookie, Order::Run { tag, run }) != Sent::Queued {
                    self.again.push_back(ShardEvent::Run {
                        tag,
                        items: Vec::new(),
                        is_last: true,
                    });
                }
            }
            ShardEffect::Claim(claim) => {
                self.change(claim.command, Command::ClaimShard(claim));
            }
            ShardEffect::Command(command) => {
                self.change(command.command, Command::ChangeShard(command));
            }
            ShardEffect::Query { id, query } => self.read(id, query),
            ShardEffect::Tell { stream, told } => self.streams.tell(stream, told),
            ShardEffect::CursorDurable {
                subscription,
                generation,
            } => self.cursor(subscription, &Ok(generation)),
            ShardEffect::CursorRefused {
                subscription,
                problem,
            } => self.cursor(subscription, &Err(problem)),
            ShardEffect::Opened { epoch, notes } => {
                let (shard, topic) = (self.core.setup().shard, &self.core.setup().topic);
                info!(%shard, %topic, %epoch, "shard opened");
                if notes.cursors_missing > 0 {
                    let count = notes.cursors_missing;
                    error!(%shard, %topic, count, "cursors missing, their subscriptions begin anew");
                }
                if notes != topic::OpeningNotes::default() {
                    warn!(%shard, %topic, ?notes, "shard opened with oddities");
                }
            }
            ShardEffect::Stuck(stuck) => {
                warn!(shard = %self.core.setup().shard, ?stuck, "shard waits");
            }
            ShardEffect::Mismatch {
                bookie,
                ledger,
                entry,
            } => {
                let shard = self.core.setup().shard;
                error!(%shard, %bookie, %ledger, %entry, "a bookie holds another payload");
            }
            ShardEffect::Unreadable(unreadable) => self.unreadable(&unreadable),
            ShardEffect::Trimmed {
                log,
                first,
                first_offset,
            } => self.trimmed(log, first, first_offset),
            ShardEffect::Over(ended) => {
                let shard = self.core.setup().shard;
                match ended {
                    // Every retry of a client tries it while a dead owner's lease runs.
                    Ended::Owner(over @ Over::ClaimRefused { .. }) => {
                        debug!(%shard, %over, "shard is not claimed");
                    }
                    Ended::Owner(over) => info!(%shard, %over, "shard is over"),
                    Ended::Unusable(problem) => error!(%shard, %problem, "shard cannot be opened"),
                }
                self.is_over = true;
            }
        }
    }

    /// Sends a request to a bookie. What cannot even be queued is answered here and now.
    fn send(&mut self, bookie: BookieId, request: ledger::Request) {
        let busy = busy_answer(&request);
        match self.link.send(bookie, Order::Request(request)) {
            Sent::Queued => {}
            Sent::Full => {
                let event = busy.map(|answer| ShardEvent::Answer { bookie, answer });
                self.again.extend(event);
            }
            Sent::Down => {
                // Once for all that was meant for it.
                let event = ShardEvent::Lost(bookie);
                if !self.again.contains(&event) {
                    self.again.push_back(event);
                }
            }
        }
    }

    /// Asks meta for a change, beside this task.
    fn change(&self, command: CommandId, asked: Command) {
        let (meta, to_meta) = (self.meta.clone(), self.to_meta.clone());
        self.host.tasks.spawn("change", async move {
            let outcome = match meta.execute(asked).await {
                Ok(Reply::Shard(ShardOutcome::Committed(view))) => {
                    Outcome::Committed(Box::new(view))
                }
                Ok(Reply::Shard(ShardOutcome::Conflict(view))) => Outcome::Conflict(Box::new(view)),
                Ok(_) => Outcome::Unknown,
                Err(error) => outcome_of(&Problem::from(error)),
            };
            debug!(%command, ?outcome, "meta answered a change");
            // A shard that is over needs no answer.
            let event = ShardEvent::Outcome { command, outcome };
            let _ = to_meta.send(Box::new(event)).await;
        });
    }

    /// Reads from meta, beside this task.
    fn read(&self, id: QueryId, query: Query) {
        let (meta, to_meta) = (self.meta.clone(), self.to_meta.clone());
        self.host.tasks.spawn("query", async move {
            let result = meta.query(query).await.map_err(Problem::from);
            let event = ShardEvent::Queried { query: id, result };
            // A shard that is over needs no answer.
            let _ = to_meta.send(Box::new(event)).await;
        });
    }

    fn cursor(&mut self, subscription: SubscriptionId, result: &Result<Generation, Problem>) {
        for reply in self.cursors.remove(&subscription).unwrap_or_default() {
            // Whoever asked may be gone.
            let _ = reply.send(result.clone());
        }
    }

    /// The shard is over, or the node stops: everybody is told.
    fn end(mut self) {
        let status = self.core.status();
        let problem = match &status {
            Status::Over(problem) => problem.clone(),
            _ => given_up(),
        };
        self.status.send_replace(Status::Over(problem.clone()));
        self.requests.close();
        while let Ok(message) = self.requests.try_recv() {
            self.turn_away(*message, &problem);
        }
        self.streams.end_all(&problem);
        let waiting = std::mem::take(&mut self.cursors);
        for reply in waiting.into_values().flatten() {
            let _ = reply.send(Err(problem.clone()));
        }
    }

    /// Answers what came too late. Nothing of it was done.
    fn turn_away(&mut self, message: Message, problem: &Problem) {
        match message {
            Message::Open {
                request,
                inlet,
                slot: _,
            } => {
                let told = match request {
                    Request::PublishOnce { count, .. } => super::Told::Receipt(Receipt {
                        first_sequence: types::SequenceId::new(0),
                        count,
                        outcome: Err(problem.clone()),
                    }),
                    _ => super::Told::Ended(problem.clone()),
                };
                inlet.push(std::iter::once(told));
            }
            Message::CreateCursor { reply, .. } => {
                let _ = reply.send(Err(problem.clone()));
            }
            // The streams' ends tell the rest.
            Message::Publish { .. }
            | Message::Refuse { .. }
            | Message::Request(_)
            | Message::DropSubscription(_)
            | Message::Stats(_)
            | Message::Leave { .. } => {}
        }
    }
}

/// What a failed call of meta tells about a change. Only a refusal tells that this try did nothing.
const fn outcome_of(problem: &Problem) -> Outcome {
    match problem.kind() {
        ErrorKind::Retry
        | ErrorKind::Moved
        | ErrorKind::Busy
        | ErrorKind::Stopping
        | ErrorKind::Unknown
        | ErrorKind::Corrupt
        | ErrorKind::Bug => Outcome::Unknown,
        ErrorKind::Fenced | ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict => {
            Outcome::Refused(problem.reason)
        }
    }
}

/// Whether a bookie did what it was asked, other than that it could not now.
const fn is_done(answer: &ledger::Answer) -> bool {
    !matches!(
        answer,
        ledger::Answer::Added {
            result: AddResult::Busy | AddResult::ReadOnly,
            ..
        } | ledger::Answer::Read {
            result: ReadResult::Busy,
            ..
        } | ledger::Answer::Lac {
            result: LacResult::Busy,
            ..
        }
    )
}

/// What a bookie would answer that has no room for a request.
fn busy_answer(request: &ledger::Request) -> Option<ledger::Answer> {
    match request {
        ledger::Request::Add(add) => Some(ledger::Answer::Added {
            ledger: add.ledger,
            entry: add.entry.id,
            result: AddResult::Busy,
        }),
        ledger::Request::Read(read) => Some(ledger::Answer::Read {
            ledger: read.ledger,
            entry: read.entry,
            result: ReadResult::Busy,
        }),
        ledger::Request::ReadLac(read) => Some(ledger::Answer::Lac {
            ledger: read.ledger,
            result: LacResult::Busy,
        }),
        ledger::Request::SetLac(_) => None,
    }
}

impl std::fmt::Debug for ShardTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardTask")
            .field("shard", &self.core.setup().shard)
            .finish_non_exhaustive()
    }
}
