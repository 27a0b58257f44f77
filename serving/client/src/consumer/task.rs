//! The consumer's task: finds the owner, keeps a stream open, fills the buffer, grants and acks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use pb::consume_request::Frame as Up;
use pb::consume_response::Frame as Down;
use proto::hot::{self, Messages};
use proto::raw::v1 as pb;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use types::batch::Codec;
use types::{ErrorKind, MonoTime, Problem, Reason};

use super::acks::{After, Answer};
use super::received::Batch;
use super::session::{Observer, SessionChange};
use super::state::Inner;
use crate::connect::{Backoff, OPEN_TIMEOUT, Target, is_elsewhere, lost, moved, odd, stream_error};
use crate::{Error, convert};

/// Frames on their way to the transport.
const FRAMES_AHEAD: usize = 2;
/// How long the server may take to end the stream after the last frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Task {
    inner: Arc<Inner>,
    timeout: Duration,
    target: Target,
    was_open: bool,
    observer: Observer,
}

/// A stream that is open.
struct Open {
    frames: mpsc::Sender<pb::ConsumeRequest>,
    answers: Messages<pb::ConsumeResponse>,
    ready: pb::ConsumerReady,
}

/// How a stream ended.
enum End {
    /// Open another one.
    Broke(Error),
    /// The user is done.
    Done,
}

type Waiter = oneshot::Sender<Result<(), Error>>;

impl Task {
    pub(super) fn new(inner: Arc<Inner>, timeout: Duration, observer: Observer) -> Self {
        Self {
            inner,
            timeout,
            target: Target::default(),
            was_open: false,
            observer,
        }
    }

    /// Runs until the user is done or nothing helps. `ready` hears of the first opening, `ended` of the end.
    pub(super) async fn run(mut self, ready: Waiter, ended: Waiter) {
        let mut ready = Some(ready);
        let over = self.live(&mut ready).await;
        let subscription = &self.inner.settings.subscription;
        match over {
            None => {
                let failed = self.inner.lock().over.clone();
                self.inner
                    .give_up(&Error::new(Reason::Stopping, "the consumer is closed"));
                let _ = ended.send(failed.map_or(Ok(()), Err));
            }
            Some(error) => {
                self.inner.give_up(&error);
                match ready {
                    Some(ready) => drop(ready.send(Err(error.clone()))),
                    None => tracing::warn!(%subscription, %error, "consumer ended"),
                }
                let _ = ended.send(Err(error));
            }
        }
    }

    /// Opens one stream after the other. Why it is over; none when the user is done.
    async fn live(&mut self, ready: &mut Option<Waiter>) -> Option<Error> {
        let clock = self.inner.shared.host.clock.clone();
        let mut backoff = Backoff::new();
        let mut since = clock.now();
        loop {
            let session = self.inner.session();
            self.observer.tell(SessionChange::Opens(session));
            let left = self.timeout.saturating_sub(clock.now().since(since));
            let opened = self.unless_done(self.target.clone(), left).await;
            let Some(opened) = opened else {
                self.observer.tell(SessionChange::Ends(session));
                return None;
            };
            let error = match opened {
                Ok(open) => {
                    backoff.reset();
                    self.was_open = true;
                    if let Some(ready) = ready.take() {
                        // Nobody is there any more: the drop of the handle says so too.
                        let _ = ready.send(Ok(()));
                    }
                    let end = self.serve(open).await;
                    self.inner.broke();
                    since = clock.now();
                    match end {
                        End::Done => {
                            self.observer.tell(SessionChange::Ends(session));
                            return None;
                        }
                        End::Broke(error) => error,
                    }
                }
                Err(error) => error,
            };
            self.observer.tell(SessionChange::Ends(session));
            let is_late = clock.now().since(since) >= self.timeout;
            if is_late || !self.may_help(&error) {
                return Some(error);
            }
            let subscription = &self.inner.settings.subscription;
            tracing::debug!(%subscription, %error, "consuming is interrupted");
            if self.target.failed(&self.inner.shared, &error) {
                clock.sleep(backoff.wait(&self.inner.shared.host.rng)).await;
            }
        }
    }

    /// Whether another stream may help. The server may not have noticed yet that our last one is gone.
    fn may_help(&self, error: &Error) -> bool {
        let is_own_shadow = self.was_open && error.reason() == Reason::ExclusiveHeld;
        is_elsewhere(error) || is_own_shadow
    }

    /// Opens a stream within what is `left` of the user's patience; none when the user is done.
    async fn unless_done(&self, target: Target, left: Duration) -> Option<Result<Open, Error>> {
        let opening = self.open(target, left.min(OPEN_TIMEOUT));
        tokio::pin!(opening);
        loop {
            if self.inner.lock().is_done() {
                return None;
            }
            tokio::select! {
                biased;
                opened = &mut opening => return Some(opened),
                () = self.inner.work.notified() => {}
            }
        }
    }

    async fn open(&self, target: Target, within: Duration) -> Result<Open, Error> {
        let clock = &self.inner.shared.host.clock;
        let late = |_| {
            Error::new(
                Reason::Unreachable,
                "no answer to the opening of the consumer",
            )
        };
        clock
            .timeout(within, self.open_at(target))
            .await
            .map_err(late)
            .flatten()
    }

    async fn open_at(&self, target: Target) -> Result<Open, Error> {
        let settings = &self.inner.settings;
        let (frames, outgoing) = mpsc::channel(FRAMES_AHEAD);
        let open = pb::OpenConsumer {
            subscription: settings.subscription.to_string(),
            mode: convert::mode(settings.mode).into(),
            consumer_name: settings
                .name
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            ack_deadline: settings.ack_deadline.map(proto::time::duration_to_wire),
            initial_position: settings.start.map(convert::position),
            confirm_acks: true,
            // Nothing yet: acks of before come first, so that what they are about is not delivered again.
            initial_permits: Some(pb::Permits {
                messages: 0,
                bytes: 0,
            }),
            understands_redirect: true,
            create_if_missing: settings.create,
            codecs: hot::wire_codecs(Codec::ALL),
        };
        frames
            .send(request(Up::Open(open)))
            .await
            .map_err(|_| lost())?;
        let channel = target.channel(&self.inner.shared)?;
        let outgoing = ReceiverStream::new(outgoing);
        let opened = hot::CONSUME.call(channel, outgoing).await?;
        let mut answers: Messages<pb::ConsumeResponse> = opened.into_inner();
        let answer = answers.next().await.ok_or_else(lost)??;
        match answer.frame {
            Some(Down::Ready(ready)) => Ok(Open {
                frames,
                answers,
                ready,
            }),
            Some(Down::Redirect(redirect)) => Err(moved(&redirect)),
            Some(Down::Error(error)) => Err(stream_error(error)),
            _ => Err(odd("the first frame is no answer to `open`")),
        }
    }

    /// Moves frames until the stream ends or the user is done.
    async fn serve(&mut self, open: Open) -> End {
        let inner = Arc::clone(&self.inner);
        let clock = &inner.shared.host.clock;
        let Open {
            frames,
            mut answers,
            ready,
        } = open;
        let lease = ready
            .ack_deadline
            .and_then(|deadline| Duration::try_from(deadline).ok());
        let lease = lease.unwrap_or(Duration::MAX);
        let session = inner.opened(ready);
        let mut waiting: Option<Up> = None;
        let mut alarm = clock.alarm();
        loop {
            let mut wake_at = None;
            if waiting.is_none() {
                let mut state = inner.lock();
                waiting = state.next_frame(clock.now(), inner.credit);
                wake_at = state.wake_at();
            }
            tokio::select! {
                biased; // Answers first: they free what others wait for. They end with the credit.
                answer = answers.next() => match answer {
                    None => return End::Broke(lost()),
                    Some(Err(status)) => return End::Broke(Error::from(status)),
                    Some(Ok(answer)) => {
                        if let Err(error) = self.hear(answer, session, clock.now().after(lease)) {
                            return End::Broke(error);
                        }
                    }
                },
                permit = frames.reserve(), if waiting.is_some() => {
                    let Ok(permit) = permit else { return End::Broke(lost()) };
                    let Some(frame) = waiting.take() else { continue };
                    let is_last = matches!(frame, Up::Close(_));
                    permit.send(request(frame));
                    if is_last {
                        break;
                    }
                }
                () = alarm.deadline(wake_at), if waiting.is_none() => {}
                () = inner.work.notified() => {}
            }
        }
        drop(frames);
        // The server ends the stream once it has released what this consumer held.
        let rest = async { while let Some(Ok(_)) = answers.next().await {} };
        let _ = clock.timeout(CLOSE_TIMEOUT, rest).await;
        End::Done
    }

    fn hear(
        &mut self,
        answer: pb::ConsumeResponse,
        session: u64,
        expires: MonoTime,
    ) -> Result<(), Error> {
        self.target.worked();
        match answer.frame {
            Some(Down::Deliveries(deliveries)) => {
                let batches = deliveries.items.into_iter();
                let batches = batches.map(|delivery| Batch::new(delivery, session, expires));
                let waker = {
                    let mut state = self.inner.lock();
                    state.buffer.extend(batches);
                    state.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Some(Down::AckResults(results)) => self.decided(results),
            Some(Down::Redirect(redirect)) => return Err(moved(&redirect)),
            Some(Down::Error(error)) => {
                let error = stream_error(error);
                if error.kind() == ErrorKind::Bug {
                    return Err(error);
                }
                self.refused(&error);
            }
            // A kind of frame that this version does not know, or nothing new.
            Some(Down::Ready(_) | Down::Heartbeat(_)) | None => {}
        }
        Ok(())
    }

    /// The server could not use a frame. It does not name the request, only the field.
    fn refused(&self, error: &Error) {
        let subscription = &self.inner.settings.subscription;
        tracing::warn!(%subscription, %error, "the server refused a request of this consumer");
        let field = error.problem().field.as_deref().unwrap_or_default();
        let mut settled = Vec::new();
        let mut extensions = BTreeMap::new();
        {
            let mut state = self.inner.lock();
            if field.starts_with("ack") {
                state.acks.unreadable(error.problem(), &mut settled);
            } else if field.starts_with("extend") {
                extensions = std::mem::take(&mut state.extensions);
            }
        }
        self.inner.settle(settled);
        for waiter in extensions.into_values() {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// Answers to acks and extensions came.
    fn decided(&self, results: pb::AckResults) {
        let mut settled = Vec::new();
        let mut extended = Vec::new();
        {
            let mut state = self.inner.lock();
            for result in results.items {
                let answer = answer(result);
                if let Some(waiter) = state.extensions.remove(&answer.request) {
                    extended.push((waiter, answer));
                } else if state.acks.answered(answer, &mut settled) == After::BackOff {
                    let now = self.inner.shared.host.clock.now();
                    let wait = Backoff::new().wait(&self.inner.shared.host.rng);
                    state.acks_not_before = Some(now.after(wait));
                    state.acks_at = Some(now);
                }
            }
        }
        self.inner.settle(settled);
        for (waiter, answer) in extended {
            let problem = answer.problems.into_iter().next();
            let _ = waiter.send(problem.map_or(Ok(()), |(_, problem)| Err(problem.into())));
        }
    }
}

fn request(frame: Up) -> pb::ConsumeRequest {
    pb::ConsumeRequest { frame: Some(frame) }
}

fn answer(result: pb::AckResult) -> Answer {
    let problem = |problem: pb::AckProblem| {
        let ranges = problem
            .ranges
            .iter()
            .map(|range| range.start..range.end)
            .collect();
        let problem = match &problem.status {
            Some(status) => proto::status::from_rpc(status),
            None => Problem::new(Reason::OutcomeUnknown, "the server did not say why"),
        };
        (ranges, problem)
    };
    Answer {
        request: result.request_id,
        confirmed: result.confirmed,
        problems: result.problems.into_iter().map(problem).collect(),
    }
}
