//! Consuming: one stream is one consumer, with its permits, deliveries and acks.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use pb::consume_request::Frame as Up;
use pb::consume_response::Frame as Down;
use pb::subscriber_client::SubscriberClient;
use proto::hot::{DeliveriesBuilder, DeliveryParts};
use proto::raw::v1 as pb;
use proto::transport::ConnectionTask;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use topic::{BlockedReason, OffsetRange, ProducerIdentity};
use types::batch::Codecs;
use types::topic::SubscriptionMode;
use types::{ConsumerName, Generation, Offset, Problem, Reason, ShardId, SubscriptionName};

use super::{Answers, Frames, Services, inside, refuse, while_there};
use crate::convert;
use crate::forward::{self, Hop};
use crate::node::{Local, Node, Place};
use crate::shard::{Consumer, ConsumerInput, ConsumerOptions, Outputs, Told};
use crate::subscriptions::NewSubscription;

/// Frames on their way to the client: one is being sent while the next gathers.
const FRAMES_AHEAD: usize = 2;
/// How long a stream may stay without the frame that opens it.
const FIRST_FRAME: Duration = Duration::from_secs(10);

type Sender = mpsc::Sender<Result<pb::ConsumeResponse, Status>>;

#[tonic::async_trait]
impl pb::subscriber_server::Subscriber for Services {
    type ConsumeStream = Answers<pb::ConsumeResponse>;

    async fn consume(
        &self,
        request: Request<Streaming<pb::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        Ok(self.consuming(request))
    }
}

impl Services {
    /// Answers a stream, beside its connection.
    pub(crate) fn consuming(
        &self,
        request: Request<impl Frames<pb::ConsumeRequest>>,
    ) -> Response<Answers<pb::ConsumeResponse>> {
        let hop = Hop::of(request.metadata());
        let task = ConnectionTask::of(&request);
        let incoming = request.into_inner();
        let (frames, outgoing) = mpsc::channel(FRAMES_AHEAD);
        let node = Arc::clone(&self.node);
        task.spawn(self.node.host.tasks.counted("consume-stream", async move {
            if let Err(status) = session(&node, hop, incoming, &frames).await {
                node.refused(&status);
                // The client may be gone already.
                let _ = frames.send(Err(status)).await;
            }
        }));
        Response::new(tokio_stream::wrappers::ReceiverStream::new(outgoing).boxed())
    }
}

/// What the first frame asks for, checked.
struct Open {
    subscription: SubscriptionName,
    mode: Option<SubscriptionMode>,
    name: Option<ConsumerName>,
    ack_deadline: Option<Duration>,
    confirm_acks: bool,
    permits: (i64, i64),
    create: Option<NewSubscription>,
    understands_redirect: bool,
    codecs: Codecs,
}

fn check_open(open: &pb::OpenConsumer) -> Result<Open, Problem> {
    let mode = convert::mode("open.mode", open.mode)?;
    let ack_deadline = convert::duration("open.ack_deadline", open.ack_deadline)?;
    let start = convert::start("open.initial_position", open.initial_position)?;
    let permits = open.initial_permits.unwrap_or_default();
    check_permits("open.initial_permits", &permits)?;
    let create = NewSubscription {
        mode: mode.unwrap_or(SubscriptionMode::Exclusive),
        ack_deadline,
        start,
    };
    Ok(Open {
        subscription: convert::name("open.subscription", &open.subscription)?,
        mode,
        name: convert::optional_name("open.consumer_name", &open.consumer_name)?,
        ack_deadline,
        confirm_acks: open.confirm_acks,
        permits: (permits.messages, permits.bytes),
        create: open.create_if_missing.then_some(create),
        understands_redirect: open.understands_redirect,
        codecs: proto::hot::codecs(&open.codecs),
    })
}

fn check_permits(field: &str, permits: &pb::Permits) -> Result<(), Problem> {
    if permits.messages < 0 || permits.bytes < 0 {
        return Err(Problem::bad_field(
            field,
            "permits only add up: they must not be below zero",
        ));
    }
    Ok(())
}

/// One stream from its first frame to its end.
async fn session(
    node: &Arc<Node>,
    hop: Hop,
    mut incoming: impl Frames<pb::ConsumeRequest>,
    frames: &Sender,
) -> Result<(), Status> {
    let Some(first) = node.first_frame(FIRST_FRAME, &mut incoming).await? else {
        return Ok(());
    };
    let Some(Up::Open(open)) = &first.frame else {
        let message = "the first frame must be `open`";
        return Err(refuse(
            Problem::new(Reason::BadFrame, message).with_field("frame"),
        ));
    };
    let open = check_open(open).map_err(refuse)?;
    let name = open.subscription.topic();
    let placing = Box::pin(async {
        let topic = match open.create {
            Some(_) => node.topic_or_create(&name).await?,
            None => node.topic(&name).await?,
        };
        let place = node.place(&topic, hop).await?;
        Ok((topic, place))
    });
    let Some(placed) = while_there(frames, placing).await else {
        return Ok(());
    };
    let (topic, place) = placed.map_err(refuse)?;
    match place {
        Place::Here(shard) => {
            let Some(consumer) = while_there(frames, Box::pin(subscribe(node, &shard, open))).await
            else {
                return Ok(());
            };
            let consumer = consumer.map_err(inside("open"));
            let consumer = consumer.map_err(|problem| refuse(node.directed(shard.id, problem)))?;
            serve(node, &shard, consumer, incoming, frames).await
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
            let failed = |status| node.upstream_broke(topic.shards[0], status);
            let mut client = SubscriberClient::new(node.peers.channel(&owner.endpoint))
                .max_decoding_message_size(proto::transport::PUBLIC_MESSAGE_MAX)
                .max_encoding_message_size(proto::transport::PUBLIC_MESSAGE_MAX);
            let Some(opened) = while_there(frames, Box::pin(client.consume(request))).await else {
                return Ok(());
            };
            let mut upstream = opened.map_err(failed)?.into_inner();
            while let Some(frame) = upstream.next().await {
                if frames.send(Ok(frame.map_err(failed)?)).await.is_err() {
                    break;
                }
            }
            Ok(())
        }
    }
}

/// Finds the subscription, makes it where the client wishes so, and opens the consumer.
async fn subscribe(node: &Node, shard: &Local, open: Open) -> Result<Consumer, Problem> {
    let record = match node.subscription(&open.subscription).await {
        Ok(record) if record.state == types::topic::SubscriptionState::Active => record,
        Ok(_) => node.resume_subscription(shard, &open.subscription).await?,
        Err(problem) if problem.reason == Reason::SubscriptionNotFound => match open.create {
            Some(new) => {
                let name = open.subscription.clone();
                match node.create_subscription(shard, name, new).await {
                    // Another consumer was faster.
                    Err(problem) if problem.reason == Reason::AlreadyExists => {
                        node.resume_subscription(shard, &open.subscription).await?
                    }
                    created => created?,
                }
            }
            None => return Err(problem),
        },
        Err(problem) => return Err(problem),
    };
    let options = ConsumerOptions {
        subscription: record.id,
        mode: open.mode,
        name: open.name,
        ack_deadline: open.ack_deadline,
        confirm_acks: open.confirm_acks,
        permits: open.permits,
        codecs: open.codecs,
    };
    shard.handle.open_consumer(options).await
}

/// A stream that is served here: acks in and deliveries out, side by side, so that neither waits for the other.
async fn serve(
    node: &Arc<Node>,
    shard: &Local,
    consumer: Consumer,
    incoming: impl Frames<pb::ConsumeRequest>,
    frames: &Sender,
) -> Result<(), Status> {
    let Consumer {
        ready,
        input,
        outputs,
    } = consumer;
    let ready = pb::ConsumerReady {
        session: format!("{}/{}/{}", node.config.name, shard.id, outputs.stream()),
        mode: convert::wire_mode(ready.mode).into(),
        ack_deadline: Some(convert::wire_duration(ready.ack_deadline)),
        generation: ready.generation.get(),
        cursor: ready.cursor.get(),
        limits: Some(super::limits(&node.config)),
    };
    send(frames, Down::Ready(ready)).await;
    let hear = hear(shard.id, &input, incoming, frames);
    let say = say(node, shard.id, outputs, frames);
    tokio::pin!(hear, say);
    // When the client is done, what it asked is still answered; when the shard is done, nothing more is heard.
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

/// Hands the client's requests in, until it is done.
async fn hear(
    shard: ShardId,
    input: &ConsumerInput,
    mut incoming: impl Frames<pb::ConsumeRequest>,
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
        let frame = match frame.frame {
            Some(Up::Close(_)) => break Heard::Done,
            Some(frame) => frame,
            None => {
                let message = "the frame is empty, or of a kind this server does not know";
                let problem = Problem::new(Reason::BadFrame, message).with_field("frame");
                send(frames, Down::Error(error(&problem))).await;
                continue;
            }
        };
        match hand_in(shard, input, frame).await {
            Handed::Done => {}
            Handed::Refused(problem) => send(frames, Down::Error(error(&problem))).await,
            // The stream is over; its end is told on the other side.
            Handed::Over => return std::future::pending().await,
        }
    };
    // An error here means that the stream is over; its end is told on the other side.
    let _ = input.finish().await;
    heard
}

enum Handed {
    Done,
    Refused(Problem),
    Over,
}

async fn hand_in(shard: ShardId, input: &ConsumerInput, frame: Up) -> Handed {
    let asked = match request(shard, frame) {
        Ok(asked) => asked,
        Err(problem) => return Handed::Refused(problem),
    };
    let done = match asked {
        Asked::Permits(messages, bytes) => input.permits(messages, bytes).await,
        Asked::Ack {
            id,
            generation,
            ranges,
            cumulative_end,
        } => input.ack(id, generation, ranges, cumulative_end).await,
        Asked::Nack {
            id,
            generation,
            ranges,
            delay,
        } => input.nack(id, generation, ranges, delay).await,
        Asked::Extend {
            id,
            generation,
            ranges,
            deadline,
        } => input.extend(id, generation, ranges, deadline).await,
    };
    if done.is_ok() {
        Handed::Done
    } else {
        Handed::Over
    }
}

/// A frame, checked.
enum Asked {
    Permits(i64, i64),
    Ack {
        id: u64,
        generation: Generation,
        ranges: Vec<OffsetRange>,
        cumulative_end: Option<Offset>,
    },
    Nack {
        id: u64,
        generation: Generation,
        ranges: Vec<OffsetRange>,
        delay: Option<Duration>,
    },
    Extend {
        id: u64,
        generation: Generation,
        ranges: Vec<OffsetRange>,
        deadline: Option<Duration>,
    },
}

fn request(shard: ShardId, frame: Up) -> Result<Asked, Problem> {
    match frame {
        Up::Permits(permits) => {
            check_permits("permits", &permits)?;
            Ok(Asked::Permits(permits.messages, permits.bytes))
        }
        Up::Ack(ack) => {
            convert::check_shard("ack.shard", &ack.shard, shard)?;
            let cumulative_end = (ack.cumulative_end > 0).then(|| Offset::new(ack.cumulative_end));
            if ack.ranges.is_empty() && cumulative_end.is_none() {
                let message = "names nothing; set `ranges` or `cumulative_end`";
                return Err(Problem::bad_field("ack.ranges", message));
            }
            Ok(Asked::Ack {
                id: ack.request_id,
                generation: Generation::new(ack.generation),
                ranges: ranges("ack.ranges", &ack.ranges)?,
                cumulative_end,
            })
        }
        Up::Nack(nack) => {
            convert::check_shard("nack.shard", &nack.shard, shard)?;
            Ok(Asked::Nack {
                id: nack.request_id,
                generation: Generation::new(nack.generation),
                ranges: some_ranges("nack.ranges", &nack.ranges)?,
                delay: convert::delay("nack.delay", nack.delay)?,
            })
        }
        Up::Extend(extend) => {
            convert::check_shard("extend.shard", &extend.shard, shard)?;
            Ok(Asked::Extend {
                id: extend.request_id,
                generation: Generation::new(extend.generation),
                ranges: some_ranges("extend.ranges", &extend.ranges)?,
                deadline: convert::duration("extend.deadline", extend.deadline)?,
            })
        }
        Up::Open(_) => {
            Err(Problem::new(Reason::BadFrame, "the stream is open already").with_field("frame"))
        }
        Up::Close(_) => Err(Problem::new(
            Reason::Internal,
            "the end of a stream is no request",
        )),
    }
}

fn some_ranges(field: &str, wire: &[pb::OffsetRange]) -> Result<Vec<OffsetRange>, Problem> {
    if wire.is_empty() {
        return Err(Problem::bad_field(field, "names nothing"));
    }
    ranges(field, wire)
}

fn ranges(field: &str, wire: &[pb::OffsetRange]) -> Result<Vec<OffsetRange>, Problem> {
    let range = |(index, range): (usize, &pb::OffsetRange)| {
        if range.start < range.end {
            return Ok(OffsetRange::new(
                Offset::new(range.start),
                Offset::new(range.end),
            ));
        }
        let message = format!("start {} is not below end {}", range.start, range.end);
        Err(Problem::bad_field(format!("{field}[{index}]"), message))
    };
    wire.iter().enumerate().map(range).collect()
}

/// Sends what the shard tells until there is no more.
async fn say(
    node: &Node,
    shard: ShardId,
    mut outputs: Outputs,
    frames: &Sender,
) -> Result<(), Status> {
    let mut told = Vec::new();
    loop {
        let has_more = outputs.next(&mut told).await;
        let mut gather = Gather::new(frames);
        let mut end = None;
        for one in told.drain(..) {
            match one {
                Told::Delivery(delivery) => gather.delivery(wire_delivery(shard, delivery)).await,
                Told::AckResult(result) => gather.result(wire_result(&result)).await,
                Told::Heartbeat(heartbeat) => {
                    let heartbeat = wire_heartbeat(node, &heartbeat);
                    gather.other(Down::Heartbeat(heartbeat)).await;
                }
                Told::Refused(problem) => gather.other(Down::Error(error(&problem))).await,
                Told::Ended(problem) => end = Some(problem),
                Told::ProducerReady(_)
                | Told::ConsumerReady(_)
                | Told::Receipt(_)
                | Told::Finished => {}
            }
        }
        gather.flush().await;
        if let Some(problem) = end {
            return Err(refuse(node.directed(shard, problem)));
        }
        if !has_more {
            return Ok(());
        }
    }
}

/// Gathers what belongs into one frame.
struct Gather<'a> {
    frames: &'a Sender,
    deliveries: DeliveriesBuilder,
    results: Vec<pb::AckResult>,
}

impl<'a> Gather<'a> {
    fn new(frames: &'a Sender) -> Self {
        Self {
            frames,
            deliveries: DeliveriesBuilder::default(),
            results: Vec::new(),
        }
    }

    async fn delivery(&mut self, delivery: pb::Delivery) {
        self.flush_results().await;
        if let Some(full) = self.deliveries.push(delivery) {
            let _ = self.frames.send(Ok(full)).await;
        }
    }

    async fn result(&mut self, result: pb::AckResult) {
        self.flush_deliveries().await;
        self.results.push(result);
    }

    async fn other(&mut self, frame: Down) {
        self.flush().await;
        send(self.frames, frame).await;
    }

    async fn flush(&mut self) {
        self.flush_deliveries().await;
        self.flush_results().await;
    }

    async fn flush_deliveries(&mut self) {
        if let Some(frame) = self.deliveries.finish() {
            // A client that is gone is noticed by the side that hears.
            let _ = self.frames.send(Ok(frame)).await;
        }
    }

    async fn flush_results(&mut self) {
        if !self.results.is_empty() {
            let items = std::mem::take(&mut self.results);
            send(self.frames, Down::AckResults(pb::AckResults { items })).await;
        }
    }
}

async fn send(frames: &Sender, frame: Down) {
    // A client that is gone is noticed by the side that hears.
    let _ = frames
        .send(Ok(pb::ConsumeResponse { frame: Some(frame) }))
        .await;
}

fn error(problem: &Problem) -> pb::StreamError {
    pb::StreamError {
        status: Some(proto::status::to_rpc(problem)),
    }
}

pub(crate) fn wire_delivery(shard: ShardId, delivery: topic::Delivery) -> pb::Delivery {
    let producer = match delivery.producer {
        ProducerIdentity::Named { name, epoch } => Some((name, epoch, delivery.first_sequence)),
        ProducerIdentity::Unnamed { .. } => None,
    };
    proto::hot::delivery(DeliveryParts {
        shard,
        first: delivery.first_offset,
        offsets: Vec::new(),
        token: convert::token(&delivery.position),
        batch: delivery.batch,
        count: delivery.count,
        published: delivery.publish_time,
        attempt: delivery.attempt,
        lease_expires: Some(delivery.lease_expire_time),
        producer,
        generation: delivery.generation,
    })
}

const fn wire_range(range: &OffsetRange) -> pb::OffsetRange {
    pb::OffsetRange {
        start: range.start.get(),
        end: range.end.get(),
    }
}

fn wire_result(result: &topic::AckResult) -> pb::AckResult {
    let problem = |refused: &topic::RangeProblem| pb::AckProblem {
        // None: the whole request.
        ranges: refused.range.iter().map(wire_range).collect(),
        status: Some(proto::status::to_rpc(&refused.problem)),
    };
    pb::AckResult {
        request_id: result.request_id,
        confirmed: result.confirmed,
        problems: result.problems.iter().map(problem).collect(),
    }
}

fn wire_heartbeat(node: &Node, heartbeat: &topic::Heartbeat) -> pb::Heartbeat {
    let blocked = match heartbeat.blocked {
        None => pb::BlockedReason::Unspecified,
        Some(BlockedReason::NoMessages) => pb::BlockedReason::NoMessages,
        Some(BlockedReason::NoPermits) => pb::BlockedReason::NoPermits,
        Some(BlockedReason::UnackedLimit) => pb::BlockedReason::UnackedLimit,
        Some(BlockedReason::Storage) => pb::BlockedReason::Storage,
    };
    pb::Heartbeat {
        backlog_messages: heartbeat.backlog,
        blocked_reason: blocked.into(),
        server_time: Some(convert::wire_time(node.host.clock.wall())),
    }
}
