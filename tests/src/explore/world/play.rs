//! What happens in a world.

use catalog::{Key, MemStore, Record, Write};
use ledger::{Candidate, Effect, Outcome, Over, Request, Stuck};
use types::Epoch;
use types::chain::{ShardChange, ShardOutcome};
use types::cluster::BookieClaim;
use types::command::{Command, Reply};

use super::World;
use super::make::first_claim;
use super::memo::Input;
use super::message::{Message, is_fenced};
use crate::explore::bookie::{Bookie, Outcome as Served};
use crate::explore::hash::{Shared, hash_of};
use crate::explore::observer::{Goal, Observer, Scene, Violation};

impl World {
    fn scene<'a>(&'a self, meta: &'a MemStore) -> Scene<'a> {
        Scene {
            bookies: &self.bookies,
            meta,
            shard: self.frame.shard,
            losses: self.losses,
        }
    }

    fn send(&mut self, message: Shared<Message>) {
        let place = self.net.binary_search_by_key(&message.hash(), Shared::hash);
        if let Err(place) = place {
            self.net.insert(place, message); // Else its like is on its way already.
        }
    }

    pub(super) fn deliver(
        &mut self,
        message: &Shared<Message>,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Violation> {
        match &**message {
            Message::ToBookie(from, to, request) => {
                let place = usize::from(*to);
                self.bookie_step(place, message.hash(), goals, |bookie| {
                    bookie.request(*from, request)
                })?;
                Observer::check_lacs(&self.scene(&self.meta), &self.bookies[place])
            }
            Message::ToOwner(to, ..) | Message::FromMeta(to, ..) => {
                let place = usize::from(*to);
                let told = self.frame.memo.owner_told(&self.owners[place], message);
                let epoch = self.owners[place].owner.epoch();
                self.owner_became(place, told.0.clone(), &told.1, goals)?;
                self.check_over(place, epoch, message)
            }
            Message::ToMeta(from, command) => self.meta_step(*from, command, message, goals),
        }
    }

    /// An owner that hears of a newer one is over at once (R6, R8 in ledger/DESIGN.md; S1).
    fn check_over(
        &self,
        place: usize,
        epoch: Option<Epoch>,
        heard: &Message,
    ) -> Result<(), Violation> {
        let is_told = match heard {
            Message::ToOwner(_, _, answer) => is_fenced(answer),
            Message::FromMeta(_, _, outcome) => match &**outcome {
                Outcome::Committed(view) | Outcome::Conflict(view) => {
                    epoch.is_some_and(|own| own < view.record.epoch)
                }
                Outcome::Unknown | Outcome::Refused(_) => false,
            },
            Message::ToBookie(..) | Message::ToMeta(..) => false,
        };
        if is_told && !self.owners[place].owner.is_over() {
            let what = format!("owner {place} of epoch {epoch:?} goes on after: {heard}");
            return Err(Violation { rule: "S1", what });
        }
        Ok(())
    }

    /// Whether what a bookie has not synced may still be lost. Without a crash to come an unsynced record only
    /// delays its answer, and answers are late anyway.
    const fn is_lazy(&self, place: usize) -> bool {
        place == 0 && self.left.crashes > 0
    }

    /// Whether a bookie may still crash or lose its disk. Misfortune strikes the first bookie only: before anything
    /// happens they are all alike.
    const fn is_fragile(&self, place: usize) -> bool {
        place == 0 && (self.left.crashes > 0 || self.left.rebirths > 0)
    }

    fn bookie_step(
        &mut self,
        place: usize,
        input: u128,
        goals: &mut Vec<Goal>,
        step: impl FnOnce(&mut Bookie) -> Result<Served, Violation>,
    ) -> Result<(), Violation> {
        let is_lazy = self.is_lazy(place);
        let input = hash_of(&(input, is_lazy));
        let served = self
            .frame
            .memo
            .bookie(&self.bookies[place], input, |bookie| {
                let mut outcome = step(bookie)?;
                if !is_lazy {
                    outcome.answers.extend(bookie.sync()?.answers);
                }
                Ok(outcome)
            })?;
        goals.extend(&served.goals);
        self.bookies[place] = served.bookie.clone();
        if let Some((ledger, entry)) = &served.shown {
            let mut observer = (*self.observer).clone();
            observer.shown(*ledger, entry)?;
            self.observer = Shared::new(observer);
        }
        for answer in &served.answers {
            self.answer(place, answer, goals)?;
        }
        self.drop_meaningless(|_, to| usize::from(to) == place);
        Ok(())
    }

    pub(super) fn sync(&mut self, place: usize, goals: &mut Vec<Goal>) -> Result<(), Violation> {
        self.bookie_step(place, hash_of(&"sync"), goals, Bookie::sync)
    }

    pub(super) fn crash(
        &mut self,
        place: usize,
        kept: usize,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Violation> {
        if self.bookies[place].unsynced() > kept {
            goals.push(Goal::LostUnsynced);
        }
        self.bookie_step(place, hash_of(&("crash", kept)), goals, |bookie| {
            bookie.crash(kept).map(|()| Served::default())
        })
    }

    /// Sends an answer on its way, if it means anything.
    ///
    /// The answers to the last owner come at once where the bookie loses nothing: nobody comes after it, so what it
    /// does not know yet it could as well not have asked yet. While it has not heard that a bookie is fenced, or
    /// holds an entry of its, nobody else gains anything by that.
    fn answer(
        &mut self,
        place: usize,
        answer: &Shared<Message>,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Violation> {
        if !self.is_meaningful(answer) {
            return Ok(());
        }
        let Message::ToOwner(to, ..) = &**answer else {
            unreachable!("bookies answer owners");
        };
        let is_last = usize::from(*to) + 1 == self.owners.len();
        if is_last && !self.is_fragile(place) {
            return self.deliver(answer, goals);
        }
        self.send(answer.clone());
        Ok(())
    }

    /// Whether an answer still means anything to an owner. One that means nothing now never will, so it need not
    /// travel.
    fn is_meaningful(&self, message: &Shared<Message>) -> bool {
        let Message::ToOwner(to, _, answer) = &**message else {
            return true;
        };
        if !self.frame.setup.fences_are_told && is_fenced(answer) {
            return false;
        }
        let driver = &self.owners[usize::from(*to)];
        let told = self.frame.memo.owner_told(driver, message);
        !told.1.is_empty() || told.0.hash() != driver.hash()
    }

    pub(super) fn owner_step(
        &mut self,
        place: usize,
        input: &Input,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Violation> {
        let did = self.frame.memo.owner(&self.owners[place], input);
        self.owner_became(place, did.0.clone(), &did.1, goals)
    }

    fn owner_became(
        &mut self,
        place: usize,
        driver: Shared<super::Driver>,
        effects: &[Effect],
        goals: &mut Vec<Goal>,
    ) -> Result<(), Violation> {
        let number = driver.number;
        self.owners[place] = driver;
        for effect in effects {
            self.perform(number, effect, goals)?;
        }
        let mut net = std::mem::take(&mut self.net);
        net.retain(|message| match &**message {
            Message::ToOwner(to, ..) if *to == number => self.is_meaningful(message),
            Message::FromMeta(to, ..) if *to == number => !self.owners[place].owner.is_over(),
            Message::ToOwner(..)
            | Message::FromMeta(..)
            | Message::ToBookie(..)
            | Message::ToMeta(..) => true,
        });
        self.net = net;
        self.drop_meaningless(|from, _| from == number);
        Ok(())
    }

    /// Drops the requests that do nothing any more: adds that a bookie refuses, which it does for ever as long as it
    /// loses nothing; and reads whose answer means nothing to who asked, since all they would do is to fence out others.
    fn drop_meaningless(&mut self, is_touched: impl Fn(u8, u8) -> bool) {
        let mut net = std::mem::take(&mut self.net);
        net.retain(|message| {
            let Message::ToBookie(from, to, request) = &**message else {
                return true;
            };
            let place = usize::from(*to);
            if !is_touched(*from, *to) || self.is_fragile(place) {
                return true;
            }
            let held = &self.bookies[place];
            let input = hash_of(&(message.hash(), false));
            let served = self.frame.memo.bookie(held, input, |bookie| {
                let mut outcome = bookie.request(*from, request)?;
                outcome.answers.extend(bookie.sync()?.answers);
                Ok(outcome)
            });
            let Ok(served) = served else {
                return true; // It breaks something: let it.
            };
            let is_read = matches!(request, Request::Read(_) | Request::ReadLac(_));
            let has_effect = !is_read && served.bookie.hash() != held.hash();
            has_effect
                || served
                    .answers
                    .iter()
                    .any(|answer| self.is_meaningful(answer))
        });
        self.net = net;
    }

    fn perform(
        &mut self,
        from: u8,
        effect: &Effect,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Violation> {
        match effect {
            Effect::Send { bookie, request } => {
                let to = self.bookies.iter().position(|held| held.id() == *bookie);
                let to = to.expect("requests go to registered bookies");
                let to = u8::try_from(to).expect("few bookies");
                self.send(Shared::new(Message::ToBookie(from, to, request.clone())));
            }
            Effect::Claim(claim) => {
                let claim = Command::ClaimShard(claim.clone());
                self.send(Shared::new(Message::ToMeta(from, Box::new(claim))));
            }
            Effect::Command(command) => {
                let command = Command::ChangeShard(command.clone());
                self.send(Shared::new(Message::ToMeta(from, Box::new(command))));
            }
            Effect::Opened(_) => goals.push(Goal::Opened),
            Effect::Confirmed { ledger, entry, .. } => {
                let is_first = from == 0;
                goals.push(if is_first {
                    Goal::Acked
                } else {
                    Goal::AckedBySuccessor
                });
                let mut observer = (*self.observer).clone();
                observer.acked(&self.scene(&self.meta), from, *ledger, *entry)?;
                self.observer = Shared::new(observer);
            }
            Effect::Closed { .. } | Effect::Trimmed { .. } => {}
            Effect::Extended { ledger, .. } => {
                if ledger.id.seq().get() > 0 {
                    goals.push(Goal::Extended);
                }
            }
            Effect::Stuck(stuck) => {
                if matches!(stuck, Stuck::Meta { .. }) {
                    goals.push(Goal::CommandRepeated);
                }
            }
            Effect::Mismatch {
                bookie,
                ledger,
                entry,
            } => {
                let what = format!("{bookie} refuses other bytes for {ledger} {entry}");
                return Err(Violation { rule: "I13", what });
            }
            Effect::Over(over) => goals.push(match over {
                Over::Fenced { .. } => Goal::OverByFence,
                Over::Deposed { .. } | Over::ClaimRefused { .. } | Over::Deleted => {
                    Goal::OverByRecord
                }
                Over::Released | Over::Retired => Goal::Released,
            }),
        }
        Ok(())
    }

    fn meta_step(
        &mut self,
        from: u8,
        command: &Command,
        message: &Shared<Message>,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Violation> {
        let memo = &self.frame.memo;
        let did = memo.meta(&self.meta, message, |meta| {
            answer_command(meta, from, command)
        });
        let (meta, reply) = (&did.0, &did.1);
        if let Message::FromMeta(_, _, outcome) = &**reply {
            match &**outcome {
                Outcome::Committed(_) if is_seal(command) => goals.push(Goal::Rewritten),
                Outcome::Conflict(_) => goals.push(Goal::CommandConflicted),
                Outcome::Committed(_) | Outcome::Refused(_) | Outcome::Unknown => {}
            }
        }
        if meta.hash() != self.meta.hash() {
            self.observer.meta_changed(&self.meta, &self.scene(meta))?;
            self.meta = meta.clone();
        }
        if !self.owners[usize::from(from)].owner.is_over() {
            self.send(reply.clone());
        }
        Ok(())
    }

    /// Something that the world itself asks of meta.
    fn apply(&mut self, command: &Command) -> Result<Reply, Violation> {
        let mut meta = (*self.meta).clone();
        let reply = meta.apply(command);
        self.observer.meta_changed(&self.meta, &self.scene(&meta))?;
        self.meta = Shared::new(meta);
        Ok(reply.expect("the world's own commands are good"))
    }

    /// The next owner claims: meta has not heard of the others for a while.
    pub(super) fn start(&mut self, place: usize, goals: &mut Vec<Goal>) -> Result<(), Violation> {
        for other in 0..place {
            let session = self.frame.sessions[other];
            self.apply(&Command::ExpireSession { session })?;
        }
        let candidates = self.bookies.iter().map(|bookie| Candidate {
            zone: None,
            bookie: bookie.id(),
            writable: true,
            live: true,
        });
        self.owner_step(place, &Input::Start(candidates.collect()), goals)
    }

    pub(super) fn rebirth(&mut self, place: usize) -> Result<(), Violation> {
        self.losses += 1;
        let number = u8::try_from(place + 1).expect("few bookies");
        let id = self.bookies[place].id();
        let record = self.meta.image().get(&Key::Bookie(id));
        let Some(Record::Bookie(body)) = record.map(|versioned| &versioned.record) else {
            unreachable!("every bookie of the world is registered");
        };
        let claim = BookieClaim {
            zone: None,
            id: Some(id),
            born: Some(self.bookies[place].born()),
            damaged: true,
            ..first_claim(number)
        };
        let session = body.session;
        let Reply::Bookie(record) = self.apply(&Command::RegisterBookie { claim, session })? else {
            unreachable!("a registration is answered with the bookie");
        };
        let mut bookie = (*self.bookies[place]).clone();
        bookie.rebirth(record.born);
        self.bookies[place] = Shared::new(bookie);
        self.observer.check_acks(&self.scene(&self.meta))
    }

    /// The record's version moves while nothing of the owner's changes, as when repair marks a ledger complete.
    pub(super) fn touch(&mut self) {
        let mut meta = (*self.meta).clone();
        let key = Key::Shard(self.frame.shard);
        let record = meta.image()[&key].record.clone();
        meta.write(Write {
            conditions: Vec::new(),
            puts: vec![(key, record)],
            removes: Vec::new(),
            changes: Vec::new(),
        })
        .expect("an unconditional write holds");
        self.meta = Shared::new(meta);
    }
}

/// Meta's answer to an owner's command.
fn answer_command(meta: &mut MemStore, from: u8, command: &Command) -> Message {
    let id = match command {
        Command::ClaimShard(claim) => claim.command,
        Command::ChangeShard(command) => command.command,
        other => unreachable!("owners send claims and changes: {other:?}"),
    };
    let outcome = match meta.apply(command) {
        Ok(Reply::Shard(ShardOutcome::Committed(view))) => Outcome::Committed(Box::new(view)),
        Ok(Reply::Shard(ShardOutcome::Conflict(view))) => Outcome::Conflict(Box::new(view)),
        Ok(other) => unreachable!("a shard's command is answered with its record: {other:?}"),
        Err(problem) => Outcome::Refused(problem.reason),
    };
    Message::FromMeta(from, id, Box::new(outcome))
}

/// Whether a command closes a ledger and makes the next, so that what was not acked is written again.
fn is_seal(command: &Command) -> bool {
    let Command::ChangeShard(change) = command else {
        return false;
    };
    matches!(
        change.change,
        ShardChange::Extend {
            close: Some(_),
            successor: Some(_),
            ..
        }
    )
}
