//! The Python example, made from the `.proto` files alone, against a serving node that does not own the topic.
//!
//! It needs `grpcio` and `grpcio-tools`: in the interpreter that `LEDGERLINE_PYTHON` names, else in `python3`. Where
//! they are missing the test says that it skips; with `CI=true` it fails.
#![expect(clippy::disallowed_methods, reason = "a test on real processes")]

use std::path::{Path, PathBuf};
use std::process::Command;

use ledgerline_client::Quorum;
use tests::history::{Guarantees, HistoryWriter};
use tests::process::{Cluster, Load, Role, commands};

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The interpreter; none where it lacks what the example needs.
fn python() -> Option<String> {
    let python = variable("LEDGERLINE_PYTHON").unwrap_or_else(|| "python3".to_owned());
    let mut asked = Command::new(&python);
    asked.args(["-c", "import grpc, grpc_tools"]);
    let has_all = asked.output().is_ok_and(|output| output.status.success());
    has_all.then_some(python)
}

#[test]
fn python_publishes_consumes_and_acks_through_a_node_that_does_not_own_the_topic() {
    let Some(python) = python() else {
        assert_ne!(
            variable("CI").as_deref(),
            Some("true"),
            "grpcio-tools is missing"
        );
        println!(
            "SKIPPED: no python with grpcio and grpcio-tools; LEDGERLINE_PYTHON names another"
        );
        return;
    };
    let binary = variable(commands::BINARY_ENV).map(PathBuf::from);
    let binary = binary.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_ledgerline")));
    let mut cluster = Cluster::separate(&binary, 3, 2).unwrap();
    for bookie in ["bookie-1", "bookie-2", "bookie-3"] {
        let small = ["--journal-file", "16MiB", "--free-low", "64MiB"];
        cluster.node(bookie).unwrap().extra = small.map(Into::into).to_vec();
    }
    cluster.start_all().unwrap();
    cluster.wait_ready().unwrap();
    let endpoints: Vec<String> = cluster.nodes(Role::Serving).map(|n| n.endpoint()).collect();
    let history = HistoryWriter::in_memory(Guarantees::default());
    let load = Load::new(&endpoints.join(","), history).unwrap();
    load.create_topic("from-python", Quorum::THREE_TWO).unwrap();
    let owner = load.owner("from-python").unwrap();
    let other = endpoints
        .iter()
        .find(|&endpoint| *endpoint != owner)
        .unwrap();
    println!("{owner} owns the topic, asking {other}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python/roundtrip.py");
    let lines = std::fs::read_to_string(&script).unwrap().lines().count();
    assert!(lines <= 60, "the example has {lines} lines");
    let output = Command::new(python)
        .arg(script)
        .args([other.trim_start_matches("http://"), "from-python"])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let erred = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{erred}");
    assert!(said.contains("every ack confirmed"), "{said}");
    assert_eq!(
        load.owner("from-python").unwrap(),
        owner,
        "it moved meanwhile"
    );
}
