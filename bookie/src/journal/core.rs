//! What is gathered, what is on its way, and where it goes. No IO.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::disk::File;
use types::{EntryId, Epoch, LedgerId, LogId, MonoTime};

use crate::codec::{narrow, wide};
use crate::journal::format::{FRAME_HEADER, FileHeader, FrameKind, FramePlace, Record, frame_len};
use crate::journal::jobs::FrameJob;

/// A journal file ready to be written to.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: Arc<dyn File>,
    pub(crate) header: FileHeader,
    pub(crate) path: PathBuf,
    /// Where the next frame goes.
    pub(crate) end: u64,
}

/// A journal file that is full.
#[derive(Debug)]
pub(crate) struct FullFile {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    /// The sequence of its last frame.
    pub(crate) last: u64,
}

/// What became durable with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    Add(LedgerId, EntryId),
    Fence(LogId, Epoch),
}

/// A frame that is with the worker.
#[derive(Debug)]
struct InFlight {
    kind: FrameKind,
    durable: Vec<Durable>,
    /// Whether it is the first of its file.
    is_first: bool,
}

/// What the end of a frame means.
#[derive(Debug)]
pub(crate) struct Synced {
    pub(crate) kind: FrameKind,
    pub(crate) durable: Vec<Durable>,
    /// The mark to tell meta, when the journal went on to another file.
    pub(crate) moved: Option<u64>,
}

/// The journal's state between events.
#[derive(Debug)]
pub(crate) struct JournalCore {
    group_max: usize,
    idle_after: Duration,
    current: OpenFile,
    next: Option<OpenFile>,
    full: VecDeque<FullFile>,
    gathered: VecDeque<Record>,
    in_flight: Option<InFlight>,
    next_sequence: u64,
    durable: u64,
    highest_number: u64,
    idle_at: Option<MonoTime>,
    idle_owed: bool,
    wants_end: bool,
    pub(crate) frames: u64,
    pub(crate) records: u64,
}

impl JournalCore {
    /// A journal whose frames up to `durable` are synced and which goes on in `current`, the highest number of any of
    /// its files being `highest_number`.
    pub(crate) fn new(
        (group_max, idle_after): (u64, Duration),
        (current, full): (OpenFile, VecDeque<FullFile>),
        durable: u64,
        highest_number: u64,
    ) -> Self {
        Self {
            group_max: narrow(group_max),
            idle_after,
            current,
            next: None,
            full,
            gathered: VecDeque::new(),
            in_flight: None,
            next_sequence: durable + 1,
            durable,
            highest_number,
            idle_at: None,
            idle_owed: false,
            wants_end: false,
            frames: 0,
            records: 0,
        }
    }

    /// The last frame known durable.
    pub(crate) const fn durable(&self) -> u64 {
        self.durable
    }

    /// When an idle frame is due.
    pub(crate) const fn idle_at(&self) -> Option<MonoTime> {
        self.idle_at
    }

    /// Whether the file after the current one is missing.
    pub(crate) const fn wants_file(&self) -> bool {
        self.next.is_none()
    }

    /// Files in use: full ones that the mark has not passed, and the current one.
    pub(crate) fn files_in_use(&self) -> usize {
        self.full.len() + 1
    }

    /// Bytes of those.
    pub(crate) fn bytes_in_use(&self) -> u64 {
        let full = self.full.iter().map(|file| file.size);
        full.sum::<u64>() + self.current.header.size
    }

    /// Takes the number of the next file. None that was ever seen is used again: a file made ahead by an earlier start
    /// may still lie there under its name, free to be used under another.
    pub(crate) const fn take_number(&mut self) -> u64 {
        self.highest_number += 1;
        self.highest_number
    }

    /// Whether there is something to write and nothing on its way. Right after [`Self::start`] gave nothing, that means
    /// that there is no file to go on in.
    pub(crate) fn is_stalled(&self) -> bool {
        self.in_flight.is_none() && (!self.gathered.is_empty() || self.wants_end)
    }

    /// Whether records wait while a frame is on its way.
    pub(crate) fn is_behind(&self) -> bool {
        self.in_flight.is_some() && !self.gathered.is_empty()
    }

    /// Puts a record behind what is gathered.
    pub(crate) fn push(&mut self, record: Record) {
        self.gathered.push_back(record);
    }

    /// Asks for an end frame once everything gathered is written.
    pub(crate) const fn end(&mut self) {
        self.wants_end = true;
    }

    /// Takes the file to go on in.
    pub(crate) fn supply(&mut self, file: OpenFile) {
        self.next = Some(file);
        if std::mem::take(&mut self.idle_owed) {
            self.idle_at = Some(MonoTime::ZERO);
        }
    }

    /// Full files below the checkpoint mark: free to be used again.
    pub(crate) fn recycle(&mut self, mark: u64) -> Vec<FullFile> {
        let free = self.full.iter().take_while(|file| file.last < mark).count();
        self.full.drain(..free).collect()
    }

    /// Starts the next frame, when none is on its way and there is something to write and room for it.
    pub(crate) fn start(&mut self, now: MonoTime) -> Option<FrameJob> {
        if self.in_flight.is_some() {
            return None;
        }
        let kind = if !self.gathered.is_empty() {
            FrameKind::Records
        } else if self.wants_end {
            FrameKind::End
        } else if self.idle_at.is_some_and(|at| at <= now) {
            FrameKind::Idle
        } else {
            return None;
        };
        let (count, body) = self.group();
        let length = frame_len(body);
        if self.current.end + length > self.current.header.size && !self.switch() {
            // An idle frame that finds no file is written when there is one.
            self.idle_owed |= self.idle_at.take().is_some();
            return None;
        }
        assert!(
            self.current.end + length <= self.current.header.size,
            "a file holds the largest frame"
        );
        let records: Vec<Record> = self.gathered.drain(..count).collect();
        let sequence = self.next_sequence;
        let offset = self.current.end;
        self.in_flight = Some(InFlight {
            kind,
            durable: records.iter().map(durable_of).collect(),
            is_first: offset == crate::journal::format::BLOCK,
        });
        self.next_sequence += 1;
        self.current.end += length;
        self.idle_at = None;
        self.wants_end &= kind != FrameKind::End;
        self.frames += 1;
        self.records += wide(records.len());
        Some(FrameJob {
            file: Arc::clone(&self.current.file),
            place: FramePlace {
                uuid: self.current.header.uuid,
                sequence,
                offset,
                kind,
            },
            records,
        })
    }

    /// How many gathered records go into the next frame, and their bytes. A record above the limit goes alone.
    fn group(&self) -> (usize, usize) {
        let room = self.group_max - FRAME_HEADER;
        let mut count = 0;
        let mut body = 0;
        for record in &self.gathered {
            let length = record.encoded_len();
            if count > 0 && body + length > room {
                break;
            }
            count += 1;
            body += length;
        }
        (count, body)
    }

    /// Goes on to the next file, if it is ready.
    fn switch(&mut self) -> bool {
        let Some(next) = self.next.take() else {
            return false;
        };
        let full = std::mem::replace(&mut self.current, next);
        self.full.push_back(FullFile {
            path: full.path,
            size: full.header.size,
            last: self.next_sequence - 1,
        });
        true
    }

    /// Takes the news that the frame on its way is synced.
    ///
    /// # Panics
    ///
    /// When none was on its way.
    pub(crate) fn synced(&mut self, now: MonoTime) -> Synced {
        let frame = self.in_flight.take().expect("one frame was on its way");
        self.durable = self.next_sequence - 1;
        if frame.kind == FrameKind::Records && self.gathered.is_empty() {
            self.idle_at = Some(now.after(self.idle_after));
        }
        Synced {
            kind: frame.kind,
            durable: frame.durable,
            moved: frame.is_first.then_some(self.durable),
        }
    }
}

fn durable_of(record: &Record) -> Durable {
    match record {
        Record::Add { ledger, entry, .. } => Durable::Add(*ledger, entry.id),
        Record::Fence { log, epoch } => Durable::Fence(*log, *epoch),
    }
}
