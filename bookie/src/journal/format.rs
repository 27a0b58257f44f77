//! The journal's bytes: a file's header, frames, records. `DESIGN.md` lists every field.

use bytes::Bytes;
use host::disk::AlignedBuf;
use types::storage::{AddKind, Entry};
use types::{ClusterId, crc32c};
use types::{Crc32c, EntryId, Epoch, LedgerId, LedgerSeq, LogId, Offset, Payload, Revision};

use crate::codec::{Broken, Reader, Writer, narrow, small, wide};

/// Frames begin at a multiple of it, and are as long as a multiple of it; a file's header fills one.
pub const BLOCK: u64 = 4096;
/// Bytes of a frame before its records.
pub const FRAME_HEADER: usize = 64;
/// Bytes of a record before its payload.
pub const RECORD_HEADER: usize = 64;
/// The format of a journal file that this version writes.
pub const FORMAT: u32 = 1;
/// The end of a journal file's name.
pub const SUFFIX: &str = ".journal";

const FILE_MAGIC: [u8; 8] = *b"LLJOURN1";
const FRAME_MAGIC: [u8; 8] = *b"LLFRAME1";

/// A journal file's first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// The cluster.
    pub cluster: ClusterId,
    /// The set number of the bookie's directories.
    pub set: u128,
    /// The file's number; frames go on from a lower to a higher one.
    pub number: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Fresh each time the file is used: what an earlier use left does not carry it.
    pub uuid: u128,
}

impl FileHeader {
    /// The block's bytes.
    pub fn encode(&self) -> AlignedBuf {
        let mut out = Writer::default();
        out.bytes(&FILE_MAGIC);
        out.u32(FORMAT);
        out.u32(0);
        out.u128(self.cluster.get());
        out.u128(self.set);
        out.u64(self.number);
        out.u64(self.size);
        out.u128(self.uuid);
        out.0.resize(narrow(BLOCK) - 4, 0);
        let crc = crc32c(&out.0).get();
        out.u32(crc);
        let mut block = AlignedBuf::with_capacity(out.0.len());
        block.extend_from_slice(&out.0);
        block
    }

    /// Reads a block's bytes.
    pub(crate) fn decode(block: &[u8]) -> Result<Self, Broken> {
        let (front, crc) = block
            .split_at_checked(narrow(BLOCK) - 4)
            .ok_or(Broken::Damaged)?;
        if crc != crc32c(front).get().to_le_bytes() || front[..8] != FILE_MAGIC {
            return Err(Broken::Damaged);
        }
        let mut reader = Reader(&front[8..]);
        let format = reader.u32().ok_or(Broken::Damaged)?;
        if format > FORMAT {
            return Err(Broken::Newer(format));
        }
        let fields = |mut reader: Reader<'_>| {
            reader.u32()?;
            Some(Self {
                cluster: ClusterId::new(reader.u128()?),
                set: reader.u128()?,
                number: reader.u64()?,
                size: reader.u64()?,
                uuid: reader.u128()?,
            })
        };
        fields(reader).ok_or(Broken::Damaged)
    }
}

/// Why a frame was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// It carries records.
    Records,
    /// The journal fell idle: the frame before it is proven to have been synced.
    Idle,
    /// A clean stop.
    End,
    /// A start; it also covers a torn tail.
    Start,
}

impl FrameKind {
    const fn code(self) -> u32 {
        match self {
            Self::Records => 0,
            Self::Idle => 1,
            Self::End => 2,
            Self::Start => 3,
        }
    }

    const fn of(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::Records),
            1 => Some(Self::Idle),
            2 => Some(Self::End),
            3 => Some(Self::Start),
            _ => None,
        }
    }
}

/// A frame's first 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The uuid of the file it was written to.
    pub uuid: u128,
    /// One more than the frame before it, across files.
    pub sequence: u64,
    /// Where in the file it was written: a frame that strayed is not one.
    pub offset: u64,
    /// Bytes of the whole frame, a multiple of [`BLOCK`].
    pub length: u32,
    /// Bytes of its records.
    pub body: u32,
    /// How many records.
    pub records: u32,
    /// Why it was written.
    pub kind: FrameKind,
    /// The checksum of everything behind the header, padding included.
    pub body_crc: u32,
}

impl FrameHeader {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(FRAME_HEADER));
        out.bytes(&FRAME_MAGIC);
        out.u128(self.uuid);
        out.u64(self.sequence);
        out.u64(self.offset);
        out.u32(self.length);
        out.u32(self.body);
        out.u32(self.records);
        out.u32(self.kind.code());
        out.u32(self.body_crc);
        let crc = crc32c(&out.0).get();
        out.u32(crc);
        out.0
    }

    /// Reads the header of a frame of any file; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..FRAME_HEADER)?;
        if header[..8] != FRAME_MAGIC
            || header[FRAME_HEADER - 4..] != crc32c(&header[..FRAME_HEADER - 4]).get().to_le_bytes()
        {
            return None;
        }
        let mut reader = Reader(&header[8..]);
        let header = Self {
            uuid: reader.u128()?,
            sequence: reader.u64()?,
            offset: reader.u64()?,
            length: reader.u32()?,
            body: reader.u32()?,
            records: reader.u32()?,
            kind: FrameKind::of(reader.u32()?)?,
            body_crc: reader.u32()?,
        };
        let is_sound = wide(usize::try_from(header.length).ok()?).is_multiple_of(BLOCK)
            && wide(FRAME_HEADER) + u64::from(header.body) <= u64::from(header.length);
        is_sound.then_some(header)
    }

    /// Whether these are the frame's bytes, from its header on.
    pub fn holds(&self, frame: &[u8]) -> bool {
        u64::from(self.length) == wide(frame.len())
            && crc32c(&frame[FRAME_HEADER..]).get() == self.body_crc
    }
}

/// What a frame carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An entry was stored.
    Add {
        /// The ledger.
        ledger: LedgerId,
        /// The revision that created the ledger.
        created: Revision,
        /// The writer's epoch.
        epoch: Epoch,
        /// The LAC that came with it.
        lac: Option<EntryId>,
        /// On whose word.
        kind: AddKind,
        /// The entry.
        entry: Entry,
    },
    /// A log was fenced.
    Fence {
        /// The log.
        log: LogId,
        /// The epoch.
        epoch: Epoch,
    },
}

const ADD: u8 = 1;
const FENCE: u8 = 2;
const HAS_LAC: u8 = 1;
const KIND_SHIFT: u8 = 1;

impl Record {
    /// Bytes it takes in a frame.
    pub fn encoded_len(&self) -> usize {
        RECORD_HEADER
            + match self {
                Self::Add { entry, .. } => entry.payload.len(),
                Self::Fence { .. } => 0,
            }
    }

    fn encode(&self, out: &mut AlignedBuf) {
        let mut header = Writer(Vec::with_capacity(RECORD_HEADER));
        match self {
            Self::Add {
                ledger,
                created,
                epoch,
                lac,
                kind,
                entry,
            } => {
                header.u8(ADD);
                header.u8(u8::from(lac.is_some()) | (kind_code(*kind) << KIND_SHIFT));
                header.u16(0);
                header.u32(ledger.seq().get());
                header.u64(ledger.log().get());
                header.u64(entry.id.get());
                header.u64(epoch.get());
                header.u64(created.get());
                header.u64(lac.map_or(0, EntryId::get));
                header.u64(entry.next_offset.get());
                header.u32(small(entry.payload.len()));
                header.u32(entry.crc.get());
                out.extend_from_slice(&header.0);
                out.extend_from_slice(entry.payload.head());
                out.extend_from_slice(entry.payload.body());
            }
            Self::Fence { log, epoch } => {
                header.u8(FENCE);
                header.bytes(&[0; 7]);
                header.u64(log.get());
                header.u64(0);
                header.u64(epoch.get());
                header.0.resize(RECORD_HEADER, 0);
                out.extend_from_slice(&header.0);
            }
        }
    }

    /// Takes one record from the front; payloads share the memory of `bytes`.
    fn decode(bytes: &mut Bytes) -> Option<Self> {
        let header = bytes.get(..RECORD_HEADER)?;
        let mut reader = Reader(header);
        let code = reader.u8()?;
        let flags = reader.u8()?;
        reader.u16()?;
        let seq = LedgerSeq::new(reader.u32()?);
        let log = LogId::new(reader.u64()?);
        let id = EntryId::new(reader.u64()?);
        let epoch = Epoch::new(reader.u64()?);
        let created = Revision::new(reader.u64()?);
        let lac = EntryId::new(reader.u64()?);
        let next_offset = Offset::new(reader.u64()?);
        let length = usize::try_from(reader.u32()?).ok()?;
        let crc = Crc32c::new(reader.u32()?);
        match code {
            ADD => {
                let kind = kind_of(flags >> KIND_SHIFT)?;
                let end = RECORD_HEADER.checked_add(length)?;
                if end > bytes.len() {
                    return None;
                }
                let payload = Payload::whole(bytes.split_to(end).slice(RECORD_HEADER..));
                Some(Self::Add {
                    ledger: LedgerId::new(log, seq),
                    created,
                    epoch,
                    lac: (flags & HAS_LAC != 0).then_some(lac),
                    kind,
                    entry: Entry {
                        id,
                        next_offset,
                        payload,
                        crc,
                    },
                })
            }
            FENCE if length == 0 => {
                drop(bytes.split_to(RECORD_HEADER));
                Some(Self::Fence { log, epoch })
            }
            _ => None,
        }
    }
}

const fn kind_code(kind: AddKind) -> u8 {
    match kind {
        AddKind::Write => 0,
        AddKind::Recovery => 1,
        AddKind::Repair => 2,
    }
}

const fn kind_of(code: u8) -> Option<AddKind> {
    match code {
        0 => Some(AddKind::Write),
        1 => Some(AddKind::Recovery),
        2 => Some(AddKind::Repair),
        _ => None,
    }
}

/// Bytes of a frame whose records take `body` bytes.
pub fn frame_len(body: usize) -> u64 {
    wide(FRAME_HEADER + body).next_multiple_of(BLOCK)
}

/// Where and as what a frame is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePlace {
    /// The uuid of the file.
    pub uuid: u128,
    /// The frame's sequence.
    pub sequence: u64,
    /// Where in the file.
    pub offset: u64,
    /// Why.
    pub kind: FrameKind,
}

/// A frame's bytes, padded to whole blocks.
///
/// # Panics
///
/// When the records take 4 GiB or more.
pub fn encode_frame(place: FramePlace, records: &[Record]) -> AlignedBuf {
    let body: usize = records.iter().map(Record::encoded_len).sum();
    let length = frame_len(body);
    let mut out = AlignedBuf::with_capacity(narrow(length));
    out.resize(FRAME_HEADER);
    for record in records {
        record.encode(&mut out);
    }
    out.pad();
    let header = FrameHeader {
        uuid: place.uuid,
        sequence: place.sequence,
        offset: place.offset,
        length: u32::try_from(length).expect("frames are below 4 GiB"),
        body: small(body),
        records: small(records.len()),
        kind: place.kind,
        body_crc: crc32c(&out[FRAME_HEADER..]).get(),
    };
    out[..FRAME_HEADER].copy_from_slice(&header.encode());
    out
}

/// The records of a frame that [`FrameHeader::holds`]; `None` when they do not parse, or an entry is not intact.
pub fn decode_records(header: &FrameHeader, frame: &Bytes) -> Option<Vec<Record>> {
    let body = usize::try_from(header.body).ok()?;
    let end = FRAME_HEADER.checked_add(body)?;
    if end > frame.len() {
        return None;
    }
    let mut bytes = frame.slice(FRAME_HEADER..end);
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let record = Record::decode(&mut bytes)?;
        if let Record::Add { ledger, entry, .. } = &record
            && !entry.is_intact(*ledger)
        {
            return None;
        }
        records.push(record);
    }
    (small(records.len()) == header.records).then_some(records)
}
