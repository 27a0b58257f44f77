//! One process with every role, as a newcomer runs it: its first message, a real file through `produce` and `consume`,
//! and what it says when it is given something it cannot use.
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test on real processes and files, in real time"
)]

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ledgerline_client::{Client, Reason, SubscriptionOptions};
use tests::process::{Ended, Mount, Process, Tool, commands, free_addresses, wait_until};
use tests::workload::Prng;
use types::crc32c;

/// For what should take a moment, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(60);

fn binary() -> PathBuf {
    commands::binary_or(env!("CARGO_BIN_EXE_ledgerline"))
}

fn tool() -> Tool {
    Tool::new(&binary()).unwrap()
}

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(Into::into).collect()
}

/// A standalone process, and where it is.
struct Standalone {
    process: Process,
    listen: SocketAddr,
}

/// The arguments of one that keeps everything in `data`, in files that are small enough for a test.
fn arguments(listen: SocketAddr, data: &Path) -> Vec<OsString> {
    let flags = "--journal-file 16MiB --free-low 8MiB --admin-listen off";
    let mut arguments = words(&format!("standalone --listen {listen} {flags} --data-dir"));
    arguments.push(data.into());
    arguments
}

impl Standalone {
    fn start(data: &Path, log: &Path) -> Self {
        let listen = free_addresses(1).unwrap()[0];
        let arguments = arguments(listen, data);
        let mut process = Process::spawn("standalone", &binary(), arguments, log).unwrap();
        process.wait_saying(" is ready", SOON).unwrap();
        Self { process, listen }
    }

    fn server(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Ends it as an orchestrator does.
    fn stop(mut self) {
        let status = self.process.stop(SOON).unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.process.log());
    }
}

/// Starts one that must refuse, and returns what it says.
fn refused(arguments: impl IntoIterator<Item = OsString>, code: i32) -> String {
    let Ended {
        code: found,
        stderr,
        ..
    } = tool().run(arguments, SOON).unwrap();
    println!("{stderr}");
    assert_eq!(found, Some(code), "{stderr}");
    stderr
}

fn refused_with(data: &Path) -> String {
    refused(arguments(free_addresses(1).unwrap()[0], data), 1)
}

/// Runs something that must end soon.
fn in_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(SOON, future).await })
        .expect("it takes too long")
}

#[test]
fn the_first_message_is_acked_soon_after_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let free = free_addresses(2).unwrap();
    let (listen, admin) = (free[0], free[1]);
    let begun = Instant::now();
    // As the README has it: no flag but where to listen and where to store; and a machine whose disk is nearly full, as
    // after a large build, is not what is tried here.
    let listens = format!("--listen {listen} --admin-listen {admin}");
    let mut line = words(&format!("standalone {listens} --free-low 16MiB --data-dir"));
    line.push(dir.path().join("data").into());
    let log = dir.path().join("log");
    let mut process = Process::spawn("standalone", &binary(), line, &log).unwrap();
    let acked = in_time(async {
        loop {
            // A server that is not up yet is asked again; the client itself is patient once it has one.
            if let Ok(client) = Client::connect(format!("http://{listen}")).await {
                let producer = client.producer("greetings").create().await.unwrap();
                producer.send("hello").await.unwrap().await.unwrap();
                return begun.elapsed();
            }
            assert!(begun.elapsed() < SOON, "no server");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    println!("first message acked {acked:.2?} after the start");
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()));
    let resident = status.unwrap_or_default();
    let resident = resident.lines().find(|line| line.starts_with("VmRSS"));
    println!("resident: {}", resident.unwrap_or("not known here"));
    assert_eq!(process.stop(SOON).unwrap().code(), Some(0));
}

/// Lines of every kind: text, empty, with every byte but the newline, one of 4 MiB.
fn lines(path: &Path) -> u64 {
    let mut prng = Prng::new(7);
    let mut bytes = Vec::new();
    let count = 100_001;
    for number in 0..count {
        match number % 10 {
            0 => {}
            1 | 2 => {
                for _ in 0..prng.below(200) {
                    let byte = prng.next_u64().to_le_bytes()[0];
                    bytes.push(if byte == b'\n' { 0 } else { byte });
                }
            }
            3 => bytes.extend_from_slice(b"ends with a carriage return\r"),
            _ => bytes.extend_from_slice(format!("line {number}: naïve résumé, 日本語").as_bytes()),
        }
        if number == count / 2 {
            bytes.resize(bytes.len() + (4 << 20), 0xfe);
        }
        bytes.push(b'\n');
    }
    std::fs::write(path, bytes).unwrap();
    count
}

#[test]
fn a_real_file_comes_back_byte_by_byte() {
    let dir = tempfile::tempdir().unwrap();
    let server = Standalone::start(&dir.path().join("data"), &dir.path().join("log"));
    let input = dir.path().join("input");
    let count = lines(&input);
    let tool = tool();
    let address = server.server();
    let begun = Instant::now();
    let line = words(&format!("produce lines --server {address}"));
    let produced = tool.run_with(line, Some(&input), SOON * 2).unwrap();
    assert_eq!(produced.code, Some(0), "{}", produced.stderr);
    println!("published {count} lines in {:.2?}", begun.elapsed());
    let begun = Instant::now();
    let line = format!("consume lines --count {count} --format raw --server {address}");
    let consumed = tool.run(words(&line), SOON * 2).unwrap();
    assert_eq!(consumed.code, Some(0), "{}", consumed.stderr);
    println!("consumed them in {:.2?}", begun.elapsed());
    let sent = std::fs::read(&input).unwrap();
    assert_eq!(consumed.stdout.len(), sent.len());
    assert!(
        consumed.stdout == sent,
        "what came back differs from what was sent"
    );
    // All was acked: nothing is left for the same subscription.
    let line = format!("consume lines --idle 1s --format raw --server {address}");
    let again = tool.run(words(&line), SOON).unwrap();
    assert_eq!(
        (again.code, again.stdout.len()),
        (Some(0), 0),
        "{}",
        again.stderr
    );
    server.stop();
}

/// How often some words stand in the files of a folder.
fn occurrences(folder: &Path, words: &[u8]) -> usize {
    let mut count = 0;
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            count += occurrences(&path, words);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let starts = bytes.iter().enumerate();
            let starts = starts.filter(|(_, byte)| **byte == words[0]);
            count += starts
                .filter(|(at, _)| bytes[*at..].starts_with(words))
                .count();
        }
    }
    count
}

#[test]
fn a_file_is_kept_compressed_and_comes_back_byte_by_byte() {
    const LINES: usize = 5_000;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Standalone::start(&data, &dir.path().join("log"));
    let address = server.server();
    let input = dir.path().join("input");
    for codec in ["none", "zstd", "lz4", "snappy"] {
        let phrase = format!("told in {codec} again and again");
        let line = |number| format!("line {number}: naïve résumé, {phrase}\n");
        let sent: String = (0..LINES).map(line).collect();
        std::fs::write(&input, &sent).unwrap();
        let line = format!("produce {codec} --compression {codec} --server {address}");
        let produced = tool()
            .run_with(words(&line), Some(&input), SOON * 2)
            .unwrap();
        assert_eq!(produced.code, Some(0), "{}", produced.stderr);
        let line = format!("consume {codec} --count {LINES} --format raw --server {address}");
        let consumed = tool().run(words(&line), SOON * 2).unwrap();
        assert_eq!(consumed.code, Some(0), "{}", consumed.stderr);
        assert!(consumed.stdout == sent.as_bytes(), "{codec}: it differs");
        let on_disk = occurrences(&data, phrase.as_bytes());
        println!("{codec}: {on_disk} of {LINES} lines can be read on the disk");
        assert_eq!(on_disk >= LINES, codec == "none", "{codec}: {on_disk}");
    }
    server.stop();
}

#[test]
fn what_a_command_cannot_use_is_said_with_the_way_out() {
    let unknown = refused(words("standalone --listn 127.0.0.1:7450"), 2);
    assert!(
        unknown.contains("--listn") && unknown.contains("--listen"),
        "{unknown}"
    );
    let quorum = refused(words("serving --quorum 3"), 2);
    assert!(quorum.contains("such as 3/2"), "{quorum}");
    let size = refused(words("standalone --journal-file big"), 2);
    assert!(size.contains("--journal-file"), "{size}");
    let name = refused(words("bookie --name no/name"), 2);
    assert!(name.contains("--name"), "{name}");
    let size = refused(words("produce t --size 1KiB"), 2);
    assert!(size.contains("--count"), "{size}");
    let codec = refused(words("produce t --compression gzip"), 2);
    assert!(
        codec.contains("zstd") && codec.contains("snappy"),
        "{codec}"
    );
    let nobody = free_addresses(1).unwrap()[0];
    let nobody = refused(
        words(&format!("produce t --count 1 --server http://{nobody}")),
        1,
    );
    assert!(nobody.contains("--server"), "{nobody}");
    let none = refused(words("consume t --server nonsense"), 1);
    assert!(none.contains("--server"), "{none}");
}

#[test]
fn a_topic_of_another_tenant_is_made_from_the_command_line_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = Standalone::start(&dir.path().join("data"), &dir.path().join("log"));
    for line in [
        "tenant create acme",
        "namespace create tenants/acme/namespaces/eu",
        "topic create tenants/acme/namespaces/eu/topics/t",
        "tenant get acme",
        "namespace get tenants/acme/namespaces/eu",
    ] {
        let line = format!("{line} --server {}", server.server());
        let ended = tool().run(words(&line), SOON).unwrap();
        assert_eq!(ended.code, Some(0), "{line}: {}", ended.stderr);
        assert!(ended.text().contains("acme"), "{line}: {}", ended.text());
    }
    for line in ["tenant list", "namespace list acme"] {
        let line = format!("{line} --server {}", server.server());
        let listed = tool().run(words(&line), SOON).unwrap();
        assert!(listed.text().contains("tenants/acme"), "{line}: {listed:?}");
    }
    server.stop();
}

#[test]
fn an_interrupted_produce_tells_how_many_are_acked_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let server = Standalone::start(&dir.path().join("data"), &dir.path().join("log"));
    let line = format!("produce t --server {}", server.server());
    let mut produce = Command::new(binary())
        .args(words(&line))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = produce.stdin.take().unwrap();
    input.write_all(b"a\nb\n").unwrap();
    let next_offset = async || {
        let client = Client::connect(server.server()).await.unwrap();
        let stats = client.admin().topic_stats("t").await;
        stats.map_or(0, |stats| stats.shards[0].next_offset)
    };
    // Its input goes on, but both lines are stored.
    let stored = wait_until(SOON, || in_time(next_offset()) == 2);
    let id = produce.id().to_string();
    let asked = Command::new("kill").args(["-INT", &id]).status();
    let ended = produce.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(stored && asked.unwrap().success(), "{said}");
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("messages acked: 2"), "{said}");
    drop(input);
    let line = format!("consume t --from 9 --idle 1s --server {}", server.server());
    let consumed = tool().run(words(&line), SOON).unwrap();
    let said = &consumed.stderr;
    assert!(
        said.contains("--from 9 is beyond the end of the topic, 2"),
        "{said}"
    );
    server.stop();
}

#[test]
fn a_topic_that_cannot_open_ends_commands_in_time_with_what_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let server = Standalone::start(&dir.path().join("data"), &dir.path().join("log"));
    let address = server.server();
    let line = format!("topic create wide --quorum 3/2 --server {address}");
    let made = tool().run(words(&line), SOON).unwrap();
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.stderr.contains("needs 2 bookies"), "{}", made.stderr);
    for line in [
        "produce wide --count 1 --timeout 1s",
        "consume wide --idle 1s",
    ] {
        let begun = Instant::now();
        let said = refused(words(&format!("{line} --server {address}")), 1);
        assert!(said.contains("needs 2 bookies"), "{line}: {said}");
        // Below the 10 s after which the server would give up by itself.
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(9), "{line}: {took:?}");
    }
    let status = tool().run(words(&format!("cluster status --server {address}")), SOON);
    let status = status.unwrap().text();
    let concern =
        "1 topic in use wants more copies than the 1 bookie that takes writes: wide (3/2)";
    assert!(status.contains(concern), "{status}");
    // It is killed: a clean stop would wait for the topic.
}

#[test]
fn a_disk_without_room_is_told_by_the_server_and_by_a_command_that_waits_for_it() {
    let Some(mount) = Mount::tmpfs("size=64m").unwrap() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // Room for the first journal file, and with it less than the server wants to stay free.
    let ballast = mount.path().join("ballast");
    std::fs::write(&ballast, vec![0xaa; 42 << 20]).unwrap();
    let server = Standalone::start(&mount.path().join("data"), &dir.path().join("log"));
    let said = server.process.log();
    assert!(
        said.contains("low on space") && said.contains("--free-low"),
        "{said}"
    );
    let line = words(&format!("produce t --count 1 --server {}", server.server()));
    let log = dir.path().join("produce");
    let mut produce = Process::spawn("produce", &binary(), line, &log).unwrap();
    produce
        .wait_saying("waiting for topic t: quorum 1/1 needs 1 bookie", SOON)
        .unwrap();
    std::fs::remove_file(&ballast).unwrap();
    let ended = produce.wait_ended(SOON).unwrap();
    assert_eq!(ended.code(), Some(0), "{}", produce.log());
    server.stop();
}

#[test]
fn an_occupied_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let said = refused(arguments(address, dir.path()), 1);
    assert!(
        said.contains(&address.to_string()) && said.contains("--listen"),
        "{said}"
    );
    let made = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(made, 0, "nothing is opened before the port is its own");
    let mut meta = words(&format!(
        "meta --listen {address} --admin-listen off --data-dir"
    ));
    meta.push(dir.path().join("meta").into());
    let said = refused(meta, 1);
    assert!(said.contains(&address.to_string()), "{said}");
}

#[test]
fn a_setting_out_of_bounds_is_named_with_its_flag_before_meta_is_waited_for() {
    let nobody = free_addresses(1).unwrap()[0];
    let line = words(&format!("serving --name s1 --meta {nobody} --lease 1ms"));
    let said = refused(line, 1);
    assert!(said.contains("--lease must be 500ms to 60s"), "{said}");
    for (flag, wanted) in [
        (
            "--compression-ratio-max 0",
            "--compression-ratio-max must be at least 1",
        ),
        ("--balance-interval 1ms", "must be 100ms to 1h, or off"),
        ("--balance-moves 0", "must be 1 to 64"),
        ("--balance-rest 25h", "must be at most 24h"),
    ] {
        let said = refused(
            words(&format!("serving --name s1 --meta {nobody} {flag}")),
            1,
        );
        assert!(said.contains(wanted), "{flag}: {said}");
    }
    let line = format!("bookie --name b1 --admin-listen off --meta {nobody} --journal-file 8MiB");
    let said = refused(words(&line), 1);
    assert!(said.contains("--journal-file must be "), "{said}");
}

#[test]
fn a_server_whose_output_nobody_reads_any_more_stops_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Command::new(binary())
        .args(arguments(free_addresses(1).unwrap()[0], dir.path()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(server.stdout.take().unwrap()).lines();
    let ready = said.find(|line| line.as_ref().is_ok_and(|line| line.contains("is ready")));
    ready.expect("it says that it is ready").unwrap();
    drop((said, server.stderr.take()));
    let asked = Command::new("kill").arg(server.id().to_string()).status();
    let ended = wait_until(SOON, || server.try_wait().unwrap().is_some());
    if !ended {
        server.kill().unwrap();
    }
    let status = server.wait().unwrap();
    assert!(asked.unwrap().success() && ended, "{status}");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_directory_in_use_is_not_shared() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Standalone::start(&data, &dir.path().join("log"));
    let said = refused_with(&data);
    assert!(said.contains("another process"), "{said}");
    server.stop();
}

#[test]
fn a_directory_of_another_cluster_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    Standalone::start(&data, &dir.path().join("log")).stop();
    // Meta begins anew: another cluster, with the old one's messages beside it.
    let kept = dir.path().join("kept");
    std::fs::rename(data.join("meta"), &kept).unwrap();
    let said = refused_with(&data);
    assert!(said.contains("belongs to another cluster"), "{said}");
    assert!(said.contains(&*data.to_string_lossy()), "{said}");
    std::fs::remove_dir_all(data.join("meta")).unwrap();
    std::fs::rename(&kept, data.join("meta")).unwrap();
    Standalone::start(&data, &dir.path().join("log")).stop();
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    Standalone::start(&data, &dir.path().join("log")).stop();
    // Meta's: three lines of text, the last a checksum.
    let path = data.join("meta/FORMAT");
    let kept = std::fs::read(&path).unwrap();
    let text = String::from_utf8(kept.clone()).unwrap();
    let newer = text[..text.len() - 9].replace("format=1", "format=9");
    std::fs::write(&path, format!("{newer}{}\n", crc32c(newer.as_bytes()))).unwrap();
    let said = refused_with(&data);
    assert!(
        said.contains("newer format") && said.contains("format=9"),
        "{said}"
    );
    std::fs::write(&path, kept).unwrap();
    // The bookie's: magic 8, format 4, length 4, checksum 4, checksum of these.
    let path = data.join("ledgers/identity");
    let kept = std::fs::read(&path).unwrap();
    let mut newer = kept.clone();
    newer[8..12].copy_from_slice(&9_u32.to_le_bytes());
    let crc = crc32c(&newer[..20]).get().to_le_bytes();
    newer[20..24].copy_from_slice(&crc);
    std::fs::write(&path, newer).unwrap();
    let said = refused_with(&data);
    assert!(
        said.contains("newer format") && said.contains("format=9"),
        "{said}"
    );
    std::fs::write(&path, kept).unwrap();
    Standalone::start(&data, &dir.path().join("log")).stop();
}

#[test]
fn a_read_only_directory_is_named() {
    let Some(mount) = Mount::tmpfs("size=1m,ro").unwrap() else {
        return;
    };
    let data = mount.path().join("data");
    let said = refused_with(&data);
    assert!(said.contains(&*data.to_string_lossy()), "{said}");
    assert!(said.contains("ead-only"), "{said}");
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let Some(mount) = Mount::tmpfs("size=64m").unwrap() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let data = mount.path().join("data");
    let server = Standalone::start(&data, &dir.path().join("log-1"));
    in_time(subscribe(&server.server()));
    let (acked, refusal) = in_time(fill(&server.server()));
    println!(
        "{acked} messages of 64 KiB were acked before: {} ({refusal})",
        refusal.reason()
    );
    assert!(acked > 50, "{acked}");
    // The message that was underway when the disk was full may be stored or not: nobody says that it is.
    let honest = [
        Reason::OutcomeUnknown,
        Reason::InsufficientBookies,
        Reason::Overloaded,
    ];
    assert!(honest.contains(&refusal.reason()), "{refusal:?}");
    // It still answers, and what it acked is there, now and after a restart.
    assert!(in_time(read(&server.server(), "now")) >= acked);
    server.stop();
    let server = Standalone::start(&data, &dir.path().join("log-2"));
    assert!(in_time(read(&server.server(), "later")) >= acked);
    server.stop();
}

#[test]
fn a_disk_that_others_fill_to_the_last_byte_loses_nothing_once_there_is_room() {
    let Some(mount) = Mount::tmpfs("size=96m").unwrap() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (data, ballast) = (mount.path().join("data"), mount.path().join("ballast"));
    let log = dir.path().join("log-1");
    let mut server = Standalone::start(&data, &log);
    in_time(subscribe(&server.server()));
    // It writes until nothing more goes, and leaves what went.
    let _ = std::fs::write(&ballast, vec![0xaa; 96 << 20]);
    let (acked, refusal) = in_time(fill(&server.server()));
    println!(
        "{acked} messages of 64 KiB were acked before: {} ({refusal})",
        refusal.reason()
    );
    // It may go on, or end with an error that a person can read; it never goes on after a write that failed.
    let is_running = server.process.is_running();
    println!("it {}", if is_running { "goes on" } else { "ended" });
    if is_running {
        let ended = server.process.stop(SOON).unwrap();
        println!("{ended}");
    }
    std::fs::remove_file(&ballast).unwrap();
    let server = Standalone::start(&data, &dir.path().join("log-2"));
    assert!(in_time(read(&server.server(), "now")) >= acked);
    server.stop();
}

/// Makes the topic and its subscriptions while there is room: reading must not need any.
async fn subscribe(server: &str) {
    let client = Client::connect(server).await.unwrap();
    client.producer("full").create().await.unwrap();
    for name in ["now", "later"] {
        let name = format!("full/subscriptions/{name}");
        let admin = client.admin();
        let options = SubscriptionOptions::default();
        admin.create_subscription(&name, options).await.unwrap();
    }
}

/// Publishes, one message after the other, until that is refused.
async fn fill(server: &str) -> (u64, ledgerline_client::Error) {
    let client = Client::connect(server).await.unwrap();
    let patience = Duration::from_secs(3);
    let producer = client
        .producer("full")
        .timeout(patience)
        .create()
        .await
        .unwrap();
    let mut prng = Prng::new(1);
    for acked in 0..2048 {
        let message: Vec<u8> = (0..8192)
            .flat_map(|_| prng.next_u64().to_le_bytes())
            .collect();
        let stored = match producer.send(message).await {
            Ok(receipt) => receipt.await,
            Err(error) => Err(error),
        };
        if let Err(error) = stored {
            return (acked, error);
        }
    }
    panic!("128 MiB went on a disk of 64 MiB");
}

/// How many messages a subscription gets before none comes any more.
async fn read(server: &str, subscription: &str) -> u64 {
    let client = Client::connect(server).await.unwrap();
    let name = format!("full/subscriptions/{subscription}");
    let mut consumer = client.consumer(name).open().await.unwrap();
    let mut count = 0;
    while let Ok(message) = tokio::time::timeout(Duration::from_secs(5), consumer.recv()).await {
        assert_eq!(message.unwrap().offset(), count);
        count += 1;
    }
    count
}
