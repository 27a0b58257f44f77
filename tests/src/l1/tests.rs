use super::*;

/// Seeds that run quickly also without optimisation.
const SEEDS: [u64; 4] = [3, 5, 12, 14];

fn traced(seed: u64) -> Outcome {
    let options = Options {
        trace: true,
        until: Some(20_000),
        ..Options::default()
    };
    run(Swarm::new(seed), options)
}

#[test]
fn a_handful_of_seeds_holds_every_promise() {
    for seed in SEEDS {
        let outcome = run(Swarm::new(seed), Options::default());
        if let Some(failure) = outcome.failure {
            panic!("seed {seed}: {failure}");
        }
        assert!(outcome.report.stats.oks > 0, "seed {seed} proves nothing");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let (one, two) = (traced(1), traced(1));
    assert_eq!(one.trace, two.trace);
    assert!(one.trace.len() > 1_000);
}

#[test]
fn every_harm_is_allowed_by_some_seed() {
    for harm in Harm::ALL {
        assert!(
            (0..100).any(|seed| Swarm::new(seed).allows(harm)),
            "{harm:?}"
        );
    }
}
