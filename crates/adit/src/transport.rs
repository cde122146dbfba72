//! Transport: what the conversation loop asks of a stream, whatever carries it.

use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::{Code, Limit};

/// A stream of bytes with a half-close: TCP, Unix, TLS over either, memory.
pub(crate) trait Transport: Unpin + 'static {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;
    /// Hands on what a layer of its own still holds of what was written; most have none.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ends our direction: the peer reads an end of stream and may go on sending.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Whether the peer's system has answered all that asked for an answer, if that can be told, and how
    /// long ago it acknowledged something.
    fn last_heard(&self) -> Option<(bool, Duration)>;
    /// Bytes that have come and were not read yet; 0 where that cannot be told.
    fn unread(&self) -> usize;
    /// Bytes that the peer's system has not acknowledged yet; 0 where that cannot be told.
    fn unacknowledged(&self) -> usize;
    /// The descriptor, if there is one.
    fn descriptor(&self) -> Option<i32>;
    /// Makes the coming close a reset, where there is such a thing: what is still owed is given up.
    fn abort(&self) {}
    /// From now on nothing is slowed that a rate slows.
    fn lift_throttle(&self) {}
}

macro_rules! of_tokio {
    ($io:ty) => {
        fn poll_read(
            &mut self,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            uninterrupted(|| Pin::new(self as &mut $io).poll_read(cx, buf))
        }
        fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            uninterrupted(|| Pin::new(self as &mut $io).poll_write(cx, buf))
        }
        fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(self as &mut $io).poll_shutdown(cx)
        }
    };
}

/// Tries again what a signal has interrupted: nothing was read or written, and the stream is sound.
fn uninterrupted<T>(mut poll: impl FnMut() -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    loop {
        match poll() {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Is this no failure, but a matter of trying again, once the socket is ready?
pub(crate) fn is_try_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Transport for TcpStream {
    of_tokio!(TcpStream);
    fn last_heard(&self) -> Option<(bool, Duration)> {
        let info = adit_net::stream::tcp_info(self).ok()?;
        Some((info.unanswered == 0, Duration::from_millis(info.last_ack_ms.into())))
    }
    fn unread(&self) -> usize {
        adit_net::stream::unread(self).unwrap_or(0)
    }
    fn unacknowledged(&self) -> usize {
        adit_net::stream::unacknowledged(self).unwrap_or(0)
    }
    fn descriptor(&self) -> Option<i32> {
        Some(self.as_raw_fd())
    }
    fn abort(&self) {
        // A socket that cannot be told to reset is closed the ordinary way.
        drop(adit_net::stream::reset_on_close(self));
    }
}

impl Transport for UnixStream {
    of_tokio!(UnixStream);
    fn last_heard(&self) -> Option<(bool, Duration)> {
        None
    }
    fn unread(&self) -> usize {
        adit_net::stream::unread(self).unwrap_or(0)
    }
    fn unacknowledged(&self) -> usize {
        adit_net::stream::unacknowledged(self).unwrap_or(0)
    }
    fn descriptor(&self) -> Option<i32> {
        Some(self.as_raw_fd())
    }
}

impl Transport for DuplexStream {
    of_tokio!(DuplexStream);
    fn last_heard(&self) -> Option<(bool, Duration)> {
        None
    }
    fn unread(&self) -> usize {
        0
    }
    fn unacknowledged(&self) -> usize {
        0
    }
    fn descriptor(&self) -> Option<i32> {
        None
    }
}

/// What an error of a transport means. The kernel gives up a peer in two cases with one error
/// (`ETIMEDOUT`): it answers nothing any more, or it acknowledges and takes nothing.
pub(crate) fn code_of<T: Transport>(io: &T, error: &io::Error, stall: Limit<Duration>) -> Code {
    let code = crate::code_of(error);
    // The time alone would not do: a thread that looks late finds everybody silent.
    let is_alive = |(answers, ago)| answers || stall.at().is_some_and(|limit| ago < limit);
    if code == Code::DeadPeer && io.last_heard().is_some_and(is_alive) {
        return Code::StallTimeout;
    }
    code
}
