//! What is checked of each commit of meta, and of what owners count as confirmed.

use catalog::{Image, Key, LedgerBody, MemStore, Record};
use types::chain::{LedgerState, LogKind, ShardChange, ShardCommand};
use types::command::Command;
use types::{BookieId, EntryId, Epoch, LedgerId};

use super::{Found, Observer, Spot, Violation, found};
use crate::l1::marks::{Mark, Marks};

fn ledger(store: &MemStore, id: LedgerId) -> Option<&LedgerBody> {
    match &store.image().get(&Key::Ledger(id))?.record {
        Record::Ledger(body) => Some(body),
        _ => None,
    }
}

/// Whether meta knows a ledger, or knew it before it was trimmed.
fn was_made(store: &MemStore, id: LedgerId) -> bool {
    let record = |key: Key| Some(&store.image().get(&key)?.record);
    let Some(Record::Log(log)) = record(Key::Log(id.log())) else {
        return false;
    };
    match record(Key::Shard(log.shard)) {
        Some(Record::Shard(shard)) => id.seq() < shard.chain(log.kind).next_seq(),
        _ => false,
    }
}

/// Whether meta has let go of the shard that a ledger is of, or never had it.
fn is_swept(store: &MemStore, id: LedgerId) -> bool {
    match store.image().get(&Key::Log(id.log())).map(|it| &it.record) {
        Some(Record::Log(log)) => store.image().get(&Key::Shard(log.shard)).is_none(),
        _ => true,
    }
}

fn next(entry: Option<EntryId>) -> EntryId {
    entry.map_or(EntryId::new(0), EntryId::next)
}

impl Observer {
    fn copies(&self, body: &LedgerBody, spot: Spot) -> usize {
        let stored = self.stored.get(&spot).copied().unwrap_or(0);
        let holds = |id: &&BookieId| {
            let place = self
                .ids
                .iter()
                .position(|known| known.as_ref() == Some(*id));
            place.is_some_and(|place| stored & (1 << place) != 0)
        };
        body.ensemble.iter().filter(holds).count()
    }

    /// I2: every entry of the range was said to be stored by Qa bookies of the ensemble.
    fn quorum(&self, body: &LedgerBody, id: LedgerId, from: EntryId, to: EntryId) -> Found {
        for entry in (from.get()..=to.get()).map(EntryId::new) {
            let copies = self.copies(body, (id, entry));
            if copies < body.quorum.ack() {
                return found(
                    "I2",
                    format!("{id} counts as confirmed to {to}, {entry} has {copies} copies"),
                );
            }
        }
        Vec::new()
    }

    /// An owner shows a LAC: what it covers is confirmed (I2, I6, I15).
    pub(in crate::l1) fn confirmed(
        &mut self,
        store: &MemStore,
        id: LedgerId,
        lac: EntryId,
        epoch: Option<Epoch>,
    ) -> Found {
        let before = self.confirmed.get(&id).copied();
        if before >= Some(lac) {
            return Vec::new();
        }
        self.confirmed.insert(id, lac);
        let Some(body) = ledger(store, id) else {
            // A late answer to an owner that is over, of a ledger that was closed since, and trimmed or swept.
            let is_below_end = self.ends.get(&id).is_some_and(|end| *end >= Some(lac));
            return match (is_swept(store, id) || was_made(store, id)) && is_below_end {
                true => Vec::new(),
                false => found(
                    "I15",
                    format!("{id} is confirmed to {lac} and meta does not know it"),
                ),
            };
        };
        let mut all = self.quorum(body, id, next(before), lac);
        if let LedgerState::Closed { last, .. } = body.state
            && last < Some(lac)
        {
            all.extend(found(
                "I6",
                format!("{id} closed at {last:?} and confirmed to {lac} by epoch {epoch:?}"),
            ));
        }
        all
    }

    /// A producer was told that its batch is stored there (I1, I2).
    pub(in crate::l1) fn acked(&self, store: &MemStore, id: LedgerId, entry: EntryId) -> Found {
        let confirmed = self.confirmed.get(&id).copied() >= Some(entry);
        let recovered = self.ends.get(&id).is_some_and(|end| *end >= Some(entry));
        // A receipt may come late, when the topic was deleted and is being swept.
        if !(is_swept(store, id) || was_made(store, id)) || !(confirmed || recovered) {
            return found(
                "I2",
                format!("{id} {entry} acked and neither confirmed nor recovered"),
            );
        }
        Vec::new()
    }

    /// Meta committed something (I1, I3, I4, I5, I12, I14, I16, I18).
    ///
    /// `images` has the records that were touched, before and after.
    pub(in crate::l1) fn committed(
        &mut self,
        images: [&Image; 2],
        store: &MemStore,
        command: &Command,
        marks: &mut Marks,
    ) -> Found {
        self.commits += 1;
        let [before, after] = images;
        let mut wrong = catalog::check_step(before, after);
        if self.commits.is_multiple_of(128) {
            wrong.extend(catalog::check(store.image()));
        }
        let wrong = wrong.into_iter();
        let mut all: Found = wrong
            .map(|v| Violation {
                rule: v.rule,
                what: v.what,
            })
            .collect();
        if let Command::ChangeShard(change) = command {
            if let ShardChange::Extend {
                close: Some(_),
                successor: Some(_),
                ..
            } = change.change
            {
                marks.hit(Mark::SealedAndExtended);
            }
            all.extend(self.closed(before, store, change, marks));
        }
        all
    }

    fn closed(
        &mut self,
        before: &Image,
        after: &MemStore,
        change: &ShardCommand,
        marks: &mut Marks,
    ) -> Found {
        let mut all = Vec::new();
        let Some(Record::Shard(record)) = before.get(&Key::Shard(change.shard)).map(|v| &v.record)
        else {
            return found("M", format!("{} changed and was not there", change.shard));
        };
        for kind in LogKind::BOTH {
            let Some(id) = record.chain(kind).tail_id() else {
                continue;
            };
            let Some(body) = ledger(after, id) else {
                continue;
            };
            let LedgerState::Closed { last, .. } = body.state else {
                continue;
            };
            self.ends.insert(id, last);
            let confirmed = self.confirmed.get(&id).copied();
            if confirmed > last {
                all.extend(found(
                    "I1",
                    format!("{id} confirmed to {confirmed:?}, closed at {last:?}"),
                ));
            }
            let shown = self.lacs.get(&id).copied();
            if shown > last {
                all.extend(found(
                    "I7",
                    format!("LAC {shown:?} of {id} was shown, closed at {last:?}"),
                ));
            }
            if let Some(last) = last {
                all.extend(self.quorum(body, id, next(confirmed), last));
            }
            if matches!(change.change, ShardChange::CloseRecovered { .. }) {
                let spot = (id, next(last));
                let said = self
                    .negatives
                    .get(&(spot, change.epoch))
                    .copied()
                    .unwrap_or(0);
                let count = self.said(body, said);
                if count < body.quorum.recovery() {
                    all.extend(found(
                        "I12",
                        format!("{id} closed at {last:?} on {count} negatives"),
                    ));
                }
                if last > confirmed {
                    marks.hit(Mark::RecoveredAboveLac);
                }
            } else if last != confirmed {
                all.extend(found(
                    "I5",
                    format!("{id} closed by its writer at {last:?}, confirmed to {confirmed:?}"),
                ));
            }
        }
        all
    }

    fn said(&self, body: &LedgerBody, mask: u32) -> usize {
        let ids = self.ids.iter().enumerate();
        let of_ensemble = ids.filter(|(place, id)| {
            mask & (1 << place) != 0 && id.is_some_and(|id| body.ensemble.contains(&id))
        });
        of_ensemble.count()
    }

    /// What must hold of the store in the end.
    pub(in crate::l1) fn ended(&self, store: &MemStore) -> Found {
        let wrong = catalog::check(store.image()).into_iter();
        wrong
            .map(|v| Violation {
                rule: v.rule,
                what: v.what,
            })
            .collect()
    }
}
