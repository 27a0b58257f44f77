//! How a world is made.

use std::sync::Arc;
use std::time::Duration;

use catalog::MemStore;
use ledger::{Config, Owner};
use types::cluster::{BookieClaim, NodeRole};
use types::command::{Command, Reply};
use types::{ByteSize, ClusterId, CommandId, Incarnation, Quorum, SessionId, WallTime};

use super::memo::Memo;
use super::{Frame, World};
use crate::explore::bookie::Bookie;
use crate::explore::driver::Driver;
use crate::explore::hash::{Shared, hash_of};
use crate::explore::observer::Observer;

/// How often each kind of misfortune may still strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    /// A message is delivered and stays on its way.
    pub repeats: u8,
    /// A bookie's process dies.
    pub crashes: u8,
    /// A bookie loses its disk.
    pub rebirths: u8,
    /// An owner is told that an outcome is unknown.
    pub unknowns: u8,
    /// An owner's deadline comes.
    pub deadlines: u8,
    /// An owner is told to roll its ledger.
    pub rolls: u8,
    /// Something else changes the shard's record.
    pub touches: u8,
    /// An owner is told to give the shard up.
    pub releases: u8,
}

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its bookies.
    pub bookies: u8,
    /// The copies of each entry.
    pub quorum: Quorum,
    /// Entries that each owner appends, to each log in turn.
    pub appends: Vec<u8>,
    /// Whether every second append goes to the state log.
    pub has_state_log: bool,
    /// What may happen.
    pub budget: Budget,
    /// Whether a deadline finds every bookie late that owes an answer, so that ledgers are sealed.
    pub is_impatient: bool,
    /// Whether an owner hears that it is fenced. Not hearing it leaves it free to do more, so that nothing is missed
    /// when it never does; hearing it is for the goals.
    pub fences_are_told: bool,
    /// Most entries recovery reads at once.
    pub recovery_window: usize,
}

impl World {
    /// A world in which nothing has happened: bookies registered, sessions open, one shard without ledgers.
    ///
    /// # Panics
    ///
    /// When the setup makes no sense, such as more copies than bookies.
    pub fn new(setup: Setup) -> Self {
        let mut meta = MemStore::new();
        let at = WallTime::from_nanos(0);
        let done = |reply: Result<Reply, _>| reply.expect("the world can be set up");
        done(meta.apply(&Command::Bootstrap {
            cluster: ClusterId::new(1),
            at,
        }));
        let mut bookies = Vec::new();
        for number in 1..=setup.bookies {
            let session = open_session(&mut meta, NodeRole::Bookie, &format!("bookie-{number}"));
            let reply = meta.apply(&Command::RegisterBookie {
                claim: first_claim(number),
                session,
            });
            let Reply::Bookie(record) = done(reply) else {
                unreachable!("a registration is answered with the bookie");
            };
            bookies.push(Shared::new(Bookie::new(record.id, record.born)));
        }
        let reply = meta.apply(&Command::CreateTopic {
            name: "t".parse().expect("a good name"),
            quorum: setup.quorum,
            retention: types::topic::Retention::FOREVER,
            at,
        });
        let Reply::Topic(topic) = done(reply) else {
            unreachable!("a new topic is answered with it");
        };
        let shard = topic.shards[0];
        let mut sessions = Vec::new();
        let mut owners = Vec::new();
        for number in 0..u8::try_from(setup.appends.len()).expect("few owners") {
            let session = open_session(&mut meta, NodeRole::Serving, &format!("owner-{number}"));
            sessions.push(session);
            let seed = u128::from(number) << 96;
            let owner = Owner::new(shard, session, seed, config(&setup));
            owners.push(Shared::new(Driver::new(number, owner)));
        }
        Self {
            bookies,
            owners,
            meta: Shared::new(meta),
            net: Vec::new(),
            left: setup.budget,
            losses: 0,
            observer: Shared::new(Observer::default()),
            frame: Arc::new(Frame {
                setup,
                shard,
                sessions,
                memo: Memo::default(),
            }),
        }
    }
}

fn config(setup: &Setup) -> Config {
    let patience = if setup.is_impatient {
        Duration::ZERO
    } else {
        Duration::from_secs(3600)
    };
    Config {
        ledger_bytes_max: ByteSize::mib(1),
        ledger_entries_max: 1000,
        retry_after: Duration::ZERO,
        resend_after: Duration::ZERO,
        retry_after_max: Duration::ZERO,
        straggler_time: patience,
        straggler_bytes: ByteSize::mib(1),
        trouble_time: Duration::ZERO,
        seal_interval_min: Duration::ZERO,
        idle_lac_after: Duration::ZERO,
        recovery_window: setup.recovery_window,
    }
}

fn open_session(meta: &mut MemStore, role: NodeRole, name: &str) -> SessionId {
    let command = CommandId::new(hash_of(&name));
    let reply = meta.apply(&Command::OpenSession {
        role,
        name: name.parse().expect("a good name"),
        address: format!("{name}:1"),
        endpoint: match role {
            NodeRole::Serving => format!("http://{name}:2"),
            NodeRole::Bookie => String::new(),
        },
        lease: Duration::from_secs(5),
        command,
    });
    let Ok(Reply::Session(session)) = reply else {
        unreachable!("a new session is answered with it: {reply:?}");
    };
    session.id
}

pub(super) fn first_claim(number: u8) -> BookieClaim {
    BookieClaim {
        zone: None,
        name: format!("bookie-{number}").parse().expect("a good name"),
        address: format!("bookie-{number}:1"),
        id: None,
        born: None,
        incarnation: Incarnation::new(1),
        mark: 0,
        damaged: false,
    }
}
