//! Generations of the metadata: what a handshake tells, and who is refused for it.

use bytes::Bytes;
use types::cluster::MetaGeneration;
use types::{Problem, Reason};

use crate::meta_v1 as pb;

/// A generation on the wire; the first one is left out.
pub fn generation_to_wire(generation: &MetaGeneration) -> Option<pb::Generation> {
    let mark = |mark: u128| Bytes::copy_from_slice(&mark.to_be_bytes());
    (*generation != MetaGeneration::default()).then(|| pb::Generation {
        number: generation.number,
        mark: mark(generation.mark),
        goes_on: generation.goes_on.map(mark),
    })
}

/// Reads a generation.
///
/// # Errors
///
/// `BAD_FIELD` names what makes no sense.
pub fn generation(wire: Option<&pb::Generation>) -> Result<MetaGeneration, Problem> {
    let Some(wire) = wire else {
        return Ok(MetaGeneration::default());
    };
    let mark = |field: &str, bytes: &[u8]| {
        let bytes = <[u8; 16]>::try_from(bytes);
        let bytes = bytes.map_err(|_| Problem::bad_field(field, "16 bytes are needed"));
        bytes.map(u128::from_be_bytes)
    };
    Ok(MetaGeneration {
        number: wire.number,
        mark: mark("generation.mark", &wire.mark)?,
        goes_on: match &wire.goes_on {
            Some(bytes) => Some(mark("generation.goes_on", bytes)?),
            None => None,
        },
    })
}

/// Checks that a caller knows this very generation.
///
/// # Errors
///
/// `UNREACHABLE` to one that has seen a later one: it is this meta that must not be believed. `WRONG_GENERATION` to any
/// other. `BAD_FIELD` when what it says makes no sense.
pub fn check_generation(caller: Option<&pb::Caller>, own: &MetaGeneration) -> Result<(), Problem> {
    let known = generation(caller.and_then(|caller| caller.generation.as_ref()))?;
    if known.is(own) {
        return Ok(());
    }
    let (reason, message) = if known.number > own.number {
        let message =
            "this meta serves metadata that was moved or restored elsewhere since: stop it";
        (Reason::Unreachable, message)
    } else {
        let message = "the metadata was moved or restored since this node learned of it: start the node again";
        (Reason::WrongGeneration, message)
    };
    let message = format!("{message} generation={own} known={known}");
    Err(Problem::new(reason, message).with("generation", own))
}

#[cfg(test)]
mod tests {
    use types::ClusterId;

    use super::super::caller_of;
    use super::*;

    #[test]
    fn a_generation_survives_the_wire_and_damage_is_named() {
        let first = MetaGeneration::default();
        let moved = first.next(0xab, true);
        for one in [first, moved, moved.next(5, false)] {
            assert_eq!(generation(generation_to_wire(&one).as_ref()), Ok(one));
        }
        let mut bad = generation_to_wire(&moved).unwrap();
        bad.mark = Bytes::from_static(b"short");
        assert_eq!(generation(Some(&bad)).unwrap_err().reason, Reason::BadField);
    }

    #[test]
    fn only_who_knows_this_generation_is_served() {
        let first = MetaGeneration::default();
        let (moved, other) = (first.next(1, true), first.next(2, true));
        let refused = |known: &MetaGeneration, own: &MetaGeneration| {
            let caller = caller_of(ClusterId::new(1), known);
            check_generation(Some(&caller), own)
                .err()
                .map(|it| it.reason)
        };
        for own in [&first, &moved] {
            assert_eq!(refused(own, own), None);
        }
        // One behind, and one that was told of another with the same number.
        assert_eq!(refused(&first, &moved), Some(Reason::WrongGeneration));
        assert_eq!(refused(&other, &moved), Some(Reason::WrongGeneration));
        // The node is right, and this meta is not.
        assert_eq!(refused(&moved, &first), Some(Reason::Unreachable));
    }
}
