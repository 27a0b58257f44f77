//! Calls to etcd: which member is asked, how long, and what is known when no answer comes.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use host::net::Address;
use host::{Clock, Host};
use proto::etcd::kv_client::KvClient;
use proto::etcd::lease_client::LeaseClient;
use proto::etcd::maintenance_client::MaintenanceClient;
use proto::etcd::watch_client::WatchClient;
use proto::etcd::watch_request::RequestUnion;
use proto::etcd::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, RangeRequest, RangeResponse,
    StatusRequest, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use proto::status::was_never_sent;
use proto::transport::{Rotation, Turn};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

/// Most bytes of one answer. etcd sets no limit; a page of records stays far below.
const ANSWER_MAX: usize = 128 << 20;
/// The wait before another member is asked.
const PAUSE: Duration = Duration::from_millis(50);
/// What a member says when it is asked for a revision that is compacted.
const COMPACTED: &str = "required revision has been compacted";

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// No member could be connected to: nothing happened.
    #[error("etcd cannot be reached: {0}")]
    NeverSent(String),
    /// etcd said no: nothing happened.
    #[error("etcd refused: {0}")]
    Refused(String),
    /// What was to be read is compacted.
    #[error("etcd has compacted what was asked for")]
    Compacted,
    /// It may or may not have happened.
    #[error("etcd gave no answer to rely on: {0}")]
    Unknown(String),
}

impl Failure {
    /// Only what etcd certainly decides before it changes anything is a refusal. Two things look like one and are not:
    /// "database space exceeded" is also the answer to the very request that filled the space, which *was* carried
    /// out; and the transport has codes of its own, which do not come with etcd's words.
    fn of(status: &Status) -> Self {
        let message = status.message();
        if was_never_sent(status) {
            return Self::NeverSent(proto::status::from_status(status).message);
        }
        if !message.starts_with("etcdserver: ") {
            return Self::Unknown(proto::status::from_status(status).message);
        }
        match status.code() {
            Code::OutOfRange if message.ends_with(COMPACTED) => Self::Compacted,
            Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated => Self::Refused(message.to_owned()),
            Code::ResourceExhausted if message.ends_with("too many requests") => {
                Self::Refused(message.to_owned())
            }
            _ => Self::Unknown(message.to_owned()),
        }
    }
}

/// The members of an etcd, one of which is asked until it fails.
#[derive(Debug)]
pub(super) struct Client {
    members: Rotation,
    clock: Clock,
    /// For a call with all its tries.
    timeout: Duration,
    /// For one try of a call that may be tried again.
    try_timeout: Duration,
}

impl Client {
    /// A client of these members; connects when it is first used.
    pub(super) fn new(host: &Host, endpoints: &[Address], timeout: Duration) -> Self {
        Self {
            members: Rotation::new(&host.net, endpoints),
            clock: host.clock.clone(),
            timeout,
            try_timeout: timeout / 3,
        }
    }

    /// Reads at one revision, or carries a transaction without writes out: tried on every member.
    pub(super) async fn read(&self, request: TxnRequest) -> Result<TxnResponse, Failure> {
        self.repeat(|channel| {
            let request = request.clone();
            async move { kv(channel).txn(request).await }
        })
        .await
    }

    /// A range, linearizable unless the request says otherwise.
    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        self.repeat(|channel| {
            let request = request.clone();
            async move { kv(channel).range(request).await }
        })
        .await
    }

    /// Carries a transaction out that writes: sent once, and again only where it certainly never left.
    pub(super) async fn write(&self, request: TxnRequest) -> Result<TxnResponse, Failure> {
        let deadline = self.clock.now().after(self.timeout);
        loop {
            let left = deadline.since(self.clock.now());
            let request = request.clone();
            let call = |channel| async move { kv(channel).txn(request).await };
            let failure = match self.once(left, call).await {
                Err(failure @ Failure::NeverSent(_)) => failure,
                done => return done,
            };
            if self.clock.now().after(PAUSE) >= deadline {
                return Err(failure);
            }
            self.clock.sleep(PAUSE).await;
        }
    }

    /// The version of the member that is asked, such as `3.7.3`.
    pub(super) async fn version(&self) -> Result<String, Failure> {
        let status = self.repeat(|channel| async move {
            MaintenanceClient::new(channel)
                .status(StatusRequest {})
                .await
        });
        Ok(status.await?.version)
    }

    /// Makes a lease. One whose answer is lost runs out by itself.
    pub(super) async fn grant(&self, ttl: Duration) -> Result<i64, Failure> {
        let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let ttl = i64::try_from(whole).unwrap_or(i64::MAX);
        let granted = self.repeat(|channel| async move {
            LeaseClient::new(channel)
                .lease_grant(LeaseGrantRequest { ttl, id: 0 })
                .await
        });
        Ok(granted.await?.id)
    }

    /// Renews a lease, one try; false when etcd knows it no more.
    pub(super) async fn keep_alive(&self, id: i64, within: Duration) -> Result<bool, Failure> {
        let call = |channel| async move {
            let request = stream::iter([LeaseKeepAliveRequest { id }]);
            let mut answers = LeaseClient::new(channel)
                .lease_keep_alive(request)
                .await?
                .into_inner();
            let answer = answers.message().await?;
            let answer = answer.ok_or_else(|| Status::unknown("no answer to a keep-alive"))?;
            Ok(tonic::Response::new(answer))
        };
        Ok(self.once(within, call).await?.ttl > 0)
    }

    /// Ends a lease and deletes its keys, one try. One that etcd does not know has ended.
    pub(super) async fn revoke(&self, id: i64) -> Result<(), Failure> {
        let call = |channel| async move {
            LeaseClient::new(channel)
                .lease_revoke(LeaseRevokeRequest { id })
                .await
        };
        match self.once(self.try_timeout, call).await {
            Ok(_) | Err(Failure::Refused(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Every change of a key from a revision on. The stream breaks when the member loses its leader: a member that is
    /// cut off would otherwise be silent as if nothing happened. Also says whose turn it is: see [`Client::failed`].
    pub(super) async fn watch(
        &self,
        key: Bytes,
        from: i64,
    ) -> Result<(Streaming<WatchResponse>, Turn), Failure> {
        let create = WatchCreateRequest {
            key,
            start_revision: from,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let call = |channel| async move {
            let mut request = Request::new(stream::iter([request]).chain(stream::pending()));
            let with_leader = tonic::metadata::MetadataValue::from_static("true");
            request.metadata_mut().insert("hasleader", with_leader);
            WatchClient::new(channel)
                .max_decoding_message_size(ANSWER_MAX)
                .watch(request)
                .await
        };
        self.once_of(self.try_timeout, call).await
    }

    /// From now on asks another member than the one that failed.
    pub(super) fn failed(&self, turn: Turn) {
        self.members.failed(turn);
    }

    /// A call that does no harm when it happens twice: on one member after the other until the time is up.
    async fn repeat<T, F, C>(&self, call: F) -> Result<T, Failure>
    where
        F: Fn(Channel) -> C,
        C: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let deadline = self.clock.now().after(self.timeout);
        loop {
            let left = deadline.since(self.clock.now()).min(self.try_timeout);
            let failure = match self.once(left, &call).await {
                Err(failure @ (Failure::NeverSent(_) | Failure::Unknown(_))) => failure,
                done => return done,
            };
            if self.clock.now().after(PAUSE) >= deadline {
                return Err(failure);
            }
            self.clock.sleep(PAUSE).await;
        }
    }

    async fn once<T, F, C>(&self, within: Duration, call: F) -> Result<T, Failure>
    where
        F: FnOnce(Channel) -> C,
        C: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let (answer, _) = self.once_of(within, call).await?;
        Ok(answer)
    }

    /// One try, and whose turn it was.
    async fn once_of<T, F, C>(&self, within: Duration, call: F) -> Result<(T, Turn), Failure>
    where
        F: FnOnce(Channel) -> C,
        C: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let (channel, turn) = self.members.now();
        let failure = match self.clock.timeout(within, call(channel)).await {
            Ok(Ok(answer)) => return Ok((answer.into_inner(), turn)),
            Ok(Err(status)) => Failure::of(&status),
            Err(_) => Failure::Unknown(format!("no answer within {within:?}")),
        };
        if matches!(failure, Failure::NeverSent(_) | Failure::Unknown(_)) {
            let address = self.members.address();
            tracing::debug!(%address, %failure, "a member of etcd failed");
            self.failed(turn);
        }
        Err(failure)
    }
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(ANSWER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: Code, message: &str) -> Failure {
        Failure::of(&Status::new(code, message))
    }

    #[test]
    fn only_a_definite_no_is_a_refusal() {
        let too_large = "etcdserver: request is too large";
        assert_eq!(
            failure(Code::InvalidArgument, too_large),
            Failure::Refused(too_large.to_owned())
        );
        let busy = failure(Code::ResourceExhausted, "etcdserver: too many requests");
        assert!(matches!(busy, Failure::Refused(_)), "{busy}");
        for (code, message) in [
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::ResourceExhausted, "h2 protocol error"),
            (Code::InvalidArgument, "words of a proxy"),
            (Code::Unknown, "transport error"),
        ] {
            let failure = failure(code, message);
            assert!(matches!(failure, Failure::Unknown(_)), "{message}");
        }
    }

    #[test]
    fn a_compacted_revision_is_told_as_such() {
        let message = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(failure(Code::OutOfRange, message), Failure::Compacted);
    }
}
