//! Taking the two directories: locks, identities, the incarnation.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::disk::Disk;
use types::{BookieId, ClusterId, Incarnation, NodeName, Revision};

use crate::Config;
use crate::files::{names, sync_names};
use crate::identity::{self, Found, Identity, Role};

use super::{OpenError, Place};

/// The file that a process holds while it uses a directory.
const LOCK: &str = "lock";

/// Both directories, locked, with the incarnation raised in both.
pub(super) struct Directories {
    /// Kept until the engine's process ends.
    pub(super) locks: Vec<Box<dyn Send + Sync>>,
    pub(super) cluster: ClusterId,
    pub(super) set: u128,
    pub(super) name: NodeName,
    pub(super) id: Option<BookieId>,
    pub(super) born: Option<Revision>,
    pub(super) incarnation: Incarnation,
    /// Whether damage was found that no birth has answered yet.
    pub(super) is_damaged: bool,
    /// What was lost, in words.
    pub(super) damage: Vec<String>,
}

impl Directories {
    pub(super) fn take(
        config: &Config,
        disk: &Arc<dyn Disk>,
        place: &Place,
    ) -> Result<Self, OpenError> {
        let (journal_dir, data_dir) = (&config.journal_dir, &config.data_dir);
        let mut locks = Vec::new();
        for dir in [journal_dir, data_dir] {
            disk.create_dir_all(dir)
                .map_err(OpenError::disk("make the directory", dir))?;
            let lock = disk.lock(&dir.join(LOCK));
            locks.push(lock.map_err(|source| locked(dir, source))?);
        }
        for dir in [journal_dir, data_dir] {
            // A process that failed to sync a name has ended, and left it for us to see: what is built on it must not be
            // there after a power loss without it.
            sync_names(&**disk, dir).map_err(OpenError::disk("sync the directory", dir))?;
        }
        let journal = read(&**disk, journal_dir, place)?;
        let data = read(&**disk, data_dir, place)?;
        let mut taken = match (journal, data) {
            (Found::Whole(journal), Found::Whole(data)) => {
                if journal.set != data.set
                    || (journal.role, data.role) != (Role::Journal, Role::Data)
                {
                    return Err(OpenError::Swapped {
                        journal: journal_dir.clone(),
                        data: data_dir.clone(),
                    });
                }
                Self::both(&**disk, config, journal, data)?
            }
            (Found::Whole(journal), other) => Self::one(journal, Role::Journal, &other),
            (other, Found::Whole(data)) => Self::one(data, Role::Data, &other),
            (Found::Blank, Found::Blank)
                if !has_files(&**disk, journal_dir)? && !has_files(&**disk, data_dir)? =>
            {
                Self::blank(place)
            }
            _ => {
                return Err(OpenError::IdentityLost {
                    journal: journal_dir.clone(),
                    data: data_dir.clone(),
                });
            }
        };
        taken.locks = locks;
        taken.incarnation = taken.incarnation.next();
        taken.write(&**disk, config)?;
        Ok(taken)
    }

    /// Writes both identities, the journal's first: the data directory is then never ahead of an honest journal's.
    pub(super) fn write(&self, disk: &dyn Disk, config: &Config) -> Result<(), OpenError> {
        for (role, dir) in [
            (Role::Journal, &config.journal_dir),
            (Role::Data, &config.data_dir),
        ] {
            self.identity(role)
                .write(disk, dir)
                .map_err(OpenError::disk("write the identity", dir))?;
        }
        Ok(())
    }

    fn identity(&self, role: Role) -> Identity {
        Identity {
            role,
            cluster: self.cluster,
            set: self.set,
            name: self.name.clone(),
            id: self.id,
            born: self.born,
            incarnation: self.incarnation,
            is_damaged: self.is_damaged,
        }
    }

    fn of(identity: Identity, mut damage: Vec<String>) -> Self {
        if identity.is_damaged && damage.is_empty() {
            damage.push("an earlier start found damage, and no birth has followed".to_owned());
        }
        Self {
            locks: Vec::new(),
            cluster: identity.cluster,
            set: identity.set,
            name: identity.name,
            id: identity.id,
            born: identity.born,
            incarnation: identity.incarnation,
            is_damaged: identity.is_damaged || !damage.is_empty(),
            damage,
        }
    }

    fn blank(place: &Place) -> Self {
        Self {
            locks: Vec::new(),
            cluster: place.cluster,
            set: place.entropy,
            name: place.name.clone(),
            id: None,
            born: None,
            incarnation: Incarnation::default(),
            is_damaged: false,
            damage: Vec::new(),
        }
    }

    /// Both identities are whole. The journal's is written first, so it may be one start ahead; anything else says
    /// that one of the directories is an older copy.
    fn both(
        disk: &dyn Disk,
        config: &Config,
        journal: Identity,
        data: Identity,
    ) -> Result<Self, OpenError> {
        let (ahead, behind) = (journal.incarnation, data.incarnation);
        let mut damage = Vec::new();
        if ahead == behind.next() {
            // The last start ended between the two. Made even first, or a second such end would look like a copy.
            let even = Identity {
                incarnation: ahead,
                ..data.clone()
            };
            even.write(disk, &config.data_dir)
                .map_err(OpenError::disk("write the identity", &config.data_dir))?;
        } else if ahead != behind {
            damage.push(format!(
                "a directory is an older copy incarnation journal={ahead} data={behind}"
            ));
        }
        let incarnation = ahead.max(behind);
        let merged = Identity {
            id: journal.id.or(data.id),
            born: journal.born.max(data.born),
            incarnation,
            is_damaged: journal.is_damaged || data.is_damaged,
            ..journal
        };
        Ok(Self::of(merged, damage))
    }

    /// One directory's identity is whole, the other's is lost with all or some of what was in it.
    fn one(whole: Identity, role: Role, other: &Found) -> Self {
        let lost = match role {
            Role::Journal => "data",
            Role::Data => "journal",
        };
        let how = match other {
            Found::Blank => "missing",
            Found::Damaged | Found::Newer(_) | Found::Whole(_) => "damaged",
        };
        // A bookie that meta never answered has promised nothing: its first start ended between the two identities.
        let is_promised = whole.id.is_some() || *other != Found::Blank;
        let damage = is_promised.then(|| format!("identity of the {lost} directory is {how}"));
        Self::of(whole, damage.into_iter().collect())
    }
}

fn read(disk: &dyn Disk, dir: &Path, place: &Place) -> Result<Found, OpenError> {
    let found = Identity::read(disk, dir).map_err(OpenError::disk("read the identity", dir))?;
    match &found {
        Found::Newer(format) => Err(OpenError::NewerFormat {
            path: dir.join(identity::FILE),
            format: *format,
            known: identity::FORMAT,
        }),
        Found::Whole(identity) if identity.cluster != place.cluster => {
            Err(OpenError::OtherCluster {
                dir: dir.to_owned(),
                of: identity.cluster,
                joining: place.cluster,
            })
        }
        Found::Whole(identity) if identity.name != place.name => Err(OpenError::OtherBookie {
            dir: dir.to_owned(),
            of: identity.name.clone(),
            starting: place.name.clone(),
        }),
        Found::Whole(_) | Found::Blank | Found::Damaged => Ok(found),
    }
}

/// Whether a directory holds files of a bookie.
fn has_files(disk: &dyn Disk, dir: &Path) -> Result<bool, OpenError> {
    let listed = names(disk, dir).map_err(OpenError::disk("list", dir))?;
    Ok(listed.iter().any(|name| {
        name == crate::manifest::FILE
            || name.ends_with(crate::journal::format::SUFFIX)
            || name.ends_with(crate::store::format::SUFFIX)
    }))
}

fn locked(dir: &Path, source: io::Error) -> OpenError {
    let dir: PathBuf = dir.to_owned();
    if source.kind() == io::ErrorKind::WouldBlock {
        OpenError::Locked { dir }
    } else {
        OpenError::Disk {
            doing: "lock the directory",
            path: dir,
            source,
        }
    }
}
