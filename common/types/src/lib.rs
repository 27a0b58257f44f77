//! The vocabulary of Ledgerline: identifiers, names, quorums, sizes, time, checksums, errors, and the records that
//! meta keeps.
//!
//! Everything here is a plain value: no IO, no clock, no randomness, no async. A value that exists is valid: text
//! from outside is parsed once, at the edge, and trusted inside.

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
    TopicName,
};
pub use payload::Payload;
pub use quorum::{Quorum, QuorumError};
pub use size::{ByteSize, ByteSizeError};
pub use time::{MonoTime, WallTime};
