//! Spreading shards over serving nodes: what nobody owns is opened, what is spread badly moves, and a drained node's
//! shards go to others.
//!
//! [`plan`] decides, from what meta tells and from what this node knows of its own shards; [`task`] asks, does, and
//! waits. Nobody leads: every node makes the same plan of the same facts, and each does its own part.
#![doc = ""]
#![doc = include_str!("DESIGN.md")]

mod plan;
mod task;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use types::cluster::{ServingNode, SessionRecord};
use types::{SessionId, ShardId};

pub(crate) use task::{give_away, places, run};

/// How shards are spread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceConfig {
    /// How often a node looks at how shards are spread. None: nothing is opened or moved but away from drained nodes and
    /// those that stop.
    pub interval: Option<Duration>,
    /// Most shards that move away from the node at a time.
    pub moves: usize,
    /// How long a shard stays where it was opened before it may move for the sake of balance.
    pub rest: Duration,
}

impl Default for BalanceConfig {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_secs(10)),
            moves: 4,
            rest: Duration::from_secs(60),
        }
    }
}

/// Why a [`BalanceConfig`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BalanceConfigError {
    /// Looking costs meta a read of every shard; who looks too seldom leaves topics without an owner.
    #[error("--balance-interval must be 100ms to 1h, or off interval={interval:?}")]
    Interval {
        /// The interval.
        interval: Duration,
    },
    /// Without a move at a time no node could be drained; many at a time leave many topics between owners.
    #[error("--balance-moves must be 1 to {MOVES_MOST} moves={moves}")]
    Moves {
        /// The number.
        moves: usize,
    },
    /// Nothing would move for as long.
    #[error("--balance-rest must be at most 24h rest={rest:?}")]
    Rest {
        /// The time.
        rest: Duration,
    },
}

/// Most moves at a time that can be set.
const MOVES_MOST: usize = 64;

impl BalanceConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    ///
    /// [`BalanceConfigError`] names the setting.
    pub fn validate(&self) -> Result<(), BalanceConfigError> {
        let bounds = Duration::from_millis(100)..=Duration::from_secs(60 * 60);
        if let Some(interval) = self.interval.filter(|it| !bounds.contains(it)) {
            return Err(BalanceConfigError::Interval { interval });
        }
        let moves = self.moves;
        if moves == 0 || moves > MOVES_MOST {
            return Err(BalanceConfigError::Moves { moves });
        }
        let rest = self.rest;
        if rest > Duration::from_secs(24 * 60 * 60) {
            return Err(BalanceConfigError::Rest { rest });
        }
        Ok(())
    }
}

/// What the last look at the nodes has told, and the wish for another.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    nodes: Mutex<Vec<ServingNode>>,
    /// What this node's shards do.
    load: AtomicU64,
    soon: Notify,
}

impl Balance {
    /// Asks for a look soon: a node came, went, or is drained.
    pub(crate) fn look_soon(&self) {
        self.soon.notify_one();
    }

    /// Who is to open a shard instead of this node; none when this node may. A drained one opens nothing while another
    /// can.
    pub(crate) fn instead_of(&self, own: SessionId, shard: ShardId) -> Option<SessionRecord> {
        let nodes = self.lock();
        let is_drained = |node: &ServingNode| node.session.id == own && node.is_drained;
        if !nodes.iter().any(is_drained) {
            return None;
        }
        let takers = nodes.iter().filter(|node| node.takes_shards());
        let chosen = plan::chosen(shard, takers.map(|node| node.session.id))?;
        let mut sessions = nodes.iter().map(|node| &node.session);
        sessions.find(|session| session.id == chosen).cloned()
    }

    /// What this node's shards do, as the last look found.
    pub(crate) fn load(&self) -> u64 {
        self.load.load(Ordering::Relaxed)
    }

    fn tell_load(&self, load: u64) {
        self.load.store(load, Ordering::Relaxed);
    }

    fn remember(&self, nodes: Vec<ServingNode>) {
        *self.lock() = nodes;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ServingNode>> {
        // The list is replaced in one statement.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_bounds_are_named() {
        let good = BalanceConfig::default();
        assert_eq!(good.validate(), Ok(()));
        let off = BalanceConfig {
            interval: None,
            ..good.clone()
        };
        assert_eq!(off.validate(), Ok(()));
        let interval = Duration::from_millis(99);
        let often = BalanceConfig {
            interval: Some(interval),
            ..good.clone()
        };
        assert_eq!(
            often.validate(),
            Err(BalanceConfigError::Interval { interval })
        );
        for moves in [0, MOVES_MOST + 1] {
            let config = BalanceConfig {
                moves,
                ..good.clone()
            };
            assert_eq!(config.validate(), Err(BalanceConfigError::Moves { moves }));
        }
        let rest = Duration::from_secs(100_000);
        let lazy = BalanceConfig { rest, ..good };
        let said = lazy.validate().unwrap_err().to_string();
        assert!(said.contains("--balance-rest"), "{said}");
    }
}
