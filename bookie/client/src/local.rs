//! A bookie of the same process: asked, not connected to. Nothing is encoded, no payload is copied on its way, and adds
//! need no task of their own: the bookie takes what waits in the pool's queue, and puts its answers into the shards' inboxes.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use ledger::Request;
use proto::bookie_v1::{ReadRunRequest, ReadRunResponse};
use tokio::sync::Notify;
use tonic::Status;
use types::BookieId;
use types::storage::AddResult;

/// The parts of a run.
pub type RunParts = BoxStream<'static, Result<ReadRunResponse, Status>>;

/// The hot calls of a bookie in this process. All others go over the connection.
pub trait LocalBookie: fmt::Debug + Send + Sync + 'static {
    /// Its number.
    fn id(&self) -> BookieId;

    /// Whether it has stopped, or is about to.
    fn is_closing(&self) -> bool;

    /// Takes adds from there, and from nowhere else in this process, until it stops, which ends the future; dropping that ends
    /// nothing.
    fn serve_adds(&self, adds: Arc<dyn LocalAdds>) -> BoxFuture<'static, ()>;

    /// Reads a run of entries.
    fn read_run(&self, request: ReadRunRequest) -> BoxFuture<'static, Result<RunParts, Status>>;
}

/// Adds that wait for a bookie of this process, and the way back for its answers.
pub trait LocalAdds: fmt::Debug + Send + Sync + 'static {
    /// Told when there is something to take. Whoever waits takes everything first.
    fn filled(&self) -> &Notify;

    /// Moves adds and LACs that wait to the end of `into`, in their order, each add with a number for its answer.
    fn take(&self, into: &mut Vec<(u64, Request)>);

    /// What became of adds, by their numbers. Never waits.
    fn answered(&self, answers: Vec<(u64, AddResult)>);
}
