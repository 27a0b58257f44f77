//! A start on an etcd: is it new enough, whose keys are these, which cluster is it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tracing::warn;

use host::Host;
use proto::etcd::{KeyValue, RangeRequest, TxnRequest};
use types::{ClusterId, MonoTime, Revision};

use super::client::{Client, Failure};
use super::follow::Follower;
use super::home::Home;
use super::layout::{Layout, Place, above, found, modified_at, one, put, range};
use super::{EtcdConfig, EtcdStandby, PAGE, Shared};

/// The oldest etcd that has all that is used.
const OLDEST: (u32, u32) = (3, 4);
/// The wait before etcd is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// The shortest and the longest lease of the active process.
const LEASES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// Why an etcd cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// No member answered.
    #[error(
        "etcd does not answer, start it or correct its addresses endpoints={endpoints} reason={reason}"
    )]
    Unreachable {
        /// The members asked.
        endpoints: String,
        /// What the last one failed with.
        reason: String,
    },
    /// etcd said no.
    #[error("etcd refuses to be used reason={reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// It is too old.
    #[error("etcd is too old, version 3.4 or newer is needed version={version}")]
    TooOld {
        /// Its version.
        version: String,
    },
    /// A setting makes no sense.
    #[error("a setting of etcd makes no sense setting={setting}: {what}")]
    BadSetting {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// Somebody else keeps keys under the prefix.
    #[error(
        "keys under the etcd prefix are not Ledgerline's, choose another prefix prefix={prefix} key={key}"
    )]
    Foreign {
        /// The prefix.
        prefix: String,
        /// The first such key.
        key: String,
    },
    /// An import has not come to its end.
    #[error(
        "an import into this etcd prefix is under way, or was cut short: let it end, or run it again prefix={prefix}"
    )]
    Unfinished {
        /// The prefix.
        prefix: String,
    },
    /// A value cannot be read.
    #[error(
        "damaged or newer bytes in etcd, restore them or use a newer version prefix={prefix} what={what}"
    )]
    Damaged {
        /// The prefix.
        prefix: String,
        /// What is damaged.
        what: String,
    },
}

/// Why one try of an opening failed.
pub(super) enum OpenFailure {
    /// It may pass.
    Passing(String),
    Final(EtcdError),
}

impl From<Failure> for OpenFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(reason) => Self::Final(EtcdError::Refused { reason }),
            other => Self::Passing(other.to_string()),
        }
    }
}

/// What was found under the prefix.
struct Found {
    home: Home,
    written: i64,
    last: i64,
}

impl EtcdStandby {
    /// Opens the cluster's keys, or makes its id in an empty place, and follows its changes.
    ///
    /// Everything is read and decoded once, so that damaged or foreign keys are told now and not met later.
    ///
    /// # Errors
    ///
    /// [`EtcdError`] says what is wrong and what to do.
    pub async fn open(host: &Host, config: &EtcdConfig) -> Result<Self, EtcdError> {
        let layout = check(config)?;
        let client = Arc::new(Client::new(host, &config.endpoints, config.timeout));
        let deadline = host.clock.now().after(config.patience);
        let fresh = ClusterId::new(host.rng.u128());
        let found = loop {
            let reason = match look(&client, &layout, fresh).await {
                Ok(found) => break found,
                Err(OpenFailure::Final(error)) => return Err(error),
                Err(OpenFailure::Passing(reason)) => reason,
            };
            pause(host, deadline, config, &reason).await?;
        };
        let layout = layout.above(found.home.base);
        let last = layout.revision(found.last);
        let history = u64::try_from(config.history).unwrap_or(u64::MAX);
        let after = Revision::new(last.get().saturating_sub(history));
        let after = after.max(layout.base());
        let follower = Arc::new(Follower::new(
            Arc::clone(&client),
            layout.clone(),
            host.clock.clone(),
            after,
            config.history,
        ));
        let following = Arc::clone(&follower).run(host.tasks.token());
        host.tasks.spawn("meta-changes", following);
        while !follower.caught_up(last, config.timeout).await {
            pause(host, deadline, config, "the watch brings no changes").await?;
        }
        let shared = Shared {
            client,
            layout,
            clock: host.clock.clone(),
            follower,
            cluster: found.home.cluster,
            generation: found.home.generation,
            cluster_written: found.written,
            known: AtomicU64::new(last.get()),
            timeout: config.timeout,
        };
        Ok(Self {
            shared: Arc::new(shared),
            lease: config.lease,
        })
    }
}

pub(super) fn check(config: &EtcdConfig) -> Result<Layout, EtcdError> {
    let bad = |setting, what: &str| EtcdError::BadSetting {
        setting,
        what: what.to_owned(),
    };
    if config.endpoints.is_empty() {
        return Err(bad("endpoints", "name one member at least"));
    }
    if !LEASES.contains(&config.lease) || config.lease.subsec_nanos() != 0 {
        return Err(bad("lease", "give whole seconds, 1 to 60"));
    }
    Layout::new(&config.prefix).map_err(|what| bad("prefix", what))
}

/// Waits before another try, or gives up.
pub(super) async fn pause(
    host: &Host,
    deadline: MonoTime,
    config: &EtcdConfig,
    reason: &str,
) -> Result<(), EtcdError> {
    let endpoints: Vec<&str> = config.endpoints.iter().map(|one| one.as_str()).collect();
    let endpoints = endpoints.join(",");
    if host.clock.now().after(PAUSE) >= deadline || host.tasks.is_stopping() {
        return Err(EtcdError::Unreachable {
            endpoints,
            reason: reason.to_owned(),
        });
    }
    warn!(%endpoints, %reason, "waiting for etcd");
    host.clock.sleep(PAUSE).await;
    Ok(())
}

async fn look(client: &Client, layout: &Layout, fresh: ClusterId) -> Result<Found, OpenFailure> {
    check_version(client).await?;
    let has_keys = read_everything(client, layout).await?;
    let home = Home::new(fresh);
    let create = TxnRequest {
        compare: vec![
            modified_at(layout.cluster(), 0),
            modified_at(layout.import(), 0),
        ],
        success: vec![put(layout.cluster(), home.encode(), 0)],
        failure: vec![range(one(layout.cluster())), range(one(layout.changes()))],
    };
    let id = client.range(one(layout.cluster())).await?;
    if id.kvs.is_empty() && has_keys {
        let what = "there are records and no id of a cluster".to_owned();
        return Err(damaged(layout, what));
    }
    // One whose answer is lost is found by the next try.
    let answer = client.write(create).await?;
    if answer.succeeded {
        let written = answer.header.map_or(0, |header| header.revision);
        return Ok(Found {
            home,
            written,
            last: 0,
        });
    }
    let mut answers = answer.responses.into_iter();
    let mut first = || found(answers.next()).0.into_iter().next();
    let (id, changes) = (first(), first());
    let Some(id) = id else {
        return Err(OpenFailure::Final(unfinished(layout)));
    };
    let written = id.mod_revision;
    let Some(home) = Home::decode(&id.value) else {
        return Err(damaged(layout, "the id of the cluster".to_owned()));
    };
    Ok(Found {
        home,
        written,
        last: changes.map_or(0, |kv| kv.mod_revision),
    })
}

/// Refuses an etcd that lacks what is used.
pub(super) async fn check_version(client: &Client) -> Result<(), OpenFailure> {
    let version = client.version().await?;
    if !is_new_enough(&version) {
        return Err(OpenFailure::Final(EtcdError::TooOld { version }));
    }
    Ok(())
}

fn unfinished(layout: &Layout) -> EtcdError {
    let prefix = layout.prefix().to_owned();
    EtcdError::Unfinished { prefix }
}

pub(super) fn damaged(layout: &Layout, what: String) -> OpenFailure {
    let prefix = layout.prefix().to_owned();
    OpenFailure::Final(EtcdError::Damaged { prefix, what })
}

/// Reads every key under the prefix, a page at a time; says whether there are records.
async fn read_everything(client: &Client, layout: &Layout) -> Result<bool, OpenFailure> {
    let (mut key, range_end) = layout.all();
    let mut has_records = false;
    let mut at = 0;
    loop {
        let page = RangeRequest {
            key,
            range_end: range_end.clone(),
            limit: i64::try_from(PAGE).unwrap_or(i64::MAX),
            revision: at,
            ..RangeRequest::default()
        };
        let answer = client.range(page).await?;
        if at == 0 {
            at = answer.header.map_or(0, |header| header.revision);
        }
        for pair in &answer.kvs {
            has_records |= check_pair(layout, pair)?;
        }
        match answer.kvs.last().filter(|_| answer.more) {
            Some(last) => key = above(&last.key),
            None => return Ok(has_records),
        }
    }
}

/// Refuses a key that is not ours and a value that cannot be read; says whether it is a record or a list of changes.
fn check_pair(layout: &Layout, pair: &KeyValue) -> Result<bool, OpenFailure> {
    match layout.place(&pair.key) {
        None => Err(OpenFailure::Final(EtcdError::Foreign {
            prefix: layout.prefix().to_owned(),
            key: pair.key.escape_ascii().to_string(),
        })),
        Some(Place::Import) => Err(OpenFailure::Final(unfinished(layout))),
        Some(Place::Cluster | Place::Leader) => Ok(false),
        Some(Place::Changes) => Ok(true),
        Some(Place::Record(_)) => match layout.versioned(pair) {
            Ok(_) => Ok(true),
            Err(what) => Err(damaged(layout, what)),
        },
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= OLDEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_before_3_4_are_too_old() {
        for good in ["3.4.23", "3.7.3", "3.10.0-rc.1", "4.0.0"] {
            assert!(is_new_enough(good), "{good}");
        }
        for bad in ["3.3.27", "2.3.8", "", "3", "x.y"] {
            assert!(!is_new_enough(bad), "{bad}");
        }
    }
}
