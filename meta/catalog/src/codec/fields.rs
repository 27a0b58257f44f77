//! The fields of records: numbers big-endian, texts and lists with their length before them.

use std::str::FromStr;
use std::time::Duration;

use types::chain::{Chain, ChainLink, LinkEnd};
use types::{EntryId, LedgerSeq, LogId, Offset, Quorum, Revision};

use super::{DecodeError, malformed};

pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn with(first: u8) -> Self {
        Self(vec![first])
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    fn len(&mut self, len: usize) {
        self.u32(u32::try_from(len).expect("no field comes near four billion"));
    }

    pub(super) fn text(&mut self, text: &str) {
        self.len(text.len());
        self.raw(text.as_bytes());
    }

    pub(super) fn list<T>(&mut self, items: &[T], each: impl Fn(&mut Self, &T)) {
        self.len(items.len());
        for item in items {
            each(self, item);
        }
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, each: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                each(self, value);
            }
        }
    }

    pub(super) fn duration(&mut self, value: Duration) {
        self.u64(value.as_secs());
        self.u32(value.subsec_nanos());
    }

    pub(super) fn quorum(&mut self, quorum: Quorum) {
        let byte = |copies: usize| u8::try_from(copies).expect("a quorum is at most 7");
        self.u8(byte(quorum.write()));
        self.u8(byte(quorum.ack()));
    }

    pub(super) fn chain(&mut self, chain: &Chain) {
        self.u64(chain.log.get());
        self.u32(chain.first.get());
        self.u64(chain.first_offset.get());
        self.list(&chain.links, |out, link| {
            out.u32(link.seq.get());
            out.u64(link.first_offset.get());
            out.option(link.end, |out, end| {
                out.option(end.last, |out, last| out.u64(last.get()));
                out.u64(end.next_offset.get());
            });
        });
    }
}

pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    what: &'static str,
    /// The format that the bytes are of.
    pub(super) format: u8,
}

impl<'b> Reader<'b> {
    pub(super) const fn new(bytes: &'b [u8], what: &'static str) -> Self {
        Self {
            bytes,
            what,
            format: super::FORMAT,
        }
    }

    const fn malformed(&self) -> DecodeError {
        malformed(self.what)
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(self.malformed())?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(self.malformed())?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(super) const fn end(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed()),
        }
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A revision carried over from another store, at the end of a record; none in a record that this store made.
    pub(super) fn carried(&mut self) -> Result<Option<Revision>, DecodeError> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        self.u64().map(|revision| Some(Revision::new(revision)))
    }

    pub(super) fn u128(&mut self) -> Result<u128, DecodeError> {
        self.array().map(u128::from_be_bytes)
    }

    fn len(&mut self) -> Result<usize, DecodeError> {
        let len = usize::try_from(self.u32()?).map_err(|_| self.malformed())?;
        // Every item takes a byte at least: a length beyond the bytes is damage, not a reason to allocate.
        if len > self.bytes.len() {
            return Err(self.malformed());
        }
        Ok(len)
    }

    pub(super) fn text(&mut self) -> Result<&'b str, DecodeError> {
        let len = self.len()?;
        std::str::from_utf8(self.take(len)?).map_err(|_| self.malformed())
    }

    pub(super) fn text_as<T: FromStr>(&mut self) -> Result<T, DecodeError> {
        self.text()?.parse().map_err(|_| self.malformed())
    }

    /// All that is left, as a name in its one full spelling.
    pub(super) fn rest_as<T: FromStr + ToString>(&mut self) -> Result<T, DecodeError> {
        let rest = self.take(self.bytes.len())?;
        let text = std::str::from_utf8(rest).map_err(|_| self.malformed())?;
        let name: T = text.parse().map_err(|_| self.malformed())?;
        if name.to_string() != text {
            return Err(self.malformed());
        }
        Ok(name)
    }

    pub(super) fn list<T>(
        &mut self,
        each: impl Fn(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let len = self.len()?;
        (0..len).map(|_| each(self)).collect()
    }

    pub(super) fn option<T>(
        &mut self,
        each: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.bool()? {
            each(self).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(super) fn duration(&mut self) -> Result<Duration, DecodeError> {
        let seconds = self.u64()?;
        let nanos = self.u32()?;
        if nanos >= 1_000_000_000 {
            return Err(self.malformed());
        }
        Ok(Duration::new(seconds, nanos))
    }

    pub(super) fn quorum(&mut self) -> Result<Quorum, DecodeError> {
        let write = self.u8()?;
        Quorum::new(write, self.u8()?).map_err(|_| self.malformed())
    }

    pub(super) fn chain(&mut self) -> Result<Chain, DecodeError> {
        Ok(Chain {
            log: LogId::new(self.u64()?),
            first: LedgerSeq::new(self.u32()?),
            first_offset: Offset::new(self.u64()?),
            links: self.list(|r| {
                Ok(ChainLink {
                    seq: LedgerSeq::new(r.u32()?),
                    first_offset: Offset::new(r.u64()?),
                    end: r.option(|r| {
                        Ok(LinkEnd {
                            last: r.option(|r| r.u64().map(EntryId::new))?,
                            next_offset: Offset::new(r.u64()?),
                        })
                    })?,
                })
            })?,
        })
    }
}
