//! What the producer's machine promises, claim by claim.

use super::*;

const LIMITS: Limits = Limits {
    batch_bytes: 10,
    batch_messages: 100,
    in_flight: 3,
};

fn add(core: &mut Core<u64>, encoded: &[u8], count: u32, waiter: u64) {
    place(core, encoded, count, waiter);
}

/// Takes messages in, which cost a hundred times their bytes. Who tells of them, and their place in the batch.
fn place(core: &mut Core<u64>, encoded: &[u8], count: u32, waiter: u64) -> (u64, u32) {
    let size = Size {
        bytes: encoded.len(),
        count,
        cost: u32::try_from(encoded.len() * 100).unwrap(),
    };
    let waiter = || waiter;
    core.add(size, waiter, |batch, waiter, first| {
        batch.extend_from_slice(encoded);
        (*waiter, first)
    })
}

fn sent(core: &mut Core<u64>) -> Vec<(u64, usize)> {
    std::iter::from_fn(|| core.take())
        .map(|out| (out.first_sequence, out.body.len()))
        .collect()
}

fn stored(first: u64) -> Heard {
    let place = Place {
        first_offset: Some(100 + first),
        duplicate: false,
    };
    Heard {
        first_sequence: first,
        count: 0,
        outcome: Ok(place),
    }
}

fn refused(first: u64, reason: Reason) -> Heard {
    Heard {
        first_sequence: first,
        count: 0,
        outcome: Err(Problem::new(reason, "no")),
    }
}

fn opened() -> Core<u64> {
    let mut core = Core::new(LIMITS);
    core.opened(None, Credits::UNLIMITED).unwrap();
    core
}

#[test]
fn what_waits_gathers_while_a_batch_is_in_flight() {
    let mut core = opened();
    add(&mut core, b"aaa", 1, 1);
    assert_eq!(sent(&mut core), [(0, 3)]);
    add(&mut core, b"bbb", 1, 2);
    add(&mut core, b"ccc", 1, 3);
    assert_eq!(sent(&mut core), []);
    let mut settled = Vec::new();
    assert_eq!(core.heard(stored(0), &mut settled), After::GoOn);
    assert_eq!(settled[0].waiting.waiter, 1);
    assert_eq!(sent(&mut core), [(1, 6)]);
}

#[test]
fn full_batches_do_not_wait_until_so_many_are_in_flight() {
    let mut core = opened();
    for waiter in 0..5 {
        add(&mut core, &[0; 10], 1, waiter);
    }
    assert_eq!(sent(&mut core), [(0, 10), (1, 10), (2, 10)]);
    core.heard(stored(0), &mut Vec::new());
    assert_eq!(sent(&mut core), [(3, 10)]);
}

#[test]
fn callers_of_one_batch_share_its_waiter_and_each_learns_where_its_messages_are() {
    let mut core = opened();
    assert_eq!(place(&mut core, b"a", 1, 0), (0, 0));
    sent(&mut core);
    assert_eq!(place(&mut core, b"bb", 2, 1), (1, 0));
    assert_eq!(place(&mut core, b"ccc", 3, 2), (1, 2));
    // It fills the batch, which is closed with it.
    assert_eq!(place(&mut core, b"ddddd", 1, 3), (1, 5));
    // It would fill it over.
    assert_eq!(place(&mut core, b"eeeeee", 1, 4), (4, 0));
    assert_eq!(place(&mut core, b"fffff", 1, 5), (5, 0));
}

#[test]
fn a_batch_is_settled_once_with_the_number_of_its_callers_and_what_they_cost() {
    let mut core = opened();
    add(&mut core, b"a", 1, 0);
    sent(&mut core);
    add(&mut core, b"bb", 2, 1);
    add(&mut core, b"ccc", 3, 2);
    let mut settled = Vec::new();
    core.heard(stored(0), &mut settled);
    sent(&mut core);
    core.heard(stored(1), &mut settled);
    let waiting: Vec<_> = settled.into_iter().map(|s| s.waiting).collect();
    let told = |waiter, callers, cost| Waiting {
        waiter,
        callers,
        cost,
    };
    assert_eq!(waiting, [told(0, 1, 100), told(1, 2, 500)]);
}

#[test]
fn after_a_break_the_same_bytes_go_out_under_the_same_numbers() {
    let mut core = opened();
    add(&mut core, &[1; 10], 2, 1);
    add(&mut core, &[2; 10], 1, 2);
    let before: Vec<_> = std::iter::from_fn(|| core.take()).collect();
    core.opened(Some(1), Credits::UNLIMITED).unwrap();
    let after: Vec<_> = std::iter::from_fn(|| core.take()).collect();
    assert_eq!(before, after);
}

#[test]
fn numbering_goes_on_after_what_the_server_has_of_the_name() {
    let mut core = Core::new(LIMITS);
    core.opened(Some(41), Credits::UNLIMITED).unwrap();
    add(&mut core, b"a", 1, 1);
    assert_eq!(sent(&mut core), [(42, 1)]);
}

#[test]
fn a_passing_refusal_repeats_everything_from_there_in_order() {
    let mut core = opened();
    for waiter in 0..3 {
        add(&mut core, &[0; 10], 1, waiter);
    }
    sent(&mut core);
    let mut settled = Vec::new();
    assert_eq!(
        core.heard(refused(0, Reason::Overloaded), &mut settled),
        After::GoOn
    );
    assert_eq!(
        core.heard(refused(1, Reason::SequenceOutOfOrder), &mut settled),
        After::GoOn
    );
    assert_eq!(sent(&mut core), [], "held until all refusals came");
    assert_eq!(
        core.heard(refused(2, Reason::SequenceOutOfOrder), &mut settled),
        After::BackOff
    );
    assert_eq!(sent(&mut core), [], "held until the pause is over");
    core.resume();
    assert_eq!(sent(&mut core), [(0, 10), (1, 10), (2, 10)]);
    assert!(settled.is_empty());
}

#[test]
fn a_final_refusal_fails_its_batch_alone_and_frees_its_numbers() {
    let mut core = opened();
    add(&mut core, &[0; 10], 5, 0);
    add(&mut core, &[1; 10], 2, 1);
    add(&mut core, &[2; 10], 2, 2);
    assert_eq!(sent(&mut core), [(0, 10), (5, 10), (7, 10)]);
    let mut settled = Vec::new();
    core.heard(refused(0, Reason::MessageTooLarge), &mut settled);
    core.heard(refused(5, Reason::SequenceOutOfOrder), &mut settled);
    assert_eq!(
        core.heard(refused(7, Reason::SequenceOutOfOrder), &mut settled),
        After::GoOn
    );
    assert_eq!(settled.len(), 1);
    assert!(settled[0].outcome.is_err());
    assert_eq!(sent(&mut core), [(0, 10), (2, 10)]);
    add(&mut core, &[3; 10], 1, 3);
    assert_eq!(sent(&mut core), [(4, 10)]);
}

#[test]
fn a_break_amid_refusals_still_frees_the_numbers() {
    let mut core = opened();
    add(&mut core, &[0; 10], 5, 0);
    add(&mut core, &[1; 10], 2, 1);
    sent(&mut core);
    core.heard(refused(0, Reason::MessageTooLarge), &mut Vec::new());
    core.opened(None, Credits::UNLIMITED).unwrap();
    assert_eq!(sent(&mut core), [(0, 10)]);
}

#[test]
fn disagreement_about_what_was_sent_ends_the_producer() {
    let mut core = opened();
    assert!(matches!(
        core.heard(stored(0), &mut Vec::new()),
        After::Over(_)
    ));
    add(&mut core, b"a", 1, 1);
    sent(&mut core);
    assert!(matches!(
        core.heard(stored(7), &mut Vec::new()),
        After::Over(_)
    ));
    let gap = refused(0, Reason::SequenceOutOfOrder);
    assert!(matches!(core.heard(gap, &mut Vec::new()), After::Over(_)));
}

#[test]
fn giving_up_tells_what_may_be_stored_from_what_is_not() {
    let mut core = opened();
    add(&mut core, b"a", 1, 1);
    sent(&mut core);
    add(&mut core, b"b", 1, 2);
    let mut settled = Vec::new();
    core.give_up(&Problem::new(Reason::ProducerFenced, "newer"), &mut settled);
    let reasons: Vec<_> = settled
        .iter()
        .map(|s| s.outcome.as_ref().map_err(|problem| problem.reason))
        .collect();
    assert_eq!(
        reasons,
        [Err(Reason::OutcomeUnknown), Err(Reason::ProducerFenced)]
    );
    assert!(core.is_idle());
}

#[test]
fn one_receipt_may_be_for_several_batches() {
    let mut core = opened();
    for waiter in 0..3 {
        add(&mut core, &[0; 10], 2, waiter);
    }
    sent(&mut core);
    let mut settled = Vec::new();
    let receipt = Heard {
        count: 6,
        ..stored(0)
    };
    assert_eq!(core.heard(receipt, &mut settled), After::GoOn);
    let places = settled
        .iter()
        .map(|s| s.outcome.as_ref().unwrap().first_offset.unwrap());
    assert_eq!(places.collect::<Vec<_>>(), [100, 102, 104]);
    assert!(core.is_idle());
}

#[test]
fn a_receipt_for_part_of_a_batch_ends_the_producer() {
    let mut core = opened();
    add(&mut core, &[0; 10], 5, 0);
    sent(&mut core);
    let receipt = Heard {
        count: 3,
        ..stored(0)
    };
    assert!(matches!(
        core.heard(receipt, &mut Vec::new()),
        After::Over(_)
    ));
}

#[test]
fn no_more_is_out_than_the_server_grants_but_one_batch_always_may() {
    let mut core = Core::new(LIMITS);
    core.opened(
        None,
        Credits {
            messages: 5,
            bytes: 1000,
        },
    )
    .unwrap();
    for waiter in 0..3 {
        add(&mut core, &[0; 10], 3, waiter);
    }
    assert_eq!(sent(&mut core), [(0, 10)]);
    core.heard(stored(0), &mut Vec::new());
    assert_eq!(sent(&mut core), [(3, 10)]);
    core.opened(
        Some(2),
        Credits {
            messages: 100,
            bytes: 1,
        },
    )
    .unwrap();
    assert_eq!(
        sent(&mut core),
        [(3, 10)],
        "one that is too large still goes"
    );
}

#[test]
fn what_the_server_has_is_not_lost_to_a_refusal_of_its_repeat() {
    let mut core = opened();
    add(&mut core, &[0; 10], 2, 0);
    add(&mut core, &[1; 10], 2, 1);
    sent(&mut core);
    core.opened(Some(1), Credits::UNLIMITED).unwrap();
    assert_eq!(sent(&mut core), [(0, 10), (2, 10)]);
    let mut settled = Vec::new();
    let after = core.heard(refused(0, Reason::MessageTooLarge), &mut settled);
    assert_eq!(after, After::GoOn);
    let place = Place {
        first_offset: None,
        duplicate: true,
    };
    assert_eq!(
        settled[0].outcome,
        Ok(place),
        "it is stored, and nothing takes its numbers"
    );
    core.heard(stored(2), &mut settled);
    assert!(core.is_idle());
}

#[test]
fn a_server_that_forgot_what_it_confirmed_ends_the_producer() {
    let mut core = opened();
    add(&mut core, &[0; 10], 2, 0);
    sent(&mut core);
    core.heard(stored(0), &mut Vec::new());
    let problem = core.opened(None, Credits::UNLIMITED).unwrap_err();
    assert_eq!(problem.reason, Reason::SequenceOutOfOrder);
}

#[test]
fn messages_under_this_name_that_it_never_sent_end_the_producer() {
    let mut core = opened();
    add(&mut core, &[0; 10], 2, 0);
    sent(&mut core);
    let problem = core.opened(Some(7), Credits::UNLIMITED).unwrap_err();
    assert_eq!(problem.reason, Reason::ProducerFenced);
}
