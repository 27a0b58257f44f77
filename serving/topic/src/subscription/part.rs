//! Cutting a run of messages out of an encoded batch.

use bytes::Bytes;

use types::batch;

/// Cuts messages out of a batch: skips `skip`, takes up to `count`, and stops before `bytes_max` is passed, but never
/// before the first one. A run of records is a batch again, so nothing is copied. Returns the bytes and how many
/// messages they are; none when the batch has no such messages.
pub(crate) fn cut(batch: &Bytes, skip: u64, count: u64, bytes_max: u64) -> Option<(Bytes, u64)> {
    let mut records = batch::records(batch).skip(usize::try_from(skip).ok()?);
    let first = records.next()?.whole;
    let (mut end, mut taken) = (first.end, 1);
    while taken < count {
        let next = records.next()?.whole.end;
        if u64::try_from(next - first.start).is_ok_and(|len| len > bytes_max) {
            break;
        }
        end = next;
        taken += 1;
    }
    Some((batch.slice(first.start..end), taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four messages.
    const BATCH: &[u8] = &[0x0a, 1, 9, 0x0a, 1, 8, 0x0a, 2, 7, 7, 0x0a, 0];

    fn taken(skip: u64, count: u64, bytes_max: u64) -> Option<(Vec<u8>, u64)> {
        let batch = Bytes::from_static(BATCH);
        cut(&batch, skip, count, bytes_max).map(|(bytes, count)| (bytes.to_vec(), count))
    }

    #[test]
    fn a_part_is_a_run_of_records() {
        assert_eq!(taken(0, 2, 99), Some((BATCH[..6].to_vec(), 2)));
        assert_eq!(taken(1, 1, 99), Some((BATCH[3..6].to_vec(), 1)));
        assert_eq!(taken(2, 2, 99), Some((BATCH[6..].to_vec(), 2)));
    }

    #[test]
    fn bytes_stop_a_part_but_never_before_the_first_message() {
        assert_eq!(taken(0, 4, 7), Some((BATCH[..6].to_vec(), 2)));
        assert_eq!(taken(2, 2, 1), Some((BATCH[6..10].to_vec(), 1)));
    }

    #[test]
    fn what_is_not_there_is_not_taken() {
        assert_eq!(taken(4, 1, 99), None);
        assert_eq!(taken(3, 2, 99), None);
        assert_eq!(cut(&Bytes::from_static(&[0x0a, 5, 1]), 0, 1, 99), None);
        assert_eq!(cut(&Bytes::from_static(&[0x10, 5]), 0, 1, 99), None);
    }
}
