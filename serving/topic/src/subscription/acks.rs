//! Acks, nacks and extensions.

use std::time::Duration;

use types::topic::SubscriptionMode;
use types::{Generation, Offset, Problem, Reason};

use super::{Lease, Scene, Subscription};
use crate::spans::Piece;
use crate::{Ack, Extend, Nack, OffsetRange, RangeProblem, StreamId, problems};

/// What became of a request: what was refused, and, of an ack, what is acked now and was not before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Done {
    pub(crate) problems: Vec<RangeProblem>,
    pub(crate) acked: Vec<OffsetRange>,
}

impl Done {
    fn refuse(&mut self, range: OffsetRange, problem: Problem) {
        // Neighbours with one fate are one: what was delivered message by message is refused in one piece.
        if let Some(last) = self.problems.last_mut()
            && let Some(before) = &mut last.range
            && before.end == range.start
            && last.problem == problem
        {
            before.end = range.end;
            return;
        }
        let range = Some(range);
        self.problems.push(RangeProblem { range, problem });
    }
}

impl Subscription {
    /// Acks what may be acked. An error refuses the whole request.
    pub(crate) fn ack(&mut self, scene: Scene<'_>, ack: &Ack) -> Result<Done, Problem> {
        self.check(scene, ack.generation, &ack.ranges)?;
        let everything = Offset::new(0);
        let cumulative = ack
            .cumulative_end
            .map(|end| OffsetRange::new(everything, end));
        if cumulative.is_some() && self.mode != SubscriptionMode::Exclusive {
            let text = "a cumulative ack needs an exclusive subscription";
            return Err(Problem::new(Reason::WrongMode, text).with_field("cumulative_end"));
        }
        let mut done = Done::default();
        for range in cumulative.iter().chain(&ack.ranges) {
            if range.end > scene.confirmed_end {
                done.refuse(*range, problems::out_of_range(scene.confirmed_end));
            } else {
                self.ack_range(ack.stream, *range, &mut done);
            }
        }
        self.frontier = self.frontier.max(self.acked.mark());
        Ok(done)
    }

    /// Checks what concerns a request as a whole.
    fn check(
        &self,
        scene: Scene<'_>,
        generation: Generation,
        ranges: &[OffsetRange],
    ) -> Result<(), Problem> {
        if generation != self.generation {
            let current = self.generation;
            let text = format!("the cursor was moved since the delivery current={current}");
            return Err(Problem::new(Reason::GenerationOld, text)
                .with_field("generation")
                .with("current", current));
        }
        let max = scene.config.ranges_max;
        if ranges.len() > max {
            return Err(problems::limit("ranges_max", max).with_field("ranges"));
        }
        if let Some(empty) = ranges.iter().find(|range| range.is_empty()) {
            let text = format!("a range starts below its end range={empty}");
            return Err(Problem::bad_field("ranges", text));
        }
        Ok(())
    }

    /// Acks a range but for what another consumer holds. A message that nobody holds, because its lease lapsed or the
    /// owner that gave it out is gone, may be acked by anybody: it was worked on.
    fn ack_range(&mut self, stream: StreamId, range: OffsetRange, done: &mut Done) {
        let mut others: Vec<Piece<Lease>> = Vec::new();
        let consumers = &mut self.consumers;
        self.leases.take(range, |piece| {
            if piece.value.consumer == stream {
                if let Some(consumer) = consumers.get_mut(&stream) {
                    consumer.unacked -= piece.range.len();
                }
            } else {
                others.push(piece);
            }
        });
        let mut start = range.start;
        for piece in others {
            self.leases.insert(piece.range, piece.at, piece.value);
            done.refuse(piece.range, lease_lost(Some(piece.value.attempt)));
            self.settle(OffsetRange::new(start, piece.range.start), done);
            start = piece.range.end;
        }
        self.settle(OffsetRange::new(start, range.end), done);
    }

    /// Marks a range acked that nobody holds any more.
    fn settle(&mut self, range: OffsetRange, done: &mut Done) {
        if range.is_empty() {
            return;
        }
        self.ready.take(range, |_| ());
        self.delayed.take(range, |_| ());
        let start = range.start.max(self.acked.mark());
        if self.acked.insert(range) > 0 {
            done.acked.push(OffsetRange::new(start, range.end));
        }
    }

    /// Gives messages back, after a wait if asked for.
    pub(crate) fn nack(&mut self, scene: Scene<'_>, nack: &Nack) -> Result<Done, Problem> {
        self.check(scene, nack.generation, &nack.ranges)?;
        let delay = nack.delay.unwrap_or(Duration::ZERO);
        check_duration("delay", delay, Duration::ZERO, scene.config.nack_delay_max)?;
        let at = scene.now.after(delay);
        let mut done = Done::default();
        for range in &nack.ranges {
            for piece in self.take_own(nack.stream, *range, &mut done) {
                let attempt = piece.value.attempt;
                if let Some(consumer) = self.consumers.get_mut(&nack.stream) {
                    consumer.unacked -= piece.range.len();
                }
                if delay.is_zero() {
                    self.ready.insert(piece.range, at, attempt);
                } else {
                    self.delayed.insert(piece.range, at, attempt);
                }
            }
        }
        Ok(done)
    }

    /// Gives messages more time.
    pub(crate) fn extend(&mut self, scene: Scene<'_>, extend: &Extend) -> Result<Done, Problem> {
        self.check(scene, extend.generation, &extend.ranges)?;
        let config = scene.config;
        let own = self
            .consumers
            .get(&extend.stream)
            .map(|consumer| consumer.ack_deadline);
        let deadline = extend.deadline.or(own).unwrap_or(self.ack_deadline);
        let (min, max) = (config.ack_deadline_min, config.ack_deadline_max);
        check_duration("deadline", deadline, min, max)?;
        let at = scene.now.after(deadline);
        let mut done = Done::default();
        for range in &extend.ranges {
            for piece in self.take_own(extend.stream, *range, &mut done) {
                self.leases.insert(piece.range, at, piece.value);
            }
        }
        Ok(done)
    }

    /// Takes the consumer's own leases out of a range, and refuses the rest of it.
    fn take_own(
        &mut self,
        stream: StreamId,
        range: OffsetRange,
        done: &mut Done,
    ) -> Vec<Piece<Lease>> {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        self.leases.take(range, |piece| {
            let whose = if piece.value.consumer == stream {
                &mut own
            } else {
                &mut others
            };
            whose.push(piece);
        });
        for piece in others {
            self.leases.insert(piece.range, piece.at, piece.value);
        }
        let mut start = range.start;
        for piece in &own {
            let gap = OffsetRange::new(start, piece.range.start);
            if !gap.is_empty() {
                done.refuse(gap, lease_lost(None));
            }
            start = piece.range.end;
        }
        let gap = OffsetRange::new(start, range.end);
        if !gap.is_empty() {
            done.refuse(gap, lease_lost(None));
        }
        own
    }
}

fn lease_lost(new_attempt: Option<u32>) -> Problem {
    let text = "the lease has ended, somebody else may have the messages";
    let problem = Problem::new(Reason::LeaseLost, text);
    match new_attempt {
        Some(attempt) => problem.with("new_attempt", attempt),
        None => problem,
    }
}

/// Refuses a time that is out of bounds.
pub(crate) fn check_duration(
    field: &'static str,
    value: Duration,
    min: Duration,
    max: Duration,
) -> Result<(), Problem> {
    if value < min || value > max {
        let text = format!("must be between {min:?} and {max:?} value={value:?}");
        return Err(Problem::bad_field(field, text));
    }
    Ok(())
}
