//! The MANIFEST: which data files there are, the checkpoint mark, and what is remembered of each log. Replaced whole,
//! so that all of it changes together.

use std::collections::BTreeMap;

use types::{BookieId, ClusterId, EntryId, Epoch, Incarnation, LedgerSeq, LogId, Revision};

use ledger::LogFacts;

use crate::codec::{Broken, Reader, Writer, seal, small, unseal};

/// The file's name.
pub const FILE: &str = "MANIFEST";
/// The format this version writes.
pub const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"LLMANIF1";

/// Everything the MANIFEST says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The cluster.
    pub cluster: ClusterId,
    /// The set number of the bookie's directories.
    pub set: u128,
    /// The bookie's number.
    pub id: BookieId,
    /// Since when the bookie vouches for what it does not have.
    pub born: Revision,
    /// The incarnation that wrote this.
    pub incarnation: Incarnation,
    /// The checkpoint mark: what frames with a lower sequence said is in the data files and in here.
    pub mark: u64,
    /// The last frame known durable when this was written. A journal that ends before it has lost something.
    pub last_frame: u64,
    /// The number of the next data file.
    pub next_file: u64,
    /// The data files, by number.
    pub files: BTreeMap<u64, FileEntry>,
    /// What is remembered of each log.
    pub logs: BTreeMap<LogId, LogFacts>,
    /// Logs that were deleted.
    pub deleted: Vec<LogId>,
}

/// A data file as the MANIFEST lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileEntry {
    /// Its length in bytes.
    pub length: u64,
    /// The checksum in its trailer, of its footer; a file that was put in its place has another.
    pub footer_crc: u32,
}

/// What was found where a MANIFEST should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No file.
    Missing,
    /// A file that fails its checksum or makes no sense.
    Damaged,
    /// A file of a later format.
    Newer(u32),
    /// The MANIFEST.
    Whole(Box<Manifest>),
}

impl Manifest {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Writer::default();
        body.u128(self.cluster.get());
        body.u128(self.set);
        for number in [
            self.id.get(),
            self.born.get(),
            self.incarnation.get(),
            self.mark,
            self.last_frame,
            self.next_file,
        ] {
            body.u64(number);
        }
        body.u32(small(self.files.len()));
        for (number, file) in &self.files {
            body.u64(*number);
            body.u64(file.length);
            body.u32(file.footer_crc);
        }
        body.u32(small(self.logs.len()));
        for (log, facts) in &self.logs {
            encode_facts(*log, *facts, &mut body);
        }
        body.u32(small(self.deleted.len()));
        for log in &self.deleted {
            body.u64(log.get());
        }
        seal(MAGIC, FORMAT, &body.0)
    }

    /// Reads the file's bytes.
    pub fn decode(bytes: &[u8]) -> Found {
        match unseal(MAGIC, FORMAT, bytes) {
            Err(Broken::Newer(format)) => Found::Newer(format),
            Err(Broken::Damaged) => Found::Damaged,
            Ok(body) => Self::decode_body(body)
                .map_or(Found::Damaged, |manifest| Found::Whole(Box::new(manifest))),
        }
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let mut manifest = Self {
            cluster: ClusterId::new(reader.u128()?),
            set: reader.u128()?,
            id: BookieId::new(reader.u64()?),
            born: Revision::new(reader.u64()?),
            incarnation: Incarnation::new(reader.u64()?),
            mark: reader.u64()?,
            last_frame: reader.u64()?,
            next_file: reader.u64()?,
            files: BTreeMap::new(),
            logs: BTreeMap::new(),
            deleted: Vec::new(),
        };
        for _ in 0..reader.u32()? {
            let number = reader.u64()?;
            let file = FileEntry {
                length: reader.u64()?,
                footer_crc: reader.u32()?,
            };
            manifest.files.insert(number, file);
        }
        for _ in 0..reader.u32()? {
            let (log, facts) = decode_facts(&mut reader)?;
            manifest.logs.insert(log, facts);
        }
        for _ in 0..reader.u32()? {
            manifest.deleted.push(LogId::new(reader.u64()?));
        }
        reader.is_empty().then_some(manifest)
    }
}

const HAS_FENCE: u8 = 1;
const HAS_HIGHEST: u8 = 2;
const HAS_LAC: u8 = 4;

/// A flag byte says which facts follow: idle logs stay small.
fn encode_facts(log: LogId, facts: LogFacts, body: &mut Writer) {
    let flag = |is_there, bit| if is_there { bit } else { 0 };
    body.u64(log.get());
    body.u8(flag(facts.fence.is_some(), HAS_FENCE)
        | flag(facts.highest.is_some(), HAS_HIGHEST)
        | flag(facts.lac.is_some(), HAS_LAC));
    body.u32(facts.first_live.get());
    if let Some(fence) = facts.fence {
        body.u64(fence.get());
    }
    if let Some(highest) = facts.highest {
        body.u32(highest.get());
    }
    if let Some((seq, lac)) = facts.lac {
        body.u32(seq.get());
        body.u64(lac.get());
    }
}

fn decode_facts(reader: &mut Reader<'_>) -> Option<(LogId, LogFacts)> {
    let log = LogId::new(reader.u64()?);
    let flags = reader.u8()?;
    if flags & !(HAS_FENCE | HAS_HIGHEST | HAS_LAC) != 0 {
        return None;
    }
    let mut facts = LogFacts {
        first_live: LedgerSeq::new(reader.u32()?),
        ..LogFacts::default()
    };
    if flags & HAS_FENCE != 0 {
        facts.fence = Some(Epoch::new(reader.u64()?));
    }
    if flags & HAS_HIGHEST != 0 {
        facts.highest = Some(LedgerSeq::new(reader.u32()?));
    }
    if flags & HAS_LAC != 0 {
        facts.lac = Some((LedgerSeq::new(reader.u32()?), EntryId::new(reader.u64()?)));
    }
    Some((log, facts))
}
