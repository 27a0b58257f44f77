//! The history of a run: who sent what, what was answered, who received what, and which faults were made.
//!
//! One JSON object a line ([`format`](mod@format) has the words). *Invocations are logged before they are made, answers
//! after they came*, all through one [`HistoryWriter`], so that any prefix of a file is itself an honest history: whatever
//! was received has its `send` in front of it, and a run that died leaves a file that can still be judged (and is found
//! inconclusive at worst).

pub mod format;
mod name;
mod reader;
mod writer;

pub use format::{
    Acked, Delivered, Drained, Event, Fault, Guarantees, Outcome, Phase, Received, Seek, Sent,
    Session, Start, Stored, Subscribed, SubscriptionType, Tail, TopicDeleted, Trim, Unsubscribed,
};
pub use name::Name;
pub use reader::{Line, LineError, parse, read_lines};
pub use writer::HistoryWriter;

#[cfg(test)]
mod tests;
