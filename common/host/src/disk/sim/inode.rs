//! One file of the simulated disk: what the process sees, what would survive, and the changes between the two.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::image::{Image, SECTOR, is_zero, narrow, sectors_of, wide};
use super::{Fate, Unsynced};
use crate::rng::Rng;

/// A file, whatever names it has.
#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    /// What reads see.
    pub(super) live: Image,
    /// What survives whatever happens.
    pub(super) durable: Image,
    /// What separates the two, oldest first.
    unsynced: Vec<Change>,
    /// A sync has failed: parts of `live` are held to be clean and will never be written, though they are not durable.
    has_lost_writes: bool,
}

/// A change that is not synced.
#[derive(Debug, Clone)]
struct Change {
    /// The number of the call that made it.
    op: u64,
    /// The file's length before and after.
    len_before: u64,
    len_after: u64,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Write { offset: u64, data: Arc<[u8]> },
    Zeros { offset: u64, len: usize },
    SetLen,
}

impl Change {
    /// The bytes it writes; none when it only sets the length.
    fn range(&self) -> (u64, usize) {
        match &self.what {
            What::Write { offset, data } => (*offset, data.len()),
            What::Zeros { offset, len } => (*offset, *len),
            What::SetLen => (0, 0),
        }
    }

    fn apply(&self, image: &mut Image) {
        match &self.what {
            What::Write { offset, data } => image.write(*offset, data),
            What::Zeros { offset, len } => image.write_zeros(*offset, *len),
            What::SetLen => image.set_len(self.len_after),
        }
    }

    /// Where it cuts the file off, if it does.
    fn cut(&self) -> Option<u64> {
        let cuts = matches!(self.what, What::SetLen) && self.len_after < self.len_before;
        cuts.then_some(self.len_after)
    }

    /// Writes the part of it that lies in a sector.
    fn apply_to_sector(&self, sector: u64, bytes: &mut [u8; SECTOR]) {
        let (offset, len) = self.range();
        let start = sector * wide(SECTOR);
        let first = offset.max(start);
        let end = (offset + wide(len)).min(start + wide(SECTOR));
        if first >= end {
            return;
        }
        let into = &mut bytes[narrow(first - start)..narrow(end - start)];
        match &self.what {
            What::Write { data, .. } => {
                into.copy_from_slice(&data[narrow(first - offset)..narrow(end - offset)]);
            }
            What::Zeros { .. } | What::SetLen => into.fill(0),
        }
    }
}

impl Inode {
    /// A file that was always there.
    pub(super) fn durable(image: Image) -> Self {
        Self {
            live: image.clone(),
            durable: image,
            ..Self::default()
        }
    }

    pub(super) fn write(&mut self, op: u64, offset: u64, data: &[u8]) {
        let what = if is_zero(data) {
            What::Zeros {
                offset,
                len: data.len(),
            }
        } else {
            What::Write {
                offset,
                data: Arc::from(data),
            }
        };
        if !data.is_empty() {
            let end = offset + wide(data.len());
            self.change(op, what, self.live.len().max(end));
        }
    }

    pub(super) fn set_len(&mut self, op: u64, len: u64) {
        if len != self.live.len() {
            self.change(op, What::SetLen, len);
        }
    }

    fn change(&mut self, op: u64, what: What, len_after: u64) {
        let change = Change {
            op,
            len_before: self.live.len(),
            len_after,
            what,
        };
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    /// Makes all changes durable, except what an earlier failed sync has lost.
    pub(super) fn sync(&mut self) {
        let has_new_len = self
            .unsynced
            .iter()
            .any(|change| matches!(change.what, What::SetLen));
        if self.has_lost_writes {
            for change in &self.unsynced {
                change.apply(&mut self.durable);
            }
        } else if has_new_len {
            self.durable = self.live.clone();
        } else {
            // The common case, in proportion to what was written and without copying it.
            for change in &self.unsynced {
                let (offset, len) = change.range();
                self.durable.share(&self.live, offset, len);
            }
            self.durable.take_len(self.live.len());
        }
        self.unsynced.clear();
    }

    /// Lets a sync fail: what was not synced is durable in part, the rest never will be, and nobody is told which.
    pub(super) fn fail_sync(
        &mut self,
        decide: &mut dyn FnMut(&Unsynced, u64) -> Fate,
        path: &Arc<Path>,
    ) {
        self.durable = self.settle(decide, path);
        self.unsynced.clear();
        self.has_lost_writes |= self.durable != self.live;
    }

    /// The file after a power loss in which fate decides on each change that was not synced.
    ///
    /// Lengths are kept up to one of them, as file systems keep their metadata in order. Each sector is at one of its
    /// versions, for itself; but when a cut of the file is kept, nothing from before it shows past it.
    pub(super) fn settle(
        &self,
        decide: &mut dyn FnMut(&Unsynced, u64) -> Fate,
        path: &Arc<Path>,
    ) -> Image {
        let mut image = self.durable.clone();
        if self.unsynced.is_empty() {
            return image;
        }
        let kept_len = self.settle_len(decide, path);
        let len = kept_len.map_or(self.durable.len(), |at| self.unsynced[at].len_after);
        let is_kept_cut = |at: usize| kept_len.is_some_and(|last| at <= last);
        let cuts: Vec<(usize, u64)> = (0..self.unsynced.len())
            .filter(|at| is_kept_cut(*at))
            .filter_map(|at| self.unsynced[at].cut().map(|len| (at, len)))
            .collect();
        if let Some(shortest) = cuts.iter().map(|(_, len)| *len).min() {
            image.cut(shortest);
        }
        for (sector, versions) in self.versions() {
            let bytes = self.settle_sector(sector, &versions, &cuts, &mut |version| {
                let op = self.unsynced[versions[version]].op;
                let path = Arc::clone(path);
                let asked = Unsynced::Sector {
                    path,
                    sector,
                    version,
                };
                decide(&asked, op)
            });
            image.put_sector(sector, &bytes);
        }
        image.cut(len);
        image.take_len(len);
        image
    }

    /// Which change of length is the last that was kept.
    fn settle_len(
        &self,
        decide: &mut dyn FnMut(&Unsynced, u64) -> Fate,
        path: &Arc<Path>,
    ) -> Option<usize> {
        let mut kept = None;
        for (at, change) in self.unsynced.iter().enumerate() {
            if change.len_after == change.len_before {
                continue;
            }
            let asked = Unsynced::Length {
                path: Arc::clone(path),
                len: change.len_after,
            };
            if decide(&asked, change.op) != Fate::Lost {
                kept = Some(at);
            }
        }
        kept
    }

    /// The changes that wrote to each sector, by their place. Zeros upon zeros change nothing and are left out.
    fn versions(&self) -> BTreeMap<u64, Vec<usize>> {
        let mut versions: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (at, change) in self.unsynced.iter().enumerate() {
            let is_zeros = matches!(change.what, What::Zeros { .. });
            let (offset, len) = change.range();
            for sector in sectors_of(offset, len) {
                let is_idle = is_zeros
                    && !versions.contains_key(&sector)
                    && self.durable.is_zero_around(sector);
                if !is_idle {
                    versions.entry(sector).or_default().push(at);
                }
            }
        }
        versions
    }

    fn settle_sector(
        &self,
        sector: u64,
        versions: &[usize],
        cuts: &[(usize, u64)],
        decide: &mut dyn FnMut(usize) -> Fate,
    ) -> [u8; SECTOR] {
        let mut last = None;
        for version in 0..versions.len() {
            match decide(version) {
                Fate::Lost => {}
                fate => last = Some((version, fate)),
            }
        }
        let Some((version, fate)) = last else {
            return self.sector_at(sector, &[], cuts);
        };
        let mut bytes = self.sector_at(sector, &versions[..=version], cuts);
        if let Fate::Torn(len) = fate {
            let before = self.sector_at(sector, &versions[..version], cuts);
            let len = len.min(SECTOR);
            bytes[len..].copy_from_slice(&before[len..]);
        }
        bytes
    }

    /// A sector after some of its versions and all kept cuts, in their order.
    fn sector_at(&self, sector: u64, versions: &[usize], cuts: &[(usize, u64)]) -> [u8; SECTOR] {
        let mut bytes = self.durable.sector(sector);
        let mut cuts = cuts.iter().peekable();
        let cut_to = |bytes: &mut [u8; SECTOR], len: u64| {
            let keep = len.saturating_sub(sector * wide(SECTOR)).min(wide(SECTOR));
            bytes[narrow(keep)..].fill(0);
        };
        for at in versions {
            while let Some((_, len)) = cuts.next_if(|(cut, _)| cut < at) {
                cut_to(&mut bytes, *len);
            }
            self.unsynced[*at].apply_to_sector(sector, &mut bytes);
        }
        for (_, len) in cuts {
            cut_to(&mut bytes, *len);
        }
        bytes
    }

    /// Numbers of the first and last call with a change that is not synced.
    pub(super) fn unsynced_ops(&self) -> impl Iterator<Item = u64> {
        self.unsynced.iter().map(|change| change.op)
    }

    /// Writes parts of what was asked, as a write that fails does: nothing, a beginning, or sectors here and there.
    pub(super) fn write_partly(&mut self, op: u64, offset: u64, data: &[u8], rng: &Rng) {
        let sectors = sectors_of(offset, data.len());
        let count = sectors.end - sectors.start;
        let (mode, end) = (rng.below(3), rng.below(count + 1));
        for sector in sectors.clone() {
            let is_taken = match mode {
                0 => false,
                1 => sector - sectors.start < end,
                _ => rng.one_in(2),
            };
            if is_taken {
                let first = (sector * wide(SECTOR)).max(offset);
                let last = ((sector + 1) * wide(SECTOR)).min(offset + wide(data.len()));
                self.write(
                    op,
                    first,
                    &data[narrow(first - offset)..narrow(last - offset)],
                );
            }
        }
    }
}
