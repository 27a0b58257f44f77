//! What is wrong with a store, found by looking at all of it. For simulators and tests.

use std::collections::BTreeSet;
use std::fmt;

use types::chain::{Chain, LedgerState, LogKind, ShardRecord};
use types::{LedgerId, LogId, Offset, ShardId};

use crate::{Counters, Image, Key, LedgerBody, Record, Versioned};

/// Something that must never be, with the invariant of the ledger protocol that it breaks where there is one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Violation {
    /// The invariant: `I3` …; `M` for what meta alone promises.
    pub rule: &'static str,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// Checks a whole store: chains (I18), ledgers against chains (I3, I15), numbers (I14), references.
pub fn check(image: &Image) -> Vec<Violation> {
    let mut found = Findings::default();
    let counters = counters(image);
    let mut chained = BTreeSet::new();
    for (key, versioned) in image {
        found.check(versioned.created <= versioned.modified, "M", || {
            format!("{key:?} was changed before it was made")
        });
        check_number(key, &counters, &mut found);
        match (key, &versioned.record) {
            (Key::Shard(id), Record::Shard(shard)) => {
                found.check(*id == shard.id, "M", || {
                    format!("{id} lies under another key")
                });
                check_shard(image, shard, &mut chained, &mut found);
            }
            (Key::Topic(name), Record::Topic(topic)) => {
                for shard in &topic.shards {
                    found.check(image.contains_key(&Key::Shard(*shard)), "M", || {
                        format!("{name} has a shard without record: {shard}")
                    });
                }
            }
            (Key::Bookie(id), Record::Bookie(body)) => {
                let has_birth = image.contains_key(&Key::Birth(*id));
                let has_session = image.contains_key(&Key::Session(body.session));
                found.check(has_birth && has_session, "M", || {
                    format!("{id} has no birth or no session")
                });
            }
            _ => {}
        }
    }
    check_unique(image, &mut found);
    for key in image.keys() {
        if let Key::Ledger(id) = key {
            found.check(chained.contains(id), "I18", || {
                format!("ledger {id} is in no chain")
            });
        }
    }
    found.0
}

/// Checks one step of a store's history: nothing goes back, nothing that is final changes (I3, I4, I5, I14, I18).
pub fn check_step(before: &Image, after: &Image) -> Vec<Violation> {
    let mut found = Findings::default();
    for (key, old) in before {
        let Some(new) = after.get(key) else {
            found.add("I18", format!("{key:?} is gone"));
            continue;
        };
        found.check(old.modified <= new.modified, "M", || {
            format!("the version of {key:?} went back")
        });
        found.check(old.created == new.created, "M", || {
            format!("{key:?} was made twice")
        });
        found.check(
            old.record == new.record || old.modified < new.modified,
            "M",
            || format!("{key:?} changed and its version did not"),
        );
        match (&old.record, &new.record) {
            (Record::Shard(old), Record::Shard(new)) => {
                check_shard_step(before, after, old, new, &mut found);
            }
            (Record::Ledger(old), Record::Ledger(new)) => {
                check_ledger_step(key, old, new, &mut found);
            }
            (Record::Counters(old), Record::Counters(new)) => {
                found.check(not_below(old, new), "I14", || {
                    format!("counters went back from {old:?} to {new:?}")
                });
            }
            _ => {}
        }
    }
    found.0
}

#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, rule: &'static str, what: String) {
        self.0.push(Violation { rule, what });
    }

    fn check(&mut self, holds: bool, rule: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.add(rule, what());
        }
    }
}

fn counters(image: &Image) -> Counters {
    match image.get(&Key::Counters).map(|v| &v.record) {
        Some(Record::Counters(counters)) => *counters,
        _ => Counters::FIRST,
    }
}

/// Whatever has a number has one below the counter: the next one given is new (I14).
fn check_number(key: &Key, counters: &Counters, found: &mut Findings) {
    let is_given = match key {
        Key::Shard(id) => *id < counters.shard,
        Key::Log(id) => *id < counters.log,
        Key::Ledger(id) | Key::Loss(id) => id.log() < counters.log,
        Key::Session(id) => *id < counters.session,
        Key::Bookie(id) | Key::Birth(id) => *id < counters.bookie,
        _ => true,
    };
    found.check(is_given, "I14", || {
        format!("the number of {key:?} was never given")
    });
}

fn check_shard(
    image: &Image,
    shard: &ShardRecord,
    chained: &mut BTreeSet<LedgerId>,
    found: &mut Findings,
) {
    for kind in LogKind::BOTH {
        let chain = shard.chain(kind);
        check_log(image, shard.id, kind, chain.log, found);
        let mut next = Some(Offset::new(0));
        for (index, link) in chain.links.iter().enumerate() {
            let id = LedgerId::new(chain.log, link.seq);
            let seq = usize::try_from(link.seq.get()).unwrap_or(usize::MAX);
            found.check(seq == index, "I18", || {
                format!("ledger {id} is out of its place in the chain")
            });
            match next {
                Some(next) => found.check(link.first_offset == next, "I18", || {
                    format!("ledger {id} does not begin where the one before it ends")
                }),
                None => found.add("I18", format!("ledger {id} follows one that is not closed")),
            }
            next = link.end.map(|end| end.next_offset);
            chained.insert(id);
            match image.get(&Key::Ledger(id)) {
                Some(versioned) => check_link(shard, chain, index, id, versioned, found),
                None => found.add("I18", format!("ledger {id} has no record")),
            }
        }
    }
}

fn check_log(image: &Image, shard: ShardId, kind: LogKind, log: LogId, found: &mut Findings) {
    let holds = match image.get(&Key::Log(log)).map(|v| &v.record) {
        Some(Record::Log(record)) => record.shard == shard && record.kind == kind,
        _ => false,
    };
    found.check(holds, "I14", || {
        format!("log {log} is not known as that of {shard}")
    });
}

/// A ledger's own record agrees with its link.
fn check_link(
    shard: &ShardRecord,
    chain: &Chain,
    index: usize,
    id: LedgerId,
    versioned: &Versioned,
    found: &mut Findings,
) {
    let Record::Ledger(body) = &versioned.record else {
        found.add("M", format!("ledger {id} has a record of another kind"));
        return;
    };
    let distinct: BTreeSet<_> = body.ensemble.iter().collect();
    let is_whole = distinct.len() == body.quorum.write() && body.ensemble.len() == distinct.len();
    found.check(is_whole, "M", || {
        format!("ledger {id} has an ensemble of the wrong size")
    });
    let link = &chain.links[index];
    match (body.state, link.end) {
        (LedgerState::Closed { last, .. }, Some(end)) => {
            found.check(last == end.last, "I3", || {
                format!("ledger {id} has two ends, its own and its chain's")
            });
            let is_sane = match end.last {
                None => end.next_offset == link.first_offset,
                Some(_) => end.next_offset >= link.first_offset,
            };
            found.check(is_sane, "I18", || {
                format!("ledger {id} ends before it begins")
            });
        }
        (LedgerState::Recovering { epoch }, None) => {
            found.check(epoch == shard.epoch, "I4", || {
                format!(
                    "ledger {id} is recovered by epoch {epoch}, its shard's is {}",
                    shard.epoch
                )
            });
        }
        (LedgerState::Open, None) => {}
        (LedgerState::Closed { .. }, None) | (_, Some(_)) => {
            found.add(
                "I3",
                format!("ledger {id} and its chain do not agree on its end"),
            );
        }
    }
}

fn check_shard_step(
    before: &Image,
    after: &Image,
    old: &ShardRecord,
    new: &ShardRecord,
    found: &mut Findings,
) {
    let id = new.id;
    found.check(old.epoch <= new.epoch, "I4", || {
        format!("the epoch of {id} went back")
    });
    let took_over = new.owner.is_some() && old.owner != new.owner;
    found.check(!took_over || old.epoch < new.epoch, "I4", || {
        format!("{id} has a new owner at an old epoch")
    });
    for kind in LogKind::BOTH {
        let (old_chain, new_chain) = (old.chain(kind), new.chain(kind));
        found.check(old_chain.log == new_chain.log, "I14", || {
            format!("{id} changed its log")
        });
        for (index, old_link) in old_chain.links.iter().enumerate() {
            let ledger = LedgerId::new(old_chain.log, old_link.seq);
            match new_chain.links.get(index) {
                None => found.add("I18", format!("ledger {ledger} was dropped from its chain")),
                Some(link) => found.check(
                    link.first_offset == old_link.first_offset
                        && (old_link.end.is_none() || link.end == old_link.end),
                    "I3",
                    || format!("the place of ledger {ledger} changed after it was final"),
                ),
            }
        }
        check_tail_step(before, after, old, new, kind, found);
    }
}

/// A new epoch takes an open tail to recovery; nothing is appended to a chain before its tail is closed.
fn check_tail_step(
    before: &Image,
    after: &Image,
    old: &ShardRecord,
    new: &ShardRecord,
    kind: LogKind,
    found: &mut Findings,
) {
    let added = new
        .chain(kind)
        .links
        .len()
        .saturating_sub(old.chain(kind).links.len());
    found.check(added <= 1, "I15", || {
        format!("{} got two ledgers in one step", new.id)
    });
    let Some(tail) = old.chain(kind).tail_id() else {
        return;
    };
    let state = |image: &Image| match image.get(&Key::Ledger(tail)).map(|v| &v.record) {
        Some(Record::Ledger(body)) => Some(body.state),
        _ => None,
    };
    if old.epoch < new.epoch {
        let is_recovering = matches!(state(after), Some(LedgerState::Recovering { .. }));
        found.check(is_recovering, "I4", || {
            format!("ledger {tail} was not taken to recovery by a new epoch")
        });
    }
    if added > 0 {
        let is_closed = matches!(state(after), Some(LedgerState::Closed { .. }));
        found.check(is_closed, "I15", || {
            format!("ledger {tail} has a successor and is not closed")
        });
        let was_open = state(before) == Some(LedgerState::Open);
        found.check(was_open, "I5", || {
            format!("ledger {tail} was closed by a writer and was not open")
        });
    }
}

fn check_ledger_step(key: &Key, old: &LedgerBody, new: &LedgerBody, found: &mut Findings) {
    found.check(
        old.ensemble == new.ensemble && old.quorum == new.quorum,
        "I18",
        || format!("the bookies of {key:?} changed"),
    );
    let is_allowed = match (old.state, new.state) {
        (LedgerState::Open, _) => true,
        (LedgerState::Recovering { epoch }, LedgerState::Recovering { epoch: newer }) => {
            epoch <= newer
        }
        (LedgerState::Recovering { .. }, LedgerState::Closed { .. }) => true,
        (LedgerState::Recovering { .. }, LedgerState::Open) => false,
        (
            LedgerState::Closed { last, complete },
            LedgerState::Closed {
                last: new_last,
                complete: still,
            },
        ) => last == new_last && (still || !complete),
        (LedgerState::Closed { .. }, _) => false,
    };
    found.check(is_allowed, "I3", || {
        format!("{key:?} went from {:?} to {:?}", old.state, new.state)
    });
}

fn not_below(old: &Counters, new: &Counters) -> bool {
    old.log <= new.log
        && old.topic <= new.topic
        && old.shard <= new.shard
        && old.subscription <= new.subscription
        && old.node <= new.node
        && old.bookie <= new.bookie
        && old.session <= new.session
}

/// Numbers are given once: no two records share one (I14).
fn check_unique(image: &Image, found: &mut Findings) {
    let mut seen = BTreeSet::new();
    for versioned in image.values() {
        let number = match &versioned.record {
            Record::Topic(topic) => ("topic", topic.id.get()),
            Record::Subscription(subscription) => ("subscription", subscription.id.get()),
            Record::Node(node) => ("node", node.id.get()),
            Record::BookieName(id) => ("bookie", id.get()),
            _ => continue,
        };
        found.check(seen.insert(number), "I14", || {
            format!("{} {} is there twice", number.0, number.1)
        });
    }
}
