//! What a batch costs a serving node in memory taken, on its way in and on its way out: the same on every machine.
//!
//! The pieces that see a batch are the node's own, driven one after another on the test's thread, which alone is counted:
//! the stream's frames, the check, the shard with its owner, the frame of deliveries. Tasks and channels between them know
//! nothing of what a batch holds.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use allocation_counter::{AllocationInfo, measure};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt, future, stream};
use host::net::Address;
use http_body_util::{BodyExt, Full};
use prost::Message;
use proto::hot::{CONSUME, DeliveriesBuilder, Messages, PUBLISH, publish_frame, published};
use proto::raw::v1 as pb;
use proto::transport::Routes;
use tokio::sync::mpsc;
use tonic::body::Body as HttpBody;
use tonic::codegen::{Service, http};
use tonic::{Request as Call, Response};
use topic::{Publish, StreamId};
use types::batch::{Body, MessageParts};
use types::topic::{StartPosition, SubscriptionMode};
use types::{SequenceId, crc32c};

use super::super::*;
use super::world::{AT, World};
use crate::config::ServingConfig;
use crate::services::{checked, wire_delivery};

/// Bytes of the payloads of a batch together, in however many messages.
const PAYLOAD: usize = 64 << 10;
/// Batches before the one that counts: what lists and maps grow to is theirs.
const BEFORE: u64 = 8;
const PRODUCER: u64 = 1;
const CONSUMER: u64 = 2;

/// What one batch took.
struct Counted {
    /// From the connection to the requests for the bookies.
    inward: AllocationInfo,
    /// From the bookies' answers to the bytes for the consumer's connection.
    outward: AllocationInfo,
    /// Where the bytes are that were received.
    received: Range<*const u8>,
    /// Where those begin that each bookie is sent.
    stored: Vec<*const u8>,
    /// Where the runs of bytes begin that the consumer is sent.
    delivered: Vec<*const u8>,
}

/// A batch of so many messages.
fn batch(messages: u32) -> Bytes {
    let payload = vec![7; PAYLOAD / messages as usize];
    let parts = MessageParts {
        payload: &payload,
        ..MessageParts::default()
    };
    let mut batch = BytesMut::new();
    for _ in 0..messages {
        parts.append_to(&mut batch);
    }
    batch.freeze()
}

/// The frame of a batch, as it is on the wire behind gRPC's prefix.
fn frame(first: u64, messages: u32) -> Bytes {
    let batch = batch(messages);
    let crc = Some(crc32c(&batch));
    let frame = publish_frame(SequenceId::new(first), batch.into(), messages, crc);
    let mut wire = vec![0];
    wire.extend(u32::try_from(frame.encoded_len()).unwrap().to_be_bytes());
    frame.encode(&mut wire).unwrap();
    wire.into()
}

fn call(path: &str, body: HttpBody) -> http::Request<HttpBody> {
    http::Request::builder().uri(path).body(body).unwrap()
}

/// The messages of a publish stream that came in one run of bytes, as a server reads them.
fn incoming(received: &Bytes) -> Messages<pb::PublishStreamRequest> {
    let taken = Arc::new(Mutex::new(None));
    let place = Arc::clone(&taken);
    let handler = move |call: Call<Messages<pb::PublishStreamRequest>>| {
        *place.lock().unwrap() = Some(call.into_inner());
        let nothing = stream::empty::<Result<pb::PublishStreamResponse, _>>();
        future::ready(Ok(Response::new(nothing.boxed())))
    };
    let mut routes = Routes::new().hot(PUBLISH, handler);
    let body = HttpBody::new(Full::new(received.clone()));
    let answer = routes.call(call(PUBLISH.path, body)).now_or_never();
    drop(answer.unwrap().unwrap());
    let mut taken = taken.lock().unwrap();
    taken.take().unwrap()
}

/// The body of the answer to a consumer, which is sent what the sender is given.
fn outgoing() -> (mpsc::Sender<pb::ConsumeResponse>, HttpBody) {
    let (frames, waiting) = mpsc::channel(1);
    let waiting = Arc::new(Mutex::new(Some(waiting)));
    let handler = move |_: Call<Messages<pb::ConsumeRequest>>| {
        let frames = waiting.lock().unwrap().take().unwrap();
        let frames = tokio_stream::wrappers::ReceiverStream::new(frames).map(Ok);
        future::ready(Ok(Response::new(frames.boxed())))
    };
    let mut routes = Routes::new().hot(CONSUME, handler);
    let answer = routes.call(call(CONSUME.path, HttpBody::empty()));
    let answer = answer.now_or_never().unwrap().unwrap();
    (frames, answer.into_body())
}

fn publish(first: u64, count: u32, body: Body) -> ShardEvent {
    ShardEvent::Request(Request::Publish(Publish {
        stream: StreamId::new(PRODUCER),
        first_sequence: SequenceId::new(first),
        count,
        body,
    }))
}

/// A shard with a producer, a consumer at its end, and some batches of so many messages.
fn world(messages: u32) -> (World, usize) {
    let mut world = World::new();
    let node = world.open();
    let mode = SubscriptionMode::Shared;
    let of = world.subscribe(node, "s", mode, StartPosition::Earliest);
    world.open_producer(node, PRODUCER, None);
    world.consume(node, CONSUMER, of.id, 1 << 30);
    for before in 0..BEFORE {
        let first = before * u64::from(messages);
        let body = batch(messages).into();
        world.event(node, publish(first, messages, body));
    }
    (world, node)
}

/// Takes a batch of so many messages all the way from the producer's connection to the consumer's, and counts.
fn counted(messages: u32) -> Counted {
    let (mut world, node) = world(messages);
    let first = BEFORE * u64::from(messages);
    let config = ServingConfig::new("n".parse().unwrap(), Address::new("pipe:n"));
    let compute = host::Host::real("n").compute;
    let received = frame(first, messages);
    let mut frames = incoming(&received);
    let mut effects = Vec::with_capacity(64);
    let (now, shard_id) = (world.now, world.shard);
    let shard = &mut world.nodes[node].shard;
    let inward = measure(|| {
        let frame = frames.next().now_or_never().flatten().unwrap().unwrap();
        let Some(pb::publish_stream_request::Frame::Batch(batch)) = frame.frame else {
            panic!("not a batch: {frame:?}");
        };
        let checking = checked(&compute, &config, published(batch));
        let (body, count) = checking.now_or_never().unwrap().unwrap();
        let event = publish(first, count, body);
        shard.handle(now, AT, event, &mut effects);
    });
    let mut stored = Vec::new();
    let mut answers = Vec::new();
    for effect in effects.drain(..) {
        let ShardEffect::Send { bookie, request } = effect else {
            panic!("not for a bookie: {effect:?}");
        };
        if let ledger::Request::Add(add) = &request {
            stored.push(add.entry.payload.body().as_ptr());
        }
        answers.extend(world.bookie(bookie, request));
    }
    let (sent, mut body) = outgoing();
    let mut runs = Vec::with_capacity(16);
    let shard = &mut world.nodes[node].shard;
    let outward = measure(|| {
        for answer in answers {
            shard.handle(now, AT, answer, &mut effects);
        }
        let mut deliveries = DeliveriesBuilder::default();
        for effect in effects.drain(..) {
            if let ShardEffect::Tell { told, .. } = effect
                && let Told::Delivery(delivery) = told
            {
                let full = deliveries.push(wire_delivery(shard_id, delivery));
                assert_eq!(full, None);
            }
        }
        sent.try_send(deliveries.finish().unwrap()).unwrap();
        while let Some(frame) = body.frame().now_or_never() {
            runs.push(frame.unwrap().unwrap().into_data().unwrap());
        }
    });
    Counted {
        inward,
        outward,
        received: received.as_ptr_range(),
        stored,
        delivered: runs.iter().map(|run| run.as_ptr()).collect(),
    }
}

#[test]
fn a_batch_that_comes_in_takes_memory_as_a_batch_and_not_for_each_message() {
    let (one, many) = (counted(1).inward, counted(256).inward);
    assert_eq!(one.count_total, many.count_total);
    assert!((1..=4).contains(&many.count_total), "{many:?}");
}

#[test]
fn a_batch_that_goes_out_takes_memory_as_a_batch_and_not_for_each_message() {
    let (one, many) = (counted(1).outward, counted(256).outward);
    assert_eq!(one.count_total, many.count_total);
    assert!((1..=12).contains(&many.count_total), "{many:?}");
}

#[test]
fn a_large_payload_is_stored_from_where_it_was_received() {
    let counted = counted(256);
    assert_eq!(counted.stored.len(), 3, "copies");
    let is_received = |at: &*const u8| counted.received.contains(at);
    assert!(counted.stored.iter().all(is_received));
    let bytes = counted.inward.bytes_total;
    assert!(bytes < PAYLOAD as u64 / 64, "{bytes} bytes were taken");
}

#[test]
fn a_large_payload_is_sent_to_a_consumer_from_where_it_was_received() {
    let counted = counted(256);
    let is_received = |at: &&*const u8| counted.received.contains(*at);
    assert_eq!(counted.delivered.iter().filter(is_received).count(), 1);
    let bytes = counted.outward.bytes_total;
    assert!(bytes < PAYLOAD as u64 / 4, "{bytes} bytes were taken");
}
