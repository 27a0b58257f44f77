//! Space comes back: what every subscription acked goes from the disk, and so does a topic that is deleted.
#![expect(
    clippy::unwrap_used,
    reason = "a test on a real process and real files"
)]

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tests::process::{Process, Tool, commands, free_addresses, wait_until};

/// For what should take seconds, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(90);

/// More than the journal holds before it is flushed to data files.
const MESSAGES: u64 = 90_000;
const MIB: u64 = 1 << 20;

/// A standalone process that looks for what may go several times a second.
struct Standalone {
    process: Process,
    tool: Tool,
    listen: SocketAddr,
}

impl Standalone {
    fn start(dir: &Path, life: u32) -> Self {
        let binary = commands::binary_or(env!("CARGO_BIN_EXE_ledgerline"));
        let listen = free_addresses(1).unwrap()[0];
        let often = "--retention 0s --trim-interval 200ms --reclaim-interval 200ms";
        let flags = format!(
            "standalone --listen {listen} --journal-file 16MiB --free-low 8MiB --admin-listen off {often} --data-dir"
        );
        let mut arguments: Vec<OsString> = flags.split_whitespace().map(Into::into).collect();
        arguments.push(dir.join("data").into());
        let log = dir.join(format!("log-{life}"));
        let mut process = Process::spawn("standalone", &binary, arguments, &log).unwrap();
        process.wait_saying(" is ready", SOON).unwrap();
        let tool = Tool::new(&binary).unwrap();
        Self {
            process,
            tool,
            listen,
        }
    }

    /// Runs a command against it, to its good end.
    fn run(&self, line: &str) -> String {
        let line = format!("{line} --server http://{}", self.listen);
        let ended = self.tool.run(line.split_whitespace(), SOON).unwrap();
        assert_eq!(ended.code, Some(0), "{line}: {}", ended.stderr);
        ended.text()
    }

    fn first_offset(&self) -> u64 {
        let stats = self.run("topic stats orders --json");
        let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
        stats["shards"][0]["first_offset"].as_u64().unwrap()
    }
}

/// Bytes of the bookie's data files. The journal is recycled and keeps its size.
fn stored(dir: &Path) -> u64 {
    let mut bytes = 0;
    let mut left = vec![dir.join("data")];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|kind| kind == "data") {
                // A file may go while it is looked at.
                bytes += path.metadata().map_or(0, |it| it.len());
            }
        }
    }
    bytes
}

#[test]
fn what_everybody_acked_and_what_is_deleted_goes_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let server = Standalone::start(dir.path(), 1);
    server.run("topic create orders");
    server.run("subscription create orders billing");
    server.run("subscription create orders audit");
    server.run(&format!("produce orders --count {MESSAGES} --size 1KiB"));
    let consume = |subscription: &str| {
        server.run(&format!(
            "consume orders --subscription {subscription} --count {MESSAGES}"
        ));
    };
    consume("billing");
    assert!(
        wait_until(SOON, || stored(dir.path()) > 20 * MIB),
        "a first file"
    );
    assert_eq!(
        server.first_offset(),
        0,
        "one subscription still needs everything"
    );
    let full = stored(dir.path());

    consume("audit");
    assert!(
        wait_until(SOON, || stored(dir.path()) < MIB),
        "the space back"
    );
    assert_eq!(server.first_offset(), MESSAGES);
    println!(
        "{} MiB came down to {} bytes",
        full / MIB,
        stored(dir.path())
    );

    // It goes on, also after a crash: nothing comes back, and nothing new is lost.
    server.run("produce orders --count 1000 --size 1KiB");
    let Standalone { mut process, .. } = server;
    process.kill().unwrap();
    let server = Standalone::start(dir.path(), 2);
    server.run("consume orders --subscription billing --count 1000");
    assert_eq!(server.first_offset(), MESSAGES);

    server.run(&format!("produce orders --count {MESSAGES} --size 1KiB"));
    assert!(
        wait_until(SOON, || stored(dir.path()) > 20 * MIB),
        "another file"
    );
    server.run("topic delete orders");
    assert!(
        wait_until(SOON, || stored(dir.path()) < MIB),
        "the space back"
    );
    let left = server.run("topic list");
    assert!(!left.contains("orders"), "{left}");
    let Standalone { mut process, .. } = server;
    let status = process.stop(SOON).unwrap();
    assert_eq!(status.code(), Some(0), "{}", process.log());
}
