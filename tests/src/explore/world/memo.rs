//! Remembers what each machine did with each input.
//!
//! The states of a world are combinations of far fewer states of its parts. What a part does depends on itself and the
//! input alone, so it is worked out once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use catalog::MemStore;
use ledger::{Candidate, Effect, Event, Outcome};
use types::chain::LogKind;

use super::message::Message;
use crate::explore::bookie::Bookie;
use crate::explore::driver::Driver;
use crate::explore::hash::{Shared, hash_of};
use crate::explore::observer::{Goal, Violation};
use types::LedgerId;
use types::storage::Entry;

/// What an owner is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Input {
    /// To claim the shard, these bookies being there.
    Start(Arc<[Candidate]>),
    /// To append its next entry.
    Append(LogKind),
    /// That the outcome of what it asked meta is unknown.
    Unknown,
    /// An event as it is.
    Event(Event),
}

/// What a bookie did with a request.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) bookie: Shared<Bookie>,
    pub(super) answers: Vec<Shared<Message>>,
    pub(super) shown: Option<(LedgerId, Entry)>,
    pub(super) goals: Vec<Goal>,
}

type Table<T> = Mutex<HashMap<u128, Arc<T>>>;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Memo {
    owners: Table<(Shared<Driver>, Vec<Effect>)>,
    bookies: Table<Served>,
    meta: Table<(Shared<MemStore>, Shared<Message>)>,
}

fn recall<T, E>(
    table: &Table<T>,
    key: u128,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<Arc<T>, E> {
    let lock = || table.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lock().get(&key) {
        return Ok(Arc::clone(known));
    }
    let found = Arc::new(work()?);
    lock().insert(key, Arc::clone(&found));
    Ok(found)
}

impl Memo {
    /// What an owner becomes and wants when it is told something.
    pub(super) fn owner(
        &self,
        driver: &Shared<Driver>,
        input: &Input,
    ) -> Arc<(Shared<Driver>, Vec<Effect>)> {
        self.owner_by(driver, hash_of(input), |driver| match input {
            Input::Start(candidates) => {
                driver.is_started = true;
                driver.handle(Event::Candidates(candidates.clone()));
                driver.handle(Event::Claim)
            }
            Input::Append(log) => driver.append(*log),
            Input::Unknown => match driver.owner.command_in_flight() {
                None => Vec::new(),
                Some(command) => driver.handle(Event::Outcome {
                    command,
                    outcome: Outcome::Unknown,
                }),
            },
            Input::Event(event) => driver.handle(event.clone()),
        })
    }

    /// What an owner becomes and wants when a message arrives.
    pub(super) fn owner_told(
        &self,
        driver: &Shared<Driver>,
        message: &Shared<Message>,
    ) -> Arc<(Shared<Driver>, Vec<Effect>)> {
        self.owner_by(driver, message.hash(), |driver| {
            driver.handle(match &**message {
                Message::ToOwner(_, bookie, answer) => Event::Answer {
                    bookie: *bookie,
                    answer: answer.clone(),
                },
                Message::FromMeta(_, command, outcome) => Event::Outcome {
                    command: *command,
                    outcome: (**outcome).clone(),
                },
                other => unreachable!("only answers go to owners: {other}"),
            })
        })
    }

    fn owner_by(
        &self,
        driver: &Shared<Driver>,
        input: u128,
        handle: impl FnOnce(&mut Driver) -> Vec<Effect>,
    ) -> Arc<(Shared<Driver>, Vec<Effect>)> {
        let known = recall(&self.owners, hash_of(&(driver.hash(), input)), || {
            let mut next = (**driver).clone();
            let effects = handle(&mut next);
            Ok::<_, std::convert::Infallible>((Shared::new(next), effects))
        });
        match known {
            Ok(known) => known,
            Err(never) => match never {},
        }
    }

    /// What a bookie becomes and answers after a step of its own or a request, told by the hash of either.
    pub(super) fn bookie(
        &self,
        bookie: &Shared<Bookie>,
        input: u128,
        step: impl FnOnce(&mut Bookie) -> Result<crate::explore::bookie::Outcome, Violation>,
    ) -> Result<Arc<Served>, Violation> {
        recall(&self.bookies, hash_of(&(bookie.hash(), input)), || {
            let mut next = (**bookie).clone();
            let outcome = step(&mut next)?;
            let answers = outcome.answers.into_iter();
            let id = next.id();
            Ok(Served {
                bookie: Shared::new(next),
                answers: answers
                    .map(|(to, answer)| Shared::new(Message::ToOwner(to, id, answer)))
                    .collect(),
                shown: outcome.shown,
                goals: outcome.goals,
            })
        })
    }

    /// What meta becomes and answers when a command arrives.
    pub(super) fn meta(
        &self,
        meta: &Shared<MemStore>,
        message: &Shared<Message>,
        apply: impl FnOnce(&mut MemStore) -> Message,
    ) -> Arc<(Shared<MemStore>, Shared<Message>)> {
        let known = recall(&self.meta, hash_of(&(meta.hash(), message.hash())), || {
            let mut next = (**meta).clone();
            let reply = apply(&mut next);
            Ok::<_, std::convert::Infallible>((Shared::new(next), Shared::new(reply)))
        });
        match known {
            Ok(known) => known,
            Err(never) => match never {},
        }
    }
}
