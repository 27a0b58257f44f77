//! What is wrong with a store, found by looking at all of it. For simulators and tests.

use std::collections::BTreeSet;
use std::fmt;

use types::chain::{
    Chain, LEDGERS_OF_RESTORE, LedgerState, LogKind, ShardRecord, Verified, first_seq_at,
};
use types::{BookieId, LedgerId, LedgerSeq, LogId};

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
            found.check(may_go(key, &old.record, after), "I18", || {
                format!("{key:?} is gone")
            });
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

/// Whether a record may be removed: a closed ledger's once its chain no longer has it, what belonged to a deleted topic.
fn may_go(key: &Key, old: &Record, after: &Image) -> bool {
    let shard_of = |log: LogId| match after.get(&Key::Log(log)).map(|v| &v.record) {
        Some(Record::Log(log)) => Some(*log),
        _ => None,
    };
    match (key, old) {
        (Key::Ledger(id), Record::Ledger(body)) => {
            let Some(log) = shard_of(id.log()) else {
                return false;
            };
            let is_trimmed = match after.get(&Key::Shard(log.shard)).map(|v| &v.record) {
                Some(Record::Shard(shard)) => id.seq() < shard.chain(log.kind).first,
                _ => log.is_deleted,
            };
            is_trimmed && matches!(body.state, LedgerState::Closed { .. })
        }
        (Key::Loss(id), _) => !after.contains_key(&Key::Ledger(*id)),
        (Key::Shard(_), Record::Shard(shard)) => shard.is_deleted,
        (Key::Topic(_), Record::Topic(topic)) => topic.shards.iter().all(|shard| {
            matches!(after.get(&Key::Shard(*shard)).map(|v| &v.record),
                Some(Record::Shard(shard)) if shard.is_deleted)
        }),
        (Key::Subscription(name), _) => !after.contains_key(&Key::Topic(name.topic())),
        _ => false,
    }
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

/// Whether a ledger may stand at this place of its chain: there, or first after a restore left numbers out.
fn follows(place: LedgerSeq, seq: LedgerSeq, shard: &ShardRecord) -> bool {
    let is_first_of_restore = seq.get().is_multiple_of(LEDGERS_OF_RESTORE);
    seq == place || (seq > place && is_first_of_restore && seq <= first_seq_at(shard.epoch))
}

fn check_shard(
    image: &Image,
    shard: &ShardRecord,
    chained: &mut BTreeSet<LedgerId>,
    found: &mut Findings,
) {
    for kind in LogKind::BOTH {
        let chain = shard.chain(kind);
        check_log(image, shard, kind, found);
        let mut next = Some(chain.first_offset);
        let mut place = chain.first;
        for (index, link) in chain.links.iter().enumerate() {
            let id = LedgerId::new(chain.log, link.seq);
            found.check(follows(place, link.seq, shard), "I18", || {
                format!("ledger {id} is out of its place in the chain")
            });
            place = link.seq.next();
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

fn check_log(image: &Image, shard: &ShardRecord, kind: LogKind, found: &mut Findings) {
    let log = shard.chain(kind).log;
    let holds = match image.get(&Key::Log(log)).map(|v| &v.record) {
        Some(Record::Log(record)) => {
            record.shard == shard.id && record.kind == kind && record.is_deleted == shard.is_deleted
        }
        _ => false,
    };
    found.check(holds, "I14", || {
        format!("log {log} is not known as that of {}", shard.id)
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
    check_copies(id, body, found);
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

/// What a ledger's record says of its copies makes sense.
fn check_copies(id: LedgerId, body: &LedgerBody, found: &mut Findings) {
    let is_member = |bookie| body.ensemble.contains(bookie);
    let verified: BTreeSet<_> = body.verified.iter().map(|copy| copy.bookie).collect();
    let are_members = verified.len() == body.verified.len() && verified.iter().all(is_member);
    found.check(are_members, "I26", || {
        format!("ledger {id} has a whole copy twice or outside its ensemble")
    });
    if let Some(moving) = &body.moving {
        let is_sane = is_member(&moving.from) && !is_member(&moving.to);
        found.check(is_sane, "I26", || {
            format!("ledger {id} moves from outside its ensemble, or into it twice")
        });
    }
    match body.state {
        LedgerState::Closed { complete, .. } => {
            found.check(
                complete == (verified.len() == body.ensemble.len()),
                "M",
                || format!("ledger {id} is complete by one word and not by the other"),
            );
        }
        LedgerState::Open | LedgerState::Recovering { .. } => {
            let is_untouched = verified.is_empty() && body.moving.is_none();
            found.check(is_untouched, "I26", || {
                format!("ledger {id} is repaired and not closed")
            });
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
        found.check(
            old_chain.first <= new_chain.first && old_chain.first_offset <= new_chain.first_offset,
            "I29",
            || format!("what was trimmed of {id} came back"),
        );
        for old_link in &old_chain.links {
            let ledger = LedgerId::new(old_chain.log, old_link.seq);
            let mut links = new_chain.links.iter();
            match links.find(|link| link.seq == old_link.seq) {
                None if old_link.seq < new_chain.first => {
                    found.check(old_link.end.is_some(), "I29", || {
                        format!("ledger {ledger} was trimmed and not closed")
                    });
                }
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
    let (before_it, now) = (old.chain(kind).next_seq(), new.chain(kind).next_seq());
    let one_more = before_it.max(first_seq_at(new.epoch)).next();
    let is_longer = now != before_it;
    found.check(!is_longer || now == one_more, "I15", || {
        format!("{} got two ledgers in one step, or lost one", new.id)
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
    if is_longer {
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
    let is_same = old.ensemble == new.ensemble || is_move(old, new);
    found.check(is_same && old.quorum == new.quorum, "I18", || {
        format!("the bookies of {key:?} changed")
    });
    let is_kept = |copy: &&Verified| new.verified.iter().any(|kept| kept.bookie == copy.bookie);
    let lost = old.verified.iter().filter(|copy| !is_kept(copy)).count();
    found.check(
        lost <= usize::from(old.ensemble != new.ensemble),
        "I26",
        || format!("{key:?} lost the word that a copy is whole"),
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

/// Whether a closed ledger's move came to its end: one place changed hands, to a copy that is whole (I26).
fn is_move(old: &LedgerBody, new: &LedgerBody) -> bool {
    let Some(moving) = old.moving else {
        return false;
    };
    let swap = |id: &BookieId| if *id == moving.from { moving.to } else { *id };
    let wanted: Vec<BookieId> = old.ensemble.iter().map(swap).collect();
    matches!(old.state, LedgerState::Closed { .. })
        && new.ensemble == wanted
        && new.verified.iter().any(|copy| copy.bookie == moving.to)
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
