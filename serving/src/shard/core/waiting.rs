//! What clients asked for before the shard serves: it waits, bounded in number and in time. What meta has done waits as long as it
//! takes: a subscription that was deleted may be in the list that the opening has read, and nobody tells the shard again.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use topic::{Receipt, StreamId};
use types::{MonoTime, Problem, SequenceId};

use super::event::{Request, ShardEffect, Told};
use super::sources::Step;

/// Most refused streams that are remembered: what a client sends behind its refusal is not far behind.
const REFUSED_MAX: usize = 16_384;

/// The requests that wait, in the order they came.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting {
    requests: VecDeque<(MonoTime, Request)>,
    /// Streams that were refused while they waited: what comes on them later is ignored.
    refused: BTreeSet<StreamId>,
}

impl Waiting {
    /// Adds a request, or refuses it when too many wait.
    pub(super) fn push(
        &mut self,
        step: &mut Step<'_>,
        most: usize,
        request: Request,
        problem: impl FnOnce() -> Problem,
    ) {
        if let Request::CloseStream(stream) = request {
            self.requests.retain(|(_, r)| r.stream() != Some(stream));
            self.refused.remove(&stream);
            return;
        }
        if request.stream().is_some_and(|s| self.refused.contains(&s)) {
            return;
        }
        if is_done(&request) {
            // Repeated, it says nothing new, so there are no more of them than subscriptions.
            if self.requests.iter().all(|(_, known)| *known != request) {
                self.requests.push_back((step.now, request));
            }
        } else if self.requests.len() >= most {
            self.refuse(step, request, &problem());
        } else {
            self.requests.push_back((step.now, request));
        }
    }

    /// Takes all that waits.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Request> + use<> {
        let requests = std::mem::take(&mut self.requests);
        requests.into_iter().map(|(_, request)| request)
    }

    /// Refuses all that waits.
    pub(super) fn refuse_all(&mut self, step: &mut Step<'_>, problem: &Problem) {
        while let Some((_, request)) = self.requests.pop_front() {
            self.refuse(step, request, problem);
        }
    }

    /// When the next one has waited too long.
    pub(super) fn deadline(&self, patience: Duration) -> Option<MonoTime> {
        let (since, _) = self.requests.get(self.oldest()?)?;
        Some(since.after(patience))
    }

    /// Where the one is that has waited longest, of those that do not wait as long as it takes.
    fn oldest(&self) -> Option<usize> {
        self.requests.iter().position(|(_, it)| !is_done(it))
    }

    /// Refuses what has waited too long.
    pub(super) fn expire(
        &mut self,
        step: &mut Step<'_>,
        patience: Duration,
        problem: impl FnOnce() -> Problem,
    ) {
        if self.deadline(patience).is_none_or(|at| at > step.now) {
            return;
        }
        let problem = problem();
        while self.deadline(patience).is_some_and(|at| at <= step.now)
            && let Some(at) = self.oldest()
            && let Some((_, request)) = self.requests.remove(at)
        {
            self.refuse(step, request, &problem);
        }
    }

    fn refuse(&mut self, step: &mut Step<'_>, request: Request, problem: &Problem) {
        let Some(stream) = request.stream() else {
            refuse(step, request, problem);
            return;
        };
        // A stream is refused once; what it asked for beside is void.
        if self.refused.insert(stream) {
            self.requests.retain(|(_, r)| r.stream() != Some(stream));
            if self.refused.len() > REFUSED_MAX {
                self.refused.pop_first();
            }
            refuse(step, request, problem);
        }
    }
}

/// Whether it tells what meta has done already: nothing that could be refused.
const fn is_done(request: &Request) -> bool {
    matches!(request, Request::DropSubscription(_))
}

/// Refuses a request that never reached the topic: nothing was stored for it.
pub(super) fn refuse(step: &mut Step<'_>, request: Request, problem: &Problem) {
    let (stream, told) = match request {
        Request::CloseStream(_) | Request::DropSubscription(_) => return,
        Request::CreateCursor(subscription) => {
            step.effects.push(ShardEffect::CursorRefused {
                subscription: subscription.id,
                problem: problem.clone(),
            });
            return;
        }
        Request::PublishOnce { stream, count, .. } => {
            let receipt = Receipt {
                first_sequence: SequenceId::new(0),
                count,
                outcome: Err(problem.clone()),
            };
            (stream, Told::Receipt(receipt))
        }
        Request::OpenProducer(topic::OpenProducer { stream, .. })
        | Request::Publish(topic::Publish { stream, .. })
        | Request::OpenConsumer(topic::OpenConsumer { stream, .. })
        | Request::FinishStream(stream)
        | Request::Permits { stream, .. }
        | Request::Ack(topic::Ack { stream, .. })
        | Request::Nack(topic::Nack { stream, .. })
        | Request::Extend(topic::Extend { stream, .. }) => (stream, Told::Ended(problem.clone())),
    };
    step.effects.push(ShardEffect::Tell { stream, told });
}
