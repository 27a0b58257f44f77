//! Merging data files of like size into one, in steps.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::store::file::DataFile;
use crate::store::format::Stored;
use crate::store::lookup::BadBlock;
use crate::store::writer::{DataWriter, Make, discard_if_full};

/// Bytes written in one step, so that flushes go between.
const STEP: u64 = 4 << 20;

/// A merge under way.
#[derive(Debug)]
pub(crate) struct MergeJob {
    make: Make,
    number: u64,
    inputs: Vec<Input>,
    writer: Option<DataWriter>,
}

/// How far a [`MergeJob`] is.
#[derive(Debug)]
pub(crate) enum Merged {
    /// More is to be written.
    More(Box<MergeJob>),
    /// The file is whole and durable; what it replaces may go once a MANIFEST says so.
    Ready {
        /// The new file.
        file: DataFile,
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

/// A file being read from front to back.
#[derive(Debug)]
struct Input {
    file: Arc<DataFile>,
    block: usize,
    entries: VecDeque<Stored>,
}

impl Input {
    /// Fills `entries` from the next block; the error is the bad block.
    fn fill(&mut self) -> Result<(), BadBlock> {
        while self.entries.is_empty() && self.block < self.file.footer().blocks.len() {
            let bytes = self
                .file
                .read_blocks(self.block, 1)
                .ok()
                .and_then(|mut blocks| blocks.pop());
            let parsed = bytes.and_then(|bytes| self.file.parse(self.block, &bytes));
            let Some(entries) = parsed else {
                return Err(BadBlock {
                    file: self.file.number(),
                    offset: self.file.footer().blocks[self.block].offset,
                });
            };
            self.entries = entries.into();
            self.block += 1;
        }
        Ok(())
    }
}

impl MergeJob {
    /// A merge of `files`, given newest first: of two copies of an entry the newer is kept.
    pub(crate) fn new(make: Make, number: u64, files: Vec<Arc<DataFile>>) -> Self {
        let inputs = files.into_iter().map(|file| Input {
            file,
            block: 0,
            entries: VecDeque::new(),
        });
        Self {
            make,
            number,
            inputs: inputs.collect(),
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
                let writer = self.writer.take().expect("a step makes the writer");
                let file = writer
                    .finish()
                    .inspect_err(|error| discard_if_full(&*disk, &path, error))?;
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

    /// Writes up to a step's bytes; whether there is more.
    fn step(&mut self) -> io::Result<Result<bool, BadBlock>> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => DataWriter::create(&self.make, self.number)?,
        };
        let stop = writer.len() + STEP;
        while writer.len() < stop {
            for input in &mut self.inputs {
                if let Err(bad) = input.fill() {
                    return Ok(Err(bad));
                }
            }
            let least = self
                .inputs
                .iter()
                .filter_map(|input| input.entries.front().map(Stored::key))
                .min();
            let Some(least) = least else {
                self.writer = Some(writer);
                return Ok(Ok(false));
            };
            let mut kept = None;
            for input in &mut self.inputs {
                if input
                    .entries
                    .front()
                    .is_some_and(|stored| stored.key() == least)
                {
                    let stored = input.entries.pop_front();
                    kept = kept.or(stored);
                }
            }
            writer.push(&kept.expect("one input has the least key"))?;
        }
        self.writer = Some(writer);
        Ok(Ok(true))
    }
}
