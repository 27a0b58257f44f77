//! The worlds that are explored, and what each must show.

use types::Quorum;

use super::observer::Goal::{
    self, Acked, AckedBySuccessor, CommandConflicted, CommandRepeated, Extended, LacAlone,
    LostUnsynced, Opened, OverByFence, OverByRecord, RefusedByBirth, Released, Rewritten,
    SaidUnknown, WrittenBack,
};
use super::search::Limits;
use super::world::{Budget, Setup, World};

/// A world with its limits.
#[derive(Debug, Clone)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// What it is made of.
    pub setup: Setup,
    /// What it must show.
    pub goals: &'static [Goal],
    /// How far it is explored by default; none is until no new state appears.
    pub depth: Option<usize>,
    /// How far it is explored when asked to go deep.
    pub deep: Option<usize>,
    /// Whether it is small enough for every test run.
    pub is_small: bool,
}

impl Preset {
    /// The world at its start.
    pub fn world(&self) -> World {
        World::new(self.setup.clone())
    }

    /// How far it is explored.
    pub fn limits(&self, is_deep: bool) -> Limits {
        let depth = if is_deep { self.deep } else { self.depth };
        Limits {
            depth: depth.unwrap_or(usize::MAX),
            states: usize::MAX,
        }
    }

    const fn small(mut self) -> Self {
        self.is_small = true;
        self
    }

    const fn down_to(mut self, depth: usize, deep: usize) -> Self {
        self.depth = Some(depth);
        self.deep = Some(deep);
        self
    }

    const fn impatient(mut self) -> Self {
        self.setup.is_impatient = true;
        self
    }

    const fn with_state_log(mut self) -> Self {
        self.setup.has_state_log = true;
        self
    }
}

/// The world of this name.
pub fn named(name: &str) -> Option<Preset> {
    all().into_iter().find(|preset| preset.name == name)
}

const CALM: Budget = Budget {
    repeats: 0,
    crashes: 0,
    rebirths: 0,
    unknowns: 0,
    deadlines: 0,
    rolls: 0,
    touches: 0,
    releases: 0,
};

const EVERYTHING: Budget = Budget {
    repeats: 2,
    crashes: 1,
    rebirths: 1,
    unknowns: 2,
    deadlines: 4,
    rolls: 1,
    touches: 1,
    releases: 1,
};

/// A world of as many bookies as there are copies; `appends` has a number for each owner.
fn world(
    (name, about): (&'static str, &'static str),
    (write, ack): (u8, u8),
    appends: &[u8],
    budget: Budget,
    goals: &'static [Goal],
) -> Preset {
    Preset {
        name,
        about,
        setup: Setup {
            bookies: write,
            quorum: Quorum::new(write, ack).expect("a good quorum"),
            appends: appends.to_vec(),
            has_state_log: false,
            budget,
            is_impatient: false,
            fences_are_told: write == 1,
            recovery_window: 2,
        },
        goals,
        depth: None,
        deep: None,
        is_small: false,
    }
}

/// Every world.
pub fn all() -> Vec<Preset> {
    let mut worlds = one_bookie();
    worlds.extend(one_bookie_sealing());
    worlds.extend(two_bookies());
    worlds.extend(three_bookies());
    worlds.extend(deep());
    worlds
}

fn one_bookie() -> Vec<Preset> {
    let crash = Budget {
        crashes: 1,
        deadlines: 1,
        ..CALM
    };
    let repeats = Budget { repeats: 1, ..CALM };
    let unknown = Budget {
        unknowns: 1,
        deadlines: 1,
        ..CALM
    };
    vec![
        world(
            ("1/1-crash", "1 entry each, a recoverer, a crash"),
            (1, 1),
            &[1, 1],
            crash,
            &[
                Acked,
                AckedBySuccessor,
                Opened,
                WrittenBack,
                OverByFence,
                LostUnsynced,
            ],
        )
        .small(),
        world(
            ("1/1-repeat", "1 entry, two recoverers, a repeated message"),
            (1, 1),
            &[1, 0, 0],
            repeats,
            &[Acked, Opened, WrittenBack, OverByFence, OverByRecord],
        ),
        world(
            ("1/1-unknown", "1 entry, two recoverers, an unknown outcome"),
            (1, 1),
            &[1, 0, 0],
            unknown,
            &[Acked, Opened, CommandRepeated, CommandConflicted],
        ),
        world(
            ("1/1-crash-two", "1 entry, two recoverers, a crash"),
            (1, 1),
            &[1, 0, 0],
            crash,
            &[Acked, Opened, LostUnsynced],
        ),
    ]
}

fn one_bookie_sealing() -> Vec<Preset> {
    let sealing = Budget {
        unknowns: 1,
        deadlines: 2,
        touches: 1,
        ..CALM
    };
    let rolls = Budget {
        rolls: 1,
        releases: 1,

        deadlines: 1,
        ..CALM
    };
    vec![
        world(
            (
                "1/1-seal",
                "1 entry, sealed with an unknown outcome on a record that moves, a recoverer",
            ),
            (1, 1),
            &[1, 0],
            sealing,
            &[
                Acked,
                Extended,
                Rewritten,
                CommandRepeated,
                CommandConflicted,
            ],
        )
        .impatient(),
        world(
            (
                "1/1-two-logs",
                "1 entry in each log, a roll, a release, a recoverer",
            ),
            (1, 1),
            &[2, 0],
            rolls,
            &[Acked, Opened, Released, LacAlone],
        )
        .with_state_log(),
    ]
}

fn two_bookies() -> Vec<Preset> {
    let crash = Budget { crashes: 1, ..CALM };
    let rebirth = Budget {
        rebirths: 1,
        ..CALM
    };
    let unknown = Budget {
        unknowns: 1,
        deadlines: 1,
        ..CALM
    };
    vec![
        world(
            ("2/1", "1 entry, two recoverers"),
            (2, 1),
            &[1, 0, 0],
            CALM,
            &[Acked, Opened, WrittenBack, OverByRecord],
        ),
        world(
            ("2/1-unknown", "1 entry, a recoverer, an unknown outcome"),
            (2, 1),
            &[1, 0],
            unknown,
            &[Acked, Opened, CommandRepeated],
        ),
        world(
            ("2/1-crash", "2 entries, a recoverer, a crash"),
            (2, 1),
            &[2, 0],
            crash,
            &[Acked, Opened, WrittenBack, LostUnsynced],
        ),
        world(
            ("2/1-reborn", "1 entry, a recoverer, a lost disk"),
            (2, 1),
            &[1, 0],
            rebirth,
            &[Acked, Opened, RefusedByBirth, SaidUnknown],
        ),
    ]
}

fn three_bookies() -> Vec<Preset> {
    let rebirth = Budget {
        rebirths: 1,
        ..CALM
    };
    let crash = Budget { crashes: 1, ..CALM };
    vec![
        world(
            ("3/2-small", "1 entry, a recoverer"),
            (3, 2),
            &[1, 0],
            CALM,
            &[Acked, Opened, WrittenBack],
        )
        .small(),
        world(
            ("3/2", "2 entries, a recoverer"),
            (3, 2),
            &[2, 0],
            CALM,
            &[Acked, Opened, WrittenBack],
        ),
        world(
            ("3/2-crash", "1 entry, a recoverer, a crash"),
            (3, 2),
            &[1, 0],
            crash,
            &[Acked, Opened, WrittenBack, LostUnsynced],
        ),
        world(
            ("3/2-reborn", "1 entry, a recoverer, a lost disk"),
            (3, 2),
            &[1, 0],
            rebirth,
            &[Acked, Opened, WrittenBack, RefusedByBirth, SaidUnknown],
        ),
    ]
}

fn deep() -> Vec<Preset> {
    vec![
        world(
            (
                "patient",
                "3/2, up to 3 entries each, three owners, everything may happen",
            ),
            (3, 2),
            &[3, 2, 1],
            EVERYTHING,
            &[
                Acked,
                AckedBySuccessor,
                LostUnsynced,
                RefusedByBirth,
                SaidUnknown,
            ],
        )
        .down_to(8, 11),
        world(
            ("hasty", "the same with owners that seal at every deadline"),
            (3, 2),
            &[3, 2, 1],
            EVERYTHING,
            &[Acked, AckedBySuccessor, Extended, Rewritten],
        )
        .impatient()
        .down_to(8, 11),
    ]
}
