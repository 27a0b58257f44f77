//! What is to be done about the copies of closed ledgers: decided on the records, without a store or a clock.
//!
//! A [`Look`] takes every bookie and then every ledger, in any order of pages, and ends in [`Findings`]. What is found is
//! only ever a proposal: the catalog's rules and the bookies' own words decide what becomes of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use types::chain::{LedgerRecord, LedgerState, Move};
use types::cluster::{BookieDuty, BookieRecord, BookieState};
use types::repair::{BeyondRepair, BeyondWhy, BookieCopies, RepairPlan};
use types::{BookieId, LedgerId, MonoTime, Revision, ZoneName};

/// Most ledgers beyond repair that a plan names; it counts them all.
const NAMED_MAX: usize = 100;
/// What the rate of repair is counted over.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// What outlives a look: who has been away since when, and what bookies said.
#[derive(Debug, Default)]
pub struct Memory {
    /// Bookies whose session is not live, since this process first saw it.
    away: BTreeMap<BookieId, MonoTime>,
    /// What bookies were given and cannot copy now.
    stuck: BTreeMap<BookieId, BTreeSet<LedgerId>>,
    /// Whether that became more since the last look: the turn of what is stuck goes to others.
    is_stuck_news: bool,
    /// When how many copies were found whole.
    done: VecDeque<(MonoTime, u64)>,
    /// What was told to be beyond repair.
    told: BTreeSet<(LedgerId, BeyondWhy)>,
    /// When the next bookie that is away is lost.
    lost_at: Option<MonoTime>,
}

/// The outcome of a look.
#[derive(Debug, Default)]
pub struct Findings {
    /// The copies that each bookie is to make, or to look at.
    pub due: BTreeMap<BookieId, BTreeSet<LedgerId>>,
    /// The moves to begin and to call off.
    pub moves: Vec<(LedgerId, Option<Move>)>,
    /// All that is beyond repair.
    pub beyond: BTreeSet<(LedgerId, BeyondWhy)>,
    /// The numbers.
    pub plan: RepairPlan,
    /// Most copies that any ledger has.
    pub widest: usize,
}

/// A bookie during a look.
#[derive(Debug)]
struct Standing {
    born: Revision,
    is_lost: bool,
    is_draining: bool,
    /// Whether it may be given copies.
    is_target: bool,
    /// Whether it is there and has no room for copies.
    is_full: bool,
    zone: Option<ZoneName>,
    named: u64,
    leaving: u64,
    due: BTreeSet<LedgerId>,
}

impl Standing {
    /// Whether its copies are to be elsewhere.
    const fn is_left(&self) -> bool {
        self.is_lost || self.is_draining
    }
}

/// A ledger with a copy that is to move.
#[derive(Debug)]
struct Needy {
    /// Copies known to be whole, at bookies that are there: the fewest go first.
    sound: usize,
    ledger: LedgerId,
    from: BookieId,
    ensemble: Vec<BookieId>,
    /// A move of it whose target is no use any more.
    is_reassigned: bool,
}

impl Memory {
    /// A bookie said which ledgers it cannot copy now, of all it was given.
    pub fn stuck(&mut self, bookie: BookieId, ledgers: impl IntoIterator<Item = LedgerId>) {
        let ledgers: BTreeSet<LedgerId> = ledgers.into_iter().collect();
        let before = self.stuck.entry(bookie).or_default();
        self.is_stuck_news |= !ledgers.is_subset(before);
        *before = ledgers;
    }

    /// Whether a look finds something new at this time though no record changed.
    pub fn wants_look(&self, now: MonoTime) -> bool {
        self.is_stuck_news || self.lost_at.is_some_and(|at| at <= now)
    }

    /// Copies were found whole.
    pub fn done(&mut self, now: MonoTime, count: u64) {
        self.done.push_back((now, count));
        self.forget(now);
    }

    fn forget(&mut self, now: MonoTime) {
        let is_old = |(at, _): &(MonoTime, u64)| now.since(*at) > RATE_WINDOW;
        while self.done.front().is_some_and(is_old) {
            self.done.pop_front();
        }
    }

    /// Puts the rate of the last minute, and what follows from it, into a plan.
    pub fn rate(&mut self, now: MonoTime, plan: &mut RepairPlan) {
        self.forget(now);
        let done: u64 = self.done.iter().map(|(_, count)| count).sum();
        let due: u64 = plan.bookies.iter().map(|bookie| bookie.due).sum();
        let rest = (due + plan.waiting).saturating_mul(RATE_WINDOW.as_secs());
        plan.done_last_minute = done;
        plan.left = rest
            .checked_div(done)
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs);
    }

    /// What is beyond repair now; returns what was not so at the last look.
    pub fn tell(&mut self, beyond: &BTreeSet<(LedgerId, BeyondWhy)>) -> Vec<BeyondRepair> {
        let news = beyond.difference(&self.told);
        let news = news.copied().map(beyond_repair).collect();
        self.told.clone_from(beyond);
        news
    }

    /// Whether a bookie cannot copy a ledger now.
    pub fn is_stuck(&self, bookie: BookieId, ledger: LedgerId) -> bool {
        let stuck = self.stuck.get(&bookie);
        stuck.is_some_and(|ledgers| ledgers.contains(&ledger))
    }

    /// Begins a look: who is there, and who is lost after having been away for `grace`.
    pub fn look(&mut self, now: MonoTime, grace: Duration, bookies: &[BookieRecord]) -> Look {
        self.lost_at = None;
        self.is_stuck_news = false;
        let mut standings = BTreeMap::new();
        for bookie in bookies {
            let is_gone = bookie.duty == BookieDuty::Gone;
            let mut is_lost = is_gone;
            if bookie.live {
                self.away.remove(&bookie.id);
            } else {
                let since = *self.away.entry(bookie.id).or_insert(now);
                let lost_at = since.after(grace);
                is_lost |= lost_at <= now;
                if !is_lost {
                    self.lost_at = Some(self.lost_at.map_or(lost_at, |at| at.min(lost_at)));
                }
            }
            let standing = Standing {
                born: bookie.born,
                is_lost,
                is_draining: bookie.duty == BookieDuty::Draining,
                is_target: bookie.live && bookie.takes_ledgers(),
                is_full: bookie.live && bookie.state == BookieState::ReadOnly,
                zone: bookie.zone.clone(),
                named: 0,
                leaving: 0,
                due: BTreeSet::new(),
            };
            standings.insert(bookie.id, standing);
        }
        Look {
            stuck: self.stuck.clone(),
            standings,
            needy: Vec::new(),
            under_way: 0,
            findings: Findings::default(),
        }
    }
}

/// A look at every ledger, under way.
#[derive(Debug)]
pub struct Look {
    stuck: BTreeMap<BookieId, BTreeSet<LedgerId>>,
    standings: BTreeMap<BookieId, Standing>,
    needy: Vec<Needy>,
    /// Moves that go on.
    under_way: usize,
    findings: Findings,
}

/// How one member's copy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    Whole,
    Unseen,
    Leaving,
    Lost,
}

impl Look {
    /// Takes one ledger.
    pub fn ledger(&mut self, record: &LedgerRecord) {
        self.findings.widest = self.findings.widest.max(record.quorum.write());
        for member in &record.ensemble {
            if let Some(standing) = self.standings.get_mut(member) {
                standing.named += 1;
            }
        }
        let LedgerState::Closed { last, .. } = record.state else {
            return;
        };
        self.findings.plan.closed += 1;
        let copies: Vec<(BookieId, Copy)> = record
            .ensemble
            .iter()
            .map(|member| (*member, self.copy(record, *member)))
            .collect();
        let mut is_short = false;
        for (member, copy) in &copies {
            match copy {
                Copy::Whole => {}
                Copy::Unseen => is_short |= self.due(record.id, *member),
                Copy::Leaving | Copy::Lost => self.leaves(*member),
            }
        }
        let is_needless = last.is_none(); // An empty copy needs no source.
        if copies.iter().all(|(_, copy)| *copy == Copy::Lost) && !is_needless {
            self.findings.beyond.insert((record.id, BeyondWhy::NoCopy));
            return;
        }
        // Who is lost first: a copy that is drained is still there.
        let lost = copies.iter().find(|(_, copy)| *copy == Copy::Lost);
        let leaving = copies.iter().find(|(_, copy)| *copy == Copy::Leaving);
        let goes_on = self.goes_on(record);
        if let Some((from, _)) = lost.or(leaving)
            && !goes_on
        {
            let sound = copies.iter().filter(|(_, copy)| *copy == Copy::Whole);
            self.needy.push(Needy {
                sound: sound.count(),
                ledger: record.id,
                from: *from,
                ensemble: record.ensemble.clone(),
                is_reassigned: record.moving.is_some(),
            });
        } else if goes_on {
            self.findings.plan.moving += 1;
        } else if is_short {
            self.findings.plan.short += 1;
        } else if !self.is_beyond(record.id) {
            self.findings.plan.whole += 1;
        }
        if lost.or(leaving).is_none() && record.moving.is_some() {
            // Who was thought lost is back.
            self.findings.moves.push((record.id, None));
        }
    }

    fn copy(&self, record: &LedgerRecord, member: BookieId) -> Copy {
        match self.standings.get(&member) {
            // It registered since the look began: no record of a bookie ever goes.
            None => Copy::Unseen,
            Some(standing) if standing.is_lost => Copy::Lost,
            Some(standing) if standing.is_draining => Copy::Leaving,
            Some(standing) if record.is_verified(member, standing.born) => Copy::Whole,
            Some(_) => Copy::Unseen,
        }
    }

    /// Gives a bookie a ledger to look at. False where it said that it cannot copy it.
    fn due(&mut self, ledger: LedgerId, bookie: BookieId) -> bool {
        if let Some(standing) = self.standings.get_mut(&bookie) {
            standing.due.insert(ledger);
        }
        let stuck = self.stuck.get(&bookie);
        let is_stuck = stuck.is_some_and(|ledgers| ledgers.contains(&ledger));
        if is_stuck {
            let why = BeyondWhy::EntriesMissing { at: bookie };
            self.findings.beyond.insert((ledger, why));
        }
        !is_stuck
    }

    fn leaves(&mut self, member: BookieId) {
        if let Some(standing) = self.standings.get_mut(&member) {
            standing.leaving += 1;
        }
    }

    /// Whether a ledger's move is still wanted, and its target still there to take it.
    fn goes_on(&mut self, record: &LedgerRecord) -> bool {
        let Some(moving) = record.moving else {
            return false;
        };
        let is_left = |id| self.standings.get(&id).is_none_or(Standing::is_left);
        let is_full = |id| self.standings.get(&id).is_some_and(|it| it.is_full);
        if !is_left(moving.from) || is_left(moving.to) || is_full(moving.to) {
            return false;
        }
        // One that is stuck takes no other's turn.
        if self.due(record.id, moving.to) {
            self.under_way += 1;
        }
        true
    }

    fn is_beyond(&self, ledger: LedgerId) -> bool {
        let from = (
            ledger,
            BeyondWhy::NoTarget {
                of: BookieId::new(0),
            },
        );
        let mut behind = self.findings.beyond.range(from..);
        behind.next().is_some_and(|(id, _)| *id == ledger)
    }

    /// Ends the look: begins at most so many moves that `limit` of them go on at a time.
    pub fn finish(mut self, limit: usize) -> Findings {
        self.needy.sort_by_key(|needy| (needy.sound, needy.ledger));
        let needy = std::mem::take(&mut self.needy);
        for needy in needy {
            match self.target(&needy) {
                None => {
                    let why = BeyondWhy::NoTarget { of: needy.from };
                    self.findings.beyond.insert((needy.ledger, why));
                }
                // One that was on its way has its turn already.
                Some(to) if self.under_way < limit || needy.is_reassigned => {
                    self.under_way += 1;
                    self.assign(&needy, to);
                }
                Some(_) => self.findings.plan.waiting += 1,
            }
        }
        let mut findings = self.findings;
        let beyond: BTreeSet<LedgerId> = findings.beyond.iter().map(|(id, _)| *id).collect();
        let plan = &mut findings.plan;
        plan.is_known = true;
        plan.beyond_count = wide(beyond.len());
        let named = findings.beyond.iter().take(NAMED_MAX);
        plan.beyond = named.copied().map(beyond_repair).collect();
        let standings = self.standings.iter();
        plan.bookies = standings.map(|(id, it)| copies(*id, it)).collect();
        let standings = self.standings.into_iter();
        findings.due = standings.map(|(id, it)| (id, it.due)).collect();
        findings
    }

    /// The bookie with the fewest ledgers among those that may be given one, of a failure domain with the fewest copies
    /// that stay.
    fn target(&self, needy: &Needy) -> Option<BookieId> {
        let stay = || needy.ensemble.iter().filter(|id| **id != needy.from);
        let zone_of = |id: &BookieId| self.standings.get(id).and_then(|it| it.zone.as_ref());
        let beside = |zone: &Option<ZoneName>| match zone {
            Some(zone) => stay().filter(|id| zone_of(id) == Some(zone)).count(),
            None => 0,
        };
        let able = self
            .standings
            .iter()
            .filter(|(id, it)| it.is_target && !needy.ensemble.contains(id));
        able.min_by_key(|(id, it)| (beside(&it.zone), it.named, **id))
            .map(|(id, _)| *id)
    }

    fn assign(&mut self, needy: &Needy, to: BookieId) {
        let from = needy.from;
        self.findings
            .moves
            .push((needy.ledger, Some(Move { from, to })));
        self.findings.plan.moving += 1;
        if let Some(standing) = self.standings.get_mut(&to) {
            standing.named += 1;
        }
    }
}

fn beyond_repair((ledger, why): (LedgerId, BeyondWhy)) -> BeyondRepair {
    BeyondRepair { ledger, why }
}

fn copies(id: BookieId, standing: &Standing) -> BookieCopies {
    BookieCopies {
        bookie: id,
        named: standing.named,
        due: wide(standing.due.len()),
        leaving: standing.leaving,
        is_lost: standing.is_lost,
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("a usize fits")
}
