//! `TlsStream`: a stream of bytes over TLS that half-closes, and that says when it was cut.

use std::fmt;
use std::future::Future as _;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rustls::CommonState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::Info;
use crate::failure::{self, Asked};
use crate::wire::Wire;

/// A stream of bytes over TLS.
///
/// - *Reading* ends with 0 bytes after the peer's `close_notify`. A stream that ends without is cut: an
///   error of kind `UnexpectedEof`, code `truncated`. What came before is read first.
/// - *Writing* takes bytes into a buffer of at most 64 KiB of records. They go out by themselves as far
///   as the stream beneath takes them, and the rest whenever the stream is read, written or flushed.
/// - *Half-close*: `poll_shutdown` sends what is left, `close_notify`, and then ends our direction
///   beneath; reading goes on.
///
/// An error of TLS is an [`io::Error`] with an [`Error`](adit_proto::error::Error) within, which
/// [`code_of`](adit_proto::error::code_of) finds.
///
/// Dropped without `poll_shutdown`, it cuts the stream: the peer learns that something may be missing.
///
/// ```
/// use adit_proto::code::Code;
/// use adit_proto::error::code_of;
/// use adit_tls::{ClientTls, ServerTls};
/// use std::time::Duration;
/// use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
/// # let folder = std::env::temp_dir().join(format!("adit-tls-doc-{}", std::process::id()));
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let server = ServerTls::auto(&folder)?;
/// let client = ClientTls::pinned(server.pin())?;
/// let (near, far) = tokio::io::duplex(10_000); // any stream of bytes
/// let soon = Duration::from_secs(10);
/// let (near, far) = tokio::join!(
///     client.connect(near, "localhost", "the server", soon),
///     server.accept(far, "the client", soon),
/// );
/// let (mut near, mut far) = (near?, far?);
/// assert_eq!(near.info().version, "1.3");
/// assert_eq!(near.info().peer.map(|certificate| certificate.pin), Some(server.pin()));
///
/// far.write_all(b"half an ans").await?;
/// far.flush().await?;
/// drop(far);
/// let mut came = Vec::new();
/// let error = near.read_to_end(&mut came).await.unwrap_err();
/// assert_eq!((&*came, code_of(&error)), (&b"half an ans"[..], Code::Truncated));
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TlsStream<IO> {
    inner: Box<Inner<IO>>,
}

struct Inner<IO> {
    tls: tokio_rustls::TlsStream<Wire<IO>>,
    side: Side,
    unread: usize,
    finished: bool,
    /// Who waits to write, and who to read. Each may have to do a bit of the other's work, and must not
    /// take its place: a stream beneath knows one waker for each direction.
    writer: Option<Waker>,
    reader: Option<Waker>,
    /// rustls has panicked within: it is not used any more.
    broken: bool,
    /// A write that failed, while the reason is awaited.
    failing: Option<(io::Error, Pin<Box<Sleep>>)>,
}

/// Which end of the handshake this was.
pub(crate) enum Side {
    Client { asked: Asked, sni: Option<Box<str>> },
    Server,
}

impl<IO> TlsStream<IO> {
    pub(crate) fn new(mut tls: tokio_rustls::TlsStream<Wire<IO>>, side: Side) -> Self {
        wire(&mut tls).first = None;
        let inner = Inner {
            tls,
            side,
            unread: 0,
            finished: false,
            writer: None,
            reader: None,
            broken: false,
            failing: None,
        };
        Self { inner: Box::new(inner) }
    }

    /// The stream beneath. Reading or writing it breaks TLS.
    pub fn get_ref(&self) -> &IO {
        &self.inner.tls.get_ref().0.io
    }

    /// What the handshake has settled.
    pub fn info(&self) -> Info {
        let state = state(&self.inner.tls);
        let server_name = match (&self.inner.side, &self.inner.tls) {
            (Side::Client { sni, .. }, _) => sni.as_deref(),
            (Side::Server, tokio_rustls::TlsStream::Server(tls)) => tls.get_ref().1.server_name(),
            (Side::Server, tokio_rustls::TlsStream::Client(_)) => None,
        };
        Info::of(state, server_name)
    }

    /// Bytes that were decrypted and not read yet; more may wait in the stream beneath. Not above 32 KiB.
    pub fn unread(&self) -> usize {
        self.inner.unread
    }

    /// Whether the stream beneath has taken all that was written.
    pub fn is_flushed(&self) -> bool {
        !state(&self.inner.tls).wants_write()
    }

    fn asked(&self) -> Asked {
        match self.inner.side {
            Side::Client { asked, .. } => asked,
            Side::Server => None,
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Inner<IO> {
    fn poll_in(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.broken {
            return Poll::Ready(Err(failure::of_broken_stream()));
        }
        let before = buf.filled().len();
        let tls = &mut self.tls;
        if let Some(poll) = guarded(self.finished, || Pin::new(tls).poll_read(cx, buf)) {
            return poll;
        }
        self.broken = true;
        // What was decrypted in front of it is good.
        let ended =
            if buf.filled().len() > before { Ok(()) } else { Err(failure::of_broken_stream()) };
        Poll::Ready(ended)
    }

    /// How much is decrypted and not read yet. An error that this meets is that of the next read.
    fn decrypted(&mut self) -> usize {
        if self.broken {
            return 0;
        }
        let tls = &mut self.tls;
        let state = guarded(self.finished, || match tls {
            tokio_rustls::TlsStream::Client(tls) => tls.get_mut().1.process_new_packets(),
            tokio_rustls::TlsStream::Server(tls) => tls.get_mut().1.process_new_packets(),
        });
        self.broken = state.is_none();
        state.and_then(Result::ok).map_or(0, |state| state.plaintext_bytes_to_read())
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> TlsStream<IO> {
    /// Sends what is left of earlier writes, on behalf of who reads. An error is that of the next write.
    fn push(&mut self, cx: &Context<'_>) {
        if self.is_flushed() || self.inner.broken {
            return;
        }
        let inner = &mut *self.inner;
        let waker = both(inner.writer.as_ref(), cx);
        let pushed = Pin::new(&mut inner.tls).poll_flush(&mut Context::from_waker(&waker));
        if pushed.is_ready()
            && let Some(writer) = inner.writer.take()
        {
            writer.wake();
        }
    }

    /// Writes with `write`. Remembers who waits for it, and tells what a failure means.
    fn poll_out<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Inner<IO>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.inner.broken {
            return Poll::Ready(Err(failure::of_broken_stream()));
        }
        if self.inner.failing.is_none() {
            match write(&mut self.inner, cx) {
                Poll::Pending => {
                    remember(&mut self.inner.writer, cx);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(done)) => {
                    self.inner.writer = None;
                    return Poll::Ready(Ok(done));
                }
                Poll::Ready(Err(error)) => {
                    self.inner.writer = None;
                    self.inner.failing = Some((error, Box::pin(sleep(LAST_WORD))));
                }
            }
        }
        self.poll_last_word(cx).map(Err)
    }

    /// A peer that refuses us sends an alert and closes, and our next write meets the close. The alert
    /// says more, so it is looked for; what came in front of it is left to the reader.
    fn poll_last_word(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let asked = self.asked();
        let inner = &mut *self.inner;
        let waker = both(inner.reader.as_ref(), cx);
        let mut nothing = ReadBuf::new(&mut []);
        let read = inner.poll_in(&mut Context::from_waker(&waker), &mut nothing);
        let is_over = |(_, limit): &mut (_, Pin<Box<Sleep>>)| limit.as_mut().poll(cx).is_ready();
        if read.is_pending() && !inner.failing.as_mut().is_none_or(is_over) {
            return Poll::Pending;
        }
        let error = match (read, inner.failing.take()) {
            (Poll::Ready(Err(alert)), _) if alert.kind() == io::ErrorKind::InvalidData => alert,
            (_, Some((error, _))) => error,
            (_, None) => io::ErrorKind::BrokenPipe.into(),
        };
        Poll::Ready(failure::of_stream(error, asked))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.push(cx);
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let poll = this.inner.poll_in(cx, buf);
        if poll.is_pending() {
            remember(&mut this.inner.reader, cx);
        }
        this.inner.unread = match &poll {
            // There may be more where the buffer is full.
            Poll::Ready(Ok(())) if buf.remaining() == 0 => this.inner.decrypted(),
            _ => 0,
        };
        let asked = this.asked();
        poll.map_err(|error| failure::of_stream(error, asked))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.inner.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        this.poll_out(cx, |inner, cx| Pin::new(&mut inner.tls).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.inner.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        this.poll_out(cx, |inner, cx| Pin::new(&mut inner.tls).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(cx, |inner, cx| Pin::new(&mut inner.tls).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.inner.finished = true;
        if this.inner.broken {
            return Pin::new(wire(&mut this.inner.tls)).poll_shutdown(cx);
        }
        this.poll_out(cx, |inner, cx| Pin::new(&mut inner.tls).poll_shutdown(cx))
    }
}

/// Names the stream, and nothing that went over it.
impl<IO: fmt::Debug> fmt::Debug for TlsStream<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("io", self.get_ref()).finish_non_exhaustive()
    }
}

/// Reads the bytes of a peer. Once we have sent `close_notify`, a debug build of rustls panics over a
/// record that it would have to answer with a second alert (`debug_assert!` in `send_fatal_alert`, asked
/// for in rustls issue 222, seen again in 959). No peer may bring that about.
fn guarded<T>(finished: bool, read: impl FnOnce() -> T) -> Option<T> {
    if finished && cfg!(debug_assertions) {
        return catch_unwind(AssertUnwindSafe(read)).ok();
    }
    Some(read())
}

/// A waker for who asks and for the other who waits.
fn both(other: Option<&Waker>, cx: &Context<'_>) -> Waker {
    match other {
        Some(other) if !other.will_wake(cx.waker()) => {
            Waker::from(Arc::new(Both(other.clone(), cx.waker().clone())))
        }
        _ => cx.waker().clone(),
    }
}

fn remember(waiting: &mut Option<Waker>, cx: &Context<'_>) {
    match waiting {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waiting = Some(cx.waker().clone()),
    }
}

/// Wakes a reader and a writer.
struct Both(Waker, Waker);

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake_by_ref();
        self.1.wake_by_ref();
    }
}

fn state<IO>(tls: &tokio_rustls::TlsStream<Wire<IO>>) -> &CommonState {
    tls.get_ref().1
}

fn wire<IO>(tls: &mut tokio_rustls::TlsStream<Wire<IO>>) -> &mut Wire<IO> {
    match tls {
        tokio_rustls::TlsStream::Client(tls) => tls.get_mut().0,
        tokio_rustls::TlsStream::Server(tls) => tls.get_mut().0,
    }
}

/// How long the reason of a failed write is awaited. It has arrived, else the write would not have
/// failed; the runtime has only to hear of it.
const LAST_WORD: Duration = Duration::from_millis(100);
