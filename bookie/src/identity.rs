//! Whose directory this is: one small file in each directory, replaced whole.
//!
//! Both directories of a bookie carry the same set number, made when they were blank. A directory of another cluster
//! or bookie is refused; one that is blank while the other is not, or that is older than the other allows, is a loss.

use std::path::Path;

use host::disk::Disk;
use types::{BookieId, ClusterId, Incarnation, NodeName, Revision};

use crate::codec::{Broken, Reader, Writer, seal, unseal};
use crate::files::{read_whole, replace};

/// The file's name.
pub const FILE: &str = "identity";
/// The format this version writes.
pub const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"LLIDENT1";

/// Which of a bookie's two directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The journal's.
    Journal,
    /// The data files' and the MANIFEST's.
    Data,
}

/// What a directory's identity file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Which directory it is.
    pub role: Role,
    /// The cluster.
    pub cluster: ClusterId,
    /// Random, the same in both directories of a bookie.
    pub set: u128,
    /// The bookie's name.
    pub name: NodeName,
    /// The bookie's number; none before it was first registered.
    pub id: Option<BookieId>,
    /// Its birth as of the last start that meta answered.
    pub born: Option<Revision>,
    /// How often it has started.
    pub incarnation: Incarnation,
    /// Whether a start found damage that no birth has answered yet.
    pub is_damaged: bool,
}

/// What was found where an identity file should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No file.
    Blank,
    /// A file that fails its checksum or makes no sense.
    Damaged,
    /// A file of a later format.
    Newer(u32),
    /// The identity.
    Whole(Identity),
}

impl Identity {
    /// The file's bytes.
    ///
    /// # Panics
    ///
    /// Never: names are at most 255 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Writer::default();
        body.u8(match self.role {
            Role::Journal => 1,
            Role::Data => 2,
        });
        body.u128(self.cluster.get());
        body.u128(self.set);
        body.option(self.id.map(BookieId::get));
        body.option(self.born.map(Revision::get));
        body.u64(self.incarnation.get());
        body.u8(u8::from(self.is_damaged));
        let name = self.name.as_str().as_bytes();
        body.u16(u16::try_from(name.len()).expect("names are short"));
        body.bytes(name);
        seal(MAGIC, FORMAT, &body.0)
    }

    /// Reads the file's bytes.
    pub fn decode(bytes: &[u8]) -> Found {
        match unseal(MAGIC, FORMAT, bytes) {
            Err(Broken::Newer(format)) => Found::Newer(format),
            Err(Broken::Damaged) => Found::Damaged,
            Ok(body) => Self::decode_body(body).map_or(Found::Damaged, Found::Whole),
        }
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let role = match reader.u8()? {
            1 => Role::Journal,
            2 => Role::Data,
            _ => return None,
        };
        let cluster = ClusterId::new(reader.u128()?);
        let set = reader.u128()?;
        let id = reader.option()?.map(BookieId::new);
        let born = reader.option()?.map(Revision::new);
        let incarnation = Incarnation::new(reader.u64()?);
        let is_damaged = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let length = reader.u16()?;
        let name = std::str::from_utf8(reader.take(usize::from(length))?).ok()?;
        let name: NodeName = name.parse().ok()?;
        reader.is_empty().then_some(Self {
            role,
            cluster,
            set,
            name,
            id,
            born,
            incarnation,
            is_damaged,
        })
    }

    /// Reads a directory's identity.
    ///
    /// # Errors
    ///
    /// Those of the system; a damaged file is not an error but [`Found::Damaged`].
    pub fn read(disk: &dyn Disk, dir: &Path) -> std::io::Result<Found> {
        let bytes = read_whole(disk, &dir.join(FILE))?;
        Ok(bytes.map_or(Found::Blank, |bytes| Self::decode(&bytes)))
    }

    /// Replaces a directory's identity, durably.
    ///
    /// # Errors
    ///
    /// Those of the system; which of the two identities is there is then not known.
    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> std::io::Result<()> {
        replace(disk, dir, FILE, &self.encode())
    }
}
