//! A stopped store as an image, and an image as a store. Calls block.

use std::path::Path;

use catalog::{Passage, carry};
use redb::Database;
use types::Revision;

use super::EmbeddedConfig;
use super::data::{count, create_with, each_record, facts_of, is_restored, verify};
use super::directory::Directory;
use super::identity::{Identity, Moved};
use crate::image::{Fresh, Header, ImageError, ImageFile, Kind, Progress};

/// Writes the records of a store that nobody uses into a file.
///
/// The file is whole and durable, and has its own name, when this returns.
pub(crate) fn save(
    config: &EmbeddedConfig,
    file: &ImageFile,
    fresh: Fresh,
    progress: &Progress,
) -> Result<Header, ImageError> {
    let dir = Directory::new(&file.disk, &config.dir, config.cache_bytes);
    let _lock = lock(&dir)?;
    let identity = known(&dir)?;
    let header = write(&dir, &identity, file, (Kind::Backup, fresh), progress)?;
    file.name()?;
    Ok(header)
}

/// The same, and the store never opens again.
///
/// The file is durable before the store says that it was moved, and has its own name only afterwards: a file of that
/// name is never that of a store which goes on. Cut short between the two, the same call again finishes.
pub(crate) fn export(
    config: &EmbeddedConfig,
    file: &ImageFile,
    fresh: Fresh,
    progress: &Progress,
) -> Result<Header, ImageError> {
    let dir = Directory::new(&file.disk, &config.dir, config.cache_bytes);
    let _lock = lock(&dir)?;
    let mut identity = known(&dir)?;
    if let Some(moved) = &identity.moved
        && let Some(header) = file.check_unfinished()
        && header.id == moved.image
        && !file.exists()?
    {
        file.name()?;
        return Ok(header);
    }
    let header = write(&dir, &identity, file, (Kind::Export, fresh), progress)?;
    identity.moved = Some(Moved {
        image: header.id,
        at: header.taken,
        file: file.path.display().to_string(),
    });
    dir.write_identity(&identity)?;
    file.name()?;
    Ok(header)
}

/// Makes a store of a file, in a directory that has none. The file is read to its end before anything is changed.
pub(crate) fn restore(
    config: &EmbeddedConfig,
    file: &ImageFile,
    generation_mark: u128,
    progress: &Progress,
) -> Result<Header, ImageError> {
    let header = file.check(progress)?;
    let dir = Directory::new(&file.disk, &config.dir, config.cache_bytes);
    dir.io(file.disk.create_dir_all(dir.dir))?;
    let _lock = dir.lock()?;
    let (path, new) = (dir.dir.join("meta.redb"), dir.dir.join("meta.redb.new"));
    check_empty(&dir, &path)?;
    for left_over in [&new, &path] {
        if dir.io(file.disk.exists(left_over))? {
            dir.io(file.disk.remove(left_over))?;
        }
    }
    let db = dir.database(&new)?;
    fill(&dir, &db, file, &header, progress)?;
    dir.data(verify(&db))?;
    drop(db);
    dir.io(file.disk.rename(&new, &path))?;
    dir.io(file.disk.sync_dir(dir.dir))?;
    let generation = header.generation.next(generation_mark, false);
    dir.write_identity(&Identity::new(header.cluster, generation))?;
    Ok(header)
}

/// Takes a directory that must be there: looking must not make one.
fn lock(dir: &Directory<'_>) -> Result<Box<dyn Send + Sync>, ImageError> {
    if !dir.io(dir.disk.exists(&dir.dir.join("FORMAT")))? {
        return Err(no_store(dir));
    }
    Ok(dir.lock()?)
}

fn known(dir: &Directory<'_>) -> Result<Identity, ImageError> {
    let identity = dir.identity()?;
    identity.ok_or_else(|| no_store(dir))
}

fn no_store(dir: &Directory<'_>) -> ImageError {
    let what = format!("the directory {}", dir.dir.display());
    ImageError::NoStore { what }
}

/// Refuses a directory with a store in it, except what a restore left that was cut short.
fn check_empty(dir: &Directory<'_>, database: &Path) -> Result<(), ImageError> {
    let occupied = || ImageError::Occupied {
        what: format!("the directory {}", dir.dir.display()),
    };
    if dir.io(dir.disk.exists(&dir.dir.join("FORMAT")))? {
        return Err(occupied());
    }
    if !dir.io(dir.disk.exists(database))? {
        return Ok(());
    }
    let db = dir.database(database)?;
    match dir.data(facts_of(&db))? {
        None => Ok(()),
        Some((_, revision)) if revision == Revision::default() => Ok(()),
        Some(_) if dir.data(is_restored(&db))? => Ok(()),
        Some(_) => Err(occupied()),
    }
}

/// Writes a whole image, durable and still without its own name.
fn write(
    dir: &Directory<'_>,
    identity: &Identity,
    file: &ImageFile,
    (kind, fresh): (Kind, Fresh),
    progress: &Progress,
) -> Result<Header, ImageError> {
    let (db, cluster, revision) = dir.open_known(identity)?;
    let header = Header {
        kind,
        id: fresh.id,
        cluster,
        generation: identity.generation,
        revision,
        records: dir.data(count(&db))?,
        taken: fresh.taken,
    };
    let mut output = file.begin(&header)?;
    let mut written = 0;
    let done = each_record(&db, |key, found| {
        written += 1;
        progress.told("written", written, header.records);
        file.io(output.record(key, found))
    });
    dir.data(done)??;
    file.end(output)?;
    Ok(header)
}

/// Puts the records of a file into a new database, durably.
fn fill(
    dir: &Directory<'_>,
    db: &Database,
    file: &ImageFile,
    header: &Header,
    progress: &Progress,
) -> Result<(), ImageError> {
    let mut input = file.open()?;
    let mut read = 0;
    let next = || {
        let Some((key, found)) = file.flaw(input.next())? else {
            return Ok(None);
        };
        read += 1;
        progress.told("restored", read, header.records);
        let record = carry(&key, found, Passage::Restore);
        Ok(Some((key, record)))
    };
    let revision = Passage::Restore.base(header.revision).next();
    dir.data(create_with(db, header.cluster, revision, next))?
}
