//! The stream of changes that a watcher gets.

use std::sync::Arc;

use futures::Stream;
use futures::stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use proto::meta::{changes_to_wire, reset_to_wire};
use proto::meta_v1::WatchResponse;
use proto::status::to_status;
use types::{Problem, Reason, Revision};

use crate::execute::problem;
use crate::store::{ChangesSince, Store};

/// Changes in one message.
const CHANGES_MAX: usize = 1000;

struct Watch {
    store: Arc<dyn Store>,
    revision: watch::Receiver<Revision>,
    seen: Option<Revision>,
    stop: CancellationToken,
}

/// Changes after `after`, or from now on; the first message then says from where. Ends when the node stops.
///
/// There is no queue: each message is read from the store when the watcher is ready for it, so that a slow one costs
/// nothing and, when it is too slow for the store's history, is told to read anew.
pub(crate) fn watch(
    store: Arc<dyn Store>,
    after: Option<Revision>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<WatchResponse, Status>> + Send + 'static {
    let revision = store.revision();
    let watch = Watch {
        store,
        revision,
        seen: after,
        stop,
    };
    stream::try_unfold(watch, async |mut watch: Watch| {
        let next = watch.next().await;
        next.map(|message| Some((message, watch)))
            .map_err(|problem| to_status(&problem))
    })
}

impl Watch {
    async fn next(&mut self) -> Result<WatchResponse, Problem> {
        let Some(mut seen) = self.seen else {
            let now = *self.revision.borrow_and_update();
            self.seen = Some(now);
            return Ok(reset_to_wire(now));
        };
        loop {
            // Marked as seen before the changes are read, so that none slips in between.
            self.revision.mark_unchanged();
            let changes = self.store.changes(seen, CHANGES_MAX).await;
            match changes.map_err(|error| problem(&error))? {
                ChangesSince::Compacted { now } => {
                    self.seen = Some(now);
                    return Ok(reset_to_wire(now));
                }
                ChangesSince::Events { events, upto } => {
                    self.seen = Some(upto);
                    if !events.is_empty() {
                        return Ok(changes_to_wire(&events, upto));
                    }
                    seen = upto;
                }
            }
            let stopping = || Problem::new(Reason::Stopping, "meta is stopping");
            tokio::select! {
                biased; // Stop first.
                () = self.stop.cancelled() => return Err(stopping()),
                changed = self.revision.changed() => changed.map_err(|_| stopping())?,
            }
        }
    }
}
