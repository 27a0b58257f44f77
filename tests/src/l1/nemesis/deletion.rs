//! Harm at the moments that count when a topic is deleted: of the kinds that the swarm allows.

use super::Act;
use crate::l1::agenda::{MS, SECOND};
use crate::l1::event::after;
use crate::l1::net::Host;
use crate::l1::swarm::Harm;
use crate::l1::world::World;

impl World {
    /// A serving node begins to close the topic's shard, or has closed it and asks meta: its trouble may begin here.
    pub(in crate::l1) fn harm_deletion(&mut self, server: usize, stream: u64) {
        if self.is_healed || !self.rng.one_in(2) {
            return;
        }
        let mut kinds = vec![Harm::Crash, Harm::Pause, Harm::Meta, Harm::Client];
        kinds.retain(|harm| self.swarm.allows(*harm));
        if kinds.is_empty() {
            return;
        }
        let harm = kinds[self.rng.index(kinds.len())];
        self.trace(|| format!("harm {harm:?} while the topic is being deleted"));
        match harm {
            Harm::Crash => {
                let wait = self.rng.below(2 * MS);
                self.later(wait, Act::KillServer(server));
            }
            // A successor may have the shard when it goes on.
            Harm::Pause => {
                let lease = after(0, self.swarm.lease);
                let (wait, time) = (self.rng.below(2 * MS), self.rng.below(2 * lease));
                self.later(wait, Act::Pause(Host::Server(server), time));
            }
            // Meta does it, and cannot say so.
            Harm::Meta => {
                let wait = 200 * MS + self.rng.below(4 * SECOND);
                self.cut(vec![(Host::Meta, Host::Server(server))], wait);
            }
            _ => self.stream_breaks(stream, 20 * MS),
        }
    }
}
