use bytes::Bytes;
use types::Payload;
use types::storage::Entry;

use super::*;

const LOG: LogId = LogId::new(17);

fn ledger(seq: u32) -> LedgerId {
    LedgerId::new(LOG, LedgerSeq::new(seq))
}

fn epoch(raw: u64) -> Epoch {
    Epoch::new(raw)
}

fn add(seq: u32, by: u64, kind: AddKind) -> Add {
    let payload = Payload::whole(Bytes::from_static(b"a"));
    Add {
        ledger: ledger(seq),
        created: Revision::new(20),
        epoch: epoch(by),
        lac: None,
        kind,
        entry: Entry::new(ledger(seq), EntryId::new(0), Offset::new(1), payload),
    }
}

fn write(seq: u32, by: u64) -> Add {
    add(seq, by, AddKind::Write)
}

fn newborn() -> Acceptor {
    Acceptor::new(Revision::new(10))
}

fn fenced(by: u64) -> AddDecision {
    AddDecision::Answer(AddResult::Fenced { by: epoch(by) })
}

fn sealed(reason: SealedReason) -> AddDecision {
    AddDecision::Answer(AddResult::Sealed(reason))
}

#[test]
fn a_write_of_the_fencing_epoch_or_a_higher_one_passes_and_a_lower_one_does_not() {
    let mut acceptor = newborn();
    assert_eq!(acceptor.fence(LOG, epoch(5)), FenceDecision::Journal);
    assert_eq!(acceptor.add(&write(0, 4), Held::Absent), fenced(5));
    assert_eq!(
        acceptor.add(&write(0, 5), Held::Absent),
        AddDecision::Append
    );
    assert_eq!(
        acceptor.add(&write(0, 6), Held::Absent),
        AddDecision::Append
    );
}

#[test]
fn a_fence_shuts_out_lower_epochs_before_it_is_durable() {
    let mut acceptor = newborn();
    acceptor.fence(LOG, epoch(5));
    assert_eq!(acceptor.durable_fence_of(LOG), None);
    assert_eq!(acceptor.add(&write(0, 4), Held::Absent), fenced(5));
    assert_eq!(
        acceptor.fence(LOG, epoch(4)),
        FenceDecision::Refuse { by: epoch(5) }
    );
}

#[test]
fn every_request_that_fences_waits_for_the_fence_to_be_durable() {
    let mut acceptor = newborn();
    assert_eq!(acceptor.fence(LOG, epoch(5)), FenceDecision::Journal);
    assert_eq!(acceptor.fence(LOG, epoch(5)), FenceDecision::Wait);
    acceptor.fence_durable(LOG, epoch(5));
    assert_eq!(acceptor.fence(LOG, epoch(5)), FenceDecision::Durable);
    assert_eq!(acceptor.fence(LOG, epoch(6)), FenceDecision::Journal);
    assert_eq!(acceptor.fence(LOG, epoch(6)), FenceDecision::Wait);
}

#[test]
fn a_fence_survives_restart_and_checkpoint_also_of_a_log_never_seen() {
    let mut replayed = newborn();
    replayed.replay_fence(LOG, epoch(5));
    let restored = Acceptor::restore(replayed.born(), replayed.facts(), replayed.deleted());
    for mut acceptor in [replayed, restored] {
        assert_eq!(acceptor.durable_fence_of(LOG), Some(epoch(5)));
        assert_eq!(acceptor.fence(LOG, epoch(5)), FenceDecision::Durable);
        assert_eq!(acceptor.add(&write(0, 4), Held::Absent), fenced(5));
    }
}

#[test]
fn an_add_to_a_ledger_with_a_successor_is_refused_also_to_recovery() {
    let mut acceptor = newborn();
    acceptor.add(&write(1, 3), Held::Absent);
    for kind in [AddKind::Write, AddKind::Recovery] {
        assert_eq!(
            acceptor.add(&add(0, 3, kind), Held::Absent),
            sealed(SealedReason::SuccessorSeen)
        );
    }
    let mut restarted = newborn();
    restarted.replay_add(ledger(1), AddKind::Write, None);
    assert_eq!(
        restarted.add(&write(0, 3), Held::Absent),
        sealed(SealedReason::SuccessorSeen)
    );
}

#[test]
fn only_recovery_and_repair_write_to_a_ledger_older_than_the_birth() {
    let mut acceptor = Acceptor::new(Revision::new(21));
    assert_eq!(
        acceptor.add(&write(0, 3), Held::Absent),
        sealed(SealedReason::OlderThanBirth)
    );
    for kind in [AddKind::Recovery, AddKind::Repair] {
        assert_eq!(
            acceptor.add(&add(0, 3, kind), Held::Absent),
            AddDecision::Append
        );
    }
    assert_eq!(
        acceptor.add(&write(0, 3), Held::Absent),
        sealed(SealedReason::OlderThanBirth),
        "for ever, also after others wrote to it"
    );
}

#[test]
fn repair_skips_epoch_sequence_and_birth_and_changes_nothing_for_others() {
    let mut acceptor = Acceptor::new(Revision::new(21));
    acceptor.fence(LOG, epoch(5));
    acceptor.add(&add(1, 5, AddKind::Recovery), Held::Absent);
    assert_eq!(
        acceptor.add(&add(0, 1, AddKind::Repair), Held::Absent),
        AddDecision::Append
    );
    let before = acceptor.clone();
    acceptor.add(&add(7, 9, AddKind::Repair), Held::Absent);
    assert_eq!(acceptor, before, "no successor was seen, no LAC moved");
}

#[test]
fn the_same_payload_again_waits_for_the_first_copy_to_be_durable() {
    let mut acceptor = newborn();
    let first = write(0, 3);
    let again = Add {
        epoch: epoch(4),
        lac: Some(EntryId::new(0)),
        ..first.clone()
    };
    let copy = Fingerprint::of(&first);
    assert_eq!(acceptor.add(&first, Held::Absent), AddDecision::Append);
    assert_eq!(acceptor.add(&again, Held::Visible(copy)), AddDecision::Wait);
    assert_eq!(
        acceptor.add(&again, Held::Durable(copy)),
        AddDecision::Answer(AddResult::Stored)
    );
}

#[test]
fn the_checks_come_before_the_comparison_with_what_is_held() {
    let mut acceptor = newborn();
    let copy = Fingerprint::of(&write(0, 3));
    acceptor.fence(LOG, epoch(5));
    assert_eq!(acceptor.add(&write(0, 3), Held::Durable(copy)), fenced(5));
}

#[test]
fn another_payload_for_the_same_number_is_refused() {
    let mut acceptor = newborn();
    let other = Fingerprint {
        crc: Crc32c::new(1),
        ..Fingerprint::of(&write(0, 3))
    };
    for held in [Held::Visible(other), Held::Durable(other)] {
        assert_eq!(
            acceptor.add(&write(0, 3), held),
            AddDecision::Answer(AddResult::Mismatch)
        );
    }
}

#[test]
fn an_unreadable_copy_is_written_again() {
    assert_eq!(
        newborn().add(&write(0, 3), Held::Unreadable),
        AddDecision::Append
    );
}

#[test]
fn never_had_is_said_only_of_ledgers_younger_than_the_birth_with_an_intact_index() {
    let acceptor = newborn();
    let absent = |created, intact| acceptor.absent(ledger(0), Revision::new(created), intact);
    assert_eq!(absent(11, true), Missing::NeverHad);
    assert_eq!(absent(11, false), Missing::Unknown);
    assert_eq!(absent(9, true), Missing::Unknown);
}

#[test]
fn a_dropped_ledger_is_refused_for_ever_and_never_called_never_had() {
    let mut trimmed = newborn();
    assert!(trimmed.trim(LOG, LedgerSeq::new(3)), "news");
    assert!(!trimmed.trim(LOG, LedgerSeq::new(2)), "never back");
    let mut deleted = newborn();
    deleted.delete(LOG);
    for mut acceptor in [trimmed, deleted] {
        for kind in [AddKind::Write, AddKind::Recovery, AddKind::Repair] {
            assert_eq!(
                acceptor.add(&add(2, 9, kind), Held::Absent),
                sealed(SealedReason::Dropped)
            );
        }
        assert_eq!(
            acceptor.absent(ledger(2), Revision::new(20), true),
            Missing::Unknown
        );
        let restored = Acceptor::restore(acceptor.born(), acceptor.facts(), acceptor.deleted());
        assert!(restored.is_dropped(ledger(2)));
    }
}

#[test]
fn the_lac_only_grows_is_of_the_newest_ledger_and_stops_at_a_fence() {
    let mut acceptor = newborn();
    let set = |seq, by, lac| SetLac {
        ledger: ledger(seq),
        created: Revision::new(20),
        epoch: epoch(by),
        lac: EntryId::new(lac),
    };
    acceptor.add(
        &Add {
            lac: Some(EntryId::new(4)),
            ..write(0, 3)
        },
        Held::Absent,
    );
    acceptor.set_lac(&set(0, 3, 2));
    assert_eq!(acceptor.lac(ledger(0)), Some(EntryId::new(4)));
    acceptor.set_lac(&set(0, 3, 6));
    assert_eq!(
        acceptor.lac_answer(ledger(0)),
        LacResult::Lac(Some(EntryId::new(6)))
    );
    acceptor.fence(LOG, epoch(5));
    acceptor.set_lac(&set(0, 3, 9));
    assert_eq!(acceptor.lac(ledger(0)), Some(EntryId::new(6)));
    assert_eq!(acceptor.lac(ledger(1)), None);
}
