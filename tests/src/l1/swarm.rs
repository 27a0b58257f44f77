//! What a seed makes of a run: how large the world is, how it is configured, and which harm may be done.

use std::sync::Arc;
use std::time::Duration;

use host::Rng;
use types::{ByteSize, Quorum};

use super::agenda::{Nanos, SECOND};
use super::shard_core::ShardConfig;

/// Harm that a seed may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Harm {
    /// Links are slow.
    Delay,
    /// Messages are lost, connections break.
    Loss,
    /// Requests and answers on a stream come twice and out of order.
    Disorder,
    /// Links are cut, in both directions or in one.
    Partition,
    /// Processes stand still.
    Pause,
    /// Processes die.
    Crash,
    /// Machines lose power.
    Power,
    /// Meta is slow between planning and committing, and away.
    Meta,
    /// Syncs and writes fail.
    DiskError,
    /// Disks fill up.
    DiskFull,
    /// Disks are slow.
    DiskSlow,
    /// One bookie's disk is wiped, set back, or has its bits flipped.
    DiskLoss,
    /// A serving node does not reach meta and goes on.
    Lapse,
    /// Clients' connections break.
    Client,
    /// Owners give shards up.
    Release,
    /// Bookies are lost for good.
    Gone,
    /// Bookies are drained for a while.
    Drain,
    /// Words come long after those that were said later.
    Late,
    /// Subscriptions are deleted, and made again.
    Unsubscribe,
    /// The topic is deleted, and made again.
    DeleteTopic,
}

impl Harm {
    /// Every harm.
    pub const ALL: [Self; 20] = [
        Self::Delay,
        Self::Loss,
        Self::Disorder,
        Self::Partition,
        Self::Pause,
        Self::Crash,
        Self::Power,
        Self::Meta,
        Self::DiskError,
        Self::DiskFull,
        Self::DiskSlow,
        Self::DiskLoss,
        Self::Lapse,
        Self::Client,
        Self::Release,
        Self::Gone,
        Self::Drain,
        Self::Late,
        Self::Unsubscribe,
        Self::DeleteTopic,
    ];

    /// Those that are drawn after all else of a seed, which so stays what it was before they came.
    const DRAWN_LAST: [Self; 5] = [
        Self::Gone,
        Self::Drain,
        Self::Late,
        Self::Unsubscribe,
        Self::DeleteTopic,
    ];
}

/// What a seed makes of a run.
#[derive(Debug, Clone)]
pub struct Swarm {
    /// The seed.
    pub seed: u64,
    /// Bookies.
    pub bookies: usize,
    /// Serving nodes.
    pub servers: usize,
    /// Copies.
    pub quorum: Quorum,
    /// Simulated nanoseconds in which harm is done.
    pub chaos: Nanos,
    /// The harm that may be done.
    pub harms: Vec<Harm>,
    /// The average time between two acts of harm.
    pub gap: Nanos,
    /// The bookie whose disk may be lost, when the promise allows one.
    pub damageable: Option<usize>,
    /// Whether more disks are lost than the promise allows: then the only demand is to halt rather than lie.
    pub is_beyond: bool,
    /// Nodes that never come back after the chaos: a bookie, a serving node.
    pub gone: (Option<usize>, Option<usize>),
    /// A node's lease.
    pub lease: Duration,
    /// Producers.
    pub producers: usize,
    /// Messages a second of each producer.
    pub rate: u64,
    /// Most messages of a batch.
    pub batch: u64,
    /// Bytes of a payload, at most.
    pub payload: usize,
    /// Whether producers cut their batches anew when they repeat them.
    pub recuts: bool,
    /// The serving nodes' configuration.
    pub shard: Arc<ShardConfig>,
    /// Whether messages that every subscription acked are dropped.
    pub trims: bool,
    /// How long they stay all the same.
    pub retention: Duration,
    /// Whether copies are made anew: meta's auditor looks, bookies repair, and give up what lives elsewhere.
    pub repairs: bool,
    /// How long a bookie may be away until its copies are made anew elsewhere.
    pub grace: Duration,
    /// Bytes of a bookie's journal file.
    pub journal: ByteSize,
    /// Bytes of a bookie's memtable.
    pub memtable: ByteSize,
}

impl Swarm {
    /// Draws it.
    ///
    /// # Panics
    ///
    /// Never: the quorums it chooses from are valid.
    pub fn new(seed: u64) -> Self {
        let rng = Rng::seeded(seed);
        let rng = rng.fork("swarm");
        let quorum = match rng.below(16) {
            0 => Quorum::ONE,
            1 => Quorum::new(2, 1).expect("a valid quorum"),
            2 => Quorum::new(5, 3).expect("a valid quorum"),
            _ => Quorum::THREE_TWO,
        };
        let bookies = quorum.write() + rng.index(3);
        let servers = 2 + rng.index(2);
        // Each kind is in with the same chance, which differs from seed to seed.
        let of_eight = 1 + rng.below(7);
        let is_quiet = rng.one_in(25);
        let mut harms: Vec<Harm> = Harm::ALL
            .into_iter()
            .filter(|harm| !Harm::DRAWN_LAST.contains(harm))
            .filter(|_| !is_quiet && rng.below(8) < of_eight)
            .collect();
        let may_lose = quorum.ack() > 1;
        let is_beyond = may_lose && rng.one_in(20);
        if !may_lose {
            harms.retain(|harm| *harm != Harm::DiskLoss);
        }
        let damageable = harms.contains(&Harm::DiskLoss).then(|| rng.index(bookies));
        let gone_bookie =
            (may_lose && rng.one_in(3)).then(|| damageable.unwrap_or_else(|| rng.index(bookies)));
        let mut shard = shard_config(&rng);
        // A fork of its own: what else is drawn for a seed does not depend on it.
        let trim = rng.fork("trim");
        let ms = Duration::from_millis;
        shard.trim_interval = ms(trim.within(100..=4_000));
        let (trims, retention) = (trim.one_in(2), ms(trim.below(2) * trim.below(5_000)));
        // Ledgers of few entries make long chains, which cost more than they show.
        let is_small = shard.ledger.ledger_entries_max <= 3;
        let gone_server = rng.one_in(3).then(|| rng.index(servers));
        let mut swarm = Self {
            seed,
            bookies,
            servers,
            quorum,
            chaos: SECOND * rng.within(10..=if is_small { 20 } else { 60 }),
            harms,
            gap: SECOND / 10 * rng.within(2..=30),
            damageable,
            is_beyond: is_beyond && damageable.is_some(),
            gone: (gone_bookie, gone_server),
            lease: Duration::from_millis(rng.within(800..=3_000)),
            producers: 1 + rng.index(3),
            rate: rng.within(2..=if is_small { 6 } else { 20 }),
            batch: rng.within(1..=6),
            payload: 40 + rng.index(700),
            recuts: rng.one_in(6),
            trims,
            retention,
            shard: Arc::new(shard),
            journal: ByteSize::new([32 << 10, 64 << 10, 256 << 10][rng.index(3)]),
            memtable: ByteSize::new([4 << 10, 16 << 10, 64 << 10][rng.index(3)]),
            repairs: false,
            grace: Duration::ZERO,
        };
        swarm.draw_last(&rng, is_quiet, may_lose);
        swarm
    }

    /// What came to be later: half of the seeds know none of it, and are what they were.
    fn draw_last(&mut self, rng: &Rng, is_quiet: bool, may_lose: bool) {
        let rng = rng.fork("copies");
        self.repairs = rng.one_in(2);
        self.grace = Duration::from_millis(rng.within(300..=4_000));
        if !self.repairs || is_quiet {
            return;
        }
        let last = Harm::DRAWN_LAST.into_iter();
        let last = last.filter(|harm| may_lose || *harm != Harm::Gone);
        self.harms.extend(last.filter(|_| rng.one_in(2)));
    }

    /// Whether this harm may be done.
    pub fn allows(&self, harm: Harm) -> bool {
        self.harms.contains(&harm)
    }
}

fn shard_config(rng: &Rng) -> ShardConfig {
    let ms = Duration::from_millis;
    let defaults = ShardConfig::default();
    ShardConfig {
        topic: Arc::new(topic::Config {
            recent_batches: 8 + rng.index(56),
            producer_batches_max: 8,
            snapshot_every: ByteSize::new(1 << rng.within(10..=17)),
            ack_delay: ms(rng.within(0..=40)),
            read_retry: ms(100),
            heartbeat: Duration::from_secs(5),
            state_roll: ByteSize::new(1 << rng.within(12..=18)),
            unacked_max: rng.within(3..=200),
            read_bytes: ByteSize::new(1 << rng.within(9..=16)),
            ..topic::Config::clone(&defaults.topic)
        }),
        ledger: Arc::new(ledger::Config {
            ledger_entries_max: [1, 3, 20, 200, 1_000_000][rng.index(5)],
            retry_after: ms(200),
            resend_after: ms(500 + rng.below(2_000)),
            retry_after_max: ms(2_000),
            straggler_time: ms(200 + rng.below(3_000)),
            trouble_time: ms(2_000),
            seal_interval_min: ms(200 + rng.below(3_000)),
            recovery_window: 1 + rng.index(16),
            ..*defaults.ledger
        }),
        tail_cache: ByteSize::new([0, 2 << 10, 16 << 20][rng.index(3)]),
        read_ahead: ByteSize::new(1 << rng.within(9..=18)),
        read_timeout: ms(2_000),
        speculate_after: ms(100),
        retry_after: ms(200),
        open_patience: ms(2_000),
        ..defaults
    }
}
