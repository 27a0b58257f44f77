//! What goes on behind the answers: flushes, the MANIFEST, journal files, removals.
//!
//! Order is everything here. A data file is durable before a MANIFEST names it; journal files and replaced data files
//! go only after a MANIFEST that does not need them is durable (I20). A disk that is full is waited for, with new
//! files each time; every other failure of a write or a sync is fatal (I21).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use types::MonoTime;

use crate::job::{Work, Worker};
use crate::journal::format::FileHeader;
use crate::journal::jobs::{PrepareJob, Prepared};
use crate::manifest::Manifest;
use crate::store::file::DataFile;

use super::merge::Merging;
use super::tables::{Flushing, Stage};
use super::{Effect, Engine, Forgotten, Opened, Standing, run};

/// Journal files in use at which the memtable is flushed, full or not.
const JOURNAL_FILES: usize = 4;
/// Used journal files kept besides the one being written and the next.
const SPARES: usize = 1;

/// The state of the work behind the answers.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// The checkpoint mark of the last durable MANIFEST.
    pub(super) mark: u64,
    /// Whether files or what is dropped changed since the last MANIFEST was begun.
    pub(super) is_dirty: bool,
    /// The MANIFEST being written.
    manifest: Option<Writing>,
    is_preparing: bool,
    pub(super) merging: Option<Merging>,
    /// Whether files, what is live in them or free space changed since it was seen which are to go or to be merged.
    pub(super) looks_at_files: bool,
    is_removing: bool,
    /// Data files that hold nothing live or were replaced by a merge; they go after the next MANIFEST.
    pub(super) replaced: Vec<u64>,
    /// Data files that no MANIFEST names.
    pub(super) obsolete: Vec<u64>,
    /// Data files with a bad block: never merged, so that what cannot be read stays `Unknown`.
    pub(super) resting: Vec<u64>,
    /// Used journal files, with their sizes.
    pub(super) spares: Vec<(PathBuf, u64)>,
    pub(super) free_bytes: u64,
    pub(super) space_at: MonoTime,
    pub(super) is_asking_space: bool,
    /// Whether a write found the disk full, and when to try again.
    pub(super) is_full: bool,
    pub(super) retry_at: Option<MonoTime>,
    pub(super) standing: Standing,
    /// Files that went because nothing in them was live, since the start.
    pub(super) files_dropped: u64,
    /// Files that were rewritten because little in them was, since the start.
    pub(super) files_rewritten: u64,
}

/// What a MANIFEST on its way changes once it is durable.
#[derive(Debug)]
struct Writing {
    mark: u64,
    ends_flush: bool,
    replaced: Vec<u64>,
}

impl Upkeep {
    pub(super) fn new(opened: &Opened, now: MonoTime) -> Self {
        let is_low = opened.free_bytes < opened.config.free_low.get();
        Self {
            mark: opened.mark,
            is_dirty: false,
            manifest: None,
            is_preparing: false,
            merging: None,
            looks_at_files: true,
            is_removing: false,
            replaced: Vec::new(),
            obsolete: Vec::new(),
            resting: Vec::new(),
            spares: opened.spares.clone(),
            free_bytes: opened.free_bytes,
            // At once: the first call starts what opening left to do.
            space_at: now,
            is_asking_space: false,
            is_full: false,
            retry_at: None,
            standing: if is_low {
                Standing::ReadOnly
            } else {
                Standing::ReadWrite
            },
            files_dropped: 0,
            files_rewritten: 0,
        }
    }

    pub(super) fn deadline(&self) -> Option<MonoTime> {
        let space = (!self.is_asking_space).then_some(self.space_at);
        space.into_iter().chain(self.retry_at).min()
    }
}

impl Engine {
    /// Starts whatever can be started.
    pub(super) fn upkeep(&mut self, now: MonoTime, effects: &mut Vec<Effect>) {
        if self.upkeep.retry_at.is_some_and(|at| at <= now) {
            self.upkeep.retry_at = None;
        }
        self.ask_space(now, effects);
        self.remove(effects);
        if self.upkeep.retry_at.is_some() {
            return;
        }
        self.drop_dead();
        self.rotate();
        self.flush(effects);
        self.write_manifest(effects);
        self.prepare(effects);
        self.merge(effects);
    }

    /// Sets a full memtable aside, without what is gone. Everything else that is durable is in it or was flushed before,
    /// and the MANIFEST that moves the mark past it has the facts by which the rest is gone.
    fn rotate(&mut self) {
        let is_full = self.tables.active.bytes() >= self.config.memtable.get();
        let is_long = self.journal.files_in_use() >= JOURNAL_FILES;
        if self.tables.flushing.is_some() || !(is_full || is_long) {
            return;
        }
        let mut table = std::mem::take(&mut self.tables.active);
        table.keep(|ledger| self.gone(ledger).is_none());
        let stage = if table.is_empty() {
            // Only fences, idle frames and what is gone: the MANIFEST alone carries the mark on.
            self.upkeep.is_dirty = true;
            Stage::Written
        } else {
            Stage::Waiting
        };
        self.tables.flushing = Some(Flushing {
            table: Arc::new(table),
            mark: self.journal.durable() + 1,
            stage,
        });
    }

    fn flush(&mut self, effects: &mut Vec<Effect>) {
        let Some(flushing) = &mut self.tables.flushing else {
            return;
        };
        if flushing.stage != Stage::Waiting {
            return;
        }
        flushing.stage = Stage::Writing;
        let table = Arc::clone(&flushing.table);
        let work = Work::Flush {
            make: self.make.clone(),
            number: self.tables.take_number(),
            table,
        };
        effects.push(run(Worker::Store, work));
    }

    pub(super) fn flushed(
        &mut self,
        now: MonoTime,
        end: io::Result<DataFile>,
        effects: &mut Vec<Effect>,
    ) {
        let flushing = self.tables.flushing.as_mut();
        let flushing = flushing.expect("a flush ends once");
        match end {
            Ok(file) => {
                flushing.stage = Stage::Written;
                self.hold(file);
                self.not_full(effects);
            }
            Err(error) => {
                flushing.stage = Stage::Waiting;
                self.store_failed(now, "data file", &error, effects);
            }
        }
    }

    fn write_manifest(&mut self, effects: &mut Vec<Effect>) {
        if !self.upkeep.is_dirty || self.upkeep.manifest.is_some() {
            return;
        }
        self.upkeep.is_dirty = false;
        let flushed = self
            .tables
            .flushing
            .as_ref()
            .filter(|flushing| flushing.stage == Stage::Written);
        let writing = Writing {
            mark: flushed.map_or(self.upkeep.mark, |flushing| flushing.mark),
            ends_flush: flushed.is_some(),
            replaced: std::mem::take(&mut self.upkeep.replaced),
        };
        let manifest = self.manifest(writing.mark);
        self.upkeep.manifest = Some(writing);
        effects.push(run(
            Worker::Store,
            Work::Manifest {
                disk: Arc::clone(&self.disk),
                dir: self.make.dir.clone(),
                manifest: Box::new(manifest),
            },
        ));
    }

    fn manifest(&self, mark: u64) -> Manifest {
        let files = self.tables.files.iter();
        Manifest {
            cluster: self.make.cluster,
            set: self.make.set,
            id: self.whose.id,
            born: self.acceptor.born(),
            incarnation: self.whose.incarnation,
            mark,
            last_frame: self.journal.durable(),
            next_file: self.tables.next_file,
            files: files
                .map(|(number, file)| (*number, file.listed()))
                .collect(),
            // Facts that are in effect and not durable yet may be among them: each is true already.
            logs: self.acceptor.facts().collect(),
            deleted: self.acceptor.deleted().collect(),
        }
    }

    pub(super) fn manifest_written(
        &mut self,
        now: MonoTime,
        end: io::Result<()>,
        effects: &mut Vec<Effect>,
    ) {
        let writing = self.upkeep.manifest.take();
        let writing = writing.expect("a MANIFEST ends once");
        if let Err(error) = end {
            self.upkeep.is_dirty = true;
            self.upkeep.replaced.extend(writing.replaced);
            self.store_failed(now, "MANIFEST", &error, effects);
            return;
        }
        assert!(writing.mark >= self.upkeep.mark, "the mark never goes back");
        self.upkeep.mark = writing.mark;
        if writing.ends_flush {
            let flushed = self.tables.flushing.take();
            let forgotten = flushed.map(|it| Forgotten { _table: it.table });
            effects.extend(forgotten.map(Effect::Forget));
        }
        self.upkeep.obsolete.extend(writing.replaced);
        let free = self.journal.recycle(writing.mark);
        let free = free.into_iter().map(|file| (file.path, file.size));
        self.upkeep.spares.extend(free);
        self.not_full(effects);
    }

    /// Makes the journal's next file, so that it is there before it is needed.
    fn prepare(&mut self, effects: &mut Vec<Effect>) {
        let is_needed = !self.is_stopping || self.journal.is_stalled();
        if self.upkeep.is_preparing || !is_needed || !self.journal.wants_file() {
            return;
        }
        self.upkeep.is_preparing = true;
        let number = self.journal.take_number();
        let header = FileHeader {
            cluster: self.make.cluster,
            set: self.make.set,
            number,
            size: self.config.journal_file.get(),
            uuid: file_uuid(self.whose.entropy, number),
        };
        let spares = &mut self.upkeep.spares;
        let fits = spares.iter().position(|(_, size)| *size == header.size);
        let source = fits.map(|at| spares.remove(at).0);
        let job = PrepareJob::new(
            Arc::clone(&self.disk),
            self.config.journal_dir.clone(),
            header,
            source,
            self.config.kept(),
        );
        effects.push(run(Worker::Store, Work::Prepare(job)));
    }

    pub(super) fn prepared(
        &mut self,
        now: MonoTime,
        end: io::Result<Prepared>,
        effects: &mut Vec<Effect>,
    ) {
        match end {
            Ok(Prepared::More(job)) => effects.push(run(Worker::Store, Work::Prepare(job))),
            Ok(Prepared::Ready(file)) => {
                self.upkeep.is_preparing = false;
                self.journal.supply(file);
                self.not_full(effects);
            }
            Err(error) => {
                self.upkeep.is_preparing = false;
                self.store_failed(now, "journal file", &error, effects);
            }
        }
    }

    /// Removes what no MANIFEST names any more. A removal that fails is made up for at the next start.
    fn remove(&mut self, effects: &mut Vec<Effect>) {
        if self.upkeep.is_removing {
            return;
        }
        let journal_file = self.config.journal_file.get();
        let mut kept = 0;
        let (keep, drop): (Vec<_>, Vec<_>) = std::mem::take(&mut self.upkeep.spares)
            .into_iter()
            .partition(|(_, size)| {
                let fits = *size == journal_file && kept < SPARES + 1;
                kept += usize::from(fits);
                fits
            });
        self.upkeep.spares = keep;
        let journal: Vec<PathBuf> = drop.into_iter().map(|(path, _)| path).collect();
        let data: Vec<PathBuf> = std::mem::take(&mut self.upkeep.obsolete)
            .into_iter()
            .map(|number| self.make.path(number))
            .collect();
        let (dir, paths) = if !data.is_empty() {
            // The journal's wait for the next round.
            let sized = journal.into_iter().map(|path| (path, 0));
            self.upkeep.spares.extend(sized);
            (self.make.dir.clone(), data)
        } else if !journal.is_empty() {
            (self.config.journal_dir.clone(), journal)
        } else {
            return;
        };
        self.upkeep.is_removing = true;
        let disk = Arc::clone(&self.disk);
        effects.push(run(Worker::Store, Work::Remove { disk, dir, paths }));
    }

    pub(super) fn removed(&mut self, _is_done: bool) {
        self.upkeep.is_removing = false;
    }
}

/// The uuid of a journal file: random bits of this start, spread by the file's number (SplitMix64's finish).
pub(crate) fn file_uuid(entropy: u128, number: u64) -> u128 {
    let mix = |mut bits: u64| {
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let low = u128::from(mix(number
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let high = u128::from(mix(
        number.wrapping_mul(0xd1b5_4a32_d192_ed03) ^ 0x2545_f491_4f6c_dd1d
    ));
    entropy ^ (high << 64) ^ low
}
