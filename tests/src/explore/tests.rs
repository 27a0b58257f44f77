use super::*;

#[test]
fn the_smallest_worlds_break_no_invariant_and_reach_every_goal() {
    for preset in all().into_iter().filter(|preset| preset.is_small) {
        let report = explore(&preset.world(), preset.limits(false));
        assert!(report.violation.is_none(), "{}: {report}", preset.name);
        assert!(report.is_complete, "{}: {report}", preset.name);
        assert_eq!(report.lacks(preset.goals), [], "{}: {report}", preset.name);
    }
}

#[test]
fn random_walks_through_large_worlds_break_no_invariant() {
    for name in ["patient", "hasty"] {
        let preset = named(name).unwrap();
        let report = wander(&preset.world(), 1, 100, 200);
        assert!(report.violation.is_none(), "{name}: {report}");
    }
}

#[test]
fn the_same_search_twice_sees_the_same_states() {
    let preset = named("hasty").unwrap();
    let limits = Limits {
        depth: 5,
        ..Limits::NONE
    };
    let twice = [(); 2].map(|()| explore(&preset.world(), limits));
    assert_eq!(twice[0].states, twice[1].states);
    assert_eq!(twice[0].goals, twice[1].goals);
}
