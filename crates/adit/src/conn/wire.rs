//! The wire: a stream socket that two halves and the engine share.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::Io;
use crate::Endpoint;
use crate::budget::Account;
use crate::event::{Call, Direction, What};
use crate::idle::Mark;
use crate::observe::{self, Observers};
use crate::peer::Peer;
use crate::throttle::Throttle;
use crate::transport::Transport;

/// A stream socket that both halves and the engine share.
pub(crate) struct Wire {
    io: Io,
    pub(crate) remote: Endpoint,
    pub(crate) local: Option<Endpoint>,
    pub(crate) number: u64,
    began: Instant,
    /// Milliseconds from `began` to the last byte in either direction.
    last_byte_ms: AtomicU64,
    /// Milliseconds from `began`, plus one, since when the peer takes nothing; 0 while it does.
    stalled_ms: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) peer_ended: AtomicBool,
    finished: AtomicBool,
    /// It closes by a reset: nothing is owed to the peer any more, not even an end.
    pub(crate) aborted: AtomicBool,
    pub(crate) ending: AtomicBool,
    reader: Mutex<Option<Waker>>,
    finishers: Arc<Finishers>,
    tap: Option<Tap>,
    /// The proxy that named the peer.
    pub(crate) via: Option<Endpoint>,
    /// Tells who wants to know how long it has been idle.
    mark: Option<Mark>,
    /// Where what is held for it counts, if it belongs to a server.
    pub(crate) account: Option<Arc<Account>>,
    /// Slows the peer, if its rate is bounded.
    throttle: Option<Arc<Throttle>>,
}

/// Who waits for our direction to end: the last to poll is the one the socket knows, and wakes the others.
#[derive(Default)]
struct Finishers(Mutex<Vec<Waker>>);

impl Finishers {
    fn add(&self, waker: &Waker) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }
}

impl Wake for Finishers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// Tells observers what goes over a wire, and of its close.
struct Tap {
    observers: Observers,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(tap) = &self.tap {
            let close = (Call::Close, Some(self.io.descriptor()));
            tap.observers.call(Some((self.number, &self.remote)), close, None);
        }
    }
}

impl Wire {
    /// A wire whose traffic observers hear of.
    pub(crate) fn tapped(
        io: Io,
        ends: (Endpoint, Option<Endpoint>, u64),
        observers: &Observers,
    ) -> Arc<Self> {
        Arc::new(Self::new(io, ends, observers))
    }

    /// The wire of a server's conversation.
    pub(crate) fn of_peer(io: Io, peer: &Peer, observers: &Observers) -> Arc<Self> {
        let ends = (peer.remote().clone(), peer.local().cloned(), peer.number());
        let mut wire = Self::new(io, ends, observers);
        (wire.via, wire.mark) = (peer.via().cloned(), peer.desk().mark().cloned());
        wire.account = Some(Arc::clone(peer.desk().account()));
        wire.throttle = peer.desk().throttle().cloned();
        Arc::new(wire)
    }

    fn new(
        io: Io,
        (remote, local, number): (Endpoint, Option<Endpoint>, u64),
        observers: &Observers,
    ) -> Self {
        let tap = observers.is_watched().then(|| Tap {
            observers: observers.clone(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        });
        Self {
            io,
            remote,
            local,
            number,
            began: Instant::now(),
            last_byte_ms: AtomicU64::new(0),
            stalled_ms: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            peer_ended: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            reader: Mutex::default(),
            finishers: Arc::default(),
            tap,
            via: None,
            mark: None,
            account: None,
            throttle: None,
        }
    }

    /// It is not idle now. One that takes nothing of what is written is owed that, whatever it says.
    fn touch(&self) {
        if let Some(mark) = &self.mark
            && self.stalled_ms.load(Relaxed) == 0
        {
            mark.touch();
        }
    }

    fn tell_end(&self, at: Option<Duration>, dir: Direction) {
        if let Some(tap) = &self.tap {
            let of = (self.number, &self.remote);
            tap.observers.emit_at(at, of, || What::HalfClose { dir });
        }
    }

    pub(crate) fn lasted(&self) -> Duration {
        self.began.elapsed()
    }

    /// Since when no byte has gone either way.
    pub(crate) fn last_byte(&self) -> Instant {
        self.began + Duration::from_millis(self.last_byte_ms.load(Relaxed))
    }

    /// Since when the peer takes nothing of what is being written.
    pub(crate) fn stalled(&self) -> Option<Instant> {
        let since = self.stalled_ms.load(Relaxed).checked_sub(1)?;
        Some(self.began + Duration::from_millis(since))
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// How many bytes may go now.
    fn poll_throttle(&self, cx: &mut Context<'_>, dir: Direction, want: usize) -> Poll<usize> {
        match &self.throttle {
            Some(throttle) => throttle.poll_take(cx, dir, want),
            None => Poll::Ready(want),
        }
    }

    /// Those that did not go may go later.
    fn give_back(&self, dir: Direction, bytes: usize) {
        if let Some(throttle) = &self.throttle {
            throttle.give_back(dir, bytes);
        }
    }

    /// The server is to end: the reader learns it once nothing is left to read.
    pub(crate) fn end(&self) {
        self.ending.store(true, Relaxed);
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Ends our direction.
    pub(crate) fn poll_finish(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.finished.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let at = self.tap.as_ref().map(|_| observe::now());
        self.finishers.add(cx.waker());
        let everybody = Waker::from(Arc::clone(&self.finishers));
        let Poll::Ready(finished) = self.io.poll_finish(&mut Context::from_waker(&everybody))
        else {
            self.note_stall();
            return Poll::Pending;
        };
        self.finishers.wake_by_ref();
        if finished.is_ok() {
            self.end_stall();
        }
        if !self.finished.swap(true, Relaxed) && finished.is_ok() {
            self.tell_end(at, Direction::Out);
        }
        Poll::Ready(finished)
    }

    /// Hands on what TLS still holds of what was written.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = self.io.poll_flush(cx);
        match &poll {
            Poll::Pending => self.note_stall(),
            // All that TLS held was taken. Of a plain socket this says nothing.
            Poll::Ready(Ok(())) if self.tls().is_some() => self.end_stall(),
            Poll::Ready(_) => {}
        }
        poll
    }

    pub(crate) fn abort(&self) {
        self.aborted.store(true, Relaxed);
        self.give_up();
        // A socket that cannot be told to reset is closed the ordinary way.
        drop(self.io.reset_on_close());
    }

    /// Nobody waits any more for our direction to end: what TLS still holds of it is dropped.
    pub(crate) fn give_up(&self) {
        self.finished.store(true, Relaxed);
        self.finishers.wake_by_ref();
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.take_error()
    }

    /// What still comes from the peer is not let in; what has come can be read.
    pub(crate) fn shut_in(&self) {
        // One that is broken lets nothing in anyway.
        drop(self.io.shut_in());
    }

    /// Process, user and group at the other end of a Unix socket.
    pub(crate) fn credentials(&self) -> Option<(i32, u32, u32)> {
        self.io.credentials()
    }

    /// What the TLS handshake has settled.
    pub(crate) fn tls(&self) -> Option<&crate::tls::Info> {
        self.io.tls()
    }

    /// For events.
    pub(crate) fn tls_version(&self) -> Option<&str> {
        self.tls().map(|info| info.version)
    }

    fn unread(&self) -> usize {
        self.io.unread()
    }

    pub(crate) fn unacknowledged(&self) -> io::Result<usize> {
        self.io.unacknowledged()
    }

    fn note_stall(&self) {
        let since = self.now_ms().saturating_add(1);
        let _was: Result<u64, u64> = self.stalled_ms.compare_exchange(0, since, Relaxed, Relaxed);
        self.note_turn(true);
    }

    fn end_stall(&self) {
        self.stalled_ms.store(0, Relaxed);
        self.note_turn(false);
    }

    /// Whose turn it is: a peer that takes nothing is owed what was written.
    fn note_turn(&self, is_stalled: bool) {
        if let Some(mark) = &self.mark {
            mark.owes(is_stalled);
        }
        if let Some(account) = &self.account {
            account.note_turn(is_stalled);
        }
    }

    /// Reads for the service: fails once the server is to end and nothing is left to read.
    pub(crate) fn poll_read_unless_ending(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = self.poll_read(cx, buf);
        if poll.is_pending() {
            *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            if self.ending.load(Relaxed) && self.unread() == 0 {
                return Poll::Ready(Err(io::Error::other(Ending)));
            }
        }
        poll
    }

    /// Reads whether or not the server is to end.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let want = buf.remaining();
        let may = ready!(self.poll_throttle(cx, Direction::In, want));
        let space = buf.initialize_unfilled_to(may);
        let mut part = ReadBuf::new(space);
        let polled = self.io.poll_read(cx, &mut part);
        let bytes = part.filled().len();
        self.give_back(Direction::In, may - bytes);
        ready!(polled)?;
        let fresh = &space[..bytes];
        if fresh.is_empty() {
            if !self.peer_ended.swap(true, Relaxed) {
                self.tell_end(Some(observe::now()), Direction::In);
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(tap) = &self.tap {
            let seq = tap.reads.fetch_add(1, Relaxed);
            let off = self.bytes_in.load(Relaxed);
            let what = || What::Data { dir: Direction::In, seq, off, bytes: fresh };
            tap.observers.emit_of(self.number, &self.remote, what);
        }
        buf.advance(bytes);
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
        self.last_byte_ms.store(self.now_ms(), Relaxed);
        self.touch();
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let may = ready!(self.poll_throttle(cx, Direction::Out, buf.len()));
        let at = self.tap.as_ref().map(|_| observe::now());
        self.touch();
        let Poll::Ready(written) = self.io.poll_write(cx, &buf[..may]) else {
            self.give_back(Direction::Out, may);
            self.note_stall();
            return Poll::Pending;
        };
        self.give_back(Direction::Out, may - written.as_ref().map_or(0, |bytes| *bytes));
        let bytes = written?;
        if let Some(tap) = &self.tap {
            let seq = tap.writes.fetch_add(1, Relaxed);
            let off = self.bytes_out.load(Relaxed);
            let bytes = &buf[..bytes];
            let what = || What::Data { dir: Direction::Out, seq, off, bytes };
            tap.observers.emit_at(at, (self.number, &self.remote), what);
        }
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
        self.last_byte_ms.store(self.now_ms(), Relaxed);
        self.end_stall();
        Poll::Ready(Ok(bytes))
    }
}

/// The server has been told to stop and nothing is left to read.
#[derive(Debug)]
pub(crate) struct Ending;

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server has been told to stop")
    }
}

impl std::error::Error for Ending {}

/// The engine's share of a wire, on which it works the close path once the halves are gone.
pub(crate) struct Share(pub(crate) Arc<Wire>);

impl Transport for Share {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buf)
    }
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, buf)
    }
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_finish(cx)
    }
    fn last_heard(&self) -> Option<(bool, Duration)> {
        self.0.io.last_heard()
    }
    fn unread(&self) -> usize {
        self.0.unread()
    }
    fn unacknowledged(&self) -> usize {
        self.0.unacknowledged().unwrap_or(0)
    }
    fn descriptor(&self) -> Option<i32> {
        Some(self.0.io.descriptor())
    }
    fn abort(&self) {
        self.0.abort();
    }
    fn lift_throttle(&self) {
        if let Some(throttle) = &self.0.throttle {
            throttle.lift();
        }
    }
}
