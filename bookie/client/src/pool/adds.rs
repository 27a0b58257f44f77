//! The stream of adds to one bookie: opened, fed, read, and opened again when it is lost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use ledger::{Answer, Request};
use proto::bookie::{self as wire, HelloReply};
use proto::bookie_v1::{AddEntriesRequest, AddEntriesResponse};
use proto::hot::{self, Messages};
use tokio::sync::mpsc;
use types::storage::{Add, AddResult};
use types::{BookieId, EntryId, LedgerId};

use super::lanes::Lane;
use super::{Bookie, PoolConfig, PoolEvent, Shared, beside};

/// Frames on their way to the transport: one is being sent while the next gathers.
const FRAMES_AHEAD: usize = 2;

/// Keeps the stream of one bookie open until the node stops.
pub(super) async fn run(shared: Arc<Shared>, bookie: Arc<Bookie>) {
    let mut retry = Retry::new(&shared.config);
    let mut is_told_lost = false;
    loop {
        let stop = shared.host.tasks.token();
        let begun = shared.host.clock.now();
        let outcome = tokio::select! {
            biased; // Stop first.
            () = stop.cancelled() => return,
            outcome = serve(&shared, &bookie) => outcome,
        };
        bookie.queue.set_down(true);
        let Ended { was_open, reason } = outcome;
        let lasted = shared.host.clock.now().since(begun);
        let wait = retry.after(if was_open { lasted } else { Duration::ZERO });
        if was_open || !is_told_lost {
            tracing::warn!(bookie = %bookie.id, %reason, "bookie lost");
            shared.tell_all(&PoolEvent::Lost(bookie.id));
            is_told_lost = true;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = shared.host.clock.sleep(jittered(&shared, wait)) => {}
        }
    }
}

/// How long a lost stream is left alone.
struct Retry {
    next: Duration,
    first: Duration,
    most: Duration,
}

impl Retry {
    const fn new(config: &PoolConfig) -> Self {
        Self {
            next: config.retry,
            first: config.retry,
            most: config.retry_max,
        }
    }

    /// The wait after a stream that was open for so long. A bookie that opens streams and drops them is as little use as
    /// one that does not answer.
    fn after(&mut self, open: Duration) -> Duration {
        if open >= self.most {
            self.next = self.first;
        }
        let wait = self.next;
        self.next = (wait * 2).min(self.most);
        wait
    }
}

/// Between half and all of `wait`, so that many nodes do not come back in step.
fn jittered(shared: &Shared, wait: Duration) -> Duration {
    let half = wait / 2;
    let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_nanos(shared.host.rng.below(nanos))
}

/// How a stream ended: it always does.
pub(super) struct Ended {
    was_open: bool,
    reason: String,
}

impl Ended {
    pub(super) fn unopened(reason: impl ToString) -> Self {
        Self {
            was_open: false,
            reason: reason.to_string(),
        }
    }

    pub(super) fn open(reason: impl ToString) -> Self {
        Self {
            was_open: true,
            reason: reason.to_string(),
        }
    }
}

async fn serve(shared: &Arc<Shared>, bookie: &Arc<Bookie>) -> Ended {
    if let Some(local) = shared.local(bookie.id) {
        return beside::serve(shared, bookie, local).await;
    }
    let opened = shared
        .host
        .clock
        .timeout(shared.config.connect_timeout, open(shared, bookie));
    let (frames, mut answers) = match opened.await {
        Err(_) => return Ended::unopened("no answer to the handshake"),
        Ok(Err(reason)) => return Ended::unopened(reason),
        Ok(Ok(opened)) => opened,
    };
    tracing::info!(bookie = %bookie.id, "bookie connected");
    bookie.queue.set_down(false);
    shared.tell_all(&PoolEvent::Connected(bookie.id));
    let pending = Mutex::new(Pending::default());
    tokio::select! {
        biased; // Answers before new adds, so that what is pending stays short.
        ended = hear(shared, bookie.id, &pending, &mut answers) => ended,
        ended = say(shared, bookie, &pending, &frames) => ended,
    }
}

/// Hands answers on until the stream ends.
async fn hear(
    shared: &Shared,
    bookie: BookieId,
    pending: &Mutex<Pending>,
    answers: &mut Answers,
) -> Ended {
    while let Some(frame) = answers.next().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(status) => return Ended::open(status.message()),
        };
        let replies = match wire::replies(frame) {
            Ok(replies) => replies,
            Err(problem) => return Ended::open(problem.message),
        };
        let (runs, end) = sorted(bookie, &mut lock(pending), replies);
        for (key, answers) in runs {
            shared.tell(key, PoolEvent::Answers { bookie, answers });
        }
        if let Err(reason) = end {
            return Ended::open(reason);
        }
    }
    Ended::open("the bookie ended the stream")
}

/// Sends what gathers until the stream ends: a frame is made only when the transport takes one, so that adds gather
/// for exactly as long as the one before is on its way.
async fn say(
    shared: &Shared,
    bookie: &Bookie,
    pending: &Mutex<Pending>,
    frames: &mpsc::Sender<AddEntriesRequest>,
) -> Ended {
    loop {
        let Ok(permit) = frames.reserve().await else {
            return Ended::open("the transport ended the stream");
        };
        let orders = bookie.queue.take(shared.config.frame_bytes).await;
        permit.send(lock(pending).frame(orders));
    }
}

/// Never held over a wait: one task has it.
fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

type Answers = Messages<AddEntriesResponse>;
type Open = (mpsc::Sender<AddEntriesRequest>, Answers);

async fn open(shared: &Shared, bookie: &Bookie) -> Result<Open, String> {
    let id = bookie.id;
    let (frames, outgoing) = mpsc::channel(FRAMES_AHEAD);
    let hello = wire::hello(shared.cluster, id);
    frames
        .send(hello)
        .await
        .map_err(|_| "the stream ended before it began".to_owned())?;
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let channel = bookie.lanes.channel(shared, id, Lane::Adds)?;
    let answer = hot::ADD_ENTRIES.call(channel, outgoing).await;
    let mut answers = answer.map_err(|s| s.message().to_owned())?.into_inner();
    let first = answers.next().await.ok_or("the bookie ended the stream")?;
    let first = first.map_err(|status| status.message().to_owned())?;
    let HelloReply { bookie, .. } = wire::hello_reply(first).map_err(|p| p.message)?;
    if bookie != id {
        return Err(format!(
            "another bookie answers at this address bookie={bookie}"
        ));
    }
    Ok((frames, answers))
}

/// The adds on the stream that are not answered yet, named by consecutive numbers.
#[derive(Debug, Default)]
pub(super) struct Pending {
    first: u64,
    adds: VecDeque<Option<Slot>>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    key: u64,
    ledger: LedgerId,
    entry: EntryId,
}

impl Pending {
    /// Makes a frame of orders and notes who waits for their answers.
    fn frame(&mut self, orders: Vec<(u64, Request)>) -> AddEntriesRequest {
        let mut batch = wire::AddBatchBuilder::default();
        for (key, order) in orders {
            match order {
                Request::Add(add) => {
                    let id = self.push(key, &add);
                    batch.add(id, add);
                }
                Request::SetLac(lac) => batch.set_lac(lac),
                Request::Read(_) | Request::ReadLac(_) => {}
            }
        }
        batch.finish()
    }

    /// Notes an add of the shard `key`: the number for its answer.
    pub(super) fn push(&mut self, key: u64, add: &Add) -> u64 {
        let id = self.first + self.adds.len() as u64;
        self.adds.push_back(Some(Slot {
            key,
            ledger: add.ledger,
            entry: add.entry.id,
        }));
        id
    }

    /// The add of this number; none when it was answered before or never sent.
    fn take(&mut self, id: u64) -> Option<Slot> {
        let index = usize::try_from(id.checked_sub(self.first)?).ok()?;
        let slot = self.adds.get_mut(index)?.take();
        while let Some(None) = self.adds.front() {
            self.adds.pop_front();
            self.first += 1;
        }
        slot
    }
}

/// Answers by the keys of the shards that asked, in the order they came.
type Runs = Vec<(u64, Vec<Answer>)>;

/// Answers as runs of answers to one shard; those before the first that nobody asked for, and what is wrong with it.
pub(super) fn sorted(
    bookie: BookieId,
    pending: &mut Pending,
    replies: impl IntoIterator<Item = (u64, AddResult)>,
) -> (Runs, Result<(), String>) {
    let mut runs = Runs::new();
    for (id, result) in replies {
        let Some(Slot { key, ledger, entry }) = pending.take(id) else {
            let reason = format!("the bookie answered an add that was not asked id={id}");
            return (runs, Err(reason));
        };
        alarm(bookie, ledger, entry, result);
        let answer = Answer::Added {
            ledger,
            entry,
            result,
        };
        match runs.last_mut() {
            Some((same, answers)) if *same == key => answers.push(answer),
            _ => runs.push((key, vec![answer])),
        }
    }
    (runs, Ok(()))
}

/// Two payloads under one number must never be: a person has to know.
fn alarm(bookie: BookieId, ledger: LedgerId, entry: EntryId, result: AddResult) {
    if result == AddResult::Mismatch {
        tracing::error!(%bookie, %ledger, %entry, "bookie holds another payload for this entry");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_that_lasted_is_opened_again_at_once() {
        let mut retry = Retry::new(&PoolConfig::default());
        let ms = Duration::from_millis;
        let short = [0, 5, 999, 0, 0, 0].map(|open| retry.after(ms(open)));
        assert_eq!(short, [50, 100, 200, 400, 800, 1_000].map(ms));
        assert_eq!(retry.after(ms(1_000)), ms(50));
        assert_eq!(retry.after(ms(0)), ms(100));
    }
}
