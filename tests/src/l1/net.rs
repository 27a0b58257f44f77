//! The network: for each directed link a delay, loss, repeats, and whether it is cut.

use host::Rng;

use super::agenda::{MS, Nanos};

/// The longest that a message may be on its way.
const LATE: Nanos = 10_000 * MS;

/// A machine of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Host {
    /// The metadata service.
    Meta,
    /// A bookie.
    Bookie(usize),
    /// A serving node.
    Server(usize),
    /// All clients.
    Clients,
}

/// One direction between two machines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// The shortest way.
    pub(super) delay: Nanos,
    /// Up to so much longer.
    pub(super) jitter: Nanos,
    /// Messages lost, in a million.
    pub(super) loss: u32,
    /// Messages that come twice, in a million.
    pub(super) repeats: u32,
    /// Messages that come long after those that were sent later, in a million.
    pub(super) late: u32,
    /// How many partitions cut it now.
    pub(super) cuts: u32,
}

impl Link {
    /// A link of a quiet network.
    pub(super) const fn quiet() -> Self {
        Self {
            delay: MS / 10,
            jitter: MS / 5,
            loss: 0,
            repeats: 0,
            late: 0,
            cuts: 0,
        }
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It never comes.
    Lost,
    /// It comes at this time, and perhaps a second time.
    Comes(Nanos, Option<Nanos>),
}

/// All links.
#[derive(Debug)]
pub(super) struct Net {
    bookies: usize,
    hosts: usize,
    links: Vec<Link>,
    rng: Rng,
}

impl Net {
    /// A quiet network.
    pub(super) fn new(bookies: usize, servers: usize, rng: Rng) -> Self {
        let hosts = 2 + bookies + servers;
        Self {
            bookies,
            hosts,
            links: vec![Link::quiet(); hosts * hosts],
            rng,
        }
    }

    /// Every machine.
    pub(super) fn hosts(&self) -> Vec<Host> {
        let bookies = (0..self.bookies).map(Host::Bookie);
        let servers = (0..self.hosts - 2 - self.bookies).map(Host::Server);
        [Host::Meta, Host::Clients]
            .into_iter()
            .chain(bookies)
            .chain(servers)
            .collect()
    }

    fn place(&self, host: Host) -> usize {
        match host {
            Host::Meta => 0,
            Host::Clients => 1,
            Host::Bookie(at) => 2 + at,
            Host::Server(at) => 2 + self.bookies + at,
        }
    }

    /// One direction, to change.
    pub(super) fn link(&mut self, from: Host, to: Host) -> &mut Link {
        let at = self.place(from) * self.hosts + self.place(to);
        &mut self.links[at]
    }

    /// Draws what becomes of a message sent now.
    pub(super) fn fate(&mut self, now: Nanos, from: Host, to: Host) -> Fate {
        let link = *self.link(from, to);
        if link.cuts > 0 || self.rng.chance(link.loss) {
            return Fate::Lost;
        }
        let rng = &self.rng;
        let time = |link: &Link| now + link.delay + rng.below(link.jitter + 1);
        let first = time(&link);
        let second = rng
            .chance(link.repeats)
            .then(|| time(&link) + rng.below(50 * MS));
        Fate::Comes(first, second)
    }

    /// How much later than others a message comes; mostly nothing.
    pub(super) fn lateness(&mut self, from: Host, to: Host) -> Nanos {
        let late = self.link(from, to).late;
        if self.rng.chance(late) {
            self.rng.below(LATE)
        } else {
            0
        }
    }

    /// Makes every link quiet again.
    pub(super) fn heal(&mut self) {
        self.links.fill(Link::quiet());
    }
}
