//! Connections: few, short, one request each.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use host::Host;
use host::net::{Conn, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use crate::answer::Answers;

/// Most connections at a time; one more is closed at once.
pub(crate) const CONNECTIONS_MAX: usize = 32;
/// How long the head of a request may take to come.
pub(crate) const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may take in all.
pub(crate) const CONNECTION_WITHIN: Duration = Duration::from_secs(10);
/// Most bytes of the head of a request.
pub(crate) const HEAD_MAX: usize = 16 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// How long accepting pauses after an error, such as no free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers whoever connects, until the tasks of `host` are stopped.
pub(crate) async fn accept(host: Host, incoming: Incoming, answers: Answers) {
    let mut conns = incoming.conns;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = tokio::select! {
            biased; // Stop first.
            () = host.tasks.stopped() => return,
            next = conns.next() => next,
        };
        match next {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(at = %incoming.local, %error, "connection not accepted");
                host.clock.sleep(ACCEPT_PAUSE).await;
            }
            Some(Ok((conn, peer))) => {
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                    tracing::debug!(%peer, "too many connections to the admin port");
                    continue;
                };
                let (node, answers) = (host.clone(), answers.clone());
                host.tasks.spawn("connection", async move {
                    let _slot = slot;
                    serve(&node, conn, answers).await;
                });
            }
        }
    }
}

/// One connection, cut off when it takes too long.
async fn serve(host: &Host, conn: Box<dyn Conn>, answers: Answers) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let answer = answers.to(request.method(), request.uri().path());
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(conn), service);
    let ended = tokio::select! {
        biased; // Stop first.
        () = host.tasks.stopped() => return,
        ended = host.clock.timeout(CONNECTION_WITHIN, served) => ended,
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a request to the admin port broke"),
        Err(_) => tracing::debug!("a request to the admin port took too long"),
    }
}
