//! Everything that can happen, and everything that is sent.

use bookie::{Ask, Job, JobDone, Worker};
use topic::{OpenConsumer, OpenProducer, StreamId};
use types::chain::{LedgerRecord, ShardOutcome};
use types::command::{Answer, Change, Command, Query, Reply};
use types::storage::{ReadRun, RunItem};
use types::topic::SubscriptionRecord;
use types::{BookieId, EntryId, Epoch, LedgerId, Problem, SubscriptionId, TopicId};

use super::agenda::Nanos;
use super::nemesis::Act;
use super::net::Host;
use super::shard_core::{Request, Told};

/// One event.
#[derive(Debug)]
pub(super) enum Event {
    /// A message arrives.
    Arrives { to: Host, message: Box<Message> },
    /// A disk job begins that waited for its time.
    JobBegins {
        bookie: usize,
        life: u32,
        worker: Worker,
        job: Box<Job>,
    },
    /// A disk job ended.
    JobEnds {
        bookie: usize,
        life: u32,
        worker: Worker,
        done: Box<JobDone>,
    },
    /// A timer of a bookie's engine.
    EngineTimer { bookie: usize, life: u32 },
    /// A bookie hears what was trimmed.
    BookieReclaims { bookie: usize, life: u32 },
    /// A bookie's engine answers its own process, or one who reads proof.
    EngineSays {
        bookie: usize,
        life: u32,
        asker: Asker,
        ask: Box<Ask>,
        answer: Box<bookie::Answer>,
    },
    /// A bookie's process is started.
    BookieStarts { bookie: usize },
    /// A timer of a bookie's process.
    BookieTimer {
        bookie: usize,
        life: u32,
        timer: Timer,
    },
    /// A serving node's process is started.
    ServerStarts { server: usize },
    /// A timer of a serving node's process.
    ServerTimer {
        server: usize,
        life: u32,
        timer: Timer,
    },
    /// Meta looks at its leases.
    MetaLeases,
    /// Meta's auditor begins a look, or ends one.
    MetaAudits { life: u32 },
    /// Meta sweeps a part of what deleted topics left, or looks for what it has missed.
    MetaSweeps { life: u32, is_look: bool },
    /// Meta's process comes back.
    MetaStarts { life: u32 },
    /// Meta commits what it planned.
    MetaCommits { life: u32, plan: Box<Planning> },
    /// A connection of a client broke: its client learns of it.
    ClientBroken { stream: u64 },
    /// The same, on the server's side.
    ServerBroken { server: usize, stream: u64 },
    /// A producer's timer.
    Producer { at: usize, timer: ProducerTimer },
    /// A call of a client without a producer is due, or this one has taken too long.
    Once { at: usize, stream: Option<u64> },
    /// A consumer's timer.
    Consumer { at: usize, timer: ConsumerTimer },
    /// A subscription is to be made, or made again.
    Subscribe { at: usize, attempt: u32 },
    /// A subscription is to be deleted, or asked again to be.
    Unsubscribe { at: usize, attempt: u32 },
    /// The topic is to be deleted, or asked again to be.
    DeleteTopic { attempt: u32 },
    /// The topic is made again.
    MakeTopic,
    /// A process that stood still goes on.
    Resumes { host: Host },
    /// Somebody does harm, or ends it.
    Nemesis(Act),
    /// Is everything done?
    CheckEnd,
}

/// A timer of a node's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// A keep-alive is due.
    Beat,
    /// The lease may be over by the node's own clock.
    Lease,
    /// A call to meta had no answer in time.
    Call(u64),
    /// The shard's machine wants to be called.
    Shard(u64),
    /// A connection to a bookie is tried again, or gave no sign in time.
    Connect(usize, u64),
    /// A shard that is to retire has had its time.
    Retire(u64),
    /// A run of entries had no end in time.
    Run(u64, u64),
    /// The bookies are looked at again.
    Directory,
    /// A link to a bookie broke: this side learns of it.
    LinkBroken(usize, u64),
    /// A step of a bookie's repair is looked at again.
    Repair(u64),
    /// A bookie asks meta what may go.
    Reclaim,
    /// A copy is read on that could not be read at once.
    Proof,
}

/// A timer of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProducerTimer {
    /// More messages are there to be sent.
    Load,
    /// Connect, unless this attempt is old.
    Connect(u32),
    /// The stream has not become ready.
    Patience(u64),
    /// Send again what was refused.
    Resend(u64),
}

/// A timer of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConsumerTimer {
    /// Connect, unless this attempt is old.
    Connect(u32),
    /// The stream has not become ready.
    Patience(u64),
    /// Work on a delivery is over.
    Worked { stream: u64, delivery: u64 },
}

/// A command that meta has planned and not committed.
#[derive(Debug)]
pub(super) struct Planning {
    pub(super) from: Host,
    pub(super) life: u32,
    pub(super) call: u64,
    pub(super) command: Command,
    pub(super) commit: catalog::Commit,
    pub(super) tries: u32,
}

/// What is sent from one machine to another.
#[derive(Debug, Clone)]
pub(super) enum Message {
    /// A serving node opens its stream to a bookie.
    Hello { server: usize, link: u64 },
    /// The bookie says yes.
    HelloBack { bookie: usize, link: u64 },
    /// A request to a bookie.
    Ask {
        server: usize,
        reply: ReplyTo,
        ask: Ask,
    },
    /// A bookie's answer.
    Says {
        bookie: usize,
        reply: ReplyTo,
        answer: bookie::Answer,
    },
    /// A bookie wants entries of another.
    Fetch {
        from: usize,
        life: u32,
        step: u64,
        run: ReadRun,
    },
    /// The other gives what it has.
    Fetched {
        life: u32,
        step: u64,
        items: Vec<RunItem>,
    },
    /// A node asks meta.
    MetaAsk {
        from: Host,
        life: u32,
        call: u64,
        ask: MetaAsk,
    },
    /// Meta answers.
    MetaSays {
        life: u32,
        call: u64,
        answer: MetaAnswer,
    },
    /// Meta tells a watcher.
    Watch(Change),
    /// A client says something on its stream.
    ToServer { stream: u64, frame: Frame },
    /// A server says something on a client's stream.
    ToClient { stream: u64, said: Said },
}

/// Who waits for the answer of a bookie's engine.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker {
    /// A serving node.
    Server { server: usize, reply: ReplyTo },
    /// The repair of a bookie, of this one or another.
    Repair { bookie: usize, life: u32, step: u64 },
    /// Who reads proof.
    Proof,
}

/// What a bookie asks of the auditor.
#[derive(Debug, Clone)]
pub(super) struct Due {
    /// Which bookie.
    pub(super) bookie: BookieId,
    /// Most ledgers.
    pub(super) limit: usize,
    /// Those that it cannot copy now.
    pub(super) stuck: Vec<LedgerId>,
}

/// Whom a bookie's answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyTo {
    /// An add on a stream.
    Add {
        shard: u64,
        link: u64,
        ledger: LedgerId,
        entry: EntryId,
    },
    /// A fencing read.
    Read {
        shard: u64,
        ledger: LedgerId,
        entry: EntryId,
    },
    /// A read of the LAC.
    Lac { shard: u64, ledger: LedgerId },
    /// A run.
    Run { shard: u64, tag: u64 },
    /// Nobody.
    Nobody,
}

/// What meta is asked.
#[derive(Debug, Clone)]
pub(super) enum MetaAsk {
    /// A change.
    Command(Box<Command>),
    /// A read.
    Query(Query),
    /// A sign of life.
    Alive(types::SessionId),
    /// The ledgers that a bookie is to make a copy of or to look at.
    Due(Due),
}

/// What meta answers.
#[derive(Debug, Clone)]
pub(super) enum MetaAnswer {
    /// To a change.
    Command(Result<Reply, Problem>),
    /// To a read.
    Query(Result<Answer, Problem>),
    /// To a sign of life: whether the session goes on.
    Alive(bool),
    /// To a bookie that asked what is due.
    Due(Vec<LedgerRecord>),
}

impl MetaAnswer {
    /// The outcome of a claim or an owner's change.
    pub(super) fn outcome(self) -> ledger::Outcome {
        match self {
            Self::Command(Ok(Reply::Shard(ShardOutcome::Committed(view)))) => {
                ledger::Outcome::Committed(Box::new(view))
            }
            Self::Command(Ok(Reply::Shard(ShardOutcome::Conflict(view)))) => {
                ledger::Outcome::Conflict(Box::new(view))
            }
            Self::Command(Err(problem)) => match problem.kind() {
                types::ErrorKind::Fenced
                | types::ErrorKind::Invalid
                | types::ErrorKind::NotFound
                | types::ErrorKind::Conflict => ledger::Outcome::Refused(problem.reason),
                _ => ledger::Outcome::Unknown,
            },
            _ => ledger::Outcome::Unknown,
        }
    }
}

/// What a client says.
#[derive(Debug, Clone)]
pub(super) enum Frame {
    /// It opens the stream.
    Open(Opening),
    /// A request on an open stream.
    Request(Request),
}

/// How a client's stream begins.
#[derive(Debug, Clone)]
pub(super) enum Opening {
    /// As a producer.
    Producer(OpenProducer),
    /// As a consumer.
    Consumer(OpenConsumer),
    /// It makes the subscription of this number.
    Subscribe(usize),
    /// It takes that one away: the one of this id, and no later one of its name.
    Unsubscribe(usize, SubscriptionId),
    /// It deletes the topic.
    DeleteTopic,
    /// One batch without a producer.
    Once {
        stream: StreamId,
        count: u32,
        body: bytes::Bytes,
    },
}

/// What a server says to a client.
#[derive(Debug, Clone)]
pub(super) enum Said {
    /// What the shard tells, and the epoch of its owner.
    Told { told: Told, epoch: Option<Epoch> },
    /// The subscription is there.
    Subscribed(SubscriptionRecord),
    /// It is there no more.
    Unsubscribed(SubscriptionId),
    /// The topic is there no more.
    TopicDeleted(TopicId),
}

/// When something is due.
pub(super) fn after(now: Nanos, wait: std::time::Duration) -> Nanos {
    now.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
}
