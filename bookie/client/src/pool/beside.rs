//! Adds to a bookie of the same process, which takes them and answers them itself.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ledger::Request;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use types::storage::AddResult;

use super::adds::{Ended, Pending, sorted};
use super::{Bookie, PoolEvent, Shared};
use crate::{LocalAdds, LocalBookie};

/// What waits for the bookie, and what it has not answered.
struct Beside {
    /// Weak, since the bookie keeps this, and the pool keeps the bookie.
    shared: Weak<Shared>,
    bookie: Arc<Bookie>,
    pending: Mutex<Pending>,
    /// The pool has told its shards that the bookie is lost, or is gone itself: nothing is taken, no answer is heard.
    over: CancellationToken,
    wrong: Notify,
}

/// Lets the bookie take adds until it stops, or gives an answer that nobody asked for.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    bookie: &Arc<Bookie>,
    local: &dyn LocalBookie,
) -> Ended {
    if local.is_closing() {
        return Ended::unopened("the bookie of this process has stopped");
    }
    let over = CancellationToken::new();
    let _over = over.clone().drop_guard();
    let beside = Arc::new(Beside {
        shared: Arc::downgrade(shared),
        bookie: Arc::clone(bookie),
        pending: Mutex::default(),
        over,
        wrong: Notify::new(),
    });
    tracing::info!(bookie = %bookie.id, "bookie connected");
    bookie.queue.set_down(false);
    shared.tell_all(&PoolEvent::Connected(bookie.id));
    let adds: Arc<dyn LocalAdds> = Arc::clone(&beside) as _;
    tokio::select! {
        biased;
        () = local.serve_adds(adds) => Ended::open("the bookie of this process stops"),
        () = beside.wrong.notified() => Ended::open("the bookie of this process is at fault"),
    }
}

impl Beside {
    /// Never held over a wait.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalAdds for Beside {
    fn filled(&self) -> &Notify {
        self.bookie.queue.filled()
    }

    fn take(&self, into: &mut Vec<(u64, Request)>) {
        if self.over.is_cancelled() {
            return;
        }
        let orders = self.bookie.queue.take_all();
        let mut pending = self.pending();
        for (key, order) in orders {
            let id = match &order {
                Request::Add(add) => pending.push(key, add),
                Request::SetLac(_) | Request::Read(_) | Request::ReadLac(_) => 0,
            };
            into.push((id, order));
        }
    }

    fn answered(&self, answers: Vec<(u64, AddResult)>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        if self.over.is_cancelled() {
            return;
        }
        let bookie = self.bookie.id;
        let (runs, end) = sorted(bookie, &mut self.pending(), answers);
        for (key, answers) in runs {
            shared.tell(key, PoolEvent::Answers { bookie, answers });
        }
        if let Err(reason) = end {
            tracing::error!(%bookie, %reason, "the bookie of this process is at fault");
            self.wrong.notify_one();
        }
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside")
            .field("bookie", &self.bookie.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures::future::BoxFuture;
    use ledger::Answer;
    use proto::bookie_v1::ReadRunRequest;
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;
    use tonic::Status;
    use types::storage::{Add, AddKind, Entry};
    use types::{
        BookieId, ClusterId, EntryId, Epoch, LedgerId, LedgerSeq, LogId, Offset, Payload, Revision,
    };

    use super::*;
    use crate::{BookiePool, Directory, Order, PoolConfig, RunParts, Sent};

    /// A bookie that takes adds when a test says so.
    #[derive(Debug, Default)]
    struct Fake {
        adds: Mutex<Vec<Arc<dyn LocalAdds>>>,
        closing: CancellationToken,
    }

    impl Fake {
        fn adds(&self) -> Arc<dyn LocalAdds> {
            Arc::clone(self.adds.lock().unwrap().last().unwrap())
        }
    }

    impl LocalBookie for Fake {
        fn id(&self) -> BookieId {
            BookieId::new(1)
        }

        fn is_closing(&self) -> bool {
            self.closing.is_cancelled()
        }

        fn serve_adds(&self, adds: Arc<dyn LocalAdds>) -> BoxFuture<'static, ()> {
            self.adds.lock().unwrap().push(adds);
            Box::pin(self.closing.clone().cancelled_owned())
        }

        fn read_run(&self, _: ReadRunRequest) -> BoxFuture<'static, Result<RunParts, Status>> {
            Box::pin(async { Err(Status::unimplemented("adds alone are tested")) })
        }
    }

    fn add(log: u64, id: u64) -> Order {
        let ledger = LedgerId::new(LogId::new(log), LedgerSeq::new(0));
        let payload = Payload::whole(Bytes::from_static(b"message"));
        Order::Request(Request::Add(Add {
            ledger,
            created: Revision::new(1),
            epoch: Epoch::new(1),
            lac: None,
            kind: AddKind::Write,
            entry: Entry::new(ledger, EntryId::new(id), Offset::new(id + 1), payload),
        }))
    }

    fn answered(event: Option<PoolEvent>) -> Vec<(u64, u64, AddResult)> {
        let Some(PoolEvent::Answers { answers, .. }) = event else {
            panic!("{event:?}");
        };
        let told = |answer| match answer {
            Answer::Added {
                ledger,
                entry,
                result,
            } => (ledger.log().get(), entry.get(), result),
            other => panic!("{other:?}"),
        };
        answers.into_iter().map(told).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_shard_hears_of_its_adds_and_all_of_the_end() {
        let host = host::Host::simulated("test", 1);
        let bookie = Arc::new(Fake::default());
        let (_tell, told) = watch::channel(Arc::from([]));
        let local: Arc<dyn LocalBookie> = Arc::clone(&bookie) as _;
        let (config, cluster) = (PoolConfig::default(), ClusterId::new(1));
        let pool = BookiePool::new(&host, config, cluster, Directory::new(told), Some(local));
        let id = BookieId::new(1);
        let (one, mut of_one) = crate::inbox();
        let (two, mut of_two) = crate::inbox();
        let (one, two) = (pool.register(one), pool.register(two));

        // What is asked first makes the pool turn to the bookie, and waits for it.
        one.send(id, add(1, 0));
        for events in [&mut of_one, &mut of_two] {
            assert_eq!(events.recv().await, Some(PoolEvent::Connected(id)));
        }
        for (link, log, entry) in [(&one, 1, 1), (&two, 2, 0), (&one, 1, 2)] {
            assert_eq!(link.send(id, add(log, entry)), Sent::Queued);
        }
        let adds = bookie.adds();
        adds.filled().notified().await;
        let mut taken = Vec::new();
        adds.take(&mut taken);
        let numbers: Vec<u64> = taken.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 1, 2, 3], "{taken:?}");
        // The bookie refuses the last one before it stores the others.
        let (last, stored) = numbers.split_last().unwrap();
        adds.answered(vec![(*last, AddResult::Busy)]);
        let stored = stored.iter().map(|number| (*number, AddResult::Stored));
        adds.answered(stored.collect());
        assert_eq!(answered(of_one.recv().await), [(1, 2, AddResult::Busy)]);
        let told = [0, 1].map(|id| (1, id, AddResult::Stored));
        assert_eq!(answered(of_one.recv().await), told);
        assert_eq!(answered(of_two.recv().await), [(2, 0, AddResult::Stored)]);

        bookie.closing.cancel();
        for events in [&mut of_one, &mut of_two] {
            assert_eq!(events.recv().await, Some(PoolEvent::Lost(id)));
        }
        assert_eq!(one.send(id, add(1, 3)), Sent::Down);
        // A late answer is none.
        adds.answered(vec![(4, AddResult::Stored)]);
        // It is told once, though the bookie is tried again and again.
        host.clock.sleep(Duration::from_secs(60)).await;
        assert!(of_one.is_empty() && of_two.is_empty());
        assert_eq!(bookie.adds.lock().unwrap().len(), 1);
    }
}
