//! Which service answers which path.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use host::Clock;
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::DATE;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::server::NamedService;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};
use types::Problem;

use crate::hot::{Answer, Answering, Hot, HotMethod, Messages};
use crate::status::{from_status, to_status, undecodable};

type Boxed = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The services of one server, by name. Clones share them.
#[derive(Clone, Default)]
pub struct Routes {
    services: Arc<BTreeMap<&'static str, Boxed>>,
    /// Methods that go before those of the services, by path.
    hot: BTreeMap<&'static str, Arc<dyn Hot>>,
    on_refusal: Option<OnRefusal>,
    clock: Option<Clock>,
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

    /// Has a method answered by `handler`, instead of by the generated server that was added too.
    #[must_use]
    pub fn hot<Up, Down, F>(
        mut self,
        method: HotMethod,
        handler: impl Fn(tonic::Request<Messages<Up>>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        Up: Message + Default + 'static,
        Down: Message + 'static,
        F: Future<Output = Answer<Down>> + Send + 'static,
    {
        let answering = Answering {
            method,
            handler,
            messages: PhantomData,
        };
        self.hot.insert(method.path, Arc::new(answering));
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

    /// Dates answers by the node's clock. Otherwise the transport dates them by the system's.
    #[must_use]
    pub fn dated(self, clock: &Clock) -> Self {
        Self {
            clock: Some(clock.clone()),
            ..self
        }
    }

    /// The answer of whom the path names.
    fn answer(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        let path = request.uri().path();
        let name = path.trim_start_matches('/').split('/').next();
        if let Some(hot) = self.hot.get(path) {
            return hot.call(request).map(Ok).boxed();
        }
        if let Some(service) = name.and_then(|name| self.services.get(name)) {
            return service.clone().oneshot(request).boxed();
        }
        let status = Status::unimplemented(format!("no such service path={path:?}"));
        future::ready(Ok(status.into_http())).boxed()
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

/// Says when an answer was made.
fn date(answer: &mut Response<Body>, clock: &Clock) {
    let since = Duration::from_nanos(clock.wall().as_nanos());
    let date = httpdate::fmt_http_date(UNIX_EPOCH + since);
    let date = HeaderValue::try_from(date).expect("a date is plain text");
    answer.headers_mut().insert(DATE, date);
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
        let answer = self.answer(request);
        let (on_refusal, clock) = (self.on_refusal.clone(), self.clock.clone());
        async move {
            let mut answer = typed(answer.await?, on_refusal.as_ref());
            if let Some(clock) = &clock {
                date(&mut answer, clock);
            }
            Ok(answer)
        }
        .boxed()
    }
}
