//! The protocol read aloud: each file in `transcripts/` states a rule and plays it. A block is commands, a line
//! `----`, and what the owner did. `LEDGERLINE_BLESS=1` writes what it does now; review the difference.

mod meta;
mod runner;

use runner::check;

macro_rules! transcripts {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            let file = concat!(
                env!("CARGO_MANIFEST_DIR"), "/src/owner/transcripts/", stringify!($name), ".txt"
            );
            check(file);
        })*
    };
}

transcripts! {
    entries_are_confirmed_in_order_on_qa_bookies,
    a_successor_takes_adds_only_after_its_commit,
    nothing_moves_above_a_chosen_end_until_the_outcome_is_known,
    an_unknown_outcome_is_settled_by_repeating_the_command,
    a_conflict_at_a_moved_version_is_planned_again_at_the_lac_of_then,
    a_record_unchanged_proves_nothing,
    another_epoch_ends_the_owner,
    one_fenced_answer_ends_the_owner,
    recovery_goes_on_with_enough_answers_and_fences_every_read,
    recovery_ends_only_on_enough_authoritative_negatives,
    recovery_writes_back_until_qa_answered_this_write,
    recovery_learns_the_offset_from_the_lac_entry,
    both_tails_are_closed_in_one_transaction,
    a_straggler_is_left_behind_and_sealed_in_the_background,
    an_idle_ledger_waits_for_its_next_add,
    a_sealed_quorum_is_replaced_and_rewritten_in_order,
    fewer_than_qa_healthy_bookies_wait,
    fewer_than_qw_healthy_stay_on_the_open_ledger,
    a_roll_drains_then_closes_at_the_last_entry,
    a_broken_connection_is_resent_what_is_pending,
    an_idle_writer_sends_its_lac_alone,
    a_release_drains_closes_and_gives_up,
    a_retired_owner_stays_in_the_record_with_both_logs_closed,
    a_trim_drops_what_is_closed_when_it_is_asked,
    a_trim_waits_for_what_is_more_urgent,
    a_claim_is_repeated_until_it_is_answered,
    two_logs_share_one_command,
    an_operator_may_close_what_cannot_be_recovered,
    a_read_only_bookie_is_tried_again,
    a_straggler_is_needed_again_when_too_few_are_left,
    a_bookie_born_again_takes_no_more_of_the_ledger,
}
