//! Subscriptions are taken away while they are in use, and made again under their name: nothing of the old one comes to
//! the new one, and who still asks for the old one is refused.

use topic::OpenConsumer;
use types::batch::Codecs;
use types::command::{Answer, Command, Query, Reply};
use types::topic::{StartPosition, SubscriptionState};
use types::{Problem, Reason, SubscriptionId};

use super::agenda::{MS, Nanos, SECOND};
use super::event::{Event, MetaAnswer, MetaAsk, Opening, Said};
use super::marks::Mark;
use super::servers::Call;
use super::shard_core::{Request, ShardEvent, Told};
use super::streams::Who;
use super::world::World;
use crate::history::{self, Name};

/// How long until a deletion is tried again.
const AGAIN: Nanos = 3 * SECOND;

impl World {
    /// Somebody takes a subscription away. The first one stays: it sees everything.
    pub(super) fn harm_unsubscribe(&mut self) {
        if self.subs.len() < 2 {
            return;
        }
        let at = 1 + self.rng.index(self.subs.len() - 1);
        let sub = &mut self.subs[at];
        if sub.record.is_none() || sub.leaves_at.is_some() {
            return;
        }
        sub.leaves_at = Some(self.acked_end);
        let attempt = sub.attempt;
        self.unsubscribe(at, attempt);
    }

    /// A deletion is tried, or tried again.
    pub(super) fn unsubscribe(&mut self, at: usize, attempt: u32) {
        let sub = &mut self.subs[at];
        let Some(id) = sub.record.as_ref().map(|record| record.id) else {
            return;
        };
        if sub.leaves_at.is_none() || sub.attempt != attempt {
            return;
        }
        sub.attempt += 1;
        let attempt = sub.attempt;
        let hint = sub.hint.take();
        self.client_opens(Who::Remover(at), hint, |_| Opening::Unsubscribe(at, id));
        let again = Event::Unsubscribe { at, attempt };
        self.agenda.put(self.now + AGAIN, again);
    }

    /// Who takes a subscription away hears something.
    pub(super) fn remover_hears(&mut self, at: usize, said: Said) {
        match said {
            Said::Unsubscribed(id) => self.unsubscribed(at, id),
            Said::Told {
                told: Told::Ended(problem),
                ..
            } => {
                let hint = self.pointed_at(&problem);
                let sub = &mut self.subs[at];
                sub.hint = hint;
                let attempt = sub.attempt;
                let wait = 50 * MS + self.rng.below(300 * MS);
                let again = Event::Unsubscribe { at, attempt };
                self.agenda.put(self.now + wait, again);
            }
            _ => {}
        }
    }

    /// It is deleted: its consumers go, somebody who has not heard of it comes once more, and it is made again.
    fn unsubscribed(&mut self, at: usize, id: SubscriptionId) {
        let sub = &self.subs[at];
        let (Some(record), Some(floor)) = (&sub.record, sub.leaves_at) else {
            return;
        };
        let old = record.id;
        if id < old {
            return; // The word is of an earlier one of its name.
        }
        self.marks.hit(Mark::Unsubscribed);
        for consumer in self.consumers_of(at) {
            self.consumer_leaves(consumer);
        }
        let gone = history::Unsubscribed {
            sub: Name::from(self.subs[at].label.as_str()),
            p: self.partition(),
        };
        self.history.note(&history::Event::Unsub(gone));
        let trims = self.swarm.trims;
        let sub = &mut self.subs[at];
        sub.record = None;
        sub.leaves_at = None;
        sub.gone = Some(id);
        sub.floor = floor;
        sub.tried = None;
        sub.deleted += 1;
        sub.label = self.life.label(at, sub.deleted);
        if trims {
            // What came before may be gone.
            sub.start = StartPosition::Latest;
        }
        let attempt = sub.attempt;
        self.ghost_comes(old);
        let wait = self.rng.below(SECOND);
        let again = Event::Subscribe { at, attempt };
        self.agenda.put(self.now + wait, again);
    }

    /// Somebody comes who has not heard that the subscription is gone.
    pub(super) fn ghost_comes(&mut self, id: SubscriptionId) {
        self.client_opens(Who::Ghost, None, |stream| {
            Opening::Consumer(OpenConsumer {
                stream,
                subscription: id,
                mode: None,
                name: None,
                ack_deadline: None,
                confirm_acks: false,
                permits: (100, 1 << 20),
                codecs: Codecs::NONE,
            })
        });
    }

    /// It is told that there is no such subscription, or that it is to ask elsewhere; never a message.
    pub(super) fn ghost_hears(&mut self, stream: u64, said: Said) {
        match said {
            Said::Told {
                told: Told::Delivery(delivery),
                ..
            } => {
                let what = format!("a deleted subscription gives {}", delivery.first_offset);
                self.violation("deleted", what);
            }
            Said::Told {
                told: Told::Receipt(receipt),
                ..
            } => match receipt.outcome {
                // It may be the answer to what was sent before.
                Ok(_) => {}
                Err(_) => self.marks.hit(Mark::GhostRefused),
            },
            Said::Told {
                told: Told::Ended(problem),
                ..
            } => {
                if problem.reason == Reason::SubscriptionNotFound {
                    self.marks.hit(Mark::GhostRefused);
                }
                self.client_closes(stream);
            }
            _ => {}
        }
    }

    /// A serving node is to delete a subscription of the shard that it serves.
    pub(super) fn server_unsubscribes(
        &mut self,
        at: usize,
        stream: u64,
        (plan, id): (usize, SubscriptionId),
    ) {
        let ask = MetaAsk::Query(Query::Subscription(self.subs[plan].name.clone()));
        self.call(at, Call::LookSub { stream, plan, id }, ask);
    }

    /// Meta answered a step of that.
    pub(super) fn unsubscribe_told(&mut self, at: usize, call: Call, answer: MetaAnswer) {
        match (call, answer) {
            (
                Call::LookSub { stream, plan, id },
                MetaAnswer::Query(Ok(Answer::Subscription(Some(record)))),
            ) => {
                let name = self.subs[plan].name.clone();
                let session = self.servers[at].session;
                match (record.state, session) {
                    // Deleted by an earlier try, and another one has its name.
                    _ if record.id != id => {
                        let gone = Problem::new(Reason::SubscriptionNotFound, "another one");
                        self.server_refuses(stream, gone);
                    }
                    (SubscriptionState::Deleted, _) => self.server_dropped(at, stream, id),
                    (_, Some(session)) => {
                        let delete = Command::DeleteSubscription { name, id, session };
                        let ask = MetaAsk::Command(Box::new(delete));
                        self.call(at, Call::DeleteSub { stream, id }, ask);
                    }
                    (_, None) => {}
                }
            }
            (Call::DeleteSub { stream, id }, MetaAnswer::Command(result)) => match result {
                Ok(Reply::Subscription(_)) => self.server_dropped(at, stream, id),
                Err(problem) if problem.reason == Reason::VersionMismatch => {
                    self.server_dropped(at, stream, id);
                }
                Err(problem) => self.server_refuses(stream, problem),
                Ok(_) => {}
            },
            _ => {}
        }
    }

    /// Meta does not know it any more: nor does the shard from now on.
    fn server_dropped(&mut self, at: usize, stream: u64, id: SubscriptionId) {
        // Whichever is open now, it may have been opened since; no other one knows the subscription.
        let open: Vec<u64> = self.servers[at].serving.iter().map(|it| it.key).collect();
        for key in open {
            let drop = Request::DropSubscription(id);
            self.shard_event(at, key, ShardEvent::Request(drop));
        }
        self.server_says(stream, Said::Unsubscribed(id));
    }

    pub(super) fn server_refuses(&mut self, stream: u64, problem: Problem) {
        let told = Told::Ended(problem);
        self.server_says(stream, Said::Told { told, epoch: None });
    }

    /// A message for a subscription that begins with what comes after it: none that was acked before it was asked for.
    pub(super) fn starts_as_new(&mut self, sub: usize, first: u64) {
        let sub = &self.subs[sub];
        if sub.start == StartPosition::Latest && first < sub.floor {
            let what = format!(
                "{} was asked for when {} was the end, and gives {first}",
                sub.label, sub.floor
            );
            self.violation("latest", what);
        }
    }
}
