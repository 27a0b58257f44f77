//! Channels to several nodes that do the same, of which one is asked until it fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use host::net::{Address, Net};
use tonic::transport::Channel;

use super::{ChannelOptions, channel_with};

/// The nodes, and whose turn it is. Channels connect when they are first used, and notice a dead node within 4 s.
#[derive(Debug)]
pub struct Rotation {
    nodes: Vec<(Address, Channel)>,
    turn: AtomicUsize,
}

/// Whose turn it was when a call was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn(usize);

impl Rotation {
    /// Begins with the first of these nodes.
    ///
    /// # Panics
    ///
    /// Without an address.
    pub fn new(net: &Arc<dyn Net>, addresses: &[Address]) -> Self {
        assert!(!addresses.is_empty(), "there is somebody to be asked");
        let options = ChannelOptions::attentive();
        let node = |address: &Address| (address.clone(), channel_with(net, address, &options));
        Self {
            nodes: addresses.iter().map(node).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The node that is asked now, and whose turn it is.
    pub fn now(&self) -> (Channel, Turn) {
        let turn = self.turn.load(Ordering::Relaxed);
        (self.nodes[turn % self.nodes.len()].1.clone(), Turn(turn))
    }

    /// Where the node is whose turn it was.
    pub fn address(&self, Turn(turn): Turn) -> &Address {
        &self.nodes[turn % self.nodes.len()].0
    }

    /// Asks another node than the one that failed. Only the first of many calls that failed on it moves on: two would
    /// come back to it.
    pub fn failed(&self, Turn(failed): Turn) {
        let next = failed.wrapping_add(1);
        let _ = self
            .turn
            .compare_exchange(failed, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use host::Host;

    use super::*;

    #[tokio::test]
    async fn many_calls_that_fail_on_one_node_move_on_once() {
        let addresses = ["pipe:a", "pipe:b"].map(Address::new);
        let rotation = Rotation::new(&Host::simulated("test", 1).net, &addresses);
        let at = |rotation: &Rotation| rotation.address(rotation.now().1).clone();
        assert_eq!(at(&rotation), addresses[0]);
        let (_, turn) = rotation.now();
        rotation.failed(turn);
        rotation.failed(turn);
        assert_eq!(
            at(&rotation),
            addresses[1],
            "not back to the one that failed"
        );
        let (_, turn) = rotation.now();
        rotation.failed(turn);
        assert_eq!(at(&rotation), addresses[0]);
    }
}
