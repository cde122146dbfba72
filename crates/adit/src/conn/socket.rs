//! Socket: a connected stream socket of either family; Io: the same, with or without TLS over it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_net::accept::Accepted;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::budget::Account;
use crate::tls::{Info, TlsIo};
use crate::transport::{Transport, is_try_again};

/// A connected stream socket of either family.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! each_socket {
    ($self:expr, $io:ident => $act:expr) => {
        match $self {
            Socket::Tcp($io) => $act,
            Socket::Unix($io) => $act,
        }
    };
}

/// What bytes go over: a socket, or TLS over one. Two halves share it, so all of it is done by `&self`;
/// one may read and one may write at a time.
pub(crate) enum Io {
    Plain(Socket),
    Tls(Box<TlsIo>),
}

impl Io {
    pub(crate) fn tcp(io: TcpStream) -> Self {
        Self::Plain(Socket::Tcp(io))
    }

    pub(crate) fn unix(io: UnixStream) -> Self {
        Self::Plain(Socket::Unix(io))
    }

    /// The plain socket without its runtime, in blocking mode.
    ///
    /// # Errors
    /// There is TLS over it: the socket alone is of no use to anybody.
    pub(crate) fn into_blocking(self) -> io::Result<OwnedFd> {
        match self {
            Self::Plain(Socket::Tcp(io)) => {
                let io = io.into_std()?;
                io.set_nonblocking(false)?;
                Ok(io.into())
            }
            Self::Plain(Socket::Unix(io)) => {
                let io = io.into_std()?;
                io.set_nonblocking(false)?;
                Ok(io.into())
            }
            Self::Tls(_) => Err(io::Error::other("a connection over TLS cannot be given away")),
        }
    }

    /// From now on what it holds counts here: TLS does, a socket does not.
    pub(crate) fn count_for(&self, account: &Arc<Account>) {
        if let Self::Tls(tls) = self {
            tls.count_for(account);
        }
    }

    /// What the TLS handshake has settled.
    pub(crate) fn tls(&self) -> Option<&Info> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls.info()),
        }
    }

    /// Does something with the socket that leaves its bytes alone.
    fn socket<T>(&self, act: impl FnOnce(&Socket) -> T) -> T {
        match self {
            Self::Plain(socket) => act(socket),
            Self::Tls(tls) => tls.socket(act),
        }
    }

    pub(crate) fn descriptor(&self) -> i32 {
        self.socket(Socket::descriptor)
    }

    /// Bytes that have come and were not read yet; of TLS, some of them may be none of ours.
    pub(crate) fn unread(&self) -> usize {
        let decrypted = match self {
            Self::Plain(_) => 0,
            Self::Tls(tls) => tls.decrypted(),
        };
        self.socket(Transport::unread).saturating_add(decrypted)
    }

    pub(crate) fn unacknowledged(&self) -> io::Result<usize> {
        let (held, empty) = match self {
            Self::Plain(_) => (0, 0),
            // What is encrypted already has no exact number any more.
            Self::Tls(tls) => (usize::from(!tls.is_flushed()), tls.empty_bytes()),
        };
        let sent =
            self.socket(|socket| each_socket!(socket, io => adit_net::stream::unacknowledged(io)))?;
        Ok(sent.saturating_sub(empty).saturating_add(held))
    }

    pub(crate) fn last_heard(&self) -> Option<(bool, Duration)> {
        self.socket(Transport::last_heard)
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket(|socket| each_socket!(socket, io => adit_net::stream::take_error(io)))
    }

    pub(crate) fn shut_in(&self) -> io::Result<()> {
        self.socket(|socket| each_socket!(socket, io => adit_net::stream::shut_in(io)))
    }

    /// Makes the close a reset; a Unix socket knows none.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        self.socket(|socket| match socket {
            Socket::Tcp(io) => adit_net::stream::reset_on_close(io),
            Socket::Unix(_) => Ok(()),
        })
    }

    /// Process, user and group at the other end of a Unix socket.
    pub(crate) fn credentials(&self) -> Option<(i32, u32, u32)> {
        self.socket(|socket| match socket {
            Socket::Unix(io) => adit_net::connect::peer_credentials(io).ok(),
            Socket::Tcp(_) => None,
        })
    }

    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => return tls.poll_read(cx, buf),
        };
        loop {
            ready!(each_socket!(socket, io => io.poll_read_ready(cx)))?;
            match each_socket!(socket, io => io.try_read(buf.initialize_unfilled())) {
                Ok(bytes) => {
                    buf.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if is_try_again(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => return tls.poll_write(cx, buf),
        };
        loop {
            ready!(each_socket!(socket, io => io.poll_write_ready(cx)))?;
            match each_socket!(socket, io => io.try_write(buf)) {
                Err(error) if is_try_again(&error) => {}
                written => return Poll::Ready(written),
            }
        }
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    /// Ends our direction.
    pub(crate) fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => {
                Poll::Ready(each_socket!(socket, io => adit_net::stream::finish(io)))
            }
            Self::Tls(tls) => tls.poll_finish(cx),
        }
    }
}

impl Socket {
    /// Has this thread's runtime watch a connection.
    pub(crate) fn watch(accepted: Accepted) -> io::Result<Self> {
        match accepted {
            Accepted::Tcp(socket, _) => TcpStream::from_std(socket).map(Self::Tcp),
            Accepted::Unix(socket, _) => UnixStream::from_std(socket).map(Self::Unix),
        }
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(io) => io.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    fn descriptor(&self) -> i32 {
        each_socket!(self, io => io.as_raw_fd())
    }

    /// Waits for bytes and looks at them; they stay to be read.
    ///
    /// Cancel safe.
    pub(crate) async fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        let readable = Interest::READABLE;
        each_socket!(self, io => io.async_io(readable, || adit_net::stream::peek(io, into)).await)
    }

    /// Reads bytes that have come.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        each_socket!(self, io => io.try_read(into))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each_socket!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each_socket!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }
    // Records of TLS go out together; and the alert of a handshake that fails, for which there is one
    // write, goes with what stands in front of it.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each_socket!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, bufs))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_socket!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_socket!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
}

impl Transport for Socket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_read(cx, buf)
    }
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, buf)
    }
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }
    fn last_heard(&self) -> Option<(bool, Duration)> {
        each_socket!(self, io => io.last_heard())
    }
    fn unread(&self) -> usize {
        each_socket!(self, io => Transport::unread(io))
    }
    fn unacknowledged(&self) -> usize {
        each_socket!(self, io => Transport::unacknowledged(io))
    }
    fn descriptor(&self) -> Option<i32> {
        Some(Self::descriptor(self))
    }
    fn abort(&self) {
        each_socket!(self, io => Transport::abort(io));
    }
}
