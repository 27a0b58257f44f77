//! Which service answers which path.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::status::{to_status, undecodable};

type Boxed = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The services of one server, by name. Clones share them.
#[derive(Clone, Default)]
pub struct Routes {
    services: Arc<BTreeMap<&'static str, Boxed>>,
}

impl Routes {
    /// No services yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a generated server. One of the same name is replaced.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "services are added, not summed"
    )]
    pub fn add<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Arc::make_mut(&mut self.services).insert(S::NAME, BoxCloneSyncService::new(service));
        self
    }

    /// The names of the services, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.services.keys().copied()
    }
}

/// A request that the generated code could not read is refused by it in words of its own; here it gets ours.
fn typed(answer: Response<Body>) -> Response<Body> {
    let refusal = Status::from_header_map(answer.headers());
    match refusal.and_then(|status| undecodable(&status)) {
        Some(problem) => to_status(&problem).into_http(),
        None => answer,
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.services.keys()).finish()
    }
}

impl Service<Request<Body>> for Routes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(())) // Generated servers always are; `oneshot` asks them again.
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let name = request
            .uri()
            .path()
            .trim_start_matches('/')
            .split('/')
            .next();
        match name.and_then(|name| self.services.get(name)) {
            Some(service) => {
                let answer = service.clone().oneshot(request);
                answer.map(|answer| answer.map(typed)).boxed()
            }
            None => {
                let message = format!("no such service path={:?}", request.uri().path());
                let answer = Status::unimplemented(message).into_http();
                future::ready(Ok(answer)).boxed()
            }
        }
    }
}
