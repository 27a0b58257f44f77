//! What is asked, and the answer to it.

use bytes::Bytes;
use host::metrics::Registry;
use host::{Health, Tasks};
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};

const PLAIN: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where answers come from. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    pub(crate) metrics: Registry,
    pub(crate) health: Health,
    /// The node's tasks, not those of this port.
    pub(crate) node: Tasks,
}

impl Answers {
    pub(crate) fn to(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let text = match path {
            "/metrics" | "/healthz" | "/readyz" if method != Method::GET => {
                let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
                let only = HeaderValue::from_static("GET");
                refusal.headers_mut().insert(ALLOW, only);
                return refusal;
            }
            "/metrics" => return self.metrics(),
            "/healthz" => self.healthy(),
            "/readyz" => self.ready(),
            _ => {
                let text = "no such page; there are /metrics, /healthz and /readyz\n";
                return plain(StatusCode::NOT_FOUND, text);
            }
        };
        match text {
            Ok(()) => plain(StatusCode::OK, "ok\n"),
            Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, reason),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let text = self.metrics.page().to_string();
        answer(StatusCode::OK, METRICS, text)
    }

    /// Whether the process works: no task of it has failed.
    fn healthy(&self) -> Result<(), String> {
        match self.node.failure() {
            Some(failure) => Err(format!("{failure}\n")),
            None => Ok(()),
        }
    }

    /// Whether it may be sent work: it works, it does not stop, and all its parts say so.
    fn ready(&self) -> Result<(), String> {
        self.healthy()?;
        let mut reasons = String::new();
        if self.node.is_stopping() {
            reasons.push_str("draining\n");
        }
        for (part, reason) in self.health.hindrances() {
            reasons.push_str(&format!("{part}: {reason}\n"));
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(reasons)
        }
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    answer(status, PLAIN, text)
}

fn answer(
    status: StatusCode,
    content: &'static str,
    text: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    // It says how things stand now.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
