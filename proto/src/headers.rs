//! Versions, feature bits, and the metadata keys of requests.

use tonic::metadata::MetadataMap;
use types::{ClusterId, Problem, Reason};

/// The version of the internal protocols (`ledgerline.bookie.v1`, `ledgerline.meta.v1`). Raised when an older side
/// would misunderstand a newer one; both sides refuse another version in the handshake.
pub const PROTOCOL_VERSION: u32 = 1;

/// What this version can do beyond [`PROTOCOL_VERSION`], one bit each. A side uses what both have.
pub const FEATURES: u64 = 0;

/// The cluster that an internal request is meant for, 32 hexadecimal digits.
pub const CLUSTER: &str = "x-ledgerline-cluster";

/// The version of the internal protocol that the caller speaks.
pub const VERSION: &str = "x-ledgerline-version";

/// Set by a serving node on what it passes on to the owner: the name of the node. A request that carries it is not
/// passed on again.
pub const FORWARDED_BY: &str = "x-ledgerline-forwarded-by";

/// Marks a request as one for `cluster`, spoken in this version.
///
/// # Panics
///
/// Never: hexadecimal digits are valid metadata.
pub fn address_cluster(metadata: &mut MetadataMap, cluster: ClusterId) {
    let cluster = cluster.to_string().parse();
    metadata.insert(
        CLUSTER,
        cluster.expect("hexadecimal digits are valid metadata"),
    );
    metadata.insert(VERSION, PROTOCOL_VERSION.into());
}

/// Checks that a request is one for `cluster`, spoken in this version.
///
/// # Errors
///
/// [`Reason::WrongCluster`] or [`Reason::WrongVersion`], also when the request does not say.
pub fn check_cluster(metadata: &MetadataMap, cluster: ClusterId) -> Result<(), Problem> {
    let version = metadata.get(VERSION).and_then(|text| text.to_str().ok());
    check_version(version.and_then(|text| text.parse().ok()).unwrap_or(0))?;
    let theirs = metadata.get(CLUSTER).and_then(|text| text.to_str().ok());
    let ours = cluster.to_string();
    if theirs == Some(&ours) {
        return Ok(());
    }
    Err(wrong_cluster(&ours, theirs.unwrap_or("none")))
}

/// Checks the version of the internal protocol that the other side speaks; 0 when it did not say.
///
/// # Errors
///
/// [`Reason::WrongVersion`] when it is not [`PROTOCOL_VERSION`].
pub fn check_version(theirs: u32) -> Result<(), Problem> {
    if theirs == PROTOCOL_VERSION {
        return Ok(());
    }
    let message = format!(
        "the two nodes speak different internal protocols; run the same version of Ledgerline on both \
         ours={PROTOCOL_VERSION} theirs={theirs}"
    );
    Err(Problem::new(Reason::WrongVersion, message)
        .with("ours", PROTOCOL_VERSION)
        .with("theirs", theirs))
}

/// The problem of a request meant for another cluster.
pub fn wrong_cluster(ours: &str, theirs: &str) -> Problem {
    let message = format!(
        "the request is meant for another cluster; check the addresses given to the caller \
         ours={ours} theirs={theirs}"
    );
    Problem::new(Reason::WrongCluster, message)
        .with("ours", ours)
        .with("theirs", theirs)
}

/// Marks a request as passed on by the node of this name.
pub fn mark_forwarded(metadata: &mut MetadataMap, node: &str) {
    // A node's name has only characters that metadata allows; any other text still marks.
    let value = node.parse();
    let unnamed = tonic::metadata::MetadataValue::from_static("unnamed");
    metadata.insert(FORWARDED_BY, value.unwrap_or(unnamed));
}

/// Whether another node passed this request on.
pub fn is_forwarded(metadata: &MetadataMap) -> bool {
    metadata.contains_key(FORWARDED_BY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ClusterId = ClusterId::new(7);

    #[test]
    fn a_request_for_this_cluster_passes() {
        let mut metadata = MetadataMap::new();
        address_cluster(&mut metadata, HERE);
        assert_eq!(check_cluster(&metadata, HERE), Ok(()));
    }

    #[test]
    fn another_cluster_another_version_and_silence_are_refused() {
        let mut metadata = MetadataMap::new();
        let silent = check_cluster(&metadata, HERE).unwrap_err();
        assert_eq!(silent.reason, Reason::WrongVersion);
        address_cluster(&mut metadata, ClusterId::new(8));
        let other = check_cluster(&metadata, HERE).unwrap_err();
        assert_eq!(other.reason, Reason::WrongCluster);
        metadata.insert(VERSION, 99.into());
        let newer = check_cluster(&metadata, HERE).unwrap_err();
        assert_eq!(newer.reason, Reason::WrongVersion);
        assert_eq!(newer.metadata["theirs"], "99");
        metadata.insert(VERSION, PROTOCOL_VERSION.into());
        metadata.remove(CLUSTER);
        assert!(check_cluster(&metadata, HERE).is_err());
    }

    #[test]
    fn a_forwarded_request_is_known_as_one() {
        let mut metadata = MetadataMap::new();
        assert!(!is_forwarded(&metadata));
        mark_forwarded(&mut metadata, "serving-1");
        assert!(is_forwarded(&metadata));
        mark_forwarded(&mut metadata, "bad\nname");
        assert!(is_forwarded(&metadata));
    }
}
