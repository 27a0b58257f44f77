//! What waits for one bookie's stream of adds: bounded in bytes, filled without waiting, emptied a frame at a time.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger::Request;
use tokio::sync::Notify;
use types::ByteSize;

use super::Sent;

/// Bytes that an order costs beside its payload.
const OVERHEAD: usize = 64;

/// The queue of one bookie.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    orders: VecDeque<(u64, Request)>,
    bytes: usize,
    is_down: bool,
}

impl Queue {
    /// Adds an order of the shard `key`, unless too much waits or the bookie is down.
    pub(super) fn push(&self, key: u64, order: Request, limit: ByteSize) -> Sent {
        let mut inner = self.lock();
        if inner.is_down {
            return Sent::Down;
        }
        let cost = cost(&order);
        // One order always fits, so that an entry above the limit is not refused for ever.
        if !inner.orders.is_empty() && inner.bytes + cost > limit.as_usize() {
            return Sent::Full;
        }
        inner.bytes += cost;
        inner.orders.push_back((key, order));
        drop(inner);
        self.filled.notify_one();
        Sent::Queued
    }

    /// Takes what fits into one frame; waits until there is something.
    ///
    /// # Cancel safety
    ///
    /// Nothing is taken unless it is returned.
    pub(super) async fn take(&self, frame: ByteSize) -> Vec<(u64, Request)> {
        loop {
            let orders = self.take_now(frame);
            if !orders.is_empty() {
                return orders;
            }
            self.filled.notified().await;
        }
    }

    /// Takes everything there is.
    pub(super) fn take_all(&self) -> VecDeque<(u64, Request)> {
        let mut inner = self.lock();
        inner.bytes = 0;
        std::mem::take(&mut inner.orders)
    }

    /// Told when there is something to take.
    pub(super) const fn filled(&self) -> &Notify {
        &self.filled
    }

    fn take_now(&self, frame: ByteSize) -> Vec<(u64, Request)> {
        let mut inner = self.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some((_, order)) = inner.orders.front() {
            let cost = cost(order);
            if !taken.is_empty() && bytes + cost > frame.as_usize() {
                break;
            }
            bytes += cost;
            inner.bytes -= cost;
            taken.extend(inner.orders.pop_front());
        }
        taken
    }

    /// Drops what waits and refuses more, or takes orders again.
    pub(super) fn set_down(&self, is_down: bool) {
        let mut inner = self.lock();
        inner.is_down = is_down;
        if is_down {
            inner.orders.clear();
            inner.bytes = 0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The queue is valid after each statement.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(order: &Request) -> usize {
    OVERHEAD
        + match order {
            Request::Add(add) => add.entry.payload.len(),
            Request::SetLac(_) | Request::Read(_) | Request::ReadLac(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use types::storage::{Add, AddKind, Entry};
    use types::{EntryId, Epoch, LedgerId, LedgerSeq, LogId, Offset, Payload, Revision};

    use super::*;

    fn add(id: u64, len: usize) -> Request {
        let ledger = LedgerId::new(LogId::new(1), LedgerSeq::new(0));
        let payload = Payload::whole(Bytes::from(vec![0; len]));
        Request::Add(Add {
            ledger,
            created: Revision::new(1),
            epoch: Epoch::new(1),
            lac: None,
            kind: AddKind::Write,
            entry: Entry::new(ledger, EntryId::new(id), Offset::new(id + 1), payload),
        })
    }

    #[tokio::test]
    async fn orders_keep_their_order_and_gather_into_frames() {
        let queue = Queue::default();
        let limit = ByteSize::kib(64);
        for id in 0..5 {
            assert_eq!(queue.push(7, add(id, 1000), limit), Sent::Queued);
        }
        let frame = queue.take(ByteSize::new(2500)).await;
        assert_eq!(frame, vec![(7, add(0, 1000)), (7, add(1, 1000))]);
        assert_eq!(queue.take(limit).await.len(), 3);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_but_takes_one_order_of_any_size() {
        let queue = Queue::default();
        let limit = ByteSize::new(1500);
        assert_eq!(queue.push(7, add(0, 5000), limit), Sent::Queued);
        assert_eq!(queue.push(7, add(1, 10), limit), Sent::Full);
        assert_eq!(queue.take(limit).await.len(), 1);
        assert_eq!(queue.push(7, add(1, 10), limit), Sent::Queued);
    }

    #[tokio::test]
    async fn a_bookie_that_is_down_is_told_at_once_and_forgets_what_waited() {
        let queue = Queue::default();
        let limit = ByteSize::kib(64);
        queue.push(7, add(0, 10), limit);
        queue.set_down(true);
        assert_eq!(queue.push(7, add(1, 10), limit), Sent::Down);
        queue.set_down(false);
        assert_eq!(queue.push(7, add(2, 10), limit), Sent::Queued);
        assert_eq!(queue.take(limit).await, vec![(7, add(2, 10))]);
    }
}
