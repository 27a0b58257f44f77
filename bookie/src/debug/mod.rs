//! What is on the disk in words, so that a person can look inside. Tolerant: damage is described, never an error.
//!
//! For a bookie that is stopped; nothing is written, locked or repaired.

use std::fmt::{self, Write};
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use host::disk::{Disk, File, OpenMode};
use types::storage::AddKind;

use crate::codec::{narrow, wide};
use crate::files::{names, read_whole};
use crate::identity::{self, Identity};
use crate::journal::format::{
    BLOCK, FileHeader, FrameHeader, Record, SUFFIX as JOURNAL, decode_records,
};
use crate::manifest::{self, Manifest};
use crate::store::format::{
    self as data, FILE_HEADER, Footer, SUFFIX as DATA, TRAILER, Trailer, decode_block, decode_entry,
};

/// Why a description ended early.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// The disk refused.
    #[error("disk refused to read")]
    Disk(#[from] io::Error),
    /// The output refused.
    #[error("output refused")]
    Output(#[from] fmt::Error),
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Files, frames, blocks.
    Brief,
    /// Every record and entry too.
    Records,
}

/// Describes a directory of a bookie: its identity, its MANIFEST, its journal and data files.
///
/// # Errors
///
/// See [`DescribeError`].
pub fn describe_dir(
    disk: &dyn Disk,
    dir: &Path,
    detail: Detail,
    out: &mut dyn Write,
) -> Result<(), DescribeError> {
    for name in names(disk, dir)? {
        let path = dir.join(&name);
        match name.as_str() {
            identity::FILE => describe_identity(disk, &path, out)?,
            manifest::FILE => describe_manifest(disk, &path, out)?,
            _ if name.ends_with(JOURNAL) => describe_journal(disk, &path, detail, out)?,
            _ if name.ends_with(DATA) => describe_data(disk, &path, detail, out)?,
            "lock" => {}
            _ => writeln!(out, "{name}: not a file of the store")?,
        }
    }
    Ok(())
}

/// Describes an identity file.
///
/// # Errors
///
/// See [`DescribeError`].
pub fn describe_identity(
    disk: &dyn Disk,
    path: &Path,
    out: &mut dyn Write,
) -> Result<(), DescribeError> {
    let bytes = read_whole(disk, path)?.unwrap_or_default();
    match Identity::decode(&bytes) {
        identity::Found::Whole(it) => {
            writeln!(
                out,
                "identity: {:?} directory of bookie {} id={} born={} incarnation={} cluster={} set={:032x}{}",
                it.role,
                it.name,
                shown(it.id),
                shown(it.born),
                it.incarnation,
                it.cluster,
                it.set,
                if it.is_damaged {
                    " DAMAGE NOT ANSWERED"
                } else {
                    ""
                }
            )?;
        }
        identity::Found::Newer(format) => writeln!(out, "identity: newer format {format}")?,
        identity::Found::Blank | identity::Found::Damaged => writeln!(out, "identity: DAMAGED")?,
    }
    Ok(())
}

/// Describes a MANIFEST.
///
/// # Errors
///
/// See [`DescribeError`].
pub fn describe_manifest(
    disk: &dyn Disk,
    path: &Path,
    out: &mut dyn Write,
) -> Result<(), DescribeError> {
    let bytes = read_whole(disk, path)?.unwrap_or_default();
    match Manifest::decode(&bytes) {
        manifest::Found::Whole(it) => {
            writeln!(
                out,
                "MANIFEST: bookie {} born={} incarnation={} mark={} last_frame={} next_file={} cluster={} set={:032x}",
                it.id,
                it.born,
                it.incarnation,
                it.mark,
                it.last_frame,
                it.next_file,
                it.cluster,
                it.set
            )?;
            for (number, file) in &it.files {
                writeln!(
                    out,
                    "  data file {number:016x} length={} footer_crc={:08x}",
                    file.length, file.footer_crc
                )?;
            }
            for (log, facts) in &it.logs {
                writeln!(
                    out,
                    "  log {log} fence={} highest={} first_live={} lac={}",
                    shown(facts.fence),
                    shown(facts.highest),
                    facts.first_live,
                    facts
                        .lac
                        .map_or_else(|| "none".to_owned(), |(seq, lac)| format!("{seq}:{lac}"))
                )?;
            }
            for log in &it.deleted {
                writeln!(out, "  log {log} deleted")?;
            }
        }
        manifest::Found::Newer(format) => writeln!(out, "MANIFEST: newer format {format}")?,
        manifest::Found::Missing | manifest::Found::Damaged => writeln!(out, "MANIFEST: DAMAGED")?,
    }
    Ok(())
}

/// Describes a journal file frame by frame, damaged ones and those of an earlier use among them.
///
/// # Errors
///
/// See [`DescribeError`].
pub fn describe_journal(
    disk: &dyn Disk,
    path: &Path,
    detail: Detail,
    out: &mut dyn Write,
) -> Result<(), DescribeError> {
    let file = disk.open(path, OpenMode::Read)?;
    let length = file.len()?;
    let header = FileHeader::decode(&part(&file, 0, BLOCK)?);
    let uuid = match header {
        Ok(header) => {
            writeln!(
                out,
                "{}: journal file number={} size={} length={length} uuid={:032x} cluster={}",
                path.display(),
                header.number,
                header.size,
                header.uuid,
                header.cluster
            )?;
            Some(header.uuid)
        }
        Err(broken) => {
            let name = path.display();
            writeln!(
                out,
                "{name}: journal file header {broken:?} length={length}"
            )?;
            None
        }
    };
    let mut offset = BLOCK;
    let mut earlier = 0_u64;
    while offset + BLOCK <= length {
        let Some(frame) = FrameHeader::decode(&part(&file, offset, BLOCK)?) else {
            offset += BLOCK;
            continue;
        };
        if uuid.is_some_and(|uuid| uuid != frame.uuid) || frame.offset != offset {
            earlier += 1;
            offset += BLOCK;
            continue;
        }
        let bytes = Bytes::from(part(&file, offset, u64::from(frame.length))?);
        let is_whole = frame.holds(&bytes);
        writeln!(
            out,
            "  frame {} at {offset} {:?} length={} records={}{}",
            frame.sequence,
            frame.kind,
            frame.length,
            frame.records,
            if is_whole { "" } else { " TORN OR DAMAGED" }
        )?;
        if !is_whole {
            offset += BLOCK;
            continue;
        }
        if detail == Detail::Records {
            describe_records(&frame, &bytes, out)?;
        }
        offset += u64::from(frame.length).max(BLOCK);
    }
    if earlier > 0 {
        writeln!(out, "  frames of an earlier use of the file: {earlier}")?;
    }
    Ok(())
}

fn describe_records(
    frame: &FrameHeader,
    bytes: &Bytes,
    out: &mut dyn Write,
) -> Result<(), fmt::Error> {
    let Some(records) = decode_records(frame, bytes) else {
        return writeln!(out, "    RECORDS DO NOT PARSE");
    };
    for record in records {
        match record {
            Record::Add {
                ledger,
                created,
                epoch,
                lac,
                kind,
                entry,
            } => writeln!(
                out,
                "    {} {ledger} {} epoch={epoch} created={created} lac={} next_offset={} bytes={} crc={}",
                match kind {
                    AddKind::Write => "add",
                    AddKind::Recovery => "add by recovery",
                    AddKind::Repair => "add by repair",
                },
                entry.id,
                shown(lac),
                entry.next_offset,
                entry.payload.len(),
                entry.crc
            )?,
            Record::Fence { log, epoch } => writeln!(out, "    fence log {log} epoch={epoch}")?,
        }
    }
    Ok(())
}

/// Describes a data file: its ledgers and its blocks, each verified.
///
/// # Errors
///
/// See [`DescribeError`].
pub fn describe_data(
    disk: &dyn Disk,
    path: &Path,
    detail: Detail,
    out: &mut dyn Write,
) -> Result<(), DescribeError> {
    let file = disk.open(path, OpenMode::Read)?;
    let length = file.len()?;
    let name = path.display();
    match data::FileHeader::decode(&part(&file, 0, wide(FILE_HEADER))?) {
        Ok(header) => writeln!(
            out,
            "{name}: data file number={} length={length} cluster={}",
            header.number, header.cluster
        )?,
        Err(broken) => writeln!(out, "{name}: data file header {broken:?} length={length}")?,
    }
    let at = length.saturating_sub(wide(TRAILER));
    let Some(trailer) = Trailer::decode(&part(&file, at, wide(TRAILER))?) else {
        writeln!(out, "  trailer DAMAGED")?;
        return Ok(());
    };
    let footer = part(
        &file,
        trailer.footer_offset,
        trailer.footer_length.min(length),
    )?;
    let is_whole = types::crc32c(&footer).get() == trailer.footer_crc;
    let Some(footer) = Footer::decode(&footer).filter(|_| is_whole) else {
        writeln!(out, "  footer DAMAGED")?;
        return Ok(());
    };
    for run in &footer.runs {
        writeln!(
            out,
            "  ledger {} {}..{} entries={} bytes={} created={}",
            run.ledger, run.first, run.last, run.entries, run.bytes, run.created
        )?;
    }
    for block in &footer.blocks {
        let bytes = Bytes::from(part(&file, block.offset, u64::from(block.length))?);
        let number = crate::files::number_of(
            path.file_name()
                .and_then(|name| name.to_str())
                .unwrap_or(""),
            DATA,
        );
        let body = decode_block(number.unwrap_or(0), &bytes);
        writeln!(
            out,
            "  block at {} length={} entries={} first={} {}{}",
            block.offset,
            block.length,
            block.entries,
            block.first.ledger,
            block.first.entry,
            if body.is_some() { "" } else { " DAMAGED" }
        )?;
        if let (Detail::Records, Some((_, body))) = (detail, body) {
            describe_entries(body, out)?;
        }
    }
    Ok(())
}

fn describe_entries(mut body: Bytes, out: &mut dyn Write) -> Result<(), fmt::Error> {
    while !body.is_empty() {
        let Some(stored) = decode_entry(&mut body) else {
            return writeln!(out, "    ENTRIES DO NOT PARSE");
        };
        let entry = &stored.entry;
        writeln!(
            out,
            "    {} {} next_offset={} bytes={} crc={}{}",
            stored.ledger,
            entry.id,
            entry.next_offset,
            entry.payload.len(),
            entry.crc,
            if entry.is_intact(stored.ledger) {
                ""
            } else {
                " DAMAGED"
            }
        )?;
    }
    Ok(())
}

/// Bytes of a file, as many as there are; what cannot be read is left out.
fn part(file: &Arc<dyn File>, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let end = file.len()?.min(offset.saturating_add(length));
    let mut bytes = vec![0; narrow(end.saturating_sub(offset))];
    let count = file.read_at(offset, &mut bytes).unwrap_or(0);
    bytes.truncate(count);
    Ok(bytes)
}

fn shown<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}
