//! Breadth first through a world's states, and at random deep into them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::observer::{Goal, Violation};
use super::world::{Action, World};

/// How far a search goes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most steps from the start.
    pub depth: usize,
    /// Most states.
    pub states: usize,
}

impl Limits {
    /// Until no new state appears.
    pub const NONE: Self = Self {
        depth: usize::MAX,
        states: usize::MAX,
    };
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Report {
    /// States seen, each once.
    pub states: usize,
    /// Steps tried.
    pub steps: usize,
    /// The longest way from the start to a state, by the shortest path to it.
    pub depth: usize,
    /// Whether no new state appeared any more.
    pub is_complete: bool,
    /// How often each goal was reached.
    pub goals: BTreeMap<Goal, usize>,
    /// The broken invariant, and the steps to it in words.
    pub violation: Option<(Violation, Vec<String>)>,
}

impl Report {
    /// Whether every goal was reached.
    pub fn lacks(&self, goals: &[Goal]) -> Vec<Goal> {
        let missing = goals.iter().filter(|goal| !self.goals.contains_key(goal));
        missing.copied().collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.is_complete {
            "complete"
        } else {
            "cut off"
        };
        write!(
            f,
            "{} states, {} steps, depth {}, {how}",
            self.states, self.steps, self.depth
        )?;
        if let Some((violation, path)) = &self.violation {
            write!(f, "\nVIOLATION after {} steps: {violation}", path.len())?;
            for (number, step) in path.iter().enumerate() {
                write!(f, "\n  {:3}. {step}", number + 1)?;
            }
        }
        Ok(())
    }
}

/// States are known by hashes that are as random as can be: they need no second hashing.
#[derive(Debug, Default)]
struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks_exact(8) {
            let word = chunk.try_into().expect("eight bytes");
            self.0 ^= u64::from_le_bytes(word);
        }
    }
}

type Seen = HashSet<u128, BuildHasherDefault<Plain>>;

/// How a state was reached: from which, by the action at which place of its list.
#[derive(Debug, Clone, Copy)]
struct Parent {
    state: u32,
    action: u16,
}

/// Explores every state that can be reached, nearest first, until none is new, a limit is met, or one is wrong.
///
/// # Panics
///
/// Beyond four thousand million states, or 65,536 things that may happen next.
pub fn explore(start: &World, limits: Limits) -> Report {
    let mut seen = Seen::default();
    seen.insert(start.id());
    let mut parents = vec![Parent {
        state: 0,
        action: 0,
    }];
    let mut report = Report {
        states: 1,
        steps: 0,
        depth: 0,
        is_complete: true,
        goals: BTreeMap::new(),
        violation: None,
    };
    let mut level = vec![(0_u32, start.clone())];
    while !level.is_empty() {
        if report.depth >= limits.depth || report.states >= limits.states {
            report.is_complete = false;
            return report;
        }
        let mut next_level = Vec::new();
        for (index, world) in level {
            for (place, action) in world.actions().into_iter().enumerate() {
                let action_place = u16::try_from(place).expect("a state has few actions");
                report.steps += 1;
                match step(&world, action) {
                    Err(violation) => {
                        let mut path = path_to(start, &parents, index);
                        path.push(world.describe(action));
                        report.violation = Some((violation, path));
                        report.is_complete = false;
                        return report;
                    }
                    Ok((next, goals)) => {
                        for goal in goals {
                            *report.goals.entry(goal).or_default() += 1;
                        }
                        if seen.insert(next.id()) {
                            let number = u32::try_from(parents.len()).expect("few enough states");
                            parents.push(Parent {
                                state: index,
                                action: action_place,
                            });
                            next_level.push((number, next));
                        }
                    }
                }
            }
        }
        report.states = parents.len();
        report.depth += usize::from(!next_level.is_empty());
        level = next_level;
    }
    report
}

/// Takes a step. A machine that finds itself in an impossible state panics: that is a violation like any other.
fn step(world: &World, action: Action) -> Result<(World, Vec<Goal>), Violation> {
    let taken = catch_unwind(AssertUnwindSafe(|| world.step(action)));
    taken.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let word = panic.downcast_ref::<&str>().map(|word| (*word).to_owned());
        let what = text.or(word).unwrap_or_else(|| "a panic".to_owned());
        Err(Violation {
            rule: "panic",
            what,
        })
    })
}

/// The steps to a state, in words: they are taken again from the start.
fn path_to(start: &World, parents: &[Parent], state: u32) -> Vec<String> {
    let mut actions = Vec::new();
    let mut at = state;
    while at != 0 {
        let parent = parents[usize::try_from(at).expect("few enough states")];
        actions.push(parent.action);
        at = parent.state;
    }
    let mut world = start.clone();
    let mut path = Vec::new();
    for place in actions.into_iter().rev() {
        let action = world.actions()[usize::from(place)];
        path.push(world.describe(action));
        let taken = world.step(action);
        world = taken.expect("a step that was taken can be taken again").0;
    }
    path
}

/// Walks at random: `walks` times from the start until nothing can happen or `depth` steps are taken.
///
/// Reaches far into worlds that are too large to be explored. The same seed walks the same ways.
pub fn wander(start: &World, seed: u64, walks: usize, depth: usize) -> Report {
    let mut random = seed;
    let mut report = Report {
        states: 0,
        steps: 0,
        depth: 0,
        is_complete: false,
        goals: BTreeMap::new(),
        violation: None,
    };
    for _ in 0..walks {
        let mut world = start.clone();
        let mut path = Vec::new();
        for taken in 0..depth {
            let actions = world.actions();
            if actions.is_empty() {
                break;
            }
            // Misfortune now and then: else every walk is over before anything was acked.
            let plain: Vec<_> = actions.iter().filter(|action| action.is_plain()).collect();
            let action = if plain.is_empty() || pick(&mut random, 8) == 0 {
                actions[pick(&mut random, actions.len())]
            } else {
                *plain[pick(&mut random, plain.len())]
            };
            report.steps += 1;
            report.depth = report.depth.max(taken + 1);
            path.push((world.clone(), action));
            match step(&world, action) {
                Ok((next, goals)) => {
                    for goal in goals {
                        *report.goals.entry(goal).or_default() += 1;
                    }
                    world = next;
                }
                Err(violation) => {
                    let told = path.iter().map(|(world, action)| world.describe(*action));
                    report.violation = Some((violation, told.collect()));
                    return report;
                }
            }
        }
        report.states += path.len();
    }
    report
}

/// The next number below `below` of a splitmix64 sequence.
fn pick(random: &mut u64, below: usize) -> usize {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *random;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^= word >> 31;
    let below = u64::try_from(below).expect("lengths fit 64 bits");
    usize::try_from(word % below).expect("below a length")
}
