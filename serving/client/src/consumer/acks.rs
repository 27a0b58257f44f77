//! Acks as a pure machine: what is to be acked, what of it is on its way, what is decided.
//!
//! One request is on its way at a time; what is acked meanwhile gathers into ranges. A request that a broken stream left
//! without an answer is asked again on the next one: acking twice is acking once.

use std::collections::BTreeMap;
use std::ops::Range;

use types::{Problem, Reason};

use super::ranges::RangeSet;

/// What a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// This offset.
    One(u64),
    /// Everything below this offset.
    Below(u64),
    /// Everything that was to be acked when it asked.
    All,
}

/// A request to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AckRequest {
    pub(super) request: u64,
    pub(super) generation: u32,
    pub(super) ranges: Vec<Range<u64>>,
    /// Everything below it; 0 for none.
    pub(super) cumulative_end: u64,
}

/// The answer to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) request: u64,
    pub(super) confirmed: bool,
    /// What was refused; no ranges for all of it.
    pub(super) problems: Vec<(Vec<Range<u64>>, Problem)>,
}

/// A caller, and what it is told.
pub(super) type Settled<W> = (W, Result<(), Problem>);

/// What the shell has to do after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Go on.
    GoOn,
    /// The server is busy: wait a little before [`Acks::take`].
    BackOff,
}

/// Acks of one generation of the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Gathered<W> {
    ranges: RangeSet,
    cumulative_end: u64,
    waiters: Vec<(W, Target)>,
}

impl<W> Default for Gathered<W> {
    fn default() -> Self {
        Self {
            ranges: RangeSet::default(),
            cumulative_end: 0,
            waiters: Vec::new(),
        }
    }
}

/// A request without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flying<W> {
    request: u64,
    generation: u32,
    gathered: Gathered<W>,
}

/// The machine. `W` stands for a caller that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acks<W> {
    gathered: BTreeMap<u32, Gathered<W>>,
    flying: Option<Flying<W>>,
    /// Requests of which something was refused.
    refused: u64,
}

impl<W> Default for Acks<W> {
    fn default() -> Self {
        Self {
            gathered: BTreeMap::new(),
            flying: None,
            refused: 0,
        }
    }
}

impl<W> Acks<W> {
    /// Acks one message.
    pub(super) fn ack(&mut self, generation: u32, offset: u64, waiter: Option<W>) {
        let gathered = self.gathered.entry(generation).or_default();
        gathered.ranges.insert(offset..offset + 1);
        gathered
            .waiters
            .extend(waiter.map(|waiter| (waiter, Target::One(offset))));
    }

    /// Acks every message below an offset.
    pub(super) fn ack_below(&mut self, generation: u32, end: u64, waiter: Option<W>) {
        let gathered = self.gathered.entry(generation).or_default();
        gathered.cumulative_end = gathered.cumulative_end.max(end);
        gathered
            .waiters
            .extend(waiter.map(|waiter| (waiter, Target::Below(end))));
    }

    /// Tells a caller once everything acked so far is decided; hands it back when that is so already.
    pub(super) fn flush(&mut self, waiter: W) -> Option<W> {
        let last = self.gathered.values_mut().next_back();
        let last = last.or_else(|| self.flying.as_mut().map(|flying| &mut flying.gathered));
        match last {
            Some(gathered) => {
                gathered.waiters.push((waiter, Target::All));
                None
            }
            None => Some(waiter),
        }
    }

    /// Whether nothing is to be acked and nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.gathered.is_empty() && self.flying.is_none()
    }

    /// Whether something could be sent.
    pub(super) fn has_some(&self) -> bool {
        self.flying.is_none() && !self.gathered.is_empty()
    }

    /// Whether something waits for the answer to what is on its way.
    pub(super) fn has_more(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Whether it should be sent at once: somebody waits, or it has become much.
    pub(super) fn is_urgent(&self) -> bool {
        let is_much = |one: &Gathered<W>| !one.waiters.is_empty() || one.ranges.len() >= 1000;
        self.gathered.values().any(is_much)
    }

    /// How many requests were refused, in part at least.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// The next request, under this number, with so many ranges at most.
    pub(super) fn take(&mut self, request: u64, ranges_max: usize) -> Option<AckRequest> {
        if self.flying.is_some() {
            return None;
        }
        let mut entry = self.gathered.first_entry()?;
        let generation = *entry.key();
        let rest = entry.get_mut();
        let ranges = rest.ranges.take_first(ranges_max);
        let cumulative_end = std::mem::take(&mut rest.cumulative_end);
        let is_last = rest.ranges.is_empty();
        let goes_along = |target: &Target| match *target {
            Target::One(offset) => ranges.contains(offset),
            Target::Below(_) => true,
            Target::All => is_last,
        };
        let waiters = std::mem::take(&mut rest.waiters);
        let (waiters, stay) = waiters
            .into_iter()
            .partition(|(_, target)| goes_along(target));
        rest.waiters = stay;
        if is_last {
            entry.remove();
        }
        let taken = AckRequest {
            request,
            generation,
            ranges: ranges.iter().collect(),
            cumulative_end,
        };
        let gathered = Gathered {
            ranges,
            cumulative_end,
            waiters,
        };
        self.flying = Some(Flying {
            request,
            generation,
            gathered,
        });
        Some(taken)
    }

    /// An answer came. Callers that know now go to `settled`. An answer to nothing that was asked is ignored.
    pub(super) fn answered(&mut self, answer: Answer, settled: &mut Vec<Settled<W>>) -> After {
        let Some(flying) = self
            .flying
            .take_if(|flying| flying.request == answer.request)
        else {
            return After::GoOn;
        };
        let whole = answer.problems.iter().find(|(ranges, _)| ranges.is_empty());
        if whole.is_some_and(|(_, problem)| proto::status::is_worth_repeating(problem)) {
            self.put_back(flying);
            return After::BackOff;
        }
        if !answer.problems.is_empty() {
            self.refused += 1;
        }
        for (waiter, target) in flying.gathered.waiters {
            let outcome = match verdict(&answer.problems, target) {
                Some(problem) => Err(problem.clone()),
                None if answer.confirmed => Ok(()),
                None => Err(Problem::new(
                    Reason::OutcomeUnknown,
                    "the ack was not confirmed",
                )),
            };
            settled.push((waiter, outcome));
        }
        After::GoOn
    }

    /// The server could not read the request that is on its way: asking again would not help.
    pub(super) fn unreadable(&mut self, problem: &Problem, settled: &mut Vec<Settled<W>>) {
        if let Some(flying) = &self.flying {
            let request = flying.request;
            let problems = vec![(Vec::new(), problem.clone())];
            self.answered(
                Answer {
                    request,
                    confirmed: false,
                    problems,
                },
                settled,
            );
        }
    }

    /// The stream broke: what has no answer is asked again.
    pub(super) fn broke(&mut self) {
        if let Some(flying) = self.flying.take() {
            self.put_back(flying);
        }
    }

    fn put_back(&mut self, flying: Flying<W>) {
        let Flying {
            generation,
            gathered: back,
            ..
        } = flying;
        let gathered = self.gathered.entry(generation).or_default();
        for range in back.ranges.iter() {
            gathered.ranges.insert(range);
        }
        gathered.cumulative_end = gathered.cumulative_end.max(back.cumulative_end);
        gathered.waiters.extend(back.waiters);
    }

    /// Gives everything up: every caller that waits.
    pub(super) fn give_up(&mut self) -> Vec<W> {
        self.broke();
        let gathered = std::mem::take(&mut self.gathered);
        let waiters = gathered.into_values().flat_map(|gathered| gathered.waiters);
        waiters.map(|(waiter, _)| waiter).collect()
    }
}

/// What was refused of what a caller waits for.
fn verdict(problems: &[(Vec<Range<u64>>, Problem)], target: Target) -> Option<&Problem> {
    let concerns = |range: &Range<u64>| match target {
        Target::One(offset) => range.contains(&offset),
        Target::Below(end) => range.start < end,
        Target::All => false,
    };
    let concerned = problems
        .iter()
        .find(|(ranges, _)| ranges.is_empty() || ranges.iter().any(concerns));
    concerned.map(|(_, problem)| problem)
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::single_range_in_vec_init,
        reason = "sets of one range are meant"
    )]

    use super::*;

    fn ok(request: u64) -> Answer {
        Answer {
            request,
            confirmed: true,
            problems: Vec::new(),
        }
    }

    fn problem(reason: Reason) -> Problem {
        Problem::new(reason, "no")
    }

    #[test]
    fn acks_gather_into_ranges_while_one_request_is_on_its_way() {
        let mut acks: Acks<u8> = Acks::default();
        acks.ack(1, 7, None);
        let first = acks.take(1, 100).unwrap();
        assert_eq!(first.ranges, [7..8]);
        for offset in [9, 8, 11] {
            acks.ack(1, offset, None);
        }
        assert_eq!(acks.take(2, 100), None, "one at a time");
        acks.answered(ok(1), &mut Vec::new());
        assert_eq!(acks.take(2, 100).unwrap().ranges, [8..10, 11..12]);
        acks.answered(ok(2), &mut Vec::new());
        assert!(acks.is_idle());
    }

    #[test]
    fn what_a_break_left_unanswered_is_asked_again_with_what_came_since() {
        let mut acks = Acks::default();
        acks.ack(1, 1, Some('a'));
        acks.take(1, 100);
        acks.ack(1, 2, Some('b'));
        acks.broke();
        let mut settled = Vec::new();
        acks.answered(ok(1), &mut settled);
        assert!(settled.is_empty(), "the old stream does not speak any more");
        assert_eq!(acks.take(2, 100).unwrap().ranges, [1..3]);
        acks.answered(ok(2), &mut settled);
        settled.sort_by_key(|(who, _)| *who);
        assert_eq!(settled, [('a', Ok(())), ('b', Ok(()))]);
    }

    #[test]
    fn a_refusal_reaches_those_it_concerns() {
        let mut acks = Acks::default();
        for (offset, who) in [(1, 'a'), (2, 'b')] {
            acks.ack(1, offset, Some(who));
        }
        acks.take(1, 100);
        let lost = problem(Reason::LeaseLost);
        let answer = Answer {
            problems: vec![(vec![2..3], lost.clone())],
            ..ok(1)
        };
        let mut settled = Vec::new();
        assert_eq!(acks.answered(answer, &mut settled), After::GoOn);
        assert_eq!(settled, [('a', Ok(())), ('b', Err(lost))]);
        assert_eq!(acks.refused(), 1);
    }

    #[test]
    fn a_busy_server_is_asked_again() {
        let mut acks = Acks::default();
        acks.ack(1, 1, Some('a'));
        acks.take(1, 100);
        let busy = Answer {
            request: 1,
            confirmed: false,
            problems: vec![(Vec::new(), problem(Reason::LimitReached))],
        };
        let mut settled = Vec::new();
        assert_eq!(acks.answered(busy, &mut settled), After::BackOff);
        assert!(settled.is_empty());
        assert_eq!(acks.take(2, 100).unwrap().ranges, [1..2]);
    }

    #[test]
    fn a_flush_waits_for_the_last_part() {
        let mut acks = Acks::default();
        assert_eq!(acks.flush('n'), Some('n'), "nothing to wait for");
        for offset in [1, 3, 5] {
            acks.ack(1, offset, None);
        }
        assert_eq!(acks.flush('f'), None);
        let mut settled = Vec::new();
        assert_eq!(acks.take(1, 2).unwrap().ranges, [1..2, 3..4]);
        acks.answered(ok(1), &mut settled);
        assert!(settled.is_empty());
        assert_eq!(acks.take(2, 2).unwrap().ranges, [5..6]);
        acks.answered(ok(2), &mut settled);
        assert_eq!(settled, [('f', Ok(()))]);
    }

    #[test]
    fn generations_are_not_mixed_and_cumulative_acks_grow() {
        let mut acks: Acks<char> = Acks::default();
        acks.ack_below(2, 10, None);
        acks.ack_below(2, 7, None);
        acks.ack(1, 4, None);
        let first = acks.take(1, 100).unwrap();
        assert_eq!((first.generation, first.cumulative_end), (1, 0));
        acks.answered(ok(1), &mut Vec::new());
        let second = acks.take(2, 100).unwrap();
        assert_eq!((second.generation, second.cumulative_end), (2, 10));
    }
}
