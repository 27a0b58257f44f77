//! Clients without a producer: one batch a call, never repeated, so that an unknown outcome stays one.

use bytes::{Bytes, BytesMut};
use topic::Stored;
use types::batch::MessageParts;

use super::agenda::{MS, Nanos, SECOND};
use super::event::{Event, Opening, Said};
use super::shard_core::Told;
use super::streams::Who;
use super::world::World;
use crate::history::{self, Name};
use crate::workload::Stamp;

/// One such client.
#[derive(Debug, Default)]
pub(super) struct Once {
    /// Raised after each unknown outcome: what may still land must not pass for a message out of order.
    name: u64,
    n: u64,
    stream: Option<u64>,
    hint: Option<usize>,
}

/// How long an answer may take.
const PATIENCE: Nanos = 5 * SECOND;

impl Once {
    fn writer(&self, at: usize) -> String {
        format!("u{at}.{}", self.name)
    }

    /// Whether its last call has an outcome.
    pub(super) const fn is_done(&self) -> bool {
        self.stream.is_none()
    }
}

impl World {
    /// A call is due, or has taken too long.
    pub(super) fn once_timed(&mut self, at: usize, stream: Option<u64>) {
        if self.once[at].stream.is_some() {
            if self.once[at].stream == stream {
                self.once_over(at, None);
            }
            return;
        }
        if stream.is_none() && !self.is_healed {
            if self.life.is_there() {
                self.once_calls(at);
            } else {
                self.once_later(at, SECOND, None);
            }
        }
    }

    /// The topic is gone: the next call is of another one.
    pub(super) fn once_ends(&mut self, at: usize) {
        let once = &mut self.once[at];
        if once.stream.is_some() {
            return self.once_over(at, None);
        }
        once.name += 1;
        once.n = 0;
    }

    fn once_later(&mut self, at: usize, wait: Nanos, stream: Option<u64>) {
        self.agenda.put(self.now + wait, Event::Once { at, stream });
    }

    fn once_calls(&mut self, at: usize) {
        let once = &mut self.once[at];
        let (writer, n) = (once.writer(at), once.n);
        let hint = once.hint.take();
        let stamp = Stamp {
            writer: writer.clone(),
            partition: self.partition().to_string(),
            n,
        };
        let payload = stamp.payload(self.swarm.payload / 2);
        let mut body = BytesMut::new();
        let parts = MessageParts {
            payload: &payload,
            ..MessageParts::default()
        };
        parts.append_to(&mut body);
        let sent = history::Sent {
            t: self.now,
            w: Name::from(writer),
            p: self.partition(),
            n,
            k: None,
            h: Some(Stamp::hash(&payload)),
            due: None,
            x: Vec::new(),
        };
        self.history.note(&history::Event::Send(sent));
        let body = Bytes::from(body);
        let stream = self.client_opens(Who::Once(at), hint, |stream| Opening::Once {
            stream,
            count: 1,
            body,
        });
        self.once[at].stream = Some(stream);
        self.once_later(at, PATIENCE, Some(stream));
    }

    /// A call is answered, or never will be.
    fn once_over(&mut self, at: usize, outcome: Option<Result<&Stored, ()>>) {
        let t = self.now;
        let p = self.partition();
        let once = &mut self.once[at];
        once.stream = None;
        let (w, n) = (Name::from(once.writer(at)), once.n);
        let event = match outcome {
            Some(Ok(stored)) => {
                let o = match stored {
                    Stored::New { first_offset, .. } | Stored::Duplicate { first_offset, .. } => {
                        Some(first_offset.get())
                    }
                    Stored::DuplicateSomewhere => None,
                };
                let ep = None;
                history::Event::Ok(history::Stored { t, w, p, n, o, ep })
            }
            Some(Err(())) => history::Event::Fail(history::Outcome { t, w, p, n }),
            None => history::Event::Info(history::Outcome { t, w, p, n }),
        };
        self.history.note(&event);
        let once = &mut self.once[at];
        if outcome.is_none() {
            self.life.adrift.insert((once.writer(at), once.n));
            once.name += 1;
            once.n = 0;
        } else {
            once.n += 1;
        }
        let wait = 50 * MS + self.rng.below(2 * SECOND);
        self.once_later(at, wait, None);
    }

    /// The stream of a call broke.
    pub(super) fn once_lost(&mut self, at: usize, stream: u64) {
        if self.once[at].stream == Some(stream) {
            self.once_over(at, None);
        }
    }

    /// A call hears something.
    pub(super) fn once_hears(&mut self, at: usize, stream: u64, said: Said) {
        if self.once[at].stream != Some(stream) {
            return;
        }
        match said {
            Said::Told {
                told: Told::Receipt(receipt),
                ..
            } => {
                let outcome = receipt.outcome.as_ref().map_err(|_| ());
                self.once_over(at, Some(outcome));
            }
            Said::Told {
                told: Told::Ended(problem),
                ..
            } => {
                self.once[at].hint = self.pointed_at(&problem);
                self.once_over(at, None);
            }
            Said::Told { .. }
            | Said::Subscribed(_)
            | Said::Unsubscribed(_)
            | Said::TopicDeleted(_) => {}
        }
    }
}
