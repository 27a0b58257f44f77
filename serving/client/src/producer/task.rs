//! The producer's task: finds the owner, keeps a stream open, and moves bytes between the machine and the stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use compression::Compressor;
use futures::StreamExt;
use host::Clock;
use pb::publish_stream_request::Frame as Up;
use pb::publish_stream_response::Frame as Down;
use proto::hot::{self, Messages};
use proto::raw::v1 as pb;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use types::batch::Codec;
use types::{MonoTime, Reason, SequenceId, crc32c};

use super::core::{After, Credits, Heard, Outgoing, Place};
use super::state::{Inner, Opened};
use crate::Error;
use crate::connect::{Backoff, OPEN_TIMEOUT, Target, is_elsewhere, lost, moved, odd, stream_error};

/// Frames on their way to the transport.
const FRAMES_AHEAD: usize = 2;
/// How long the reason of a stream's end is waited for.
const LAST_WORD: Duration = Duration::from_secs(1);

pub(super) struct Task {
    inner: Arc<Inner>,
    timeout: Duration,
    target: Target,
    /// Whether a server once took this producer in: then it must know it again.
    was_open: bool,
    compressor: Option<Compressor>,
}

/// A stream that is open.
struct Open {
    frames: mpsc::Sender<pb::PublishStreamRequest>,
    answers: Messages<pb::PublishStreamResponse>,
    ready: pb::ProducerReady,
}

/// How a stream ended.
enum End {
    /// Open another one.
    Broke(Error),
    /// Nothing helps.
    Over(Error),
    /// The user is done.
    Done,
}

type Ready = oneshot::Sender<Result<Opened, Error>>;

impl Task {
    pub(super) fn new(inner: Arc<Inner>, timeout: Duration, codec: Option<Codec>) -> Self {
        Self {
            inner,
            timeout,
            target: Target::default(),
            was_open: false,
            compressor: codec.map(Compressor::new),
        }
    }

    /// Runs until the handles are dropped and nothing waits, or nothing helps. `ready` hears of the first opening.
    pub(super) async fn run(mut self, ready: Ready) {
        let mut ready = Some(ready);
        let mut backoff = Backoff::new();
        let over = loop {
            let Some(opened) = self.unless_done(&mut ready, self.target.clone()).await else {
                break None;
            };
            let end = match opened {
                Ok(open) => {
                    backoff.reset();
                    self.was_open = true;
                    match self.begin(&open, &mut ready) {
                        Ok(true) => self.serve(open).await,
                        Ok(false) => break None,
                        Err(error) => End::Over(error),
                    }
                }
                Err(error) => End::Broke(error),
            };
            let error = match end {
                End::Done => break None,
                End::Over(error) => break Some(error),
                End::Broke(error) => error,
            };
            if !is_elsewhere(&error) || self.is_late(ready.is_some()) {
                break Some(error);
            }
            tracing::debug!(topic = %self.inner.topic, %error, "publishing is interrupted");
            if self.target.failed(&self.inner.shared, &error) {
                let wait = backoff.wait(&self.inner.shared.host.rng);
                self.inner.shared.host.clock.sleep(wait).await;
            }
        };
        self.end(over, ready);
    }

    fn end(&self, over: Option<Error>, ready: Option<Ready>) {
        let inner = &self.inner;
        let ignored = inner.ignored.load(Ordering::Relaxed);
        if ignored > 0 {
            tracing::warn!(
                topic = %inner.topic, producer = %inner.name, ignored,
                "receipts were dropped: nobody knows whether those messages were stored"
            );
        }
        let Some(error) = over else { return };
        if let Some(ready) = ready {
            let _ = ready.send(Err(error));
            return;
        }
        tracing::warn!(topic = %inner.topic, producer = %inner.name, %error, "producer ended");
        inner.give_up(&error);
    }

    /// Opens a stream; none when nobody waits for one any more.
    async fn unless_done(
        &self,
        ready: &mut Option<Ready>,
        target: Target,
    ) -> Option<Result<Open, Error>> {
        let opening = self.open(target);
        tokio::pin!(opening);
        loop {
            if self.is_done() {
                return None;
            }
            let given_up = async {
                match ready {
                    Some(ready) => ready.closed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                opened = &mut opening => return Some(opened),
                () = given_up => return None,
                () = self.inner.work.notified() => {}
            }
        }
    }

    /// Whether the handles are dropped and nothing waits.
    fn is_done(&self) -> bool {
        let state = self.inner.lock();
        state.is_closing && state.core.is_idle()
    }

    /// Whether somebody has waited for too long.
    fn is_late(&self, is_opening: bool) -> bool {
        let now = self.inner.shared.host.clock.now();
        let state = self.inner.lock();
        (is_opening || !state.core.is_idle()) && now.since(state.progress) >= self.timeout
    }

    /// How long a try to open a stream may take: the first one, and one that messages wait for, ends with their patience.
    fn open_within(&self) -> Duration {
        let now = self.inner.shared.host.clock.now();
        let state = self.inner.lock();
        if self.was_open && state.core.is_idle() {
            return OPEN_TIMEOUT;
        }
        let left = self.timeout.saturating_sub(now.since(state.progress));
        left.min(OPEN_TIMEOUT)
    }

    async fn open(&self, target: Target) -> Result<Open, Error> {
        let clock = &self.inner.shared.host.clock;
        let late = |_| {
            Error::new(
                Reason::Unreachable,
                "no answer to the opening of the producer",
            )
        };
        clock
            .timeout(self.open_within(), self.open_at(target))
            .await
            .map_err(late)
            .flatten()
    }

    async fn open_at(&self, target: Target) -> Result<Open, Error> {
        let shared = &self.inner.shared;
        let (frames, outgoing) = mpsc::channel(FRAMES_AHEAD);
        let open = pb::OpenProducer {
            topic: self.inner.topic.to_string(),
            producer_name: self.inner.name.to_string(),
            access_mode: pb::AccessMode::Shared.into(),
            understands_redirect: true,
            resume: self.was_open,
        };
        let first = pb::PublishStreamRequest {
            frame: Some(Up::Open(open)),
        };
        frames.send(first).await.map_err(|_| lost())?;
        let outgoing = ReceiverStream::new(outgoing);
        let opened = hot::PUBLISH.call(target.channel(shared)?, outgoing).await?;
        let mut answers: Messages<pb::PublishStreamResponse> = opened.into_inner();
        let answer = answers.next().await.ok_or_else(lost)??;
        match answer.frame {
            Some(Down::Ready(ready)) => Ok(Open {
                frames,
                answers,
                ready,
            }),
            Some(Down::Redirect(redirect)) => Err(moved(&redirect)),
            Some(Down::Error(error)) => Err(stream_error(error)),
            Some(Down::Receipts(_)) | None => Err(odd("the first frame is no answer to `open`")),
        }
    }

    /// A stream was opened: tells the machine, and whoever waits for the first one. False when nobody does any more.
    fn begin(&self, open: &Open, ready: &mut Option<Ready>) -> Result<bool, Error> {
        let credits = open
            .ready
            .credits
            .map_or(Credits::UNLIMITED, |credits| Credits {
                messages: u64::try_from(credits.messages).unwrap_or(0),
                bytes: usize::try_from(credits.bytes).unwrap_or(0),
            });
        let last = open.ready.last_sequence_id;
        {
            let mut state = self.inner.lock();
            if state.core.is_idle() {
                state.progress = self.inner.shared.host.clock.now();
            }
            state.core.opened(last, credits)?;
        }
        let Some(ready) = ready.take() else {
            return Ok(true);
        };
        let message_max = open
            .ready
            .limits
            .map_or(0, |limits| limits.message_bytes_max);
        let message_max = if message_max == 0 {
            usize::MAX
        } else {
            usize::try_from(message_max).unwrap_or(usize::MAX)
        };
        let opened = Opened {
            message_max,
            stored: last.map_or(0, |last| last.saturating_add(1)),
        };
        Ok(ready.send(Ok(opened)).is_ok())
    }

    /// Moves bytes until the stream ends or nobody wants anything any more.
    async fn serve(&mut self, open: Open) -> End {
        let inner = Arc::clone(&self.inner);
        let clock = &inner.shared.host.clock;
        let Open {
            frames,
            mut answers,
            ready,
        } = open;
        let ratio_max = ready
            .limits
            .map_or(0, |limits| limits.compression_ratio_max);
        let mut resume_at: Option<MonoTime> = None;
        let mut backoff = Backoff::new();
        let mut patience = clock.alarm();
        loop {
            let (can_take, late_at) = {
                let state = inner.lock();
                let is_idle = state.core.is_idle();
                if state.is_closing && is_idle {
                    return End::Done;
                }
                let late_at = (!is_idle).then(|| state.progress.after(self.timeout));
                (state.core.can_take(), late_at)
            };
            tokio::select! {
                biased; // Receipts first, so that memory is freed; then what waits; then news.
                answer = answers.next() => {
                    let after = match answer {
                        None => return End::Broke(lost()),
                        Some(Err(status)) => return End::Broke(Error::from(status)),
                        Some(Ok(answer)) => self.hear(answer),
                    };
                    match after {
                        Ok(Told { hold, has_settled }) => {
                            if has_settled {
                                backoff.reset();
                            }
                            if hold {
                                let wait = backoff.wait(&inner.shared.host.rng);
                                resume_at = Some(clock.now().after(wait));
                            }
                        }
                        Err(end) => return end,
                    }
                }
                () = clock.deadline(resume_at), if resume_at.is_some() => {
                    resume_at = None;
                    inner.lock().core.resume();
                }
                permit = frames.reserve(), if can_take => {
                    let Ok(permit) = permit else {
                        return End::Broke(last_word(clock, &mut answers).await);
                    };
                    let taken = inner.lock().core.take();
                    if let Some(out) = taken {
                        permit.send(self.frame(out, ratio_max));
                    }
                }
                () = inner.work.notified() => {}
                // The stream is open and the server lives, but what it took is stored nowhere: too few bookies, mostly.
                () = patience.deadline(late_at) => return End::Over(silent()),
            }
        }
    }

    /// The frame of a batch, compressed if the user wishes so and the server takes it.
    ///
    /// The plain batch is what is kept for a repeat: the next server may take other ones.
    fn frame(&mut self, out: Outgoing, ratio_max: u32) -> pb::PublishStreamRequest {
        let body = match &mut self.compressor {
            // A server that names no ratio takes plain batches only.
            Some(compressor) if ratio_max > 0 => compressor.compress(out.body, ratio_max),
            _ => out.body.into(),
        };
        let crc = crc32c(&body.bytes);
        let first = SequenceId::new(out.first_sequence);
        hot::publish_frame(first, body, out.count, Some(crc))
    }

    /// Takes a frame in.
    fn hear(&mut self, answer: pb::PublishStreamResponse) -> Result<Told, End> {
        let receipts = match answer.frame {
            Some(Down::Receipts(receipts)) => receipts,
            Some(Down::Redirect(redirect)) => return Err(End::Broke(moved(&redirect))),
            // It names no batch, so nothing can be settled by it; a new stream tells what is stored.
            Some(Down::Error(error)) => return Err(End::Broke(stream_error(error))),
            // A kind of frame that this version does not know, or a second `ready`.
            Some(Down::Ready(_)) | None => return Ok(Told::default()),
        };
        let now = self.inner.shared.host.clock.now();
        let mut settled = Vec::new();
        let mut hold = false;
        let mut over = None;
        let is_late = {
            let mut state = self.inner.lock();
            for receipt in receipts.items {
                match state.core.heard(heard(receipt), &mut settled) {
                    After::GoOn => {}
                    After::BackOff => hold = true,
                    After::Over(problem) => {
                        over = Some(Error::from(problem));
                        break;
                    }
                }
            }
            if !settled.is_empty() {
                state.progress = now;
            }
            now.since(state.progress) > self.timeout
        };
        let has_settled = !settled.is_empty();
        self.inner.settle(settled);
        self.target.worked();
        match over {
            Some(error) => Err(End::Over(error)),
            None if hold && is_late => {
                let message =
                    "the server refused for too long; look at `ledgerline cluster status`";
                Err(End::Over(Error::new(Reason::Overloaded, message)))
            }
            None => Ok(Told { hold, has_settled }),
        }
    }
}

/// What a frame said.
#[derive(Debug, Default)]
struct Told {
    /// Hold on for a moment before sending again.
    hold: bool,
    has_settled: bool,
}

/// The stream takes no more frames: its end says why. It must be heard: after `PRODUCER_FENCED`, opening another
/// stream would shut the rightful producer out. What receipts still come is told again on the next stream.
async fn last_word(clock: &Clock, answers: &mut Messages<pb::PublishStreamResponse>) -> Error {
    let end = async {
        loop {
            match answers.next().await {
                None => return lost(),
                Some(Err(status)) => return Error::from(status),
                Some(Ok(_)) => {}
            }
        }
    };
    clock
        .timeout(LAST_WORD, end)
        .await
        .unwrap_or_else(|_| lost())
}

/// No receipt came for too long.
fn silent() -> Error {
    let message = "the server gave no receipt for too long; look at `ledgerline cluster status`";
    Error::new(Reason::Unreachable, message)
}

fn heard(receipt: pb::Receipt) -> Heard {
    let outcome = match receipt.status {
        Some(status) => Err(proto::status::from_rpc(&status)),
        None => Ok(Place {
            first_offset: receipt.first.map(|first| first.offset),
            duplicate: receipt.duplicate,
        }),
    };
    Heard {
        first_sequence: receipt.first_sequence_id,
        count: receipt.count,
        outcome,
    }
}
