//! One connection socket: read what is there, hand whole messages to the handler, write once.
//!
//! This loop owns reading, leftovers, size limits, the order of answers, flushing, time limits and
//! backpressure, so that nobody who writes a codec or a handler can forget them. It is generic over
//! one [`Transport`], runs as one task per connection, and nothing crosses a channel on the way from a
//! message to its answer.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::answers::Answers;
use crate::budget::Holding;
use crate::buffers::{CHUNK, SMALL, Scratch};
use crate::context::Context;
use crate::event::{Call, Direction, What};
use crate::handler::Handler;
use crate::linger::{self, LingerLimits};
use crate::observe::Sequence;
use crate::peer::{Closed, Peer};
use crate::transport::Transport;
use crate::{Code, Codec};

mod clock;
mod end;
mod held;
mod input;
mod output;

use clock::Clock;
use end::Owed;
pub(crate) use end::{is_broken, report};
use input::Skipping;

/// Messages that are handled in one turn of a conversation. Then the others of its thread have theirs:
/// one peer that sends many small messages must not hold them up, nor may it publish more to a room in
/// one go than the inboxes of its members hold.
const MESSAGES_PER_TURN: usize = 1024;

/// What a conversation is held in: where messages begin and end, and who answers them.
pub(crate) struct Protocol<C, H> {
    pub(crate) codec: C,
    pub(crate) handler: H,
}

/// Talks with one peer until either side ends it, then closes the connection so that nothing is lost.
///
/// `free_slot` is called once the conversation is over and only the close is left.
pub(crate) async fn run<T: Transport, C: Codec, H: Handler>(
    mut io: T,
    protocol: Protocol<C, H>,
    peer: Peer,
    context: Rc<Context>,
    free_slot: impl FnOnce(),
) -> Closed {
    let mut talk = Conversation::new(&mut io, protocol, peer.clone(), Rc::clone(&context));
    let code = talk.talk_to_the_end().await;
    let closed = talk.say_goodbye(code);
    let peer_has_ended = talk.input != Input::Open;
    drop(talk);
    let mut owed = Owed { closed: Some(closed), peer: &peer, context: &context };

    let limits = LingerLimits::after(code, &context.limits);
    let desk = peer.desk();
    let finished = !is_broken(code)
        && linger::unless_shed(desk, linger::finish(&mut io, limits))
            .await
            .is_some_and(|end| end.is_ok());
    free_slot();
    let confirmed = match finished {
        true if peer_has_ended => Some(0),
        true => linger::unless_shed(desk, linger::linger(&mut io, limits)).await,
        false => None,
    };
    if desk.is_shed() {
        io.abort();
    }
    let unconfirmed = confirmed.unwrap_or_else(|| io.unacknowledged());
    let close = (Call::Close, io.descriptor());
    drop(io);
    context.observers.call(Some((peer.number(), peer.remote())), close, None);
    owed.closed = None;
    report(&context, &peer, closed, unconfirmed)
}

/// How far the peer's direction is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Input {
    /// More may come.
    Open,
    /// It has ended; whole messages may still wait in the leftover.
    Ended,
    /// It has ended and the handler knows.
    Over,
}

struct Conversation<'a, T: Transport, C: Codec, H: Handler> {
    io: &'a mut T,
    codec: C,
    handler: H,
    peer: Peer,
    context: Rc<Context>,

    input: Input,
    /// The beginning of a message, or messages held back. Owns memory only while there is any.
    rest: BytesMut,
    /// The leftover may hold whole messages that `in_flight`, or the end of a turn, held back: no read
    /// event will come for them.
    held: bool,
    /// Messages handled in this turn.
    handled: usize,
    skipping: Skipping,
    answers: Answers,
    /// Framed bytes the peer has not taken yet. Owns memory only while there are any.
    unsent: BytesMut,
    /// A layer beneath still holds some of what was written.
    flushing: bool,
    /// The handler has heard of the end.
    is_over: bool,
    /// What of the server's memory all this takes.
    holding: Holding,
    /// Set once the conversation shall end; what is owed is sent first.
    ended: Option<Code>,
    /// Bytes that may still be read after the order to end.
    drain_bytes: usize,

    clock: Clock,
    reads: Sequence,
    writes: Sequence,
    bytes_in: u64,
    bytes_out: u64,
}

impl<'a, T: Transport, C: Codec, H: Handler> Conversation<'a, T, C, H> {
    fn new(io: &'a mut T, protocol: Protocol<C, H>, peer: Peer, context: Rc<Context>) -> Self {
        let Protocol { codec, handler } = protocol;
        let now = Instant::now();
        let drain_bytes = context.limits.linger_bytes;
        let holding = Holding::new(peer.desk().account());
        Self {
            io,
            codec,
            handler,
            peer,
            context,
            input: Input::Open,
            rest: BytesMut::new(),
            held: false,
            handled: 0,
            skipping: Skipping::No,
            answers: Answers::default(),
            unsent: BytesMut::new(),
            flushing: false,
            is_over: false,
            holding,
            ended: None,
            drain_bytes,
            clock: Clock::start(now),
            reads: Sequence::default(),
            writes: Sequence::default(),
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// The conversation up to its last byte, without the close. A panic outside of the handler, in a
    /// codec or in adit itself, ends here too: no peer can end the thread.
    async fn talk_to_the_end(&mut self) -> Code {
        let mut timer = pin!(sleep_until(self.clock.began));
        let mut greeted = false;
        poll_fn(|cx| {
            let poll = catch_unwind(AssertUnwindSafe(|| {
                if !std::mem::replace(&mut greeted, true) {
                    self.greet();
                }
                self.poll(cx, timer.as_mut())
            }));
            poll.unwrap_or_else(|panic| {
                let text = panic_text(&*panic);
                self.emit(|| What::Error {
                    code: Code::Panic,
                    text: &text,
                    place: "handler",
                    fatal: false,
                });
                Poll::Ready(Code::Panic)
            })
        })
        .await
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>, timer: Pin<&mut Sleep>) -> Poll<Code> {
        self.peer.desk().attend(cx.waker());
        self.handled = 0;
        if self.peer.desk().is_shed() {
            return Poll::Ready(Code::Shed);
        }
        loop {
            let more_mail = self.take_mail(cx);
            self.take_answers(cx);
            if self.peer.desk().is_ending() && self.input == Input::Over {
                self.ended.get_or_insert(Code::Drained);
            }
            if let Err(code) = self.flush(cx) {
                return Poll::Ready(code);
            }
            if more_mail && self.unsent.len() < self.context.limits.unsent_bytes {
                continue;
            }
            if let Some(code) = self.ended
                && self.answers.is_empty()
                && self.unsent.is_empty()
                && !self.flushing
            {
                return Poll::Ready(code);
            }
            self.hold();
            self.clock.parked = None;
            if !self.may_read() || self.has_to_wait(cx) {
                break;
            }
            match self.read(cx) {
                Poll::Ready(Ok(())) if self.handled >= MESSAGES_PER_TURN => {
                    cx.waker().wake_by_ref();
                    break;
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(code)) => return Poll::Ready(code),
                // Told to end, and nothing of a request is here: now is the moment. Asked of the
                // kernel, since the runtime knows of no bytes before it has heard of the socket.
                Poll::Pending
                    if self.peer.desk().is_ending()
                        && self.rest.is_empty()
                        && self.io.unread() == 0 =>
                {
                    self.ended = Some(Code::Drained);
                }
                Poll::Pending => break,
            }
        }
        self.hold();
        if self.makes_room() {
            return Poll::Ready(Code::Shed);
        }
        self.poll_limits(timer, cx)
    }

    /// May another message be taken? Whatever says no here is backpressure: the peer's bytes stay in
    /// the kernel, and the peer has to wait.
    fn may_read(&self) -> bool {
        self.ended.is_none()
            && (self.held || self.input != Input::Over)
            && self.answers.len() < self.context.limits.in_flight
            && self.unsent.len() <= self.context.limits.unsent_bytes
    }

    /// One read, every whole message in it, one write.
    fn read(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Code>> {
        let mut scratch = Scratch::take();
        let Scratch { input, output } = &mut *scratch;
        let fresh = if self.held || self.input != Input::Open {
            0..0
        } else {
            match self.read_into(input, cx) {
                Poll::Ready(Ok(fresh)) => fresh,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.code_of(&error))),
                Poll::Pending => {
                    scratch.give_back();
                    return Poll::Pending;
                }
            }
        };
        self.held = false;
        if self.rest.len() > SMALL || fresh.is_empty() {
            self.rest.extend_from_slice(&input[fresh]);
            let mut rest = std::mem::take(&mut self.rest);
            let used = self.digest(&rest, output, cx);
            rest.advance(used);
            self.keep(rest);
        } else {
            // The leftover was put in front of what was read.
            self.rest.clear();
            let used = self.digest(&input[..fresh.end], output, cx);
            self.keep(BytesMut::from(&input[used..fresh.end]));
        }
        let written = self.write(output, cx);
        scratch.give_back();
        Poll::Ready(written)
    }

    /// Reads into the thread's buffer, behind a small leftover; gives where the new bytes are.
    fn read_into(
        &mut self,
        input: &mut [u8],
        cx: &mut TaskContext<'_>,
    ) -> Poll<std::io::Result<std::ops::Range<usize>>> {
        let start = if self.rest.len() > SMALL { 0 } else { self.rest.len() };
        if start > 0 {
            input[..start].copy_from_slice(&self.rest);
        }
        let mut buf = ReadBuf::new(&mut input[start..start + CHUNK]);
        ready!(self.io.poll_read(cx, &mut buf))?;
        let bytes = buf.filled();
        if bytes.is_empty() {
            self.input = Input::Ended;
            self.emit(|| What::HalfClose { dir: Direction::In });
            return Poll::Ready(Ok(0..0));
        }
        self.touch();
        self.clock.last_byte = Instant::now();
        if self.context.observers.is_watched() {
            let (seq, off) = (self.reads.next(), self.bytes_in);
            self.emit(|| What::Data { dir: Direction::In, seq, off, bytes });
        }
        self.bytes_in += bytes.len() as u64;
        if self.peer.desk().is_ending() {
            match self.drain_bytes.checked_sub(bytes.len()) {
                Some(left) => self.drain_bytes = left,
                None => self.ended = Some(Code::Drained),
            }
        }
        Poll::Ready(Ok(start..start + bytes.len()))
    }

    /// Keeps what is not used, and notes since when the peer owes the rest of a message.
    fn keep(&mut self, rest: BytesMut) {
        // An empty buffer is dropped: an idle conversation owns no memory.
        self.rest = if rest.is_empty() { BytesMut::new() } else { rest };
        if self.rest.is_empty() || self.held {
            self.clock.message_began = None;
        } else {
            self.clock.message_began.get_or_insert(self.clock.last_byte);
        }
    }

    /// Sends the answers of this read: straight from the thread's buffer if nothing waits before them.
    fn write(&mut self, output: &[u8], cx: &mut TaskContext<'_>) -> Result<(), Code> {
        let sent = if output.is_empty() || !self.unsent.is_empty() {
            0
        } else {
            let at = self.context.observers.time();
            self.touch();
            match self.io.poll_write(cx, output) {
                Poll::Ready(Ok(bytes)) => self.wrote(&output[..bytes], at),
                Poll::Ready(Err(failure)) => return Err(self.code_of(&failure)),
                Poll::Pending => 0,
            }
        };
        self.unsent.extend_from_slice(&output[sent..]);
        Ok(())
    }

    /// Sends what waits, as far as the peer takes it.
    fn flush(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Code> {
        while !self.unsent.is_empty() {
            let at = self.context.observers.time();
            self.touch();
            match self.io.poll_write(cx, &self.unsent) {
                Poll::Ready(Ok(bytes)) => {
                    let sent = self.unsent.split_to(bytes);
                    self.wrote(&sent, at);
                    self.clock.stalled = None;
                }
                Poll::Ready(Err(failure)) => return Err(self.code_of(&failure)),
                Poll::Pending => {
                    self.clock.stalled.get_or_insert_with(Instant::now);
                    return Ok(());
                }
            }
        }
        self.unsent = BytesMut::new();
        match self.io.poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                if std::mem::take(&mut self.flushing) {
                    self.clock.stalled = None;
                }
            }
            Poll::Ready(Err(failure)) => return Err(self.code_of(&failure)),
            Poll::Pending => {
                self.flushing = true;
                self.clock.stalled.get_or_insert_with(Instant::now);
            }
        }
        Ok(())
    }

    fn code_of(&self, error: &std::io::Error) -> Code {
        crate::transport::code_of(&*self.io, error, self.context.limits.stall)
    }

    /// Counts what the peer's system has taken in a call that was made `at` this time.
    fn wrote(&mut self, bytes: &[u8], at: Option<Duration>) -> usize {
        self.clock.last_byte = Instant::now();
        if at.is_some() {
            let (seq, off) = (self.writes.next(), self.bytes_out);
            let of = (self.peer.number(), self.peer.remote());
            let what = || What::Data { dir: Direction::Out, seq, off, bytes };
            self.context.observers.emit_at(at, of, what);
        }
        self.bytes_out += bytes.len() as u64;
        bytes.len()
    }

    /// Ends the conversation for a reason of its own; what was answered before is still sent.
    fn fail(&mut self, code: Code, text: &str, place: &'static str) {
        self.ended.get_or_insert(code);
        if code.is_clean() {
            return;
        }
        self.emit(|| What::Error { code, text, place, fatal: false });
    }

    fn emit<'e>(&self, what: impl FnOnce() -> What<'e>) {
        self.context.observers.emit_of(self.peer.number(), self.peer.remote(), what);
    }

    /// The handler's last call, unless it panicked.
    fn say_goodbye(&mut self, code: Code) -> Closed {
        self.is_over = true;
        let closed = Closed {
            code,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            unsent: self.unsent.len() as u64,
            lasted: self.clock.began.elapsed(),
        };
        if code != Code::Panic {
            let told = catch_unwind(AssertUnwindSafe(|| self.handler.closed(closed)));
            if let Err(panic) = told {
                let text = panic_text(&*panic);
                self.emit(|| What::Error {
                    code: Code::Panic,
                    text: &text,
                    place: "closed",
                    fatal: false,
                });
            }
        }
        closed
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the handler panicked".to_owned())
}
