//! Connections: which addresses there are, one channel for each, and where to go when a stream ended.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::Host;
use proto::transport::{ChannelOptions, address_of, channel_with};
use proto::v1 as pb;
use tonic::transport::Channel;
use types::{Problem, Reason};

use crate::Error;

/// Most endpoints whose channels are kept.
const CHANNELS_MAX: usize = 256;
/// Most addresses that are remembered beside those the user gave.
const LEARNED_MAX: usize = 64;
/// How long opening a stream may take: longer than a server waits for a shard to be recovered. A node that is gone is
/// noticed far earlier, by the connection.
pub(crate) const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a single call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long calls are repeated.
const CALL_PATIENCE: Duration = Duration::from_secs(20);

/// Shared by everything that one client makes.
pub(crate) type Shared = Arc<Connections>;

/// What all parts of a client share.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) host: Host,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    channels: BTreeMap<String, Channel>,
    /// The addresses the user gave, then those of other nodes that were heard of.
    addresses: Vec<String>,
    /// How many the user gave.
    given: usize,
    /// Which of them is asked next.
    turn: usize,
}

impl Connections {
    pub(crate) fn new(host: Host, addresses: Vec<String>) -> Result<Self, Error> {
        if addresses.is_empty() {
            let message = "no address of a serving node was given, such as http://127.0.0.1:7450";
            return Err(Error::new(Reason::BadField, message));
        }
        for address in &addresses {
            address_of(address)?;
        }
        let given = addresses.len();
        let state = State {
            channels: BTreeMap::new(),
            addresses,
            given,
            turn: 0,
        };
        Ok(Self {
            host,
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel to an endpoint, connected when it is used and again when it broke.
    pub(crate) fn channel(&self, endpoint: &str) -> Result<Channel, Error> {
        let address = address_of(endpoint)?;
        let mut state = self.lock();
        if let Some(channel) = state.channels.get(endpoint) {
            return Ok(channel.clone());
        }
        if state.channels.len() >= CHANNELS_MAX {
            state.channels.clear();
        }
        let options = ChannelOptions::attentive();
        let channel = channel_with(&self.host.net, &address, &options);
        state.channels.insert(endpoint.to_owned(), channel.clone());
        Ok(channel)
    }

    /// A channel to some node: the one that answered last, until [`Connections::next`].
    pub(crate) fn any(&self) -> Result<Channel, Error> {
        let address = {
            let state = self.lock();
            state.addresses[state.turn].clone()
        };
        self.channel(&address)
    }

    /// Asks another node from now on.
    pub(crate) fn next(&self) {
        let mut state = self.lock();
        state.turn = (state.turn + 1) % state.addresses.len();
    }

    /// Remembers another node, to be asked when those the user named are gone.
    fn learn(&self, endpoint: &str) {
        let mut state = self.lock();
        if state.addresses.len() < state.given + LEARNED_MAX
            && !state.addresses.iter().any(|known| known == endpoint)
        {
            state.addresses.push(endpoint.to_owned());
        }
    }

    /// How many nodes are known.
    fn known(&self) -> usize {
        self.lock().addresses.len()
    }

    /// The addresses the user gave, for messages.
    pub(crate) fn given(&self) -> String {
        let state = self.lock();
        state.addresses[..state.given].join(",")
    }

    /// Makes a call at some node, and at others while that may help. `repeatable`: also when it is not known whether an
    /// earlier try had its effect.
    pub(crate) async fn call<T, F, Fut>(&self, repeatable: bool, call: F) -> Result<T, Error>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let begun = self.host.clock.now();
        let mut backoff = Backoff::new();
        let mut tried = 0;
        loop {
            let answer = self
                .host
                .clock
                .timeout(CALL_TIMEOUT, call(self.any()?))
                .await;
            let error = match answer {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => Error::from(status),
                Err(_) => Error::new(Reason::OutcomeUnknown, "the server did not answer in time"),
            };
            let may_repeat = is_elsewhere(&error) && (repeatable || !error.is_outcome_unknown());
            if !may_repeat || self.host.clock.now().since(begun) > CALL_PATIENCE {
                return Err(error);
            }
            self.next();
            tried += 1;
            if tried % self.known() == 0 {
                self.host.clock.sleep(backoff.wait(&self.host.rng)).await;
            }
        }
    }
}

/// Whether another node, or the same one later, may do better. Words that nodes use among themselves count too: they say
/// that an owner changed.
pub(crate) fn is_elsewhere(error: &Error) -> bool {
    let is_internal = matches!(
        error.reason(),
        Reason::SessionUnknown
            | Reason::EpochMismatch
            | Reason::OwnerAlive
            | Reason::VersionMismatch
    );
    error.is_retryable() || error.is_outcome_unknown() || is_internal
}

/// Where the next stream goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    /// The endpoint that a redirect named; else any node.
    redirect: Option<String>,
    /// Redirects in a row.
    hops: u32,
}

impl Target {
    pub(crate) fn channel(&self, shared: &Connections) -> Result<Channel, Error> {
        match &self.redirect {
            Some(endpoint) => shared.channel(endpoint),
            None => shared.any(),
        }
    }

    /// A stream did something useful.
    pub(crate) const fn worked(&mut self) {
        self.hops = 0;
    }

    /// A stream ended, or could not be opened. True: wait a little before the next. The first redirect is followed at
    /// once; of nodes that send each other's clients around, one is behind and needs a moment.
    pub(crate) fn failed(&mut self, shared: &Connections, error: &Error) -> bool {
        let owner = error.problem().metadata.get(OWNER);
        let owner = owner.filter(|_| error.reason() == Reason::NotOwner);
        match owner {
            Some(endpoint) if address_of(endpoint).is_ok() => {
                shared.learn(endpoint);
                self.redirect = Some(endpoint.clone());
                self.hops = self.hops.saturating_add(1);
                self.hops > 1
            }
            _ => {
                // Whoever named the owner is behind, or the owner is gone: ask somebody else.
                shared.next();
                self.redirect = None;
                true
            }
        }
    }
}

/// The metadata of `NOT_OWNER` that names the owner's endpoint.
const OWNER: &str = "owner_endpoint";

/// A redirect as an error that [`Target::failed`] understands.
pub(crate) fn moved(redirect: &pb::Redirect) -> Error {
    Problem::new(Reason::NotOwner, "another node serves the topic")
        .with(OWNER, &redirect.endpoint)
        .into()
}

/// The connection ended without a word.
pub(crate) fn lost() -> Error {
    Error::new(Reason::Unreachable, "the connection to the server was lost")
}

/// The server said something that the protocol does not allow.
pub(crate) fn odd(what: &str) -> Error {
    Error::new(
        Reason::Internal,
        format!("the server broke the protocol: {what}"),
    )
}

/// What a stream says without ending.
pub(crate) fn stream_error(error: pb::StreamError) -> Error {
    Error::from(proto::status::from_rpc(&error.status.unwrap_or_default()))
}

/// The waits between tries: doubling, up to a limit, each between half and all of its length.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    /// What passes between the moment an owner's lease is over and its topics' clients coming back.
    const MOST: Duration = Duration::from_millis(250);

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
