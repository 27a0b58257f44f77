//! Puts roles together and runs them until they are stopped.

mod banner;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use admin::Admin;
use anyhow::Context;
use host::Host;
use host::net::Address;
use meta_client::{MetaClient, MetaConfig};
use tokio_util::sync::CancellationToken;
use types::{NodeName, Quorum};

use crate::cli::servers::{self, Addresses, AdminListen};
use crate::cli::store::StoreChoice;
use crate::cli::threads::Threads;
use crate::terminal;
use banner::Banner;

/// How long a node waits for meta before it says so and gives up.
const META_PATIENCE: Duration = Duration::from_secs(30);
/// How long a stop waits for what is under way.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Tasks that a thread runs before it looks whether connections, disks or timers have something: a consumer that catches
/// up makes tasks of some tenths of a millisecond each, one after another.
const LOOK_AFTER: u32 = 8;
/// The pipes of a process that holds every role.
const META_PIPE: &str = "pipe:meta";
const BOOKIE_PIPE: &str = "pipe:bookie";

/// Runs a server on a runtime of its own.
pub(crate) fn run(
    threads: Threads,
    server: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    raise_file_limit();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.count())
        .event_interval(LOOK_AFTER)
        .global_queue_interval(LOOK_AFTER)
        .enable_all()
        .build()
        .context("the threads of the process cannot be started")?
        .block_on(server)
}

/// Takes all the file descriptors that the system allows: each connection needs one and each data file two, and many
/// systems start a process with 1,024 of them for the sake of old programs.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on open files stays as it is: few connections and data files");
    }
}

/// Every role in one process: over in-memory pipes the same gRPC, without a network between; entries go to the bookie and
/// come from it without even that.
pub(crate) async fn standalone(args: servers::Standalone) -> anyhow::Result<()> {
    let stop = terminal::stop_signal();
    let host = Host::real("ledgerline");
    let admin = open_admin(&host, &args.admin_listen, &["meta", "bookie", "serving"]).await?;
    let name: NodeName = "standalone".parse().context("a fixed name is valid")?;
    let mut bookie = bookie_config(
        name.clone(),
        Address::new(BOOKIE_PIPE),
        &args.data_dir,
        args.journal_dir.as_deref(),
        &args.storage,
    );
    bookie.lease = Duration::from_secs(10);
    let mut serving = serving::ServingConfig::new(name, Address::new(args.listen.to_string()));
    serving.auto_create_topics = true;
    serving.quorum = Quorum::ONE;
    serving.lease = Duration::from_secs(10);
    args.broker.set(&mut serving);
    // Whatever is refused is refused before anything is opened.
    bookie.validate()?;
    let serving = serving::Bound::at(&host, serving).await?;
    let meta_host = host.fork("meta");
    let meta_dir = args.data_dir.join("meta");
    let config = meta::MetaConfig {
        listen: Address::new(META_PIPE),
        store: meta::store::EmbeddedConfig::new(meta_dir),
        nodes: meta::Nodes::InThisProcess,
        audit: meta::AuditConfig::default(),
    };
    start_meta(&meta_host, config).await?;
    let pipe = Addresses(vec![META_PIPE.to_owned()]);
    let client = connect(&host, &pipe, &stop).await?;
    let bookie = bookie::BookieNode::start(&host, bookie, client.clone()).await?;
    let serving = serving.beside(bookie.in_process());
    let serving = serving.start(&host, client).await?;
    Banner::new("standalone")
        .line("clients", serving.endpoint())
        .line("admin", admin_line(admin.as_ref()))
        .line("data", args.data_dir.display())
        .line(
            "durability",
            "each message fsynced on 1 disk before its ack (quorum 1/1)",
        )
        .try_next(&[
            "echo hello | ledgerline produce greetings",
            "ledgerline consume greetings --count 1",
        ])
        .print();
    let failed = until_stopped(&host, &stop).await;
    serving.stop().await;
    bookie.stop().await;
    stop_tasks(&meta_host).await;
    close_admin(admin).await;
    failed
}

/// The meta service.
pub(crate) async fn meta(args: servers::Meta) -> anyhow::Result<()> {
    let store = args.store()?;
    let audit = args.audit.config();
    audit.validate()?; // Before anything is opened.
    let stop = terminal::stop_signal();
    let host = Host::real("ledgerline");
    let admin = open_admin(&host, &args.admin_listen, &["meta"]).await?;
    let listen = Address::new(args.listen.to_string());
    let (meta, kept) = match store {
        StoreChoice::Embedded(dir) => {
            let kept = dir.display().to_string();
            let config = meta::MetaConfig {
                listen,
                store: meta::store::EmbeddedConfig::new(dir),
                nodes: meta::Nodes::Anywhere,
                audit,
            };
            let meta = start_meta(&host, config).await?;
            (meta, kept)
        }
        StoreChoice::Etcd {
            members,
            prefix,
            lease,
        } => {
            check_reachable(args.listen, args.advertise.as_deref())?;
            let kept = format!("etcd {members} under {prefix}");
            let members = members.0.into_iter().map(Address::new).collect();
            let mut store = meta::store::EtcdConfig::new(members, prefix);
            store.lease = lease;
            let config = meta::EtcdMetaConfig {
                listen,
                advertise: args.advertise.map(Address::new),
                store,
                audit,
            };
            let meta = tokio::select! {
                biased;
                () = stop.cancelled() => anyhow::bail!("stopped while waiting for etcd"),
                meta = meta::Meta::start_on_etcd(&host, config) => meta?,
            };
            (meta, kept)
        }
    };
    Banner::new("meta")
        .line("cluster", meta.cluster())
        .line("nodes", meta.address())
        .line("admin", admin_line(admin.as_ref()))
        .line("data", kept)
        .try_next(&[&format!(
            "ledgerline bookie --meta {} --name bookie-1",
            meta.address()
        )])
        .print();
    let failed = until_stopped(&host, &stop).await;
    stop_tasks(&host).await;
    close_admin(admin).await;
    failed
}

/// Refuses to tell others an address that is none: they would fail to come back, and nobody would know why.
fn check_reachable(listen: SocketAddr, advertise: Option<&str>) -> anyhow::Result<()> {
    anyhow::ensure!(
        advertise.is_some() || !listen.ip().is_unspecified(),
        "--listen {listen} means every address of this machine, and others must be told one: add --advertise HOST:PORT, where they reach it"
    );
    Ok(())
}

/// A bookie.
pub(crate) async fn bookie(args: servers::Bookie) -> anyhow::Result<()> {
    check_reachable(args.listen, args.advertise.as_deref())?;
    let stop = terminal::stop_signal();
    let host = Host::real("ledgerline");
    let admin = open_admin(&host, &args.admin_listen, &["bookie"]).await?;
    let mut config = bookie_config(
        args.name.clone(),
        Address::new(args.listen.to_string()),
        &args.data_dir,
        args.journal_dir.as_deref(),
        &args.storage,
    );
    config.advertise = args.advertise;
    config.zone = args.zone;
    config.lease = args.lease;
    config.repair = args.repair.config();
    config.validate()?; // Before meta is waited for.
    let client = connect(&host, &args.meta, &stop).await?;
    let bookie = bookie::BookieNode::start(&host, config, client).await?;
    Banner::new("bookie")
        .line("name", format!("{} ({})", args.name, bookie.id()))
        .line("serving nodes", bookie.local())
        .line("admin", admin_line(admin.as_ref()))
        .line("data", args.data_dir.display())
        .line(
            "durability",
            "each entry fsynced in the journal before it is answered",
        )
        .print();
    let failed = until_stopped(&host, &stop).await;
    bookie.stop().await;
    close_admin(admin).await;
    failed
}

/// A serving node.
pub(crate) async fn serving(args: servers::Serving) -> anyhow::Result<()> {
    check_reachable(args.listen, args.advertise.as_deref())?;
    let stop = terminal::stop_signal();
    let host = Host::real("ledgerline");
    let listen = Address::new(args.listen.to_string());
    let mut config = serving::ServingConfig::new(args.name.clone(), listen);
    config.balance = args.balance();
    config.advertise = args.advertise.map(|address| format!("http://{address}"));
    config.auto_create_topics = args.auto_create_topics;
    config.quorum = args.quorum;
    config.lease = args.lease;
    args.broker.set(&mut config);
    config.validate()?; // Before anything is opened.
    let admin = open_admin(&host, &args.admin_listen, &["serving"]).await?;
    let serving = serving::Bound::at(&host, config).await?; // Before meta is waited for.
    let client = connect(&host, &args.meta, &stop).await?;
    let serving = serving.start(&host, client).await?;
    let server = format!("--server {}", serving.endpoint());
    Banner::new("serving")
        .line("name", &args.name)
        .line("clients", serving.endpoint())
        .line("admin", admin_line(admin.as_ref()))
        .line(
            "durability",
            format!(
                "new topics: {} copies, {} fsynced before the ack",
                args.quorum.write(),
                args.quorum.ack()
            ),
        )
        .try_next(&[
            &format!("ledgerline topic create greetings {server}"),
            &format!("ledgerline cluster status {server}"),
        ])
        .print();
    let failed = until_stopped(&host, &stop).await;
    serving.stop().await;
    close_admin(admin).await;
    failed
}

/// Opens the admin port, first of all: from then on it says which parts are still starting.
async fn open_admin(
    host: &Host,
    listen: &AdminListen,
    parts: &[&'static str],
) -> anyhow::Result<Option<Admin>> {
    for part in parts {
        host.health.starting(part);
    }
    match listen {
        AdminListen::At(address) => {
            let address = Address::new(address.clone());
            Ok(Some(Admin::start(host, &address).await?))
        }
        AdminListen::Off => Ok(None),
    }
}

/// Closes it, last of all: until then it says that the process drains.
async fn close_admin(admin: Option<Admin>) {
    if let Some(admin) = admin {
        admin.stop().await;
    }
}

fn admin_line(admin: Option<&Admin>) -> String {
    admin.map_or_else(
        || "off".to_owned(),
        |admin| format!("http://{}/metrics", admin.address()),
    )
}

/// Waits for the user's word, or for a failure of the node.
async fn until_stopped(host: &Host, stop: &CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        // What still runs is told to end below, in order and within bounds.
        () = host.tasks.stopped() => {
            let failed = host.tasks.failure().map_or(Ok(()), Err);
            failed.context("the node failed and stops; start it again")
        }
    }
}

async fn start_meta(host: &Host, config: meta::MetaConfig) -> anyhow::Result<meta::Meta> {
    meta::Meta::start(host, config)
        .await
        .map_err(anyhow::Error::from)
}

async fn stop_tasks(host: &Host) {
    if let Err(error) = host.tasks.stop(STOP_WITHIN).await {
        tracing::warn!(%error, "stopped with tasks left");
    }
}

/// Connects to meta, waiting for it to come up.
async fn connect(
    host: &Host,
    at: &Addresses,
    stop: &CancellationToken,
) -> anyhow::Result<MetaClient> {
    let config = MetaConfig::new(at.0.iter().map(Address::new).collect());
    tokio::select! {
        biased;
        () = stop.cancelled() => anyhow::bail!("stopped while waiting for meta"),
        client = MetaClient::connect(host, config, META_PATIENCE) => client.with_context(|| {
            format!("meta does not answer at {at}; is it running? set --meta to its address")
        }),
    }
}

fn bookie_config(
    name: NodeName,
    listen: Address,
    data_dir: &Path,
    journal_dir: Option<&Path>,
    storage: &servers::Storage,
) -> bookie::NodeConfig {
    let journal = journal_dir.map_or_else(|| data_dir.join("journal"), Path::to_path_buf);
    let mut engine = bookie::Config::new(journal, data_dir.join("ledgers"));
    engine.journal_file = storage.journal_file;
    engine.journal_first_file = engine.journal_first_file.min(storage.journal_file);
    engine.free_low = storage.free_low;
    engine.rewrite_below = storage.rewrite_below;
    engine.reclaim_every = storage.reclaim_interval;
    engine.cache = storage.read_cache;
    bookie::NodeConfig {
        name,
        listen,
        advertise: None,
        zone: None,
        lease: Duration::from_secs(2),
        engine,
        repair: bookie::RepairConfig::default(),
        scrub: bookie::ScrubConfig {
            interval: storage.scrub_interval.0,
            rate: storage.scrub_rate,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_listened_at_but_never_told_to_others() {
        let told = |listen: &str, advertise| check_reachable(listen.parse().unwrap(), advertise);
        for every in ["0.0.0.0:7450", "[::]:7450"] {
            let refusal = told(every, None).unwrap_err().to_string();
            assert!(refusal.contains("--advertise HOST:PORT"), "{refusal}");
            assert!(told(every, Some("node-1:7450")).is_ok());
        }
        assert!(told("127.0.0.1:7450", None).is_ok());
    }
}
