//! How the task of a shard performs what the core wants: requests to bookies, calls of meta beside it, words for people.

use bookie_client::{Order, Sent};
use ledger::{Outcome, Over};
use topic::Unreadable;
use tracing::{debug, error, info, warn};
use types::chain::{LogKind, ShardOutcome};
use types::command::{Command, Query, Reply};
use types::storage::{AddResult, LacResult, ReadResult};
use types::{
    BookieId, CommandId, ErrorKind, Generation, LedgerSeq, Offset, Problem, SubscriptionId,
};

use super::ShardTask;
use crate::shard::core::{Ended, QueryId, ShardEffect, ShardEvent};

impl ShardTask {
    fn trimmed(&self, log: LogKind, first: LedgerSeq, first_offset: Offset) {
        let shard = self.core.setup().shard;
        match log {
            LogKind::Message => info!(%shard, %first, %first_offset, "old messages dropped"),
            LogKind::State => debug!(%shard, %first, "old state dropped"),
        }
    }

    /// A subscription waits at a batch, and tries again and again: people are told once.
    fn unreadable(&self, unreadable: &Unreadable) {
        self.parts.metrics.unreadable();
        let Unreadable {
            subscription,
            position,
            messages,
            fault,
            is_first,
        } = unreadable;
        if *is_first {
            error!(
                shard = %self.core.setup().shard, topic = %self.core.setup().topic, %subscription, ?position, %messages, %fault,
                "a stored batch cannot be read, and the subscription waits at it"
            );
        }
    }

    /// Performs one effect.
    pub(super) fn perform_one(&mut self, effect: ShardEffect) {
        match effect {
            ShardEffect::Send { bookie, request } => self.send(bookie, request),
            ShardEffect::Run { tag, bookie, run } => {
                if self.link.send(bookie, Order::Run { tag, run }) != Sent::Queued {
                    self.again.push_back(ShardEvent::Run {
                        tag,
                        items: Vec::new(),
                        is_last: true,
                    });
                }
            }
            ShardEffect::Claim(claim) => {
                self.change(claim.command, Command::ClaimShard(claim));
            }
            ShardEffect::Command(command) => {
                self.change(command.command, Command::ChangeShard(command));
            }
            ShardEffect::Query { id, query } => self.read(id, query),
            ShardEffect::Tell { stream, told } => self.streams.tell(stream, told),
            ShardEffect::CursorDurable {
                subscription,
                generation,
            } => self.cursor(subscription, &Ok(generation)),
            ShardEffect::CursorRefused {
                subscription,
                problem,
            } => self.cursor(subscription, &Err(problem)),
            ShardEffect::Opened { epoch, notes } => {
                let (shard, topic) = (self.core.setup().shard, &self.core.setup().topic);
                info!(%shard, %topic, %epoch, "shard opened");
                if notes.cursors_missing > 0 {
                    let count = notes.cursors_missing;
                    error!(%shard, %topic, count, "cursors missing, their subscriptions begin anew");
                }
                if notes != topic::OpeningNotes::default() {
                    warn!(%shard, %topic, ?notes, "shard opened with oddities");
                }
            }
            ShardEffect::Stuck(stuck) => {
                warn!(shard = %self.core.setup().shard, ?stuck, "shard waits");
            }
            ShardEffect::Mismatch {
                bookie,
                ledger,
                entry,
            } => {
                let shard = self.core.setup().shard;
                error!(%shard, %bookie, %ledger, %entry, "a bookie holds another payload");
            }
            ShardEffect::Unreadable(unreadable) => self.unreadable(&unreadable),
            ShardEffect::Trimmed {
                log,
                first,
                first_offset,
            } => self.trimmed(log, first, first_offset),
            ShardEffect::Over(ended) => {
                let shard = self.core.setup().shard;
                match ended {
                    // Every retry of a client tries it while a dead owner's lease runs.
                    Ended::Owner(over @ Over::ClaimRefused { .. }) => {
                        debug!(%shard, %over, "shard is not claimed");
                    }
                    Ended::Owner(over) => info!(%shard, %over, "shard is over"),
                    Ended::Unusable(problem) => error!(%shard, %problem, "shard cannot be opened"),
                }
                self.is_over = true;
            }
        }
    }

    /// Sends a request to a bookie. What cannot even be queued is answered here and now.
    fn send(&mut self, bookie: BookieId, request: ledger::Request) {
        let busy = busy_answer(&request);
        match self.link.send(bookie, Order::Request(request)) {
            Sent::Queued => {}
            Sent::Full => {
                let event = busy.map(|answer| ShardEvent::Answer { bookie, answer });
                self.again.extend(event);
            }
            Sent::Down => {
                // Once for all that was meant for it.
                let event = ShardEvent::Lost(bookie);
                if !self.again.contains(&event) {
                    self.again.push_back(event);
                }
            }
        }
    }

    /// What a task is called that does something beside this one.
    fn name(&self, what: &str) -> String {
        format!("{}/{what}", self.core.setup().shard)
    }

    /// Asks meta for a change, beside this task.
    fn change(&self, command: CommandId, asked: Command) {
        let (meta, inbox) = (self.parts.meta.clone(), self.inbox.way_in());
        let (shard, name) = (self.core.setup().shard, self.name("change"));
        self.tasks.spawn_unlabelled(&name, async move {
            let outcome = match meta.execute(asked).await {
                Ok(Reply::Shard(ShardOutcome::Committed(view))) => {
                    Outcome::Committed(Box::new(view))
                }
                Ok(Reply::Shard(ShardOutcome::Conflict(view))) => Outcome::Conflict(Box::new(view)),
                Ok(_) => Outcome::Unknown,
                Err(error) => outcome_of(&Problem::from(error)),
            };
            debug!(%shard, %command, ?outcome, "meta answered a change");
            let event = Box::new(ShardEvent::Outcome { command, outcome });
            inbox.ring(|came| came.of_meta.push_back(event));
        });
    }

    /// Reads from meta, beside this task.
    fn read(&self, id: QueryId, query: Query) {
        let (meta, inbox) = (self.parts.meta.clone(), self.inbox.way_in());
        let name = self.name("query");
        self.tasks.spawn_unlabelled(&name, async move {
            let result = meta.query(query).await.map_err(Problem::from);
            let event = Box::new(ShardEvent::Queried { query: id, result });
            inbox.ring(|came| came.of_meta.push_back(event));
        });
    }

    fn cursor(&mut self, subscription: SubscriptionId, result: &Result<Generation, Problem>) {
        for reply in self.cursors.remove(&subscription).unwrap_or_default() {
            // Whoever asked may be gone.
            let _ = reply.send(result.clone());
        }
    }
}

/// What a failed call of meta tells about a change. Only a refusal tells that this try did nothing.
const fn outcome_of(problem: &Problem) -> Outcome {
    match problem.kind() {
        ErrorKind::Retry
        | ErrorKind::Moved
        | ErrorKind::Busy
        | ErrorKind::Stopping
        | ErrorKind::Unknown
        | ErrorKind::Corrupt
        | ErrorKind::Bug => Outcome::Unknown,
        ErrorKind::Fenced | ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict => {
            Outcome::Refused(problem.reason)
        }
    }
}

/// Whether a bookie did what it was asked, other than that it could not now.
pub(super) const fn is_done(answer: &ledger::Answer) -> bool {
    !matches!(
        answer,
        ledger::Answer::Added {
            result: AddResult::Busy | AddResult::ReadOnly,
            ..
        } | ledger::Answer::Read {
            result: ReadResult::Busy,
            ..
        } | ledger::Answer::Lac {
            result: LacResult::Busy,
            ..
        }
    )
}

/// What a bookie would answer that has no room for a request.
fn busy_answer(request: &ledger::Request) -> Option<ledger::Answer> {
    match request {
        ledger::Request::Add(add) => Some(ledger::Answer::Added {
            ledger: add.ledger,
            entry: add.entry.id,
            result: AddResult::Busy,
        }),
        ledger::Request::Read(read) => Some(ledger::Answer::Read {
            ledger: read.ledger,
            entry: read.entry,
            result: ReadResult::Busy,
        }),
        ledger::Request::ReadLac(read) => Some(ledger::Answer::Lac {
            ledger: read.ledger,
            result: LacResult::Busy,
        }),
        ledger::Request::SetLac(_) => None,
    }
}
