//! Messages that go over a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body::{Body, Frame};
use prost::Message;
use tonic::Status;
use tonic::codegen::http::HeaderMap;

use super::segments::Segments;

/// The body of a request or an answer: messages behind each other. Small ones that are there gather; a large payload is
/// handed to the transport as it is.
pub(super) struct Outgoing<S> {
    messages: S,
    most: usize,
    segments: Segments,
    /// Once the messages have ended: what to say behind the last of them.
    end: Option<End>,
    /// A server tells a status in the end, a client does not.
    is_server: bool,
}

enum End {
    Trailers(HeaderMap),
    Broken(Status),
    Told,
}

impl<S> Outgoing<S> {
    pub(super) fn of_server(messages: S, most: usize) -> Self {
        Self::new(messages, most, true)
    }

    pub(super) fn of_client(messages: S, most: usize) -> Self {
        Self::new(messages, most, false)
    }

    fn new(messages: S, most: usize, is_server: bool) -> Self {
        Self {
            messages,
            most,
            segments: Segments::default(),
            end: None,
            is_server,
        }
    }

    fn end(&mut self, status: Status) {
        self.end = Some(if self.is_server {
            let mut trailers = HeaderMap::new();
            match status.add_header(&mut trailers) {
                Ok(()) => End::Trailers(trailers),
                Err(status) => End::Broken(status),
            }
        } else if status.code() == tonic::Code::Ok {
            End::Told
        } else {
            End::Broken(status)
        });
    }

    /// What follows when every byte is on its way; none when nothing does.
    fn last_frame(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        match self.end.replace(End::Told) {
            Some(End::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(End::Broken(status)) => Some(Err(status)),
            Some(End::Told) | None => None,
        }
    }
}

impl<M, S> Body for Outgoing<S>
where
    M: Message,
    S: Stream<Item = Result<M, Status>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        while this.end.is_none() && !this.segments.is_worth_sending() {
            match this.messages.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(message))) => {
                    if let Err(status) = this.segments.add(&message, this.most) {
                        this.end(status);
                    }
                }
                Poll::Ready(Some(Err(status))) => this.end(status),
                Poll::Ready(None) => this.end(Status::ok("")),
                Poll::Pending => {
                    // What has gathered goes; the stream wakes us for more.
                    return match this.segments.take() {
                        Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                        None => Poll::Pending,
                    };
                }
            }
        }
        match this.segments.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Ready(this.last_frame()),
        }
    }
}
