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
    sent_to: Option<Node>,
    /// Where one sent us to last, with its connection.
    last: Option<Node>,
}

#[derive(Debug, Clone)]
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
                sent_to: None,
                last: None,
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
    /// start or not. When it fails, or sends on in its turn, whoever is next after the one that named it is asked: words
    /// may be old, and must keep nobody from being asked.
    pub fn sent_to(&self, Turn(asked): Turn, address: &Address) {
        let mut state = self.state();
        if state.turn != asked {
            return; // Another call has moved on.
        }
        if state.sent_to.is_some() || state.asked().address == *address {
            return state.move_on();
        }
        let mut known = state.nodes.iter().chain(&state.last);
        let known = known.find(|node| node.address == *address).cloned();
        let node = known.unwrap_or_else(|| Node::new(&self.net, address));
        state.turn = state.turn.wrapping_add(1);
        state.last = Some(node.clone());
        state.sent_to = Some(node);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Valid after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn asked(&self) -> &Node {
        self.sent_to.as_ref().unwrap_or(&self.nodes[self.at])
    }

    fn move_on(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.sent_to = None;
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
        assert_eq!(rotation.address(), addresses[1], "next after who named it");
    }

    #[tokio::test]
    async fn old_words_keep_nobody_from_being_asked() {
        let addresses = ["pipe:a", "pipe:b", "pipe:c"].map(Address::new);
        for stale in 0..3 {
            let rotation = rotation(&addresses);
            let active = &addresses[(stale + 1) % 3];
            let dead = &addresses[(stale + 2) % 3];
            let mut asked = 0;
            while rotation.address() != *active {
                let (at, (_, turn)) = (rotation.address(), rotation.now());
                if at == *dead {
                    rotation.failed(turn);
                } else {
                    rotation.sent_to(turn, dead);
                }
                asked += 1;
                assert!(asked < 6, "from {stale} nobody asks {active}");
            }
        }
    }

    #[tokio::test]
    async fn two_who_name_each_other_keep_nobody_from_being_asked() {
        let addresses = ["pipe:a", "pipe:b", "pipe:c"].map(Address::new);
        let rotation = rotation(&addresses);
        for expected in [0, 1, 1, 0, 2] {
            assert_eq!(rotation.address(), addresses[expected]);
            let (_, turn) = rotation.now();
            rotation.sent_to(turn, &addresses[usize::from(expected == 0)]);
        }
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
