use host::Rng;

use super::*;

/// A cluster as the plans see it: who owns what, and what each shard does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cluster {
    nodes: Vec<(SessionId, bool)>,
    owners: BTreeMap<ShardId, Option<SessionId>>,
    loads: BTreeMap<ShardId, u64>,
    resting: BTreeSet<ShardId>,
}

fn session(number: u64) -> SessionId {
    SessionId::new(number)
}

fn shard(number: u64) -> ShardId {
    ShardId::new(number)
}

impl Cluster {
    /// So many nodes, and so many shards that nobody owns.
    fn new(nodes: u64, shards: u64) -> Self {
        Self {
            nodes: (1..=nodes).map(|it| (session(it), false)).collect(),
            owners: (1..=shards).map(|it| (shard(it), None)).collect(),
            loads: BTreeMap::new(),
            resting: BTreeSet::new(),
        }
    }

    /// One that random chance has brought about.
    fn random(rng: &Rng) -> Self {
        let mut cluster = Self::new(rng.within(1..=6), rng.within(0..=60));
        for (_, is_drained) in &mut cluster.nodes {
            *is_drained = rng.one_in(4);
        }
        let gone = session(99);
        for owner in cluster.owners.values_mut() {
            *owner = match rng.below(4) {
                0 => None,
                1 => Some(gone),
                _ => Some(cluster.nodes[rng.index(cluster.nodes.len())].0),
            };
        }
        for it in cluster.owners.keys() {
            if rng.one_in(3) {
                cluster.loads.insert(*it, rng.below(8 << 20));
            }
        }
        cluster
    }

    fn owned(&self, node: SessionId) -> Vec<ShardId> {
        let owned = self.owners.iter().filter(|it| *it.1 == Some(node));
        owned.map(|(shard, _)| *shard).collect()
    }

    fn load(&self, node: SessionId) -> u64 {
        let load = |it: &ShardId| self.loads.get(it).copied().unwrap_or(0);
        self.owned(node).iter().map(load).sum()
    }

    fn view(&self, me: SessionId) -> View {
        let peer = |(session, is_drained): &(SessionId, bool)| Peer {
            session: *session,
            is_drained: *is_drained,
            load: self.load(*session),
        };
        let mine = self.owned(me).into_iter().map(|it| {
            let mine = Mine {
                is_served: true,
                rests: self.resting.contains(&it),
                load: self.loads.get(&it).copied().unwrap_or(0),
            };
            (it, mine)
        });
        View {
            me,
            nodes: self.nodes.iter().map(peer).collect(),
            owners: self.owners.clone(),
            mine: mine.collect(),
        }
    }

    fn plan(&self, me: SessionId) -> Plan {
        plan(&self.view(me))
    }

    fn carry_out(&mut self, me: SessionId, plan: &Plan) {
        for it in &plan.open {
            self.owners.insert(*it, Some(me));
        }
        for (it, to) in &plan.moves {
            assert_eq!(self.owners[it], Some(me), "a node moves what it has");
            assert_ne!(*to, me);
            self.owners.insert(*it, Some(*to));
        }
    }

    /// Every node looks once and does what it planned, in the order of its numbers. False when nothing was to do.
    fn round(&mut self) -> bool {
        let before = self.clone();
        for (me, _) in self.nodes.clone() {
            let plan = self.plan(me);
            self.carry_out(me, &plan);
        }
        *self != before
    }

    /// Rounds until nothing is to do.
    fn settle(&mut self, context: &str) {
        for _ in 0..200 {
            if !self.round() {
                return;
            }
        }
        panic!("{context}: it never settles: {self:?}");
    }

    fn takers(&self) -> Vec<SessionId> {
        let open = self.nodes.iter().filter(|(_, is_drained)| !is_drained);
        let open: Vec<_> = open.map(|(session, _)| *session).collect();
        if open.is_empty() {
            return self.nodes.iter().map(|(session, _)| *session).collect();
        }
        open
    }

    /// How many shards the nodes have that may have any.
    fn counts(&self) -> Vec<usize> {
        let count = |it: SessionId| self.owned(it).len();
        self.takers().into_iter().map(count).collect()
    }
}

fn spread(counts: &[usize]) -> usize {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

#[test]
fn whatever_the_cluster_was_it_settles_with_all_owned_spread_and_drained_nodes_empty_and_stays() {
    for seed in 0..400 {
        let rng = Rng::seeded(seed);
        let mut cluster = Cluster::random(&rng);
        cluster.settle(&format!("seed {seed}"));
        let takers = cluster.takers();
        for owner in cluster.owners.values() {
            let owner = owner.unwrap_or_else(|| panic!("seed {seed}: a shard has no owner"));
            assert!(takers.contains(&owner), "seed {seed}: {cluster:?}");
        }
        let counts = cluster.counts();
        assert!(spread(&counts) <= 1, "seed {seed}: {counts:?}");
        assert!(!cluster.round(), "seed {seed}");
    }
}

#[test]
fn what_nobody_owns_is_opened_by_exactly_one_whoever_looks() {
    for seed in 0..200 {
        let cluster = Cluster::random(&Rng::seeded(seed));
        let mut opened = Vec::new();
        for (me, _) in &cluster.nodes {
            opened.extend(cluster.plan(*me).open);
        }
        opened.sort();
        let live: Vec<_> = cluster.nodes.iter().map(|(session, _)| *session).collect();
        let is_unowned = |owner: &Option<SessionId>| owner.is_none_or(|it| !live.contains(&it));
        let unowned = cluster.owners.iter().filter(|it| is_unowned(it.1));
        let unowned: Vec<_> = unowned.map(|(shard, _)| *shard).collect();
        assert_eq!(opened, unowned, "seed {seed}");
    }
}

#[test]
fn plans_made_at_one_moment_do_not_overshoot_together() {
    for seed in 0..200 {
        let mut cluster = Cluster::random(&Rng::seeded(seed));
        let first = cluster.nodes[0].0;
        for owner in cluster.owners.values_mut() {
            *owner = owner.filter(|it| *it != session(99)).or(Some(first));
        }
        let plans: Vec<_> = cluster
            .nodes
            .iter()
            .map(|(me, _)| cluster.plan(*me))
            .collect();
        // When nothing else was to do one may have moved for the sake of loads.
        let moves = plans.iter().map(|plan| plan.moves.len()).sum::<usize>();
        let most = if moves == 1 { 3 } else { 1 };
        for ((me, _), plan) in cluster.nodes.clone().into_iter().zip(&plans) {
            cluster.carry_out(me, plan);
        }
        let counts = cluster.counts();
        assert!(spread(&counts) <= most, "seed {seed}: {counts:?}");
    }
}

#[test]
fn a_new_node_gets_its_share_and_nothing_else_moves() {
    let mut cluster = Cluster::new(3, 300);
    cluster.settle("three");
    let before = cluster.clone();
    cluster.nodes.push((session(4), false));
    cluster.settle("four");
    let share = cluster.owned(session(4)).len();
    assert!(
        (72..=75).contains(&share),
        "{share} is not 75 up to the slack"
    );
    for (shard, owner) in &cluster.owners {
        let stayed = *owner == before.owners[shard];
        assert!(stayed || *owner == Some(session(4)), "{shard}");
    }
}

#[test]
fn a_death_moves_only_what_the_dead_node_had_as_far_as_that_is_even() {
    let mut cluster = Cluster::new(4, 400);
    cluster.settle("four");
    let before = cluster.clone();
    cluster.nodes.remove(1);
    cluster.settle("three");
    let moved = cluster
        .owners
        .iter()
        .filter(|(shard, owner)| {
            let was = before.owners[shard];
            was != Some(session(2)) && **owner != was
        })
        .count();
    assert!(moved <= 40, "{moved} more than needed");
}

#[test]
fn shards_that_rest_stay_unless_their_node_is_drained() {
    let mut cluster = Cluster::new(1, 10);
    cluster.settle("one");
    cluster.nodes.push((session(2), false));
    cluster.resting = cluster.owners.keys().copied().collect();
    assert_eq!(cluster.plan(session(1)), Plan::default());
    cluster.nodes[0].1 = true;
    assert_eq!(cluster.plan(session(1)).moves.len(), 10);
}

#[test]
fn when_all_are_drained_they_serve_all_the_same() {
    let mut cluster = Cluster::new(2, 10);
    for (_, is_drained) in &mut cluster.nodes {
        *is_drained = true;
    }
    cluster.settle("drained");
    assert_eq!(cluster.counts(), [5, 5]);
}

#[test]
fn a_node_that_meta_does_not_count_as_live_does_nothing() {
    let cluster = Cluster::new(2, 10);
    assert_eq!(cluster.plan(session(7)), Plan::default());
}

#[test]
fn what_is_not_served_yet_does_not_move_and_what_failed_is_opened_again() {
    let mut cluster = Cluster::new(1, 4);
    cluster.settle("one");
    cluster.nodes.push((session(2), false));
    let mut view = cluster.view(session(1));
    for mine in view.mine.values_mut() {
        mine.is_served = false;
    }
    assert_eq!(plan(&view), Plan::default());
    view.mine.remove(&shard(3));
    assert_eq!(plan(&view).open, [shard(3)]);
}

/// Node 1 with shards that do so much each, node 2 with as many that do nothing.
fn uneven(loads: &[u64]) -> Cluster {
    let mut cluster = Cluster::new(2, 0);
    for (number, load) in (1..).zip(loads) {
        cluster.owners.insert(shard(number), Some(session(1)));
        cluster.loads.insert(shard(number), *load);
        cluster.owners.insert(shard(100 + number), Some(session(2)));
    }
    cluster
}

#[test]
fn of_nodes_with_as_many_shards_the_busy_one_gives_its_busiest_that_fits() {
    const MIB: u64 = 1 << 20;
    let cluster = uneven(&[8 * MIB, 3 * MIB, MIB]);
    assert_eq!(cluster.plan(session(1)).moves, [(shard(2), session(2))]);
    assert_eq!(cluster.plan(session(2)).moves, []);
    // Nothing fits: half of the difference is less than the one that does anything.
    let cluster = uneven(&[8 * MIB, 0, 0]);
    assert_eq!(cluster.plan(session(1)).moves, []);
    // Nothing to speak of, and nothing worth a move.
    assert_eq!(uneven(&[9_000, 7_000, 0]).plan(session(1)).moves, []);
    let close = uneven(&[2 * MIB, 2 * MIB]);
    let mut close_by = close.clone();
    close_by.loads.insert(shard(101), 3 * MIB);
    assert_eq!(close_by.plan(session(1)).moves, []);
    assert_eq!(close.plan(session(1)).moves.len(), 1);
}

#[test]
fn loads_that_are_not_known_move_nothing() {
    let cluster = uneven(&[8 << 20, 3 << 20, 1 << 20]);
    let mut view = cluster.view(session(1));
    view.nodes[1].load = u64::MAX;
    assert_eq!(plan(&view), Plan::default());
}

#[test]
fn who_opens_a_shard_changes_only_for_those_of_a_node_that_left() {
    let all: Vec<SessionId> = (1..=5).map(session).collect();
    let mut counts = BTreeMap::new();
    for number in 0..1000 {
        let with = chosen(shard(number), all.iter().copied()).unwrap();
        *counts.entry(with).or_insert(0) += 1;
        let rest = all.iter().copied().filter(|it| *it != session(3));
        let without = chosen(shard(number), rest).unwrap();
        assert!(with == session(3) || with == without, "{number}");
    }
    assert!(
        counts.values().all(|count| (140..260).contains(count)),
        "{counts:?}"
    );
    assert_eq!(chosen(shard(1), []), None);
}
