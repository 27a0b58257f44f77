//! Python, made from the `.proto` files alone: the example against a serving node that does not own the topic, and
//! compressed batches.
//!
//! It needs `grpcio` and `grpcio-tools`: in the interpreter that `LEDGERLINE_PYTHON` names, else in `python3`. Where
//! they are missing the test says that it skips; with `CI=true` it fails.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test on real processes"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ledgerline_client::Quorum;
use tests::history::{Guarantees, HistoryWriter};
use tests::process::{Cluster, Load, Role, Tool, commands};

/// For what should take a moment, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(60);

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

/// The interpreter, or a word that the test skips.
fn python_or_skip() -> Option<String> {
    let python = python();
    if python.is_none() {
        assert_ne!(
            variable("CI").as_deref(),
            Some("true"),
            "grpcio-tools is missing"
        );
        println!(
            "SKIPPED: no python with grpcio and grpcio-tools; LEDGERLINE_PYTHON names another"
        );
    }
    python
}

/// Three bookies with small files and two serving nodes, all up.
fn cluster() -> Cluster {
    let binary = commands::binary_or(env!("CARGO_BIN_EXE_ledgerline"));
    let mut cluster = Cluster::separate(&binary, 3, 2).unwrap();
    for bookie in ["bookie-1", "bookie-2", "bookie-3"] {
        let small = ["--journal-file", "16MiB", "--free-low", "64MiB"];
        cluster.node(bookie).unwrap().extra = small.map(Into::into).to_vec();
    }
    cluster.start_all().unwrap();
    cluster.wait_ready().unwrap();
    cluster
}

/// What a script says, which must end well.
fn said(script: &mut Command) -> String {
    let output = script.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let erred = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{erred}");
    said
}

#[test]
fn python_publishes_consumes_and_acks_through_a_node_that_does_not_own_the_topic() {
    let Some(python) = python_or_skip() else {
        return;
    };
    let cluster = cluster();
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
    let address = other.trim_start_matches("http://");
    let said = said(
        Command::new(python)
            .arg(script)
            .args([address, "from-python"]),
    );
    assert!(said.contains("every ack confirmed"), "{said}");
    assert_eq!(
        load.owner("from-python").unwrap(),
        owner,
        "it moved meanwhile"
    );
}

/// Publishes a batch in an LZ4 block of literals only, which needs no library, then prints what there is in the topic.
const COMPRESSED: &str = r#"
import queue, sys, grpc
sys.path.insert(0, sys.argv[1])
pub, pub_services = grpc.protos_and_services("ledgerline/v1/publisher.proto")
sub, sub_services = grpc.protos_and_services("ledgerline/v1/subscriber.proto")
msg = grpc.protos("ledgerline/v1/message.proto")
channel = grpc.insecure_channel(sys.argv[2])

def publish(count):
    plain = msg.MessageBatch(messages=[msg.Message(payload=b"from python")] * 2).SerializeToString()
    block = bytes([0xf0, len(plain) - 15]) + plain
    batch = msg.CompressedBatch(codec=msg.CODEC_LZ4, message_count=count, uncompressed_bytes=len(plain), data=block)
    request = pub.PublishRequest(topic="compressed", compressed=batch)
    return pub_services.PublisherStub(channel).Publish(request, timeout=30)

try:
    publish(3)
except grpc.RpcError as error:
    print("refused:", error.details())
assert publish(2).receipts[0].count == 2

frames = queue.SimpleQueue()
frames.put(sub.ConsumeRequest(open=sub.OpenConsumer(
    subscription="compressed/subscriptions/s", create_if_missing=True,
    initial_permits=msg.Permits(messages=1000, bytes=1 << 20))))
got = []
for answer in sub_services.SubscriberStub(channel).Consume(iter(frames.get, None), timeout=30):
    for delivery in answer.deliveries.items:
        assert delivery.HasField("batch"), "no codec was named"
        got += [message.payload.decode() for message in delivery.batch.messages]
    if len(got) >= 302:
        frames.put(None)
        break
print(" ".join(got[:2] + got[-2:]))
"#;

#[test]
fn python_reads_what_others_compressed_and_publishes_compressed_batches_itself() {
    let Some(python) = python_or_skip() else {
        return;
    };
    let cluster = cluster();
    let endpoint = cluster.nodes(Role::Serving).next().unwrap().endpoint();
    let history = HistoryWriter::in_memory(Guarantees::default());
    let load = Load::new(&endpoint, history).unwrap();
    load.create_topic("compressed", Quorum::THREE_TWO).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("input");
    let lines: String = (0..300).map(|n| format!("line-{n}\n")).collect();
    std::fs::write(&input, lines).unwrap();
    let tool = Tool::new(&commands::binary_or(env!("CARGO_BIN_EXE_ledgerline"))).unwrap();
    let line = format!("produce compressed --compression zstd --server {endpoint}");
    let words = line.split(' ');
    let produced = tool.run_with(words, Some(&input), SOON).unwrap();
    assert_eq!(produced.code, Some(0), "{}", produced.stderr);
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let address = endpoint.trim_start_matches("http://");
    let mut script = Command::new(python);
    let said = said(script.args(["-c", COMPRESSED]).arg(protos).arg(address));
    assert!(
        said.contains("refused: ") && said.contains("claimed=3 actual=2"),
        "{said}"
    );
    assert!(
        said.ends_with("line-0 line-1 from python from python\n"),
        "{said}"
    );
}
