//! Blocks of LZ4, as strictly as the strictest decoder takes them.
//!
//! A block is a run of sequences: a token, literals, and a match that repeats earlier output; the last has literals
//! only. The reference decoder refuses blocks whose last match begins or ends too near to the end ("End of block
//! conditions" of the format), since it copies in strides. Ours does not need that, so it is asked for here.

/// No match begins in so many last bytes of the output.
const LAST_MATCH: usize = 12;

/// So many last bytes of the output are literals.
const LAST_LITERALS: usize = 5;

/// Opens a block. None when it is none, or does not fit.
pub(crate) fn open(data: &[u8], into: &mut [u8]) -> Option<usize> {
    if !ends_well(data) {
        return None;
    }
    lz4_flex::block::decompress_into(data, into).ok()
}

/// Whether a block ends as the format wants it, and names no offset of 0.
fn ends_well(mut block: &[u8]) -> bool {
    // Where the last match begins and ends in the output, if there is one.
    let mut last: Option<(usize, usize)> = None;
    let mut at = 0_usize;
    loop {
        let Some(sequence) = next(&mut block) else {
            return false;
        };
        at = at.saturating_add(sequence.literals);
        let Some(repeated) = sequence.repeated else {
            break;
        };
        last = Some((at, at.saturating_add(repeated)));
        at = at.saturating_add(repeated);
    }
    last.is_none_or(|(start, end)| at - start >= LAST_MATCH && at - end >= LAST_LITERALS)
}

/// The lengths of a sequence.
struct Sequence {
    literals: usize,
    /// None: it is the last.
    repeated: Option<usize>,
}

/// Takes the next sequence off a block. None when there is no whole one.
fn next(block: &mut &[u8]) -> Option<Sequence> {
    let token = take(block, 1)?[0];
    let literals = length(block, token >> 4)?;
    take(block, literals)?;
    if block.is_empty() {
        return Some(Sequence {
            literals,
            repeated: None,
        });
    }
    if take(block, 2)? == [0, 0] {
        return None;
    }
    let repeated = length(block, token & 15)?.checked_add(4)?;
    Some(Sequence {
        literals,
        repeated: Some(repeated),
    })
}

/// A length: what the token has of it, and bytes that add up, the last of them below 255.
fn length(block: &mut &[u8], begun: u8) -> Option<usize> {
    let mut sum = usize::from(begun);
    if begun < 15 {
        return Some(sum);
    }
    loop {
        let more = take(block, 1)?[0];
        sum = sum.checked_add(usize::from(more))?;
        if more < 255 {
            return Some(sum);
        }
    }
}

fn take<'a>(block: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = block.split_at_checked(len)?;
    *block = rest;
    Some(taken)
}
