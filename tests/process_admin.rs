//! The admin port of real processes: over TCP, from before a node has started until it has ended.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test on real processes and sockets, in real time"
)]

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::page::Page;
use tests::process::{Process, Tool, commands, free_addresses, wait_until};

/// For what should take a moment, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(60);

fn binary() -> PathBuf {
    commands::binary_or(env!("CARGO_BIN_EXE_ledgerline"))
}

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(Into::into).collect()
}

/// Asks for a page: its status and its text; none while nobody listens.
fn get(admin: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut conn = TcpStream::connect(admin).ok()?;
    conn.set_read_timeout(Some(SOON)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\n\r\n");
    conn.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    conn.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

fn metrics(admin: SocketAddr) -> Page {
    let (status, text) = get(admin, "/metrics").unwrap();
    assert_eq!(status, 200);
    Page::parse(&text).unwrap_or_else(|fault| panic!("{fault} in {text}"))
}

fn start(line: &str, data: &Path, log: &Path) -> Process {
    let mut line = words(line);
    if !data.as_os_str().is_empty() {
        line.extend(["--data-dir".into(), data.into()]);
    }
    Process::spawn("node", &binary(), line, log).unwrap()
}

/// A standalone process that is ready, and where it listens and is administered.
fn standalone(dir: &Path) -> (Process, SocketAddr, SocketAddr) {
    let free = free_addresses(2).unwrap();
    let (listen, admin) = (free[0], free[1]);
    let sizes = "--journal-file 16MiB --free-low 8MiB";
    let line = format!("standalone --listen {listen} --admin-listen {admin} {sizes}");
    let mut process = start(&line, &dir.join("data"), &dir.join("log"));
    process.wait_saying(" is ready", SOON).unwrap();
    (process, listen, admin)
}

#[test]
fn every_role_of_a_standalone_process_is_ready_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut process, listen, admin) = standalone(dir.path());
    let said = process.log();
    assert!(said.contains(&format!("http://{admin}/metrics")), "{said}");
    assert_eq!(get(admin, "/readyz").unwrap(), (200, "ok\n".to_owned()));
    assert_eq!(get(admin, "/healthz").unwrap(), (200, "ok\n".to_owned()));
    assert_eq!(get(admin, "/").unwrap().0, 404);
    let tool = Tool::new(&binary()).unwrap();
    let before = metrics(admin);
    let line = format!("produce t --count 10 --server http://{listen}");
    let produced = tool.run(words(&line), SOON).unwrap();
    assert_eq!(produced.code, Some(0), "{}", produced.stderr);
    let after = metrics(admin);
    let grown = |name| after.sum(name) - before.sum(name);
    assert_eq!(grown("ledgerline_serving_published_messages_total"), 10.0);
    assert!(grown("ledgerline_bookie_adds_total") >= 1.0);
    assert!(grown("ledgerline_bookie_journal_sync_seconds_sum") > 0.0);
    assert!(grown("ledgerline_meta_commands_total") >= 1.0);
    assert!(grown("ledgerline_serving_publish_seconds_sum") > 0.0);
    if cfg!(target_os = "linux") {
        assert!(after.sum("process_resident_memory_bytes") > f64::from(1 << 20));
        assert!(after.sum("process_open_fds") > 3.0);
    }
    assert_eq!(process.stop(SOON).unwrap().code(), Some(0));
    assert_eq!(get(admin, "/healthz"), None, "it ends with the process");
}

#[test]
fn what_a_bench_compresses_is_published_in_fewer_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut process, listen, admin) = standalone(dir.path());
    let tool = Tool::new(&binary()).unwrap();
    let published = || metrics(admin).sum("ledgerline_serving_published_bytes_total");
    let bytes = |flags: &str| {
        let before = published();
        let line = "bench publish --count 2000 --warmup 0s --probe-dir none";
        let line = format!("{line} {flags} --server http://{listen}");
        let ended = tool.run(words(&line), SOON).unwrap();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        published() - before
    };
    let made = 2_000.0 * 1_024.0;
    assert!(
        bytes("--compressible 75") > made,
        "it is not compressed unasked"
    );
    let noise = bytes("--compression zstd");
    assert!(noise > made * 0.9, "but for stamps it is noise: {noise}");
    let shrunk = bytes("--compression zstd --compressible 75");
    assert!(shrunk < made / 2.0, "{shrunk} of {made}");
    assert_eq!(process.stop(SOON).unwrap().code(), Some(0));
}

#[test]
fn a_node_that_waits_for_meta_works_and_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let free = free_addresses(3).unwrap();
    let (listen, admin, nobody) = (free[0], free[1], free[2]);
    let line = format!("serving --listen {listen} --admin-listen {admin} --meta {nobody}");
    let mut process = start(&line, Path::new(""), &dir.path().join("log"));
    assert!(wait_until(SOON, || get(admin, "/healthz").is_some()));
    let starting = (503, "serving: starting\n".to_owned());
    assert_eq!(get(admin, "/readyz").unwrap(), starting);
    assert_eq!(get(admin, "/healthz").unwrap(), (200, "ok\n".to_owned()));
    process.kill().unwrap();
}

#[test]
fn a_bookie_tells_what_every_byte_of_its_directories_is() {
    let dir = tempfile::tempdir().unwrap();
    let free = free_addresses(2).unwrap();
    let (meta, listen) = (free[0], free[1]);
    let line = format!("meta --listen {meta} --admin-listen off");
    let mut meta_process = start(
        &line,
        &dir.path().join("meta"),
        &dir.path().join("meta-log"),
    );
    meta_process.wait_saying(" is ready", SOON).unwrap();
    let tool = Tool::new(&binary()).unwrap();
    let df = format!("bookie df --addr {listen} --json");
    let nobody = tool.run(words(&df), SOON).unwrap();
    assert_eq!(nobody.code, Some(1), "{}", nobody.stderr);

    let sizes = "--journal-file 16MiB --free-low 8MiB --reclaim-interval 1s --rewrite-below 60";
    let line = format!("bookie --meta {meta} --listen {listen} --admin-listen off {sizes}");
    let data = dir.path().join("bookie");
    let mut bookie = start(&line, &data, &dir.path().join("bookie-log"));
    bookie.wait_saying(" is ready", SOON).unwrap();
    let told = tool.run(words(&df), SOON).unwrap();
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["name"], "bookie-1");
    assert_eq!(told["standing"], "read-write");
    assert_eq!(told["free_low"], 8 << 20);
    assert!(told["used"].as_u64() >= Some(16 << 20), "{told}");
    let table = tool.run(words(&df.replace(" --json", "")), SOON).unwrap();
    assert!(table.text().contains("journal"), "{}", table.text());
    assert_eq!(bookie.stop(SOON).unwrap().code(), Some(0));
    assert_eq!(meta_process.stop(SOON).unwrap().code(), Some(0));
}

#[test]
fn an_occupied_admin_port_is_named_with_its_setting() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = taken.local_addr().unwrap();
    let free = free_addresses(2).unwrap();
    let (listen, nobody) = (free[0], free[1]);
    let data = dir.path().join("data");
    let data = data.display();
    let tool = Tool::new(&binary()).unwrap();
    for role in [
        format!("serving --meta {nobody}"),
        format!("bookie --meta {nobody} --data-dir {data}"),
        format!("meta --data-dir {data}"),
        format!("standalone --data-dir {data}"),
    ] {
        let line = format!("{role} --listen {listen} --admin-listen {admin}");
        let ended = tool.run(words(&line), SOON).unwrap();
        assert_eq!(ended.code, Some(1), "{role}: {}", ended.stderr);
        for word in ["--admin-listen off", &admin.to_string()] {
            assert!(ended.stderr.contains(word), "{role}: {}", ended.stderr);
        }
    }
    let nonsense = tool.run(words("meta --admin-listen on"), SOON).unwrap();
    assert_eq!(nonsense.code, Some(2));
    let said = nonsense.stderr;
    assert!(said.contains("HOST:PORT, or off"), "{said}");
}
