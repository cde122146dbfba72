//! Transport: what the conversation loop asks of a stream, whatever carries it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A stream of bytes with a half-close: TCP, Unix, memory.
pub(crate) trait Transport: Unpin + 'static {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;
    /// Ends our direction: the peer reads an end of stream and may go on sending.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Bytes that have come and were not read yet; 0 where that cannot be told.
    fn unread(&self) -> usize;
    /// Bytes that the peer's system has not acknowledged yet; 0 where that cannot be told.
    fn unacknowledged(&self) -> usize;
}

macro_rules! of_tokio {
    ($io:ty) => {
        fn poll_read(
            &mut self,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(self as &mut $io).poll_read(cx, buf)
        }
        fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(self as &mut $io).poll_write(cx, buf)
        }
        fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(self as &mut $io).poll_shutdown(cx)
        }
    };
}

impl Transport for TcpStream {
    of_tokio!(TcpStream);
    fn unread(&self) -> usize {
        adit_net::stream::unread(self).unwrap_or(0)
    }
    fn unacknowledged(&self) -> usize {
        adit_net::stream::unacknowledged(self).unwrap_or(0)
    }
}

impl Transport for UnixStream {
    of_tokio!(UnixStream);
    fn unread(&self) -> usize {
        adit_net::stream::unread(self).unwrap_or(0)
    }
    fn unacknowledged(&self) -> usize {
        adit_net::stream::unacknowledged(self).unwrap_or(0)
    }
}

impl Transport for DuplexStream {
    of_tokio!(DuplexStream);
    fn unread(&self) -> usize {
        0
    }
    fn unacknowledged(&self) -> usize {
        0
    }
}
