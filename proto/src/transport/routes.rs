//! Which service answers which path.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
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

use super::deadline;
use crate::hot::{Answer, Answering, Hot, HotMethod, Messages};
use crate::status::{from_status, to_status, undecodable};

type Boxed = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The services of one server, by name. Clones share them: the server makes one for each call.
#[derive(Clone, Default)]
pub struct Routes {
    table: Arc<Table>,
}

#[derive(Clone, Default)]
struct Table {
    services: BTreeMap<&'static str, Boxed>,
    /// Methods that go before those of the services, by path.
    hot: BTreeMap<&'static str, Arc<dyn Hot>>,
    on_refusal: Option<OnRefusal>,
    dates: Option<Arc<Dates>>,
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
        let services = &mut Arc::make_mut(&mut self.table).services;
        services.insert(S::NAME, BoxCloneSyncService::new(service));
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
        let hot = &mut Arc::make_mut(&mut self.table).hot;
        hot.insert(method.path, Arc::new(answering));
        self
    }

    /// Tells each refusal, in words of ours, before it is sent. What a stream ends with after it began is not among them.
    #[must_use]
    pub fn on_refusal(mut self, told: impl Fn(&Problem) + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.table).on_refusal = Some(Arc::new(told));
        self
    }

    /// Dates answers by the node's clock. Otherwise the transport dates them by the system's.
    #[must_use]
    pub fn dated(mut self, clock: &Clock) -> Self {
        Arc::make_mut(&mut self.table).dates = Some(Arc::new(Dates::new(clock.clone())));
        self
    }

    /// The answer within the time that its caller waits for it.
    fn answer(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        let within = deadline::of(request.headers());
        let answer = self.answer_at_leisure(request);
        let Some(within) = within else {
            return answer;
        };
        let late = move || {
            let text = format!("not answered within the caller's deadline waited={within:?}");
            Ok(Status::deadline_exceeded(text).into_http())
        };
        let answer = tokio::time::timeout(within, answer);
        answer
            .map(move |answer| answer.unwrap_or_else(|_| late()))
            .boxed()
    }

    /// The answer of whom the path names.
    fn answer_at_leisure(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        let path = request.uri().path();
        let name = path.trim_start_matches('/').split('/').next();
        if let Some(hot) = self.table.hot.get(path) {
            return hot.call(request);
        }
        if let Some(service) = name.and_then(|name| self.table.services.get(name)) {
            return service.clone().oneshot(request).boxed();
        }
        let status = Status::unimplemented(format!("no such service path={path:?}"));
        future::ready(Ok(status.into_http())).boxed()
    }

    /// The names of the services, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.table.services.keys().copied()
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

/// Says when an answer was made, by the node's clock.
struct Dates {
    clock: Clock,
    /// The last second that was written out: all answers in it say the same.
    last: Mutex<(u64, HeaderValue)>,
}

impl Dates {
    fn new(clock: Clock) -> Self {
        Self {
            clock,
            last: Mutex::new((0, written(0))),
        }
    }

    fn put(&self, answer: &mut Response<Body>) {
        let second = self.clock.wall().as_nanos() / 1_000_000_000;
        // Whole after each statement.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != second {
            *last = (second, written(second));
        }
        answer.headers_mut().insert(DATE, last.1.clone());
    }
}

/// A second since 1970 as HTTP writes it.
fn written(second: u64) -> HeaderValue {
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
    HeaderValue::try_from(date).expect("a date is plain text")
}

/// An answer that is being made.
pub struct Answered {
    answer: BoxFuture<'static, Result<Response<Body>, Infallible>>,
    table: Arc<Table>,
}

impl Future for Answered {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(answer) = ready!(self.answer.poll_unpin(context));
        let mut answer = typed(answer, self.table.on_refusal.as_ref());
        if let Some(dates) = &self.table.dates {
            dates.put(&mut answer);
        }
        Poll::Ready(Ok(answer))
    }
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").finish_non_exhaustive()
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Service<Request<Body>> for Routes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answered;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(())) // Generated servers always are; `oneshot` asks them again.
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Answered {
            answer: self.answer(request),
            table: Arc::clone(&self.table),
        }
    }
}
