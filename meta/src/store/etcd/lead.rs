//! Who is active: one key in etcd, bound to a lease of etcd, made only where there is none.
//!
//! Whoever made the key is active for a [`Term`]. Each read and each commit of a term compares the key's creation in
//! the same transaction, so that a process that was deposed, and does not know it yet, reads and changes nothing:
//! safety does not rest on clocks. The clock only makes it stop early.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use host::Clock;
use proto::etcd::{Compare, KeyValue, TxnRequest};
use types::MonoTime;

use super::super::StoreError;
use super::client::Failure;
use super::layout::{created_at, found, one, put, range};
use super::{EtcdStandby, Shared};

/// A lease is renewed each time this part of it has passed, and its last part is not relied on.
const BEATS: u32 = 4;

/// The right to serve: from the making of the leader key until it is gone.
#[derive(Debug, Clone)]
pub(super) struct Term {
    /// The leader key's creation: no other term has the same.
    pub(super) created: i64,
    until: Arc<AtomicU64>,
    over: CancellationToken,
    clock: Clock,
}

impl Term {
    /// Fails once the term is over, by word of etcd or by the clock.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.over.is_cancelled() || self.clock.now() >= self.until() {
            return Err(StoreError::NotActive { active: None });
        }
        Ok(())
    }

    /// etcd says that the key is gone, or another's.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// The same term as a process knows it that has not heard of its end.
    #[cfg(test)]
    pub(super) fn unaware(&self) -> Self {
        let far = self.clock.now().after(Duration::from_secs(3600));
        Self {
            created: self.created,
            until: Arc::new(AtomicU64::new(far.as_nanos())),
            over: CancellationToken::new(),
            clock: self.clock.clone(),
        }
    }

    fn until(&self) -> MonoTime {
        MonoTime::from_nanos(self.until.load(Ordering::Acquire))
    }

    fn renew(&self, until: MonoTime) {
        self.until.store(until.as_nanos(), Ordering::Release);
    }
}

/// What a look at the leader key found.
#[derive(Debug)]
pub(crate) enum Look {
    /// This process is active now.
    Active(Lead),
    /// Another one is; its address, where known.
    Other(Option<String>),
}

/// A term with its lease.
#[derive(Debug)]
pub(crate) struct Lead {
    pub(super) term: Term,
    lease: i64,
    ttl: Duration,
}

/// Competes for the leader key.
#[derive(Debug)]
pub(crate) struct Candidate {
    shared: Arc<Shared>,
    address: String,
    ttl: Duration,
    /// A lease of ours that may still hold the key.
    left_over: Option<i64>,
}

impl Candidate {
    /// Competes with this address for others to be sent to.
    pub(crate) fn new(standby: &EtcdStandby, address: String) -> Self {
        Self {
            shared: Arc::clone(&standby.shared),
            address,
            ttl: standby.lease,
            left_over: None,
        }
    }

    /// Becomes active if nobody is.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: not known; try again.
    pub(crate) async fn look(&mut self) -> Result<Look, StoreError> {
        let shared = Arc::clone(&self.shared);
        let (client, layout) = (&shared.client, &shared.layout);
        if let Some(lease) = self.left_over
            && client.revoke(lease).await.is_ok()
        {
            self.left_over = None;
        }
        let answer = client.range(one(layout.leader())).await?;
        if let Some(leader) = answer.kvs.first() {
            return Ok(Look::Other(address_of(leader)));
        }
        let sent = shared.clock.now();
        let lease = client.grant(self.ttl).await?;
        // Until the term has begun, and also when this future is dropped.
        self.left_over = Some(lease);
        let compete = TxnRequest {
            compare: vec![created_at(layout.leader(), 0), shared.same_cluster()],
            success: vec![put(
                layout.leader(),
                self.address.clone().into_bytes().into(),
                lease,
            )],
            failure: vec![range(one(layout.leader())), range(one(layout.cluster()))],
        };
        let answer = client.write(compete).await?;
        if !answer.succeeded {
            let mut answers = answer.responses.into_iter();
            let leader = found(answers.next()).0.into_iter().next();
            shared.check_cluster(found(answers.next()).0.first())?;
            return Ok(Look::Other(leader.as_ref().and_then(address_of)));
        }
        let created = answer.header.map_or(0, |header| header.revision);
        self.left_over = None;
        let until = sent.after(self.ttl - self.ttl / BEATS);
        let term = Term {
            created,
            until: Arc::new(AtomicU64::new(until.as_nanos())),
            over: CancellationToken::new(),
            clock: shared.clock.clone(),
        };
        Ok(Look::Active(Lead {
            term,
            lease,
            ttl: self.ttl,
        }))
    }

    /// Keeps the lease until the term is over.
    pub(crate) async fn keep(&self, lead: &Lead) {
        let clock = &self.shared.clock;
        let beat = lead.ttl / BEATS;
        loop {
            let left = lead.term.until().since(clock.now());
            tokio::select! {
                biased;
                () = lead.term.over.cancelled() => break,
                () = clock.sleep(beat.min(left)) => {}
            }
            let sent = clock.now();
            let left = lead.term.until().since(sent);
            if left.is_zero() {
                warn!("the leader lease could not be renewed in time");
                break;
            }
            let within = beat.min(left);
            match self.shared.client.keep_alive(lead.lease, within).await {
                Ok(true) => lead.term.renew(sent.after(lead.ttl - beat)),
                Ok(false) => {
                    warn!("the leader lease ran out");
                    break;
                }
                Err(failure) => debug!(%failure, "the leader lease was not renewed"),
            }
        }
        lead.term.end();
    }

    /// Gives the key back, so that another one need not wait for the lease to run out.
    pub(crate) async fn resign(&mut self, lead: Lead) {
        lead.term.end();
        match self.shared.client.revoke(lead.lease).await {
            Ok(()) => info!("the leader key is given back"),
            Err(failure) => {
                debug!(%failure, "the leader key runs out by itself");
                self.left_over = Some(lead.lease);
            }
        }
    }
}

impl Shared {
    /// Holds as long as the term does.
    pub(super) fn same_term(&self, term: &Term) -> Compare {
        created_at(self.layout.leader(), term.created)
    }

    /// Whether the leader key is still the one of this term; the term ends when it is not.
    pub(super) fn check_term(
        &self,
        term: &Term,
        leader: Option<&KeyValue>,
    ) -> Result<(), StoreError> {
        if leader.is_some_and(|leader| leader.create_revision == term.created) {
            return Ok(());
        }
        term.end();
        Err(StoreError::NotActive {
            active: leader.and_then(address_of),
        })
    }
}

fn address_of(leader: &KeyValue) -> Option<String> {
    let text = std::str::from_utf8(&leader.value).ok()?;
    Some(text.to_owned())
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::Unreachable {
            reason: failure.to_string(),
        }
    }
}
