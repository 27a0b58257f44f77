//! Over pipes, with time that passes only when everybody waits.

use std::sync::{Arc, Mutex};

use host::Probe;
use host::metrics::{Page, Source};
use host::net::Conn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::server::{CONNECTION_WITHIN, CONNECTIONS_MAX, HEAD_MAX, HEAD_WITHIN};

async fn start() -> (Host, Admin) {
    let host = Host::simulated("node", 1);
    let admin = Admin::start(&host, &Address::new("pipe:admin:0"))
        .await
        .unwrap();
    (host, admin)
}

async fn connect(host: &Host, admin: &Admin) -> Box<dyn Conn> {
    host.net.connect(admin.address()).await.unwrap()
}

/// Sends bytes as they are, and returns all that comes until the connection ends.
async fn send(host: &Host, admin: &Admin, bytes: &[u8]) -> String {
    let mut conn = connect(host, admin).await;
    // It may be cut off while it is being sent.
    let _ = conn.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = conn.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn ask(host: &Host, admin: &Admin, method: &str, path: &str) -> (u16, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: node\r\n\r\n");
    let answer = send(host, admin, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

struct Part(Mutex<Result<(), &'static str>>);

impl Probe for Part {
    fn ready(&self) -> Result<(), &'static str> {
        *self.0.lock().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_every_part_and_health_does_not() {
    let (host, admin) = start().await;
    host.health.starting("bookie");
    let (status, body) = ask(&host, &admin, "GET", "/readyz").await;
    assert_eq!((status, &*body), (503, "bookie: starting\n"));
    let part = Arc::new(Part(Mutex::new(Ok(()))));
    host.health.started("bookie", &part);
    let (status, body) = ask(&host, &admin, "GET", "/readyz").await;
    assert_eq!((status, &*body), (200, "ok\n"));
    *part.0.lock().unwrap() = Err("read-only");
    let (status, body) = ask(&host, &admin, "GET", "/readyz").await;
    assert_eq!((status, &*body), (503, "bookie: read-only\n"));
    let (status, body) = ask(&host, &admin, "GET", "/healthz?full").await;
    assert_eq!((status, &*body), (200, "ok\n"));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_is_told_as_draining_and_still_answered_for() {
    let (host, admin) = start().await;
    host.tasks.stop(STOP_WITHIN).await.unwrap();
    let (status, body) = ask(&host, &admin, "GET", "/readyz").await;
    assert_eq!((status, &*body), (503, "draining\n"));
    assert_eq!(ask(&host, &admin, "GET", "/healthz").await.0, 200);
    let address = admin.address().clone();
    admin.stop().await;
    assert!(host.net.connect(&address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_failed_is_named_by_health_and_readiness() {
    let (host, admin) = start().await;
    host.fork("bookie").tasks.fail("engine", "the disk is gone");
    for path in ["/healthz", "/readyz"] {
        let (status, body) = ask(&host, &admin, "GET", path).await;
        assert_eq!(status, 503);
        assert!(
            body.contains("bookie/engine") && body.contains("the disk is gone"),
            "{body}"
        );
    }
}

struct Numbers;

impl Source for Numbers {
    fn write(&self, page: &mut Page) {
        page.counter("ledgerline_test_total", "Test.", &[], 5);
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_are_those_of_the_host_and_of_the_process() {
    let (host, admin) = start().await;
    let numbers = Arc::new(Numbers);
    host.metrics.add(&numbers);
    host.clock.sleep(Duration::from_millis(1_500)).await;
    let request = b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n";
    let answer = send(&host, &admin, request).await;
    let version = format!(
        "ledgerline_build_info{{version=\"{}\"}} 1\n",
        env!("CARGO_PKG_VERSION")
    );
    for part in [
        "HTTP/1.1 200 OK\r\n",
        "content-type: text/plain; version=0.0.4; charset=utf-8\r\n",
        "\nledgerline_test_total 5\n",
        "\nledgerline_uptime_seconds 1.5\n",
        "\nprocess_start_time_seconds 1767225600\n",
        &version,
    ] {
        assert!(answer.contains(part), "{part:?} is not in {answer}");
    }
    if cfg!(target_os = "linux") {
        assert!(
            answer.contains("\nprocess_resident_memory_bytes "),
            "{answer}"
        );
        assert!(answer.contains("\nprocess_open_fds "), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_or_not_allowed_is_said() {
    let (host, admin) = start().await;
    for path in ["/", "/metrics/", "/readyz/x", "//"] {
        assert_eq!(ask(&host, &admin, "GET", path).await.0, 404, "{path}");
    }
    assert_eq!(ask(&host, &admin, "POST", "/nothing").await.0, 404);
    for method in ["POST", "DELETE", "PUT", "HEAD", "OPTIONS", "BREW"] {
        assert_eq!(
            ask(&host, &admin, method, "/metrics").await.0,
            405,
            "{method}"
        );
    }
    let refusal = send(&host, &admin, b"POST /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(refusal.contains("\r\nallow: GET\r\n"), "{refusal}");
    let nonsense = send(&host, &admin, b"\x16\x03\x01 what is this\r\n\r\n").await;
    assert!(nonsense.starts_with("HTTP/1.1 400 "), "{nonsense}");
}

#[tokio::test(start_paused = true)]
async fn a_huge_head_is_refused_and_the_port_goes_on() {
    let (host, admin) = start().await;
    let long = "x".repeat(4 * HEAD_MAX);
    let many = "a: b\r\n".repeat(100);
    for head in [format!("long: {long}\r\n"), many] {
        let request = format!("GET /healthz HTTP/1.1\r\n{head}\r\n");
        let answer = send(&host, &admin, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let endless = send(&host, &admin, "x".repeat(1 << 20).as_bytes()).await;
    assert!(!endless.contains(" 200 "), "{endless}");
    assert_eq!(ask(&host, &admin, "GET", "/healthz").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_is_cut_off() {
    let (host, admin) = start().await;
    let begun = host.clock.now();
    let answer = send(&host, &admin, b"GET /healthz HT").await;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert_eq!(host.clock.now().since(begun), HEAD_WITHIN);
    // One that brings a byte now and then gets no more time for it.
    let mut conn = connect(&host, &admin).await;
    let begun = host.clock.now();
    while conn.write_all(b"G").await.is_ok() {
        host.clock.sleep(Duration::from_secs(1)).await;
        assert!(host.clock.now().since(begun) <= CONNECTION_WITHIN);
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_bounded_and_come_free_again() {
    let (host, admin) = start().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        held.push(connect(&host, &admin).await);
    }
    let one_more = send(&host, &admin, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(one_more, "", "it is closed without an answer");
    drop(held);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(ask(&host, &admin, "GET", "/healthz").await.0, 200);
}

#[tokio::test]
async fn an_address_in_use_is_told_with_the_setting() {
    let (host, admin) = start().await;
    let error = Admin::start(&host, admin.address()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("--admin-listen off"), "{text}");
    assert!(text.contains(admin.address().as_str()), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_port_tells_nothing_of_the_process_any_more() {
    let (host, admin) = start().await;
    assert!(
        host.metrics
            .page()
            .to_string()
            .contains("ledgerline_uptime")
    );
    admin.stop().await;
    assert_eq!(host.metrics.page(), Page::default());
}
