//! Memory: copies and checksums.

use std::hint::black_box;

use crate::rounds::Rounds;
use crate::rows::{COPY, CRC32C, Row};

/// Bytes at a time: a large batch.
const PIECE: usize = 256 << 10;
/// Bytes in all: more than the caches of a core hold.
const WHOLE: usize = 64 << 20;

/// Measures both.
pub(crate) fn measure(rounds: &Rounds) -> Vec<Row> {
    // Not zeros, which the system would back by one page.
    let from = vec![7; WHOLE];
    let mut to = vec![1; WHOLE];
    let copied = over(rounds, |at| {
        to[at..at + PIECE].copy_from_slice(black_box(&from[at..at + PIECE]));
        black_box(&to);
    });
    let checked = over(rounds, |at| {
        black_box(types::crc32c(black_box(&from[at..at + PIECE])));
    });
    vec![Row::of_rates(COPY, copied), Row::of_rates(CRC32C, checked)]
}

/// Works through all pieces again and again.
fn over(rounds: &Rounds, mut work: impl FnMut(usize)) -> Vec<f64> {
    let mut pieces = (0..WHOLE).step_by(PIECE).cycle();
    let one_round = |_| {
        let round = rounds.begin();
        let mut bytes = 0;
        while round.goes_on() {
            pieces.by_ref().take(1).for_each(&mut work);
            bytes += PIECE as u64;
        }
        round.rate(bytes)
    };
    rounds.all().map(one_round).collect()
}
