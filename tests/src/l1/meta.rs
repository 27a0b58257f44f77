//! Meta: the real rules on the reference store, planning and committing as two events, and the clocks of its leases.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catalog::{Image, Key, MemStore, Planned, Write};
use types::chain::ShardView;
use types::cluster::{SessionRecord, SessionState};
use types::command::{Answer, ChangeEvent, Command, Query, Reply};
use types::topic::TopicRecord;
use types::{Problem, Reason, SessionId, ShardId};

use super::agenda::{MS, Nanos};
use super::audit::Auditor;
use super::event::{Event, Message, MetaAnswer, MetaAsk, Planning, after};
use super::marks::Mark;
use super::net::Host;
use super::sweep::Sweep;
use super::world::World;

/// How often leases are looked at.
const LEASES_EVERY: Nanos = 50 * MS;

/// Meta's process and its store.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) store: MemStore,
    pub(super) is_up: bool,
    pub(super) life: u32,
    /// When each live session's lease ends.
    leases: BTreeMap<SessionId, (Nanos, Duration)>,
    /// The longest time from planning to committing.
    pub(super) commit_jitter: Nanos,
    /// Answers lost, in a million.
    pub(super) answers_lost: u32,
    pub(super) auditor: Auditor,
    pub(super) sweep: Sweep,
}

impl Meta {
    pub(super) fn new() -> Self {
        Self {
            store: MemStore::new(),
            is_up: true,
            life: 0,
            leases: BTreeMap::new(),
            commit_jitter: MS,
            answers_lost: 0,
            auditor: Auditor::default(),
            sweep: Sweep::default(),
        }
    }
}

/// The keys of a commit, and their records before it.
type Touched = (BTreeSet<Key>, Image);

fn part(store: &MemStore, keys: &BTreeSet<Key>) -> Image {
    let found = keys
        .iter()
        .filter_map(|key| Some((key.clone(), store.image().get(key)?.clone())));
    found.collect()
}

impl World {
    /// A request arrives at meta.
    pub(super) fn meta_asked(&mut self, from: Host, life: u32, call: u64, ask: MetaAsk) {
        if !self.meta.is_up {
            return;
        }
        match ask {
            MetaAsk::Query(query) => {
                let answer = MetaAnswer::Query(self.meta.store.query(&query));
                self.meta_says(from, life, call, answer);
            }
            MetaAsk::Alive(session) => {
                let goes_on = self.keep_alive(session);
                self.meta_says(from, life, call, MetaAnswer::Alive(goes_on));
            }
            MetaAsk::Due(due) => {
                let answer = MetaAnswer::Due(self.audit_due(due));
                self.meta_says(from, life, call, answer);
            }
            MetaAsk::Command(command) => self.meta_plan(from, life, call, *command, 0),
        }
    }

    fn meta_says(&mut self, to: Host, life: u32, call: u64, answer: MetaAnswer) {
        if self.rng.chance(self.meta.answers_lost) {
            self.trace(|| format!("meta's answer lost call={call}"));
            return;
        }
        let message = Message::MetaSays { life, call, answer };
        self.send(Host::Meta, to, message);
    }

    /// Plans a command, to be committed at a later moment.
    pub(super) fn meta_plan(
        &mut self,
        from: Host,
        life: u32,
        call: u64,
        command: Command,
        tries: u32,
    ) {
        match self.meta.store.plan(&command) {
            Planned::Need(_) => unreachable!("the store reads all that is needed"),
            Planned::Answer(reply) => self.meta_done(from, life, call, &command, reply),
            Planned::Write(commit) => {
                let at = self.now + 1 + self.rng.below(self.meta.commit_jitter + 1);
                let plan = Planning {
                    from,
                    life,
                    call,
                    command,
                    commit: *commit,
                    tries,
                };
                let life = self.meta.life;
                let plan = Box::new(plan);
                self.agenda.put(at, Event::MetaCommits { life, plan });
            }
        }
    }

    /// What was planned is committed, or planned again.
    pub(super) fn meta_commits(&mut self, life: u32, plan: Planning) {
        if life != self.meta.life || !self.meta.is_up {
            return; // Meta's process died before.
        }
        let Planning {
            from,
            life,
            call,
            command,
            commit,
            tries,
        } = plan;
        let before = self.touched(&commit.write);
        match self.meta.store.commit(commit) {
            Ok(committed) => {
                self.committed(before, &command, &committed.events);
                self.meta_done(from, life, call, &command, Ok(committed.reply));
            }
            Err(_) if tries < 64 => {
                self.marks.hit(Mark::CommitLost);
                self.meta_plan(from, life, call, command, tries + 1);
            }
            Err(_) => {
                let problem = Problem::new(Reason::Overloaded, "planned too often");
                self.meta_done(from, life, call, &command, Err(problem));
            }
        }
    }

    /// Something was committed: checked, and told to watchers.
    fn committed(&mut self, before: Touched, command: &Command, events: &[ChangeEvent]) {
        let command_text = format!("{command:?}");
        self.trace(|| format!("committed {command_text}"));
        let (keys, before) = before;
        let after = part(&self.meta.store, &keys);
        let images = [&before, &after];
        let found = self
            .observer
            .committed(images, &self.meta.store, command, &mut self.marks);
        self.violations(found);
        self.space_committed(command);
        self.copies_committed(images, command);
        self.deletion_committed(images[0], command);
        self.sweep_committed(images, command);
        for event in events {
            for server in 0..self.servers.len() {
                let message = Message::Watch(event.change.clone());
                self.send(Host::Meta, Host::Server(server), message);
            }
        }
    }

    fn meta_done(
        &mut self,
        from: Host,
        life: u32,
        call: u64,
        command: &Command,
        reply: Result<Reply, Problem>,
    ) {
        if let (Command::OpenSession { lease, .. }, Ok(Reply::Session(session))) = (command, &reply)
        {
            let until = after(self.now, *lease);
            self.meta.leases.insert(session.id, (until, *lease));
        }
        if let (Command::CopiesWhole { bookie, copies, .. }, Ok(_)) = (command, &reply) {
            self.audit_whole(*bookie, copies);
        }
        self.sweep_goes_on(command, &reply);
        if from == Host::Meta {
            return self.audit_assigned(command, &reply);
        }
        self.meta_says(from, life, call, MetaAnswer::Command(reply));
    }

    /// Carries a command out in one moment, for meta's own purposes and the preparation of a world.
    pub(super) fn meta_execute(&mut self, command: &Command) -> Result<Reply, Problem> {
        match self.meta.store.plan(command) {
            Planned::Need(_) => unreachable!("the store reads all that is needed"),
            Planned::Answer(reply) => reply,
            Planned::Write(commit) => {
                let before = self.touched(&commit.write);
                let committed = self.meta.store.commit(*commit);
                let committed = committed.expect("nothing changes within one moment");
                self.committed(before, command, &committed.events);
                Ok(committed.reply)
            }
        }
    }

    /// The records that a commit touches, and those of the ledgers they speak of, as they are now.
    fn touched(&self, write: &Write) -> Touched {
        let puts = write.puts.iter().map(|(key, _)| key);
        let mut keys: BTreeSet<Key> = puts.chain(&write.removes).cloned().collect();
        let logs = keys.iter().filter_map(|key| match key {
            Key::Ledger(id) => Some(Key::Log(id.log())),
            _ => None,
        });
        keys.extend(logs.collect::<Vec<_>>());
        if keys.contains(&Key::Shard(self.shard))
            && let Some((view, _)) = self.shard_now()
        {
            keys.extend(view.tails.iter().map(|tail| Key::Ledger(tail.id)));
        }
        let before = part(&self.meta.store, &keys);
        (keys, before)
    }

    fn session_state(&self, id: SessionId) -> Option<SessionState> {
        let key = Key::Session(id);
        match self.meta.store.image().get(&key).map(|v| &v.record) {
            Some(catalog::Record::Session(session)) => Some(session.state),
            _ => None,
        }
    }

    fn keep_alive(&mut self, id: SessionId) -> bool {
        match self.session_state(id) {
            Some(SessionState::Live) => {}
            Some(SessionState::Expired) => {
                self.marks.hit(Mark::SessionRevived);
                let revive = Command::ReviveSession { session: id };
                if self.meta_execute(&revive).is_err() {
                    return false;
                }
            }
            Some(SessionState::Replaced | SessionState::Ended) | None => return false,
        }
        let now = self.now;
        if let Some((until, lease)) = self.meta.leases.get_mut(&id) {
            *until = after(now, *lease);
        }
        true
    }

    /// Looks at all leases.
    pub(super) fn meta_leases(&mut self) {
        self.agenda.put(self.now + LEASES_EVERY, Event::MetaLeases);
        if !self.meta.is_up {
            return;
        }
        let over: Vec<SessionId> = self
            .meta
            .leases
            .iter()
            .filter(|(_, (until, _))| *until <= self.now)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            let state = self.session_state(id);
            if matches!(state, Some(SessionState::Live | SessionState::Replaced)) {
                self.marks.hit(Mark::SessionExpired);
                let expire = Command::ExpireSession { session: id };
                // A session that has ended meanwhile stays as it is.
                let _ = self.meta_execute(&expire);
            }
            if self.session_state(id) == Some(SessionState::Ended) {
                self.meta.leases.remove(&id);
            }
        }
    }

    /// Meta's process dies; what it planned and did not commit is gone.
    pub(super) fn meta_crash(&mut self) {
        self.meta.is_up = false;
        self.meta.life += 1;
    }

    /// Meta's process comes back: every live session has a whole lease again.
    pub(super) fn meta_start(&mut self, life: u32) {
        if self.meta.is_up || life != self.meta.life {
            return;
        }
        self.meta.is_up = true;
        let now = self.now;
        for (until, lease) in self.meta.leases.values_mut() {
            *until = after(now, *lease);
        }
        self.audit_starts();
        self.sweep_starts();
    }

    /// The record of the topic's shard and its owner's session, as meta has them.
    pub(super) fn shard_now(&self) -> Option<(ShardView, Option<SessionRecord>)> {
        self.shard_view(self.shard)
    }

    /// The same, of any shard.
    pub(super) fn shard_view(&self, shard: ShardId) -> Option<(ShardView, Option<SessionRecord>)> {
        match self.meta.store.query(&Query::Shard(shard)) {
            Ok(Answer::Shard(Some(view), owner)) => Some((view, owner)),
            _ => None,
        }
    }

    /// The topic's record, as meta has it.
    pub(super) fn topic_now(&self) -> Option<TopicRecord> {
        match self.meta.store.query(&Query::Topic(self.topic.clone())) {
            Ok(Answer::Topic(record)) => record,
            _ => None,
        }
    }
}
