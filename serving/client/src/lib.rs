//! The client of Ledgerline: publish, consume, administer.
//!
//! ```no_run
//! use ledgerline_client::{Client, Error};
//!
//! # async fn example() -> Result<(), Error> {
//! let client = Client::connect("http://127.0.0.1:7450").await?;
//!
//! let producer = client.producer("greetings").create().await?;
//! producer.send("hello").await?.await?; // The second await ends when the message is fsynced.
//!
//! let mut consumer =
//!     client.consumer("greetings/subscriptions/readers").create_if_missing().open().await?;
//! let message = consumer.recv().await?;
//! assert_eq!(&message.payload()[..], b"hello");
//! consumer.ack(&message);
//! consumer.close().await?;
//! # Ok(()) }
//! ```
//!
//! What it promises:
//!
//! - A [`Receipt`] that resolved well means that the message survives the loss of any minority of its copies. Over
//!   reconnects, and when a topic's owner dies, the producer repeats what has no receipt under the same numbers:
//!   nothing is stored twice, and the order is kept. A program whose producer has a name does so over its own restarts:
//!   [`Producer::stored_before`] says where to go on.
//! - A [`Consumer`] gets every message at least once. It reconnects by itself; a message that is not acked comes again.
//! - Any address of a serving node will do: the client follows redirects to the node that owns a topic, and asks around
//!   when that one is gone.
//! - Memory is bounded, in bytes, in both directions.
//!
//! Everything runs on the tokio runtime of the caller.

mod admin;
mod client;
mod connect;
mod consumer;
mod convert;
mod error;
mod message;
mod producer;

pub use admin::{Admin, SubscriptionOptions, TopicOptions};
pub use client::{Client, ClientBuilder};
pub use consumer::{
    AckReceipt, Acker, Consumer, ConsumerBuilder, ProducerStamp, Received, SessionChange,
};
pub use error::Error;
pub use message::Message;
pub use producer::{Producer, ProducerBuilder, Receipt, Stored};

/// The API's own messages, as administration answers with them.
pub use proto::v1 as api;

/// Reads a time of the API's messages.
pub use proto::time::from_wire as wall_time;

pub use types::batch::Codec;
pub use types::topic::{Retention, StartPosition, SubscriptionMode};
pub use types::{ByteSize, ErrorKind, Offset, Problem, Quorum, Reason, WallTime};
