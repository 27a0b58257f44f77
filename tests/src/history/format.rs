//! The words of a history. One JSON object a line; short keys, because a run has millions of lines.
//!
//! ```json
//! {"e":"meta","v":1,"g":{"dedup":1,"producer_order":1,"linearizable":1,"durable_ack":1,"dense":0,"shared_clock":1}}
//! {"e":"send","t":10,"w":"w0","p":"p0","n":0,"h":3735928559}
//! {"e":"ok","t":20,"w":"w0","p":"p0","n":0,"o":0,"ep":1}
//! {"e":"recv","t":30,"sub":"s","c":"c0","p":"p0","ms":[["w0",0,0,0,3735928559]]}
//! {"e":"end"}
//! ```
//!
//! Times `t` are nanoseconds on one clock. A message is (w, p, n): writer, partition, and n = 0, 1, 2 … per writer and
//! partition; all three stand in its payload. A key that a reader does not know is skipped. Beyond the format of
//! `reliability.md` there are, all of them optional: `close` (a session ended), `nack`, `unsub`, `deleted`, the promise
//! `faults`, and the sixth element of a delivered message.

use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use super::Name;

/// The version of the format that `meta` names.
pub const VERSION: u32 = 1;

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "e", rename_all = "lowercase")]
pub enum Event<'a> {
    /// The first line: the version of the format and what the run promises.
    Meta {
        /// [`VERSION`].
        v: u32,
        /// The promises.
        g: Guarantees,
    },
    /// A message is about to be sent. Sent again after a `fail` or `info`: one more line, the same identity.
    Send(Sent<'a>),
    /// The system said "stored".
    Ok(Stored<'a>),
    /// The system refused, definitely.
    Fail(Outcome<'a>),
    /// The outcome is unknown: it may be stored, now or later.
    Info(Outcome<'a>),
    /// A subscription was made, for one partition.
    Sub(Subscribed<'a>),
    /// A subscription was deleted: nothing is owed to it any more. One that is made later has another name here.
    Unsub(Unsubscribed<'a>),
    /// A topic was deleted, with its subscriptions: nothing of the partition is owed any more.
    Deleted(TopicDeleted<'a>),
    /// A consumer is about to attach to its subscription (all partitions).
    Open(Session<'a>),
    /// A consumer is gone: it left, or its connection broke.
    Close(Session<'a>),
    /// A consumer received messages, in this order.
    Recv(Received<'a>),
    /// A consumer is about to ack.
    Ack(Acked<'a>),
    /// An ack was confirmed: the system will never deliver these to the subscription again.
    AckOk(Acked<'a>),
    /// A consumer is about to hand messages back.
    Nack(Acked<'a>),
    /// A subscription was moved by force.
    Seek(Seek<'a>),
    /// Messages below an offset may be gone, by policy.
    Trim(Trim<'a>),
    /// Somebody asked for the last offset of a partition.
    Tail(Tail<'a>),
    /// A subscription got all there is of a partition: after healing, with nothing sent any more.
    Drained(Drained<'a>),
    /// A fault begins or ends.
    Nem(Fault<'a>),
    /// The last line of a whole history.
    End,
}

/// What a run promises. Something unpromised that breaks is counted, not condemned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Guarantees {
    /// A message is stored at most once, also if its producer repeats it.
    #[serde(with = "flag")]
    pub dedup: bool,
    /// The messages of one writer lie in the order of their numbers.
    #[serde(with = "flag")]
    pub producer_order: bool,
    /// What was acked before something else was sent lies before it; tails are never stale.
    #[serde(with = "flag")]
    pub linearizable: bool,
    /// What was confirmed as acked is never delivered to that subscription again.
    #[serde(with = "flag")]
    pub durable_ack: bool,
    /// Every offset belongs to a message.
    #[serde(with = "flag")]
    pub dense: bool,
    /// All times come from one clock, so that times of different processes can be compared.
    #[serde(with = "flag")]
    pub shared_clock: bool,
    /// The run makes faults; one that made none proves nothing.
    #[serde(with = "flag")]
    pub faults: bool,
}

impl Guarantees {
    /// Everything that Ledgerline promises for producers on streams and confirmed acks, judged on one clock.
    pub const fn full() -> Self {
        Self {
            dedup: true,
            producer_order: true,
            linearizable: true,
            durable_ack: true,
            dense: true,
            shared_clock: true,
            faults: false,
        }
    }
}

/// `send`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sent<'a> {
    /// When, before the call.
    pub t: u64,
    /// Writer.
    pub w: Name<'a>,
    /// Partition.
    pub p: Name<'a>,
    /// Number.
    pub n: u64,
    /// Ordering key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<Name<'a>>,
    /// Hash of the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub h: Option<u64>,
    /// Not to be delivered before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
    /// Subscriptions that must not get it (their filter excludes it).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub x: Vec<Name<'a>>,
}

/// `ok`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stored<'a> {
    /// When, after the answer.
    pub t: u64,
    /// Writer.
    pub w: Name<'a>,
    /// Partition.
    pub p: Name<'a>,
    /// Number.
    pub n: u64,
    /// The offset that the answer named; none where it named none (a duplicate from far back).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub o: Option<u64>,
    /// The epoch of the owner that *wrote* it. Leave it out where the answer comes from another owner than the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ep: Option<u64>,
}

/// `fail` and `info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome<'a> {
    /// When, after the answer.
    pub t: u64,
    /// Writer.
    pub w: Name<'a>,
    /// Partition.
    pub p: Name<'a>,
    /// Number.
    pub n: u64,
}

/// `sub`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subscribed<'a> {
    /// Before the call.
    pub t0: u64,
    /// After the answer.
    pub t: u64,
    /// Subscription.
    pub sub: Name<'a>,
    /// Partition.
    pub p: Name<'a>,
    /// Its type.
    pub ty: SubscriptionType,
    /// Where it starts.
    pub from: Start,
}

/// The types of subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionType {
    /// No cursor in the server, no acks.
    Reader,
    /// One consumer, in order.
    Exclusive,
    /// One consumer at a time, in order, others stand by.
    Failover,
    /// Work shared among consumers.
    Shared,
    /// Work shared, in order for each key.
    KeyShared,
}

impl SubscriptionType {
    /// Whether one session gets the messages in log order.
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::Reader | Self::Exclusive | Self::Failover)
    }
}

/// Where a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first message.
    Earliest,
    /// With what is sent after its creation was answered.
    Latest,
    /// With this offset.
    Offset(u64),
}

/// `open` and `close`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Session<'a> {
    /// `open`: before the call. `close`: when it was over.
    pub t: u64,
    /// Subscription.
    pub sub: Name<'a>,
    /// Consumer.
    pub c: Name<'a>,
}

/// `recv`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Received<'a> {
    /// When.
    pub t: u64,
    /// Subscription.
    pub sub: Name<'a>,
    /// Consumer.
    pub c: Name<'a>,
    /// The partition it was received from.
    pub p: Name<'a>,
    /// The messages. A line may also hold one message inline: `"w":…,"n":…,"o":…,"r":0,"h":…,"pp":…`.
    pub ms: Vec<Delivered<'a>>,
}

/// One delivered message: `[w, n, o, redelivered, hash]`, or with a sixth element where it is astray.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered<'a> {
    /// The writer that the payload names; empty where the payload cannot be read.
    pub w: Name<'a>,
    /// The number that the payload names.
    pub n: u64,
    /// Its offset.
    pub o: u64,
    /// Whether the system says that it was delivered before.
    pub redelivered: bool,
    /// Hash of the payload as received.
    pub hash: Option<u64>,
    /// The partition that the payload names, where it is another than the one it was received from.
    pub astray: Option<Name<'a>>,
}

/// `ack`, `ackok` and `nack`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Acked<'a> {
    /// `ack`, `nack`: before the call. `ackok`: after the answer.
    pub t: u64,
    /// Subscription.
    pub sub: Name<'a>,
    /// Consumer.
    pub c: Name<'a>,
    /// Partition.
    pub p: Name<'a>,
    /// Writer and number of each message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ms: Vec<(Name<'a>, u64)>,
    /// Everything below this offset (not the offset itself), as `cumulative_end` on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cu: Option<u64>,
}

/// `seek`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seek<'a> {
    /// Before the call.
    pub t0: u64,
    /// After the answer.
    pub t: u64,
    /// Subscription.
    pub sub: Name<'a>,
    /// Partition.
    pub p: Name<'a>,
    /// The offset it goes on with.
    pub o: u64,
}

/// `trim`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trim<'a> {
    /// Partition.
    pub p: Name<'a>,
    /// The first offset that must still be there.
    pub o: u64,
}

/// `tail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tail<'a> {
    /// Before the call.
    pub t0: u64,
    /// After the answer.
    pub t: u64,
    /// Partition.
    pub p: Name<'a>,
    /// The offset of the last message; none: the partition is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub o: Option<u64>,
}

/// `drained`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drained<'a> {
    /// Subscription.
    pub sub: Name<'a>,
    /// Partition.
    pub p: Name<'a>,
}

/// `unsub`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unsubscribed<'a> {
    /// Subscription.
    pub sub: Name<'a>,
    /// Partition.
    pub p: Name<'a>,
}

/// `deleted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicDeleted<'a> {
    /// When, after the answer.
    pub t: u64,
    /// Partition.
    pub p: Name<'a>,
}

/// `nem`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault<'a> {
    /// What kind: `kill`, `pause`, `partition` …
    pub f: Name<'a>,
    /// To whom.
    pub x: Name<'a>,
    /// Begin or end.
    pub ph: Phase,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t: Option<u64>,
}

/// Whether a fault begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It begins.
    Start,
    /// It is over.
    Stop,
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Earliest => serializer.serialize_str("earliest"),
            Self::Latest => serializer.serialize_str("latest"),
            Self::Offset(offset) => serializer.serialize_u64(*offset),
        }
    }
}

impl Serialize for Delivered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        seq.serialize_element(&self.w)?;
        seq.serialize_element(&self.n)?;
        seq.serialize_element(&self.o)?;
        seq.serialize_element(&u8::from(self.redelivered))?;
        seq.serialize_element(&self.hash)?;
        if let Some(astray) = &self.astray {
            seq.serialize_element(astray)?;
        }
        seq.end()
    }
}

/// Booleans as 0 and 1; `true` and `false` are read too.
mod flag {
    use std::fmt;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde asks for"
    )]
    pub(super) fn serialize<S: Serializer>(flag: &bool, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(u8::from(*flag))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
        d.deserialize_any(FlagVisitor)
    }

    pub(super) struct FlagVisitor;

    impl Visitor<'_> for FlagVisitor {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("0 or 1")
        }

        fn visit_bool<E: Error>(self, flag: bool) -> Result<bool, E> {
            Ok(flag)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<bool, E> {
            Ok(number != 0)
        }
    }
}
