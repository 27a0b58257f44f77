//! Seeds of a simulator: those on record, and many at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The seeds of a list, each the first word of its line, then the first `count` numbers. A line without a seed, such as a
/// comment, is passed over.
pub fn recorded_and_first(list: &str, count: u64) -> Vec<u64> {
    let recorded = list
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok());
    recorded.chain(0..count).collect()
}

/// Does `work` for each seed, in their order and `jobs` at a time, until `is_over`.
pub fn in_parallel(
    seeds: &[u64],
    jobs: u64,
    is_over: impl Fn() -> bool + Sync,
    work: impl Fn(u64) + Sync,
) {
    let next = AtomicUsize::new(0);
    let go_on = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            if is_over() {
                return;
            }
            work(*seed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(go_on);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn the_seeds_on_record_come_first_and_comments_are_none() {
        let list = "# what failed\n7 a reason\n\n12\n";
        assert_eq!(recorded_and_first(list, 2), [7, 12, 0, 1]);
    }

    #[test]
    fn each_seed_is_taken_once_and_none_when_it_is_over() {
        let seeds: Vec<u64> = (0..100).collect();
        let taken = Mutex::new(Vec::new());
        in_parallel(&seeds, 4, || false, |seed| taken.lock().unwrap().push(seed));
        let mut taken = taken.into_inner().unwrap();
        taken.sort_unstable();
        assert_eq!(taken, seeds);
        in_parallel(&seeds, 2, || true, |seed| panic!("{seed} was taken"));
    }
}
