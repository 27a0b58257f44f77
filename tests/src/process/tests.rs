use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::check::{Limits, judge_bytes};
use crate::history::{Guarantees, HistoryWriter};

const SOON: Duration = Duration::from_secs(20);

fn shell(dir: &Path, script: &str) -> Process {
    let log = dir.join("log");
    Process::spawn("shell", Path::new("/bin/sh"), ["-c", script], &log).unwrap()
}

/// The state letter of a process, `None` when there is no such process.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn a_process_is_frozen_thawed_and_killed_by_its_pid() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = shell(dir.path(), "echo up; exec sleep 100");
    process.wait_saying("up", SOON).unwrap();
    let pid = process.pid();
    process.pause().unwrap();
    assert!(wait_until(SOON, || state(pid) == Some('T')));
    process.resume().unwrap();
    assert!(wait_until(SOON, || state(pid) != Some('T')));
    assert!(process.is_running());
    let status = process.kill().unwrap();
    assert!(!status.success());
    assert_eq!(state(pid), None);
    assert!(matches!(process.pause(), Err(ProcessError::Ended { .. })));
}

#[test]
fn a_process_ends_with_its_handle_even_frozen() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = shell(dir.path(), "exec sleep 100");
    let pid = process.pid();
    process.pause().unwrap();
    drop(process);
    assert_eq!(state(pid), None);
}

#[test]
fn one_that_ends_or_is_late_says_so_with_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = shell(dir.path(), "echo bad flag >&2; exit 3");
    let error = process.wait_saying("never", SOON).unwrap_err();
    assert!(error.to_string().contains("bad flag"), "{error}");
    let mut process = shell(dir.path(), "echo slow; exec sleep 100");
    process.wait_saying("slow", SOON).unwrap();
    let error = process
        .wait_saying("never", Duration::from_millis(30))
        .unwrap_err();
    assert!(matches!(error, ProcessError::Late { .. }), "{error}");
    assert!(error.to_string().contains("slow"), "{error}");
}

#[test]
fn one_that_is_asked_to_end_may_do_it_properly() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let mut process = shell(dir.path(), script);
    process.wait_saying("up", SOON).unwrap();
    assert!(process.stop(SOON).unwrap().success());
    assert!(process.log().contains("bye"));
}

#[test]
fn a_listener_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut process = shell(dir.path(), "exec sleep 100");
    let address = listener.local_addr().unwrap();
    process.wait_listening(address, SOON).unwrap();
    // It was a plain connection, closed again.
    let (mut connection, _) = listener.accept().unwrap();
    assert_eq!(connection.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn free_addresses_differ() {
    let mut addresses = free_addresses(20).unwrap();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 20);
    assert!(addresses.iter().all(|address| address.ip().is_loopback()));
}

#[test]
fn the_command_lines_are_as_documented() {
    let mut cluster = Cluster::separate(Path::new("/bin/false"), 3, 2).unwrap();
    let line = |cluster: &mut Cluster, name: &str| {
        let dir = cluster.dir().display().to_string();
        let meta = cluster
            .node("meta")
            .map_or_else(|_| "none".to_owned(), |meta| meta.listen.to_string());
        let node = cluster.node(name).unwrap();
        let words = node.arguments();
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        let line = words.join(" ").replace(&dir, "DIR");
        line.replace(&node.listen.to_string(), "HERE")
            .replace(&meta, "META")
    };
    assert_eq!(
        line(&mut cluster, "meta"),
        "meta --listen HERE --data-dir DIR/data/meta --admin-listen off"
    );
    assert_eq!(
        line(&mut cluster, "bookie-3"),
        "bookie --listen HERE --data-dir DIR/data/bookie-3 --name bookie-3 --advertise HERE --meta META --admin-listen off"
    );
    assert_eq!(
        line(&mut cluster, "serving-2"),
        "serving --listen HERE --name serving-2 --advertise HERE --meta META --admin-listen off"
    );
    assert_eq!(cluster.nodes(Role::Bookie).count(), 3);
    let mut alone = Cluster::standalone(Path::new("/bin/false")).unwrap();
    let dir = alone.dir().display().to_string();
    assert_eq!(
        line(&mut alone, "standalone").replace(&dir, "DIR"),
        "standalone --listen HERE --data-dir DIR/data/standalone --admin-listen off"
    );
}

#[test]
fn a_node_that_cannot_start_is_reported_with_its_name() {
    let mut cluster = Cluster::standalone(Path::new("/bin/false")).unwrap();
    let error = cluster.start("standalone").unwrap_err().to_string();
    assert!(error.contains("process ended name=standalone"), "{error}");
    assert!(cluster.start("nobody").is_err());
}

/// A stand-in for the binary: a script that listens to nothing, so the test listens for it.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test makes a real program")]
fn faults_of_a_cluster_are_in_the_history() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("ledgerline");
    std::fs::write(&program, "#!/bin/sh\nexec sleep 100\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut cluster = Cluster::standalone(&program).unwrap();
    let history = HistoryWriter::in_memory(Guarantees::default());
    cluster.record_faults(history.clone());
    let address = cluster.node("standalone").unwrap().listen;
    let _listener = TcpListener::bind(address).unwrap();
    cluster.start("standalone").unwrap();
    assert!(cluster.start("standalone").is_err());
    cluster.pause("standalone").unwrap();
    cluster.resume("standalone").unwrap();
    cluster.kill_all().unwrap();
    assert!(cluster.pids().is_empty());
    assert!(cluster.kill("standalone").is_err());
    cluster.start_all().unwrap();
    let report = judge_bytes(&history.finish().unwrap(), Limits::default());
    assert_eq!(report.stats.faults, 2);
    assert_eq!(report.stats.events, 6);
}
