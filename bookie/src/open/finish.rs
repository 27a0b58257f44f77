//! The second half of opening: meta has answered.
//!
//! An undamaged journal goes on where it ended, and a start frame covers a torn tail. A bookie that is born, or born again, begins a new journal: what
//! could be verified goes to a data file, and the old journal goes once a MANIFEST that does not need it is durable.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::disk::OpenMode;
use types::MonoTime;
use types::cluster::BookieRecord;

use ledger::Acceptor;

use crate::Engine;
use crate::codec::wide;
use crate::engine::{Opened, Whose, file_uuid};
use crate::files::{names, remove_if_there, replace, sync_names};
use crate::journal::core::{FullFile, JournalCore, OpenFile};
use crate::journal::format::{BLOCK, FileHeader, FrameKind, FramePlace, encode_frame};
use crate::journal::jobs::{PREPARING, PrepareJob};
use crate::journal::replay::Surveyed;
use crate::manifest::{self, Manifest};
use crate::store::memtable::Memtable;
use crate::store::writer::{Make, write_table};

use super::{OpenError, OpenReport, Opening};

/// What the journal is once it can be written to.
struct Ready {
    current: OpenFile,
    full: VecDeque<FullFile>,
    spares: Vec<(PathBuf, u64)>,
    /// The sequence of the start frame.
    start: u64,
}

pub(super) fn finish(
    mut opening: Opening,
    record: &BookieRecord,
    now: MonoTime,
) -> Result<(Engine, OpenReport), OpenError> {
    check(&opening, record)?;
    let last = opening.journal.last_sequence();
    let is_new = !opening.damage.is_empty()
        || opening.born != Some(record.born)
        || record.mark > last
        || opening.journal.last.is_none();
    let make = Make {
        disk: Arc::clone(&opening.disk),
        dir: opening.config.data_dir.clone(),
        cluster: opening.place.cluster,
        set: opening.directories.set,
        block: opening.config.block,
        kept: opening.config.kept(),
    };
    let acceptor = Acceptor::restore(
        record.born,
        opening.acceptor.facts(),
        opening.acceptor.deleted(),
    );
    let ready = if is_new {
        let start = last
            .max(opening.journal.highest_sequence)
            .max(opening.mark)
            .max(record.mark)
            + 1;
        save_table(&mut opening, &make)?;
        opening.mark = start;
        begin_journal(&opening, start)?
    } else {
        go_on(&opening)?
    };
    persist(&mut opening, record, &acceptor, ready.start)?;
    sweep(&opening, is_new)?;
    let report = OpenReport {
        id: record.id,
        born: record.born,
        incarnation: opening.directories.incarnation,
        frames: opening.journal.frames,
        records: opening.journal.records,
        cut_tail: opening.journal.torn,
        direct: ready.current.file.is_direct(),
        damage: opening.damage.clone(),
    };
    let engine = engine(opening, make, acceptor, ready, now)?;
    Ok((engine, report))
}

fn check(opening: &Opening, record: &BookieRecord) -> Result<(), OpenError> {
    let refuse = |what: String| Err(OpenError::Record { what });
    if record.name != opening.place.name {
        return refuse(format!(
            "it is of another bookie name={} record={}",
            opening.place.name, record.name
        ));
    }
    if let Some(id) = opening.id.filter(|id| *id != record.id) {
        return refuse(format!(
            "it has another number disk={id} record={}",
            record.id
        ));
    }
    if let Some(born) = opening.born.filter(|born| *born > record.born) {
        return refuse(format!(
            "it was born earlier than the disk says disk={born} record={}",
            record.born
        ));
    }
    let last = opening.journal.last_sequence();
    if record.mark > last && opening.born == Some(record.born) {
        return refuse(format!(
            "the disk is older than it and the bookie was not born again disk={last} record={}",
            record.mark
        ));
    }
    if !opening.damage.is_empty() && opening.born == Some(record.born) {
        return refuse(format!(
            "the disk is damaged and the bookie was not born again born={}",
            record.born
        ));
    }
    Ok(())
}

/// Puts what the journal still held into a data file, so that the journal can go.
fn save_table(opening: &mut Opening, make: &Make) -> Result<(), OpenError> {
    if opening.table.is_empty() {
        return Ok(());
    }
    let number = opening.next_file;
    opening.next_file += 1;
    // To the last byte: without it there is no start.
    let make = &Make {
        kept: 0,
        ..make.clone()
    };
    let file = write_table(make, number, &opening.table)
        .map_err(OpenError::disk("write a data file", &make.path(number)))?;
    opening.files.insert(number, Arc::new(file));
    opening.table = Memtable::default();
    Ok(())
}

/// Makes the first file of a new journal.
fn begin_journal(opening: &Opening, start: u64) -> Result<Ready, OpenError> {
    let number = opening.journal.highest_number + 1;
    let mut current = make_file(opening, number, None)?;
    write_start(opening, &mut current, start)?;
    Ok(Ready {
        current,
        full: VecDeque::new(),
        spares: Vec::new(),
        start,
    })
}

/// Goes on in the journal that is there.
fn go_on(opening: &Opening) -> Result<Ready, OpenError> {
    let journal = &opening.journal;
    let last = journal.last.as_ref().expect("checked by the caller");
    let file = reopen(opening, &journal.files[last.file])?;
    let start = last.header.sequence + 1;

    let mut full = VecDeque::new();
    let mut spares = Vec::new();
    for (index, surveyed) in journal.files.iter().enumerate() {
        let path = surveyed.path.clone();
        let size = surveyed.header.size;
        match surveyed.frames {
            _ if index == last.file => {}
            // Made ahead and not used, or already below the mark: free.
            None => spares.push((path, size)),
            Some((_, last)) if last < opening.mark => spares.push((path, size)),
            Some((_, last)) => full.push_back(FullFile { path, size, last }),
        }
    }
    let mut current = file;
    if current.end + BLOCK > current.header.size {
        full.push_back(FullFile {
            path: current.path,
            size: current.header.size,
            last: last.header.sequence,
        });
        let size = opening.config.journal_file.get();
        let fits = spares.iter().position(|(_, spare)| *spare == size);
        let source = fits.map(|at| spares.remove(at).0);
        current = make_file(opening, journal.highest_number + 1, source)?;
    }
    write_start(opening, &mut current, start)?;
    Ok(Ready {
        current,
        full,
        spares,
        start,
    })
}

fn reopen(opening: &Opening, surveyed: &Surveyed) -> Result<OpenFile, OpenError> {
    let path = &surveyed.path;
    let file = opening
        .disk
        .open_direct(path, OpenMode::ReadWrite)
        .map_err(OpenError::disk("open", path))?;
    Ok(OpenFile {
        file,
        header: surveyed.header,
        path: path.clone(),
        end: surveyed.end,
    })
}

/// Makes a journal file, small unless there is a used one to take.
fn make_file(
    opening: &Opening,
    number: u64,
    source: Option<PathBuf>,
) -> Result<OpenFile, OpenError> {
    let config = &opening.config;
    let size = match source {
        Some(_) => config.journal_file,
        None => config.journal_first_file,
    };
    let header = FileHeader {
        cluster: opening.place.cluster,
        set: opening.directories.set,
        number,
        size: size.get(),
        uuid: file_uuid(opening.place.entropy, number),
    };
    PrepareJob::new(
        Arc::clone(&opening.disk),
        config.journal_dir.clone(),
        header,
        source,
        0, // Without it there is no start, and nothing else is under way.
    )
    .run_whole()
    .map_err(OpenError::disk(
        "make a journal file in",
        &config.journal_dir,
    ))
}

/// Writes a start frame at the end, over a torn tail if there is one, and syncs it before anything else is written.
fn write_start(opening: &Opening, file: &mut OpenFile, sequence: u64) -> Result<(), OpenError> {
    let place = FramePlace {
        uuid: file.header.uuid,
        sequence,
        offset: file.end,
        kind: FrameKind::Start,
    };
    let frame = encode_frame(place, &[]);
    file.file
        .write_at(file.end, &frame)
        .and_then(|()| file.file.sync_data())
        .map_err(OpenError::disk("write the start frame", &file.path))?;
    file.end += wide(frame.len());
    let dir = &opening.config.journal_dir;
    sync_names(&*opening.disk, dir).map_err(OpenError::disk("sync the directory", dir))
}

/// Makes the birth durable: first the MANIFEST, then the identities, which say that there is one.
fn persist(
    opening: &mut Opening,
    record: &BookieRecord,
    acceptor: &Acceptor,
    start: u64,
) -> Result<(), OpenError> {
    let files = opening.files.iter();
    let manifest = Manifest {
        cluster: opening.place.cluster,
        set: opening.directories.set,
        id: record.id,
        born: record.born,
        incarnation: opening.directories.incarnation,
        mark: opening.mark,
        last_frame: start,
        next_file: opening.next_file,
        files: files
            .map(|(number, file)| (*number, file.listed()))
            .collect(),
        logs: acceptor.facts().collect(),
        deleted: acceptor.deleted().collect(),
    };
    let dir = opening.config.data_dir.clone();
    replace(&*opening.disk, &dir, manifest::FILE, &manifest.encode())
        .map_err(OpenError::disk("write the MANIFEST in", &dir))?;
    opening.directories.id = Some(record.id);
    opening.directories.born = Some(record.born);
    // The birth that is durable now is the answer to whatever was found.
    opening.directories.is_damaged = false;
    opening.directories.write(&*opening.disk, &opening.config)
}

/// Removes what the durable MANIFEST does not need.
fn sweep(opening: &Opening, is_new: bool) -> Result<(), OpenError> {
    let disk = &*opening.disk;
    let remove = |path: &Path| remove_if_there(disk, path).map_err(OpenError::disk("remove", path));
    for path in &opening.unlisted {
        remove(path)?;
    }
    if is_new {
        for path in &opening.journal.paths {
            remove(path)?;
        }
    }
    for dir in [&opening.config.journal_dir, &opening.config.data_dir] {
        let listed = names(disk, dir).map_err(OpenError::disk("list", dir))?;
        let unfinished = listed
            .iter()
            .filter(|name| name.ends_with(".new") || *name == PREPARING);
        for name in unfinished {
            remove(&dir.join(name))?;
        }
        sync_names(disk, dir).map_err(OpenError::disk("sync the directory", dir))?;
    }
    Ok(())
}

fn engine(
    opening: Opening,
    make: Make,
    acceptor: Acceptor,
    ready: Ready,
    now: MonoTime,
) -> Result<Engine, OpenError> {
    let config = opening.config;
    let mut free_bytes = u64::MAX;
    for dir in [&config.journal_dir, &config.data_dir] {
        let space = opening.disk.space(dir);
        let space = space.map_err(OpenError::disk("ask for the space of", dir))?;
        free_bytes = free_bytes.min(space.free_bytes);
    }
    let journal = JournalCore::new(
        (config.group_max.get(), config.idle_after),
        (ready.current, ready.full),
        ready.start,
        opening.journal.highest_number + 1,
    );
    let opened = Opened {
        whose: Whose {
            id: opening.directories.id.expect("just written"),
            incarnation: opening.directories.incarnation,
            entropy: opening.place.entropy,
        },
        make,
        acceptor,
        journal,
        active: opening.table,
        files: opening.files,
        next_file: opening.next_file,
        mark: opening.mark,
        spares: ready.spares,
        free_bytes,
        locks: opening.directories.locks,
        config,
    };
    Ok(Engine::new(opened, now))
}
