//! Cutting a run of messages out of an encoded batch.

use bytes::Bytes;

/// Cuts messages out of a batch: skips `skip`, takes up to `count`, and stops before `bytes_max` is passed, but never
/// before the first one. A run of records is a batch again, so nothing is copied. Returns the bytes and how many
/// messages they are; none when the batch has no such messages.
pub(crate) fn cut(batch: &Bytes, skip: u64, count: u64, bytes_max: u64) -> Option<(Bytes, u64)> {
    let mut at = 0;
    for _ in 0..skip {
        at = next_record(batch, at)?.1;
    }
    let (start, mut end) = next_record(batch, at)?;
    let mut taken = 1;
    while taken < count {
        let (_, next) = next_record(batch, end)?;
        if u64::try_from(next - start).is_ok_and(|len| len > bytes_max) {
            break;
        }
        end = next;
        taken += 1;
    }
    Some((batch.slice(start..end), taken))
}

const MESSAGES: u64 = 1;
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LEN: u64 = 2;
const FIXED32: u64 = 5;

/// The bounds of the first record at or after `at`. Fields this program does not know are passed over.
fn next_record(batch: &[u8], mut at: usize) -> Option<(usize, usize)> {
    loop {
        let start = at;
        let (tag, after) = varint(batch, at)?;
        at = match tag & 7 {
            VARINT => varint(batch, after)?.1,
            FIXED64 => after.checked_add(8)?,
            FIXED32 => after.checked_add(4)?,
            LEN => {
                let (len, body) = varint(batch, after)?;
                body.checked_add(usize::try_from(len).ok()?)?
            }
            _ => return None,
        };
        if at > batch.len() {
            return None;
        }
        if tag == (MESSAGES << 3) | LEN {
            return Some((start, at));
        }
    }
}

fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.get(at..)?.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            return Some((value, at + index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of one byte each, with a field nobody knows between them.
    const BATCH: &[u8] = &[
        0x0a, 1, b'a', 0x0a, 1, b'b', 0x10, 0x96, 0x01, 0x0a, 2, b'c', b'c', 0x0a, 0,
    ];

    fn taken(skip: u64, count: u64, bytes_max: u64) -> Option<(Vec<u8>, u64)> {
        let batch = Bytes::from_static(BATCH);
        cut(&batch, skip, count, bytes_max).map(|(bytes, count)| (bytes.to_vec(), count))
    }

    #[test]
    fn a_part_is_a_run_of_records() {
        assert_eq!(taken(0, 2, 99), Some((BATCH[..6].to_vec(), 2)));
        assert_eq!(taken(1, 1, 99), Some((BATCH[3..6].to_vec(), 1)));
        assert_eq!(taken(2, 2, 99), Some((BATCH[9..].to_vec(), 2)));
        assert_eq!(taken(1, 2, 99), Some((BATCH[3..13].to_vec(), 2)));
    }

    #[test]
    fn bytes_stop_a_part_but_never_before_the_first_message() {
        assert_eq!(taken(0, 4, 7), Some((BATCH[..6].to_vec(), 2)));
        assert_eq!(taken(2, 2, 1), Some((BATCH[9..13].to_vec(), 1)));
    }

    #[test]
    fn what_is_not_there_is_not_taken() {
        assert_eq!(taken(4, 1, 99), None);
        assert_eq!(taken(3, 2, 99), None);
        assert_eq!(cut(&Bytes::from_static(&[0x0a, 5, 1]), 0, 1, 99), None);
        assert_eq!(cut(&Bytes::from_static(&[0x0b, 5, 1]), 0, 1, 99), None);
    }
}
