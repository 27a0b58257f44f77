//! A store with the shorthand that the tests speak in. Every command is checked against the whole store.

use std::time::Duration;

use catalog::{MemStore, check, check_step};
use types::chain::{
    Claim, LedgerState, LinkEnd, LogKind, ShardChange, ShardCommand, ShardOutcome, ShardView,
};
use types::cluster::{BookieClaim, BookieRecord, NodeRole, SessionRecord};
use types::command::{Answer, Command, Query, Reply};
use types::topic::Retention;
use types::{
    BookieId, ClusterId, CommandId, EntryId, Incarnation, Offset, Problem, Quorum, SessionId,
    ShardId, WallTime,
};

pub(crate) const AT: WallTime = WallTime::from_nanos(1_000);

pub(crate) struct World {
    pub(crate) store: MemStore,
    next_command: u128,
}

impl World {
    /// A store that was taken for a cluster.
    pub(crate) fn new() -> Self {
        let mut world = Self {
            store: MemStore::new(),
            next_command: 1,
        };
        world
            .apply(Command::Bootstrap {
                cluster: ClusterId::new(7),
                at: AT,
            })
            .unwrap();
        world
    }

    /// One with a topic of one copy, a bookie for it, and a serving node.
    pub(crate) fn with_shard() -> (Self, ShardId, SessionId) {
        let mut world = Self::new();
        world.bookie("b1");
        let shard = world.topic("orders", Quorum::ONE);
        let session = world.serving("s1").id;
        (world, shard, session)
    }

    pub(crate) fn apply(&mut self, command: Command) -> Result<Reply, Problem> {
        let before = self.store.clone();
        let reply = self.store.apply(&command);
        let mut violations = check(self.store.image());
        violations.extend(check_step(before.image(), self.store.image()));
        assert_eq!(violations, [], "after {command:?}");
        if reply.is_err() {
            assert_eq!(before, self.store, "a refused command wrote: {command:?}");
        }
        reply
    }

    pub(crate) fn command_id(&mut self) -> CommandId {
        self.next_command += 1;
        CommandId::new(self.next_command)
    }

    pub(crate) fn open(&mut self, role: NodeRole, name: &str) -> SessionRecord {
        let command = self.command_id();
        match self.apply(opening(role, name, command)) {
            Ok(Reply::Session(session)) => session,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn serving(&mut self, name: &str) -> SessionRecord {
        self.open(NodeRole::Serving, name)
    }

    /// A bookie on a blank disk, with its session.
    pub(crate) fn bookie(&mut self, name: &str) -> (BookieRecord, SessionId) {
        let session = self.open(NodeRole::Bookie, name).id;
        let record = self.register(blank(name), session).unwrap();
        (record, session)
    }

    pub(crate) fn register(
        &mut self,
        claim: BookieClaim,
        session: SessionId,
    ) -> Result<BookieRecord, Problem> {
        match self.apply(Command::RegisterBookie { claim, session })? {
            Reply::Bookie(record) => Ok(record),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn topic(&mut self, name: &str, quorum: Quorum) -> ShardId {
        let name = name.parse().unwrap();
        match self.apply(Command::CreateTopic {
            name,
            quorum,
            retention: Retention::DEFAULT,
            at: AT,
        }) {
            Ok(Reply::Topic(topic)) => topic.shards[0],
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn expire(&mut self, session: SessionId) {
        self.apply(Command::ExpireSession { session }).unwrap();
    }

    pub(crate) fn claim(
        &mut self,
        shard: ShardId,
        session: SessionId,
    ) -> Result<ShardView, Problem> {
        let command = self.command_id();
        self.claim_as(shard, session, command)
    }

    pub(crate) fn claim_as(
        &mut self,
        shard: ShardId,
        session: SessionId,
        command: CommandId,
    ) -> Result<ShardView, Problem> {
        match self.apply(Command::ClaimShard(Claim {
            shard,
            session,
            command,
        }))? {
            Reply::Shard(ShardOutcome::Committed(view)) => Ok(view),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn change(
        &mut self,
        on: &ShardView,
        change: ShardChange,
    ) -> Result<ShardOutcome, Problem> {
        let command = ShardCommand {
            shard: on.record.id,
            epoch: on.record.epoch,
            command: self.command_id(),
            planned_on: on.version,
            change,
        };
        self.send(command)
    }

    pub(crate) fn send(&mut self, command: ShardCommand) -> Result<ShardOutcome, Problem> {
        match self.apply(Command::ChangeShard(command))? {
            Reply::Shard(outcome) => Ok(outcome),
            other => panic!("{other:?}"),
        }
    }

    /// A change that must commit.
    pub(crate) fn commit(&mut self, on: &ShardView, change: ShardChange) -> ShardView {
        match self.change(on, change) {
            Ok(ShardOutcome::Committed(view)) => view,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn shard(&self, id: ShardId) -> ShardView {
        match self.store.query(&Query::Shard(id)) {
            Ok(Answer::Shard(Some(view), _)) => view,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn opening(role: NodeRole, name: &str, command: CommandId) -> Command {
    Command::OpenSession {
        role,
        name: name.parse().unwrap(),
        address: format!("{name}:1"),
        endpoint: format!("http://{name}:2"),
        lease: Duration::from_secs(10),
        command,
    }
}

/// What a bookie finds on an empty disk.
pub(crate) fn blank(name: &str) -> BookieClaim {
    BookieClaim {
        zone: None,
        name: name.parse().unwrap(),
        address: format!("{name}:1"),
        id: None,
        born: None,
        incarnation: Incarnation::new(1),
        mark: 0,
        damaged: false,
    }
}

/// What a bookie finds that was registered as `record` and starts again.
pub(crate) fn restarted(record: &BookieRecord) -> BookieClaim {
    BookieClaim {
        zone: record.zone.clone(),
        name: record.name.clone(),
        address: record.address.clone(),
        id: Some(record.id),
        born: Some(record.born),
        incarnation: record.incarnation.next(),
        mark: record.mark,
        damaged: false,
    }
}

pub(crate) fn end(last: Option<u64>, next_offset: u64) -> LinkEnd {
    LinkEnd {
        last: last.map(EntryId::new),
        next_offset: Offset::new(next_offset),
    }
}

pub(crate) fn extend(log: LogKind, close: Option<LinkEnd>, on: Option<&[u64]>) -> ShardChange {
    ShardChange::Extend {
        log,
        close,
        successor: on.map(|ids| ids.iter().copied().map(BookieId::new).collect()),
    }
}

pub(crate) fn state_of(view: &ShardView, log: LogKind) -> Option<LedgerState> {
    view.tail(log).map(|tail| tail.state)
}
