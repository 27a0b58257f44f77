//! What a seed makes of a run: the cluster, its settings, the load, and which harm may be done.

use std::time::Duration;

use host::Rng;
use types::{ByteSize, Quorum};

/// Harm that a seed may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Harm {
    /// A process dies; its machine stays up.
    Kill,
    /// A machine loses power, and its connections end.
    Power,
    /// A machine loses power, and nobody is told.
    Silence,
    /// Every machine of the cluster loses power at once.
    Blackout,
    /// A process is stopped as its user would, and started again.
    Stop,
    /// The bookies, or the serving nodes, are stopped and started one after the other.
    Roll,
    /// Links are cut in both directions.
    Partition,
    /// Links are cut in one direction.
    OneWay,
    /// Links hold everything back, and then let it through.
    Hold,
    /// Messages take long.
    Latency,
    /// A disk is slow.
    DiskSlow,
    /// A sync fails.
    SyncError,
    /// A bookie's disk is full for a while.
    DiskFull,
    /// A machine's wall clock jumps.
    Clock,
    /// A bookie's disk is emptied.
    Wipe,
    /// A bookie or a serving node is drained, and later is not.
    Drain,
    /// A client's process dies; another comes.
    ClientKill,
    /// A client hears nothing any more, and then dies; another comes.
    ClientSilence,
}

impl Harm {
    /// Every harm.
    pub const ALL: [Self; 18] = [
        Self::Kill,
        Self::Power,
        Self::Silence,
        Self::Blackout,
        Self::Stop,
        Self::Roll,
        Self::Partition,
        Self::OneWay,
        Self::Hold,
        Self::Latency,
        Self::DiskSlow,
        Self::SyncError,
        Self::DiskFull,
        Self::Clock,
        Self::Wipe,
        Self::Drain,
        Self::ClientKill,
        Self::ClientSilence,
    ];

    /// It in words: the name of the fault in histories, and of its mark.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "process killed",
            Self::Power => "power lost",
            Self::Silence => "power lost in silence",
            Self::Blackout => "power lost everywhere",
            Self::Stop => "process stopped",
            Self::Roll => "processes stopped in turn",
            Self::Partition => "links cut",
            Self::OneWay => "links cut in one direction",
            Self::Hold => "links held",
            Self::Latency => "messages slow",
            Self::DiskSlow => "disk slow",
            Self::SyncError => "sync fails",
            Self::DiskFull => "disk full",
            Self::Clock => "wall clock jumps",
            Self::Wipe => "disk emptied",
            Self::Drain => "node to be drained",
            Self::ClientKill => "client killed",
            Self::ClientSilence => "client cut off and killed",
        }
    }
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
    /// Copies of each topic.
    pub quorum: Quorum,
    /// How long harm is done.
    pub chaos: Duration,
    /// The harm that may be done.
    pub harms: Vec<Harm>,
    /// The average time between two acts of harm.
    pub gap: Duration,
    /// The longest way of a message while nothing is wrong.
    pub latency: Duration,
    /// A node's lease.
    pub lease: Duration,
    /// How often serving nodes look whether topics are spread badly.
    pub balance: Duration,
    /// Topics.
    pub topics: usize,
    /// Writers on each topic.
    pub writers: u32,
    /// Messages a second of each writer.
    pub rate: u32,
    /// Bytes of a payload, at most.
    pub payload: usize,
    /// One message in so many is handed back the first time; 0 for none.
    pub nack_every: u64,
    /// Whether consumers leave and come back, under other names.
    pub consumers_leave: bool,
    /// Whether writers have names: one whose client died comes back and sends again what is not stored.
    pub named: bool,
    /// Whether messages go once every subscription has acked them.
    pub trims: bool,
    /// A bookie and a serving node that never come back after the harm, where the rest can do without.
    pub gone: (Option<usize>, Option<usize>),
    /// Whether they go in the middle of it already.
    pub gone_early: bool,
    /// How long a bookie may be away until its copies are made anew.
    pub grace: Duration,
    /// Entries after which a ledger is rolled.
    pub ledger_entries: u64,
    /// Bytes of a bookie's journal file.
    pub journal: ByteSize,
    /// Bytes of a bookie's memtable.
    pub memtable: ByteSize,
}

impl Swarm {
    /// Draws it.
    pub fn new(seed: u64) -> Self {
        let rng = Rng::seeded(seed).fork("swarm");
        let ms = Duration::from_millis;
        // Each harm is in with the same chance, which differs from seed to seed.
        let of_eight = 1 + rng.below(6);
        let is_quiet = rng.one_in(16);
        let mut harms: Vec<Harm> = Harm::ALL
            .into_iter()
            .filter(|_| rng.below(8) < of_eight && !is_quiet)
            .collect();
        let quorum = quorum(&rng);
        let bookies = match quorum.write() {
            1 => 1 + rng.index(3),
            write => write.max(3) + rng.index(2),
        };
        let servers = [1, 2, 2, 3][rng.index(4)];
        let mut spare = copies_to_spare(quorum);
        if spare == 0 {
            harms.retain(|harm| *harm != Harm::Wipe);
        }
        spare -= usize::from(harms.contains(&Harm::Wipe));
        let may_lose = bookies > quorum.write() && !is_quiet && spare > 0;
        let gone = (
            (rng.one_in(3) && may_lose).then(|| rng.index(bookies)),
            (rng.one_in(3) && !is_quiet && servers > 1).then(|| rng.index(servers)),
        );
        Self {
            seed,
            bookies,
            servers,
            gone,
            gone_early: rng.one_in(2),
            quorum,
            chaos: ms(rng.within(10_000..=40_000)),
            harms,
            gap: ms(rng.within(300..=5_000)),
            latency: ms(rng.within(1..=10)),
            lease: ms(rng.within(1_000..=3_000)),
            balance: ms(rng.within(500..=5_000)),
            topics: 1 + rng.index(3),
            writers: 1 + u32::try_from(rng.below(2)).unwrap_or(0),
            rate: 5 + u32::try_from(rng.below(25)).unwrap_or(0),
            payload: 100 + rng.index(4_000),
            nack_every: [0, 7, 40][rng.index(3)],
            consumers_leave: rng.one_in(2),
            named: !rng.one_in(4),
            trims: rng.one_in(2),
            grace: ms(rng.within(3_000..=20_000)),
            ledger_entries: [10, 50, 1_000, 1_000_000][rng.index(4)],
            journal: ByteSize::kib([1_024, 2_048][rng.index(2)]),
            memtable: ByteSize::kib([64, 256, 1_024][rng.index(3)]),
        }
    }
}

/// Mostly the default of a cluster, sometimes one that can do without less or with more.
fn quorum(rng: &Rng) -> Quorum {
    let (write, ack) = match rng.below(8) {
        0 => (1, 1),
        1 => (2, 1),
        2 => (5, 3),
        _ => (3, 2),
    };
    Quorum::new(write, ack).unwrap_or(Quorum::THREE_TWO)
}

/// How many copies of an entry may be lost: one of those that were on disk before the ack must be left, and enough to
/// recover a ledger with.
pub(super) fn copies_to_spare(quorum: Quorum) -> usize {
    quorum.ack().min(quorum.recovery()) - 1
}
