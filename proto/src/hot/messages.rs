//! Messages that come over a stream.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use futures::Stream;
use http_body::Body as _;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, StatusCode};
use tonic::{Code, Status};

use super::PREFIX;
use super::chunks::Chunks;

/// A stream of messages, as [`tonic::Streaming`] is one. A payload is a part of the bytes that the transport received, if
/// it came in one HTTP/2 frame.
pub struct Messages<M> {
    body: Body,
    side: Side,
    most: usize,
    chunks: Chunks,
    /// The length of the message that is on its way, once its prefix is here.
    next: Option<usize>,
    is_over: bool,
    message: PhantomData<fn() -> M>,
}

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The server: a request has no status.
    Server,
    /// The client, who got this status in HTTP.
    Client(StatusCode),
    /// The client, who got the status with the headers: nothing follows.
    ClientOfNothing,
}

impl<M: Message + Default> Messages<M> {
    pub(super) fn new(body: Body, side: Side, most: usize) -> Self {
        Self {
            body,
            side,
            most,
            chunks: Chunks::default(),
            next: None,
            is_over: false,
            message: PhantomData,
        }
    }

    /// The next message, if all of it is here.
    fn take(&mut self) -> Result<Option<M>, Status> {
        let len = match self.next {
            Some(len) => len,
            None if self.chunks.remaining() < PREFIX => return Ok(None),
            None => self.prefix()?,
        };
        if self.chunks.remaining() < len {
            self.next = Some(len);
            return Ok(None);
        }
        self.next = None;
        let message = M::decode(self.chunks.split_to(len));
        // In the words of tonic's codec, which `status::undecodable` knows.
        message
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }

    fn prefix(&mut self) -> Result<usize, Status> {
        let flag = self.chunks.get_u8();
        let len = self.chunks.get_u32() as usize;
        if flag != 0 {
            let text = format!("protocol error: no compression was agreed on, flag={flag}");
            return Err(Status::internal(text));
        }
        if len > self.most {
            let most = self.most;
            let text = format!(
                "Error, decoded message length too large: found {len} bytes, the limit is: {most} bytes"
            );
            return Err(Status::out_of_range(text));
        }
        Ok(len)
    }

    /// What the end of the stream says.
    fn end(&self, trailers: Option<&HeaderMap>) -> Option<Result<M, Status>> {
        let Side::Client(http) = self.side else {
            return None;
        };
        match trailers.and_then(Status::from_header_map) {
            Some(status) if status.code() == Code::Ok => None,
            Some(status) => Some(Err(status)),
            None => Some(Err(without_status(http))),
        }
    }

    fn fail(&mut self, status: Status) -> Poll<Option<Result<M, Status>>> {
        self.is_over = true;
        Poll::Ready(Some(Err(status)))
    }
}

/// A stream that ended without a status: reset, or cut off by something in between. The codes are those of gRPC's
/// `http-grpc-status-mapping.md`.
fn without_status(http: StatusCode) -> Status {
    let code = match http {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
    };
    let text = format!("the stream ended without a status http={}", http.as_u16());
    Status::new(code, text)
}

impl<M: Message + Default> Stream for Messages<M> {
    type Item = Result<M, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.is_over {
                return Poll::Ready(None);
            }
            match this.take() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Ok(None) => {}
                Err(status) => return this.fail(status),
            }
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                // The client is gone: an end like any other.
                Some(Err(status))
                    if this.side == Side::Server && status.code() == Code::Cancelled =>
                {
                    this.is_over = true;
                    return Poll::Ready(None);
                }
                Some(Err(status)) => return this.fail(status),
                None if this.chunks.has_remaining() || this.next.is_some() => {
                    return this.fail(Status::internal("Unexpected EOF decoding stream."));
                }
                None => {
                    this.is_over = true;
                    return Poll::Ready(this.end(None));
                }
            };
            match frame.into_data() {
                Ok(run) => this.chunks.push(run),
                Err(frame) => {
                    this.is_over = true;
                    let trailers = frame.into_trailers().ok();
                    return Poll::Ready(this.end(trailers.as_ref()));
                }
            }
        }
    }
}

impl<M> fmt::Debug for Messages<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages")
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}
