//! The bookie's gRPC service: checks who is meant and whether an entry came whole, then asks the engine.

use std::path::PathBuf;
use std::sync::Arc;

use bookie_client::RunParts;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use host::Host;
use proto::bookie::{self as wire, AddFrame, Description, HelloReply, RunBuilder, SpaceUse};
use proto::bookie_v1 as pb;
use proto::hot::Messages;
use proto::transport::ConnectionTask;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use types::cluster::BookieRecord;
use types::{BookieId, ClusterId, Incarnation, NodeName, Problem, Reason, Revision};

use super::NodeConfig;
use super::handle::{EngineGone, EngineHandle};
use super::streams::Outbox;
use crate::Ask;

/// Frames on their way to an owner: one is being sent while the next gathers.
const FRAMES_AHEAD: usize = 2;
/// Most logs named to who asks what takes space.
const LOGS_MAX: usize = 10_000;

/// What is answered to a stream of adds.
pub(super) type AddAnswers = BoxStream<'static, Result<pb::AddEntriesResponse, Status>>;

/// What a stream of adds brings.
pub(super) trait Frames:
    Stream<Item = Result<pb::AddEntriesRequest, Status>> + Send + Unpin + 'static
{
}

impl<T> Frames for T where
    T: Stream<Item = Result<pb::AddEntriesRequest, Status>> + Send + Unpin + 'static
{
}

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
    /// Of the journal and of the data.
    dirs: [PathBuf; 2],
}

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
            dirs: [&config.engine.journal_dir, &config.engine.data_dir].map(Clone::clone),
        }
    }

    pub(super) const fn id(&self) -> BookieId {
        self.id
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

    /// Answers a stream of adds, beside its connection.
    pub(super) fn open_adds(&self, request: Request<impl Frames>) -> AddAnswers {
        let task = ConnectionTask::of(&request);
        let incoming = request.into_inner();
        let (frames, outgoing) = mpsc::channel(FRAMES_AHEAD);
        let service = self.clone();
        task.spawn(self.host.tasks.counted("adds", async move {
            if let Err(status) = service.adds(incoming, &frames).await {
                // The owner may be gone already.
                let _ = frames.send(Err(status)).await;
            }
        }));
        tokio_stream::wrappers::ReceiverStream::new(outgoing).boxed()
    }

    /// Reads the run that the one message of a call asks for.
    pub(super) async fn run_asked(
        &self,
        mut incoming: Messages<pb::ReadRunRequest>,
    ) -> Result<RunParts, Status> {
        let Some(request) = incoming.next().await else {
            return Err(Status::internal("Missing request message."));
        };
        // Its end is heard before the answer, so that the transport need not reset the stream.
        while incoming.next().await.is_some() {}
        self.run(request?).await
    }

    /// Reads a run of entries.
    pub(super) async fn run(&self, request: pb::ReadRunRequest) -> Result<RunParts, Status> {
        self.check(request.target.as_ref())?;
        let run = wire::read_run_from_wire(request).map_err(|problem| refuse(&problem))?;
        let items = self.engine.read_run(run).await.map_err(gone)?;
        let mut builder = RunBuilder::default();
        let mut messages: Vec<_> = items
            .into_iter()
            .filter_map(|item| builder.push(item))
            .collect();
        messages.extend(builder.finish());
        Ok(futures::stream::iter(messages.into_iter().map(Ok)).boxed())
    }

    /// One stream of adds: frames in and answers out, side by side, so that neither waits for the other.
    async fn adds(
        &self,
        mut incoming: impl Frames,
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

    async fn hear(&self, outbox: &Arc<Outbox>, mut incoming: impl Frames) -> Result<(), Status> {
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
    type AddEntriesStream = AddAnswers;
    type ReadRunStream = RunParts;

    async fn add_entries(
        &self,
        request: Request<Streaming<pb::AddEntriesRequest>>,
    ) -> Result<Response<Self::AddEntriesStream>, Status> {
        Ok(Response::new(self.open_adds(request)))
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
        self.run(request.into_inner()).await.map(Response::new)
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

    async fn describe_space(
        &self,
        request: Request<pb::DescribeSpaceRequest>,
    ) -> Result<Response<pb::DescribeSpaceResponse>, Status> {
        let logs = usize::try_from(request.into_inner().logs).unwrap_or(LOGS_MAX);
        let looked = super::usage::look(&self.host, &self.dirs, &self.engine, logs.min(LOGS_MAX));
        let (usage, listing) = looked.await.map_err(|problem| refuse(&problem))?;
        Ok(Response::new(wire::space_response(SpaceUse {
            name: self.name.to_string(),
            bookie: self.id,
            cluster: self.cluster,
            writable: self.engine.is_writable(),
            passing: listing.passing(&usage),
            journal: usage.journal,
            ahead: listing.ahead(&usage),
            other: listing.other,
            free: listing.free,
            free_low: usage.free_low,
            live: usage.live,
            trimmed: usage.trimmed,
            deleted: usage.deleted,
            moved: usage.given_up,
            logs: usage.logs,
        })))
    }
}
