//! Merging data files into one without what was dropped, in steps. A file alone is rewritten the same way.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use types::LedgerId;

use crate::codec::{narrow, wide};
use crate::store::buffers::Buffers;
use crate::store::file::{DataFile, Stride};
use crate::store::format::{ENTRY_HEADER, Key, Stored};
use crate::store::lookup::BadBlock;
use crate::store::writer::{DataWriter, Make, discard_if_full};

/// Bytes of entries that one step goes through, so that flushes go between.
const STEP: u64 = 4 << 20;
/// Most bytes of an input read at once, unless one block is larger. All inputs may have as many in memory.
const READ: u64 = 256 << 10;
/// Most buffers that wait to be read into again: blocks of an input are gone soon after the next ones are read.
const BUFFERS_KEPT: usize = 4;

/// A merge under way.
#[derive(Debug)]
pub(crate) struct MergeJob {
    make: Make,
    number: u64,
    inputs: Vec<Input>,
    buffers: Buffers,
    /// Ledgers whose entries are left out.
    left_out: BTreeSet<LedgerId>,
    /// Made with the first entry that is kept.
    writer: Option<DataWriter>,
}

/// How far a [`MergeJob`] is.
#[derive(Debug)]
pub(crate) enum Merged {
    /// More is to be written.
    More(Box<MergeJob>),
    /// The file is whole and durable; what it replaces may go once a MANIFEST says so.
    Ready {
        /// The new file; none when nothing was to be kept.
        file: Option<DataFile>,
        /// The numbers of the files it replaces.
        replaces: Vec<u64>,
    },
    /// An input has a bad block: its files stay as they are, so that what cannot be read stays `Unknown`.
    Given {
        /// The block.
        bad: BadBlock,
        /// The numbers of the files that were to be replaced.
        inputs: Vec<u64>,
    },
}

/// A file being read from front to back, no earlier than its entries are due.
#[derive(Debug)]
struct Input {
    file: Arc<DataFile>,
    /// The next block to be parsed.
    block: usize,
    /// Blocks that were read, from that one on.
    read: VecDeque<Bytes>,
    /// Entries of the block before.
    entries: VecDeque<Stored>,
}

impl Input {
    /// The key of the next entry, also of one that is not read yet. None at the end.
    fn next_key(&self) -> Option<Key> {
        let entry = self.entries.front().map(Stored::key);
        entry.or_else(|| Some(self.file.footer().blocks.get(self.block)?.first))
    }

    /// Passes over blocks with nothing to keep, when one has been gone through.
    fn skip(&mut self, left_out: &BTreeSet<LedgerId>) {
        let blocks = self.file.footer().blocks.len();
        while self.block < blocks && self.is_left_out(self.block, left_out) {
            self.block += 1;
            self.read.pop_front();
        }
    }

    fn is_left_out(&self, block: usize, left_out: &BTreeSet<LedgerId>) -> bool {
        let mut ledgers = self.file.ledgers_of(block);
        ledgers.all(|ledger| left_out.contains(&ledger))
    }

    /// Takes the next entry, of which [`Input::next_key`] told; the error is the bad block.
    fn take(
        &mut self,
        left_out: &BTreeSet<LedgerId>,
        buffers: &Buffers,
    ) -> Result<Option<Stored>, BadBlock> {
        if self.entries.is_empty() {
            self.fill(left_out, buffers)?;
        }
        let entry = self.entries.pop_front();
        if self.entries.is_empty() {
            self.skip(left_out);
        }
        Ok(entry)
    }

    /// Reads and parses the next block.
    fn fill(&mut self, left_out: &BTreeSet<LedgerId>, buffers: &Buffers) -> Result<(), BadBlock> {
        let bad = BadBlock {
            file: self.file.number(),
            offset: self.file.footer().blocks[self.block].offset,
        };
        if self.read.is_empty() {
            let count = self.worth_reading(left_out);
            let bytes = self
                .file
                .read_blocks(self.block, count, Stride::Whole, buffers);
            // Where some cannot be read at once, the first is read alone: it may be another that is bad.
            let bytes =
                bytes.or_else(|_| self.file.read_blocks(self.block, 1, Stride::Whole, buffers));
            let bytes = bytes.map_err(|_| bad)?;
            self.read = self.file.cut(self.block, bytes).collect();
        }
        let bytes = self.read.pop_front().expect("one was read at least");
        let entries = self.file.parse(self.block, &bytes).ok_or(bad)?;
        self.entries = entries.into();
        self.block += 1;
        Ok(())
    }

    /// How many blocks are worth reading at once, the next one among them.
    fn worth_reading(&self, left_out: &BTreeSet<LedgerId>) -> usize {
        let blocks = &self.file.footer().blocks[self.block..];
        let mut bytes = 0;
        let wanted = (self.block..).zip(blocks).take_while(|(block, meta)| {
            bytes += u64::from(meta.length);
            bytes <= READ && !self.is_left_out(*block, left_out)
        });
        wanted.count().max(1)
    }
}

impl MergeJob {
    /// A merge of `files`, given newest first: of two copies of an entry the newer is kept. No entry of the ledgers
    /// `left_out` is.
    pub(crate) fn new(
        make: Make,
        number: u64,
        files: Vec<Arc<DataFile>>,
        left_out: BTreeSet<LedgerId>,
    ) -> Self {
        let inputs = files.into_iter().map(|file| {
            let mut input = Input {
                file,
                block: 0,
                read: VecDeque::new(),
                entries: VecDeque::new(),
            };
            input.skip(&left_out);
            input
        });
        let inputs = inputs.collect();
        Self {
            make,
            number,
            inputs,
            buffers: Buffers::new(narrow(READ), BUFFERS_KEPT),
            left_out,
            writer: None,
        }
    }

    /// Does the next step.
    pub(crate) fn run(mut self: Box<Self>) -> io::Result<Merged> {
        let disk = Arc::clone(&self.make.disk);
        let path = self.make.path(self.number);
        match self.step() {
            Ok(Ok(true)) => Ok(Merged::More(self)),
            Ok(Ok(false)) => {
                let replaces = self.numbers();
                let finished = self.writer.take().map(DataWriter::finish).transpose();
                let file = finished.inspect_err(|error| discard_if_full(&*disk, &path, error))?;
                Ok(Merged::Ready { file, replaces })
            }
            Ok(Err(bad)) => {
                // Swept at the next start if this fails.
                drop(disk.remove(&path));
                Ok(Merged::Given {
                    bad,
                    inputs: self.numbers(),
                })
            }
            Err(error) => {
                discard_if_full(&*disk, &path, &error);
                Err(error)
            }
        }
    }

    fn numbers(&self) -> Vec<u64> {
        self.inputs
            .iter()
            .map(|input| input.file.number())
            .collect()
    }

    /// Goes through up to a step's bytes; whether there is more.
    fn step(&mut self) -> io::Result<Result<bool, BadBlock>> {
        let mut passed = 0;
        while passed < STEP {
            let stored = match self.next() {
                Ok(Some(stored)) => stored,
                Ok(None) => return Ok(Ok(false)),
                Err(bad) => return Ok(Err(bad)),
            };
            passed += wide(ENTRY_HEADER + stored.entry.payload.len());
            if self.left_out.contains(&stored.ledger) {
                continue;
            }
            if self.writer.is_none() {
                self.writer = Some(DataWriter::create(&self.make, self.number)?);
            }
            let writer = self.writer.as_mut().expect("just made");
            writer.push(&stored)?;
        }
        Ok(Ok(true))
    }

    /// Takes the entry with the least key from every input that has it, and gives the newest copy.
    fn next(&mut self) -> Result<Option<Stored>, BadBlock> {
        let Some(least) = self.inputs.iter().filter_map(Input::next_key).min() else {
            return Ok(None);
        };
        let mut kept = None;
        for input in &mut self.inputs {
            if input.next_key() == Some(least) {
                let stored = input.take(&self.left_out, &self.buffers)?;
                kept = kept.or(stored);
            }
        }
        Ok(kept)
    }
}
