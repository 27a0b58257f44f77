//! The vocabulary of Ledgerline: identifiers, names, quorums, sizes, time, checksums, errors, and the records that
//! meta keeps.
//!
//! Everything here is a plain value: no IO, no clock, no randomness, no async. A value that exists is valid: text
//! from outside is parsed once, at the edge, and trusted inside. One word for each idea, on the wire, in code and in
//! the documentation:
//!
//! - [`chain`]: a shard's record with its two logs, the ledgers of a log, and what an owner may change about them.
//! - [`cluster`] and [`topic`]: the records of nodes, bookies, topics and subscriptions.
//! - [`command`]: what nodes ask of meta, and its answers.
//! - [`storage`]: what an owner says to a bookie, and the bookie's answers.
//! - [`batch`]: the encoded messages that travel through every node unopened.
//! - [`Problem`] and [`Reason`]: what went wrong, for people and for programs.

pub mod batch;
pub mod chain;
pub mod cluster;
pub mod command;
mod crc;
mod error;
mod ids;
mod name;
mod payload;
mod quorum;
pub mod repair;
mod size;
pub mod storage;
mod time;
pub mod topic;

pub use crc::{Crc32c, crc32c, crc32c_of};
pub use error::{ErrorKind, Problem, Reason};
pub use ids::{
    BookieId, ClusterId, CommandId, EntryId, Epoch, Generation, Incarnation, LedgerId, LedgerSeq,
    LogId, NodeId, Offset, ProducerEpoch, Revision, SequenceId, SessionId, ShardId, SubscriptionId,
    TopicId,
};
pub use name::{
    ConsumerName, NameError, NamespaceName, NodeName, ProducerName, SubscriptionName, TenantName,
    TopicName, ZoneName,
};
pub use payload::Payload;
pub use quorum::{Quorum, QuorumError};
pub use size::{ByteSize, ByteSizeError};
pub use time::{MonoTime, WallTime};
