//! What a generated message holds: a stamp that tells who made it, which one it is and when it was due, with a checksum
//! over everything; and noise, so that nothing can be compressed, but for zeros that are asked for.

use std::sync::Arc;

use bytes::Bytes;
use types::MonoTime;

/// Bytes of a stamp: mark, checksum, run, stream, number, due; all little endian.
pub(super) const LEN: usize = 32;
/// Where what the checksum covers begins: everything behind the checksum.
const COVERED: usize = 8;
/// What a message of a bench begins with.
const MARK: [u8; 4] = *b"LLb1";
/// Noise passes by before it comes again: more than any window of a compressor that looks at one batch.
const NOISE: usize = 1 << 20;
/// How many places messages take their noise from: few where they are large, and no more where they are tiny.
const PLACES: std::ops::Range<usize> = 16..4096;

/// Which message of which bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The run of the bench, a random number.
    pub(super) run: u32,
    /// Who sent it: numbers go up within a stream.
    pub(super) stream: u32,
    /// Its number in the stream, from 0.
    pub(super) number: u64,
    /// When it was due, by the clock of the process that made it.
    pub(super) due: MonoTime,
}

/// Why a message has no stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unstamped {
    /// It was not made by a bench, or its first bytes are damaged.
    Foreign,
    /// It is not as it was made.
    Corrupted,
}

/// Reads the stamp of a message, and checks all of the message.
pub(super) fn read(payload: &[u8]) -> Result<Stamp, Unstamped> {
    if payload.get(..MARK.len()) != Some(&MARK[..]) {
        return Err(Unstamped::Foreign);
    }
    if payload.len() < LEN {
        return Err(Unstamped::Corrupted);
    }
    if u32_at(payload, 4) != checksum(sum(&payload[LEN..]), &payload[COVERED..LEN]) {
        return Err(Unstamped::Corrupted);
    }
    Ok(Stamp {
        run: u32_at(payload, 8),
        stream: u32_at(payload, 12),
        number: u64_at(payload, 16),
        due: MonoTime::from_nanos(u64_at(payload, 24)),
    })
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The checksum of a message: of the sum of its noise, and its stamp.
fn checksum(noise: u64, stamp: &[u8]) -> u32 {
    let words = stamp.as_chunks::<8>().0.iter();
    let all = words.fold(noise, |all, word| {
        (all.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(STEP)
    });
    #[expect(clippy::cast_possible_truncation, reason = "the halves are folded")]
    let folded = (all ^ (all >> 32)) as u32;
    folded
}

/// A sum that is several times faster than a CRC, so that a bench measures the cluster and not itself. Each step is a
/// bijection, so that a change of one word never goes by; it is no protection against anybody.
fn sum(bytes: &[u8]) -> u64 {
    let mut lanes = [1_u64, 2, 3, 4];
    let mut take = |chunk: &[u8; 32]| {
        for (lane, word) in lanes.iter_mut().zip(chunk.as_chunks::<8>().0) {
            *lane = (*lane ^ u64::from_le_bytes(*word)).wrapping_mul(STEP);
        }
    };
    let (chunks, rest) = bytes.as_chunks::<32>();
    chunks.iter().for_each(&mut take);
    let mut last = [0; 32];
    last[..rest.len()].copy_from_slice(rest);
    take(&last);
    lanes.iter().fold(bytes.len() as u64, |all, lane| {
        (all.rotate_left(23) ^ lane).wrapping_mul(STEP)
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Noise that all streams of a run cut their messages from. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Noise {
    bytes: Arc<[u8]>,
    /// Where messages take their noise from, one after the other, and its sum: made once, since a pass over every message
    /// would be a good part of what publishing costs.
    places: Arc<[(usize, u64)]>,
    /// Bytes of noise in a message.
    noise: usize,
    size: usize,
}

impl Noise {
    /// Enough for messages of `size` bytes, which is [`LEN`] at least, with so many percent of them zeros.
    pub(super) fn new(rng: &host::Rng, size: usize, zeros: u8) -> Self {
        let mut bytes = vec![0; NOISE + size];
        rng.fill(&mut bytes);
        let rest = size - LEN;
        let noise = rest - rest * usize::from(zeros.min(100)) / 100;
        let count = (NOISE / rest.max(1)).clamp(PLACES.start, PLACES.end);
        let mut whole = vec![0; rest];
        let places = (0..count).map(|index| {
            let at = index * rest % NOISE;
            whole[..noise].copy_from_slice(&bytes[at..at + noise]);
            (at, sum(&whole))
        });
        let places = places.collect();
        Self {
            bytes: bytes.into(),
            places,
            noise,
            size,
        }
    }
}

/// Makes the messages of one stream.
#[derive(Debug)]
pub(super) struct Maker {
    noise: Noise,
    /// The next message's among the noise's places.
    place: usize,
    run: u32,
    stream: u32,
    number: u64,
}

impl Maker {
    pub(super) fn new(noise: &Noise, run: u32, stream: u32) -> Self {
        Self {
            noise: noise.clone(),
            // Streams begin at different places, so that a batch of several has no noise twice either.
            place: (stream as usize).wrapping_mul(77) % noise.places.len(),
            run,
            stream,
            number: 0,
        }
    }

    /// The next message of the stream.
    pub(super) fn next(&mut self, due: MonoTime) -> Bytes {
        let Noise {
            bytes,
            places,
            noise,
            size,
        } = &self.noise;
        let (at, sum) = places[self.place];
        let mut payload = Vec::with_capacity(*size);
        payload.extend_from_slice(&MARK);
        payload.extend_from_slice(&[0; 4]);
        payload.extend_from_slice(&self.run.to_le_bytes());
        payload.extend_from_slice(&self.stream.to_le_bytes());
        payload.extend_from_slice(&self.number.to_le_bytes());
        payload.extend_from_slice(&due.as_nanos().to_le_bytes());
        payload.extend_from_slice(&bytes[at..at + noise]);
        payload.resize(*size, 0);
        let checksum = checksum(sum, &payload[COVERED..LEN]);
        payload[4..COVERED].copy_from_slice(&checksum.to_le_bytes());
        self.place = (self.place + 1) % places.len();
        self.number += 1;
        payload.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maker(size: usize, zeros: u8) -> Maker {
        Maker::new(&Noise::new(&host::Rng::seeded(7), size, zeros), 3, 5)
    }

    #[test]
    fn a_message_tells_what_it_is() {
        let sizes = [LEN, 100, 1024, 1 << 20];
        for (size, zeros) in sizes
            .into_iter()
            .flat_map(|size| [0, 30, 100].map(|it| (size, it)))
        {
            let mut maker = maker(size, zeros);
            for number in 0..3 {
                let due = MonoTime::from_nanos(number * 17);
                let payload = maker.next(due);
                assert_eq!(payload.len(), size);
                let stamp = Stamp {
                    run: 3,
                    stream: 5,
                    number,
                    due,
                };
                assert_eq!(read(&payload), Ok(stamp));
            }
        }
    }

    #[test]
    fn a_changed_bit_anywhere_is_noticed() {
        let payload = maker(100, 50).next(MonoTime::ZERO);
        for bit in 0..payload.len() * 8 {
            let mut changed = payload.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&changed).is_err(), "bit {bit}");
        }
        for len in 0..payload.len() {
            assert!(read(&payload[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn what_no_bench_made_is_foreign() {
        for payload in ["", "LLb", "a line of text that is longer than a stamp"] {
            assert_eq!(read(payload.as_bytes()), Err(Unstamped::Foreign));
        }
    }

    #[test]
    fn messages_of_a_batch_have_no_noise_in_common() {
        let mut maker = maker(1024, 0);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..256 {
            let payload = maker.next(MonoTime::ZERO);
            for piece in payload[LEN..].chunks_exact(16) {
                assert!(seen.insert(piece.to_vec()), "noise comes again");
            }
        }
    }

    #[test]
    fn so_many_percent_of_the_noise_are_zeros() {
        for (zeros, expected) in [(0, 0), (25, 25), (50, 50), (100, 100)] {
            let payload = maker(LEN + 10_000, zeros).next(MonoTime::ZERO);
            let count = payload[LEN..].iter().filter(|byte| **byte == 0).count();
            let percent = count / 100; // A zero in 256 bytes is noise.
            assert_eq!(percent, expected, "{zeros}");
        }
    }
}
