//! Whether a node may be sent work, for whoever sends it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A part of a node that can say whether it may be sent work.
pub trait Probe: Send + Sync + 'static {
    /// Says so, now. Waits for nothing.
    ///
    /// # Errors
    ///
    /// Why not, in a few words for a person.
    fn ready(&self) -> Result<(), &'static str>;
}

/// The parts of a process that must all be ready. Clones are the same.
///
/// It keeps no part alive: one that is gone has stopped. It belongs to a process and not to one node, so a part is told
/// by its role.
#[derive(Clone, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<&'static str, Part>>>,
}

enum Part {
    Starting,
    Started(Weak<dyn Probe>),
}

impl Health {
    /// A part is on its way: until it has started the process is not ready.
    pub fn starting(&self, part: &'static str) {
        self.lock().insert(part, Part::Starting);
    }

    /// A part has started, and from now on is asked.
    pub fn started(&self, part: &'static str, probe: &Arc<impl Probe>) {
        let probe: Weak<dyn Probe> = Arc::downgrade(probe) as Weak<dyn Probe>;
        self.lock().insert(part, Part::Started(probe));
    }

    /// What keeps the process from being ready: parts with their reasons. Empty when it is.
    pub fn hindrances(&self) -> Vec<(&'static str, &'static str)> {
        let ready = |part: &Part| match part {
            Part::Starting => Err("starting"),
            Part::Started(probe) => probe
                .upgrade()
                .map_or(Err("stopped"), |probe| probe.ready()),
        };
        let parts = self.lock();
        let told = parts.iter().map(|(name, part)| (*name, ready(part)));
        told.filter_map(|(name, ready)| Some((name, ready.err()?)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Part>> {
        // One map, whole after each statement.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lock().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Result<(), &'static str>);

    impl Probe for Fixed {
        fn ready(&self) -> Result<(), &'static str> {
            self.0
        }
    }

    #[test]
    fn every_part_must_have_started_and_be_ready_and_be_there() {
        let health = Health::default();
        assert_eq!(health.hindrances(), []);
        health.starting("bookie");
        health.clone().starting("serving");
        let not_yet = [("bookie", "starting"), ("serving", "starting")];
        assert_eq!(health.hindrances(), not_yet);
        let (bookie, serving) = (Arc::new(Fixed(Err("read-only"))), Arc::new(Fixed(Ok(()))));
        health.started("bookie", &bookie);
        health.started("serving", &serving);
        assert_eq!(health.hindrances(), [("bookie", "read-only")]);
        drop(serving);
        let one_gone = [("bookie", "read-only"), ("serving", "stopped")];
        assert_eq!(health.hindrances(), one_gone);
    }
}
