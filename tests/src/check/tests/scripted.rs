//! Each check with the smallest history that must, and mostly one that must not, set it off.

use std::time::Duration;

use crate::check::{Check, Limits, Report, Verdict, judge_bytes};

const META: &str = r#"{"e":"meta","v":1,"g":{"dedup":1,"producer_order":1,"linearizable":1,"durable_ack":1,"dense":1,"shared_clock":1}}"#;
const NO_PROMISE: &str = r#"{"e":"meta","v":1,"g":{}}"#;

fn judge(lines: &[String]) -> Report {
    let mut text = lines.join("\n");
    text.push('\n');
    judge_bytes(text.as_bytes(), Limits::default())
}

/// Judges lines between the promises and the end.
fn found(lines: &[String]) -> Vec<Check> {
    let report = judge(&[&[META.to_owned()], lines, &[end()]].concat());
    report.violations.into_keys().collect()
}

fn end() -> String {
    r#"{"e":"end"}"#.to_owned()
}

fn send(w: &str, n: u64, t: u64) -> String {
    format!(r#"{{"e":"send","t":{t},"w":"{w}","p":"p","n":{n},"h":{n}}}"#)
}

fn ok(w: &str, n: u64, t: u64, o: u64) -> String {
    format!(r#"{{"e":"ok","t":{t},"w":"{w}","p":"p","n":{n},"o":{o}}}"#)
}

fn outcome(e: &str, w: &str, n: u64, t: u64) -> String {
    format!(r#"{{"e":"{e}","t":{t},"w":"{w}","p":"p","n":{n}}}"#)
}

/// Sent and stored at the offset of its number, from time 10 n.
fn stored(n: u64) -> Vec<String> {
    vec![send("w", n, 10 * n), ok("w", n, 10 * n + 5, n)]
}

fn stored_upto(count: u64) -> Vec<String> {
    (0..count).flat_map(stored).collect()
}

fn sub(ty: &str, from: &str) -> String {
    format!(r#"{{"e":"sub","t0":0,"t":1,"sub":"s","p":"p","ty":"{ty}","from":{from}}}"#)
}

fn open(c: &str, t: u64) -> String {
    format!(r#"{{"e":"open","t":{t},"sub":"s","c":"{c}"}}"#)
}

fn close(c: &str) -> String {
    format!(r#"{{"e":"close","t":0,"sub":"s","c":"{c}"}}"#)
}

fn recv(c: &str, t: u64, items: &str) -> String {
    format!(r#"{{"e":"recv","t":{t},"sub":"s","c":"{c}","p":"p","ms":[{items}]}}"#)
}

/// The delivery of number `n` of writer w at the offset of its number.
fn item(n: u64) -> String {
    format!(r#"["w",{n},{n},0,{n}]"#)
}

fn got(c: &str, t: u64, numbers: &[u64]) -> String {
    let items: Vec<String> = numbers.iter().map(|&n| item(n)).collect();
    recv(c, t, &items.join(","))
}

fn again(c: &str, t: u64, n: u64) -> String {
    recv(c, t, &format!(r#"["w",{n},{n},1,{n}]"#))
}

fn acks(e: &str, c: &str, t: u64, what: &str) -> String {
    format!(r#"{{"e":"{e}","t":{t},"sub":"s","c":"{c}","p":"p",{what}}}"#)
}

fn drained() -> String {
    r#"{"e":"drained","sub":"s","p":"p"}"#.to_owned()
}

fn tail(t0: u64, t: u64, o: u64) -> String {
    format!(r#"{{"e":"tail","t0":{t0},"t":{t},"p":"p","o":{o}}}"#)
}

/// Three stored messages and a subscription that got `numbers` in one answer.
fn three(ty: &str, numbers: &[u64]) -> Vec<String> {
    let mut lines = vec![sub(ty, r#""earliest""#), open("c", 2)];
    lines.extend(stored_upto(3));
    lines.push(got("c", 100, numbers));
    lines
}

fn with(mut lines: Vec<String>, more: &[String]) -> Vec<String> {
    lines.extend_from_slice(more);
    lines
}

#[test]
fn a_whole_correct_history_is_valid() {
    let lines = with(three("exclusive", &[0, 1, 2]), &[drained()]);
    let report = judge(&[&[META.to_owned()], &lines[..], &[end()]].concat());
    assert_eq!(report.verdict, Verdict::Valid, "{report}");
    assert_eq!(report.stats.oks, 3);
    assert_eq!(report.verdict.exit_code(), 0);
}

#[test]
fn an_acked_message_that_a_drained_subscription_never_got_is_lost() {
    let lines = with(three("shared", &[0, 2]), &[drained()]);
    assert_eq!(found(&lines), [Check::LostAcked]);
}

#[test]
fn a_deleted_subscription_need_not_be_drained_and_others_must_be() {
    let unsub = |sub: &str| format!(r#"{{"e":"unsub","sub":"{sub}","p":"p"}}"#);
    let deleted = found(&with(three("shared", &[0, 1]), &[unsub("s")]));
    assert!(!deleted.contains(&Check::Undrained), "{deleted:?}");
    let other = found(&with(three("shared", &[0, 1]), &[unsub("other")]));
    assert!(other.contains(&Check::Undrained), "{other:?}");
}

#[test]
fn an_ordered_subscription_that_went_past_a_message_lost_it_even_undrained() {
    let lines = three("exclusive", &[0, 2]);
    let checks = found(&lines);
    assert_eq!(checks, [Check::LostAcked, Check::IntSkip, Check::Undrained]);
}

#[test]
fn an_acked_message_of_unknown_place_that_nobody_got_is_lost() {
    let lines = [
        sub("shared", r#""earliest""#),
        send("w", 0, 1),
        outcome("ok", "w", 0, 2),
        drained(),
    ];
    assert_eq!(found(&lines), [Check::LostAcked]);
}

#[test]
fn a_message_that_only_others_saw_is_lost_though_never_acked() {
    let lines = [
        sub("shared", r#""earliest""#),
        r#"{"e":"sub","t0":0,"t":1,"sub":"other","p":"p","ty":"shared","from":"earliest"}"#
            .to_owned(),
        send("w", 0, 1),
        outcome("info", "w", 0, 2),
        r#"{"e":"open","t":1,"sub":"other","c":"c"}"#.to_owned(),
        r#"{"e":"recv","t":9,"sub":"other","c":"c","p":"p","w":"w","n":0,"o":0,"h":0}"#.to_owned(),
        drained(),
        r#"{"e":"drained","sub":"other","p":"p"}"#.to_owned(),
    ];
    assert_eq!(found(&lines), [Check::LostVisible]);
}

#[test]
fn a_subscription_is_entitled_only_from_where_it_starts() {
    for (from, numbers) in [("1", &[1, 2][..]), ("\"latest\"", &[1, 2])] {
        let mut lines = vec![sub("shared", from), open("c", 2)];
        lines.extend(stored_upto(3));
        lines.extend([got("c", 100, numbers), drained()]);
        assert_eq!(found(&lines), [], "{from}");
    }
}

#[test]
fn what_is_trimmed_skipped_by_a_seek_or_filtered_out_is_excused() {
    let trim = r#"{"e":"trim","p":"p","o":1}"#.to_owned();
    let seek = r#"{"e":"seek","t0":50,"t":60,"sub":"s","p":"p","o":1}"#.to_owned();
    for excuse in [trim, seek] {
        let lines = with(three("exclusive", &[1, 2]), &[excuse, drained()]);
        assert_eq!(found(&lines), []);
    }
    let mut lines = three("exclusive", &[0, 2]);
    lines.retain(|line| !line.contains(r#""send","t":10"#));
    lines.insert(
        2,
        r#"{"e":"send","t":10,"w":"w","p":"p","n":1,"x":["s"]}"#.to_owned(),
    );
    lines.push(drained());
    assert_eq!(found(&lines), []);
}

#[test]
fn an_unacked_message_of_a_consumer_that_is_gone_must_come_again() {
    let gone = with(three("shared", &[0, 1, 2]), &[close("c"), open("d", 200)]);
    let acked = acks("ack", "c", 101, r#""ms":[["w",0],["w",1]]"#);
    let lost = with(gone.clone(), &[acked.clone(), drained()]);
    assert_eq!(found(&lost), [Check::LostUnacked]);
    let came = with(gone, &[acked, again("d", 210, 2), drained()]);
    assert_eq!(found(&came), []);
    let still_held = with(three("shared", &[0, 1, 2]), &[drained(), close("c")]);
    assert_eq!(found(&still_held), []);
}

#[test]
fn a_message_nobody_sent_is_a_phantom() {
    let items = r#"["w",77,9,0,1],["x",0,10,0,1]"#;
    let lines = with(
        three("shared", &[0, 1, 2]),
        &[recv("c", 110, items), drained()],
    );
    assert_eq!(found(&lines), [Check::Phantom]);
}

#[test]
fn a_message_whose_every_attempt_was_refused_must_not_appear() {
    let send_twice = [
        send("w", 3, 40),
        outcome("fail", "w", 3, 41),
        send("w", 3, 42),
        outcome("fail", "w", 3, 43),
    ];
    let lines = with(three("shared", &[0, 1, 2]), &send_twice);
    let lines = with(lines, &[got("c", 110, &[3]), drained()]);
    assert_eq!(found(&lines), [Check::AbortedRead]);
    let unknown: Vec<String> = lines
        .iter()
        .map(|line| line.replace(r#""fail","t":41"#, r#""info","t":41"#))
        .collect();
    assert_eq!(found(&unknown), []);
}

#[test]
fn other_content_and_unreadable_content_are_corrupt() {
    for item in [r#"["w",0,0,0,999]"#, r#"["",0,0,0,999]"#] {
        let first = recv("c", 99, item);
        let more = if item.contains("\"w\"") {
            &[1, 2][..]
        } else {
            &[0, 1, 2]
        };
        let lines = with(three("shared", more), &[first, drained()]);
        assert_eq!(found(&lines), [Check::Corrupt]);
    }
}

#[test]
fn a_message_of_another_partition_is_misrouted() {
    let astray = recv("c", 110, r#"["w",0,7,0,0,"q"]"#);
    let lines = with(three("shared", &[0, 1, 2]), &[astray, drained()]);
    assert_eq!(found(&lines), [Check::Misrouted]);
}

#[test]
fn two_messages_at_one_offset_are_inconsistent() {
    let lines = with(
        three("shared", &[0, 1, 2]),
        &[
            send("v", 0, 21),
            ok("v", 0, 50, 2),
            recv("c", 110, r#"["v",0,2,0,0]"#),
            drained(),
        ],
    );
    assert_eq!(found(&lines), [Check::InconsistentOffset]);
}

#[test]
fn one_message_at_two_offsets_is_a_duplicate_if_that_was_promised_against() {
    let copy = recv("c", 110, r#"["w",2,3,0,2]"#);
    let seen = with(three("shared", &[0, 1, 2]), &[copy, drained()]);
    assert_eq!(found(&seen), [Check::Duplicate]);
    let acked_twice = [
        sub("shared", "7"),
        send("w", 0, 1),
        ok("w", 0, 2, 0),
        send("w", 0, 3),
        ok("w", 0, 4, 1),
        drained(),
    ];
    assert_eq!(found(&acked_twice), [Check::Duplicate]);
    let report = judge(&[&[NO_PROMISE.to_owned()], &seen[..], &[end()]].concat());
    assert_eq!(report.verdict, Verdict::Valid, "{report}");
    assert_eq!(report.allowed[&Check::Duplicate], 1);
}

#[test]
fn an_ack_that_names_another_offset_than_consumers_see_is_a_mismatch() {
    let mut lines = three("shared", &[0, 1, 2]);
    for line in &mut lines {
        *line = line.replace(r#""n":2,"o":2"#, r#""n":2,"o":3"#);
    }
    lines.push(drained());
    assert_eq!(found(&lines), [Check::AckOffsetMismatch]);
}

#[test]
fn one_writers_messages_lie_in_order() {
    let lines = [
        sub("shared", r#""earliest""#),
        open("c", 2),
        send("w", 0, 10),
        send("w", 1, 11),
        ok("w", 1, 12, 0),
        ok("w", 0, 13, 1),
        recv("c", 20, r#"["w",1,0,0,1],["w",0,1,0,0]"#),
        drained(),
    ];
    assert_eq!(found(&lines), [Check::ProducerOrder]);
}

#[test]
fn what_was_acked_before_lies_before() {
    let lines = [
        sub("shared", r#""earliest""#),
        open("c", 2),
        send("w", 0, 10),
        ok("w", 0, 12, 1),
        send("v", 0, 13),
        ok("v", 0, 14, 0),
        recv("c", 20, r#"["v",0,0,0,0],["w",0,1,0,0]"#),
        drained(),
    ];
    assert_eq!(found(&lines), [Check::RealtimeOrder]);
    let overlapping: Vec<String> = lines
        .iter()
        .map(|line| line.replace(r#""send","t":13"#, r#""send","t":12"#))
        .collect();
    assert_eq!(found(&overlapping), []);
}

#[test]
fn the_epoch_never_falls_along_the_log() {
    let with_epochs = |epochs: [u64; 3]| {
        let mut lines = three("shared", &[0, 1, 2]);
        for (n, epoch) in epochs.iter().enumerate() {
            for line in &mut lines {
                let named = format!(r#""n":{n},"o":{n}}}"#);
                *line = line.replace(&named, &format!(r#""n":{n},"o":{n},"ep":{epoch}}}"#));
            }
        }
        lines.push(drained());
        found(&lines)
    };
    assert_eq!(with_epochs([1, 1, 4]), []);
    assert_eq!(with_epochs([1, 4, 3]), [Check::EpochRegression]);
}

#[test]
fn an_offset_without_a_message_is_a_gap_unless_an_unknown_outcome_may_lie_there() {
    let mut lines = vec![sub("shared", r#""earliest""#), open("c", 2)];
    lines.extend([send("w", 0, 1), ok("w", 0, 2, 0)]);
    lines.extend([send("w", 2, 3), ok("w", 2, 4, 2)]);
    lines.push(got("c", 100, &[0, 2]));
    assert_eq!(
        found(&with(lines.clone(), &[drained()])),
        [Check::OffsetGap]
    );
    let unknown = [send("v", 0, 1), outcome("info", "v", 0, 2)];
    let lines = with(lines, &unknown);
    assert_eq!(found(&lines), [Check::Undrained]);
    // A subscription that read everything would have seen it.
    assert_eq!(found(&with(lines, &[drained()])), [Check::OffsetGap]);
}

#[test]
fn nothing_is_received_before_it_is_sent() {
    let mut lines = three("shared", &[0, 1]);
    lines.extend([got("c", 19, &[2]), drained()]);
    assert_eq!(found(&lines), [Check::TimeTravel]);
}

#[test]
fn an_ordered_session_never_goes_back() {
    let across = with(
        three("exclusive", &[0, 1, 2]),
        &[got("c", 110, &[1]), drained()],
    );
    assert_eq!(found(&across), [Check::Nonmonotonic]);
    let inside = with(three("exclusive", &[0, 1, 2, 0]), &[drained()]);
    assert_eq!(found(&inside), [Check::IntNonmonotonic]);
    let twice = with(three("exclusive", &[0, 1, 2, 2]), &[drained()]);
    assert_eq!(found(&twice), [Check::DupInSession]);
    let told = with(
        three("exclusive", &[0, 1, 2]),
        &[again("c", 110, 1), drained()],
    );
    assert_eq!(found(&told), []);
    let new_session = [
        close("c"),
        open("c", 105),
        got("c", 110, &[1, 2]),
        drained(),
    ];
    let restarted = with(three("exclusive", &[0, 1, 2]), &new_session);
    // Message 0 of the session that is over was never acked.
    assert_eq!(found(&restarted), [Check::LostUnacked]);
    let moved = [
        r#"{"e":"seek","t0":105,"t":106,"sub":"s","p":"p","o":1}"#.to_owned(),
        got("c", 110, &[1, 2]),
        drained(),
    ];
    assert_eq!(found(&with(three("exclusive", &[0, 1, 2]), &moved)), []);
}

#[test]
fn an_ordered_session_leaves_nothing_out() {
    let late = [again("c", 120, 1), drained()];
    let inside = with(three("exclusive", &[0, 2]), &late);
    assert_eq!(found(&inside), [Check::IntSkip]);
    let across = with(three("exclusive", &[0]), &[got("c", 110, &[2])]);
    assert_eq!(found(&with(across.clone(), &late)), [Check::Skip]);
    for reason in ["ack", "nack"] {
        let excuse = acks(reason, "c", 105, r#""ms":[["w",1]]"#);
        let mut lines = across.clone();
        lines.insert(lines.len() - 1, excuse);
        assert_eq!(found(&with(lines, &late)), [], "{reason}");
    }
    let mut lines = across;
    lines.insert(lines.len() - 1, acks("ack", "c", 105, r#""cu":2"#));
    assert_eq!(found(&with(lines, &late)), []);
}

#[test]
fn a_key_comes_in_order_on_a_key_shared_subscription() {
    let keyed = |order: &[u64]| {
        let mut lines = three("key_shared", &[]);
        for line in &mut lines {
            *line = line.replace(r#","h":"#, r#","k":"key","h":"#);
        }
        for (step, &n) in (0..).zip(order) {
            lines.push(got("c", 110 + step, &[n]));
        }
        lines.push(drained());
        found(&lines)
    };
    assert_eq!(keyed(&[0, 1, 2]), []);
    assert_eq!(keyed(&[0, 1, 0, 2]), []);
    assert_eq!(keyed(&[0, 2, 1]), [Check::KeyOrder]);
}

#[test]
fn a_confirmed_ack_is_never_forgotten() {
    for what in [r#""ms":[["w",1]]"#, r#""cu":2"#] {
        let acked = with(
            three("exclusive", &[0, 1, 2]),
            &[acks("ack", "c", 110, what), acks("ackok", "c", 120, what)],
        );
        let restart = [
            close("c"),
            open("d", 130),
            again("d", 140, 0),
            again("d", 141, 2),
        ];
        let restarted = with(acked.clone(), &restart);
        let forgotten = with(restarted.clone(), &[again("d", 150, 1), drained()]);
        let expected = [Check::AckedRedelivery];
        let found = found(&forgotten);
        // Message 0 is covered by the cumulative ack too, and came again as well.
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn an_ack_confirmed_after_the_session_began_does_not_count_against_it() {
    let what = r#""ms":[["w",1]]"#;
    let lines = with(
        three("shared", &[0, 1, 2]),
        &[
            open("d", 105),
            again("d", 115, 1),
            acks("ack", "c", 110, what),
            acks("ackok", "c", 120, what),
            again("d", 130, 1),
            drained(),
        ],
    );
    assert_eq!(found(&lines), []);
    let moved = r#"{"e":"seek","t0":125,"t":126,"sub":"s","p":"p","o":0}"#.to_owned();
    let lines = with(lines, &[moved, open("d", 140), again("d", 150, 1)]);
    assert_eq!(found(&lines), []);
}

#[test]
fn a_message_is_not_early_and_reaches_nobody_whose_filter_excludes_it() {
    for (extra, check) in [
        (r#","due":101,"h":"#, Check::EarlyDelivery),
        (r#","x":["s"],"h":"#, Check::FilterLeak),
    ] {
        let mut lines = three("shared", &[0, 1, 2]);
        for line in &mut lines {
            if line.contains(r#""send","t":10"#) {
                *line = line.replace(r#","h":"#, extra);
            }
        }
        lines.push(drained());
        assert_eq!(found(&lines), [check]);
    }
}

#[test]
fn a_tail_is_neither_old_nor_back_nor_from_the_future() {
    let probed = |probes: &[String]| {
        let lines = with(three("shared", &[0, 1, 2]), probes);
        found(&with(lines, &[drained()]))
    };
    assert_eq!(probed(&[tail(16, 17, 1), tail(18, 30, 2)]), []);
    assert_eq!(probed(&[tail(16, 17, 0)]), [Check::StaleTail]);
    // Message 1 was answered as the tail before it was acked.
    assert_eq!(
        probed(&[tail(11, 12, 1), tail(13, 14, 0)]),
        [Check::NonmonotonicTail]
    );
    assert_eq!(probed(&[tail(11, 19, 2)]), [Check::FutureTail]);
}

#[test]
fn a_subscription_that_is_never_drained_is_found() {
    assert_eq!(found(&three("shared", &[0, 1, 2])), [Check::Undrained]);
}

#[test]
fn a_send_without_an_outcome_is_found() {
    let lines = with(three("shared", &[0, 1, 2]), &[send("w", 3, 40), drained()]);
    assert_eq!(found(&lines), [Check::HungOp]);
}

#[test]
fn a_long_time_without_acks_is_found_also_behind_quick_refusals() {
    const S: u64 = 1_000_000_000;
    let base = || three("shared", &[0, 1, 2]);
    let waits = [
        send("w", 3, S),
        ok("w", 3, 17 * S, 3),
        got("c", 18 * S, &[3]),
        drained(),
    ];
    assert_eq!(found(&with(base(), &waits)), [Check::SlowRecovery]);
    let mut refusals = Vec::new();
    for n in 3..43 {
        refusals.push(send("v", n, n * S / 2));
        refusals.push(outcome("fail", "v", n, n * S / 2 + 1));
    }
    refusals.push(drained());
    assert_eq!(found(&with(base(), &refusals)), [Check::SlowRecovery]);
    // Nobody wanted anything in between.
    let idle = [
        send("v", 0, S),
        outcome("fail", "v", 0, S + 1),
        send("v", 1, 30 * S),
        ok("v", 1, 31 * S, 3),
        recv("c", 32 * S, r#"["v",1,3,0,1]"#),
        drained(),
    ];
    assert_eq!(found(&with(base(), &idle)), []);
}

#[test]
fn the_limit_of_recovery_is_the_callers() {
    let lines = with(three("shared", &[0, 1, 2]), &[drained()]);
    let text = [&[META.to_owned()], &lines[..], &[end()]]
        .concat()
        .join("\n");
    let limits = Limits {
        recovery: Duration::from_nanos(4),
    };
    let report = judge_bytes(text.as_bytes(), limits);
    assert_eq!(report.violations[&Check::SlowRecovery], 3);
    assert_eq!(report.stats.longest_gap_ns, 5);
}

#[test]
fn a_run_that_proves_nothing_is_inconclusive() {
    let doubts = |lines: &[String]| {
        let report = judge(lines);
        assert_eq!(report.verdict, Verdict::Inconclusive, "{report}");
        assert_eq!(report.verdict.exit_code(), 2);
        report.doubts.into_keys().collect::<Vec<_>>()
    };
    let meta = META.to_owned();
    assert_eq!(doubts(&[meta.clone(), end()]), [Check::NoAcks]);
    let unread = [std::slice::from_ref(&meta), &stored(0)[..], &[end()]].concat();
    assert_eq!(doubts(&unread), [Check::Unverified]);
    let whole = with(three("shared", &[0, 1, 2]), &[drained()]);
    assert_eq!(
        doubts(&[std::slice::from_ref(&meta), &whole[..]].concat()),
        [Check::Truncated]
    );
    let noise = [
        std::slice::from_ref(&meta),
        &whole[..],
        &["noise".to_owned(), end()],
    ]
    .concat();
    assert_eq!(doubts(&noise), [Check::BadLine]);
    let no_meta = [&whole[..], &[end()]].concat();
    assert_eq!(doubts(&no_meta), [Check::BadLine]);
    let faults = META.replace(r#""dense":1"#, r#""dense":1,"faults":1"#);
    let calm = [std::slice::from_ref(&faults), &whole[..], &[end()]].concat();
    assert_eq!(doubts(&calm), [Check::NoFaults]);
    let kill = r#"{"e":"nem","f":"kill","x":"bookie-1","ph":"start"}"#.to_owned();
    let wild = judge(&[&[faults, kill], &whole[..], &[end()]].concat());
    assert_eq!(wild.verdict, Verdict::Valid, "{wild}");
}

#[test]
fn a_history_cut_in_its_last_line_is_judged_and_found_inconclusive() {
    let lines = [&[META.to_owned()], &three("shared", &[0, 1, 2])[..]].concat();
    let text = lines.join("\n") + "\n{\"e\":\"dr";
    let report = judge_bytes(text.as_bytes(), Limits::default());
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert_eq!(
        report.doubts.keys().collect::<Vec<_>>(),
        [&Check::Truncated]
    );
}

#[test]
fn what_contradicts_itself_is_a_bad_history() {
    let meta = META.to_owned();
    for odd in [
        ok("x", 0, 50, 9),                    // An outcome without a send.
        got("ghost", 100, &[0]),              // A delivery without an open.
        close("ghost"),                       // A close without an open.
        META.replace(r#""v":1"#, r#""v":2"#), // Another format.
        NO_PROMISE.to_owned(),                // Other promises.
        r#"{"e":"open","t":1}"#.to_owned(),   // Keys missing.
    ] {
        let mut lines = vec![meta.clone()];
        lines.extend(three("shared", &[0, 1, 2]));
        lines.extend([odd.clone(), drained(), end()]);
        let report = judge(&lines);
        assert_eq!(report.verdict, Verdict::Inconclusive, "{odd}\n{report}");
        assert_eq!(report.doubts.keys().collect::<Vec<_>>(), [&Check::BadLine]);
    }
}

#[test]
fn a_violation_weighs_more_than_a_doubt() {
    let lines = with(three("shared", &[0, 2]), &[drained()]);
    let report = judge(&[&[META.to_owned()], &lines[..]].concat());
    assert_eq!(report.verdict, Verdict::Violated);
    assert_eq!(report.verdict.exit_code(), 1);
    assert!(
        report.to_string().contains("lost_acked count=1"),
        "{report}"
    );
    assert!(
        report.to_string().contains("writer=w partition=p n=1"),
        "{report}"
    );
}
