//! The disk, asked as a bookie asks it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::{Context, bail};
use host::Rng;
use host::disk::{AlignedBuf, BLOCK, Disk, File, OpenMode, RealDisk};
use types::ByteSize;

use crate::args::Args;
use crate::rounds::{Round, Rounds, Times};
use crate::rows::{
    JOURNAL_AND_DATA, READ_1, READ_2, Row, SYNC_BUFFERED_P50, SYNC_BUFFERED_P99, SYNC_DIRECT_P50,
    SYNC_DIRECT_P99, WRITE,
};

/// Bytes of a large write or read: a frame of the journal, a piece of a data file.
const PIECE: usize = 1 << 20;
/// Most pieces of a table: what a bookie gathers in memory before it writes it to a data file.
const TABLE_PIECES: u64 = 64;
/// Room that is left to others.
const SPARE: u64 = 64 << 20;

/// Measures all of it. Says also whether writes and reads went past the system's cache.
pub(crate) fn measure(rounds: &Rounds, args: &Args) -> anyhow::Result<(Vec<Row>, bool)> {
    let failed = || {
        format!(
            "the disk cannot be measured in {}: set --dir to another directory, or --file-size to less",
            args.dir.display()
        )
    };
    let bed = Bed::make(args).with_context(failed)?;
    let rows = bed.measure(rounds).with_context(failed)?;
    Ok((rows, bed.file.is_direct() && bed.reading.is_direct()))
}

/// A file that was written over once, another beside it, and what is written to them.
///
/// Their names go as soon as they are open: whatever happens to this process, nothing stays. They themselves go when all is
/// measured: some file systems are long about it, and the disk is busy meanwhile.
struct Bed {
    size: u64,
    /// Writing past the cache, where the file system takes it.
    file: Arc<dyn File>,
    /// The file beside it.
    data: Arc<dyn File>,
    /// Writing through the cache.
    buffered: Arc<dyn File>,
    /// Reading past the cache, where the file system takes it.
    reading: Arc<dyn File>,
    noise: AlignedBuf,
}

impl Bed {
    fn make(args: &Args) -> anyhow::Result<Self> {
        let (dir, size) = (&args.dir, args.file_size.get());
        let free = RealDisk.space(dir)?.free_bytes;
        let needed = 2 * size + SPARE;
        if free < needed {
            let [free, needed] = [free, needed].map(ByteSize::new);
            bail!("too little room free={free} needed={needed}");
        }
        let path = scratch(dir);
        let file = RealDisk.open_direct(&path, OpenMode::CreateNew)?;
        let others = open_others(&path);
        RealDisk.remove(&path)?;
        let (buffered, reading) = others?;
        let mut noise = AlignedBuf::zeroed(PIECE);
        Rng::from_os().fill(&mut noise);
        let path = scratch(dir);
        let data = RealDisk.open_direct(&path, OpenMode::CreateNew)?;
        RealDisk.remove(&path)?;
        let bed = Self {
            size,
            file,
            data,
            buffered,
            reading,
            noise,
        };
        for at in (0..size).step_by(PIECE) {
            bed.file.write_at(at, &bed.noise)?;
            bed.data.write_at(at, &bed.noise)?;
        }
        bed.file.sync_data()?;
        bed.data.sync_data()?;
        Ok(bed)
    }

    fn measure(&self, rounds: &Rounds) -> io::Result<Vec<Row>> {
        let mut direct = self.syncs(rounds, &*self.file)?;
        let mut buffered = self.syncs(rounds, &*self.buffered)?;
        let by = |work: &dyn Fn(&Round<'_>) -> io::Result<u64>| -> io::Result<Vec<f64>> {
            let one = |_| {
                let round = rounds.begin();
                let bytes = work(&round)?;
                Ok(round.rate(bytes))
            };
            rounds.all().map(one).collect()
        };
        Ok(vec![
            Row::of_times(SYNC_DIRECT_P50, 50, &mut direct),
            Row::of_times(SYNC_DIRECT_P99, 99, &mut direct),
            Row::of_times(SYNC_BUFFERED_P50, 50, &mut buffered),
            Row::of_times(SYNC_BUFFERED_P99, 99, &mut buffered),
            Row::of_rates(WRITE, by(&|round| self.writes(round))?),
            Row::of_rates(JOURNAL_AND_DATA, by(&|round| self.pair(round))?),
            Row::of_rates(READ_1, by(&|round| self.reads(round, 1))?),
            Row::of_rates(READ_2, by(&|round| self.reads(round, 2))?),
        ])
    }

    /// Small writes, each synced.
    fn syncs(&self, rounds: &Rounds, file: &dyn File) -> io::Result<Vec<Times>> {
        let mut place = self.places(BLOCK);
        let mut one_round = || {
            let round = rounds.begin();
            let mut times = Times::default();
            while round.goes_on() {
                let began = round.took();
                file.write_at(place(), &self.noise[..BLOCK])?;
                file.sync_data()?;
                times.push(round.took() - began);
            }
            Ok(times)
        };
        rounds.all().map(|_| one_round()).collect()
    }

    /// Large writes, synced at the end.
    fn writes(&self, round: &Round<'_>) -> io::Result<u64> {
        let mut place = self.places(PIECE);
        let mut bytes = 0;
        while round.goes_on() {
            self.file.write_at(place(), &self.noise)?;
            bytes += PIECE as u64;
        }
        self.file.sync_data()?;
        Ok(bytes)
    }

    /// Frames to the journal, each synced, and each of them once more to the data file: a table after the other, while the
    /// next one fills.
    fn pair(&self, round: &Round<'_>) -> io::Result<u64> {
        // Nobody waits in it: the journal goes on when the table before was written.
        let (full, tables) = sync_channel(0);
        thread::scope(|scope| {
            let second = scope.spawn(|| self.data(tables));
            let bytes = self.journal(round, full);
            second.join().expect("it does not panic")?;
            bytes
        })
    }

    /// Writes frames, a table full at a time, until the round is over or the file has no room for another.
    fn journal(&self, round: &Round<'_>, full: SyncSender<()>) -> io::Result<u64> {
        let table = self.table_pieces() * PIECE as u64;
        let mut bytes = 0;
        while round.goes_on() && bytes + table <= self.size {
            for at in (bytes..bytes + table).step_by(PIECE) {
                self.file.write_at(at, &self.noise)?;
                self.file.sync_data()?;
            }
            bytes += table;
            if full.send(()).is_err() {
                break; // The data file's error is told.
            }
        }
        Ok(bytes)
    }

    /// Writes each table to the data file.
    fn data(&self, tables: Receiver<()>) -> io::Result<()> {
        let table = self.table_pieces() * PIECE as u64;
        let mut start = 0;
        for () in tables {
            for at in (start..start + table).step_by(PIECE) {
                self.data.write_at(at, &self.noise)?;
                // As a bookie does it, so that nothing gathers in the cache.
                if !self.data.is_direct() {
                    self.data.sync_data()?;
                }
            }
            self.data.sync_data()?;
            start += table;
        }
        Ok(())
    }

    /// Pieces of a table: several tables fit into the file.
    fn table_pieces(&self) -> u64 {
        (self.size / PIECE as u64 / 4).min(TABLE_PIECES)
    }

    /// Large reads, so many under way.
    fn reads(&self, round: &Round<'_>, readers: usize) -> io::Result<u64> {
        let next = AtomicU64::new(0);
        let read = || -> io::Result<u64> {
            let mut into = AlignedBuf::zeroed(PIECE);
            let mut bytes = 0;
            while round.goes_on() {
                let at = next.fetch_add(PIECE as u64, Ordering::Relaxed) % self.size;
                bytes += self.reading.read_at(at, &mut into)? as u64;
            }
            Ok(bytes)
        };
        thread::scope(|scope| {
            let running: Vec<_> = (0..readers).map(|_| scope.spawn(read)).collect();
            let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
            ended.map(|read| read.expect("it does not panic")).sum()
        })
    }

    /// Where writes of so many bytes go: one behind the other, round and round.
    fn places(&self, step: usize) -> impl FnMut() -> u64 {
        let mut all = (0..self.size).step_by(step).cycle();
        move || all.next().expect("it goes round")
    }
}

/// A name that nobody has.
fn scratch(dir: &Path) -> PathBuf {
    dir.join(format!(".ledgerline-floor-{:016x}", Rng::from_os().u64()))
}

/// The same file through the cache, and for reads past it where the file system takes those.
fn open_others(path: &Path) -> io::Result<(Arc<dyn File>, Arc<dyn File>)> {
    let buffered = RealDisk.open(path, OpenMode::ReadWrite)?;
    Ok((buffered, RealDisk.open_direct(path, OpenMode::Read)?))
}
