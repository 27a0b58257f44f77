//! What the simulated disk keeps, and what it may lose.

mod bytes;
mod faults;
mod names;
mod outside;
mod states;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::image::SECTOR;
use super::*;
use crate::disk::{Disk, File, OpenMode};

fn create(disk: &SimDisk, name: &str) -> Arc<dyn File> {
    disk.open(Path::new(name), OpenMode::OpenOrCreate).unwrap()
}

/// A disk with one durable file of `len` bytes.
fn with_file(name: &str, byte: u8, len: usize) -> (SimDisk, Arc<dyn File>) {
    let disk = SimDisk::new(1);
    disk.put(Path::new(name), &vec![byte; len]);
    let file = create(&disk, name);
    (disk, file)
}

fn read(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    disk.contents(Path::new(name)).ok()
}

/// Every distinct outcome of many power losses now.
fn outcomes<T: Ord>(disk: &SimDisk, look: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    let snapshot = disk.snapshot();
    let rng = Rng::seeded(77);
    (0..600).map(|_| look(&snapshot.sample(&rng))).collect()
}

fn sync_root(disk: &SimDisk) {
    disk.sync_dir(Path::new("")).unwrap();
}

fn wide(len: usize) -> u64 {
    image::wide(len)
}
