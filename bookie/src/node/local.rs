//! The bookie for a serving node of the same process, without a connection: the engine's task takes adds itself and answers
//! them, runs are asked of the service.

use std::sync::Arc;

use bookie_client::{LocalAdds, LocalBookie, RunParts};
use bytes::Bytes;
use futures::future::BoxFuture;
use ledger::Request;
use proto::bookie_v1 as pb;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use types::storage::Entry;
use types::{BookieId, Payload};

use super::handle::EngineHandle;
use super::service::Service;
use crate::Ask;

/// A payload below this is copied. What came over a connection was copied when it was so small (`proto::hot`); what is
/// handed in here may be a few bytes of a buffer that a client's request filled, and would keep all of it in the memtable.
const KEPT_AS_IT_IS: usize = 16 * 1024;

/// The bookie until it closes.
#[derive(Debug)]
pub(super) struct Local {
    service: Service,
    engine: EngineHandle,
    closing: CancellationToken,
}

impl Local {
    pub(super) const fn new(
        service: Service,
        engine: EngineHandle,
        closing: CancellationToken,
    ) -> Self {
        Self {
            service,
            engine,
            closing,
        }
    }
}

impl LocalBookie for Local {
    fn id(&self) -> BookieId {
        self.service.id()
    }

    fn is_closing(&self) -> bool {
        self.closing.is_cancelled() || self.engine.has_stopped()
    }

    fn serve_adds(&self, adds: Arc<dyn LocalAdds>) -> BoxFuture<'static, ()> {
        let (engine, closing) = (self.engine.clone(), self.closing.clone());
        Box::pin(async move {
            let serving = async {
                // An engine that is gone has stopped.
                let _ = engine.serve(adds).await;
                engine.stopped().await;
            };
            tokio::select! {
                biased; // The end first.
                () = closing.cancelled() => {}
                () = serving => {}
            }
        })
    }

    fn read_run(
        &self,
        request: pb::ReadRunRequest,
    ) -> BoxFuture<'static, Result<RunParts, Status>> {
        let service = self.service.clone();
        Box::pin(async move { service.run(request).await })
    }
}

/// What a request asks of the engine, with a payload that keeps no more in memory than its own bytes; none for what no bookie
/// takes. Its checksum was made in this process, or verified when the entry was read: it is looked at when it is read again.
pub(super) fn asked(request: Request) -> Option<Ask> {
    Some(match request {
        Request::Add(add) if add.entry.payload.len() > Entry::MAX_PAYLOAD => {
            let (ledger, entry, len) = (add.ledger, add.entry.id, add.entry.payload.len());
            tracing::error!(%ledger, %entry, len, "an entry is larger than any may be");
            return None;
        }
        Request::Add(mut add) => {
            let body = add.entry.payload.body();
            if body.len() < KEPT_AS_IT_IS {
                let body = Bytes::copy_from_slice(body);
                add.entry.payload = Payload::new(add.entry.payload.head().clone(), body);
            }
            Ask::Add(add)
        }
        Request::Read(read) => Ask::Read(read),
        Request::ReadLac(read) => Ask::ReadLac(read),
        Request::SetLac(lac) => Ask::SetLac(lac),
    })
}

#[cfg(test)]
mod tests {
    use types::storage::{Add, AddKind};
    use types::{EntryId, Epoch, LedgerId, LedgerSeq, LogId, Offset, Revision};

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
            let asked = asked(Request::Add(add(received.slice(..len))));
            let Some(Ask::Add(add)) = asked else {
                panic!("{asked:?}");
            };
            let body = add.entry.payload.body();
            assert_eq!(*body, received[..len]);
            assert_eq!(body.as_ptr() != received.as_ptr(), is_copied);
        }
    }
    #[test]
    fn an_entry_above_the_limit_goes_no_further() {
        let larger = Bytes::from(vec![0; Entry::MAX_PAYLOAD + 1]);
        assert!(asked(Request::Add(add(larger.slice(1..)))).is_some());
        assert!(asked(Request::Add(add(larger))).is_none());
    }
}
