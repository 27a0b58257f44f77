//! Connections: which addresses there are, which node owns a topic, one channel for each endpoint.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host::Host;
use proto::transport::{ChannelOptions, address_of, channel_with};
use proto::v1 as pb;
use proto::v1::routing_client::RoutingClient;
use tonic::transport::Channel;
use types::{Reason, TopicName};

use crate::Error;

/// Most endpoints whose channels are kept.
const CHANNELS_MAX: usize = 256;
/// How long a node may take to answer where a topic is. Longer than an opening takes, so that it is not given up early.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);

/// What all parts of a client share.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) host: Host,
    /// The addresses the user gave.
    seeds: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    channels: BTreeMap<String, Channel>,
    /// Which seed is asked next.
    turn: usize,
}

impl Connections {
    pub(crate) fn new(host: Host, seeds: Vec<String>) -> Result<Self, Error> {
        if seeds.is_empty() {
            return Err(Error::new(Reason::BadField, "no address of a serving node was given"));
        }
        for seed in &seeds {
            address_of(seed)?;
        }
        Ok(Self { host, seeds, state: Mutex::default() })
    }

    /// A channel to an endpoint, connected when it is used and again when it broke.
    pub(crate) fn channel(&self, endpoint: &str) -> Result<Channel, Error> {
        let address = address_of(endpoint)?;
        // The state is valid after each statement.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = state.channels.get(endpoint) {
            return Ok(channel.clone());
        }
        if state.channels.len() >= CHANNELS_MAX {
            state.channels.clear();
        }
        let options = ChannelOptions {
            connect_timeout: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(3),
            ..ChannelOptions::default()
        };
        let channel = channel_with(&self.host.net, &address, &options);
        state.channels.insert(endpoint.to_owned(), channel.clone());
        Ok(channel)
    }

    /// A channel to one of the user's addresses: the one that answered last, until [`Connections::next_seed`].
    pub(crate) fn any(&self) -> Result<Channel, Error> {
        let seed = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            self.seeds[state.turn % self.seeds.len()].clone()
        };
        self.channel(&seed)
    }

    /// Asks another of the user's addresses from now on.
    pub(crate) fn next_seed(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.turn = (state.turn + 1) % self.seeds.len();
    }

    /// The endpoint of the topic's owner, asked of each of the user's addresses until one answers.
    pub(crate) async fn owner(&self, topic: &TopicName) -> Result<String, Error> {
        let mut last = None;
        for _ in 0..self.seeds.len() {
            let request = pb::LookupTopicRequest { topic: topic.to_string() };
            let mut client = RoutingClient::new(self.any()?);
            let answer = self.host.clock.timeout(LOOKUP_TIMEOUT, client.lookup_topic(request)).await;
            let error = match answer {
                Ok(Ok(route)) => match route.into_inner().shards.into_iter().next() {
                    Some(shard) => return Ok(shard.endpoint),
                    None => Error::new(Reason::Internal, "the topic has no shard"),
                },
                Ok(Err(status)) => Error::from(status),
                Err(_) => Error::new(Reason::Unreachable, "no answer to the lookup of the topic"),
            };
            if !is_elsewhere(&error) {
                return Err(error);
            }
            self.next_seed();
            last = Some(error);
        }
        Err(last.unwrap_or_else(|| Error::new(Reason::Unreachable, "no address answered")))
    }
}

/// Whether another node may know better.
pub(crate) fn is_elsewhere(error: &Error) -> bool {
    error.is_retryable() || error.is_outcome_unknown()
}

/// The waits between tries: doubling, up to a limit, each between half and all of its length.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const MOST: Duration = Duration::from_millis(500);

    pub(crate) const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// Starts over after something worked.
    pub(crate) const fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// The next wait.
    pub(crate) fn wait(&mut self, rng: &host::Rng) -> Duration {
        let whole = self.next;
        self.next = (self.next * 2).min(Self::MOST);
        let half = whole / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(rng.below(nanos))
    }
}

/// Shared by everything that one client makes.
pub(crate) type Shared = Arc<Connections>;
