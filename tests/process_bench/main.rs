//! `ledgerline bench` against one real process with every role: what each scenario tells, and how it ends.
#![expect(
    clippy::unwrap_used,
    reason = "a test on real processes and files, in real time"
)]

mod topics;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ledgerline_client::Client;
use serde_json::Value;
use tests::process::{Ended, Process, Tool, commands, free_addresses, wait_until};

/// For what should take a moment, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(60);

fn binary() -> PathBuf {
    commands::binary_or(env!("CARGO_BIN_EXE_ledgerline"))
}

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(Into::into).collect()
}

/// A standalone process, a place for its files, and commands that use it.
struct Standalone {
    process: Process,
    server: String,
    tool: Tool,
    dir: tempfile::TempDir,
}

impl Standalone {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = free_addresses(1).unwrap()[0];
        let flags = "--journal-file 16MiB --free-low 8MiB --admin-listen off";
        let mut line = words(&format!("standalone --listen {listen} {flags} --data-dir"));
        line.push(dir.path().join("data").into());
        let log = dir.path().join("log");
        let mut process = Process::spawn("standalone", &binary(), line, &log).unwrap();
        process.wait_saying(" is ready", SOON).unwrap();
        Self {
            process,
            server: format!("http://{listen}"),
            tool: Tool::new(&binary()).unwrap(),
            dir,
        }
    }

    fn probe_dir(&self) -> &Path {
        self.dir.path()
    }

    fn run(&self, line: &str) -> Ended {
        let server = &self.server;
        let line = words(&format!("{line} --server {server}"));
        self.tool.run(line, SOON).unwrap()
    }

    /// Runs a bench that must end well, and returns what it told.
    fn bench(&self, line: &str) -> Value {
        let ended = self.run(&format!("bench {line} --json --probe-dir none"));
        assert_eq!(ended.code, Some(0), "{line}: {}", ended.stderr);
        serde_json::from_slice(&ended.stdout).unwrap()
    }

    fn stop(mut self) {
        let status = self.process.stop(SOON).unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.process.log());
    }
}

/// Checks the fields that every bench tells.
fn is_sound(told: &Value, name: &str, count: u64) {
    assert_eq!(told["bench"], name, "{told}");
    assert_eq!(told["count"], count, "{told}");
    assert_eq!(told["message_bytes"], 100, "{told}");
    assert_eq!(told["bytes"], count * 100, "{told}");
    assert_eq!(told["quorum"], "1/1", "{told}");
    assert_eq!(
        (&told["interrupted"], &told["error"]),
        (&false.into(), &Value::Null)
    );
    for fault in ["lost", "doubled", "out_of_order", "corrupted", "foreign"] {
        assert_eq!(told[fault], 0, "{fault}: {told}");
    }
    for figure in ["seconds", "messages_per_s", "mb_per_s"] {
        assert!(told[figure].as_f64().unwrap() > 0.0, "{figure}: {told}");
    }
}

/// Checks times of so many messages.
fn are_times(times: &Value, count: u64) {
    assert_eq!(times["count"], count, "{times}");
    let steps = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"];
    let steps = steps.map(|step| times[step].as_f64().unwrap());
    assert!(steps[0] > 0.0 && steps.is_sorted(), "{times}");
}

#[test]
fn publishing_is_measured_whichever_way_it_is_done() {
    let server = Standalone::start();
    for (flags, count) in [
        ("", 2_000),
        ("--producers 3 --topics 2", 2_000),
        ("--rate 4000", 1_000),
        ("--outstanding 1 --batch 1KiB --in-flight 1", 50),
        ("--tasks 16", 500),
        ("--unary --in-flight 16", 300),
    ] {
        let line = format!("publish --size 100B --count {count} {flags}");
        let told = server.bench(&line);
        is_sound(&told, "publish", count);
        are_times(&told["ack"], count);
        assert_eq!(
            (&told["verified"], &told["probe"]),
            (&0.into(), &Value::Null)
        );
    }
    let told = server.bench("latency --size 100B --count 50");
    is_sound(&told, "latency", 50);
    are_times(&told["ack"], 50);
    // They had topics of their own, which are gone.
    let topics = server.run("topic list");
    assert_eq!(topics.text(), "none\n", "{}", topics.stderr);
    server.stop();
}

#[test]
fn what_is_read_is_measured_and_verified() {
    let server = Standalone::start();
    let told = server.bench("e2e --size 100B --count 1000 --rate 2000");
    is_sound(&told, "e2e", 1_000);
    assert_eq!(told["verified"], 1_000);
    are_times(&told["e2e"], 1_000);
    are_times(&told["ack"], 1_000);
    let told = server.bench("fanout --size 100B --count 500 --subscriptions 4");
    is_sound(&told, "fanout", 2_000);
    assert_eq!(
        (&told["verified"], &told["counted"]),
        (&2_000.into(), &"deliveries".into())
    );
    are_times(&told["e2e"], 2_000);
    let told = server.bench("catchup --size 100B --count 3000");
    is_sound(&told, "catchup", 3_000);
    assert_eq!(
        (&told["verified"], &told["is_backlog_new"]),
        (&3_000.into(), &true.into())
    );
    let told = server.bench("catchup --size 100B --count 600 --rate 300");
    is_sound(&told, "catchup", 600);
    assert_eq!(
        (&told["verified"], &told["read_rate_per_s"]),
        (&600.into(), &300.into())
    );
    let rate = told["messages_per_s"].as_f64().unwrap();
    assert!(
        rate < 301.0,
        "a slow machine may take longer, no machine less: {told}"
    );
    let told = server.bench("shared --size 100B --count 3000 --consumers 3");
    is_sound(&told, "shared", 3_000);
    assert_eq!(
        (&told["verified"], &told["acks_refused"]),
        (&3_000.into(), &0.into())
    );
    are_times(&told["ack"], 3_000);
    server.stop();
}

#[test]
fn a_topic_that_a_bench_filled_is_read_as_it_is() {
    let server = Standalone::start();
    server.bench("publish --topic load --size 100B --count 1000 --producers 3");
    server.bench("publish --topic load --size 100B --count 500 --tasks 4");
    let told = server.bench("catchup --topic load");
    assert_eq!(
        (&told["count"], &told["verified"]),
        (&1_500.into(), &1_500.into())
    );
    assert_eq!(
        (&told["lost"], &told["is_backlog_new"]),
        (&0.into(), &false.into())
    );
    assert_eq!(
        (&told["bytes"], &told["producers"]),
        (&150_000.into(), &Value::Null)
    );
    let told = server.bench("shared --topic load --consumers 2");
    assert_eq!(
        (&told["verified"], &told["lost"]),
        (&1_500.into(), &0.into())
    );
    let told = server.bench("catchup --topic load --count 200");
    assert!(told["verified"].as_u64().unwrap() >= 200, "{told}");
    let more = server.run("bench catchup --topic load --count 9999 --probe-dir none");
    assert_eq!(more.code, Some(1));
    assert!(
        more.stderr.contains("holds 1500 messages; lower --count"),
        "{}",
        more.stderr
    );
    // Subscriptions of a bench hold nothing back after it.
    let left = server.run("subscription list load");
    assert_eq!(left.text(), "none\n", "{}", left.stderr);
    server.stop();
}

#[test]
fn a_compressed_load_keeps_its_order_and_is_told() {
    let server = Standalone::start();
    for codec in ["zstd", "lz4", "snappy"] {
        // Without a pace: batches become as large as they may be.
        let flags = format!("--compression {codec} --compressible 75");
        let told = server.bench(&format!("publish --topic {codec} --count 20000 {flags}"));
        assert_eq!(told["compression"], codec, "{told}");
        assert_eq!(told["compressible_percent"], 75, "{told}");
        let told = server.bench(&format!("catchup --topic {codec}"));
        assert_eq!(told["verified"], 20_000, "{told}");
        for fault in ["lost", "doubled", "out_of_order", "corrupted", "foreign"] {
            assert_eq!(told[fault], 0, "{fault}: {told}");
        }
        let kept = [&told["compression"], &told["compressible_percent"]];
        assert_eq!(kept, [&Value::Null, &Value::Null], "it was there: {told}");
    }
    for scenario in [
        "e2e --rate 2000",
        "fanout --subscriptions 2",
        "shared",
        "latency",
    ] {
        let line = format!("{scenario} --count 200 --size 100B --compression zstd");
        assert_eq!(server.bench(&line)["compression"], "zstd", "{scenario}");
    }
    let text = server
        .run("bench latency --count 5 --compression lz4 --compressible 50")
        .text();
    let load = "1KiB messages, 50 % of their noise zeros, compressed by lz4, 1 producer";
    assert!(text.contains(load), "{text}");
    server.stop();
}

#[test]
fn messages_that_no_bench_made_fail_it_and_are_told() {
    let server = Standalone::start();
    server.bench("publish --topic mixed --size 100B --count 100");
    let produced = server.run("produce mixed --count 3 --size 100B");
    assert_eq!(produced.code, Some(0), "{}", produced.stderr);
    let ended = server.run("bench catchup --topic mixed --json --probe-dir none");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let complaint = "3 corrupted, or not made by a bench";
    assert!(ended.stderr.contains(complaint), "{}", ended.stderr);
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (&told["verified"], &told["corrupted"]),
        (&100.into(), &3.into())
    );
    server.stop();
}

/// The payloads of a topic, in order.
async fn payloads(client: &Client, topic: &str, count: usize) -> Vec<Vec<u8>> {
    let name = format!("{topic}/subscriptions/copy");
    let consumer = client.consumer(name).create_if_missing();
    let mut consumer = consumer.open().await.unwrap();
    let mut all = Vec::new();
    while all.len() < count {
        all.push(consumer.recv().await.unwrap().payload().to_vec());
    }
    all
}

#[test]
fn a_topic_that_differs_from_what_was_published_fails_the_bench_by_its_count() {
    let server = Standalone::start();
    server.bench("publish --topic good --size 100B --count 20");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Client::connect(&server.server).await.unwrap();
        let mut messages = payloads(&client, "good", 20).await;
        messages.push(messages[5].clone()); // Doubled.
        messages.swap(7, 8);
        messages[10][99] ^= 1; // Altered.
        messages.remove(3); // Dropped.
        let producer = client.producer("bad").create().await.unwrap();
        for message in messages {
            producer.send(message).await.unwrap().await.unwrap();
        }
    });
    assert_eq!(server.bench("catchup --topic good")["verified"], 20);
    let ended = server.run("bench catchup --topic bad --json --probe-dir none");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let complaint = "1 lost, 1 stored twice, 1 out of order, 1 corrupted";
    assert!(ended.stderr.contains(complaint), "{}", ended.stderr);
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    for fault in ["lost", "doubled", "out_of_order", "corrupted"] {
        assert_eq!(told[fault], 1, "{fault}: {told}");
    }
    assert_eq!(told["verified"], 18, "{told}");
    server.stop();
}

#[test]
fn a_person_is_told_the_figure_beside_what_the_disk_can_do() {
    let server = Standalone::start();
    let line = "bench latency --size 100B --count 20 --probe-dir";
    let dir = server.probe_dir().display();
    let ended = server.run(&format!("{line} {dir}"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let text = ended.text();
    for part in [
        "quorum 1/1, fsync before the ack",
        "100B messages, 1 producer, 1 topic, one message at a time",
        "no ack can be faster",
        "(20 messages in ",
        "p99.9 ",
        " the disk's",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("nothing was read; e2e, catchup"), "{text}");
    let kept = server.run("bench publish --topic kept --count 5 --probe-dir none");
    let next = "`ledgerline bench catchup --topic kept` reads and checks it";
    assert!(kept.text().contains(next), "{}", kept.text());
    let left: Vec<_> = std::fs::read_dir(server.probe_dir()).unwrap().collect();
    assert_eq!(left.len(), 2, "the probe's file stays: {left:?}");
    let none = server.run(&format!("{line} /nowhere/at/all"));
    assert!(none.stderr.contains("set --probe-dir"), "{}", none.stderr);
    server.stop();
}

#[test]
fn an_interrupted_bench_tells_what_was_measured_so_far() {
    let server = Standalone::start();
    let address = &server.server;
    for scenario in ["publish", "e2e", "fanout --subscriptions 2 --rate 500"] {
        let topic = scenario.split(' ').next().unwrap();
        let flags = "--size 100B --duration 10m --warmup 0s --json --probe-dir none";
        let line = format!("bench {scenario} {flags} --topic {topic} --server {address}");
        let bench = in_background(&line);
        let underway = wait_until(SOON, || stored(address, topic) > 100);
        let id = bench.id().to_string();
        let asked = Command::new("kill").args(["-INT", &id]).status();
        let ended = bench.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(underway && asked.unwrap().success(), "{said}");
        assert_eq!(ended.status.code(), Some(130), "{said}");
        let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
        assert_eq!(
            (&told["interrupted"], &told["lost"]),
            (&true.into(), &0.into())
        );
        assert!(told["count"].as_u64().unwrap() > 0, "{told}");
    }
    server.stop();
}

#[test]
fn a_bench_that_is_interrupted_while_it_opens_leaves_no_subscription_on_a_topic_that_stays() {
    let server = Standalone::start();
    let address = &server.server;
    let bench = "bench fanout --subscriptions 300 --duration 10m --probe-dir none";
    let bench = in_background(&format!("{bench} --topic t --server {address}"));
    let subscriptions = || {
        let listed = server.run("subscription list t");
        format!("{}{}", listed.text(), listed.stderr)
    };
    let begun = wait_until(SOON, || subscriptions().contains("bench-"));
    let id = bench.id().to_string();
    let asked = Command::new("kill").args(["-INT", &id]).status();
    let ended = bench.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(begun && asked.unwrap().success(), "{said}");
    assert_eq!(ended.status.code(), Some(130), "{said}");
    let left = subscriptions();
    assert!(!left.contains("bench-"), "{left}");
    server.stop();
}

#[test]
fn a_bench_whose_server_dies_tells_what_was_measured_and_why_it_ended() {
    let mut server = Standalone::start();
    for scenario in ["publish", "e2e"] {
        let address = server.server.clone();
        let flags = "--rate 500 --size 100B --duration 10m --warmup 0s --timeout 5s";
        let flags = format!("{flags} --json --probe-dir none --topic {scenario}");
        let bench = in_background(&format!("bench {scenario} {flags} --server {address}"));
        let underway = wait_until(SOON, || stored(&address, scenario) > 100);
        server.process.kill().unwrap();
        let ended = bench.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(underway, "{said}");
        assert_eq!(ended.status.code(), Some(1), "{said}");
        let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
        assert!(told["count"].as_u64().unwrap() > 0, "{told}");
        let error = told["error"].as_str().unwrap();
        assert!(said.contains(error), "{error}: {said}");
        server = Standalone::start();
    }
    server.stop();
}

/// A command that goes on until it is told to end.
fn in_background(line: &str) -> Child {
    let mut command = Command::new(binary());
    let command = command.args(words(line));
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// How many messages a topic holds.
fn stored(server: &str, topic: &str) -> u64 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Client::connect(server).await.unwrap();
        let stats = client.admin().topic_stats(topic).await;
        stats.map_or(0, |stats| stats.shards[0].next_offset)
    })
}

#[test]
fn flags_that_make_no_sense_are_refused_before_anything_is_sent() {
    let tool = Tool::new(&binary()).unwrap();
    let nobody = free_addresses(1).unwrap()[0];
    for (line, flag) in [
        ("publish --count 1 --duration 1s", "--duration"),
        ("publish --count 0", "--count"),
        ("publish --duration 0s", "--duration"),
        ("publish --duration 2s --warmup 2s", "--warmup"),
        ("publish --size 31B", "--size to at least"),
        ("latency --size 6MiB", "--size"),
        ("publish --producers 2 --topics 3", "--producers"),
        ("publish --tasks 2 --rate 5", "--rate"),
        ("publish --unary --tasks 5", "--tasks"),
        ("publish --unary --compression lz4", "--compression"),
        ("publish --compression gzip", "--compression"),
        ("e2e --compressible 101", "--compressible"),
        ("publish --in-flight 65", "--in-flight"),
        ("publish --unary --in-flight 0", "--in-flight"),
        ("e2e --batch 5MiB", "--batch"),
        ("e2e --rate 0", "--rate"),
        ("fanout --subscriptions 0", "--subscriptions"),
        ("catchup --rate 0", "--rate"),
        ("shared --consumers 0", "--consumers"),
        ("topics --count 0", "--count"),
        ("topics --count 1000001", "--count"),
        ("topics --at-once 0", "--at-once"),
        ("topics --at-once 10001", "--at-once"),
        ("topics --size 1KiB", "--size"),
        ("catchup --quorum 2/2", "--quorum"),
        ("produce", "unrecognized subcommand"),
    ] {
        let line = words(&format!("bench {line} --server http://{nobody}"));
        let ended = tool.run(&line, SOON).unwrap();
        assert!(matches!(ended.code, Some(1 | 2)), "{line:?}: {ended:?}");
        let said = &ended.stderr;
        assert!(
            said.contains(flag) && !said.contains("no server"),
            "{line:?}: {said}"
        );
    }
}

#[test]
fn the_help_of_each_scenario_has_an_example() {
    let tool = Tool::new(&binary()).unwrap();
    for scenario in [
        "publish", "latency", "e2e", "catchup", "fanout", "shared", "topics",
    ] {
        let help = tool.run(words(&format!("bench {scenario} --help")), SOON);
        let help = help.unwrap().text();
        let example = format!("  ledgerline bench {scenario}");
        assert!(
            help.contains(&example) && help.contains("measure"),
            "{help}"
        );
    }
}
