use std::time::Duration;

use types::Quorum;

use super::*;

/// A small cluster of a seed with this harm.
fn swarm(seed: u64, harms: &[Harm]) -> Swarm {
    Swarm {
        bookies: 3,
        servers: 2,
        quorum: Quorum::THREE_TWO,
        chaos: Duration::from_secs(4),
        gap: Duration::from_millis(800),
        harms: harms.to_vec(),
        gone: (None, None),
        ..Swarm::new(seed)
    }
}

fn short(seed: u64, harms: &[Harm]) -> Outcome {
    run(swarm(seed, harms), Detail::Logs)
}

#[test]
fn a_cluster_that_nobody_harms_stores_everything_and_comes_to_rest_at_once() {
    let outcome = short(1, &[]);
    assert_eq!(outcome.failure, None);
    let stats = &outcome.report.stats;
    assert!(stats.oks > 0 && stats.oks == stats.sends, "{stats:?}");
    assert_eq!(stats.faults, 0);
    assert!(outcome.rest < Duration::from_secs(5), "{:?}", outcome.rest);
}

#[test]
fn a_cluster_that_loses_power_everywhere_keeps_its_promises() {
    let outcome = short(2, &[Harm::Blackout]);
    assert_eq!(outcome.failure, None, "{:#?}", outcome.trace.recent);
    assert!(outcome.marks.count(Harm::Blackout.name()) > 0);
    assert!(outcome.report.stats.oks > 0);
}

#[test]
fn the_disk_that_is_emptied_is_that_of_one_bookie_once() {
    let outcome = short(3, &[Harm::Wipe]);
    assert_eq!(outcome.failure, None, "{:#?}", outcome.trace.recent);
    assert!(outcome.marks.count(Harm::Wipe.name()) <= 1);
}

#[test]
fn writers_whose_clients_die_come_back_and_store_nothing_twice() {
    for named in [true, false] {
        let swarm = Swarm {
            named,
            chaos: Duration::from_secs(8),
            gap: Duration::from_millis(300),
            rate: 20,
            writers: 2,
            ..swarm(6, &[Harm::ClientKill, Harm::ClientSilence])
        };
        let outcome = run(swarm, Detail::Logs);
        assert_eq!(outcome.failure, None, "{:#?}", outcome.trace.recent);
        let stats = &outcome.report.stats;
        let again = outcome.marks.count("message without an answer sent again");
        let stored = outcome.marks.count("message without an answer stored");
        assert_eq!(again + stored > 0, named, "{again} {stored}");
        // An unnamed writer never learns what became of what it had sent.
        assert!(named || stats.infos > 0, "{stats:?}");
    }
}

#[test]
fn drained_serving_nodes_give_their_topics_away() {
    let swarm = Swarm {
        chaos: Duration::from_secs(15),
        gap: Duration::from_millis(300),
        balance: Duration::from_millis(500),
        ..swarm(5, &[Harm::Drain])
    };
    let outcome = run(swarm, Detail::Logs);
    assert_eq!(outcome.failure, None, "{:#?}", outcome.trace.recent);
    assert!(
        outcome.marks.count("serving node drained") > 0,
        "{:?}",
        outcome.marks
    );
    assert!(
        outcome.marks.count("topic moved") > 0,
        "{:?}",
        outcome.marks
    );
}

#[test]
fn nodes_log_into_the_trace_with_their_machines_and_the_simulated_time() {
    let outcome = short(4, &[]);
    let serves = |line: &&String| line.contains("meta ") && line.contains("meta serves");
    let line = outcome.trace.lines.iter().find(serves);
    let line = line.unwrap_or_else(|| panic!("{:#?}", outcome.trace.lines));
    assert!(line.trim_start().starts_with("0.0"), "{line}");
    assert_eq!(outcome.marks.count("meta serves"), 1);
}

#[test]
fn a_seed_draws_the_same_cluster_each_time_and_another_one_another() {
    let draw = |seed| format!("{:?}", Swarm::new(seed));
    assert_eq!(draw(7), draw(7));
    assert_ne!(
        draw(7).replace("seed: 7", ""),
        draw(8).replace("seed: 8", "")
    );
}

#[test]
fn no_seed_loses_more_than_the_quorum_can_do_without() {
    for seed in 0..2_000 {
        let swarm = Swarm::new(seed);
        let (bookie, server) = swarm.gone;
        let lost = usize::from(bookie.is_some()) + usize::from(swarm.harms.contains(&Harm::Wipe));
        // One copy of those that were on disk before the ack is left, and enough to recover a ledger with.
        let (write, ack) = (swarm.quorum.write(), swarm.quorum.ack());
        assert!(lost < ack || lost == 0, "{swarm:?}");
        assert!(lost <= write - ack, "{swarm:?}");
        assert!(write <= swarm.bookies, "{swarm:?}");
        assert!(bookie.is_none() || swarm.bookies > swarm.quorum.write());
        assert!(server.is_none() || swarm.servers > 1);
    }
}

#[test]
fn what_must_be_seen_is_missing_until_it_was() {
    let mut marks = Marks::default();
    assert!(marks.missing().contains(&Harm::Kill.name()));
    marks.hit(Harm::Kill.name());
    assert!(!marks.missing().contains(&Harm::Kill.name()));
}
