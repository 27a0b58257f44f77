//! What a sender hands to the one who waits for it. Things go together, since to hand over each receipt by itself would be
//! a good part of what a bench costs; but none is held back while the sender waits for anything.

use std::pin::Pin;

use futures::FutureExt;
use tokio::sync::mpsc;

/// Most that goes together.
pub(super) const TOGETHER: usize = 256;

/// What is to be handed over.
#[derive(Debug)]
pub(super) struct Outbox<T> {
    gathered: Vec<T>,
    out: mpsc::Sender<Vec<T>>,
}

impl<T> Outbox<T> {
    pub(super) const fn new(out: mpsc::Sender<Vec<T>>) -> Self {
        Self {
            gathered: Vec::new(),
            out,
        }
    }

    /// Adds something. None when nobody takes it any more.
    pub(super) async fn add(&mut self, it: T) -> Option<()> {
        self.gathered.push(it);
        if self.gathered.len() < TOGETHER {
            return Some(());
        }
        self.hand_over().await
    }

    /// Hands over what has gathered. None when nobody takes it any more.
    pub(super) async fn hand_over(&mut self) -> Option<()> {
        if self.gathered.is_empty() {
            return Some(());
        }
        // The next will be as many.
        let next = Vec::with_capacity(self.gathered.len());
        let gathered = std::mem::replace(&mut self.gathered, next);
        self.out.send(gathered).await.ok()
    }

    /// Does something unless the stop comes before it is done, or nobody takes what is handed over; none then. What is done
    /// at once is not held up by a look at the stop, which is slow beside it.
    pub(super) async fn unless<W>(
        &mut self,
        stopped: Pin<&mut impl Future<Output = ()>>,
        work: impl Future<Output = W>,
    ) -> Option<W> {
        let mut work = std::pin::pin!(work);
        if let Some(done) = work.as_mut().now_or_never() {
            return Some(done);
        }
        self.hand_over().await?;
        tokio::select! {
            biased;
            () = stopped => None,
            done = work => Some(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use super::*;

    /// An outbox with things that have gathered.
    async fn outbox(things: usize) -> (Outbox<usize>, mpsc::Receiver<Vec<usize>>) {
        let (out, taken) = mpsc::channel(2);
        let mut outbox = Outbox::new(out);
        for thing in 0..things {
            outbox.add(thing).await.unwrap();
        }
        (outbox, taken)
    }

    #[tokio::test]
    async fn what_has_gathered_goes_before_the_sender_waits() {
        let (mut outbox, mut taken) = outbox(3).await;
        let done = outbox.unless(pin!(pending()), ready(7)).await;
        assert_eq!(done, Some(7));
        assert!(taken.try_recv().is_err(), "it did not wait");
        let mut never = pin!(pending());
        let waiting = outbox.unless(never.as_mut(), pending::<()>());
        assert!(waiting.now_or_never().is_none());
        assert_eq!(taken.try_recv(), Ok(vec![0, 1, 2]));
    }

    #[tokio::test]
    async fn as_many_as_go_together_do_not_wait_for_more() {
        let (mut outbox, mut taken) = outbox(TOGETHER + 1).await;
        assert_eq!(taken.try_recv().unwrap().len(), TOGETHER);
        outbox.hand_over().await.unwrap();
        assert_eq!(taken.try_recv(), Ok(vec![TOGETHER]));
        outbox.hand_over().await.unwrap();
        assert!(taken.try_recv().is_err(), "there is nothing to hand over");
    }

    #[tokio::test]
    async fn work_that_waits_ends_with_the_stop_and_with_the_taker() {
        let (mut outbox, taken) = outbox(0).await;
        let done = outbox.unless(pin!(ready(())), pending::<()>()).await;
        assert_eq!(done, None);
        outbox.add(1).await.unwrap();
        drop(taken);
        let done = outbox.unless(pin!(pending()), pending::<()>()).await;
        assert_eq!(done, None);
    }
}
