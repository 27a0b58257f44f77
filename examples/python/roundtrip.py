"""Publishes messages, consumes them and acks them: `python roundtrip.py [ADDRESS [TOPIC]]`.

Made from Ledgerline's .proto files alone; any serving node will do, the owner of the topic or not.
"""
import pathlib
import queue
import sys
import time

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "proto"))
pub, pub_services = grpc.protos_and_services("ledgerline/v1/publisher.proto")
sub, sub_services = grpc.protos_and_services("ledgerline/v1/subscriber.proto")
top, top_services = grpc.protos_and_services("ledgerline/v1/topic.proto")
msg = grpc.protos("ledgerline/v1/message.proto")

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7450"
topic = sys.argv[2] if len(sys.argv) > 2 else f"python-{time.time_ns()}"
channel = grpc.insecure_channel(address)

try:
    top_services.TopicServiceStub(channel).CreateTopic(
        top.CreateTopicRequest(topic_id=topic), timeout=30, wait_for_ready=True)
except grpc.RpcError as error:
    if error.code() != grpc.StatusCode.ALREADY_EXISTS:
        raise

sent = [f"message {n}".encode() for n in range(100)]
batch = msg.MessageBatch(messages=[msg.Message(payload=payload) for payload in sent])
answer = pub_services.PublisherStub(channel).Publish(
    pub.PublishRequest(topic=topic, batch=batch), timeout=30)
for receipt in answer.receipts:
    assert not receipt.HasField("status"), receipt.status
    print(f"stored {receipt.count} messages from offset {receipt.first.offset}")

frames = queue.SimpleQueue()  # What we say on the stream; None ends it.
frames.put(sub.ConsumeRequest(open=sub.OpenConsumer(
    subscription=f"{topic}/subscriptions/python", create_if_missing=True,
    mode=sub.SUBSCRIPTION_MODE_EXCLUSIVE, confirm_acks=True,
    initial_position=msg.Position(boundary=msg.Position.BOUNDARY_EARLIEST),
    initial_permits=msg.Permits(messages=1000, bytes=1 << 20))))
got, waiting, request_id = [], set(), 0
for answer in sub_services.SubscriberStub(channel).Consume(iter(frames.get, None), timeout=30):
    for delivery in answer.deliveries.items:
        got += [message.payload for message in delivery.batch.messages]
        offsets = delivery.offsets or [delivery.first.offset + i for i in range(len(delivery.batch.messages))]
        request_id += 1
        waiting.add(request_id)
        frames.put(sub.ConsumeRequest(ack=sub.AckSet(
            request_id=request_id, generation=delivery.generation,
            ranges=[msg.OffsetRange(start=offset, end=offset + 1) for offset in offsets])))
    for result in answer.ack_results.items:
        assert result.confirmed and not result.problems, result
        waiting.discard(result.request_id)
    if len(got) >= len(sent) and not waiting:
        frames.put(sub.ConsumeRequest(close=sub.CloseConsumer()))
        frames.put(None)
assert got == sent and not waiting, f"{len(got)} of {len(sent)} came back, {len(waiting)} acks open"
print(f"received {len(got)} messages in order, every ack confirmed")
