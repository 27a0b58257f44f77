//! Reading a journal back: what is whole, what is torn, what is lost.
//!
//! The rule (I23): only one frame is ever unsynced, so only a last frame that nothing valid follows can be torn. It is
//! cut. Every other hole in the frames that are needed is damage, and said so; what is whole on either side of it is
//! still given, each frame standing under its own checksum.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use host::disk::{Disk, File, OpenMode};
use types::ClusterId;

use crate::codec::{Broken, narrow, wide};
use crate::files::{names, number_of, numbered, read_exact};
use crate::journal::format::{
    BLOCK, FRAME_HEADER, FileHeader, FrameHeader, Record, SUFFIX, decode_records,
};

/// Bytes read at once while looking for frames.
const CHUNK: u64 = 256 << 10;

/// Whose journal is read, and from where on its frames are needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) cluster: ClusterId,
    pub(crate) set: u128,
    /// Frames below it are in the data files.
    pub(crate) mark: u64,
    /// The journal reached this frame at least.
    pub(crate) last_frame: u64,
}

/// What a journal holds.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Its files in order, those with an unreadable header left out.
    pub(crate) files: Vec<Surveyed>,
    /// Every path that is a journal file by its name.
    pub(crate) paths: Vec<PathBuf>,
    /// The highest number among the files.
    pub(crate) highest_number: u64,
    /// The last whole frame.
    pub(crate) last: Option<LastFrame>,
    /// The highest sequence in any frame's header, whole or torn.
    pub(crate) highest_sequence: u64,
    /// Frames from the mark on, and their records.
    pub(crate) frames: u64,
    pub(crate) records: u64,
    /// Whether the frame behind the last whole one is torn.
    pub(crate) torn: bool,
    /// What is lost, in words.
    pub(crate) damage: Vec<String>,
    /// The format of a file that a later version wrote.
    pub(crate) newer: Option<u32>,
}

/// One file of a journal.
#[derive(Debug, Clone)]
pub(crate) struct Surveyed {
    pub(crate) header: FileHeader,
    pub(crate) path: PathBuf,
    /// Sequences of its first and last whole frame.
    pub(crate) frames: Option<(u64, u64)>,
    /// Where its last whole frame ends.
    pub(crate) end: u64,
}

/// The last whole frame: it may never have been synced.
#[derive(Debug, Clone)]
pub(crate) struct LastFrame {
    /// Index into [`Survey::files`].
    pub(crate) file: usize,
    pub(crate) header: FrameHeader,
    pub(crate) bytes: Bytes,
}

impl Survey {
    /// The sequence of the last whole frame, zero when there is none.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.header.sequence)
    }
}

/// Reads the journal in `dir`, handing every record of the frames that are needed to `visit`, in order.
pub(crate) fn survey(
    disk: &dyn Disk,
    dir: &Path,
    wanted: Wanted,
    visit: &mut dyn FnMut(Record),
) -> io::Result<Survey> {
    let mut numbers: Vec<u64> = names(disk, dir)?
        .iter()
        .filter_map(|name| number_of(name, SUFFIX))
        .collect();
    numbers.sort_unstable();
    let mut walk = Walk {
        wanted,
        needed: wanted.mark,
        survey: Survey::default(),
        broken: Vec::new(),
    };
    for number in numbers {
        let path = numbered(dir, number, SUFFIX);
        walk.survey.paths.push(path.clone());
        walk.survey.highest_number = number;
        let file = disk.open(&path, OpenMode::Read)?;
        match walk.header(&file, number)? {
            Ok(header) => {
                walk.survey.files.push(Surveyed {
                    header,
                    path,
                    frames: None,
                    end: BLOCK,
                });
                walk.file(disk, &file, visit)?;
            }
            Err(what) => walk
                .survey
                .damage
                .push(format!("{}: {what}", path.display())),
        }
    }
    walk.conclude();
    Ok(walk.survey)
}

/// Where a reading of the journal is.
struct Walk {
    wanted: Wanted,
    /// The next sequence that is needed.
    needed: u64,
    survey: Survey,
    /// Sequences of frames whose header is whole and whose body is not.
    broken: Vec<u64>,
}

impl Walk {
    /// The header of a file that is what its name says, or what is wrong with it.
    fn header(
        &mut self,
        file: &Arc<dyn File>,
        number: u64,
    ) -> io::Result<Result<FileHeader, String>> {
        let length = file.len()?;
        let mut block = vec![0; narrow(BLOCK)];
        if length < BLOCK || read_exact(&**file, 0, &mut block).is_err() {
            return Ok(Err("journal file has no header".to_owned()));
        }
        let header = match FileHeader::decode(&block) {
            Ok(header) => header,
            Err(Broken::Damaged) => return Ok(Err("journal file header is damaged".to_owned())),
            Err(Broken::Newer(format)) => {
                self.survey.newer = Some(format);
                return Ok(Err(format!("journal file is of a newer format {format}")));
            }
        };
        let wanted = &self.wanted;
        if (header.cluster, header.set, header.number) != (wanted.cluster, wanted.set, number) {
            return Ok(Err("journal file strayed here from elsewhere".to_owned()));
        }
        if header.size != length {
            return Ok(Err(format!(
                "journal file was cut length={length} size={}",
                header.size
            )));
        }
        Ok(Ok(header))
    }

    /// Walks one file from block to block, hopping over whole frames.
    fn file(
        &mut self,
        disk: &dyn Disk,
        file: &Arc<dyn File>,
        visit: &mut dyn FnMut(Record),
    ) -> io::Result<()> {
        let index = self.survey.files.len() - 1;
        let FileHeader { uuid, size, .. } = self.survey.files[index].header;
        let mut window = Window::new(file, size);
        let mut offset = BLOCK;
        while offset + BLOCK <= size {
            let header = FrameHeader::decode(window.at(offset))
                .filter(|header| header.uuid == uuid && header.offset == offset);
            // A lower sequence is the echo of an older frame inside the payload of a torn one.
            let Some(header) = header.filter(|found| found.sequence > self.survey.last_sequence())
            else {
                offset += BLOCK;
                continue;
            };
            self.survey.highest_sequence = self.survey.highest_sequence.max(header.sequence);
            match whole_frame(file, &header, size) {
                Ok(Some(bytes)) => {
                    offset += u64::from(header.length);
                    self.accept(index, header, bytes, visit);
                }
                Ok(None) => {
                    self.broken.push(header.sequence);
                    offset += BLOCK;
                }
                Err(_unreadable) => {
                    // Not torn: what cannot be read may have been acked.
                    window.unreadable.get_or_insert(offset);
                    offset += BLOCK;
                }
            }
        }
        if let Some(offset) = window.unreadable {
            // Tells a bad sector from a disk that is gone: the latter refuses this too, and nothing is believed.
            disk.exists(&self.survey.files[index].path)?;
            self.survey.damage.push(format!(
                "{}: cannot be read offset={offset}",
                self.survey.files[index].path.display()
            ));
        }
        Ok(())
    }

    fn accept(
        &mut self,
        index: usize,
        header: FrameHeader,
        bytes: Bytes,
        visit: &mut dyn FnMut(Record),
    ) {
        let sequence = header.sequence;
        let file = &mut self.survey.files[index];
        file.end = header.offset + u64::from(header.length);
        file.frames = Some((file.frames.map_or(sequence, |(first, _)| first), sequence));
        if sequence >= self.wanted.mark {
            if sequence != self.needed {
                self.survey.damage.push(format!(
                    "journal frames are missing first={} last={}",
                    self.needed,
                    sequence - 1
                ));
            }
            self.needed = sequence + 1;
            self.survey.frames += 1;
            self.survey.records += u64::from(header.records);
            match decode_records(&header, &bytes) {
                Some(records) => records.into_iter().for_each(visit),
                None => self.survey.damage.push(format!(
                    "journal frame has records that do not parse sequence={sequence}"
                )),
            }
        }
        self.survey.last = Some(LastFrame {
            file: index,
            header,
            bytes,
        });
    }

    /// Tells a torn tail from damage behind the last whole frame.
    fn conclude(&mut self) {
        let last = self.survey.last_sequence();
        let beyond = self.broken.iter().filter(|broken| **broken > last);
        for sequence in beyond {
            if *sequence == last + 1 {
                self.survey.torn = true;
            } else if *sequence >= self.wanted.mark {
                // It was begun, so the one before it had been synced.
                self.survey.damage.push(format!(
                    "journal frames are missing first={} last={}",
                    last + 1,
                    sequence - 1
                ));
            }
        }
        if last < self.wanted.last_frame {
            self.survey.damage.push(format!(
                "journal ends early last={last} known={}",
                self.wanted.last_frame
            ));
        }
    }
}

/// The frame's bytes when all of them are there and whole.
fn whole_frame(file: &Arc<dyn File>, header: &FrameHeader, size: u64) -> io::Result<Option<Bytes>> {
    if header.offset + u64::from(header.length) > size {
        return Ok(None);
    }
    let mut bytes = vec![0; narrow(u64::from(header.length))];
    read_exact(&**file, header.offset, &mut bytes)?;
    Ok(header.holds(&bytes).then(|| Bytes::from(bytes)))
}

/// The first bytes of each block of a file, read in large pieces.
struct Window<'a> {
    file: &'a Arc<dyn File>,
    size: u64,
    chunk: Vec<u8>,
    start: u64,
    /// The first place that could not be read.
    unreadable: Option<u64>,
}

impl<'a> Window<'a> {
    fn new(file: &'a Arc<dyn File>, size: u64) -> Self {
        Self {
            file,
            size,
            chunk: Vec::new(),
            start: 0,
            unreadable: None,
        }
    }

    /// What a frame's header at `offset` would be.
    fn at(&mut self, offset: u64) -> &[u8] {
        let is_inside = offset >= self.start
            && offset + wide(FRAME_HEADER) <= self.start + wide(self.chunk.len());
        if !is_inside {
            self.fill(offset);
        }
        let at = narrow(offset - self.start);
        &self.chunk[at..at + FRAME_HEADER]
    }

    /// Reads the chunk at `offset`; where that fails, block by block, a block that cannot be read being zero.
    fn fill(&mut self, offset: u64) {
        let length = CHUNK.min(self.size - offset);
        self.start = offset;
        self.chunk.resize(narrow(length), 0);
        if read_exact(&**self.file, offset, &mut self.chunk).is_ok() {
            return;
        }
        for (index, block) in self.chunk.chunks_mut(narrow(BLOCK)).enumerate() {
            let at = offset + wide(index) * BLOCK;
            if read_exact(&**self.file, at, block).is_err() {
                block.fill(0);
                self.unreadable.get_or_insert(at);
            }
        }
    }
}
