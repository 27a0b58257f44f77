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
use types::Problem;

use crate::status::{from_status, to_status, undecodable};

type Boxed = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The services of one server, by name. Clones share them.
#[derive(Clone, Default)]
pub struct Routes {
    services: Arc<BTreeMap<&'static str, Boxed>>,
    on_refusal: Option<OnRefusal>,
}

/// Told each problem that a call was answered with instead of an answer.
type OnRefusal = Arc<dyn Fn(&Problem) + Send + Sync>;

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

    /// Tells each refusal, in words of ours, before it is sent. What a stream ends with after it began is not among them.
    #[must_use]
    pub fn on_refusal(self, told: impl Fn(&Problem) + Send + Sync + 'static) -> Self {
        Self {
            on_refusal: Some(Arc::new(told)),
            ..self
        }
    }

    /// The names of the services, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.services.keys().copied()
    }
}

/// A request that the generated code could not read is refused by it in words of its own; here it gets ours.
fn typed(answer: Response<Body>, on_refusal: Option<&OnRefusal>) -> Response<Body> {
    let Some(status) = Status::from_header_map(answer.headers()) else {
        return answer;
    };
    let undecodable = undecodable(&status);
    // What has no details is none of our problems: no such service, or a probe of health.
    let told = (!status.details().is_empty()).then(|| from_status(&status));
    if let (Some(tell), Some(problem)) = (on_refusal, undecodable.as_ref().or(told.as_ref())) {
        tell(problem);
    }
    match undecodable {
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
                let on_refusal = self.on_refusal.clone();
                answer
                    .map(move |answer| answer.map(|answer| typed(answer, on_refusal.as_ref())))
                    .boxed()
            }
            None => {
                let message = format!("no such service path={:?}", request.uri().path());
                let answer = Status::unimplemented(message).into_http();
                future::ready(Ok(answer)).boxed()
            }
        }
    }
}
