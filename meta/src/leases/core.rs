//! When which lease ends.

use std::collections::BTreeMap;
use std::time::Duration;

use types::{MonoTime, SessionId};

/// How often leases are looked at. Whoever waits for a lease to run out waits so much longer at most.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// A look that comes this late means that meta itself was away: nobody's keep-alive could arrive.
const PAUSE: Duration = Duration::from_secs(2);

/// The leases that run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Leases {
    running: BTreeMap<SessionId, Lease>,
    looked_at: MonoTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Lease {
    length: Duration,
    until: MonoTime,
}

impl Leases {
    pub(super) const fn new(now: MonoTime) -> Self {
        Self {
            running: BTreeMap::new(),
            looked_at: now,
        }
    }

    /// Starts a lease, or starts it anew.
    pub(super) fn renew(&mut self, now: MonoTime, id: SessionId, length: Duration) {
        let until = now.after(length);
        self.running.insert(id, Lease { length, until });
    }

    /// Starts a lease unless it runs.
    pub(super) fn start(&mut self, now: MonoTime, id: SessionId, length: Duration) {
        if !self.running.contains_key(&id) {
            self.renew(now, id, length);
        }
    }

    /// Renews a lease that runs; says whether it does.
    pub(super) fn touch(&mut self, now: MonoTime, id: SessionId) -> bool {
        let Some(lease) = self.running.get_mut(&id) else {
            return false;
        };
        lease.until = now.after(lease.length);
        true
    }

    /// Ends a lease: its session is not live.
    pub(super) fn remove(&mut self, id: SessionId) {
        self.running.remove(&id);
    }

    /// How many run.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.running.len()).expect("a usize fits")
    }

    /// Takes the leases that ran out. After a pause of meta itself none did, and all begin anew.
    pub(super) fn take_due(&mut self, now: MonoTime) -> Vec<(SessionId, Duration)> {
        let was_away = now.since(self.looked_at) > PAUSE;
        self.looked_at = now;
        if was_away {
            for lease in self.running.values_mut() {
                lease.until = now.after(lease.length);
            }
            return Vec::new();
        }
        let due = self.running.iter().filter(|(_, lease)| lease.until <= now);
        let due: Vec<_> = due.map(|(id, lease)| (*id, lease.length)).collect();
        for (id, _) in &due {
            self.running.remove(id);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> MonoTime {
        MonoTime::ZERO.after(Duration::from_millis(millis))
    }

    /// Looks at the leases as the task does, up to and including `until`.
    fn look(leases: &mut Leases, from: u64, until: u64) -> Vec<(u64, SessionId)> {
        let times = (from..=until).step_by(200);
        times
            .flat_map(|now| {
                let due = leases.take_due(at(now));
                due.into_iter().map(move |(id, _)| (now, id))
            })
            .collect()
    }

    #[test]
    fn lease_ends_once_and_not_before_its_length() {
        let mut leases = Leases::new(at(0));
        let id = SessionId::new(1);
        leases.renew(at(0), id, LEASE);
        assert_eq!(look(&mut leases, 200, 20_000), [(10_000, id)]);
    }

    #[test]
    fn sign_of_life_starts_the_lease_anew() {
        let mut leases = Leases::new(at(0));
        let id = SessionId::new(1);
        leases.renew(at(0), id, LEASE);
        assert_eq!(look(&mut leases, 200, 9_800), []);
        assert!(leases.touch(at(9_900), id));
        assert_eq!(look(&mut leases, 10_000, 19_800), []);
        assert_eq!(look(&mut leases, 20_000, 20_000), [(20_000, id)]);
        assert!(!leases.touch(at(20_100), id));
    }

    #[test]
    fn pause_of_meta_itself_ends_no_lease() {
        let mut leases = Leases::new(at(0));
        let id = SessionId::new(1);
        leases.renew(at(0), id, LEASE);
        assert_eq!(look(&mut leases, 200, 5_000), []);
        assert_eq!(leases.take_due(at(60_000)), []);
        assert_eq!(look(&mut leases, 60_200, 69_800), []);
        assert_eq!(look(&mut leases, 70_000, 70_000), [(70_000, id)]);
    }

    #[test]
    fn running_lease_is_not_started_again() {
        let mut leases = Leases::new(at(0));
        let id = SessionId::new(1);
        leases.renew(at(0), id, LEASE);
        leases.start(at(5_000), id, LEASE);
        assert_eq!(look(&mut leases, 200, 10_000), [(10_000, id)]);
        leases.start(at(10_000), id, LEASE);
        leases.remove(id);
        assert_eq!(look(&mut leases, 10_200, 30_000), []);
    }
}
