//! Payloads that say who sent them.
//!
//! Layout, little endian: `LLW1`, writer's length u16, partition's length u16, n u64, writer, partition, filling, CRC32C of
//! everything before it u32.

use types::crc32c;

use super::prng::Prng;

const MAGIC: &[u8; 4] = b"LLW1";
const HEAD_BYTES: usize = 16;
const CRC_BYTES: usize = 4;

/// Which message a payload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Who sent it.
    pub writer: String,
    /// The partition it was sent to.
    pub partition: String,
    /// The writer's number on that partition, from 0.
    pub n: u64,
}

/// Why a payload is none of ours, or no longer whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// Shorter than its own head says.
    #[error("payload is cut short")]
    Short,
    /// It does not begin as our payloads do.
    #[error("payload is not of a workload")]
    Foreign,
    /// Its checksum is wrong.
    #[error("payload has a wrong checksum")]
    Checksum,
    /// Its names are not UTF-8, or its filling is not what the stamp gives.
    #[error("payload has the wrong content under a right checksum")]
    Content,
}

impl Stamp {
    /// The payload of this message with `size` bytes, or as many as the stamp alone needs.
    ///
    /// # Panics
    ///
    /// When a name is longer than 65,535 bytes.
    pub fn payload(&self, size: usize) -> Vec<u8> {
        let length = |text: &str| {
            u16::try_from(text.len())
                .expect("names are short")
                .to_le_bytes()
        };
        let names = self.writer.len() + self.partition.len();
        let filling = size.saturating_sub(HEAD_BYTES + names + CRC_BYTES);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + names + filling + CRC_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&length(&self.writer));
        bytes.extend_from_slice(&length(&self.partition));
        bytes.extend_from_slice(&self.n.to_le_bytes());
        bytes.extend_from_slice(self.writer.as_bytes());
        bytes.extend_from_slice(self.partition.as_bytes());
        let mut prng = self.prng();
        let end = bytes.len() + filling;
        while bytes.len() < end {
            let word = prng.next_u64().to_le_bytes();
            let take = word.len().min(end - bytes.len());
            bytes.extend_from_slice(&word[..take]);
        }
        bytes.extend_from_slice(&crc32c(&bytes).get().to_le_bytes());
        bytes
    }

    /// Reads the stamp of a payload and checks that the payload is whole.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the history gets a delivery with an empty writer.
    pub fn read(payload: &[u8]) -> Result<Self, Damaged> {
        if !payload.starts_with(MAGIC) {
            return Err(Damaged::Foreign);
        }
        let (body, crc) = payload
            .split_last_chunk::<CRC_BYTES>()
            .ok_or(Damaged::Short)?;
        let (head, rest) = body
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or(Damaged::Short)?;
        if crc32c(body).get() != u32::from_le_bytes(*crc) {
            return Err(Damaged::Checksum);
        }
        let [_, _, _, _, w0, w1, p0, p1, n @ ..] = *head;
        let writer_len = usize::from(u16::from_le_bytes([w0, w1]));
        let partition_len = usize::from(u16::from_le_bytes([p0, p1]));
        let (writer, rest) = rest.split_at_checked(writer_len).ok_or(Damaged::Short)?;
        let (partition, filling) = rest.split_at_checked(partition_len).ok_or(Damaged::Short)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| Damaged::Content);
        let stamp = Self {
            writer: text(writer)?,
            partition: text(partition)?,
            n: u64::from_le_bytes(n),
        };
        let mut prng = stamp.prng();
        let is_own = filling
            .chunks(8)
            .all(|chunk| prng.next_u64().to_le_bytes().starts_with(chunk));
        if is_own {
            Ok(stamp)
        } else {
            Err(Damaged::Content)
        }
    }

    /// What a history says of a payload's content (`h`).
    pub fn hash(payload: &[u8]) -> u64 {
        u64::from(crc32c(payload).get())
    }

    /// The filling differs from message to message, so that bytes of one cannot pass for another's.
    fn prng(&self) -> Prng {
        let names = u64::from(crc32c(self.writer.as_bytes()).get()) << 32
            | u64::from(crc32c(self.partition.as_bytes()).get());
        Prng::new(names ^ self.n.rotate_left(17))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            writer: "w1".to_owned(),
            partition: "orders/0".to_owned(),
            n: 42,
        }
    }

    #[test]
    fn a_payload_says_who_sent_it_at_any_size() {
        for size in [0, 1, 33, 100, 1024, 70_001] {
            let payload = stamp().payload(size);
            assert_eq!(Stamp::read(&payload), Ok(stamp()));
            assert!(payload.len() >= size);
        }
        assert_eq!(stamp().payload(1024).len(), 1024);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let payload = stamp().payload(64);
        for len in 0..payload.len() {
            assert!(Stamp::read(&payload[..len]).is_err(), "len={len}");
        }
        for bit in 0..payload.len() * 8 {
            let mut damaged = payload.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Stamp::read(&damaged).is_err(), "bit={bit}");
        }
    }

    #[test]
    fn the_filling_of_another_message_does_not_pass() {
        let mut other = stamp();
        other.n = 43;
        let (ours, theirs) = (stamp().payload(64), other.payload(64));
        let mut mixed = [&ours[..40], &theirs[40..60]].concat();
        let crc = crc32c(&mixed).get().to_le_bytes();
        mixed.extend_from_slice(&crc);
        assert_eq!(Stamp::read(&mixed), Err(Damaged::Content));
    }
}
