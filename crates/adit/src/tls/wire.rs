//! TLS as what bytes go over: shared by two halves, or owned by one conversation.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_tls::{Info, TlsStream};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::budget::{Account, Holding};
use crate::conn::Socket;
use crate::transport::Transport;

/// TLS over a socket.
pub(crate) struct TlsIo {
    /// Held for one call, never across an await. Each direction needs it: a read may have to send, and
    /// both change the state of the session.
    session: Mutex<Session>,
    info: Info,
    /// `close_notify` was sent.
    is_finished: AtomicBool,
}

struct Session {
    stream: TlsStream<Socket>,
    /// What it was given last, as long as the socket has not taken all of it.
    unsent: usize,
    /// Counts that, and what is decrypted and not read; none where nobody counts.
    holding: Option<Holding>,
}

impl TlsIo {
    pub(crate) fn new(stream: TlsStream<Socket>) -> Self {
        let info = stream.info();
        let session = Mutex::new(Session { stream, unsent: 0, holding: None });
        Self { session, info, is_finished: AtomicBool::new(false) }
    }

    /// From now on what it holds counts here.
    pub(crate) fn count_for(&self, account: &Arc<Account>) {
        self.session().holding = Some(Holding::new(account));
    }

    pub(crate) fn info(&self) -> &Info {
        &self.info
    }

    /// Does something with the socket that leaves its bytes alone.
    pub(crate) fn socket<T>(&self, act: impl FnOnce(&Socket) -> T) -> T {
        act(self.session().stream.get_ref())
    }

    /// Bytes that are decrypted and not read yet.
    pub(crate) fn decrypted(&self) -> usize {
        self.session().stream.unread()
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
        self.session().stream.is_flushed()
    }

    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.session().poll_read(cx, buf)
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.session().poll_write(cx, buf)
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session().poll_flush(cx)
    }

    /// Sends `close_notify` and ends our direction of the socket.
    pub(crate) fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_finished.store(true, Relaxed);
        self.session().poll_finish(cx)
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session_mut(&mut self) -> &mut Session {
        self.session.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// A read sends what is left as well.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.count();
        read
    }

    /// Takes bytes only when the socket has taken those before: what TLS holds is bounded by one write, and
    /// a peer that takes nothing is seen as one.
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = written {
            self.unsent = bytes;
            self.count();
        }
        written
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stream.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.count();
        flushed
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let finished = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.count();
        finished
    }

    fn count(&mut self) {
        if self.stream.is_flushed() {
            self.unsent = 0;
        }
        if let Some(holding) = &mut self.holding {
            holding.set(self.unsent + self.stream.unread());
        }
    }
}

/// For one conversation that owns it: nobody else can hold the lock.
impl Transport for TlsIo {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.session_mut().poll_read(cx, buf)
    }
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.session_mut().poll_write(cx, buf)
    }
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session_mut().poll_flush(cx)
    }
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_finished.store(true, Relaxed);
        self.session_mut().poll_finish(cx)
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
