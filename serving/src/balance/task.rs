//! The task: looks, plans, opens and moves, until the node stops.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use types::cluster::{ServingNode, SessionRecord, SessionState, ShardPlace};
use types::command::{Answer, Page, Query};
use types::{MonoTime, Problem, SessionId, ShardId, TopicName};

use super::plan::{Mine, Peer, Plan, View, plan};
use crate::node::Node;
use crate::shard::{ShardHandle, Status};

/// How often a node looks whether it is drained when it is not to look for anything else.
const LOOK_WITHOUT: Duration = Duration::from_secs(10);
/// How long after a node came or went the others look: spread, since all of them are told at the same moment.
const SOON: Duration = Duration::from_millis(500);
/// The pause before the next look when there was more to do than fits one.
const AGAIN: Duration = Duration::from_millis(200);
/// Topics of one page of meta's list.
const PAGE: usize = 500;
/// Most shards that are opened at a time, and in one look.
const OPENS_AT_ONCE: usize = 32;
const OPENS_MOST: usize = 2_048;
/// Most shards that move at a time when the node stops.
const STOP_AT_ONCE: usize = 16;
/// Moves of one look, for each that may go on at a time.
const MOVES_AHEAD: usize = 16;
/// The first wait before a shard that could not be opened is tried again; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How much of a new rate counts beside the older ones: a quarter.
const SMOOTHING: u64 = 4;

/// What one look has found.
struct Look {
    nodes: Vec<ServingNode>,
    /// All shards, and whom meta names as their owners.
    owners: BTreeMap<ShardId, Option<SessionId>>,
    /// The topics of those that this node may be to open. Of all of them they would be the most that a node holds.
    topics: BTreeMap<ShardId, TopicName>,
}

/// What the task keeps between looks.
#[derive(Debug, Default)]
struct Memory {
    /// Shards that could not be opened: how long they wait, and until when.
    failed: BTreeMap<ShardId, (Duration, MonoTime)>,
    /// The work that each shard had done at the last look, and what it does in a second.
    rates: BTreeMap<ShardId, (u64, u64)>,
    looked_at: Option<MonoTime>,
}

/// Runs until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    let mut memory = Memory::default();
    let mut has_more = false;
    loop {
        pause(&node, has_more).await;
        if node.is_leaving() {
            return;
        }
        let stop = node.host.tasks.token();
        let turned = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            turned = turn(&node, &mut memory) => turned,
        };
        has_more = turned.unwrap_or_else(|problem| {
            tracing::debug!(%problem, "how shards are spread is not known now");
            false
        });
    }
}

/// Waits for the next look.
async fn pause(node: &Node, has_more: bool) {
    let regular = node.config.balance.interval.unwrap_or(LOOK_WITHOUT);
    let clock = &node.host.clock;
    let stop = node.host.tasks.token();
    let wait = if has_more { AGAIN } else { regular };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = node.balance.soon.notified() => clock.sleep(jittered(node, SOON.min(regular))).await,
        () = clock.sleep(jittered(node, wait)) => {}
    }
}

/// Between half and all of a time, so that nodes do not go in step.
fn jittered(node: &Node, whole: Duration) -> Duration {
    let half = whole / 2;
    let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_nanos(node.host.rng.below(nanos))
}

/// One look and what follows from it. True: there was more to do than was done.
async fn turn(node: &Arc<Node>, memory: &mut Memory) -> Result<bool, Problem> {
    let nodes = node.serving_nodes().await?;
    let is_drained = nodes
        .iter()
        .any(|it| it.session.id == node.session && it.is_drained);
    node.balance.remember(nodes.clone());
    if node.config.balance.interval.is_none() && !is_drained {
        return Ok(false);
    }
    let mut look = Look::new(node, nodes).await?;
    let mut plan = planned(node, memory, &mut look).await;
    if node.config.balance.interval.is_none() {
        plan.open.clear();
    }
    let now = node.host.clock.now();
    // Of the plan they are in order.
    let is_planned = |shard: &ShardId| plan.open.binary_search(shard).is_ok();
    memory.failed.retain(|shard, _| is_planned(shard));
    plan.open.retain(|shard| {
        let waits = memory.failed.get(shard);
        waits.is_none_or(|(_, until)| *until <= now)
    });
    let moves_most = node.config.balance.moves * MOVES_AHEAD;
    let has_more = plan.open.len() > OPENS_MOST || plan.moves.len() > moves_most;
    plan.open.truncate(OPENS_MOST);
    plan.moves.truncate(moves_most);
    let Plan { open, moves } = plan;
    let ((opened, failed), moved) = tokio::join!(
        open_all(node, &look, open),
        move_all(node, &look.nodes, moves, node.config.balance.moves)
    );
    memory.remember_failures(node, failed);
    Ok(has_more && came_to_something(opened, moved))
}

/// What came to nothing is not repeated at once.
const fn came_to_something(opened: usize, moved: bool) -> bool {
    opened > 0 || moved
}

/// Tells of all shards there are, page by page.
pub(crate) async fn places(node: &Node, mut tell: impl FnMut(ShardPlace)) -> Result<(), Problem> {
    let mut after = None;
    loop {
        let page = Page { after, limit: PAGE };
        let Answer::Shards(places) = node.query(Query::Shards(page)).await? else {
            return Err(crate::node::odd_answer());
        };
        let Some(last) = places.last() else {
            return Ok(());
        };
        after = Some(last.topic.to_string());
        places.into_iter().for_each(&mut tell);
    }
}

impl Look {
    async fn new(node: &Node, nodes: Vec<ServingNode>) -> Result<Self, Problem> {
        let live: BTreeSet<SessionId> = nodes.iter().filter(|it| is_live(it)).map(id).collect();
        let (mut owners, mut topics) = (BTreeMap::new(), BTreeMap::new());
        places(
            node,
            |ShardPlace {
                 shard,
                 topic,
                 owner,
                 ..
             }| {
                owners.insert(shard, owner);
                let is_elsewhere = |owner| owner != node.session && live.contains(&owner);
                if !owner.is_some_and(is_elsewhere) && !node.serves(shard) {
                    topics.insert(shard, topic);
                }
            },
        )
        .await?;
        Ok(Self {
            nodes,
            owners,
            topics,
        })
    }
}

/// Makes the plan, away from the network threads: there may be very many shards. Takes the owners from the look.
async fn planned(node: &Arc<Node>, memory: &mut Memory, look: &mut Look) -> Plan {
    let mine = memory.measure(node).await;
    let own = mine.values().map(|mine| mine.load).sum();
    let live = look.nodes.iter().filter(|it| is_live(it));
    let nodes: Vec<_> = live.map(|it| peer(node, it, own)).collect();
    let view = View {
        me: node.session,
        nodes: futures::future::join_all(nodes).await,
        owners: std::mem::take(&mut look.owners),
        mine,
    };
    node.host.compute.run(move || plan(&view)).await
}

async fn peer(node: &Node, it: &ServingNode, own: u64) -> Peer {
    let load = if it.session.id == node.session {
        node.balance.tell_load(own);
        own
    } else {
        node.load_of(&it.session).await.unwrap_or(u64::MAX)
    };
    Peer {
        session: it.session.id,
        is_drained: it.is_drained,
        load,
    }
}

const fn id(node: &ServingNode) -> SessionId {
    node.session.id
}

fn is_live(node: &ServingNode) -> bool {
    node.session.state == SessionState::Live
}

impl Memory {
    /// The shards that this node serves, with what they do.
    async fn measure(&mut self, node: &Node) -> BTreeMap<ShardId, Mine> {
        let now = node.host.clock.now();
        let passed = self.looked_at.replace(now).map(|at| now.since(at));
        let (before, shards) = (std::mem::take(&mut self.rates), node.shards());
        let rest = node.config.balance.rest;
        let measured = move || measured((now, passed, rest), &before, shards);
        let (rates, mine) = node.host.compute.run(measured).await;
        self.rates = rates;
        mine
    }

    /// Lets what could not be opened wait, each time twice as long.
    fn remember_failures(&mut self, node: &Node, failed: Vec<ShardId>) {
        let now = node.host.clock.now();
        for shard in failed {
            let before = self.failed.get(&shard);
            let wait = before.map_or(FIRST_WAIT, |(wait, _)| (*wait * 2).min(LONGEST_WAIT));
            self.failed.insert(shard, (wait, now.after(wait)));
        }
    }
}

/// What shards do, from what they had done at the last look, and since when; and what is kept for the next look.
fn measured(
    (now, passed, rest): (MonoTime, Option<Duration>, Duration),
    before: &BTreeMap<ShardId, (u64, u64)>,
    shards: Vec<(ShardId, ShardHandle)>,
) -> (BTreeMap<ShardId, (u64, u64)>, BTreeMap<ShardId, Mine>) {
    let (mut rates, mut mine) = (BTreeMap::new(), BTreeMap::new());
    for (shard, handle) in shards {
        let status = handle.status();
        if matches!(status, Status::Over(_)) {
            continue;
        }
        let work = handle.work();
        let before = before.get(&shard).zip(passed);
        let load = before.map_or(0, |((work_before, rate), passed)| {
            smoothed(*rate, work.saturating_sub(*work_before), passed)
        });
        rates.insert(shard, (work, load));
        let it = Mine {
            is_served: matches!(status, Status::Serving { .. }),
            rests: now.since(handle.since()) < rest,
            load,
        };
        mine.insert(shard, it);
    }
    (rates, mine)
}

/// A rate, a part of which is that of the time just passed.
fn smoothed(rate: u64, work: u64, passed: Duration) -> u64 {
    let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
    let newest = work.saturating_mul(1000) / millis;
    rate - rate / SMOOTHING + newest / SMOOTHING
}

/// Opens shards that nobody owns, and tells how many were opened and which could not be. When one after the other fails,
/// the rest waits for the next look.
async fn open_all(node: &Arc<Node>, look: &Look, shards: Vec<ShardId>) -> (usize, Vec<ShardId>) {
    // One that was served when meta told its name is opened after the next look.
    let named = |shard: ShardId| Some((shard, look.topics.get(&shard)?));
    let wanted = shards.into_iter().filter_map(named);
    let opening = wanted.map(|(shard, topic)| async move {
        let opened = node.open_unasked(topic, shard).await;
        (shard, topic, opened)
    });
    let opening: Vec<_> = opening.collect();
    let mut opening = stream::iter(opening).buffer_unordered(OPENS_AT_ONCE);
    let mut failed = Vec::new();
    let (mut opened, mut in_a_row) = (0, 0);
    while let Some((shard, topic, result)) = opening.next().await {
        match result {
            Ok(()) => {
                opened += 1;
                in_a_row = 0;
                node.parts.metrics.opened_unasked();
            }
            Err(problem) => {
                tracing::debug!(%topic, %problem, "a topic without an owner was not opened");
                failed.push(shard);
                in_a_row += 1;
            }
        }
        if in_a_row >= OPENS_AT_ONCE || node.is_leaving() {
            break;
        }
    }
    if opened > 0 {
        tracing::info!(count = opened, "topics without an owner opened");
    }
    (opened, failed)
}

/// Moves shards away, so many at a time. True when any move was done.
async fn move_all(
    node: &Arc<Node>,
    nodes: &[ServingNode],
    moves: Vec<(ShardId, SessionId)>,
    at_once: usize,
) -> bool {
    let session = |id: SessionId| nodes.iter().find(|it| it.session.id == id);
    let within = node.config.drain_timeout;
    let moves = moves.into_iter().filter_map(|(shard, to)| {
        let to = &session(to)?.session;
        Some(async move {
            // The node's stop moves what is left.
            !node.is_leaving() && move_one(node, shard, to, within).await
        })
    });
    let moves: Vec<_> = moves.collect();
    let moved = stream::iter(moves).buffer_unordered(at_once);
    moved
        .fold(false, |any, done| async move { any || done })
        .await
}

async fn move_one(node: &Node, shard: ShardId, to: &SessionRecord, within: Duration) -> bool {
    let moved = node.move_shard(shard, to, within).await;
    if let Err(problem) = &moved {
        tracing::warn!(%shard, to = %to.name, %problem, "topic not moved, the next request opens it");
    }
    moved.is_ok()
}

/// Gives the shards of a node that stops to others, as far as there are any and meta answers within `patience`; until
/// `by`. What is left the caller gives up.
pub(crate) async fn give_away(node: &Arc<Node>, patience: Duration, by: MonoTime) {
    let looking = async {
        let nodes = node.serving_nodes().await?;
        Look::new(node, nodes).await
    };
    let Ok(Ok(mut look)) = node.host.clock.timeout(patience, looking).await else {
        tracing::debug!("who can take the topics is not known now");
        return;
    };
    for it in &mut look.nodes {
        it.is_drained |= it.session.id == node.session;
    }
    let moves = match look.nodes.iter().any(ServingNode::takes_shards) {
        true => planned(node, &mut Memory::default(), &mut look).await.moves,
        false => return,
    };
    let session = |id: SessionId| look.nodes.iter().find(|it| it.session.id == id);
    let moves = moves.into_iter().filter_map(|(shard, to)| {
        let to = &session(to)?.session;
        Some(async move {
            let left = by.since(node.host.clock.now());
            move_one(node, shard, to, left).await
        })
    });
    let moves: Vec<_> = moves.collect();
    let moved = stream::iter(moves).buffer_unordered(STOP_AT_ONCE);
    moved.collect::<Vec<_>>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_alone_is_reason_enough_to_go_on_at_once() {
        assert!(came_to_something(1, false));
        assert!(came_to_something(0, true));
        assert!(!came_to_something(0, false));
    }

    #[test]
    fn a_rate_follows_what_is_done_and_fades_when_nothing_is() {
        let second = Duration::from_secs(1);
        let mut rate = 0;
        for _ in 0..40 {
            rate = smoothed(rate, 2_000_000, second * 2);
        }
        assert!((990_000..=1_000_000).contains(&rate), "{rate}");
        for _ in 0..60 {
            rate = smoothed(rate, 0, second);
        }
        assert!(rate < 4, "{rate}");
        // A look right after the other neither divides by zero nor makes a rate of nothing.
        assert_eq!(smoothed(0, 0, Duration::ZERO), 0);
    }
}
