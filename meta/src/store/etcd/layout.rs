//! Which of etcd's keys hold what, and the requests on them. Pure.

use bytes::Bytes;
use catalog::{Key, KeyRange, Versioned, decode_key, decode_record, encode_key};
use proto::etcd::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::request_op::Request;
use proto::etcd::response_op::Response;
use proto::etcd::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, ResponseOp,
};
use types::Revision;

/// The first byte of a list of changes.
const FORMAT: u8 = 1;

/// Most bytes of a prefix.
const PREFIX_MAX: usize = 200;

/// Where a cluster's keys lie in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    prefix: String,
    /// What the store's revisions are above etcd's: those of the image it was imported from lie below.
    base: u64,
}

/// What a key under the prefix holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Cluster,
    Leader,
    Import,
    Changes,
    Record(Key),
}

impl Layout {
    /// Keys below a prefix; the error says what is wrong with it.
    pub(super) fn new(prefix: &str) -> Result<Self, &'static str> {
        if !prefix.starts_with('/') || !prefix.ends_with('/') || prefix.len() < 3 {
            return Err("it must begin and end with a slash, such as /ledgerline/main/");
        }
        if prefix.len() > PREFIX_MAX || prefix.contains("//") {
            return Err("it has an empty part or more than 200 bytes");
        }
        if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it must be of visible ASCII characters");
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            base: 0,
        })
    }

    /// The same keys, with revisions above this one.
    pub(super) fn above(self, base: Revision) -> Self {
        let base = base.get();
        Self { base, ..self }
    }

    /// The store's revision at one of etcd's, which are never negative.
    pub(super) fn revision(&self, number: i64) -> Revision {
        let number = u64::try_from(number).unwrap_or_default();
        Revision::new(self.base.saturating_add(number))
    }

    /// The store's revision as etcd has it. One from before the import is none that any key has.
    pub(super) fn number(&self, revision: Revision) -> i64 {
        let above = revision.get().checked_sub(self.base);
        above.map_or(-1, |above| i64::try_from(above).unwrap_or(i64::MAX))
    }

    /// The revision that all of this store's are above.
    pub(super) const fn base(&self) -> Revision {
        Revision::new(self.base)
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn at(&self, room: &str, rest: &[u8]) -> Bytes {
        [self.prefix.as_bytes(), room.as_bytes(), rest]
            .concat()
            .into()
    }

    /// The cluster's id, written once.
    pub(super) fn cluster(&self) -> Bytes {
        self.at("cluster", b"")
    }

    /// Who is active, bound to its lease.
    pub(super) fn leader(&self) -> Bytes {
        self.at("leader", b"")
    }

    /// Whose import is under way: only while there is no cluster's id.
    pub(super) fn import(&self) -> Bytes {
        self.at("import", b"")
    }

    /// All records.
    pub(super) fn all_records(&self) -> (Bytes, Bytes) {
        // The byte after a slash is '0'.
        (self.at("records/", b""), self.at("records0", b""))
    }

    /// What the last commit changed: written by every commit, so that its history is that of all commits.
    pub(super) fn changes(&self) -> Bytes {
        self.at("changes", b"")
    }

    /// A record.
    pub(super) fn record(&self, key: &Key) -> Bytes {
        self.at("records/", &encode_key(key))
    }

    /// A range of records.
    pub(super) fn records(&self, range: &KeyRange) -> (Bytes, Bytes) {
        let at = |bound| self.at("records/", bound);
        (at(&range.start), at(&range.end))
    }

    /// Everything below the prefix.
    pub(super) fn all(&self) -> (Bytes, Bytes) {
        // The byte after a slash is '0'.
        let end = format!("{}0", &self.prefix[..self.prefix.len() - 1]);
        (self.at("", b""), end.into())
    }

    /// What a key holds; none when it is not one of ours.
    pub(super) fn place(&self, key: &[u8]) -> Option<Place> {
        match key.strip_prefix(self.prefix.as_bytes())? {
            b"cluster" => Some(Place::Cluster),
            b"leader" => Some(Place::Leader),
            b"import" => Some(Place::Import),
            b"changes" => Some(Place::Changes),
            rest => {
                let key = decode_key(rest.strip_prefix(b"records/")?).ok()?;
                Some(Place::Record(key))
            }
        }
    }

    /// A record with its key and versions; the error says what is damaged.
    pub(super) fn versioned(&self, found: &KeyValue) -> Result<(Key, Versioned), String> {
        let Some(Place::Record(key)) = self.place(&found.key) else {
            return Err(format!("no record's key key={:?}", found.key));
        };
        let record = decode_record(&key, &found.value)
            .map_err(|error| format!("{error} key={:?}", found.key))?;
        let versioned = Versioned {
            record,
            created: self.revision(found.create_revision),
            modified: self.revision(found.mod_revision),
        };
        Ok((key, versioned))
    }
}

/// A list of changes as bytes. Its revision is etcd's and not known before, so that it is not in the checksum.
pub(super) fn encode_changes(changes: &[types::command::Change]) -> Bytes {
    let body = super::super::changes::encode(Revision::default(), changes);
    [&[FORMAT], body.as_slice()].concat().into()
}

/// Reads the bytes of [`encode_changes`], written at a revision; none when they are damaged or of a newer format.
pub(super) fn decode_changes(
    at: Revision,
    bytes: &[u8],
) -> Option<Vec<types::command::ChangeEvent>> {
    let body = bytes.strip_prefix(&[FORMAT])?;
    let mut events = super::super::changes::decode(Revision::default(), body)?;
    for event in &mut events {
        event.revision = at;
    }
    Some(events)
}

/// Whether a key was last changed at a revision; 0: whether it is not there.
pub(super) fn modified_at(key: Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key,
        target_union: Some(TargetUnion::ModRevision(revision)),
    }
}

/// Whether a key was made at a revision; 0: whether it is not there.
pub(super) fn created_at(key: Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key,
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

pub(super) fn put(key: Bytes, value: Bytes, lease: i64) -> RequestOp {
    let put = PutRequest { key, value, lease };
    RequestOp {
        request: Some(Request::RequestPut(put)),
    }
}

/// Removes all keys of a range.
pub(super) fn remove_all((key, range_end): (Bytes, Bytes)) -> RequestOp {
    let remove = DeleteRangeRequest { key, range_end };
    RequestOp {
        request: Some(Request::RequestDeleteRange(remove)),
    }
}

/// Removes one key.
pub(super) fn remove(key: Bytes) -> RequestOp {
    let remove = DeleteRangeRequest {
        key,
        range_end: Bytes::new(),
    };
    RequestOp {
        request: Some(Request::RequestDeleteRange(remove)),
    }
}

pub(super) fn range(range: RangeRequest) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestRange(range)),
    }
}

/// One key.
pub(super) fn one(key: Bytes) -> RangeRequest {
    RangeRequest {
        key,
        ..RangeRequest::default()
    }
}

/// The least key above one: where the next page of a range begins.
pub(super) fn above(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

/// The pairs that a range found, and whether there are more.
pub(super) fn found(answer: Option<ResponseOp>) -> (Vec<KeyValue>, bool) {
    match answer.and_then(|answer| answer.response) {
        Some(Response::ResponseRange(range)) => (range.kvs, range.more),
        _ => (Vec::new(), false),
    }
}

#[cfg(test)]
mod tests {
    use types::BookieId;
    use types::command::{Change, ChangeEvent};

    use super::*;

    fn layout() -> Layout {
        Layout::new("/ledgerline/main/").unwrap()
    }

    #[test]
    fn every_key_is_found_again_and_strangers_are_not() {
        let layout = layout();
        let record = Key::Birth(BookieId::new(7));
        for (key, place) in [
            (layout.cluster(), Place::Cluster),
            (layout.leader(), Place::Leader),
            (layout.import(), Place::Import),
            (layout.changes(), Place::Changes),
            (layout.record(&record), Place::Record(record.clone())),
        ] {
            assert_eq!(layout.place(&key), Some(place));
            let (start, end) = layout.all();
            assert!(start <= key && key < end);
        }
        for stranger in [
            "/ledgerline/main/x",
            "/ledgerline/main/records/\u{1}x",
            "/y",
        ] {
            assert_eq!(layout.place(stranger.as_bytes()), None, "{stranger}");
        }
    }

    #[test]
    fn prefixes_that_would_mix_clusters_are_refused() {
        for bad in [
            "",
            "/",
            "//",
            "ledgerline/",
            "/ledgerline",
            "/a//b/",
            "/a b/",
        ] {
            assert!(Layout::new(bad).is_err(), "{bad}");
        }
        assert!(Layout::new(&format!("/{}/", "a".repeat(199))).is_err());
    }

    #[test]
    fn revisions_of_an_imported_store_go_on_above_its_image() {
        let plain = layout();
        assert_eq!(plain.revision(9), Revision::new(9));
        assert_eq!(plain.number(Revision::new(9)), 9);
        let imported = layout().above(Revision::new(1000));
        assert_eq!(imported.revision(9), Revision::new(1009));
        assert_eq!(imported.number(Revision::new(1009)), 9);
        // No key was ever changed at a revision of the old store: not even one that is not there.
        assert_eq!(imported.number(Revision::new(999)), -1);
    }

    #[test]
    fn changes_get_the_revision_they_were_written_at() {
        let change = Change::Bookie(BookieId::new(2));
        let bytes = encode_changes(std::slice::from_ref(&change));
        let at = Revision::new(9);
        let event = ChangeEvent {
            revision: at,
            change,
        };
        assert_eq!(decode_changes(at, &bytes), Some(vec![event]));
        assert_eq!(decode_changes(at, &encode_changes(&[])), Some(Vec::new()));
        assert_eq!(decode_changes(at, &bytes[1..]), None);
        assert_eq!(decode_changes(at, b"\x02"), None);
    }
}
