//! The text of `FORMAT`: what the directory is, whose, of which generation, and whether it was moved away. Pure.
//!
//! Lines: what it is and its format, the cluster, the generation where it is not the first, the move where there was one,
//! and a CRC32C over all of them. A directory with either of the two optional lines has format 2, so that a binary that
//! does not know of them never opens it.

use types::cluster::MetaGeneration;
use types::{ClusterId, WallTime, crc32c};

/// The first line, without the number.
const HEAD: &str = "ledgerline meta format=";
/// The format without generation and move, and the one with them.
const PLAIN: &str = "1";
const FULL: &str = "2";

/// What a directory says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) cluster: ClusterId,
    pub(super) generation: MetaGeneration,
    pub(super) moved: Option<Moved>,
}

/// Where a store went that never opens again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moved {
    /// The image.
    pub(super) image: u128,
    /// When it was taken.
    pub(super) at: WallTime,
    /// The file it was written to.
    pub(super) file: String,
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    Damaged,
    NewerFormat(String),
}

impl Identity {
    pub(super) const fn new(cluster: ClusterId, generation: MetaGeneration) -> Self {
        Self {
            cluster,
            generation,
            moved: None,
        }
    }

    pub(super) fn to_text(&self) -> String {
        let is_plain = self.generation == MetaGeneration::default() && self.moved.is_none();
        let format = if is_plain { PLAIN } else { FULL };
        let mut body = format!("{HEAD}{format}\ncluster={}\n", self.cluster);
        if !is_plain {
            let MetaGeneration {
                number,
                mark,
                goes_on,
            } = self.generation;
            let goes_on = goes_on.map_or_else(|| "-".to_owned(), |mark| format!("{mark:032x}"));
            body.push_str(&format!("generation={number} {mark:032x} {goes_on}\n"));
        }
        if let Some(moved) = &self.moved {
            let Moved { image, at, file } = moved;
            let (at, file) = (at.as_nanos(), file.escape_default());
            body.push_str(&format!("moved={image:032x} {at} {file}\n"));
        }
        format!("{body}{}\n", crc32c(body.as_bytes()))
    }

    pub(super) fn read(text: &str) -> Result<Self, Flaw> {
        let format = text
            .strip_prefix(HEAD)
            .and_then(|rest| rest.lines().next())
            .ok_or(Flaw::Damaged)?;
        let split = text.len().saturating_sub(9);
        let body = text.get(..split).ok_or(Flaw::Damaged)?;
        if text != format!("{body}{}\n", crc32c(body.as_bytes())) {
            return Err(Flaw::Damaged);
        }
        if ![PLAIN, FULL].contains(&format) {
            return Err(Flaw::NewerFormat(format.to_owned()));
        }
        let mut lines = body.lines().skip(1);
        let cluster = lines.next().and_then(|line| line.strip_prefix("cluster="));
        let cluster = cluster.and_then(hex).ok_or(Flaw::Damaged)?;
        let mut identity = Self::new(ClusterId::new(cluster), MetaGeneration::default());
        for line in lines {
            let known = if let Some(rest) = line.strip_prefix("generation=") {
                generation(rest).map(|it| identity.generation = it)
            } else if let Some(rest) = line.strip_prefix("moved=") {
                moved(rest).map(|it| identity.moved = Some(it))
            } else {
                None
            };
            known.ok_or(Flaw::Damaged)?;
        }
        Ok(identity)
    }
}

fn hex(text: &str) -> Option<u128> {
    u128::from_str_radix(text, 16).ok()
}

fn generation(text: &str) -> Option<MetaGeneration> {
    let mut parts = text.split(' ');
    let generation = MetaGeneration {
        number: parts.next()?.parse().ok()?,
        mark: hex(parts.next()?)?,
        goes_on: match parts.next()? {
            "-" => None,
            mark => Some(hex(mark)?),
        },
    };
    parts.next().is_none().then_some(generation)
}

fn moved(text: &str) -> Option<Moved> {
    let mut parts = text.splitn(3, ' ');
    Some(Moved {
        image: hex(parts.next()?)?,
        at: WallTime::from_nanos(parts.next()?.parse().ok()?),
        file: parts.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let first = MetaGeneration::default();
        Identity::new(ClusterId::new(7), first.next(0xab, true))
    }

    #[test]
    fn what_a_directory_says_is_read_back() {
        let mut all = vec![Identity::new(ClusterId::new(7), MetaGeneration::default())];
        all.push(identity());
        all.push(Identity::new(
            ClusterId::new(7),
            identity().generation.next(9, false),
        ));
        for mut identity in all {
            assert_eq!(Identity::read(&identity.to_text()), Ok(identity.clone()));
            identity.moved = Some(Moved {
                image: 5,
                at: WallTime::from_nanos(99),
                file: "/a b/c".to_owned(),
            });
            assert_eq!(Identity::read(&identity.to_text()), Ok(identity.clone()));
        }
    }

    #[test]
    fn a_moved_or_later_directory_is_of_a_format_that_older_binaries_refuse() {
        let mut plain = Identity::new(ClusterId::new(7), MetaGeneration::default());
        assert!(plain.to_text().starts_with("ledgerline meta format=1\n"));
        assert!(
            identity()
                .to_text()
                .starts_with("ledgerline meta format=2\n")
        );
        plain.moved = Some(Moved {
            image: 5,
            at: WallTime::from_nanos(1),
            file: "a\nb".to_owned(),
        });
        assert!(plain.to_text().starts_with("ledgerline meta format=2\n"));
    }

    #[test]
    fn every_changed_byte_of_the_text_is_found() {
        let text = identity().to_text();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(Identity::read(&changed), Err(Flaw::Damaged), "byte {at}");
            assert!(Identity::read(&text[..at]).is_err(), "cut at {at}");
        }
    }
}
