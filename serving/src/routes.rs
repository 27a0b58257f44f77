//! Who owns which shard, as meta told it: remembered until meta tells that it changed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use types::cluster::SessionState;
use types::command::{Answer, Change, Query};
use types::{Epoch, MonoTime, Problem, SessionId, ShardId};

/// Most shards that are remembered. What does not fit is asked again.
const ROUTES_MAX: usize = 100_000;

/// The owner of a shard that is not this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) session: SessionId,
    pub(crate) endpoint: String,
    pub(crate) epoch: Epoch,
}

/// What is known of the owners of shards.
#[derive(Debug)]
pub(crate) struct Routes {
    known: Mutex<Known>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    owners: BTreeMap<ShardId, Owner>,
    /// Where shards are going, or just went, and how long that counts more than meta's word.
    led: BTreeMap<ShardId, (Owner, MonoTime)>,
    /// Counts what was forgotten, so that an answer of before is not remembered after.
    forgotten: u64,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Routes {
    /// Tells whenever some route may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Remembers where a shard is going, or just went, for some time: while it moves, meta names the old owner, and
    /// then none.
    pub(crate) fn lead(&self, shard: ShardId, owner: Owner, until: MonoTime) {
        let mut known = self.lock();
        if known.led.len() < ROUTES_MAX {
            known.led.insert(shard, (owner, until));
        }
    }

    /// Where a shard is going, or just went.
    pub(crate) fn led(&self, shard: ShardId, now: MonoTime) -> Option<Owner> {
        let mut known = self.lock();
        let (owner, until) = known.led.get(&shard)?;
        if *until > now {
            return Some(owner.clone());
        }
        known.led.remove(&shard);
        None
    }

    /// The live owner of a shard; none when nobody owns it or its owner is gone.
    pub(crate) async fn owner(
        &self,
        shard: ShardId,
        meta: &meta_client::MetaClient,
        now: MonoTime,
    ) -> Result<Option<Owner>, Problem> {
        if let Some(owner) = self.led(shard, now) {
            return Ok(Some(owner));
        }
        let before = {
            let known = self.lock();
            if let Some(owner) = known.owners.get(&shard) {
                return Ok(Some(owner.clone()));
            }
            known.forgotten
        };
        let answer = meta
            .query(Query::Shard(shard))
            .await
            .map_err(Problem::from)?;
        let Answer::Shard(Some(view), Some(session)) = answer else {
            return Ok(None);
        };
        if session.state != SessionState::Live || view.record.owner != Some(session.id) {
            return Ok(None);
        }
        let owner = Owner {
            session: session.id,
            endpoint: session.endpoint,
            epoch: view.record.epoch,
        };
        let mut known = self.lock();
        if known.forgotten == before && known.owners.len() < ROUTES_MAX {
            known.owners.insert(shard, owner.clone());
        }
        Ok(Some(owner))
    }

    /// Forgets a shard's owner: somebody found that it is another.
    pub(crate) fn forget(&self, shard: ShardId) {
        let mut known = self.lock();
        known.owners.remove(&shard);
        known.forgotten += 1;
        drop(known);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Forgets also where a shard is said to have gone: it is not there.
    pub(crate) fn doubt(&self, shard: ShardId) {
        self.lock().led.remove(&shard);
        self.forget(shard);
    }

    /// Forgets what a change of the metadata makes doubtful.
    pub(crate) fn changed(&self, change: &Change) {
        match change {
            Change::Shard(shard) => self.forget(*shard),
            Change::Session(session) => {
                let mut known = self.lock();
                known.owners.retain(|_, owner| owner.session != *session);
                known.forgotten += 1;
                drop(known);
                self.changes.send_modify(|count| *count += 1);
            }
            Change::Topic(_) | Change::Subscription(_) | Change::Bookie(_) => {}
        }
    }

    /// Forgets everything: changes may have been missed.
    pub(crate) fn reset(&self) {
        let mut known = self.lock();
        known.owners.clear();
        known.forgotten += 1;
        drop(known);
        self.changes.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // What is known is valid after each statement.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn where_a_shard_went_counts_for_its_time_whatever_changes_and_until_it_is_doubted() {
        let routes = Routes::default();
        let shard = ShardId::new(1);
        let owner = Owner {
            session: SessionId::new(2),
            endpoint: "http://a:1".to_owned(),
            epoch: Epoch::new(3),
        };
        let now = MonoTime::ZERO;
        let until = now.after(Duration::from_secs(2));
        routes.lead(shard, owner.clone(), until);
        routes.changed(&Change::Shard(shard));
        routes.forget(shard);
        assert_eq!(routes.led(shard, now), Some(owner.clone()));
        assert_eq!(routes.led(ShardId::new(9), now), None);
        assert_eq!(routes.led(shard, until), None);
        routes.lead(shard, owner, until);
        routes.doubt(shard);
        assert_eq!(routes.led(shard, now), None);
    }
}
