//! The topic is deleted while it is in use, and perhaps made again under its name, as another one.
//!
//! From the commit of its deletion on no node that served it says that a message is stored or that an ack is durable, and
//! none gives a message to a consumer. What may still be under way is what was said before that, on its way to a client,
//! and what clients say: an owner that was deposed and does not know it lets them attach, and gives them nothing. A call
//! without a producer that was under way goes by the name, so it may land in the next topic.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use catalog::{Image, Key, Record};
use topic::{Publish, StreamId};
use types::batch::MessageParts;
use types::chain::LogKind;
use types::command::{Command, Reply};
use types::topic::Retention;
use types::{LogId, Reason, SequenceId, ShardId, TopicId, WallTime};

use super::agenda::{MS, Nanos, SECOND};
use super::consumers::Consumer;
use super::event::{Event, Opening, Said};
use super::marks::Mark;
use super::producers::Producer;
use super::shard_core::{Request, Told};
use super::streams::Who;
use super::world::World;
use crate::history::{self, Name};

/// How long until a deletion is tried again.
const AGAIN: Nanos = 5 * SECOND;

/// The topics of the one name, one after another.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Which of them it is.
    number: u32,
    pub(super) id: Option<TopicId>,
    stage: Stage,
    /// Whether it was written and read when its owner last began to close it.
    is_in_use: bool,
    /// The shards whose deletion was committed.
    pub(super) gone: BTreeMap<ShardId, Gone>,
    /// Calls without a producer whose outcome is unknown: writer and number. They may be under way yet.
    pub(super) adrift: BTreeSet<(String, u64)>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Lives,
    /// Somebody is deleting it.
    Leaving {
        attempt: u32,
        stream: Option<u64>,
        hint: Option<usize>,
    },
    /// It is deleted, and everybody knows.
    Gone { comes_back: bool },
}

/// A shard that was deleted.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) logs: [LogId; 2],
    /// When the last record of it went.
    pub(super) swept: Option<Nanos>,
}

impl Life {
    /// Whether clients may use the topic.
    pub(super) const fn is_there(&self) -> bool {
        !matches!(self.stage, Stage::Gone { .. })
    }

    /// Whether somebody is deleting it.
    pub(super) const fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving { .. })
    }

    /// Whether it is as it is for good.
    pub(super) const fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Lives | Stage::Gone { comes_back: false })
    }

    /// Whether a log is of a topic that was deleted.
    pub(super) fn is_gone(&self, log: LogId) -> bool {
        self.gone.values().any(|gone| gone.logs.contains(&log))
    }

    /// A subscription's name in the history.
    pub(super) fn label(&self, sub: usize, deleted: u32) -> String {
        let topic = match self.number {
            0 => String::new(),
            number => format!("t{number}"),
        };
        match deleted {
            0 => format!("s{sub}{topic}"),
            _ => format!("s{sub}{topic}.{deleted}"),
        }
    }
}

impl World {
    /// The name of the topic's one shard in the history.
    pub(super) fn partition(&self) -> Name<'static> {
        Name::from(match self.life.number {
            0 => "p".to_owned(),
            number => format!("p{number}"),
        })
    }

    /// Makes the topic, and takes its record for that of the one in use.
    pub(super) fn make_topic(&mut self) {
        let create = Command::CreateTopic {
            name: self.topic.clone(),
            quorum: self.swarm.quorum,
            retention: Retention::FOREVER,
            at: WallTime::from_nanos(1_800_000_000 * SECOND + self.now),
        };
        match self.meta_execute(&create) {
            Ok(Reply::Topic(topic)) => {
                self.shard = topic.shards[0];
                self.life.id = Some(topic.id);
            }
            other => self.violation("M", format!("no topic: {other:?}")),
        }
    }

    /// Somebody deletes the topic, once there is something in it.
    pub(super) fn harm_delete_topic(&mut self) {
        if !matches!(self.life.stage, Stage::Lives) || self.acked_end == 0 {
            return;
        }
        self.life.stage = Stage::Leaving {
            attempt: 0,
            stream: None,
            hint: None,
        };
        self.delete_topic(0);
    }

    /// A deletion is tried, or tried again.
    pub(super) fn delete_topic(&mut self, which: u32) {
        let Stage::Leaving {
            attempt,
            stream,
            hint,
        } = &mut self.life.stage
        else {
            return;
        };
        if *attempt != which {
            return;
        }
        *attempt += 1;
        let (attempt, before, hint) = (*attempt, stream.take(), hint.take());
        // Who lost patience leaves, or is cut off without a word.
        if let Some(before) = before
            && self.rng.one_in(2)
        {
            self.client_closes(before);
        }
        let opened = self.client_opens(Who::Deleter, hint, |_| Opening::DeleteTopic);
        if let Stage::Leaving { stream, .. } = &mut self.life.stage {
            *stream = Some(opened);
        }
        self.delete_later(attempt, AGAIN);
    }

    fn delete_later(&mut self, attempt: u32, wait: Nanos) {
        let again = Event::DeleteTopic { attempt };
        self.agenda.put(self.now + wait, again);
    }

    /// Who deletes the topic hears something.
    pub(super) fn deleter_hears(&mut self, number: u64, said: Said) {
        let Stage::Leaving {
            attempt, stream, ..
        } = self.life.stage
        else {
            return;
        };
        if stream != Some(number) {
            return;
        }
        match said {
            Said::TopicDeleted(id) if Some(id) == self.life.id => self.topic_gone(),
            Said::Told {
                told: Told::Ended(problem),
                ..
            } => {
                if problem.reason == Reason::TopicNotFound {
                    // An earlier try did it, and its answer was lost.
                    self.marks.hit(Mark::DeletionRepeated);
                    return self.topic_gone();
                }
                self.marks.hit(Mark::DeletionFailed);
                let pointed = self.pointed_at(&problem);
                if let Stage::Leaving { hint, .. } = &mut self.life.stage {
                    *hint = pointed;
                }
                // The topic is as it was, and is used until the next try.
                let most = if self.rng.one_in(4) {
                    4 * SECOND
                } else {
                    300 * MS
                };
                let wait = 50 * MS + self.rng.below(most);
                self.delete_later(attempt, wait);
            }
            _ => {}
        }
    }

    /// A node begins to close the topic's shard.
    pub(super) fn deletion_begins(&mut self) {
        let is_written = self.producers.iter().any(Producer::is_waiting);
        self.life.is_in_use = is_written && self.consumers.iter().any(Consumer::is_attached);
    }

    /// Meta committed a deletion: of the topic that somebody wants to be deleted, with both logs closed.
    pub(super) fn deletion_committed(&mut self, before: &Image, command: &Command) {
        let Command::DeleteTopic { id, .. } = command else {
            return;
        };
        if !self.life.is_leaving() || Some(*id) != self.life.id {
            let what = format!("{id} was deleted, and nobody wants that");
            return self.violation("deleted", what);
        }
        let shard = self.shard;
        let Some(Record::Shard(record)) = before.get(&Key::Shard(shard)).map(|v| &v.record) else {
            return self.violation("deleted", format!("{shard} was not there"));
        };
        let open = LogKind::BOTH.map(|kind| record.chain(kind).tail_id());
        if let Some(ledger) = open.into_iter().flatten().next() {
            let what = format!("{shard} was deleted with {ledger} open");
            return self.violation("deleted", what);
        }
        let logs = LogKind::BOTH.map(|kind| record.chain(kind).log);
        self.life.gone.insert(shard, Gone { logs, swept: None });
        self.marks.hit(Mark::TopicDeleted);
        if self.life.is_in_use {
            self.marks.hit(Mark::DeletedUnderLoad);
        }
    }

    /// A node that serves a shard, or thinks so, tells a client something: nothing good once the shard is deleted. One
    /// whose lease has lapsed may hear only now, after a pause, what bookies stored before that: I15 judges whether they
    /// did.
    pub(super) fn told_by(&mut self, shard: ShardId, told: &Told, is_certain: bool) {
        let is_good = match told {
            Told::Receipt(receipt) => is_certain && receipt.outcome.is_ok(),
            Told::AckResult(result) => is_certain && result.confirmed,
            Told::Delivery(_) => true,
            Told::ProducerReady(_)
            | Told::ConsumerReady(_)
            | Told::Heartbeat(_)
            | Told::Refused(_)
            | Told::Finished
            | Told::Ended(_) => false,
        };
        if is_good && self.life.gone.contains_key(&shard) {
            self.violation("deleted", format!("{shard} is deleted and says {told:?}"));
        }
    }

    /// Who deleted the topic knows that it is gone: everybody leaves it, and it is made again or not.
    fn topic_gone(&mut self) {
        if !self.life.gone.contains_key(&self.shard) {
            let what = format!("{} counts as deleted and is there", self.shard);
            return self.violation("deleted", what);
        }
        let ghost = self.rng.index(self.producers.len());
        let stays = self.producer_ends(ghost, true);
        for at in 0..self.producers.len() {
            self.producer_ends(at, false);
        }
        if let Some((stream, first)) = stays {
            self.ghost_publishes(stream, first);
        }
        for at in 0..self.consumers.len() {
            self.consumer_leaves(at);
        }
        for at in 0..self.once.len() {
            self.once_ends(at);
        }
        for sub in &mut self.subs {
            sub.leaves_at = None;
            sub.gone = sub.record.take().map(|record| record.id).or(sub.gone);
        }
        let gone = history::TopicDeleted {
            t: self.now,
            p: self.partition(),
        };
        self.history.note(&history::Event::Deleted(gone));
        let comes_back = !self.rng.one_in(6);
        self.life.stage = Stage::Gone { comes_back };
        if comes_back {
            let most = if self.rng.one_in(3) {
                5 * SECOND
            } else {
                300 * MS
            };
            let wait = self.rng.below(most);
            self.agenda.put(self.now + wait, Event::MakeTopic);
        }
    }

    /// A producer that has not heard that the topic is gone goes on.
    fn ghost_publishes(&mut self, stream: u64, first: u64) {
        let Some(state) = self.streams.get_mut(&stream) else {
            return;
        };
        state.who = Who::Ghost;
        let mut body = BytesMut::new();
        let parts = MessageParts {
            payload: b"of a ghost",
            ..MessageParts::default()
        };
        parts.append_to(&mut body);
        let publish = Publish {
            stream: StreamId::new(stream),
            first_sequence: SequenceId::new(first),
            count: 1,
            body: body.freeze().into(),
        };
        self.client_requests(stream, Request::Publish(publish));
    }

    /// The topic is made again: another one, for producers and consumers that begin anew.
    pub(super) fn topic_returns(&mut self) {
        self.marks.hit(Mark::TopicRemade);
        self.life.number += 1;
        self.life.stage = Stage::Lives;
        self.acked_end = 0;
        self.make_topic();
        self.note_adrift();
        for at in 0..self.producers.len() {
            self.producer_begins(at);
        }
        for at in 0..self.subs.len() {
            self.sub_begins(at);
        }
        // Somebody still has a number of the old one's.
        if let Some(old) = self.subs.iter().find_map(|sub| sub.gone) {
            self.ghost_comes(old);
        }
    }

    /// What is adrift may land in the new topic, in an old one, or nowhere.
    fn note_adrift(&mut self) {
        for (w, n) in &self.life.adrift {
            let (t, w, n) = (self.now, Name::from(w.as_str()), *n);
            let sent = history::Sent {
                t,
                w: w.clone(),
                p: self.partition(),
                n,
                k: None,
                h: None,
                due: None,
                x: Vec::new(),
            };
            self.history.note(&history::Event::Send(sent));
            let p = self.partition();
            let lost = history::Outcome { t, w, p, n };
            self.history.note(&history::Event::Info(lost));
        }
    }

    /// A subscription of the new topic is to be made.
    fn sub_begins(&mut self, at: usize) {
        let sub = &mut self.subs[at];
        sub.deleted = 0;
        sub.floor = 0;
        sub.tried = None;
        sub.hint = None;
        sub.attempt += 1;
        sub.label = self.life.label(at, 0);
        let attempt = sub.attempt;
        let most = if self.rng.one_in(4) {
            5 * SECOND
        } else {
            300 * MS
        };
        let wait = self.rng.below(most);
        let due = Event::Subscribe { at, attempt };
        self.agenda.put(self.now + wait, due);
    }
}
