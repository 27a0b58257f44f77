//! Harm to disks: errors, want of room, slowness, loss.

use std::time::Duration;

use host::disk::Disk as _;
use host::disk::sim::{Fault, FaultRates, Latency, OpKind};

use super::Act;
use crate::l1::agenda::{MS, SECOND};
use crate::l1::world::World;

impl World {
    pub(super) fn harm_disk_error(&mut self) {
        let at = self.a_bookie();
        let kinds = [
            OpKind::Sync,
            OpKind::Sync,
            OpKind::Write,
            OpKind::SyncDir,
            OpKind::Name,
            OpKind::SetLen,
        ];
        let kind = kinds[self.rng.index(kinds.len())];
        self.bookies[at].disk.fail_next(kind, Fault::Io);
    }

    pub(super) fn harm_disk_full(&mut self) {
        let at = self.a_bookie();
        let bookie = &self.bookies[at];
        let [dir, _] = bookie.dirs();
        if let Ok(space) = bookie.disk.space(&dir) {
            let used = space.total_bytes - space.free_bytes;
            let room = self.rng.below(400 << 10);
            bookie.disk.set_capacity(Some(used + room));
        }
        let wait = SECOND + self.rng.below(5 * SECOND);
        self.later(wait, Act::DiskGood(at));
    }

    pub(super) fn harm_disk_slow(&mut self) {
        let at = self.a_bookie();
        let times = 2 + u32::try_from(self.rng.below(60)).unwrap_or(0);
        let bookie = &self.bookies[at];
        let slow = Latency {
            per_op: bookie.latency.per_op * times,
            per_mib: bookie.latency.per_mib,
            per_sync: bookie.latency.per_sync * times,
            jitter_max: Duration::from_millis(1),
        };
        bookie.disk.set_latency(slow);
        let wait = self.rng.below(5 * SECOND);
        self.later(wait, Act::DiskGood(at));
    }

    pub(super) fn harm_disk_loss(&mut self) {
        if self.swarm.damageable.is_none() {
            return;
        }
        let Some(at) = (match self.swarm.is_beyond {
            true => Some(self.a_bookie()),
            false => self.a_victim(),
        }) else {
            return;
        };
        let wait = 20 * MS + self.rng.below(2 * SECOND);
        let [journal, data] = self.bookies[at].dirs();
        match self.rng.below(8) {
            0 | 1 => {
                let bookie = &mut self.bookies[at];
                let life = bookie.life;
                if bookie.is_open() {
                    let copies = (bookie.disk.copy_out(&journal), bookie.disk.copy_out(&data));
                    bookie.copy = Some((life, copies.0, copies.1));
                }
            }
            2 | 3 => {
                let bookie = &mut self.bookies[at];
                // A disk older than what meta knows of it: set back over a registration.
                let (life, is_open) = (bookie.life, bookie.is_open());
                if let Some((_, old_journal, old_data)) =
                    bookie.copy.take_if(|copy| copy.0 < life && is_open)
                {
                    self.is_harmed(at);
                    self.bookie_crash(at, wait);
                    let disk = &self.bookies[at].disk;
                    disk.put_back(&journal, &old_journal);
                    disk.put_back(&data, &old_data);
                    self.trace(|| format!("bookie-{at} is set back"));
                    if self.rng.one_in(2) {
                        // It starts, and dies before meta has heard of it.
                        let soon = wait + self.rng.below(MS / 2);
                        self.later(soon, Act::Kill(at));
                    }
                }
            }
            4 | 5 => {
                self.is_harmed(at);
                self.bookie_crash(at, wait);
                let which = self.rng.below(3);
                let disk = &self.bookies[at].disk;
                if which != 0 {
                    disk.wipe(&journal);
                }
                if which != 1 {
                    disk.wipe(&data);
                }
                self.trace(|| format!("bookie-{at} is wiped {which}"));
            }
            6 => {
                self.is_harmed(at);
                self.observer.blind(at);
                let rates = FaultRates {
                    misdirect_per_million: 20_000,
                    ..FaultRates::default()
                };
                self.bookies[at].disk.set_fault_rates(rates);
                self.later(wait, Act::DiskGood(at));
            }
            _ => self.flip(at),
        }
    }

    fn flip(&mut self, at: usize) {
        self.is_harmed(at);
        self.observer.blind(at);
        let files = self.bookies[at].disk.files();
        if files.is_empty() {
            return;
        }
        let file = &files[self.rng.index(files.len())];
        let disk = &self.bookies[at].disk;
        let len = disk.contents(file).map_or(0, |bytes| bytes.len());
        if len == 0 {
            return;
        }
        // What a file begins with is what is written most.
        let most = if self.rng.one_in(2) {
            len
        } else {
            len.min(16 << 10)
        };
        let bit = self.rng.below(8 * u64::try_from(most).unwrap_or(1));
        // It may have gone meanwhile.
        let _ = disk.flip(file, bit);
        let file = file.display().to_string();
        self.trace(|| format!("bookie-{at}: bit {bit} of {file} flips"));
        if self.rng.one_in(2) {
            let wait = self.rng.below(SECOND);
            self.bookie_crash(at, wait);
        }
    }

    pub(super) fn disk_good(&mut self, at: usize) {
        let bookie = &self.bookies[at];
        bookie.disk.set_capacity(None);
        bookie.disk.set_latency(bookie.latency);
        bookie.disk.set_fault_rates(FaultRates::default());
    }
}
