//! A serving node deletes a topic: it keeps its shard from being opened, stops serving it with both logs closed, and asks
//! meta. When that fails the topic is as it was.

use types::command::{Command, Reply};
use types::topic::TopicRecord;
use types::{Epoch, Problem, Reason, ShardId};

use super::agenda::{MS, Nanos, SECOND};
use super::event::{MetaAsk, Said, Timer};
use super::marks::Mark;
use super::servers::Call;
use super::shard_core::{ShardEvent, Status, Told};
use super::world::World;

/// How long a shard may take to close its logs, and how short that time may be.
const RETIRES_WITHIN: Nanos = 2 * SECOND;
const RETIRES_SOON: Nanos = 30 * MS;
/// How often meta is asked.
const TRIES: u32 = 4;

/// A deletion at a serving node.
#[derive(Debug)]
pub(super) struct Deletion {
    /// The attempt to serve that is to end.
    key: u64,
    topic: TopicRecord,
    epoch: Epoch,
    /// Who wants it.
    stream: u64,
    /// Whether meta is asked.
    is_retired: bool,
}

fn opening(text: &str) -> Problem {
    Problem::new(Reason::ShardOpening, text)
}

impl World {
    /// A client wants the topic to be deleted whose shard is served here.
    pub(super) fn server_deletes(&mut self, at: usize, key: u64, stream: u64) {
        let server = &mut self.servers[at];
        let status = server.serving_mut(key).map(|it| it.shard.status());
        let problem = match (&server.deletion, status, server.topic.clone()) {
            (Some(_), ..) => opening("the topic is being deleted by another call"),
            (None, Some(Status::Serving { epoch }), Some(topic)) => {
                server.deletion = Some(Deletion {
                    key,
                    topic,
                    epoch,
                    stream,
                    is_retired: false,
                });
                self.deletion_begins();
                let wait = match self.rng.one_in(4) {
                    true => self.rng.below(RETIRES_SOON),
                    false => RETIRES_WITHIN,
                };
                self.server_timer(at, wait, Timer::Retire(key));
                self.harm_deletion(at, stream);
                return self.shard_event(at, key, ShardEvent::Retire);
            }
            _ => opening("the topic is being opened"),
        };
        self.server_refuses(stream, problem);
    }

    /// Whether a shard is not to be opened here.
    pub(super) fn is_deleting(&self, at: usize, shard: ShardId) -> bool {
        let deletion = self.servers[at].deletion.as_ref();
        deletion.is_some_and(|deletion| deletion.topic.shards[0] == shard)
    }

    /// A shard that was told to retire has had its time: whoever opens it next recovers what it left open.
    pub(super) fn retire_timed(&mut self, at: usize, key: u64) {
        if !self.serves(at, key) {
            return;
        }
        self.trace(|| format!("serving-{at} gives up retiring key={key}"));
        self.servers[at].serving.retain(|it| it.key != key);
        let cut = self.streams.iter();
        let cut = cut.filter(|(_, it)| it.server == at && it.shard == Some(key));
        let cut: Vec<u64> = cut.map(|(number, _)| *number).collect();
        for number in cut {
            // Who wants the deletion waits for its outcome.
            let is_deleter = self.servers[at].deletion.as_ref();
            if is_deleter.is_none_or(|it| it.stream != number) {
                self.stream_breaks(number, 100 * MS);
            }
        }
        self.deletion_goes_on(at, key);
    }

    /// An attempt to serve is over: if a deletion waited for that, meta is asked.
    pub(super) fn deletion_goes_on(&mut self, at: usize, key: u64) {
        if let Some(deletion) = &mut self.servers[at].deletion
            && deletion.key == key
            && !deletion.is_retired
        {
            deletion.is_retired = true;
            let stream = deletion.stream;
            self.deletion_asks(at, 0);
            self.harm_deletion(at, stream);
        }
    }

    fn deletion_asks(&mut self, at: usize, tries: u32) {
        let server = &self.servers[at];
        let (Some(deletion), Some(session)) = (&server.deletion, server.session) else {
            return;
        };
        let key = deletion.key;
        let delete = Command::DeleteTopic {
            name: deletion.topic.name.clone(),
            id: deletion.topic.id,
            session,
            epoch: deletion.epoch,
        };
        let ask = MetaAsk::Command(Box::new(delete));
        self.call(at, Call::DeleteTopic { key, tries }, ask);
    }

    /// Meta did not answer in time.
    pub(super) fn deletion_unanswered(&mut self, at: usize, key: u64, tries: u32) {
        if tries + 1 < TRIES && self.deletion_of(at, key).is_some() {
            return self.deletion_asks(at, tries + 1);
        }
        let problem = Problem::new(Reason::Unreachable, "meta did not answer");
        self.deletion_told(at, key, tries, Err(problem));
    }

    fn deletion_of(&self, at: usize, key: u64) -> Option<&Deletion> {
        let deletion = self.servers[at].deletion.as_ref();
        deletion.filter(|deletion| deletion.key == key)
    }

    /// Meta answered, or will not.
    pub(super) fn deletion_told(
        &mut self,
        at: usize,
        key: u64,
        tries: u32,
        result: Result<Reply, Problem>,
    ) {
        if self.deletion_of(at, key).is_none() {
            return;
        }
        let server = &mut self.servers[at];
        server.topic = None;
        let Some(deletion) = server.deletion.take() else {
            return;
        };
        let done = Said::TopicDeleted(deletion.topic.id);
        let said = match result {
            Ok(_) => done,
            Err(problem) => match problem.reason {
                // An earlier try whose answer was lost did it.
                Reason::TopicNotFound | Reason::VersionMismatch => {
                    if tries > 0 {
                        self.marks.hit(Mark::DeletionRepeated);
                    }
                    done
                }
                Reason::BadField | Reason::EpochMismatch => {
                    self.marks.hit(Mark::NotClosed);
                    let text = "the topic's logs could not be closed in time";
                    ended(Problem::new(Reason::InsufficientBookies, text))
                }
                _ => ended(problem),
            },
        };
        self.server_says(deletion.stream, said);
    }

    /// A stream broke: who has gone wants nothing any more, whatever meta was asked.
    pub(super) fn deletion_left(&mut self, at: usize, stream: u64) {
        self.servers[at]
            .deletion
            .take_if(|deletion| deletion.stream == stream);
    }

    /// The process dies.
    pub(super) fn deletion_dies(&mut self, at: usize) {
        if let Some(deletion) = self.servers[at].deletion.take()
            && deletion.is_retired
            && !self.life.gone.contains_key(&deletion.topic.shards[0])
        {
            self.marks.hit(Mark::OwnerDiedDeleting);
        }
    }
}

const fn ended(problem: Problem) -> Said {
    let told = Told::Ended(problem);
    Said::Told { told, epoch: None }
}
