//! A server's end of a connection: it gives way to others, and can be cut from outside, which is the end of the server's
//! patience with what does not drain.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use host::net::Conn;

use super::ConnectionTask;

/// Bytes that a connection moves before it gives way: some tenths of a millisecond.
const TURN: usize = 512 * 1024;

/// A connection that fails once its token is cancelled.
///
/// It also takes turns with everything else on its thread: one that is read or written without end, as when a consumer catches
/// up, would have the thread for as long as the peer keeps up, and a message of another client would wait for milliseconds.
pub(super) struct Gated {
    /// Bytes left of its turn.
    turn: usize,
    conn: Box<dyn Conn>,
    task: ConnectionTask,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    is_cut: bool,
}

impl Gated {
    /// A connection that is served by this task.
    pub(super) fn new(conn: Box<dyn Conn>, task: ConnectionTask, cut: CancellationToken) -> Self {
        Self {
            conn,
            task,
            turn: TURN,
            cut: Box::pin(cut.cancelled_owned()),
            is_cut: false,
        }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.is_cut || self.cut.as_mut().poll(context).is_ready() {
            self.is_cut = true;
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the server has stopped",
            ));
        }
        Ok(())
    }

    /// Whether its turn is over; then the next one follows when others have had theirs.
    fn gives_way(&mut self, context: &Context<'_>) -> bool {
        let is_over = self.turn == 0;
        if is_over {
            self.turn = TURN;
            self.task.end_turn();
            context.waker().wake_by_ref();
        }
        is_over
    }

    fn wrote(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = polled {
            self.turn = self.turn.saturating_sub(bytes);
        }
        polled
    }
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        if self.gives_way(context) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.conn).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        self.turn = self.turn.saturating_sub(bytes);
        polled
    }
}

impl AsyncWrite for Gated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        if self.gives_way(context) {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.conn).poll_write(context, bytes);
        self.wrote(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.conn).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.conn).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        if self.gives_way(context) {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.conn).poll_write_vectored(context, parts);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.conn.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::task::noop_waker;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A connection whose peer takes and gives as much as one wants.
    fn endless() -> (Gated, tokio::io::DuplexStream) {
        let (here, there) = tokio::io::duplex(16 * TURN);
        let gated = Gated::new(
            Box::new(here),
            ConnectionTask::default(),
            CancellationToken::new(),
        );
        (gated, there)
    }

    /// Writes as long as the connection takes more: bytes.
    fn writes(gated: &mut Gated, context: &mut Context<'_>) -> usize {
        let bytes = [0; 64 * 1024];
        let mut written = 0;
        while let Poll::Ready(count) = Pin::new(&mut *gated).poll_write(context, &bytes) {
            written += count.unwrap();
        }
        written
    }

    #[tokio::test]
    async fn a_connection_gives_way_after_its_turn_and_goes_on_after_the_others() {
        let (mut gated, mut there) = endless();
        for _ in 0..4 {
            let turn = poll_fn(|context| Poll::Ready(writes(&mut gated, context))).await;
            assert_eq!(turn, TURN);
        }
        there.write_all(&[1; 3 * TURN]).await.unwrap();
        let mut received = vec![0; 3 * TURN];
        // It is woken by itself: nobody writes any more.
        gated.read_exact(&mut received).await.unwrap();
        assert!(received.iter().all(|&byte| byte == 1));
    }

    #[tokio::test]
    async fn other_tasks_have_theirs_between_the_turns_of_a_connection() {
        const TURNS: usize = 8;
        let (here, _there) = tokio::io::duplex(16 * TURN);
        let task = ConnectionTask::default();
        let cut = CancellationToken::new();
        let mut gated = Gated::new(Box::new(here), task.clone(), cut);
        let (told, mut log) = tokio::sync::mpsc::channel(2 * TURNS);
        // Pending, each goes on when it is woken, which it is at once, by itself.
        let after = |turns| match turns {
            TURNS => Poll::Ready(()),
            _ => Poll::Pending,
        };
        let other = ConnectionTask::default();
        let (mut turns, (tell, it)) = (0, (told.clone(), other.clone()));
        other.spawn(poll_fn(move |context| {
            tell.try_send("other").unwrap();
            turns += 1;
            it.end_turn();
            context.waker().wake_by_ref();
            after(turns)
        }));
        let mut turns = 0;
        task.spawn(poll_fn(move |context| {
            assert_eq!(writes(&mut gated, context), TURN);
            told.try_send("connection").unwrap();
            turns += 1;
            after(turns)
        }));
        let mut seen = Vec::new();
        while let Some(one) = log.recv().await {
            seen.push(one);
        }
        assert_eq!(seen, ["other", "connection"].repeat(TURNS));
    }

    #[tokio::test]
    async fn a_turn_that_ends_does_not_hide_that_the_connection_was_cut() {
        let (here, _there) = tokio::io::duplex(16 * TURN);
        let cut = CancellationToken::new();
        let mut gated = Gated::new(Box::new(here), ConnectionTask::default(), cut.clone());
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        assert_eq!(writes(&mut gated, &mut context), TURN);
        cut.cancel();
        let refused = Pin::new(&mut gated).poll_write(&mut context, &[0]);
        assert!(matches!(refused, Poll::Ready(Err(_))), "{refused:?}");
    }
}
