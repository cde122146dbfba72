//! TLS as what bytes go over: shared by two halves, or owned by one conversation.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_tls::{Info, TlsStream};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::conn::Socket;
use crate::transport::Transport;

/// TLS over a socket.
pub(crate) struct TlsIo {
    /// Held for one call, never across an await. Each direction needs it: a read may have to send, and
    /// both change the state of the session.
    stream: Mutex<TlsStream<Socket>>,
    info: Info,
    /// `close_notify` was sent.
    is_finished: AtomicBool,
}

impl TlsIo {
    pub(crate) fn new(stream: TlsStream<Socket>) -> Self {
        let info = stream.info();
        Self { stream: Mutex::new(stream), info, is_finished: AtomicBool::new(false) }
    }

    pub(crate) fn info(&self) -> &Info {
        &self.info
    }

    /// Does something with the socket that leaves its bytes alone.
    pub(crate) fn socket<T>(&self, act: impl FnOnce(&Socket) -> T) -> T {
        act(self.stream().get_ref())
    }

    /// Bytes that are decrypted and not read yet.
    pub(crate) fn decrypted(&self) -> usize {
        self.stream().unread()
    }

    /// Bytes of `close_notify` that may be among those that are not acknowledged yet: nothing was said by
    /// them, and a peer that closes at once acknowledges none. An alert of two bytes in a record: 24 bytes
    /// in TLS 1.3 (RFC 8446, section 5.2); in 1.2 31 with AES-GCM, which sends part of its nonce (RFC 5288,
    /// section 3), and 23 with `ChaCha20` (RFC 7905, section 2).
    pub(crate) fn empty_bytes(&self) -> usize {
        match self.is_finished.load(Relaxed) {
            false => 0,
            true if self.info.version == "1.3" => 24,
            true if self.info.cipher.contains("CHACHA20") => 23,
            true => 31,
        }
    }

    /// Has the socket taken all that was written?
    pub(crate) fn is_flushed(&self) -> bool {
        self.stream().is_flushed()
    }

    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_read(cx, buf)
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        write(&mut self.stream(), cx, buf)
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        flush(&mut self.stream(), cx)
    }

    /// Sends `close_notify` and ends our direction of the socket.
    pub(crate) fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_finished.store(true, Relaxed);
        Pin::new(&mut *self.stream()).poll_shutdown(cx)
    }

    fn stream(&self) -> MutexGuard<'_, TlsStream<Socket>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream_mut(&mut self) -> &mut TlsStream<Socket> {
        self.stream.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes bytes only when the socket has taken those before: what TLS holds is bounded by one write, and a
/// peer that takes nothing is seen as one.
fn write(
    stream: &mut TlsStream<Socket>,
    cx: &mut Context<'_>,
    buf: &[u8],
) -> Poll<io::Result<usize>> {
    ready!(flush(stream, cx))?;
    Pin::new(stream).poll_write(cx, buf)
}

fn flush(stream: &mut TlsStream<Socket>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    if stream.is_flushed() {
        return Poll::Ready(Ok(()));
    }
    Pin::new(stream).poll_flush(cx)
}

/// For one conversation that owns it: nobody else can hold the lock.
impl Transport for TlsIo {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream_mut()).poll_read(cx, buf)
    }
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        write(self.stream_mut(), cx, buf)
    }
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        flush(self.stream_mut(), cx)
    }
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_finished.store(true, Relaxed);
        Pin::new(self.stream_mut()).poll_shutdown(cx)
    }
    fn last_heard(&self) -> Option<(bool, Duration)> {
        self.socket(Transport::last_heard)
    }
    fn unread(&self) -> usize {
        self.socket(Transport::unread).saturating_add(self.decrypted())
    }
    fn unacknowledged(&self) -> usize {
        let held = usize::from(!self.is_flushed());
        let sent = self.socket(Transport::unacknowledged).saturating_sub(self.empty_bytes());
        sent.saturating_add(held)
    }
    fn descriptor(&self) -> Option<i32> {
        self.socket(Transport::descriptor)
    }
    fn abort(&self) {
        self.socket(Transport::abort);
    }
}
