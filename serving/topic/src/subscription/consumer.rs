//! One consumer: what it granted, what it holds, what it waits for.

use std::time::Duration;

use types::batch::Codecs;
use types::{ConsumerName, Problem};

use crate::Config;

/// A consumer's stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Consumer {
    pub(crate) name: Option<ConsumerName>,
    pub(crate) ack_deadline: Duration,
    pub(crate) confirm_acks: bool,
    /// Which compressed batches it opens itself.
    pub(crate) codecs: Codecs,
    permits: Permits,
    /// Messages leased to it.
    pub(crate) unacked: u64,
    /// Confirmed acks that wait for the disk.
    pub(crate) waiting_acks: usize,
    /// The client is done: it gets no more, and ends with its last answer.
    pub(crate) is_finishing: bool,
}

/// What a consumer granted and was not sent yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Permits {
    pub(crate) messages: u64,
    /// Below zero after a message that was larger than the rest: it comes off the next grants.
    pub(crate) bytes: i64,
}

impl Permits {
    const NONE: Self = Self {
        messages: 0,
        bytes: 0,
    };

    /// Adds a grant.
    fn grant(self, messages: i64, bytes: i64) -> Result<Self, Problem> {
        let bad = |field: &str| Problem::bad_field(field, "a grant is not below zero");
        let more = u64::try_from(messages).or(Err(bad("messages")))?;
        if bytes < 0 {
            return Err(bad("bytes"));
        }
        let full =
            |field: &str| Problem::bad_field(field, "the grants add up to more than 2^63 - 1");
        let messages = self.messages.checked_add(more);
        let messages = messages.filter(|sum| i64::try_from(*sum).is_ok());
        Ok(Self {
            messages: messages.ok_or_else(|| full("messages"))?,
            bytes: self.bytes.checked_add(bytes).ok_or_else(|| full("bytes"))?,
        })
    }
}

impl Consumer {
    pub(crate) fn new(
        name: Option<ConsumerName>,
        ack_deadline: Duration,
        confirm_acks: bool,
        codecs: Codecs,
    ) -> Self {
        Self {
            name,
            ack_deadline,
            confirm_acks,
            codecs,
            permits: Permits::NONE,
            unacked: 0,
            waiting_acks: 0,
            is_finishing: false,
        }
    }

    pub(crate) fn grant(&mut self, messages: i64, bytes: i64) -> Result<(), Problem> {
        self.permits = self.permits.grant(messages, bytes)?;
        Ok(())
    }

    /// Takes what was sent from the grants.
    pub(crate) fn spend(&mut self, messages: u64, bytes: u64) {
        assert!(
            messages <= self.permits.messages,
            "nothing is sent beyond the grants"
        );
        self.permits.messages -= messages;
        let bytes = i64::try_from(bytes).expect("a batch fits 63 bits");
        self.permits.bytes -= bytes;
        self.unacked += messages;
    }

    /// Most messages it may be sent now.
    pub(crate) fn room(&self, config: &Config) -> u64 {
        if self.is_finishing || self.permits.bytes <= 0 {
            return 0;
        }
        let unacked = config.unacked_max.saturating_sub(self.unacked);
        self.permits.messages.min(unacked)
    }

    /// Most bytes it may be sent now.
    pub(crate) fn room_bytes(&self) -> u64 {
        u64::try_from(self.permits.bytes).unwrap_or(0)
    }

    pub(crate) const fn is_out_of_permits(&self) -> bool {
        self.permits.messages == 0 || self.permits.bytes <= 0
    }
}
