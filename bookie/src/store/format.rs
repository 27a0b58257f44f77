//! The bytes of a data file: header, blocks of entries, footer, trailer. `DESIGN.md` lists every field.

use bytes::Bytes;
use host::disk::AlignedBuf;
use types::crc32c;
use types::storage::Entry;
use types::{ClusterId, Crc32c, EntryId, LedgerId, LedgerSeq, LogId, Offset, Payload, Revision};

use crate::codec::{Broken, Reader, Writer, small, wide};

/// Bytes of a file's header.
pub const FILE_HEADER: usize = 64;
/// Bytes of a block before its entries.
pub const BLOCK_HEADER: usize = 32;
/// Bytes of an entry in a block before its payload.
pub const ENTRY_HEADER: usize = 48;
/// Bytes of a file's trailer.
pub const TRAILER: usize = 48;
/// The format of a data file that this version writes.
pub const FORMAT: u32 = 1;
/// The end of a data file's name.
pub const SUFFIX: &str = ".data";

const FILE_MAGIC: [u8; 8] = *b"LLDATA01";
const TRAILER_MAGIC: [u8; 8] = *b"LLDATAT1";
const BLOCK_MAGIC: [u8; 4] = *b"LLBK";

/// The place of an entry among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The ledger.
    pub ledger: LedgerId,
    /// The entry.
    pub entry: EntryId,
}

/// An entry with its ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The ledger.
    pub ledger: LedgerId,
    /// The revision that created the ledger.
    pub created: Revision,
    /// The entry.
    pub entry: Entry,
}

impl Stored {
    /// Its place.
    pub const fn key(&self) -> Key {
        Key {
            ledger: self.ledger,
            entry: self.entry.id,
        }
    }
}

/// A file's first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// The file's number.
    pub number: u64,
    /// The cluster.
    pub cluster: ClusterId,
    /// The set number of the bookie's directories.
    pub set: u128,
}

impl FileHeader {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(FILE_HEADER));
        out.bytes(&FILE_MAGIC);
        out.u32(FORMAT);
        out.u32(0);
        out.u64(self.number);
        out.u128(self.cluster.get());
        out.u128(self.set);
        let crc = crc32c(&out.0).get();
        out.u32(crc);
        out.u32(!crc);
        out.0
    }

    /// Reads its bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Broken> {
        let decode = || {
            let header = bytes.get(..FILE_HEADER)?;
            let crc = crc32c(&header[..FILE_HEADER - 8]).get();
            let mut check = Reader(&header[FILE_HEADER - 8..]);
            if header[..8] != FILE_MAGIC || check.u32()? != crc || check.u32()? != !crc {
                return None;
            }
            let mut reader = Reader(&header[8..]);
            let format = reader.u32()?;
            reader.u32()?;
            let header = Self {
                number: reader.u64()?,
                cluster: ClusterId::new(reader.u128()?),
                set: reader.u128()?,
            };
            Some((format, header))
        };
        match decode() {
            None => Err(Broken::Damaged),
            Some((format, _)) if format > FORMAT => Err(Broken::Newer(format)),
            Some((_, header)) => Ok(header),
        }
    }
}

/// Appends an entry to a block's body.
pub fn encode_entry(stored: &Stored, body: &mut AlignedBuf) {
    let mut out = Writer(Vec::with_capacity(ENTRY_HEADER));
    out.u64(stored.ledger.log().get());
    out.u32(stored.ledger.seq().get());
    out.u32(small(stored.entry.payload.len()));
    out.u64(stored.entry.id.get());
    out.u64(stored.created.get());
    out.u64(stored.entry.next_offset.get());
    out.u32(stored.entry.crc.get());
    out.u32(0);
    body.extend_from_slice(&out.0);
    body.extend_from_slice(stored.entry.payload.head());
    body.extend_from_slice(stored.entry.payload.body());
}

/// Takes one entry from the front of a block's body; its payload shares the block's memory.
pub fn decode_entry(body: &mut Bytes) -> Option<Stored> {
    let mut reader = Reader(body.get(..ENTRY_HEADER)?);
    let log = LogId::new(reader.u64()?);
    let seq = LedgerSeq::new(reader.u32()?);
    let length = usize::try_from(reader.u32()?).ok()?;
    let id = EntryId::new(reader.u64()?);
    let created = Revision::new(reader.u64()?);
    let next_offset = Offset::new(reader.u64()?);
    let crc = Crc32c::new(reader.u32()?);
    let end = ENTRY_HEADER.checked_add(length)?;
    if end > body.len() {
        return None;
    }
    let payload = Payload::whole(body.split_to(end).slice(ENTRY_HEADER..));
    Some(Stored {
        ledger: LedgerId::new(log, seq),
        created,
        entry: Entry {
            id,
            next_offset,
            payload,
            crc,
        },
    })
}

/// The header of a block, which goes before its body.
pub fn encode_block_header(file: u64, entries: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(BLOCK_HEADER));
    out.bytes(&BLOCK_MAGIC);
    out.u32(small(body.len()));
    out.u32(entries);
    out.u32(crc32c(body).get());
    out.u64(file);
    out.u32(0);
    let crc = crc32c(&out.0).get();
    out.u32(crc);
    out.0
}

/// The body of a block of a file and the number of its entries; `None` when anything is not as written.
pub fn decode_block(file: u64, block: &Bytes) -> Option<(u32, Bytes)> {
    let header = block.get(..BLOCK_HEADER)?;
    let crc = crc32c(&header[..BLOCK_HEADER - 4]).get();
    if header[..4] != BLOCK_MAGIC || header[BLOCK_HEADER - 4..] != crc.to_le_bytes() {
        return None;
    }
    let mut reader = Reader(&header[4..]);
    let length = usize::try_from(reader.u32()?).ok()?;
    let entries = reader.u32()?;
    let body_crc = reader.u32()?;
    let of = reader.u64()?;
    let body = block.slice(BLOCK_HEADER..);
    let is_whole = of == file && body.len() == length && crc32c(&body).get() == body_crc;
    is_whole.then_some((entries, body))
}

/// The entries of one ledger in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The ledger.
    pub ledger: LedgerId,
    /// The revision that created the ledger.
    pub created: Revision,
    /// Its first entry here.
    pub first: EntryId,
    /// Its last entry here. Between them some may be missing.
    pub last: EntryId,
    /// How many entries.
    pub entries: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

impl Run {
    /// Bytes that its entries take in blocks.
    pub fn weight(&self) -> u64 {
        self.bytes + self.entries * wide(ENTRY_HEADER)
    }
}

/// Where a block is, and the key of its first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockMeta {
    /// Its offset in bytes.
    pub offset: u64,
    /// Its bytes, header included.
    pub length: u32,
    /// How many entries.
    pub entries: u32,
    /// The key of the first.
    pub first: Key,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Footer {
    /// Its ledgers in order.
    pub runs: Vec<Run>,
    /// Its blocks in order.
    pub blocks: Vec<BlockMeta>,
}

impl Footer {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u32(small(self.runs.len()));
        out.u32(small(self.blocks.len()));
        for run in &self.runs {
            out.u64(run.ledger.log().get());
            out.u32(run.ledger.seq().get());
            out.u64(run.created.get());
            out.u64(run.first.get());
            out.u64(run.last.get());
            out.u64(run.entries);
            out.u64(run.bytes);
        }
        for block in &self.blocks {
            out.u64(block.offset);
            out.u32(block.length);
            out.u32(block.entries);
            out.u64(block.first.ledger.log().get());
            out.u32(block.first.ledger.seq().get());
            out.u64(block.first.entry.get());
        }
        out.0
    }

    /// Reads its bytes, whose checksum was verified.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (runs, blocks) = (reader.u32()?, reader.u32()?);
        let mut footer = Self::default();
        for _ in 0..runs {
            footer.runs.push(Run {
                ledger: LedgerId::new(LogId::new(reader.u64()?), LedgerSeq::new(reader.u32()?)),
                created: Revision::new(reader.u64()?),
                first: EntryId::new(reader.u64()?),
                last: EntryId::new(reader.u64()?),
                entries: reader.u64()?,
                bytes: reader.u64()?,
            });
        }
        for _ in 0..blocks {
            footer.blocks.push(BlockMeta {
                offset: reader.u64()?,
                length: reader.u32()?,
                entries: reader.u32()?,
                first: Key {
                    ledger: LedgerId::new(LogId::new(reader.u64()?), LedgerSeq::new(reader.u32()?)),
                    entry: EntryId::new(reader.u64()?),
                },
            });
        }
        reader.is_empty().then_some(footer)
    }
}

/// A file's last bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Where the footer begins: the end of the blocks.
    pub footer_offset: u64,
    /// The footer's bytes.
    pub footer_length: u64,
    /// The whole file's bytes.
    pub file_length: u64,
    /// The footer's checksum.
    pub footer_crc: u32,
    /// The checksum of the file's header and of all block headers in order, which hold the checksums of the blocks.
    pub data_crc: u32,
}

impl Trailer {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(TRAILER));
        out.bytes(&TRAILER_MAGIC);
        out.u64(self.footer_offset);
        out.u64(self.footer_length);
        out.u64(self.file_length);
        out.u32(self.footer_crc);
        out.u32(self.data_crc);
        out.u32(0);
        let crc = crc32c(&out.0).get();
        out.u32(crc);
        out.0
    }

    /// Reads its bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != TRAILER
            || bytes[..8] != TRAILER_MAGIC
            || bytes[TRAILER - 4..] != crc32c(&bytes[..TRAILER - 4]).get().to_le_bytes()
        {
            return None;
        }
        let mut reader = Reader(&bytes[8..]);
        Some(Self {
            footer_offset: reader.u64()?,
            footer_length: reader.u64()?,
            file_length: reader.u64()?,
            footer_crc: reader.u32()?,
            data_crc: reader.u32()?,
        })
    }
}
