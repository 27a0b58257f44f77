//! The task of a shard: waits, hands everything that came to the core, performs what the core wants, once per wake-up.
//!
//! It decides nothing about the protocol. It never waits for a client, a bookie or meta: clients have outboxes, the pool
//! has queues, and calls of meta run beside it and come back as events.

mod perform;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::coop::consume_budget;
use tracing::warn;

use bookie_client::{BookieLink, PoolEvent};
use host::{Clock, Host, Tasks};
use ledger::Outcome;
use topic::Receipt;
use types::{Generation, MonoTime, Problem, Reason, SubscriptionId};

use crate::tail_memory::TailPart;

use super::ShardParts;
use super::core::{self, Request, Shard, ShardEffect, ShardEvent, ShardSetup, Status};
use super::inbox::{Came, Inbox, InboxEnd, Message};
use super::streams::Streams;

/// Most requests, and most events of bookies, that are handed to the core in one wake-up.
const BATCH: usize = 256;

/// A shard gives back what room it has from busier times when its time comes for something and nothing came for so long.
const IDLE: Duration = Duration::from_secs(10);

/// How often a shard looks at a lease that is not certain.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long the giving up of a shard waits without anything happening: with too few bookies that take writes, nothing will.
const STILL: Duration = Duration::from_secs(3);

/// Starts the task of a shard.
pub(super) fn start(
    host: &Host,
    setup: ShardSetup,
    parts: Arc<ShardParts>,
    streams: Streams,
) -> Arc<Inbox> {
    let shard = setup.shard;
    let core = Shard::new(setup);
    let inbox = Arc::new(Inbox::new(core.status()));
    let task = ShardTask {
        link: parts.pool.register(Arc::clone(&inbox) as _),
        tail: parts.tails.part(),
        is_lease_certain: true,
        core,
        effects: Vec::new(),
        again: VecDeque::new(),
        came: None,
        inbox: InboxEnd::new(Arc::clone(&inbox)),
        streams,
        cursors: BTreeMap::new(),
        parts,
        release_by: None,
        busy_at: host.clock.now(),
        moved_at: MonoTime::ZERO,
        is_over: false,
        clock: host.clock.clone(),
        tasks: host.tasks.clone(),
    };
    // Boxed: what an async function is called with is in its state twice, and a node serves many shards.
    let task = Box::new(task);
    host.tasks
        .spawn_unlabelled(&format!("{shard}/core"), task.run());
    inbox
}

/// What a client is told that cannot be served.
pub(super) fn problem_of(status: &Status) -> Problem {
    match status {
        Status::Over(problem) => Problem::clone(problem),
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
        Status::Serving { .. } | Status::Releasing => core::given_up(),
    }
}

/// Lists that a shard needs while it works, which it does without waiting: one for each thread instead of each shard.
#[derive(Default)]
struct Scratch {
    effects: Vec<ShardEffect>,
    of_core: core::Scratch,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

struct ShardTask {
    clock: Clock,
    tasks: Tasks,
    core: Shard,
    effects: Vec<ShardEffect>,
    /// Events that performing effects gave rise to.
    again: VecDeque<ShardEvent>,
    /// What came and waits for its turn.
    came: Option<Box<Came>>,
    inbox: InboxEnd,
    link: BookieLink,
    parts: Arc<ShardParts>,
    /// The core's part of the node's memory for tails.
    tail: TailPart,
    /// What the core was told of the lease.
    is_lease_certain: bool,
    streams: Streams,
    /// Who waits for a subscription's first cursor.
    cursors: BTreeMap<SubscriptionId, Vec<oneshot::Sender<Result<Generation, Problem>>>>,
    release_by: Option<MonoTime>,
    /// When a client, a bookie or meta last wanted something.
    busy_at: MonoTime,
    /// When a bookie or meta last did something for this shard; told while it is being given up.
    moved_at: MonoTime,
    is_over: bool,
}

impl ShardTask {
    async fn run(mut self: Box<Self>) {
        self.borrow();
        self.candidates();
        self.hand_in(ShardEvent::Open);
        let mut alarm = self.clock.alarm();
        let mut is_idle = false;
        loop {
            self.perform();
            self.give_back();
            if std::mem::take(&mut is_idle) {
                self.shrink();
            }
            if self.is_over || self.tasks.is_stopping() {
                break;
            }
            self.core
                .limit_tail(|bytes, most| self.tail.hold(bytes, most));
            if self.came.as_ref().is_some_and(|it| it.has_more()) {
                // A shard that always finds something to do has to make way for others.
                consume_budget().await;
            } else {
                tokio::select! {
                    biased;
                    () = self.inbox.filled() => consume_budget().await,
                    () = alarm.deadline(self.deadline()) => {
                        is_idle = self.clock.now() >= self.busy_at.after(IDLE);
                    }
                }
            }
            self.borrow();
            self.look();
        }
        self.end();
    }

    /// Hands in what has come, answers before new work so that what is under way gets done, and so much at a time that one
    /// flush serves it all. Looks at the time as well: a busy shard's timer never comes to its turn otherwise.
    fn look(&mut self) {
        self.came = self.inbox.take(self.came.take());
        if let Some(mut came) = self.came.take() {
            self.hand_in_all(&mut came);
            self.came = Some(came); // Keeps its memory.
        }
        let now = self.clock.now();
        self.look_at_lease();
        if self.core.deadline().is_some_and(|at| at <= now) {
            self.hand_in(ShardEvent::Deadline);
        }
        if self.gives_up_at().is_some_and(|at| at <= now) {
            warn!(shard = %self.core.setup().shard, "shard not given up in time, the next owner recovers it");
            self.is_over = true;
        }
    }

    /// Takes this thread's lists.
    fn borrow(&mut self) {
        SCRATCH.with_borrow_mut(|scratch| {
            debug_assert!(self.effects.is_empty() && scratch.effects.is_empty());
            self.effects = std::mem::take(&mut scratch.effects);
            self.core.borrow(&mut scratch.of_core);
        });
    }

    /// Gives them back before it waits, empty as all of them are then.
    fn give_back(&mut self) {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.effects = std::mem::take(&mut self.effects);
            self.core.give_back(&mut scratch.of_core);
        });
    }

    /// Gives back the room that it has from busier times.
    fn shrink(&mut self) {
        self.core.shrink();
        self.again.shrink_to_fit();
        core::shrink_map(&mut self.cursors);
        self.came.take_if(|came| !came.has_more());
        self.inbox.shrink();
        self.streams.shrink();
    }

    /// When the task has something to do without being told.
    fn deadline(&self) -> Option<MonoTime> {
        // Who follows the lease may see nothing of a doubt that was short, and tell nobody that it is over.
        let doubt = !self.is_lease_certain;
        let look_again = doubt.then(|| self.clock.now().after(LOOK_AGAIN));
        let deadlines = [self.core.deadline(), self.gives_up_at(), look_again];
        deadlines.into_iter().flatten().min()
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
            self.moved_at = self.clock.now();
        }
        self.hand_in(event);
    }

    fn hand_in(&mut self, event: ShardEvent) {
        self.look_at_lease();
        let (now, wall) = (self.clock.now(), self.clock.wall());
        self.core.handle(now, wall, event, &mut self.effects);
    }

    /// Tells the core what has become of the lease, by the clock of this moment: a process that was frozen wakes up
    /// here before the task that renews the lease has noticed anything.
    fn look_at_lease(&mut self) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let is_certain = self.parts.lease.lease_is_certain(now);
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
                    if perform::is_done(&answer) {
                        self.moved_at = self.clock.now();
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

    fn hand_in_all(&mut self, came: &mut Came) {
        self.is_over |= came.is_abandoned;
        if came.has_more() {
            self.busy_at = self.clock.now();
        }
        let most = came.of_bookies.len().min(BATCH);
        for event in came.of_bookies.drain(..most) {
            self.pool_event(event);
        }
        for event in came.of_meta.drain(..) {
            self.meta_event(*event);
        }
        self.news(came);
        let most = came.messages.len().min(BATCH);
        for message in came.messages.drain(..most) {
            self.message(*message);
        }
        self.inbox.give_room(most);
    }

    fn news(&mut self, came: &mut Came) {
        if std::mem::take(&mut came.have_bookies_changed) {
            self.candidates();
        }
        for stream in came.closed.drain(..) {
            if self.streams.close(stream) {
                self.request(Request::CloseStream(stream));
            }
        }
        for stream in came.read.drain(..) {
            if let Some(request) = self.streams.read(stream) {
                self.request(request);
            }
        }
        if std::mem::take(&mut came.has_record_changed) {
            self.hand_in(ShardEvent::RecordChanged);
        }
    }

    fn candidates(&mut self) {
        let candidates = self.parts.pool.directory().candidates();
        self.hand_in(ShardEvent::Candidates(candidates));
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
                let now = self.clock.now();
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
        self.streams.measure(&self.clock);
        self.streams.settle(self.core.unconfirmed());
        self.inbox.set_status(self.core.status());
    }

    /// The shard is over, or the node stops: everybody is told.
    fn end(mut self) {
        let status = self.core.status();
        let problem = match &status {
            Status::Over(problem) => Problem::clone(problem),
            _ => core::given_up(),
        };
        self.inbox
            .set_status(Status::Over(Box::new(problem.clone())));
        let came = self.came.take().map(|came| came.messages);
        for message in came.into_iter().flatten().chain(self.inbox.close()) {
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

impl std::fmt::Debug for ShardTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardTask")
            .field("shard", &self.core.setup().shard)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::core;

    /// What a node has of each of its topics, most of which do nothing, is mostly these. The limits are classes of sizes in
    /// which the allocator gives memory: a little above one costs a fifth more for every topic.
    #[test]
    fn what_a_shard_takes_stays_within_classes_of_sizes() {
        let task = size_of::<ShardTask>();
        assert!(task <= 1_280, "{task}");
        let serving = core::serving_bytes();
        assert!(serving <= 1_024, "{serving}");
        let inbox = size_of::<Inbox>();
        assert!(inbox <= 192, "{inbox}");
        let future = size_of_future(ShardTask::run);
        assert!(future <= 256, "{future}");
    }

    fn size_of_future<F, R>(_: F) -> usize
    where
        F: Fn(Box<ShardTask>) -> R,
    {
        size_of::<R>()
    }
}
