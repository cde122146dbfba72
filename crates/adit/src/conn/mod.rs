//! Conn: a raw stream of bytes with a half-close, for services and clients that frame nothing.

mod socket;
mod wire;

pub(crate) use socket::{Io, Socket};
pub(crate) use wire::{Ending, Share, Wire};

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::{Code, Endpoint, Limit};

/// How long what TLS still holds may take to go out once nobody is left who writes: the limit on stalls of
/// a client, for the 64 KiB at most that this is.
const FINISH_WITHIN: Duration = Duration::from_secs(120);

/// A connected stream socket: bytes in, bytes out, each direction with an end of its own.
///
/// Reads give 0 once the peer has ended its direction; writing goes on. Dropping the write half, or
/// `shutdown`, ends our direction. `Send`, and at home on any tokio runtime.
#[doc(alias = "connectionSocket")]
#[doc(alias = "clientSocket")]
pub struct Conn {
    wire: Arc<Wire>,
}

/// The reading half of a [`Conn`].
#[doc(alias = "inFromServer")]
#[doc(alias = "read")]
pub struct ReadHalf {
    wire: Arc<Wire>,
    reads_on: bool,
}

/// The writing half of a [`Conn`]. Dropping it ends our direction: the peer reads an end of stream.
#[doc(alias = "outToServer")]
#[doc(alias = "write")]
pub struct WriteHalf {
    wire: Arc<Wire>,
}

impl Conn {
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        Self { wire }
    }

    /// The peer's address.
    pub fn remote(&self) -> &Endpoint {
        &self.wire.remote
    }

    /// Our own address.
    pub fn local(&self) -> Option<&Endpoint> {
        self.wire.local.as_ref()
    }

    /// The proxy that named the peer, where a server reads PROXY headers
    /// ([`Server::proxy_from`](crate::Server::proxy_from)); none if the peer came by itself.
    pub fn via(&self) -> Option<&Endpoint> {
        self.wire.via.as_ref()
    }

    /// What the TLS handshake has settled; none over a plain connection.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&crate::tls::Info> {
        self.wire.tls()
    }

    /// Number of the conversation in its server, or of the connection of its [`Dial`](crate::Dial),
    /// as in events.
    pub fn number(&self) -> u64 {
        self.wire.number
    }

    /// Has the server been told to stop? Reads fail then as soon as nothing is left to read.
    pub fn is_ending(&self) -> bool {
        self.wire.ending.load(Relaxed)
    }

    /// Bytes received and bytes sent so far.
    pub fn bytes(&self) -> (u64, u64) {
        (self.wire.bytes_in.load(Relaxed), self.wire.bytes_out.load(Relaxed))
    }

    /// Bytes sent that the peer's system has not acknowledged yet.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn unacknowledged(&self) -> io::Result<usize> {
        self.wire.unacknowledged()
    }

    /// A look at the connection from beside its halves, after they have been split or dropped.
    ///
    /// The socket stays open as long as the look is kept: what was written goes on to the peer, and
    /// what becomes of it can be asked.
    pub fn look(&self) -> Look {
        Look { wire: Arc::clone(&self.wire) }
    }

    /// Two halves that can be used by two tasks.
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        let wire = Arc::clone(&self.wire);
        (ReadHalf { wire: Arc::clone(&wire), reads_on: false }, WriteHalf { wire })
    }

    /// Makes the close a reset: the peer learns that this was not a clean end.
    pub fn abort(self) {
        self.wire.abort();
    }

    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }

    pub(crate) fn into_wire(self) -> Arc<Wire> {
        self.wire
    }
}

/// A look at a connection from beside its halves; made by [`Conn::look`].
#[derive(Clone)]
pub struct Look {
    wire: Arc<Wire>,
}

impl Look {
    /// Number of the connection, as in events.
    pub fn number(&self) -> u64 {
        self.wire.number
    }

    /// The peer's address.
    pub fn remote(&self) -> &Endpoint {
        &self.wire.remote
    }

    /// Our own address.
    pub fn local(&self) -> Option<&Endpoint> {
        self.wire.local.as_ref()
    }

    /// Bytes received and bytes sent so far.
    pub fn bytes(&self) -> (u64, u64) {
        (self.wire.bytes_in.load(Relaxed), self.wire.bytes_out.load(Relaxed))
    }

    /// What the TLS handshake has settled; none over a plain connection.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&crate::tls::Info> {
        self.wire.tls()
    }

    /// How long the connection has lasted.
    pub fn lasted(&self) -> Duration {
        self.wire.lasted()
    }

    /// Since when no byte has gone either way.
    pub fn idle_for(&self) -> Duration {
        self.wire.last_byte().elapsed()
    }

    /// Since when the peer takes nothing of what is being written, if so.
    pub fn stalled_for(&self) -> Option<Duration> {
        self.wire.stalled().map(|since| since.elapsed())
    }

    /// Bytes sent that the peer's system has not acknowledged yet.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn unacknowledged(&self) -> io::Result<usize> {
        self.wire.unacknowledged()
    }

    /// Has the peer ended its direction, as it should?
    pub fn peer_has_ended(&self) -> bool {
        self.wire.peer_ended.load(Relaxed)
    }

    /// The error that the system keeps for the connection, which asking removes: a reset that no
    /// read or write has met yet.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.wire.take_error()
    }

    /// What an error of the connection means. The kernel gives a peer up with one error (`ETIMEDOUT`) in
    /// two cases: nothing comes from it any more, which is `dead-peer`, or it acknowledges and takes
    /// nothing, `stall-timeout`. `stall` is the limit the connection was made with.
    pub fn code_of(&self, error: &io::Error, stall: Limit<Duration>) -> Code {
        crate::transport::code_of(&Share(Arc::clone(&self.wire)), error, stall)
    }

    /// Makes the close a reset: the peer learns that this was not a clean end.
    pub fn abort(&self) {
        self.wire.abort();
    }
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").field("remote", self.remote()).finish_non_exhaustive()
    }
}

impl ReadHalf {
    /// Has the server been told to stop? Reads fail then as soon as nothing is left to read.
    pub fn is_ending(&self) -> bool {
        self.wire.ending.load(Relaxed)
    }

    /// Reads on after the server has been told to stop, until the peer ends or the time of the drain is
    /// over: for a relay, whose conversations are for others to finish.
    #[must_use]
    pub fn reading_on(self) -> Self {
        Self { reads_on: true, ..self }
    }
}

impl WriteHalf {
    /// Bytes sent that the peer's system has not acknowledged yet.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn unacknowledged(&self) -> io::Result<usize> {
        self.wire.unacknowledged()
    }

    /// Has the server been told to stop?
    pub fn is_ending(&self) -> bool {
        self.wire.ending.load(Relaxed)
    }

    /// Makes the close a reset: the peer learns that this was not a clean end.
    pub fn abort(self) {
        self.wire.abort();
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // A connection that is broken has ended already.
        if self.wire.poll_finish(&Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        // TLS has more to say than the socket takes just now. A peer that takes nothing of it is left after
        // a while, without the end: then it reads that something is missing.
        if let Ok(runtime) = Handle::try_current() {
            let wire = Arc::clone(&self.wire);
            runtime.spawn(async move {
                drop(timeout(FINISH_WITHIN, poll_fn(|cx| wire.poll_finish(cx))).await);
            });
        }
    }
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn").field("remote", self.remote()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadHalf").field("remote", &self.wire.remote).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteHalf").field("remote", &self.wire.remote).finish_non_exhaustive()
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.reads_on {
            return self.wire.poll_read(cx, buf);
        }
        self.wire.poll_read_unless_ending(cx, buf)
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.wire.poll_read_unless_ending(cx, buf)
    }
}

macro_rules! writes {
    ($half:ty) => {
        impl AsyncWrite for $half {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.wire.poll_write(cx, buf)
            }
            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.wire.poll_flush(cx)
            }
            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.wire.poll_finish(cx)
            }
        }
    };
}

writes!(WriteHalf);
writes!(Conn);
