//! How a serving node talks to bookies.
//!
//! A [`BookiePool`] is shared by all shards of a node. It keeps one stream of adds to each bookie, opened on first
//! need and opened again with back-off, and multiplexes all shards over it: orders are queued without waiting, gather
//! while a frame is on its way, and answers come back in batches to the shard's own inbox. Nothing here decides
//! anything about the protocol: an order that could not be carried is answered as lost ([`PoolEvent::Lost`],
//! [`Sent::Down`], [`Sent::Full`]), and the pure core in `ledger` decides what to do about it.
//!
//! Memory is bounded in bytes for each bookie: beyond it an order is refused at once, and the core takes the bookie
//! for a straggler. Payloads travel as the shard handed them in; they are copied by the transport only, and by nobody on
//! their way to a bookie of the same process ([`LocalBookie`]).
//!
//! A bookie that copies what it lacks reads with a [`RunReader`], without a pool: one run after another.

mod directory;
mod local;
mod pool;
mod runs;
mod space;

pub use directory::Directory;
pub use local::{LocalAdds, LocalBookie, RunParts};
pub use pool::{
    BookieLink, BookiePool, Order, PoolConfig, PoolEvent, PoolEvents, PoolInbox, Sent, inbox,
};
pub use proto::bookie::SpaceUse;
pub use runs::{NoAnswer, RunReader};
pub use space::space;
