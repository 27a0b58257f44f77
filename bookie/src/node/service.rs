//! The bookie's gRPC service: checks who is meant and whether an entry came whole, then asks the engine.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use host::Host;
use proto::bookie::{self as wire, AddFrame, Description, HelloReply, RunBuilder};
use proto::bookie_v1 as pb;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use types::cluster::BookieRecord;
use types::{BookieId, ClusterId, Incarnation, NodeName, Problem, Reason, Revision};

use super::NodeConfig;
use super::streams::Outbox;
use super::task::{EngineGone, EngineHandle};
use crate::Ask;

/// Frames on their way to an owner: one is being sent while the next gathers.
const FRAMES_AHEAD: usize = 2;

/// The service of one bookie. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Service {
    host: Host,
    cluster: ClusterId,
    name: NodeName,
    id: BookieId,
    born: Revision,
    incarnation: Incarnation,
    engine: EngineHandle,
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    pub(super) fn new(
        host: &Host,
        config: &NodeConfig,
        cluster: ClusterId,
        record: &BookieRecord,
        engine: EngineHandle,
    ) -> Self {
        Self {
            host: host.clone(),
            cluster,
            name: config.name.clone(),
            id: record.id,
            born: record.born,
            incarnation: record.incarnation,
            engine,
        }
    }

    fn check(&self, target: Option<&pb::Target>) -> Result<(), Status> {
        wire::check_target(target, self.cluster, self.id).map_err(|problem| refuse(&problem))
    }

    fn hello(&self) -> HelloReply {
        HelloReply {
            bookie: self.id,
            born: self.born,
            incarnation: self.incarnation,
            features: proto::headers::FEATURES,
        }
    }

    /// One stream of adds: frames in and answers out, side by side, so that neither waits for the other.
    async fn adds(
        &self,
        mut incoming: Streaming<pb::AddEntriesRequest>,
        frames: &mpsc::Sender<Result<pb::AddEntriesResponse, Status>>,
    ) -> Result<(), Status> {
        let Some(first) = incoming.next().await else {
            return Ok(());
        };
        match wire::add_frame(first?).map_err(|problem| refuse(&problem))? {
            AddFrame::Hello(target) => self.check(Some(&target))?,
            AddFrame::Batch { .. } => {
                let message = "the first frame must be the handshake";
                return Err(refuse(
                    &Problem::new(Reason::BadFrame, message).with_field("frame"),
                ));
            }
        }
        if frames
            .send(Ok(wire::hello_frame(self.hello())))
            .await
            .is_err()
        {
            return Ok(());
        }
        let outbox = Arc::new(Outbox::default());
        tokio::select! {
            biased; // Answers first, so that what is in flight stays short.
            () = answer(&outbox, frames) => Ok(()),
            ended = self.hear(&outbox, incoming) => ended,
        }
    }

    async fn hear(
        &self,
        outbox: &Arc<Outbox>,
        mut incoming: Streaming<pb::AddEntriesRequest>,
    ) -> Result<(), Status> {
        while let Some(frame) = incoming.next().await {
            let frame = wire::add_frame(frame?).map_err(|problem| refuse(&problem))?;
            let AddFrame::Batch { adds, lacs } = frame else {
                let problem = Problem::new(Reason::BadFrame, "the stream is open already");
                return Err(refuse(&problem.with_field("frame")));
            };
            let mut asks = Vec::with_capacity(adds.len() + lacs.len());
            for (id, add) in adds {
                if !add.entry.is_intact(add.ledger) {
                    tracing::warn!(ledger = %add.ledger, entry = %add.entry.id, "entry came damaged");
                    let message = "an entry's checksum does not match its bytes; send it again";
                    return Err(refuse(&Problem::new(Reason::PayloadCorrupt, message)));
                }
                asks.push((id, Ask::Add(add)));
            }
            asks.extend(lacs.into_iter().map(|lac| (0, Ask::SetLac(lac))));
            self.engine.add(outbox, asks).await.map_err(gone)?;
        }
        Ok(())
    }
}

/// Sends answers until the owner is gone.
async fn answer(outbox: &Outbox, frames: &mpsc::Sender<Result<pb::AddEntriesResponse, Status>>) {
    loop {
        // A permit first: while the transport is behind, answers gather.
        let Ok(permit) = frames.reserve().await else {
            return;
        };
        permit.send(Ok(wire::replies_frame(outbox.take().await)));
    }
}

fn refuse(problem: &Problem) -> Status {
    proto::status::to_status(problem)
}

fn gone(EngineGone: EngineGone) -> Status {
    refuse(&Problem::new(Reason::Stopping, "the bookie is stopping"))
}

#[tonic::async_trait]
impl pb::bookie_server::Bookie for Service {
    type AddEntriesStream = Out<pb::AddEntriesResponse>;
    type ReadRunStream = Out<pb::ReadRunResponse>;

    async fn add_entries(
        &self,
        request: Request<Streaming<pb::AddEntriesRequest>>,
    ) -> Result<Response<Self::AddEntriesStream>, Status> {
        let incoming = request.into_inner();
        let (frames, outgoing) = mpsc::channel(FRAMES_AHEAD);
        let service = self.clone();
        self.host.tasks.spawn("adds", async move {
            if let Err(status) = service.adds(incoming, &frames).await {
                // The owner may be gone already.
                let _ = frames.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(
            tokio_stream::wrappers::ReceiverStream::new(outgoing),
        )))
    }

    async fn read(
        &self,
        request: Request<pb::ReadRequest>,
    ) -> Result<Response<pb::ReadResponse>, Status> {
        let request = request.into_inner();
        self.check(request.target.as_ref())?;
        let read = wire::read_from_wire(request).map_err(|problem| refuse(&problem))?;
        let result = self.engine.read(read).await.map_err(gone)?;
        Ok(Response::new(wire::read_response(&result)))
    }

    async fn read_lac(
        &self,
        request: Request<pb::ReadLacRequest>,
    ) -> Result<Response<pb::ReadLacResponse>, Status> {
        let request = request.into_inner();
        self.check(request.target.as_ref())?;
        let read = wire::read_lac_from_wire(request).map_err(|problem| refuse(&problem))?;
        let result = self.engine.read_lac(read).await.map_err(gone)?;
        Ok(Response::new(wire::lac_response(result)))
    }

    async fn read_run(
        &self,
        request: Request<pb::ReadRunRequest>,
    ) -> Result<Response<Self::ReadRunStream>, Status> {
        let request = request.into_inner();
        self.check(request.target.as_ref())?;
        let run = wire::read_run_from_wire(request).map_err(|problem| refuse(&problem))?;
        let items = self.engine.read_run(run).await.map_err(gone)?;
        let mut builder = RunBuilder::default();
        let mut messages: Vec<_> = items
            .into_iter()
            .filter_map(|item| builder.push(item))
            .collect();
        messages.extend(builder.finish());
        let messages = futures::stream::iter(messages.into_iter().map(Ok));
        Ok(Response::new(Box::pin(messages)))
    }

    async fn describe(
        &self,
        request: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeResponse>, Status> {
        let target = request.into_inner().target;
        wire::check_any_target(target.as_ref(), self.cluster, self.id)
            .map_err(|problem| refuse(&problem))?;
        Ok(Response::new(wire::describe_response(Description {
            identity: self.hello(),
            cluster: self.cluster,
            name: self.name.to_string(),
            writable: self.engine.is_writable(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        })))
    }
}
