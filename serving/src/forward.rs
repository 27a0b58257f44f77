//! Passing a request on to the node that owns the shard: one hop at most.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream;
use futures::{Stream, StreamExt};
use proto::transport::{ChannelOptions, address_of, channel_with};
use tonic::Request;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use types::NodeName;

use crate::services::Frames;

/// Most connections to other serving nodes that are kept.
const PEERS_MAX: usize = 1024;

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    /// From a client.
    First,
    /// From another serving node, which took this one for the owner: it is not passed on again.
    Forwarded,
}

impl Hop {
    /// Reads it off a request.
    pub(crate) fn of(metadata: &MetadataMap) -> Self {
        if proto::headers::is_forwarded(metadata) {
            Self::Forwarded
        } else {
            Self::First
        }
    }
}

/// A request as it goes to the owner: without what concerned only the first connection, and marked as passed on.
pub(crate) fn marked<T>(request: Request<T>, node: &NodeName) -> Request<T> {
    let deadline = request.metadata().get("grpc-timeout").cloned();
    let mut request = Request::new(request.into_inner());
    proto::headers::mark_forwarded(request.metadata_mut(), node.as_str());
    if let Some(deadline) = deadline {
        request.metadata_mut().insert("grpc-timeout", deadline);
    }
    request
}

/// A stream from its first frame on, which was read already, up to where it breaks.
pub(crate) fn again<T: Send + 'static>(
    first: T,
    rest: impl Frames<T>,
) -> impl Stream<Item = T> + Send + 'static {
    let rest = rest.take_while(|frame| ready(frame.is_ok()));
    let rest = rest.filter_map(|frame| ready(frame.ok()));
    stream::iter([first]).chain(rest)
}

/// Connections to other serving nodes, one for each endpoint.
#[derive(Debug)]
pub(crate) struct Peers {
    net: Arc<dyn host::net::Net>,
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl Peers {
    pub(crate) fn new(net: Arc<dyn host::net::Net>) -> Self {
        Self {
            net,
            channels: Mutex::default(),
        }
    }

    /// The connection to an endpoint, made on first need and again when it is lost.
    pub(crate) fn channel(&self, endpoint: &str) -> Channel {
        // The map is valid after each statement.
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(endpoint) {
            return channel.clone();
        }
        if channels.len() >= PEERS_MAX {
            // Endpoints come and go with nodes; starting over costs a reconnect, leaking costs for ever.
            channels.clear();
        }
        // An endpoint that makes no sense is an address that nobody answers.
        let address = address_of(endpoint).unwrap_or_else(|_| host::net::Address::new(endpoint));
        let options = ChannelOptions::attentive();
        let channel = channel_with(&self.net, &address, &options);
        channels.insert(endpoint.to_owned(), channel.clone());
        channel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_passed_on_says_so_and_keeps_its_deadline() {
        let mut request = Request::new(());
        request
            .metadata_mut()
            .insert("grpc-timeout", "5S".parse().unwrap());
        request
            .metadata_mut()
            .insert("x-other", "1".parse().unwrap());
        assert_eq!(Hop::of(request.metadata()), Hop::First);
        let request = marked(request, &"a".parse().unwrap());
        assert_eq!(Hop::of(request.metadata()), Hop::Forwarded);
        assert!(request.metadata().contains_key("grpc-timeout"));
        assert!(!request.metadata().contains_key("x-other"));
    }
}
