//! The changes of one revision as bytes: keys, each with its length before it, and a CRC32C over all and the revision.

use catalog::{Key, decode_key, encode_key};
use types::command::{Change, ChangeEvent};
use types::{Revision, crc32c_of};

/// The changes of `revision` as bytes.
pub(super) fn encode(revision: Revision, changes: &[Change]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for change in changes {
        let key = encode_key(&key_of(change));
        let len = u16::try_from(key.len()).expect("names are far shorter than 64 KiB");
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&key);
    }
    bytes.extend_from_slice(&checksum(revision, &bytes));
    bytes
}

/// Reads the bytes of [`encode`]; `None` when they are damaged.
pub(super) fn decode(revision: Revision, bytes: &[u8]) -> Option<Vec<ChangeEvent>> {
    let (mut body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if checksum(revision, body) != *crc {
        return None;
    }
    let mut events = Vec::new();
    while !body.is_empty() {
        let (len, rest) = body.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
        let change = change_of(decode_key(key).ok()?)?;
        events.push(ChangeEvent { revision, change });
        body = rest;
    }
    Some(events)
}

fn checksum(revision: Revision, body: &[u8]) -> [u8; 4] {
    let revision = revision.get().to_be_bytes();
    crc32c_of([&revision[..], body]).get().to_be_bytes()
}

fn key_of(change: &Change) -> Key {
    match change {
        Change::Shard(id) => Key::Shard(*id),
        Change::Topic(name) => Key::Topic(name.clone()),
        Change::Subscription(name) => Key::Subscription(name.clone()),
        Change::Bookie(id) => Key::Bookie(*id),
        Change::Session(id) => Key::Session(*id),
    }
}

fn change_of(key: Key) -> Option<Change> {
    match key {
        Key::Shard(id) => Some(Change::Shard(id)),
        Key::Topic(name) => Some(Change::Topic(name)),
        Key::Subscription(name) => Some(Change::Subscription(name)),
        Key::Bookie(id) => Some(Change::Bookie(id)),
        Key::Session(id) => Some(Change::Session(id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use types::{BookieId, SessionId, ShardId, TopicName};

    use super::*;

    #[test]
    fn changes_survive_their_bytes_and_flips_are_found() {
        let topic: TopicName = "orders".parse().unwrap();
        let changes = [
            Change::Shard(ShardId::new(1)),
            Change::Subscription(topic.subscription("s").unwrap()),
            Change::Topic(topic),
            Change::Bookie(BookieId::new(2)),
            Change::Session(SessionId::new(3)),
        ];
        let revision = Revision::new(9);
        let bytes = encode(revision, &changes);
        let events = decode(revision, &bytes).unwrap();
        let back: Vec<Change> = events.into_iter().map(|event| event.change).collect();
        assert_eq!(back, changes);
        assert_eq!(decode(Revision::new(10), &bytes), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(revision, &flipped), None, "bit {bit}");
        }
        assert_eq!(decode(revision, &[]), None);
    }
}
