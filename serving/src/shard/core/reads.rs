//! What subscriptions read: from the tail in memory, from what was read ahead, or from the bookies.
//!
//! A read of the bookies is a [`Job`]: find the ledger's record, find the entry that holds the offset (by its place if a
//! point is known, else by halving with reads of single entries' first bytes), then read a run from there. Everything
//! read is at or below the LAC or a closed end, because [`MessageChain`] knows of nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use topic::{Position, ReadRequest, StoredEntry};
use types::storage::RunItem;
use types::{EntryId, LedgerId, MonoTime, Offset, Problem, Reason, SubscriptionId};

use super::chain::{Bracket, MessageChain};
use super::config::ShardConfig;
use super::runs::{RunId, RunOutput};
use super::shrink_map;
use super::sources::{Sources, Span, Step};
use super::tail::Entries;

/// So few entries are looked through one after another, in one run of first bytes.
const WINDOW: u64 = 64;

/// When nothing came of a read for so long, the ledger's record is read anew: its bookies may be gone, and their copies
/// elsewhere.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What was read ahead of a subscription that reads no more is dropped after this.
const IDLE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct JobId(u64);

/// The reads of all subscriptions.
#[derive(Debug, Clone, Default)]
pub(super) struct Reads {
    feeds: BTreeMap<SubscriptionId, Feed>,
    jobs: BTreeMap<JobId, Job>,
    by_run: BTreeMap<RunId, JobId>,
    /// Jobs that wait for their turn.
    waiting: VecDeque<JobId>,
    next_job: u64,
    answers: Vec<topic::Event>,
}

/// One subscription that reads in order.
#[derive(Debug, Clone)]
struct Feed {
    /// Where the next read in order begins.
    expected: Offset,
    /// What was read ahead, from `expected` on.
    ahead: Entries,
    /// The job that reads ahead.
    job: Option<JobId>,
    used_at: MonoTime,
}

#[derive(Debug, Clone)]
struct Job {
    subscription: SubscriptionId,
    from: Offset,
    max_bytes: u64,
    /// Who waits for it; none while it reads ahead.
    request: Option<ReadRequest>,
    /// Whether the subscription reads in order, so that what follows is worth reading ahead.
    is_in_order: bool,
    stage: Stage,
    found: Entries,
    /// Whether the ledger's record was read anew, after no copy was found by the one that was here.
    is_second_look: bool,
    look_again_at: MonoTime,
    give_up_at: MonoTime,
}

impl Job {
    /// When the record of what it reads is to be read anew, unless something comes before.
    fn looks_again_at(&self) -> Option<MonoTime> {
        let is_without = self.stage.reads().is_some() && self.found.is_empty();
        (is_without && !self.is_second_look).then_some(self.look_again_at)
    }
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Waits for its turn.
    Queued,
    /// Waits for the record of a ledger.
    Record(LedgerId),
    /// Looks for the entry that holds the offset.
    Search { bracket: Bracket, run: RunId },
    /// Reads entries.
    Fetch { ledger: LedgerId, run: RunId },
}

impl Stage {
    /// The ledger that is being read.
    const fn reads(&self) -> Option<LedgerId> {
        match self {
            Self::Search { bracket, .. } => Some(bracket.ledger),
            Self::Fetch { ledger, .. } => Some(*ledger),
            Self::Queued | Self::Record(_) => None,
        }
    }
}

/// What the reads stand on.
#[derive(Debug)]
pub(super) struct Library<'a> {
    pub(super) config: &'a ShardConfig,
    pub(super) chain: &'a mut MessageChain,
    pub(super) tail: &'a Entries,
    pub(super) sources: &'a mut Sources,
}

impl Reads {
    /// Gives back the room that it has from busier times.
    pub(super) fn shrink(&mut self) {
        shrink_map(&mut self.feeds);
        shrink_map(&mut self.jobs);
        shrink_map(&mut self.by_run);
        self.waiting.shrink_to_fit();
        self.answers.shrink_to_fit();
    }

    /// Takes the answers since the last call.
    pub(super) fn take_answers(&mut self) -> Vec<topic::Event> {
        std::mem::take(&mut self.answers)
    }

    /// A subscription wants entries.
    pub(super) fn request(
        &mut self,
        step: &mut Step<'_>,
        library: &mut Library<'_>,
        request: ReadRequest,
    ) {
        if let Some(entries) = library.tail.read(&request) {
            self.feeds.remove(&request.subscription);
            self.answer(&request, entries);
            return;
        }
        let is_in_order = match self.feeds.get_mut(&request.subscription) {
            None => false,
            Some(feed) => {
                feed.used_at = step.now;
                feed.expected == request.from
            }
        };
        if is_in_order && self.answer_from_ahead(&request) {
            self.read_ahead(step, library, request.subscription);
            return;
        }
        if is_in_order && let Some(job) = self.job_ahead(&request) {
            job.request = Some(request);
            return;
        }
        let job = self.begin(Job {
            subscription: request.subscription,
            from: request.from,
            max_bytes: request.max_bytes,
            request: Some(request),
            is_in_order,
            stage: Stage::Queued,
            found: Entries::default(),
            is_second_look: false,
            look_again_at: step.now.after(LOOK_AGAIN),
            give_up_at: step.now.after(library.config.read_timeout),
        });
        self.advance(step, library, job);
    }

    /// The job that reads ahead from where a request begins, and has nobody waiting.
    fn job_ahead(&mut self, request: &ReadRequest) -> Option<&mut Job> {
        let id = self.feeds.get(&request.subscription)?.job?;
        let job = self.jobs.get_mut(&id)?;
        (job.from == request.from && job.request.is_none()).then_some(job)
    }

    fn answer_from_ahead(&mut self, request: &ReadRequest) -> bool {
        let Some(feed) = self.feeds.get_mut(&request.subscription) else {
            return false;
        };
        let Some(entries) = feed.ahead.read(request) else {
            return false;
        };
        self.answer(request, entries);
        true
    }

    /// Answers a request, and remembers where the next one begins if the subscription reads in order.
    fn answer(&mut self, request: &ReadRequest, entries: Vec<StoredEntry>) {
        let last = entries.last().expect("an answer holds an entry");
        let next = last.header.next_offset();
        if let Some(feed) = self.feeds.get_mut(&request.subscription) {
            // A redelivery of something old does not move the reading in order.
            if next >= feed.expected || feed.ahead.next_offset().is_none() {
                feed.expected = next;
                feed.ahead.drop_below(next);
            }
        }
        self.answers.push(topic::Event::EntriesRead {
            subscription: request.subscription,
            read: request.read,
            entries,
        });
    }

    fn begin(&mut self, job: Job) -> JobId {
        let id = JobId(self.next_job);
        self.next_job += 1;
        self.jobs.insert(id, job);
        self.waiting.push_back(id);
        id
    }

    /// Begins the reading of what a subscription will ask for next, unless it is here already or there is none.
    fn read_ahead(
        &mut self,
        step: &mut Step<'_>,
        library: &mut Library<'_>,
        subscription: SubscriptionId,
    ) {
        let Some(feed) = self.feeds.get(&subscription) else {
            return;
        };
        let limit = library.config.read_ahead.get();
        let is_busy = self.jobs.len() >= library.config.runs_max;
        let from = feed.ahead.next_offset().unwrap_or(feed.expected);
        let is_full = feed.ahead.bytes() > limit / 2;
        let is_there = library.tail.holds(from) || library.chain.find(from).is_none();
        if feed.job.is_some() || is_busy || is_full || is_there {
            return;
        }
        let job = self.begin(Job {
            subscription,
            from,
            max_bytes: limit / 2,
            request: None,
            is_in_order: true,
            stage: Stage::Queued,
            found: Entries::default(),
            is_second_look: false,
            look_again_at: step.now.after(LOOK_AGAIN),
            give_up_at: step.now.after(library.config.read_timeout),
        });
        if let Some(feed) = self.feeds.get_mut(&subscription) {
            feed.job = Some(job);
        }
        self.advance(step, library, job);
    }

    /// Takes a job one step further.
    fn advance(&mut self, step: &mut Step<'_>, library: &mut Library<'_>, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if matches!(job.stage, Stage::Queued) {
            let active = self.jobs.len() - self.waiting.len();
            if active >= library.config.runs_max {
                return;
            }
            self.waiting.retain(|waiting| *waiting != id);
        }
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let bracket = match job.stage {
            Stage::Search { bracket, .. } => bracket,
            Stage::Queued | Stage::Record(_) | Stage::Fetch { .. } => {
                let Some(bracket) = library.chain.find(job.from) else {
                    let from = job.from;
                    let text = format!("no confirmed entry holds the offset offset={from}");
                    self.fail(step, library, id, Problem::new(Reason::Internal, text));
                    return;
                };
                bracket
            }
        };
        if !library.sources.has_record(step, bracket.ledger) {
            job.stage = Stage::Record(bracket.ledger);
            return;
        }
        let span = if bracket.low == bracket.high {
            Span {
                ledger: bracket.ledger,
                first: bracket.low,
                last: bracket.last,
                max_bytes: job.max_bytes,
                payload_limit: None,
            }
        } else {
            search(&bracket)
        };
        let run = library.sources.read(step, library.config, span);
        job.stage = if bracket.low == bracket.high {
            let ledger = bracket.ledger;
            Stage::Fetch { ledger, run }
        } else {
            Stage::Search { bracket, run }
        };
        self.by_run.insert(run, id);
    }

    /// Something became of a run. False when it is none of these reads'.
    pub(super) fn output(
        &mut self,
        step: &mut Step<'_>,
        library: &mut Library<'_>,
        run: RunId,
        output: RunOutput,
    ) -> bool {
        let Some(id) = self.by_run.get(&run).copied() else {
            return false;
        };
        let outcome = match output {
            RunOutput::Item(item) => self.item(library, id, item),
            RunOutput::Done => {
                self.by_run.remove(&run);
                self.run_done(step, library, id);
                Ok(())
            }
            RunOutput::Lost(entry) => {
                self.by_run.remove(&run);
                let has_some = self.jobs.get(&id).is_some_and(|job| !job.found.is_empty());
                if has_some {
                    self.run_done(step, library, id);
                    Ok(())
                } else if self.looks_again(step, library, id) {
                    Ok(())
                } else {
                    Err(self.lost(id, entry))
                }
            }
        };
        if let Err(problem) = outcome {
            self.fail(step, library, id, problem);
        }
        true
    }

    /// Begins a job's read again with the ledger's record as it is now: its copies may have moved. Once for each job.
    fn looks_again(&mut self, step: &mut Step<'_>, library: &mut Library<'_>, id: JobId) -> bool {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.is_second_look) else {
            return false;
        };
        let Some(ledger) = job.stage.reads() else {
            return false;
        };
        job.is_second_look = true;
        if let Stage::Search { run, .. } | Stage::Fetch { run, .. } = job.stage {
            self.by_run.remove(&run);
            library.sources.cancel(run);
        }
        library.sources.forget_record(ledger);
        // What was searched is searched again: seldom, and the places learned are kept.
        job.stage = Stage::Record(ledger);
        self.advance(step, library, id);
        true
    }

    fn lost(&self, id: JobId, entry: EntryId) -> Problem {
        let ledger = self.jobs.get(&id).and_then(|job| job.stage.reads());
        let at = ledger.map_or_else(String::new, |ledger| format!("{ledger}/{entry}"));
        let text = format!("no copy of an entry can be read now entry={at}");
        Problem::new(Reason::EntryLost, text).with("entry", at)
    }

    /// The next item of a job's run.
    fn item(&mut self, library: &mut Library<'_>, id: JobId, item: RunItem) -> Result<(), Problem> {
        let Some(job) = self.jobs.get_mut(&id) else {
            return Ok(());
        };
        match (&mut job.stage, item) {
            (
                Stage::Search { bracket, .. },
                RunItem::Prefix {
                    id: entry,
                    next_offset,
                    ..
                },
            ) => {
                library
                    .chain
                    .learn(bracket.ledger, next_offset, entry.next());
                if next_offset <= job.from {
                    bracket.low = bracket.low.max(entry.next()).min(bracket.high);
                } else {
                    bracket.high = bracket.high.min(entry);
                }
                Ok(())
            }
            (Stage::Fetch { ledger, .. }, RunItem::Entry(entry)) => {
                let position = Position {
                    ledger: *ledger,
                    entry: entry.id,
                };
                let stored = StoredEntry::decode(position, &entry.payload);
                let stored = stored.map_err(|error| damaged(position, &error.to_string()))?;
                if stored.header.next_offset() != entry.next_offset {
                    return Err(damaged(position, "its header is of another place"));
                }
                job.found.push(stored);
                Ok(())
            }
            // The reader gives what was asked for.
            _ => Ok(()),
        }
    }

    fn run_done(&mut self, step: &mut Step<'_>, library: &mut Library<'_>, id: JobId) {
        match self.jobs.get(&id).map(|job| job.stage) {
            Some(Stage::Search { .. }) => self.advance(step, library, id),
            Some(Stage::Fetch { .. }) => self.finish(step, library, id),
            _ => {}
        }
    }

    /// A job has read its run.
    fn finish(&mut self, step: &mut Step<'_>, library: &mut Library<'_>, id: JobId) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        let subscription = job.subscription;
        if !job.found.holds(job.from) {
            let at = job.from;
            let text = format!("the entry that was read does not hold the offset offset={at}");
            self.jobs.insert(id, job);
            self.fail(step, library, id, Problem::new(Reason::EntryLost, text));
            return;
        }
        if let (Some(next), Some(last)) = (job.found.next_offset(), job.found.last()) {
            library.chain.learn(last.ledger, next, last.entry.next());
        }
        let feed = self.feeds.entry(subscription).or_insert_with(|| Feed {
            expected: job.from,
            ahead: Entries::default(),
            job: None,
            used_at: step.now,
        });
        if feed.job == Some(id) {
            feed.job = None;
            feed.ahead.append(job.found);
            if let Some(request) = job.request
                && !self.answer_from_ahead(&request)
            {
                self.refuse(&request, Problem::new(Reason::Unreachable, "read again"));
            }
        } else if let Some(request) = job.request {
            match job.found.read(&request) {
                Some(entries) => self.answer(&request, entries),
                None => self.refuse(&request, Problem::new(Reason::Unreachable, "read again")),
            }
        }
        if job.is_in_order {
            self.read_ahead(step, library, subscription);
        }
        self.next_in_turn(step, library);
    }

    /// A job is given up.
    fn fail(
        &mut self,
        step: &mut Step<'_>,
        library: &mut Library<'_>,
        id: JobId,
        problem: Problem,
    ) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        self.waiting.retain(|waiting| *waiting != id);
        if let Stage::Search { run, .. } | Stage::Fetch { run, .. } = job.stage {
            self.by_run.remove(&run);
            library.sources.cancel(run);
        }
        if let Some(feed) = self.feeds.get_mut(&job.subscription)
            && feed.job == Some(id)
        {
            feed.job = None;
        }
        if let Some(request) = job.request {
            self.refuse(&request, problem);
        }
        self.next_in_turn(step, library);
    }

    fn refuse(&mut self, request: &ReadRequest, problem: Problem) {
        self.answers.push(topic::Event::ReadFailed {
            subscription: request.subscription,
            read: request.read,
            problem,
        });
    }

    fn next_in_turn(&mut self, step: &mut Step<'_>, library: &mut Library<'_>) {
        if let Some(id) = self.waiting.front().copied() {
            self.advance(step, library, id);
        }
    }

    /// Records of ledgers came.
    pub(super) fn records_came(&mut self, step: &mut Step<'_>, library: &mut Library<'_>) {
        for id in self.waiting_for_records(|_| true) {
            self.advance(step, library, id);
        }
    }

    /// Records of ledgers did not come.
    pub(super) fn records_failed(
        &mut self,
        step: &mut Step<'_>,
        library: &mut Library<'_>,
        ledgers: &[LedgerId],
        problem: &Problem,
    ) {
        for id in self.waiting_for_records(|ledger| ledgers.contains(&ledger)) {
            self.fail(step, library, id, problem.clone());
        }
    }

    fn waiting_for_records(&self, is_of: impl Fn(LedgerId) -> bool) -> Vec<JobId> {
        let waits = |job: &Job| matches!(job.stage, Stage::Record(ledger) if is_of(ledger));
        let waiting = self.jobs.iter().filter(|(_, job)| waits(job));
        waiting.map(|(id, _)| *id).collect()
    }

    /// When to call [`Reads::expire`].
    pub(super) fn deadline(&self) -> Option<MonoTime> {
        let jobs = self.jobs.values().flat_map(|job| {
            let again = job.looks_again_at();
            again.into_iter().chain([job.give_up_at])
        });
        let idle = self.feeds.values().filter(|feed| feed.job.is_none());
        let feeds = idle.map(|feed| feed.used_at.after(IDLE));
        jobs.chain(feeds).min()
    }

    /// Time has passed.
    pub(super) fn expire(&mut self, step: &mut Step<'_>, library: &mut Library<'_>) {
        let now = step.now;
        let without = |job: &Job| job.looks_again_at().is_some_and(|at| at <= now);
        let without = self.jobs.iter().filter(|(_, job)| without(job));
        let without: Vec<JobId> = without.map(|(id, _)| *id).collect();
        for id in without {
            self.looks_again(step, library, id);
        }
        let late = self.jobs.iter().filter(|(_, job)| job.give_up_at <= now);
        let late: Vec<JobId> = late.map(|(id, _)| *id).collect();
        for id in late {
            let text = "the bookies did not answer in time";
            self.fail(step, library, id, Problem::new(Reason::Unreachable, text));
        }
        self.feeds
            .retain(|_, feed| feed.job.is_some() || feed.used_at.after(IDLE) > now);
    }
}

/// What to read to find an entry in a bracket: the middle one's first byte, or all of them when they are few.
fn search(bracket: &Bracket) -> Span {
    let span = bracket.high.get() - bracket.low.get();
    let (first, last) = if span < WINDOW {
        (bracket.low, bracket.high)
    } else {
        let middle = EntryId::new(bracket.low.get() + span / 2);
        (middle, middle)
    };
    Span {
        ledger: bracket.ledger,
        first,
        last,
        max_bytes: WINDOW,
        payload_limit: Some(1),
    }
}

fn damaged(position: Position, what: &str) -> Problem {
    Problem::new(
        Reason::EntryLost,
        format!("an entry cannot be understood position={position:?} what={what}"),
    )
}
