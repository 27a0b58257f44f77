//! The plan: who opens what nobody owns, and what moves where. A function of a value: no clock, no IO, no chance.

use std::collections::{BTreeMap, BTreeSet};

use types::{SessionId, ShardId};

/// Numbers of shards that differ by less than this part of the mean are left as they are.
const SLACK_PART: usize = 20;

/// Loads below this are noise: a kilobyte stands for a message, so it is some hundred messages a second.
const LOAD_LEAST: u64 = 256 << 10;

/// What is known.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// This node.
    pub(super) me: SessionId,
    /// The nodes that are live, this one among them.
    pub(super) nodes: Vec<Peer>,
    /// All shards, and whom meta names as their owners.
    pub(super) owners: BTreeMap<ShardId, Option<SessionId>>,
    /// The shards that this node serves or is opening.
    pub(super) mine: BTreeMap<ShardId, Mine>,
}

/// A node that is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) session: SessionId,
    pub(super) is_drained: bool,
    /// What all its shards do, as it says; the highest number where that is not known, so that nothing moves there for it.
    pub(super) load: u64,
}

/// A shard that this node serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mine {
    /// Whether it may move now at all: it serves.
    pub(super) is_served: bool,
    /// Whether it was opened too short a time ago to move for the sake of balance.
    pub(super) rests: bool,
    /// What it does.
    pub(super) load: u64,
}

/// What this node is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Shards to open, in the order of their numbers.
    pub(super) open: Vec<ShardId>,
    /// Shards to give to others, the most useful moves first.
    pub(super) moves: Vec<(ShardId, SessionId)>,
}

/// Makes the plan of one node.
pub(super) fn plan(view: &View) -> Plan {
    let Some(me) = view.nodes.iter().find(|node| node.session == view.me) else {
        return Plan::default(); // Meta does not count this node as live: it is not asked.
    };
    let takers = takers(&view.nodes);
    let mut plan = Plan::default();
    let mut is_settled = true;
    let mut counts: BTreeMap<SessionId, usize> =
        view.nodes.iter().map(|node| (node.session, 0)).collect();
    for (shard, owner) in &view.owners {
        let live = owner.filter(|owner| counts.contains_key(owner));
        is_settled &= live.is_some();
        let Some(owner) = live.or_else(|| chosen(*shard, takers.iter().copied())) else {
            continue;
        };
        *counts.entry(owner).or_default() += 1;
        // Also what meta takes for this node's, and it does not serve: its last try failed.
        if owner == view.me && !view.mine.contains_key(shard) {
            plan.open.push(*shard);
        }
    }
    let moves = evened(&view.nodes, &takers, &counts);
    // Loads count when everything else is as it should be, at every node.
    plan.moves = if is_settled && moves.is_empty() {
        let to = cooler(view, &takers, &counts);
        to.and_then(|to| relieve(view, to)).into_iter().collect()
    } else {
        let to = moves.into_iter().filter(|(from, _)| *from == view.me);
        let to: Vec<SessionId> = to.map(|(_, to)| to).collect();
        assign(view, &to, !takers.contains(&me.session))
    };
    plan
}

/// Who may be given shards: who is not drained, or everybody when all are.
fn takers(nodes: &[Peer]) -> BTreeSet<SessionId> {
    let all = || nodes.iter().map(|node| node.session);
    let drained = |session: &SessionId| {
        let is_it = |node: &&Peer| node.session == *session;
        nodes.iter().find(is_it).is_some_and(|node| node.is_drained)
    };
    let takers: BTreeSet<_> = all().filter(|session| !drained(session)).collect();
    if takers.is_empty() {
        all().collect()
    } else {
        takers
    }
}

/// Who of some nodes is to open a shard: the same for everybody who knows the same nodes, and another node more or less
/// changes it for its own part only.
pub(super) fn chosen(
    shard: ShardId,
    nodes: impl IntoIterator<Item = SessionId>,
) -> Option<SessionId> {
    let weight = |session: &SessionId| (mix(shard.get() ^ mix(session.get())), *session);
    nodes.into_iter().max_by_key(weight)
}

/// Spreads the bits of a number over all of it (the end of splitmix64).
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The moves of all nodes together, from whom to whom, that even out how many shards they have: first the drained ones
/// give all away, then whoever has most gives to whoever has least, until they differ by no more than the slack.
fn evened(
    nodes: &[Peer],
    takers: &BTreeSet<SessionId>,
    counts: &BTreeMap<SessionId, usize>,
) -> Vec<(SessionId, SessionId)> {
    let count = |session: SessionId| counts.get(&session).copied().unwrap_or(0);
    let mut by_count: BTreeSet<(usize, SessionId)> = takers
        .iter()
        .map(|session| (count(*session), *session))
        .collect();
    let mut moves = Vec::new();
    for node in nodes.iter().filter(|node| !takers.contains(&node.session)) {
        for _ in 0..count(node.session) {
            let Some((least, taker)) = by_count.pop_first() else {
                break;
            };
            by_count.insert((least + 1, taker));
            moves.push((node.session, taker));
        }
    }
    let total: usize = by_count.iter().map(|(count, _)| count).sum();
    let slack = (total / by_count.len().max(1) / SLACK_PART).max(1);
    while let (Some(&(least, taker)), Some(&(most, giver))) = (by_count.first(), by_count.last())
        && most - least > slack
    {
        by_count.remove(&(most, giver));
        by_count.remove(&(least, taker));
        by_count.insert((most - 1, giver));
        by_count.insert((least + 1, taker));
        moves.push((giver, taker));
    }
    moves
}

/// Picks a shard for each that is to be given one: of those that fit the difference of the two nodes' loads the busiest,
/// else the idlest.
fn assign(view: &View, to: &[SessionId], is_drained: bool) -> Vec<(ShardId, SessionId)> {
    let mut loads: BTreeMap<_, _> = view.nodes.iter().map(|it| (it.session, it.load)).collect();
    let mut left: BTreeSet<(u64, ShardId)> = movable(view, is_drained).collect();
    let mut moves = Vec::new();
    for taker in to {
        let gap = loads[&view.me].saturating_sub(loads[taker]);
        let mut fits = left.range(..=(gap / 2, ShardId::new(u64::MAX)));
        let Some(&(load, shard)) = fits.next_back().or_else(|| left.first()) else {
            break;
        };
        left.remove(&(load, shard));
        shift(&mut loads, view.me, *taker, load);
        moves.push((shard, *taker));
    }
    moves
}

/// This node's shards that may move, with their loads.
fn movable(view: &View, is_drained: bool) -> impl Iterator<Item = (u64, ShardId)> {
    let mine = view.mine.iter().filter(move |(shard, mine)| {
        let is_owned = view.owners.get(shard) == Some(&Some(view.me));
        is_owned && mine.is_served && (is_drained || !mine.rests)
    });
    mine.map(|(shard, mine)| (mine.load, *shard))
}

fn shift(loads: &mut BTreeMap<SessionId, u64>, from: SessionId, to: SessionId, load: u64) {
    let of = |loads: &BTreeMap<_, u64>, session| loads.get(&session).copied().unwrap_or(0);
    let (less, more) = (of(loads, from), of(loads, to));
    loads.insert(from, less.saturating_sub(load));
    loads.insert(to, more.saturating_add(load));
}

/// The idlest node, when this one is the busiest and has more than twice its load. One move at a time: its effect is seen
/// before the next.
fn cooler(
    view: &View,
    takers: &BTreeSet<SessionId>,
    counts: &BTreeMap<SessionId, usize>,
) -> Option<SessionId> {
    let known = || view.nodes.iter().filter(|it| takers.contains(&it.session));
    let hottest = known().max_by_key(|it| (it.load, it.session))?;
    let coolest = known().min_by_key(|it| (it.load, it.session))?;
    let differs = hottest.load >= LOAD_LEAST && hottest.load / 2 > coolest.load;
    // The last shard of a node that does nothing else stays: elsewhere it would be as busy.
    let has_others = counts.get(&view.me).copied().unwrap_or(0) > 1;
    (hottest.session == view.me && differs && has_others).then_some(coolest.session)
}

/// The busiest shard that makes two loads more even, and by enough to be worth a move.
fn relieve(view: &View, to: SessionId) -> Option<(ShardId, SessionId)> {
    let load = |session: SessionId| {
        let found = view.nodes.iter().find(|node| node.session == session);
        found.map_or(0, |node| node.load)
    };
    let gap = load(view.me).saturating_sub(load(to));
    let fits = movable(view, false).filter(|(load, _)| (gap / 8..=gap / 2).contains(load));
    let (_, shard) = fits.max()?;
    Some((shard, to))
}

#[cfg(test)]
mod tests;
