//! One hop of a hot stream: the frames, the transport and its settings are those of the servers; nobody looks at what
//! is sent.

use std::future::ready;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use host::net::{Address, Net, TcpNet};
use proto::hot::{Answer, Messages, PUBLISH, publish_frame};
use proto::raw::v1 as pb;
use proto::transport::{Routes, ServerOptions, channel, serve};
use tokio::sync::mpsc;
use tonic::{Request, Response};
use types::SequenceId;

use crate::rounds::{Rounds, Times};
use crate::rows::{Row, STREAM, STREAM_TURN};

/// Bytes of a large message: the most that one HTTP/2 frame carries.
const LARGE: usize = 256 << 10;
/// Bytes of a small one.
const SMALL: usize = 64;
/// Large messages without a receipt: as many as fit into the window of a stream.
const IN_FLIGHT: usize = 32;

/// Measures both.
pub(crate) async fn measure(rounds: Rounds) -> anyhow::Result<Vec<Row>> {
    let mut hop = Hop::open().await?;
    let mut turns = hop.turns(&rounds).await?;
    let rates = hop.rates(&rounds).await?;
    Ok(vec![
        Row::of_rates(STREAM, rates),
        Row::of_times(STREAM_TURN, 50, &mut turns),
    ])
}

/// The client's side of a stream.
struct Hop {
    frames: mpsc::Sender<pb::PublishStreamRequest>,
    receipts: Messages<pb::PublishStreamResponse>,
}

impl Hop {
    /// Opens a stream to a server that answers each message with a receipt. The server ends with the runtime.
    async fn open() -> anyhow::Result<Self> {
        let refused = "no stream over loopback: allow this process to listen at 127.0.0.1";
        let net: Arc<dyn Net> = Arc::new(TcpNet);
        let at = Address::new("127.0.0.1:0");
        let incoming = net.listen(&at).await.context(refused)?;
        let channel = channel(&net, &incoming.local);
        let routes = Routes::new().hot(PUBLISH, answer);
        tokio::spawn(async move {
            let options = ServerOptions::internal();
            serve(incoming, routes, &options, std::future::pending()).await
        });
        let (frames, waiting) = mpsc::channel(IN_FLIGHT);
        let opened = PUBLISH.call(channel, sent(waiting)).await;
        let receipts = opened.context(refused)?.into_inner();
        Ok(Self { frames, receipts })
    }

    async fn send(&mut self, payload: &Bytes) -> anyhow::Result<()> {
        let frame = publish_frame(SequenceId::new(0), payload.clone().into(), 1, None);
        self.frames.send(frame).await.context("the stream ended")
    }

    async fn receipt(&mut self) -> anyhow::Result<()> {
        let receipt = self.receipts.next().await.context("the stream ended")?;
        receipt.map(drop).context("the stream broke")
    }

    /// One message at a time.
    async fn turns(&mut self, rounds: &Rounds) -> anyhow::Result<Vec<Times>> {
        let payload = Bytes::from(vec![7; SMALL]);
        let mut all = Vec::new();
        for _ in rounds.all() {
            let round = rounds.begin();
            let mut times = Times::default();
            while round.goes_on() {
                let began = round.took();
                self.send(&payload).await?;
                self.receipt().await?;
                times.push(round.took() - began);
            }
            all.push(times);
        }
        Ok(all)
    }

    /// Large messages, as many on their way as the window holds.
    async fn rates(&mut self, rounds: &Rounds) -> anyhow::Result<Vec<f64>> {
        let payload = Bytes::from(vec![7; LARGE]);
        let mut rates = Vec::new();
        for _ in 0..IN_FLIGHT {
            self.send(&payload).await?;
        }
        for _ in rounds.all() {
            let round = rounds.begin();
            let mut bytes = 0;
            while round.goes_on() {
                self.receipt().await?;
                bytes += LARGE as u64;
                self.send(&payload).await?;
            }
            rates.push(round.rate(bytes));
        }
        Ok(rates)
    }
}

/// What waits to be sent.
fn sent(
    waiting: mpsc::Receiver<pb::PublishStreamRequest>,
) -> impl Stream<Item = pb::PublishStreamRequest> + Send + Unpin {
    let frames = stream::unfold(waiting, async |mut it| Some((it.recv().await?, it)));
    frames.boxed()
}

/// Answers each message with a receipt.
fn answer(
    request: Request<Messages<pb::PublishStreamRequest>>,
) -> impl Future<Output = Answer<pb::PublishStreamResponse>> {
    let receipts = request.into_inner().map(|frame| frame.map(receipt));
    ready(Ok(Response::new(receipts.boxed())))
}

fn receipt(_: pb::PublishStreamRequest) -> pb::PublishStreamResponse {
    let items = vec![pb::Receipt {
        count: 1,
        ..pb::Receipt::default()
    }];
    let receipts = pb::publish_stream_response::Frame::Receipts(pb::Receipts { items });
    pb::PublishStreamResponse {
        frame: Some(receipts),
    }
}
