//! A connection that keeps to the rules: it is closed once its owner was quiet for too long, and at once when its
//! certificate was revoked; without a certificate it may send only what a join needs.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Revoked;
use super::permits::Permit;
use super::usage::{IdleTimeouts, Usage};

/// The certificate that a connection came with, which may come to stand on the list.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) serial: String,
    pub(super) revoked: Revoked,
}

impl Shown {
    fn is_revoked(&self) -> bool {
        self.revoked.load().contains(&self.serial)
    }
}

/// A connection that keeps to the rules: reading and writing fail once its owner was quiet for too long, and reading once
/// it sent too much. Quiet is also who takes no answer, and then nobody reads.
#[derive(Debug)]
pub(crate) struct LimitedConnection<T> {
    connection: T,
    usage: Arc<Usage>,
    wake: Pin<Box<Sleep>>,
    /// Bytes that it may still send; `None`: as many as it likes.
    bytes_left: Option<usize>,
    shown: Option<Shown>,
    _permit: Permit,
}

impl<T> LimitedConnection<T> {
    pub(super) fn new(connection: T, place: Permit, timeouts: IdleTimeouts) -> Self {
        let usage = Usage::new(timeouts);
        let wake = Box::pin(sleep_until(Instant::now() + timeouts.before_first));
        Self { connection, usage, wake, bytes_left: None, shown: None, _permit: place }
    }

    /// Of a stranger.
    pub(super) fn sending_at_most(self, bytes: Option<usize>) -> Self {
        Self { bytes_left: bytes, ..self }
    }

    pub(super) fn showing(self, shown: Shown) -> Self {
        Self { shown: Some(shown), ..self }
    }

    pub(crate) fn connection(&self) -> &T {
        &self.connection
    }

    pub(crate) fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Fails when it is to be closed, and wakes its task then.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.poll_closed(context) {
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "nothing that counts happened for too long"))
            }
            Poll::Pending => Ok(()),
        }
    }

    /// Ready when it is to be closed. What is in hand keeps it open, and it is looked at again later. A revoked certificate is
    /// seen as soon as anything is said: what says nothing is closed soon anyway, as its streams are cut.
    fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.shown.as_ref().is_some_and(Shown::is_revoked) {
            return Poll::Ready(());
        }
        loop {
            let now = Instant::now();
            match self.usage.closes_at() {
                Some(at) if at <= now => return Poll::Ready(()),
                Some(at) => self.wake.as_mut().reset(at),
                None => self.wake.as_mut().reset(now + self.usage.between()),
            }
            if self.wake.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for LimitedConnection<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let limited = &mut *self;
        limited.check(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut limited.connection).poll_read(context, buffer);
        let Some(left) = &mut limited.bytes_left else { return read };
        match left.checked_sub(buffer.filled().len() - before) {
            Some(rest) => *left = rest,
            None => {
                // Whoever reads counts on it that a failure brought nothing.
                buffer.set_filled(before);
                return Poll::Ready(Err(io::Error::other("more was sent than a stranger may")));
            }
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for LimitedConnection<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::ports::permits::{Limits, Party, Permits};

    const PATIENCE: IdleTimeouts = IdleTimeouts {
        before_first: Duration::from_millis(50),
        between: Duration::from_millis(50),
        stranger_age_max: LONG,
        age_max: None,
    };
    const LONG: Duration = Duration::from_secs(20);

    fn limited(bytes_max: Option<usize>) -> (LimitedConnection<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let limits = Limits { strangers: 1, per_address: 1, per_known: 1 };
        let address = "192.0.2.1".parse().expect("an address");
        let place = Permits::new(limits).take(Party::Address(address)).expect("it is empty");
        (LimitedConnection::new(ours, place, PATIENCE).sending_at_most(bytes_max), theirs)
    }

    #[tokio::test]
    async fn who_asks_nothing_is_closed_and_who_is_answered_is_not() {
        let (mut silent, _their_end) = limited(None);
        assert_eq!(silent.read_u8().await.expect_err("closed").kind(), io::ErrorKind::TimedOut);

        let (mut busy, _their_end) = limited(None);
        let in_hand = busy.usage().begin();
        let while_in_hand = tokio::time::timeout(PATIENCE.before_first * 4, busy.read_u8()).await;
        assert!(while_in_hand.is_err(), "closed although something was in hand");
        drop(in_hand);
        assert!(tokio::time::timeout(LONG, busy.read_u8()).await.expect("closed in time").is_err());
    }

    #[tokio::test]
    async fn who_takes_nothing_of_an_answer_is_closed_and_who_takes_some_is_not() {
        let (mut one, _their_end) = limited(None);
        let untaken = one.usage().answer();
        let other = one.usage().begin();
        let taking = async {
            loop {
                tokio::time::sleep(PATIENCE.between / 5).await;
                untaken.went_on();
            }
        };
        let while_taken = async { tokio::time::timeout(PATIENCE.between * 8, one.read_u8()).await };
        tokio::select! {
            closed = while_taken => assert!(closed.is_err(), "closed although it was taken"),
            () = taking => {}
        }

        let closed = tokio::time::timeout(LONG, one.read_u8()).await;

        assert!(closed.expect("closed in time").is_err());
        drop(other);
    }

    #[tokio::test]
    async fn who_sends_a_byte_now_and_then_is_closed_too() {
        let (mut slow, mut their_end) = limited(None);
        let dripping = tokio::spawn(async move { while their_end.write_u8(0).await.is_ok() {} });

        let closed = tokio::time::timeout(LONG, async { while slow.read_u8().await.is_ok() {} }).await;

        assert!(closed.is_ok(), "each byte won it more time");
        drop(slow);
        dripping.await.expect("no panic");
    }

    #[tokio::test]
    async fn who_takes_no_answer_is_closed_while_nobody_reads() {
        let (mut writer, _their_end) = limited(None);

        let closed = tokio::time::timeout(LONG, async { while writer.write_all(&[0; 1 << 12]).await.is_ok() {} }).await;

        assert!(closed.is_ok(), "it waits for ever");
    }

    #[tokio::test]
    async fn a_stranger_may_send_only_so_much() {
        let (mut stranger, mut their_end) = limited(Some(1_000));
        their_end.write_all(&[0; 1_001]).await.expect("written");

        let mut all = Vec::new();
        let read = stranger.read_to_end(&mut all).await;

        assert!(read.is_err(), "{} bytes came through", all.len());
    }
}
