//! The bytes of an image, read and written as a stream. Described in `meta/DESIGN.md`, frozen by a golden file.

use std::io::{self, Read, Write};

use catalog::{Key, Versioned, decode_key, decode_record, encode_key, encode_record};
use types::cluster::MetaGeneration;
use types::{ClusterId, Revision, WallTime, crc32c, crc32c_of};

/// The first bytes of every image; the line's end in them is what transfers as text would change.
const MAGIC: [u8; 8] = *b"LLMETA\r\n";
/// The format that is written.
const FORMAT: u16 = 1;
/// The bytes before the first record.
const HEADER_LEN: usize = 112;
/// Most bytes of a record: far above what is written, so that a damaged length takes no memory.
const RECORD_MAX: usize = 64 << 20;

/// Why a file was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To have it: the store went on.
    Backup,
    /// To move: the store never opens again.
    Export,
}

/// What an image says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Why it was written.
    pub kind: Kind,
    /// Random bits: no other image has the same.
    pub id: u128,
    /// The cluster.
    pub cluster: ClusterId,
    /// The generation of the store it was taken of.
    pub generation: MetaGeneration,
    /// The revision it was taken at.
    pub revision: Revision,
    /// How many records it has.
    pub records: u64,
    /// When it was taken.
    pub taken: WallTime,
}

/// What is wrong with the bytes of an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("it is no image of Ledgerline's metadata")]
    Foreign,
    #[error("it has a newer format format={0}")]
    NewerFormat(u16),
    #[error("{0}")]
    Damaged(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn damaged(what: impl Into<String>) -> Flaw {
    Flaw::Damaged(what.into())
}

/// A checksum over all that went by: that of the checksum before and the next bytes.
///
/// Each step takes the one before in, so that it stands for all bytes in their order.
#[derive(Debug, Clone, Copy, Default)]
struct Running(u32);

impl Running {
    fn take(&mut self, bytes: &[u8]) {
        self.0 = crc32c_of([&self.0.to_be_bytes()[..], bytes]).get();
    }
}

impl Header {
    fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_be_bytes());
        out.push(match self.kind {
            Kind::Backup => 0,
            Kind::Export => 1,
        });
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&self.cluster.to_bytes());
        out.extend_from_slice(&self.generation.number.to_be_bytes());
        out.extend_from_slice(&self.generation.mark.to_be_bytes());
        out.push(u8::from(self.generation.goes_on.is_some()));
        let goes_on = self.generation.goes_on.unwrap_or_default();
        out.extend_from_slice(&goes_on.to_be_bytes());
        out.extend_from_slice(&self.revision.get().to_be_bytes());
        out.extend_from_slice(&self.records.to_be_bytes());
        out.extend_from_slice(&self.taken.as_nanos().to_be_bytes());
        let crc = crc32c(&out).get();
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    fn read(bytes: &[u8; HEADER_LEN]) -> Result<Self, Flaw> {
        let mut at = Fields(bytes);
        if at.take::<8>() != MAGIC {
            return Err(Flaw::Foreign);
        }
        // Before the checksum: a newer format may have it elsewhere.
        let format = u16::from_be_bytes(at.take());
        if format > FORMAT {
            return Err(Flaw::NewerFormat(format));
        }
        let (body, crc) = bytes.split_at(HEADER_LEN - 4);
        let kind = at.take::<1>();
        let header = Self {
            kind: if kind == [1] {
                Kind::Export
            } else {
                Kind::Backup
            },
            id: u128::from_be_bytes(at.take()),
            cluster: ClusterId::new(u128::from_be_bytes(at.take())),
            generation: MetaGeneration {
                number: at.u64(),
                mark: u128::from_be_bytes(at.take()),
                goes_on: {
                    let is_given = at.take::<1>() == [1];
                    let mark = u128::from_be_bytes(at.take());
                    is_given.then_some(mark)
                },
            },
            revision: Revision::new(at.u64()),
            records: at.u64(),
            taken: WallTime::from_nanos(at.u64()),
        };
        if crc32c(body).get().to_be_bytes() != crc || header.to_bytes() != bytes {
            return Err(damaged("the header's checksum does not match"));
        }
        Ok(header)
    }
}

/// Fixed fields, one after the other.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk().expect("the length was checked");
        self.0 = rest;
        *taken
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }
}

/// Writes an image, record by record.
#[derive(Debug)]
pub(crate) struct ImageWriter<W> {
    out: W,
    sum: Running,
    announced: u64,
    written: u64,
}

impl<W: Write> ImageWriter<W> {
    pub(crate) fn begin(mut out: W, header: &Header) -> io::Result<Self> {
        let bytes = header.to_bytes();
        let mut sum = Running::default();
        sum.take(&bytes);
        out.write_all(&bytes)?;
        Ok(Self {
            out,
            sum,
            announced: header.records,
            written: 0,
        })
    }

    /// Adds a record; they come in the order of their keys.
    pub(crate) fn record(&mut self, key: &Key, found: &Versioned) -> io::Result<()> {
        let (key, value) = (encode_key(key), encode_record(key, &found.record));
        let key_len = u16::try_from(key.len()).map_err(io::Error::other)?;
        let value_len = u32::try_from(value.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(22 + key.len() + value.len());
        bytes.extend_from_slice(&key_len.to_be_bytes());
        bytes.extend_from_slice(&value_len.to_be_bytes());
        bytes.extend_from_slice(&found.created.get().to_be_bytes());
        bytes.extend_from_slice(&found.modified.get().to_be_bytes());
        bytes.extend_from_slice(&key);
        bytes.extend_from_slice(&value);
        self.sum.take(&bytes);
        self.written += 1;
        self.out.write_all(&bytes)
    }

    /// Writes the end.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        if self.written != self.announced {
            let what = format!(
                "{} records were announced, {} came",
                self.announced, self.written
            );
            return Err(io::Error::other(what));
        }
        let mut bytes = vec![0; 2];
        bytes.extend_from_slice(&self.written.to_be_bytes());
        self.sum.take(&bytes);
        bytes.extend_from_slice(&self.sum.0.to_be_bytes());
        self.out.write_all(&bytes)?;
        Ok(self.out)
    }
}

/// Reads an image, record by record. Only what [`ImageReader::next`] has read to its end is known to be whole.
#[derive(Debug)]
pub(crate) struct ImageReader<R> {
    source: R,
    header: Header,
    sum: Running,
    read: u64,
    last: Vec<u8>,
    is_over: bool,
}

impl<R: Read> ImageReader<R> {
    pub(crate) fn begin(mut source: R) -> Result<Self, Flaw> {
        let mut bytes = [0; HEADER_LEN];
        let has = fill(&mut source, &mut bytes)?;
        if has < MAGIC.len() || !bytes.starts_with(&MAGIC) {
            return Err(Flaw::Foreign);
        }
        if has < HEADER_LEN {
            return Err(damaged("it is cut off"));
        }
        let header = Header::read(&bytes)?;
        let mut sum = Running::default();
        sum.take(&bytes);
        Ok(Self {
            source,
            header,
            sum,
            read: 0,
            last: Vec::new(),
            is_over: false,
        })
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// The next record; none at the end of an image that is whole.
    pub(crate) fn next(&mut self) -> Result<Option<(Key, Versioned)>, Flaw> {
        if self.is_over {
            return Ok(None);
        }
        let mut head = [0; 22];
        self.fill(&mut head[..2])?;
        let key_len = usize::from(u16::from_be_bytes([head[0], head[1]]));
        if key_len == 0 {
            self.end()?;
            self.is_over = true;
            return Ok(None);
        }
        self.fill(&mut head[2..])?;
        let mut fields = Fields(&head[2..]);
        let value_len = u32::from_be_bytes(fields.take());
        let (created, modified) = (Revision::new(fields.u64()), Revision::new(fields.u64()));
        let value_len = usize::try_from(value_len).unwrap_or(usize::MAX);
        if value_len > RECORD_MAX {
            return Err(damaged(format!("a length cannot be record={}", self.read)));
        }
        let mut bytes = head.to_vec();
        bytes.resize(22 + key_len + value_len, 0);
        self.fill(&mut bytes[22..])?;
        self.sum.take(&bytes);
        let (key_bytes, value) = bytes[22..].split_at(key_len);
        let is_next = *key_bytes > *self.last;
        if !is_next || created > modified || modified > self.header.revision {
            return Err(damaged(format!("it makes no sense record={}", self.read)));
        }
        let unreadable = |error| damaged(format!("{error} record={}", self.read));
        let key = decode_key(key_bytes).map_err(unreadable)?;
        let record = decode_record(&key, value).map_err(unreadable)?;
        self.last.clear();
        self.last.extend_from_slice(key_bytes);
        self.read += 1;
        Ok(Some((
            key,
            Versioned {
                record,
                created,
                modified,
            },
        )))
    }

    fn end(&mut self) -> Result<(), Flaw> {
        let mut bytes = [0; 14];
        self.fill(&mut bytes[2..])?;
        self.sum.take(&bytes[..10]);
        let count = &bytes[2..10];
        let is_whole = *count == self.read.to_be_bytes()
            && self.read == self.header.records
            && bytes[10..] == self.sum.0.to_be_bytes();
        if !is_whole {
            return Err(damaged("the checksum over all of it does not match"));
        }
        if fill(&mut self.source, &mut [0; 1])? > 0 {
            return Err(damaged("there are bytes after its end"));
        }
        Ok(())
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), Flaw> {
        if fill(&mut self.source, into)? < into.len() {
            return Err(damaged("it is cut off"));
        }
        Ok(())
    }
}

/// Reads until `into` is full or the source ends; returns how many bytes came.
fn fill(source: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut has = 0;
    while has < into.len() {
        match source.read(&mut into[has..]) {
            Ok(0) => break,
            Ok(read) => has += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(has)
}
