//! Reads from one bookie: unary ones for recovery, runs for readers. Each has a deadline; how many are under way at a
//! time is bounded, separately for recovery and for runs, so that a long catch-up never holds up a recovery.

use std::sync::Arc;

use futures::{StreamExt, stream};
use ledger::{Answer, Request};
use proto::bookie as wire;
use proto::hot;
use tokio::sync::Semaphore;
use types::BookieId;
use types::storage::{LacResult, ReadResult, ReadRun, RunItem};

use super::lanes::Lane;
use super::{Bookie, PoolEvent, Shared};
use crate::RunParts;

/// The reads that one bookie may serve us at a time.
#[derive(Debug)]
pub(super) struct Reads {
    recovery: Semaphore,
    runs: Semaphore,
}

impl Reads {
    pub(super) fn new(most: usize) -> Self {
        Self {
            recovery: Semaphore::new(most),
            runs: Semaphore::new(most),
        }
    }
}

/// One read.
#[derive(Debug)]
pub(super) enum Read {
    Request(Request),
    Run { tag: u64, run: ReadRun },
}

/// Carries out one read and tells the shard. A request that got no answer stays unanswered: its owner repeats it.
pub(super) async fn run(shared: Arc<Shared>, bookie: Arc<Bookie>, key: u64, read: Read) {
    match read {
        Read::Request(request) => {
            // The wait for its turn is part of its time: by then its owner has asked again, and what is given up must
            // not stand before it.
            let work = async {
                let Ok(_permit) = bookie.reads.recovery.acquire().await else {
                    return Ok(None);
                };
                ask(&shared, &bookie, request).await
            };
            match shared
                .host
                .clock
                .timeout(shared.config.read_timeout, work)
                .await
            {
                Ok(Ok(Some(answer))) => {
                    let event = PoolEvent::Answers {
                        bookie: bookie.id,
                        answers: vec![answer],
                    };
                    shared.tell(key, event);
                }
                Ok(Ok(None)) => {}
                Ok(Err(reason)) => tracing::debug!(bookie = %bookie.id, %reason, "read unanswered"),
                Err(_) => tracing::debug!(bookie = %bookie.id, "read timed out"),
            }
        }
        Read::Run { tag, run } => {
            let turn = bookie.reads.runs.acquire();
            let turn = shared.host.clock.timeout(shared.config.read_timeout, turn);
            let Ok(_permit) = turn.await else {
                return shared.tell(key, ended(bookie.id, tag));
            };
            if let Err(reason) = stream(&shared, &bookie, key, tag, run).await {
                tracing::debug!(bookie = %bookie.id, %reason, "run ended early");
            }
            shared.tell(key, ended(bookie.id, tag));
        }
    }
}

/// Nothing more comes of a run.
const fn ended(bookie: BookieId, tag: u64) -> PoolEvent {
    PoolEvent::Run {
        bookie,
        tag,
        items: Vec::new(),
        is_last: true,
    }
}

async fn ask(shared: &Shared, bookie: &Bookie, order: Request) -> Result<Option<Answer>, String> {
    let mut client = bookie.lanes.client(shared, bookie.id, Lane::Adds)?;
    let status = |status: tonic::Status| status.message().to_owned();
    match order {
        Request::Read(read) => {
            let request = wire::read_request(shared.cluster, bookie.id, &read);
            let answer = client.read(request).await.map_err(status)?.into_inner();
            let mut result = wire::read_result(answer).map_err(|problem| problem.message)?;
            if let ReadResult::Found { entry, .. } = &result
                && !(entry.id == read.entry && entry.is_intact(read.ledger))
            {
                // Damaged on its way, or a bookie that does not verify: never believed, never a "no".
                tracing::warn!(bookie = %bookie.id, ledger = %read.ledger, entry = %read.entry, "read damaged");
                result = ReadResult::Unknown;
            }
            Ok(Some(Answer::Read {
                ledger: read.ledger,
                entry: read.entry,
                result,
            }))
        }
        Request::ReadLac(read) => {
            let request = wire::read_lac_request(shared.cluster, bookie.id, &read);
            let answer = client.read_lac(request).await.map_err(status)?.into_inner();
            let result: LacResult = wire::lac_result(answer).map_err(|problem| problem.message)?;
            Ok(Some(Answer::Lac {
                ledger: read.ledger,
                result,
            }))
        }
        Request::Add(_) | Request::SetLac(_) => Ok(None),
    }
}

async fn stream(
    shared: &Shared,
    bookie: &Bookie,
    key: u64,
    tag: u64,
    run: ReadRun,
) -> Result<(), String> {
    let timeout = shared.config.read_timeout;
    let late = |_| "timed out".to_owned();
    let request = wire::read_run_request(shared.cluster, bookie.id, &run);
    let opening = async {
        let opened: Result<RunParts, _> = match shared.local(bookie.id) {
            Some(local) => local.read_run(request).await,
            None => {
                let channel = bookie.lanes.channel(shared, bookie.id, Lane::Runs)?;
                let request = stream::iter([request]);
                let opened = hot::READ_RUN.call(channel, request).await;
                opened.map(|parts| StreamExt::boxed(parts.into_inner()))
            }
        };
        opened.map_err(|status| status.message().to_owned())
    };
    let opened = shared.host.clock.timeout(timeout, opening).await;
    let mut chunks = opened.map_err(late)??;
    while let Some(chunk) = shared
        .host
        .clock
        .timeout(timeout, chunks.next())
        .await
        .map_err(late)?
    {
        let chunk = chunk.map_err(|status| status.message().to_owned())?;
        let items = wire::run_items(chunk).map_err(|problem| problem.message)?;
        let is_intact = |item: &RunItem| match item {
            RunItem::Entry(entry) => entry.is_intact(run.ledger),
            RunItem::Prefix { .. } | RunItem::NeverHad | RunItem::Unknown | RunItem::Busy => true,
        };
        let whole = items
            .iter()
            .position(|item| !is_intact(item))
            .unwrap_or(items.len());
        let damaged = whole < items.len();
        let mut items = items;
        items.truncate(whole);
        if damaged {
            items.push(RunItem::Unknown);
        }
        let event = PoolEvent::Run {
            bookie: bookie.id,
            tag,
            items,
            is_last: false,
        };
        shared.tell(key, event);
        if damaged {
            return Err("an entry came damaged".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use host::net::Address;
    use ledger::Request;
    use tokio::sync::watch;
    use types::cluster::{BookieDuty, BookieRecord, BookieState};
    use types::storage::ReadLac;
    use types::{BookieId, ClusterId, Epoch, Incarnation, LedgerId, LedgerSeq, LogId};
    use types::{Revision, SessionId};

    use crate::{BookiePool, Directory, Order, PoolConfig};

    #[tokio::test(start_paused = true)]
    async fn reads_that_a_silent_bookie_does_not_answer_do_not_pile_up() {
        let host = host::Host::simulated("test", 1);
        let address = Address::new("pipe:silent");
        let _silent = host.net.listen(&address).await.unwrap();
        let id = BookieId::new(1);
        let record = BookieRecord {
            zone: None,
            id,
            name: "silent".parse().unwrap(),
            address: address.to_string(),
            born: Revision::new(1),
            incarnation: Incarnation::new(1),
            mark: 0,
            state: BookieState::ReadWrite,
            duty: BookieDuty::Active,
            session: SessionId::new(1),
            live: true,
        };
        let (_tell, told) = watch::channel(Arc::from([record]));
        let config = PoolConfig {
            reads_max: 1,
            ..PoolConfig::default()
        };
        let pool = BookiePool::new(&host, config, ClusterId::new(1), Directory::new(told), None);
        let (inbox, _events) = crate::inbox();
        let link = pool.register(inbox);
        let ledger = LedgerId::new(LogId::new(1), LedgerSeq::new(0));
        for _ in 0..20 {
            let ask = Request::ReadLac(ReadLac {
                ledger,
                created: Revision::new(1),
                fence: Some(Epoch::new(1)),
            });
            link.send(id, Order::Request(ask));
        }
        let waiting = || {
            let running = host.tasks.running();
            running
                .iter()
                .filter(|t| t.ends_with("bookie-read"))
                .count()
        };
        host.clock.sleep(Duration::from_millis(10)).await;
        assert_eq!(waiting(), 20);
        host.clock.sleep(config.read_timeout).await;
        assert_eq!(waiting(), 0, "each has its time, its wait included");
    }
}
