//! What a producer's handles and its task share.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot};
use types::{MonoTime, ProducerName, Reason, TopicName};

use super::core::{Core, Limits, Settled};
use super::receipt::Promise;
use crate::Error;
use crate::connect::Shared;

/// What a server said when it took the producer in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
    /// The largest message it takes.
    pub(super) message_max: usize,
    /// How many messages of the producer's name it has.
    pub(super) stored: u64,
}

/// What changes, under one lock that is never held for long.
#[derive(Debug)]
pub(super) struct State {
    pub(super) core: Core<Promise>,
    /// How many receipts were given out, and how many of them are settled: they are in order.
    pub(super) promised: u64,
    pub(super) settled: u64,
    /// Who waits for so many receipts to be settled, in order.
    pub(super) flushes: VecDeque<(u64, oneshot::Sender<Result<(), Error>>)>,
    /// Why the producer is over.
    pub(super) over: Option<Error>,
    /// The last handle was dropped.
    pub(super) is_closing: bool,
    /// When something last went forward, or had nothing to go forward with.
    pub(super) progress: MonoTime,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) shared: Shared,
    pub(super) topic: TopicName,
    pub(super) name: ProducerName,
    state: Mutex<State>,
    /// Rung when the task has something new to look at.
    pub(super) work: Notify,
    /// Memory that is left, in bytes. Closed when the producer is over.
    pub(super) room: Semaphore,
    pub(super) memory: usize,
    /// Receipts that were dropped unresolved.
    pub(super) ignored: Arc<AtomicU64>,
}

impl Inner {
    pub(super) fn new(
        shared: Shared,
        topic: TopicName,
        name: ProducerName,
        limits: Limits,
        memory: usize,
    ) -> Self {
        let state = State {
            core: Core::new(limits),
            promised: 0,
            settled: 0,
            flushes: VecDeque::new(),
            over: None,
            is_closing: false,
            progress: shared.host.clock.now(),
        };
        Self {
            shared,
            topic,
            name,
            state: Mutex::new(state),
            work: Notify::new(),
            room: Semaphore::new(memory),
            memory,
            ignored: Arc::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing more is taken.
    pub(super) fn why_over(&self) -> Error {
        let over = self.lock().over.clone();
        over.unwrap_or_else(|| Error::new(Reason::Stopping, "the producer has ended"))
    }

    /// Tells waiters what became of their messages, and gives their memory back.
    pub(super) fn settle(&self, settled: Vec<Settled<Promise>>) {
        let mut callers = 0;
        let mut freed = 0;
        for Settled { waiting, outcome } in settled {
            callers += waiting.callers;
            freed += waiting.cost;
            waiting.waiter.settle(outcome.map_err(Error::from));
        }
        self.room.add_permits(freed);
        let mut state = self.lock();
        state.settled += callers;
        while state
            .flushes
            .front()
            .is_some_and(|(promised, _)| *promised <= state.settled)
        {
            if let Some((_, done)) = state.flushes.pop_front() {
                let _ = done.send(Ok(()));
            }
        }
    }

    /// Ends the producer: tells everybody who waits, now and later, why.
    pub(super) fn give_up(&self, error: &Error) {
        let mut settled = Vec::new();
        let flushes = {
            let mut state = self.lock();
            state.over = Some(error.clone());
            state.core.give_up(error.problem(), &mut settled);
            std::mem::take(&mut state.flushes)
        };
        self.settle(settled);
        for (_, done) in flushes {
            let _ = done.send(Err(error.clone()));
        }
        self.room.close();
    }
}
