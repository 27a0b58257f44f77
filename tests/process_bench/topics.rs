//! `ledgerline bench topics`.

use std::process::Command;

use serde_json::Value;
use tests::process::wait_until;

use super::{SOON, Standalone, are_times, in_background};

/// The names of the topics there are, in order of name.
fn topics(server: &Standalone) -> Vec<String> {
    let listed = server.run("topic list --json");
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let name = |topic: &Value| {
        let name = topic["name"].as_str().unwrap();
        name.rsplit('/').next().unwrap().to_owned()
    };
    listed.as_array().unwrap().iter().map(name).collect()
}

/// Names in order, as they are listed.
fn numbered(base: &str, count: u64) -> Vec<String> {
    let mut names: Vec<String> = (0..count).map(|it| format!("{base}-{it}")).collect();
    names.sort_unstable();
    names
}

#[test]
fn topics_are_made_and_timed_and_deleted_at_the_end() {
    let server = Standalone::start();
    for (flags, count, at_once) in [("--count 1", 1, 1), ("--count 150 --at-once 8", 150, 8)] {
        let told = server.bench(&format!("topics {flags}"));
        assert_eq!(
            (&told["bench"], &told["counted"]),
            (&"topics".into(), &"topics".into())
        );
        assert_eq!(
            (&told["count"], &told["topics"]),
            (&count.into(), &count.into())
        );
        assert_eq!(
            (&told["at_once"], &told["quorum"]),
            (&at_once.into(), &"1/1".into())
        );
        assert_eq!(
            (&told["interrupted"], &told["error"]),
            (&false.into(), &Value::Null)
        );
        assert!(told["topics_per_s"].as_f64().unwrap() > 0.0, "{told}");
        are_times(&told["create"], count);
        for name in [
            "bytes",
            "mb_per_s",
            "messages_per_s",
            "message_bytes",
            "probe",
            "lost",
        ] {
            assert_eq!(told.get(name), None, "only messages have it: {told}");
        }
        assert_eq!(topics(&server), [""; 0]);
    }
    server.stop();
}

#[test]
fn topics_with_a_name_stay_and_no_topic_is_made_twice() {
    let server = Standalone::start();
    let text = server.run("bench topics --topic many --count 3").text();
    for part in [
        "topics    many-0 … many-2, quorum 1/1",
        "load      3 new topics, one at a time",
        " topics/s  (3 topics in ",
        "create ms p50 ",
        "many-0 … many-2 stay; `ledgerline bench publish --topic many --topics 3` publishes there",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for part in ["MB/s", "disk", "verified", "message"] {
        assert!(!text.contains(part), "{part}: {text}");
    }
    assert_eq!(topics(&server), numbered("many", 3));
    let told = server.bench("publish --topic many --topics 3 --count 30 --size 100B");
    assert_eq!(told["count"], 30);
    let exists =
        |index: u32| format!("topic many-{index} exists already; choose a new --topic, or delete");
    let again = server.run("bench topics --topic many --count 5");
    assert_eq!((again.code, again.text().as_str()), (Some(1), ""));
    assert!(again.stderr.contains(&exists(0)), "{}", again.stderr);
    // One of them may be made, and is told.
    let deleted = server.run("topic delete many-0");
    assert_eq!(deleted.code, Some(0), "{}", deleted.stderr);
    let again = server.run("bench topics --topic many --count 5 --json");
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    let told: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(told["count"], 1, "{told}");
    assert!(
        told["error"].as_str().unwrap().contains(&exists(1)),
        "{told}"
    );
    assert_eq!(topics(&server), numbered("many", 3));
    server.stop();
}

#[test]
fn making_topics_that_is_interrupted_tells_how_many_and_knows_each() {
    let server = Standalone::start();
    let address = &server.server;
    for (flags, is_kept) in [("--at-once 4 --topic t", true), ("--at-once 4", false)] {
        let line = format!("bench topics --count 1000000 {flags} --json --server {address}");
        let before = topics(&server).len();
        let bench = in_background(&line);
        let underway = wait_until(SOON, || topics(&server).len() > before + 20);
        let id = bench.id().to_string();
        let asked = Command::new("kill").args(["-INT", &id]).status();
        let ended = bench.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(underway && asked.unwrap().success(), "{said}");
        assert_eq!(ended.status.code(), Some(130), "{said}");
        assert!(said.contains("what was measured so far is told"), "{said}");
        let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
        assert_eq!(told["interrupted"], true, "{told}");
        let count = told["count"].as_u64().unwrap();
        are_times(&told["create"], count);
        if is_kept {
            assert_eq!(topics(&server), numbered("t", count));
        } else {
            assert_eq!(topics(&server).len(), before, "{said}");
        }
    }
    server.stop();
}

#[test]
fn making_topics_ends_with_why_when_the_server_dies() {
    let mut server = Standalone::start();
    let address = &server.server;
    let flags = "--count 1000000 --at-once 4 --topic t --timeout 2s --json";
    let bench = in_background(&format!("bench topics {flags} --server {address}"));
    let underway = wait_until(SOON, || topics(&server).len() > 20);
    server.process.kill().unwrap();
    let ended = bench.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(underway, "{said}");
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert!(told["count"].as_u64().unwrap() > 20, "{told}");
    let error = told["error"].as_str().unwrap();
    assert!(said.contains(error) && error.contains("topic t-"), "{said}");
}
