//! Publishing: unary, and as a stream with receipts.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use pb::publish_stream_request::Frame as Up;
use pb::publish_stream_response::Frame as Down;
use pb::publisher_client::PublisherClient;
use proto::raw::v1 as pb;
use proto::transport::ConnectionTask;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use topic::Stored;
use types::{Problem, ProducerName, Reason, SequenceId, ShardId, TopicName};

use super::intake::checked;
use super::{Answers, Frames, Services, inside, refuse, while_there};
use crate::convert;
use crate::forward::{self, Hop};
use crate::node::{Local, Node, Place};
use crate::shard::{Outputs, Producer, ProducerInput, Told};

/// Frames on their way to the client: one is being sent while the next gathers.
const FRAMES_AHEAD: usize = 2;
/// How long a stream may stay without the frame that opens it.
const FIRST_FRAME: Duration = Duration::from_secs(10);

type Sender = mpsc::Sender<Result<pb::PublishStreamResponse, Status>>;

#[tonic::async_trait]
impl pb::publisher_server::Publisher for Services {
    type PublishStreamStream = Answers<pb::PublishStreamResponse>;

    async fn publish(
        &self,
        request: Request<pb::PublishRequest>,
    ) -> Result<Response<pb::PublishResponse>, Status> {
        self.published(request).await
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<pb::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        Ok(self.publishing(request))
    }
}

impl Services {
    /// Answers one batch that came as the only message of a stream.
    pub(crate) async fn publishing_once(
        self,
        request: Request<impl Frames<pb::PublishRequest>>,
    ) -> Result<Response<Answers<pb::PublishResponse>>, Status> {
        let (metadata, extensions, mut incoming) = request.into_parts();
        let asked = incoming.next().await;
        // In the words of the generated server, which clients may know.
        let asked = asked.ok_or_else(|| Status::internal("Missing request message."))??;
        let request = Request::from_parts(metadata, extensions, asked);
        let answer = self.published(request).await?;
        Ok(answer.map(|answer| stream::iter([Ok(answer)]).boxed()))
    }

    async fn published(
        &self,
        request: Request<pb::PublishRequest>,
    ) -> Result<Response<pb::PublishResponse>, Status> {
        let hop = Hop::of(request.metadata());
        let asked = request.get_ref();
        let name: TopicName = convert::name("topic", &asked.topic).map_err(refuse)?;
        let batch = proto::hot::published_once(asked);
        let checked = checked(&self.node.host.compute, &self.node.config, batch).await;
        let (body, count) = checked.map_err(refuse)?;
        let topic = self.node.topic_or_create(&name).await.map_err(refuse)?;
        match self.node.place(&topic, hop).await.map_err(refuse)? {
            Place::Here(shard) => {
                let stored = shard.handle.publish(count, body).await;
                let stored =
                    stored.map_err(|problem| refuse(self.node.directed(shard.id, problem)))?;
                let receipt = stored_receipt(shard.id, 0, count, &stored);
                Ok(Response::new(pb::PublishResponse {
                    receipts: vec![receipt],
                }))
            }
            Place::There(owner) => {
                // Boxed, since a call takes kilobytes, and most batches are published here.
                let mut client = Box::new(client(&self.node, &owner.endpoint));
                let request = forward::marked(request, &self.node.config.name);
                let answer = Box::pin(client.publish(request)).await;
                answer.map_err(|status| self.node.upstream_failed(topic.shards[0], status))
            }
        }
    }

    /// Answers a stream, beside its connection.
    pub(crate) fn publishing(
        &self,
        request: Request<impl Frames<pb::PublishStreamRequest>>,
    ) -> Response<Answers<pb::PublishStreamResponse>> {
        let hop = Hop::of(request.metadata());
        let task = ConnectionTask::of(&request);
        let incoming = request.into_inner();
        let (frames, outgoing) = mpsc::channel(FRAMES_AHEAD);
        let node = Arc::clone(&self.node);
        task.spawn(self.node.host.tasks.counted("publish-stream", async move {
            if let Err(status) = session(&node, hop, incoming, &frames).await {
                node.refused(&status);
                // The client may be gone already.
                let _ = frames.send(Err(status)).await;
            }
        }));
        Response::new(tokio_stream::wrappers::ReceiverStream::new(outgoing).boxed())
    }
}

fn client(node: &Node, endpoint: &str) -> PublisherClient<tonic::transport::Channel> {
    PublisherClient::new(node.peers.channel(endpoint))
        .max_decoding_message_size(proto::transport::PUBLIC_MESSAGE_MAX)
        .max_encoding_message_size(proto::transport::PUBLIC_MESSAGE_MAX)
}

/// One stream from its first frame to its end.
async fn session(
    node: &Arc<Node>,
    hop: Hop,
    mut incoming: impl Frames<pb::PublishStreamRequest>,
    frames: &Sender,
) -> Result<(), Status> {
    let Some(first) = node.first_frame(FIRST_FRAME, &mut incoming).await? else {
        return Ok(());
    };
    let Some(Up::Open(open)) = first.frame.clone() else {
        let message = "the first frame must be `open`";
        return Err(refuse(
            Problem::new(Reason::BadFrame, message).with_field("frame"),
        ));
    };
    let name: TopicName = convert::name("open.topic", &open.topic).map_err(refuse)?;
    let producer: Option<ProducerName> =
        convert::optional_name("open.producer_name", &open.producer_name).map_err(refuse)?;
    if pb::AccessMode::try_from(open.access_mode).is_err() {
        let problem = Problem::bad_field("open.access_mode", "this server knows shared only");
        return Err(refuse(problem));
    }
    let placing = Box::pin(async {
        let topic = node.topic_or_create(&name).await?;
        let place = node.place(&topic, hop).await?;
        Ok((topic, place))
    });
    let Some(placed) = while_there(frames, placing).await else {
        return Ok(());
    };
    let (topic, place) = placed.map_err(refuse)?;
    match place {
        Place::Here(shard) => {
            let opening = Box::pin(shard.handle.open_producer(producer, open.resume));
            let Some(opened) = while_there(frames, opening).await else {
                return Ok(());
            };
            let opened = opened.map_err(inside("open"));
            let opened = opened.map_err(|problem| refuse(node.directed(shard.id, problem)))?;
            serve(node, &shard, opened, incoming, frames).await
        }
        Place::There(owner) if open.understands_redirect => {
            let redirect = pb::Redirect {
                endpoint: owner.endpoint,
                epoch: owner.epoch.get(),
            };
            send(frames, Down::Redirect(redirect)).await;
            Ok(())
        }
        Place::There(owner) => {
            let all = forward::again(first, incoming);
            let request = forward::marked(Request::new(all), &node.config.name);
            let mut client = client(node, &owner.endpoint);
            let Some(opened) = while_there(frames, Box::pin(client.publish_stream(request))).await
            else {
                return Ok(());
            };
            let mut upstream = opened
                .map_err(|status| node.upstream_broke(topic.shards[0], status))?
                .into_inner();
            while let Some(frame) = upstream.next().await {
                let frame = frame.map_err(|status| node.upstream_broke(topic.shards[0], status))?;
                if frames.send(Ok(frame)).await.is_err() {
                    break;
                }
            }
            Ok(())
        }
    }
}

/// A stream that is served here: batches in and receipts out, side by side, so that neither waits for the other.
async fn serve(
    node: &Arc<Node>,
    shard: &Local,
    producer: Producer,
    incoming: impl Frames<pb::PublishStreamRequest>,
    frames: &Sender,
) -> Result<(), Status> {
    let Producer {
        ready,
        input,
        outputs,
    } = producer;
    let limits = ready.limits;
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let share = node.parts.budget.share();
    let ready = pb::ProducerReady {
        epoch: ready.epoch().get(),
        limits: Some(super::limits(&node.config)),
        credits: Some(pb::Permits {
            messages: signed(limits.messages),
            // Many producers that each have all they may in flight would be refused more often than stored.
            bytes: signed(limits.bytes.min(share.bytes())),
        }),
        last_sequence_id: ready.last_sequence.map(SequenceId::get),
    };
    send(frames, Down::Ready(ready)).await;
    let hear = hear(node, &input, incoming, frames);
    let say = say(node, shard.id, outputs, frames);
    tokio::pin!(hear, say);
    // When the client is done, what is in flight is still answered; when the shard is done, nothing more is heard.
    tokio::select! {
        biased;
        ended = &mut say => ended,
        heard = &mut hear => match heard {
            Heard::Done => say.await,
            Heard::Undecodable(problem) => {
                say.await?;
                Err(refuse(problem))
            }
            Heard::Gone => Ok(()),
        },
    }
}

/// How a client's side of a stream ended.
enum Heard {
    /// It is done.
    Done,
    /// It sent what is no frame: nothing after it can be read.
    Undecodable(Problem),
    /// The connection broke: nobody is there to be answered.
    Gone,
}

/// Checks batches and hands them in, until the client is done.
async fn hear(
    node: &Node,
    input: &ProducerInput,
    mut incoming: impl Frames<pb::PublishStreamRequest>,
    frames: &Sender,
) -> Heard {
    let heard = loop {
        let frame = match incoming.next().await {
            None => break Heard::Done,
            Some(Err(status)) => match proto::status::undecodable(&status) {
                Some(problem) => break Heard::Undecodable(problem),
                None => return Heard::Gone,
            },
            Some(Ok(frame)) => frame,
        };
        let handed = match frame.frame {
            Some(Up::Batch(batch)) => hand_in(node, input, batch).await,
            Some(Up::Close(_)) => break Heard::Done,
            Some(Up::Open(_)) => {
                stream_error(frames, "the stream is open already").await;
                Ok(())
            }
            None => {
                stream_error(
                    frames,
                    "the frame is empty, or of a kind this server does not know",
                )
                .await;
                Ok(())
            }
        };
        if handed.is_err() {
            // The stream is over; its end is told on the other side.
            return std::future::pending().await;
        }
    };
    // An error here means that the stream is over; its end is told on the other side.
    let _ = input.finish().await;
    heard
}

async fn hand_in(
    node: &Node,
    input: &ProducerInput,
    batch: pb::PublishBatch,
) -> Result<(), Problem> {
    let first = SequenceId::new(batch.first_sequence_id);
    let batch = proto::hot::published(batch);
    match checked(&node.host.compute, &node.config, batch).await {
        Ok((body, count)) => input.publish(first, count, body).await,
        Err(problem) => input.refuse(first, 0, problem).await,
    }
}

/// Sends receipts until there are no more.
async fn say(
    node: &Node,
    shard: ShardId,
    mut outputs: Outputs,
    frames: &Sender,
) -> Result<(), Status> {
    let mut told = Vec::new();
    loop {
        let has_more = outputs.next(&mut told).await;
        let mut receipts = Vec::with_capacity(told.len());
        let mut end = None;
        for one in told.drain(..) {
            match one {
                Told::Receipt(receipt) => receipts.push(wire_receipt(shard, receipt)),
                Told::Refused(problem) => {
                    flush(frames, &mut receipts).await;
                    send(frames, Down::Error(error(&problem))).await;
                }
                Told::Ended(problem) => end = Some(problem),
                Told::ProducerReady(_)
                | Told::ConsumerReady(_)
                | Told::Delivery(_)
                | Told::AckResult(_)
                | Told::Heartbeat(_)
                | Told::Finished => {}
            }
        }
        flush(frames, &mut receipts).await;
        if let Some(problem) = end {
            return Err(refuse(node.directed(shard, problem)));
        }
        if !has_more {
            return Ok(());
        }
    }
}

async fn flush(frames: &Sender, receipts: &mut Vec<pb::Receipt>) {
    if !receipts.is_empty() {
        let items = std::mem::take(receipts);
        send(frames, Down::Receipts(pb::Receipts { items })).await;
    }
}

async fn send(frames: &Sender, frame: Down) {
    // A client that is gone is noticed by the side that hears.
    let _ = frames
        .send(Ok(pb::PublishStreamResponse { frame: Some(frame) }))
        .await;
}

async fn stream_error(frames: &Sender, message: &str) {
    let problem = Problem::new(Reason::BadFrame, message).with_field("frame");
    send(frames, Down::Error(error(&problem))).await;
}

fn error(problem: &Problem) -> pb::StreamError {
    pb::StreamError {
        status: Some(proto::status::to_rpc(problem)),
    }
}

fn wire_receipt(shard: ShardId, receipt: topic::Receipt) -> pb::Receipt {
    let first = receipt.first_sequence.get();
    match receipt.outcome {
        Ok(stored) => stored_receipt(shard, first, receipt.count, &stored),
        Err(problem) => pb::Receipt {
            first_sequence_id: first,
            count: receipt.count,
            status: Some(proto::status::to_rpc(&inside("batch")(problem))),
            ..pb::Receipt::default()
        },
    }
}

fn stored_receipt(shard: ShardId, first: u64, count: u32, stored: &Stored) -> pb::Receipt {
    let (place, duplicate) = match stored {
        Stored::New {
            first_offset,
            position,
            publish_time,
        } => (Some((first_offset, position, publish_time)), false),
        Stored::Duplicate {
            first_offset,
            position,
            publish_time,
        } => (Some((first_offset, position, publish_time)), true),
        Stored::DuplicateSomewhere => (None, true),
    };
    pb::Receipt {
        first_sequence_id: first,
        count,
        status: None,
        first: place.map(|(offset, position, _)| convert::position(shard, *offset, position)),
        publish_time: place.map(|(_, _, at)| convert::wire_time(*at)),
        achieved: pb::Durability::Sync.into(),
        duplicate,
    }
}
