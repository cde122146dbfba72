//! One direction of a relay: from one wire to another, with the end passed on.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::ReadBuf;

use crate::budget::Holding;
use crate::buffers::{CHUNK, Scratch};
use crate::conn::Wire;

/// How a direction ended.
pub(crate) enum End {
    /// The end was read and passed on.
    Clean,
    Unreadable(io::Error),
    Unwritable(io::Error),
}

/// One direction. It owns memory only while the writing side takes less than came.
pub(crate) struct Pump {
    pub(crate) from: Arc<Wire>,
    pub(crate) to: Arc<Wire>,
    rest: BytesMut,
    /// Anything was read since that was last asked.
    moved: bool,
    /// TLS on the other side holds what was written, and nothing more is read before that is taken.
    flushing: bool,
    /// The end was read, and is being passed on.
    ending: bool,
    holding: Option<Holding>,
    pub(crate) end: Option<End>,
}

impl Pump {
    pub(crate) fn new(from: &Arc<Wire>, to: &Arc<Wire>) -> Self {
        // One of the two is the conversation, the other where it is carried on to.
        let holding = from.account.as_ref().or(to.account.as_ref()).map(Holding::new);
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        Self {
            from,
            to,
            rest: BytesMut::new(),
            moved: false,
            flushing: false,
            ending: false,
            holding,
            end: None,
        }
    }

    /// Carries what there is.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        while self.end.is_none() {
            match self.step(cx) {
                Poll::Ready(end) => self.end = end,
                Poll::Pending => break,
            }
        }
        if let Some(holding) = &mut self.holding {
            holding.set(self.rest.len());
        }
    }

    /// Was anything read since this was last asked, or is it the other side that takes no more?
    pub(crate) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved) || !self.rest.is_empty() || self.flushing
    }

    /// One read and one write, or the end.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        while !self.rest.is_empty() {
            match ready!(self.to.poll_write(cx, &self.rest)) {
                Ok(bytes) => self.rest.advance(bytes),
                Err(error) => return Poll::Ready(Some(End::Unwritable(error))),
            }
        }
        self.rest = BytesMut::new();
        if self.ending {
            return self.pass_end(cx).map(Some);
        }
        let flushed = self.to.poll_flush(cx);
        self.flushing = flushed.is_pending();
        if let Err(error) = ready!(flushed) {
            return Poll::Ready(Some(End::Unwritable(error)));
        }
        let mut scratch = Scratch::take();
        let mut piece = ReadBuf::new(&mut scratch.input[..CHUNK]);
        let end = match self.from.poll_read(cx, &mut piece) {
            Poll::Pending => {
                scratch.give_back();
                return Poll::Pending;
            }
            Poll::Ready(Err(error)) => Some(End::Unreadable(error)),
            Poll::Ready(Ok(())) if piece.filled().is_empty() => {
                self.ending = true;
                None
            }
            Poll::Ready(Ok(())) => {
                self.moved = true;
                self.pass(cx, piece.filled())
            }
        };
        scratch.give_back();
        Poll::Ready(end)
    }

    fn pass(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Option<End> {
        let taken = match self.to.poll_write(cx, piece) {
            Poll::Ready(Ok(bytes)) => bytes,
            Poll::Ready(Err(error)) => return Some(End::Unwritable(error)),
            Poll::Pending => 0,
        };
        self.rest.extend_from_slice(&piece[taken..]);
        None
    }

    fn pass_end(&self, cx: &Context<'_>) -> Poll<End> {
        Poll::Ready(match ready!(self.to.poll_finish(cx)) {
            Ok(()) => End::Clean,
            // It has ended or broken already; reading from there tells which.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => End::Clean,
            Err(error) => End::Unwritable(error),
        })
    }
}
