//! A bookie of the same process: called, not connected to. What is said is the same as over a connection, frame by
//! frame; nothing is encoded, and no payload is copied on its way.

use std::fmt;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use proto::bookie_v1::{AddEntriesRequest, AddEntriesResponse, ReadRunRequest, ReadRunResponse};
use tonic::Status;
use types::BookieId;

/// Frames of adds, the handshake first.
pub type AddFrames = BoxStream<'static, AddEntriesRequest>;
/// What a bookie answers to them.
pub type AddAnswers = BoxStream<'static, Result<AddEntriesResponse, Status>>;
/// The parts of a run.
pub type RunParts = BoxStream<'static, Result<ReadRunResponse, Status>>;

/// The hot calls of a bookie in this process, as its gRPC service has them. All others go over the connection.
pub trait LocalBookie: fmt::Debug + Send + Sync + 'static {
    /// Its number.
    fn id(&self) -> BookieId;

    /// A stream of adds. It ends when the bookie stops, as a connection does.
    fn add_entries(&self, frames: AddFrames) -> AddAnswers;

    /// Reads a run of entries.
    fn read_run(&self, request: ReadRunRequest) -> BoxFuture<'static, Result<RunParts, Status>>;
}
