//! The bookie for a serving node of the same process: the service, called without a connection.

use bookie_client::{AddAnswers, AddFrames, LocalBookie, RunParts};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use proto::bookie_v1 as pb;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use types::BookieId;

use super::service::Service;

/// A payload below this is copied. What came over a connection was copied when it was so small (`proto::hot`); what is
/// handed in here may be a few bytes of a buffer that a client's request filled, and would keep all of it in the memtable.
const KEPT_AS_IT_IS: usize = 16 * 1024;

/// The service of a bookie until it closes.
#[derive(Debug)]
pub(super) struct Local {
    service: Service,
    closing: CancellationToken,
}

impl Local {
    pub(super) const fn new(service: Service, closing: CancellationToken) -> Self {
        Self { service, closing }
    }
}

impl LocalBookie for Local {
    fn id(&self) -> BookieId {
        self.service.id()
    }

    fn add_entries(&self, frames: AddFrames) -> AddAnswers {
        let frames = frames.map(|frame| Ok(with_own_bytes(frame)));
        let closed = self.closing.clone().cancelled_owned();
        self.service
            .open_adds(frames.take_until(Box::pin(closed)).boxed())
    }

    fn read_run(
        &self,
        request: pb::ReadRunRequest,
    ) -> BoxFuture<'static, Result<RunParts, Status>> {
        let service = self.service.clone();
        Box::pin(async move { service.run(request).await })
    }
}

/// The frame, none of whose payloads keeps much more in memory than its own bytes.
fn with_own_bytes(mut frame: pb::AddEntriesRequest) -> pb::AddEntriesRequest {
    if let Some(pb::add_entries_request::Frame::Batch(batch)) = &mut frame.frame {
        for entry in batch.adds.iter_mut().filter_map(|add| add.entry.as_mut()) {
            if entry.body.len() < KEPT_AS_IT_IS {
                entry.body = Bytes::copy_from_slice(&entry.body);
            }
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use proto::bookie::AddBatchBuilder;
    use types::storage::{Add, AddKind, Entry};
    use types::{EntryId, Epoch, LedgerId, LedgerSeq, LogId, Offset, Payload, Revision};

    use super::*;

    fn add(body: Bytes) -> Add {
        let ledger = LedgerId::new(LogId::new(1), LedgerSeq::new(0));
        let (entry, next) = (EntryId::new(0), Offset::new(1));
        Add {
            ledger,
            created: Revision::new(1),
            epoch: Epoch::new(1),
            lac: None,
            kind: AddKind::Write,
            entry: Entry::new(ledger, entry, next, Payload::whole(body)),
        }
    }

    #[test]
    fn a_small_payload_does_not_keep_the_buffer_it_is_a_part_of_and_a_large_one_is_not_copied() {
        let received = Bytes::from(vec![7; 1 << 20]);
        for (len, is_copied) in [(KEPT_AS_IT_IS - 1, true), (KEPT_AS_IT_IS, false)] {
            let mut batch = AddBatchBuilder::default();
            batch.add(0, add(received.slice(..len)));
            let frame = with_own_bytes(batch.finish());
            let Some(pb::add_entries_request::Frame::Batch(batch)) = frame.frame else {
                panic!("{frame:?}");
            };
            let body = batch.adds[0].entry.as_ref().unwrap().body.clone();
            assert_eq!(body, received[..len]);
            assert_eq!(body.as_ptr() != received.as_ptr(), is_copied);
        }
    }
}
