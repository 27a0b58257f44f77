//! Reading runs from one bookie after another: for a bookie that copies what it lacks.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::{StreamExt, stream};
use host::Host;
use host::net::Address;
use proto::bookie as wire;
use proto::hot::{self, Messages};
use proto::transport;
use tonic::transport::Channel;
use types::cluster::BookieRecord;
use types::storage::{ReadRun, RunItem};
use types::{BookieId, ClusterId};

/// A bookie did not answer, or not in a way that can be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bookie did not answer reason={reason}")]
pub struct NoAnswer {
    /// What happened.
    pub reason: String,
}

impl NoAnswer {
    fn new(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { reason }
    }
}

/// Reads runs of entries, with a connection to each bookie that was ever asked.
pub struct RunReader {
    host: Host,
    cluster: ClusterId,
    timeout: Duration,
    open: BTreeMap<BookieId, (String, Channel)>,
}

impl RunReader {
    /// One that gives a bookie `timeout` for each run.
    pub fn new(host: &Host, cluster: ClusterId, timeout: Duration) -> Self {
        Self {
            host: host.clone(),
            cluster,
            timeout,
            open: BTreeMap::new(),
        }
    }

    /// Reads a run whole. Entries are verified, and follow each other from the first one asked for; the last item may say
    /// why there are no more.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`]: ask another bookie, or this one later.
    pub async fn read(
        &mut self,
        bookie: &BookieRecord,
        run: &ReadRun,
    ) -> Result<Vec<RunItem>, NoAnswer> {
        let channel = self.channel(bookie);
        let request = wire::read_run_request(self.cluster, bookie.id, run);
        let work = async {
            let answer = hot::READ_RUN.call(channel, stream::iter([request])).await;
            let status = |status: tonic::Status| NoAnswer::new(status.message());
            let mut chunks: Messages<_> = answer.map_err(status)?.into_inner();
            let mut items = Vec::new();
            while let Some(chunk) = chunks.next().await {
                let more = wire::run_items(chunk.map_err(status)?);
                items.extend(more.map_err(|problem| NoAnswer::new(problem.message))?);
            }
            Ok(items)
        };
        let late = |_| Err(NoAnswer::new("timed out"));
        let items = self.host.clock.timeout(self.timeout, work).await;
        let items = items.unwrap_or_else(late)?;
        Ok(verified(run, items))
    }

    /// A connection to the bookie, where meta says that it is now.
    fn channel(&mut self, bookie: &BookieRecord) -> Channel {
        let net = &self.host.net;
        let connect = || {
            let channel = transport::channel(net, &Address::new(bookie.address.clone()));
            (bookie.address.clone(), channel)
        };
        let known = self.open.entry(bookie.id).or_insert_with(connect);
        if known.0 != bookie.address {
            *known = connect();
        }
        known.1.clone()
    }
}

impl fmt::Debug for RunReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunReader")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// The items up to the first that is damaged or out of its place: of that one the bookie cannot say anything.
fn verified(run: &ReadRun, items: Vec<RunItem>) -> Vec<RunItem> {
    let mut next = run.first;
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        if let RunItem::Entry(entry) = &item {
            if entry.id != next || next > run.last || !entry.is_intact(run.ledger) {
                kept.push(RunItem::Unknown);
                return kept;
            }
            next = next.next();
        }
        kept.push(item);
    }
    kept
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use types::storage::Entry;
    use types::{EntryId, LedgerId, LedgerSeq, LogId, Offset, Payload, Revision};

    use super::*;

    const LEDGER: LedgerId = LedgerId::new(LogId::new(1), LedgerSeq::new(2));

    fn entry(ledger: LedgerId, id: u64) -> RunItem {
        let payload = Payload::whole(Bytes::from_static(b"x"));
        let offset = Offset::new(id + 1);
        RunItem::Entry(Entry::new(ledger, EntryId::new(id), offset, payload))
    }

    #[test]
    fn nothing_is_believed_from_the_first_damaged_or_misplaced_entry_on() {
        let run = ReadRun {
            ledger: LEDGER,
            created: Revision::new(1),
            first: EntryId::new(3),
            last: EntryId::new(5),
            max_bytes: 100,
            payload_limit: None,
        };
        let good = |id| entry(LEDGER, id);
        let stray = entry(LedgerId::new(LogId::new(1), LedgerSeq::new(3)), 4);
        let RunItem::Entry(mut flipped) = good(4) else {
            panic!("an entry");
        };
        flipped.payload = Payload::whole(Bytes::from_static(b"y"));
        for bad in [good(5), good(3), stray, RunItem::Entry(flipped)] {
            let items = vec![good(3), bad, good(5)];
            assert_eq!(verified(&run, items), [good(3), RunItem::Unknown]);
        }
        let whole = vec![good(3), good(4), good(5)];
        assert_eq!(verified(&run, whole.clone()), whole);
        let beyond = vec![good(3), good(4), good(5), good(6)];
        assert_eq!(verified(&run, beyond)[3], RunItem::Unknown);
        let short = vec![good(3), RunItem::NeverHad];
        assert_eq!(verified(&run, short.clone()), short);
    }
}
