//! Deleted topics, in the smallest histories.

use crate::check::{Check, Limits, Report, Verdict, judge_bytes};

/// A topic with a message that was acked and received, deleted at 100, and what comes after that.
fn judge(after: &[&str]) -> Report {
    let before = [
        r#"{"e":"meta","v":1,"g":{"dedup":1,"dense":1,"shared_clock":1}}"#,
        r#"{"e":"sub","t0":0,"t":1,"sub":"s","p":"p","ty":"exclusive","from":"earliest"}"#,
        r#"{"e":"open","t":2,"sub":"s","c":"c"}"#,
        r#"{"e":"send","t":10,"w":"w","p":"p","n":0,"h":1}"#,
        r#"{"e":"ok","t":11,"w":"w","p":"p","n":0,"o":0}"#,
        r#"{"e":"recv","t":12,"sub":"s","c":"c","p":"p","ms":[["w",0,0,0,1]]}"#,
        r#"{"e":"send","t":20,"w":"w","p":"p","n":1,"h":1}"#,
    ];
    let lines = [&before[..], after, &[r#"{"e":"end"}"#]].concat();
    judge_bytes(lines.join("\n").as_bytes(), Limits::default())
}

const DELETED: &str = r#"{"e":"deleted","t":100,"p":"p"}"#;
const ACKED: &str = r#"{"e":"ok","t":21,"w":"w","p":"p","n":1,"o":1}"#;

#[test]
fn of_a_deleted_topic_nothing_is_owed_any_more() {
    let report = judge(&[ACKED, DELETED]);
    assert_eq!(report.verdict, Verdict::Valid, "{report}");
    let other = r#"{"e":"deleted","t":100,"p":"q"}"#;
    let report = judge(&[ACKED, other]);
    assert!(report.violations.contains_key(&Check::Undrained));
    assert!(report.doubts.contains_key(&Check::Unverified));
}

#[test]
fn what_was_under_way_when_a_topic_was_deleted_may_be_acked_and_received() {
    let late = [
        DELETED,
        r#"{"e":"ok","t":120,"w":"w","p":"p","n":1,"o":1}"#,
        r#"{"e":"recv","t":121,"sub":"s","c":"c","p":"p","ms":[["w",1,1,0,1]]}"#,
    ];
    let report = judge(&late);
    assert_eq!(report.verdict, Verdict::Valid, "{report}");
}

#[test]
fn what_is_sent_after_a_topic_was_deleted_is_not_acked() {
    let sent = r#"{"e":"send","t":110,"w":"w","p":"p","n":2,"h":1}"#;
    let acked = r#"{"e":"ok","t":120,"w":"w","p":"p","n":2,"o":2}"#;
    let lost = r#"{"e":"info","t":120,"w":"w","p":"p","n":2}"#;
    let refused = judge(&[ACKED, DELETED, sent, lost]);
    assert!(refused.violations.is_empty(), "{refused}");
    let report = judge(&[ACKED, DELETED, sent, acked]);
    let found: Vec<Check> = report.violations.into_keys().collect();
    assert_eq!(found, [Check::AfterDeletion]);
}

#[test]
fn who_comes_after_a_topic_was_deleted_gets_nothing() {
    let open = r#"{"e":"open","t":110,"sub":"s","c":"d"}"#;
    let got = r#"{"e":"recv","t":120,"sub":"s","c":"d","p":"p","ms":[["w",0,0,1,1]]}"#;
    let report = judge(&[ACKED, DELETED, open]);
    assert!(report.violations.is_empty(), "{report}");
    let report = judge(&[ACKED, DELETED, open, got]);
    let found: Vec<Check> = report.violations.into_keys().collect();
    assert_eq!(found, [Check::AfterDeletion]);
}

#[test]
fn a_hole_in_what_was_delivered_is_one_also_when_the_topic_was_deleted_later() {
    let after = [
        ACKED,
        r#"{"e":"send","t":30,"w":"w","p":"p","n":2,"h":1}"#,
        r#"{"e":"ok","t":31,"w":"w","p":"p","n":2,"o":2}"#,
        r#"{"e":"recv","t":32,"sub":"s","c":"c","p":"p","ms":[["w",2,2,0,1]]}"#,
        DELETED,
    ];
    let report = judge(&after);
    assert!(
        report.violations.contains_key(&Check::LostAcked),
        "{report}"
    );
    assert!(report.violations.contains_key(&Check::Skip), "{report}");
}
