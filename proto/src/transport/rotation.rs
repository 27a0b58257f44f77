//! Channels to several nodes that do the same, of which one is asked until it fails or sends to another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host::net::{Address, Net};
use tonic::transport::Channel;

use super::{ChannelOptions, channel_with};

/// The nodes, and whose turn it is. Channels connect when they are first used, and notice a dead node within 4 s.
#[derive(Debug)]
pub struct Rotation {
    net: Arc<dyn Net>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Counts whenever another node is to be asked.
    turn: usize,
    nodes: Vec<Node>,
    /// Whose turn it is of them.
    at: usize,
    /// Where that one sent us to: asked instead of it until it fails.
    guest: Option<Node>,
}

#[derive(Debug)]
struct Node {
    address: Address,
    channel: Channel,
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
        let nodes = addresses.iter().map(|address| Node::new(net, address));
        Self {
            net: Arc::clone(net),
            state: Mutex::new(State {
                turn: 0,
                nodes: nodes.collect(),
                at: 0,
                guest: None,
            }),
        }
    }

    /// The node that is asked now, and whose turn it is.
    pub fn now(&self) -> (Channel, Turn) {
        let state = self.state();
        (state.asked().channel.clone(), Turn(state.turn))
    }

    /// Where the node is that is asked now.
    pub fn address(&self) -> Address {
        self.state().asked().address.clone()
    }

    /// Asks another node than the one that failed. Only the first of many calls that failed on it moves on: two would
    /// come back to it.
    pub fn failed(&self, Turn(failed): Turn) {
        let mut state = self.state();
        if state.turn == failed {
            state.move_on();
        }
    }

    /// Asks the node at this address, which the one that was asked said to ask instead, be it among those known from the
    /// start or not. When it fails, whoever is next after the one that named it has its turn: a wrong word costs a try,
    /// and keeps nobody from being asked.
    pub fn sent_to(&self, Turn(asked): Turn, address: &Address) {
        let mut state = self.state();
        if state.turn != asked {
            return; // Another call has moved on.
        }
        if state.asked().address == *address {
            state.move_on(); // It means itself, and does not answer.
            return;
        }
        state.turn = state.turn.wrapping_add(1);
        state.guest = None;
        match state.nodes.iter().position(|node| node.address == *address) {
            Some(known) => state.at = known,
            None => state.guest = Some(Node::new(&self.net, address)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Valid after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn asked(&self) -> &Node {
        self.guest.as_ref().unwrap_or(&self.nodes[self.at])
    }

    fn move_on(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.guest = None;
        self.at = (self.at + 1) % self.nodes.len();
    }
}

impl Node {
    fn new(net: &Arc<dyn Net>, address: &Address) -> Self {
        Self {
            address: address.clone(),
            channel: channel_with(net, address, &ChannelOptions::attentive()),
        }
    }
}

#[cfg(test)]
mod tests {
    use host::Host;

    use super::*;

    fn rotation(addresses: &[Address]) -> Rotation {
        Rotation::new(&Host::simulated("test", 1).net, addresses)
    }

    #[tokio::test]
    async fn many_calls_that_fail_on_one_node_move_on_once() {
        let addresses = ["pipe:a", "pipe:b"].map(Address::new);
        let rotation = rotation(&addresses);
        assert_eq!(rotation.address(), addresses[0]);
        let (_, turn) = rotation.now();
        rotation.failed(turn);
        rotation.failed(turn);
        rotation.sent_to(turn, &addresses[0]);
        assert_eq!(
            rotation.address(),
            addresses[1],
            "not back to the one that failed"
        );
        let (_, turn) = rotation.now();
        rotation.failed(turn);
        assert_eq!(rotation.address(), addresses[0]);
    }

    #[tokio::test]
    async fn a_node_that_nobody_knew_is_asked_until_it_fails_and_then_the_next_of_the_known() {
        let addresses = ["pipe:a", "pipe:b"].map(Address::new);
        let rotation = rotation(&addresses);
        let stranger = Address::new("pipe:c");
        let (_, turn) = rotation.now();
        rotation.sent_to(turn, &stranger);
        rotation.failed(turn);
        assert_eq!(
            rotation.address(),
            stranger,
            "it was not the one that failed"
        );
        let (_, turn) = rotation.now();
        rotation.failed(turn);
        assert_eq!(
            rotation.address(),
            addresses[1],
            "one that sends to nowhere keeps nobody from being asked"
        );
    }

    #[tokio::test]
    async fn a_known_node_is_asked_at_once_where_another_names_it() {
        let addresses = ["pipe:a", "pipe:b", "pipe:c"].map(Address::new);
        let rotation = rotation(&addresses);
        let (_, turn) = rotation.now();
        rotation.sent_to(turn, &addresses[2]);
        assert_eq!(rotation.address(), addresses[2]);
        let (_, turn) = rotation.now();
        rotation.failed(turn);
        assert_eq!(rotation.address(), addresses[0]);
    }

    #[tokio::test]
    async fn who_names_itself_is_passed_over() {
        let addresses = ["pipe:a", "pipe:b"].map(Address::new);
        let rotation = rotation(&addresses);
        let (_, turn) = rotation.now();
        rotation.sent_to(turn, &addresses[0]);
        assert_eq!(rotation.address(), addresses[1]);
    }
}
