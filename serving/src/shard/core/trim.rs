//! What may go: finds the ledgers that nobody needs any more, and has them dropped.
//!
//! A ledger of the message log goes once it is closed, every subscription has acked all of it durably (I29), the topic's
//! retention does not keep it, and a later owner needs none of its headers. One of the state log goes once a newer one
//! holds a whole snapshot. Looked at at an interval; what hinders a look is tried again at the next.

use types::chain::LogKind;
use types::topic::{Retention, TopicRecord};
use types::{EntryId, LedgerId, LedgerSeq, MonoTime, Offset, WallTime};

use ledger::Owner;
use topic::{EntryHeader, Event, Position};

use super::chain::{Closed, EndFacts};
use super::config::ShardConfig;
use super::runs::{RunId, RunOutput};
use super::serving::{Around, Serving};
use super::sources::{Span, Step};

/// The looks for what may go.
#[derive(Debug, Clone)]
pub(super) struct Trimmer {
    next_at: MonoTime,
    /// How long messages stay; none while it has to be asked of meta.
    retention: Option<Retention>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Waits for the next look.
    Idle,
    /// Meta was asked how long messages stay; its answer may be older than a change that was heard of since.
    Retention { is_old: bool },
    /// The topic was asked what nobody needs.
    Floor,
    /// The last entry of a ledger is read; no run while the ledger's record is not here.
    Facts {
        floor: Floor,
        ledger: LedgerId,
        run: Option<Reading>,
    },
}

/// A header being read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    run: RunId,
    give_up_at: MonoTime,
}

/// What the topic's users need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floor {
    /// Every subscription has acked all messages below it, durably.
    pub(super) offset: Offset,
    /// Up to which entry, inclusive, a later owner needs no header.
    pub(super) covered: Option<Position>,
    /// The first ledger of the state log that a later owner needs, where known.
    pub(super) state: Option<LedgerId>,
}

impl Trimmer {
    pub(super) fn new(now: MonoTime, config: &ShardConfig) -> Self {
        Self {
            next_at: now.after(config.trim_interval),
            retention: None,
            stage: Stage::Idle,
        }
    }

    /// When to look again, or to give up what is being read.
    pub(super) const fn deadline(&self) -> Option<MonoTime> {
        match self.stage {
            Stage::Idle => Some(self.next_at),
            Stage::Facts {
                run: Some(reading), ..
            } => Some(reading.give_up_at),
            Stage::Retention { .. } | Stage::Floor | Stage::Facts { run: None, .. } => None,
        }
    }

    /// The topic's record may have changed.
    pub(super) const fn forget_retention(&mut self) {
        self.retention = None;
        if let Stage::Retention { is_old } = &mut self.stage {
            *is_old = true;
        }
    }

    /// Whether a run is one of its own.
    pub(super) fn reads(&self, run: RunId) -> bool {
        matches!(self.stage, Stage::Facts { run: Some(own), .. } if own.run == run)
    }

    fn rest(&mut self, now: MonoTime, config: &ShardConfig) {
        self.stage = Stage::Idle;
        self.next_at = now.after(config.trim_interval);
    }
}

/// Whether retention lets a ledger go that ended so, `total` being the bytes of the whole log.
fn is_past(retention: Retention, wall: WallTime, total: u64, end: EndFacts) -> bool {
    let age = wall.as_nanos().saturating_sub(end.time.as_nanos());
    let is_old = |time: std::time::Duration| u128::from(age) >= time.as_nanos();
    let newer = total.saturating_sub(end.log_bytes);
    let is_far_back = |bytes: types::ByteSize| newer >= bytes.get();
    retention.time.is_some_and(is_old) || retention.bytes.is_some_and(is_far_back)
}

/// Whether no header of a ledger is needed by a later owner.
fn is_covered(ledger: &Closed, covered: Option<Position>) -> bool {
    let Some(last) = ledger.last else {
        return true;
    };
    let entry = Position {
        ledger: ledger.id,
        entry: last,
    };
    covered.is_some_and(|covered| entry <= covered)
}

/// What a look came to.
#[derive(Debug, Clone, Copy, Default)]
struct Judged {
    /// The last ledger of the message log that may go.
    last: Option<Closed>,
    /// The one after it may go once a later owner does not need its headers.
    is_uncovered: bool,
}

fn drop_up_to(step: &Step<'_>, around: &mut Around<'_>, log: LogKind, last: LedgerSeq) {
    let first = last.next();
    let trim = ledger::Event::Trim { log, first };
    around.owner.handle(step.now, trim, around.owner_effects);
}

impl Serving {
    /// Begins a look when it is time.
    pub(super) fn look_for_trims(&mut self, step: &mut Step<'_>, around: &mut Around<'_>) {
        if self.trimmer.deadline().is_none_or(|at| at > step.now) {
            return;
        }
        if let Stage::Facts { ledger, run, .. } = self.trimmer.stage {
            if let Some(reading) = run {
                around.sources.cancel(reading.run);
            }
            return self.no_end(step, around, ledger);
        }
        if self.is_releasing {
            return self.trimmer.rest(step.now, around.config);
        }
        match self.trimmer.retention {
            Some(retention) => self.look(step, around, retention),
            None => self.ask_retention(step, around),
        }
    }

    fn ask_retention(&mut self, step: &mut Step<'_>, around: &mut Around<'_>) {
        self.trimmer.stage = Stage::Retention { is_old: false };
        around.sources.ask_topic(step, self.topic_name.clone());
    }

    /// Meta told how long messages stay, or did not.
    pub(super) fn retention_told(
        &mut self,
        step: &mut Step<'_>,
        around: &mut Around<'_>,
        topic: Option<TopicRecord>,
    ) {
        let Some(topic) = topic else {
            return self.trimmer.rest(step.now, around.config);
        };
        if matches!(self.trimmer.stage, Stage::Retention { is_old: true }) {
            return self.ask_retention(step, around);
        }
        self.trimmer.retention = Some(topic.retention);
        if matches!(self.trimmer.stage, Stage::Retention { .. }) {
            self.look(step, around, topic.retention);
        }
    }

    fn look(&mut self, step: &mut Step<'_>, around: &mut Around<'_>, retention: Retention) {
        self.roll_for_trims(
            step,
            around.config,
            retention,
            (around.owner, around.owner_effects),
        );
        self.trimmer.stage = Stage::Floor;
        self.event(step, Event::FindFloor);
    }

    /// An open ledger keeps everything in it: it is rolled when it has gathered a part of what retention keeps.
    fn roll_for_trims(
        &self,
        step: &Step<'_>,
        config: &ShardConfig,
        retention: Retention,
        (owner, effects): (&mut Owner, &mut Vec<ledger::Effect>),
    ) {
        let Some(open) = self.chain.open_since() else {
            return;
        };
        let age = step.wall.as_nanos().saturating_sub(open.since.as_nanos());
        let is_old = retention.time.is_some_and(|time| {
            let part = (time / 4).max(config.trim_interval * 2);
            u128::from(age) >= part.as_nanos()
        });
        let is_large = retention.bytes.is_some_and(|bytes| {
            let part = (bytes.get() / 4).max(config.trim_roll_bytes.get());
            open.bytes >= part
        });
        if is_old || is_large {
            owner.handle(step.now, ledger::Event::Roll(LogKind::Message), effects);
        }
    }

    /// The topic told what nobody needs.
    pub(super) fn floor_told(
        &mut self,
        step: &mut Step<'_>,
        around: &mut Around<'_>,
        floor: Floor,
    ) {
        if matches!(self.trimmer.stage, Stage::Floor) {
            self.cut(step, around, floor);
        }
    }

    /// Has dropped what may go, once enough is known of it.
    fn cut(&mut self, step: &mut Step<'_>, around: &mut Around<'_>, floor: Floor) {
        let judged = match self.judge(step.wall, floor) {
            Ok(judged) => judged,
            Err(unknown) => return self.read_end(step, around, floor, unknown),
        };
        self.trimmer.rest(step.now, around.config);
        if judged.is_uncovered {
            self.event(step, Event::Cover);
        }
        if let Some(last) = judged.last {
            let first_offset = last.next_offset;
            self.event(step, Event::Trimming { first_offset });
            drop_up_to(step, around, LogKind::Message, last.id.seq());
        }
        if let Some(before) = floor.state.and_then(|needed| needed.seq().prev()) {
            drop_up_to(step, around, LogKind::State, before);
        }
    }

    /// Goes through the closed ledgers from the oldest on, as far as they may go.
    ///
    /// # Errors
    ///
    /// The ledger whose last entry has to be read first.
    fn judge(&self, wall: WallTime, floor: Floor) -> Result<Judged, (LedgerId, EntryId)> {
        let retention = self.trimmer.retention.unwrap_or(Retention::FOREVER);
        let total = self.topic.log_bytes();
        // More may be acked by now; but a new subscription may have begun lower meanwhile.
        let acked = floor.offset.min(self.topic.lowest_cursor());
        let mut judged = Judged::default();
        for closed in self.chain.closed() {
            if closed.next_offset > acked || retention == Retention::FOREVER {
                break;
            }
            if let Some(last) = closed.last {
                let end = closed.end.ok_or((closed.id, last))?;
                if !is_past(retention, wall, total, end) {
                    break;
                }
            }
            if !is_covered(&closed, floor.covered) {
                judged.is_uncovered = true;
                break;
            }
            judged.last = Some(closed);
        }
        Ok(judged)
    }

    /// Reads the header of a ledger's last entry: when it was published, and how much of the log ends with it.
    fn read_end(
        &mut self,
        step: &mut Step<'_>,
        around: &mut Around<'_>,
        floor: Floor,
        (ledger, last): (LedgerId, EntryId),
    ) {
        let mut run = None;
        if around.sources.has_record(step, ledger) {
            let header = u32::try_from(topic::format::HEADER_LEN_MAX).expect("a header is short");
            let span = Span {
                ledger,
                first: last,
                last,
                max_bytes: u64::from(header),
                payload_limit: Some(header),
            };
            run = Some(Reading {
                run: around.sources.read(step, around.config, span),
                give_up_at: step.now.after(around.config.read_timeout),
            });
        }
        self.trimmer.stage = Stage::Facts { floor, ledger, run };
    }

    /// A ledger's last header is not to be had by the record that is here: its copies may have moved since. The next look
    /// reads the record anew.
    fn no_end(&mut self, step: &Step<'_>, around: &mut Around<'_>, ledger: LedgerId) {
        around.sources.forget_record(ledger);
        self.trimmer.rest(step.now, around.config);
    }

    /// Records of ledgers came, or did not.
    pub(super) fn trim_records(
        &mut self,
        step: &mut Step<'_>,
        around: &mut Around<'_>,
        came: bool,
    ) {
        if let Stage::Facts {
            floor, run: None, ..
        } = self.trimmer.stage
        {
            if came {
                self.cut(step, around, floor);
            } else {
                self.trimmer.rest(step.now, around.config);
            }
        }
    }

    /// Something became of the run that [`Trimmer::reads`].
    pub(super) fn trim_output(
        &mut self,
        step: &mut Step<'_>,
        around: &mut Around<'_>,
        output: &RunOutput,
    ) {
        let Stage::Facts { floor, ledger, .. } = self.trimmer.stage else {
            return;
        };
        match output {
            RunOutput::Item(item) => {
                if let types::storage::RunItem::Prefix { prefix, .. } = item
                    && let Ok((header, _)) = EntryHeader::decode(prefix)
                {
                    self.chain.learn_end(ledger, EndFacts::of(&header));
                }
            }
            RunOutput::Done if self.chain.knows_end(ledger) => self.cut(step, around, floor),
            RunOutput::Done | RunOutput::Lost(_) => self.no_end(step, around, ledger),
        }
    }
}
