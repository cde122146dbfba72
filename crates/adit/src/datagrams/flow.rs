//! One datagram peer: its handler, its answers in order, what it may be sent.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context as TaskContext, Waker};

use adit_net::datagram::{DatagramPeer, Local, SendBatch, UDP_BYTES_MAX};
use adit_proto::amplification::{Answering, Returns};
use bytes::Bytes;
use tokio::time::Instant;

use crate::answers::{Answers, Due};
use crate::codec::Frame;
use crate::context::Context;
use crate::conversation::panic_text;
use crate::event::{Direction, What};
use crate::handler::{Answer, Handler, Out};
use crate::observe::{self, Sequence};
use crate::peer::Closed;
use crate::program::Failed;
use crate::worker::Alive;
use crate::{BoxError, Code, Codec};

use super::drops::{Drops, Reason};
use super::peers::Share;

/// Datagrams on their way out of one socket.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) batch: SendBatch,
    pub(super) drops: Drops,
    /// Answers of one call of a handler, before they are counted.
    bytes: Vec<u8>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
}

/// A peer as the table knows it: who it is and which of our addresses it talks to.
pub(super) type Key = (DatagramPeer, Option<Local>);

/// The conversation with one datagram peer.
pub(super) struct Flow<H> {
    handler: H,
    alive: Alive,
    context: Rc<Context>,
    waker: Waker,
    to: DatagramPeer,
    local: Option<Local>,
    /// What it has in common with the other flows of its source, if that is counted.
    share: Option<Rc<Share>>,
    answering: Answering,
    answer_due: u64,
    /// None on a Unix socket, whose names are not forged.
    returns: Option<Returns>,
    edges: Edges,
    answers: Answers,
    began: Instant,
    last: Instant,
    heard: u64,
    bytes_in: u64,
    bytes_out: u64,
    reads: Sequence,
    writes: Sequence,
    ended: Option<Code>,
}

/// Keeps the edges of the messages a handler sends: every one is a datagram.
#[derive(Default)]
struct Edges(Vec<usize>);

/// A message longer than a datagram.
#[derive(Debug, thiserror::Error)]
#[error("an answer of {0} B exceeds the datagram limit {UDP_BYTES_MAX} B")]
struct TooLong(usize);

impl Codec for Edges {
    fn decode(&mut self, _buf: &[u8]) -> Result<Option<Frame>, BoxError> {
        // The socket has done it.
        Ok(None)
    }

    fn encode(&mut self, msg: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
        if msg.len() > UDP_BYTES_MAX {
            return Err(TooLong(msg.len()).into());
        }
        out.extend_from_slice(msg);
        self.0.push(out.len());
        Ok(())
    }
}

impl<H: Handler> Flow<H> {
    pub(super) fn new(
        handler: H,
        alive: Alive,
        context: Rc<Context>,
        (to, local): Key,
        (share, answering): (Option<Rc<Share>>, Answering),
    ) -> Self {
        let remote = alive.peer.remote().socket_addr();
        let returns = remote.map(|remote| Returns::new(remote.port(), remote.ip().is_loopback()));
        let now = Instant::now();
        let flow = Self {
            handler,
            alive,
            context,
            waker: Waker::noop().clone(),
            to,
            local,
            share,
            answering,
            answer_due: 0,
            returns,
            edges: Edges::default(),
            answers: Answers::default(),
            began: now,
            last: now,
            heard: 0,
            bytes_in: 0,
            bytes_out: 0,
            reads: Sequence::default(),
            writes: Sequence::default(),
            ended: None,
        };
        let local = flow.alive.peer.local();
        flow.emit(|| What::Open { local, via: None, tls: None });
        flow
    }

    pub(super) fn number(&self) -> u64 {
        self.alive.peer.number()
    }

    pub(super) fn peer(&self) -> &DatagramPeer {
        &self.to
    }

    pub(super) fn local(&self) -> Option<Local> {
        self.local
    }

    /// Gives its part in what its source may have back. Nothing is sent by it any more.
    pub(super) fn leave_share(&mut self) -> Option<Rc<Share>> {
        self.share.take()
    }

    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    pub(super) fn last(&self) -> Instant {
        self.last
    }

    pub(super) fn is_owing(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Why the flow wants to end, once everything it owes is on its way.
    pub(super) fn has_ended(&self) -> Option<Code> {
        self.ended.filter(|_| self.answers.is_empty())
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    pub(super) fn set_waker(&mut self, waker: Waker) {
        self.alive.peer.desk().attend(&waker);
        self.waker = waker;
    }

    /// Counts what the peer may be sent for a datagram of so many bytes; comes before everything else.
    pub(super) fn earn(&self, bytes: usize) {
        if let Some(share) = &self.share {
            share.received(bytes);
        }
    }

    /// The first act of every flow.
    pub(super) fn greet(&mut self, cx: &mut TaskContext<'_>, outbox: &mut Outbox) {
        let peer = self.alive.peer.clone();
        let greeted = self.call(outbox, |handler, out| {
            handler.opened(&peer, out);
            Answer::Done
        });
        drop(greeted);
        // A sender or a seat may have been made with the handler, when nobody could be woken yet.
        self.act(cx, outbox);
    }

    /// One datagram of the peer.
    pub(super) fn receive(&mut self, data: &[u8], cx: &mut TaskContext<'_>, outbox: &mut Outbox) {
        self.last = Instant::now();
        self.heard += 1;
        if self.context.observers.is_watched() {
            let (seq, off) = (self.reads.next(), self.bytes_in);
            self.emit(|| What::Data { dir: Direction::In, seq, off, bytes: data });
        }
        self.bytes_in += data.len() as u64;
        if self.ended.is_some() {
            return;
        }
        if !self.may_pass(Direction::In, data.len()) {
            return self.dropped(self.byte_rate(), outbox);
        }
        if self.returns.as_mut().is_some_and(|returns| returns.is_loop(data)) {
            return self.dropped(Reason::Loop, outbox);
        }
        let most = self.context.limits.in_flight;
        if self.answers.len() >= most {
            // A stream would not be read any more; a datagram has nowhere to wait.
            return self.dropped(Reason::InFlight(most), outbox);
        }
        let answer = self.call(outbox, |handler, out| handler.message(data, out));
        self.take(answer, cx, outbox);
    }

    /// What the flow has to say by itself: messages from outside, answers that have become ready.
    pub(super) fn act(&mut self, cx: &mut TaskContext<'_>, outbox: &mut Outbox) {
        while let Some(msg) = self.alive.peer.desk().poll_mail(cx) {
            self.send(&msg, outbox);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| self.answers.poll(cx)));
        if let Err(panic) = polled {
            self.panicked(&*panic);
            return;
        }
        while let Some(due) = self.answers.next() {
            match due {
                Due::Framed(msg) => self.send(&msg, outbox),
                Due::Message(Ok(msg)) => self.send(&msg, outbox),
                Due::Message(Err(failure)) => self.failed(&failure),
            }
        }
        // Whoever ends a flow from outside has told why.
        if let Some((code, _told)) = self.alive.peer.desk().take_failure() {
            self.ended.get_or_insert(code);
        }
    }

    fn take(&mut self, answer: Option<Answer>, cx: &mut TaskContext<'_>, outbox: &mut Outbox) {
        match answer {
            None | Some(Answer::Done) => {}
            Some(Answer::Close) => {
                self.ended.get_or_insert(Code::Ok);
            }
            Some(Answer::Later(later)) => {
                let pushed = catch_unwind(AssertUnwindSafe(|| self.answers.push_later(later, cx)));
                match pushed {
                    Ok(None) => {}
                    Ok(Some(Ok(msg))) => self.send(&msg, outbox),
                    Ok(Some(Err(failure))) => self.failed(&failure),
                    Err(panic) => self.panicked(&*panic),
                }
            }
        }
    }

    /// Calls the handler and sends what it says, or queues it behind the answers that are pending.
    fn call(
        &mut self,
        outbox: &mut Outbox,
        act: impl FnOnce(&mut H, &mut Out<'_>) -> Answer,
    ) -> Option<Answer> {
        let mut said = std::mem::take(&mut outbox.bytes);
        said.clear();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let mut out = Out {
                codec: &mut self.edges,
                buffer: &mut said,
                desk: self.alive.peer.desk(),
                limits: &self.context.out,
            };
            act(&mut self.handler, &mut out)
        }));
        let mut start = 0;
        for end in std::mem::take(&mut self.edges.0) {
            let msg = &said[start..end];
            start = end;
            if self.answers.is_empty() {
                self.send(msg, outbox);
            } else {
                self.answers.push_message(Bytes::copy_from_slice(msg));
            }
        }
        outbox.bytes = said;
        if let Some((code, text)) = self.alive.peer.desk().take_failure() {
            let code = if code == Code::BadFrame { Code::TooBig } else { code };
            self.fail(code, &text);
        }
        match answer {
            Ok(answer) => Some(answer),
            Err(panic) => {
                self.panicked(&*panic);
                None
            }
        }
    }

    /// Puts one message on its way, if the peer may be sent so much.
    fn send(&mut self, msg: &[u8], outbox: &mut Outbox) {
        if msg.len() > UDP_BYTES_MAX {
            return self.fail(Code::TooBig, &TooLong(msg.len()).to_string());
        }
        if !self.may_send(msg.len()) {
            return self.dropped(Reason::Amplification, outbox);
        }
        if !self.may_pass(Direction::Out, msg.len()) {
            return self.dropped(self.byte_rate(), outbox);
        }
        if !outbox.batch.push(msg, &self.to, self.local) {
            // A Unix client without a name cannot be answered.
            return self.fail(Code::NoAddress, "the peer has no address to answer to");
        }
        if self.context.observers.is_watched() {
            let (seq, off) = (self.writes.next(), self.bytes_out);
            self.emit(|| What::Data { dir: Direction::Out, seq, off, bytes: msg });
        }
        self.bytes_out += msg.len() as u64;
        if let Some(returns) = &mut self.returns {
            returns.sent(msg);
        }
    }

    /// May the peer, and whoever else its address may belong to, be sent so many bytes now?
    fn may_send(&mut self, bytes: usize) -> bool {
        let is_in_time = match self.answering {
            Answering::Always => true,
            Answering::Never => false,
            Answering::At(rate) => rate.take(&mut self.answer_due, observe::now()).is_ok(),
        };
        is_in_time && self.share.as_ref().is_none_or(|share| share.may_send(bytes))
    }

    /// May so many bytes of its source pass now? What may not is dropped: to read it later would hold up
    /// everybody.
    fn may_pass(&self, dir: Direction, bytes: usize) -> bool {
        let throttle = self.alive.peer.desk().throttle();
        throttle.is_none_or(|throttle| throttle.may_pass(dir, bytes))
    }

    fn byte_rate(&self) -> Reason {
        let throttle = self.alive.peer.desk().throttle();
        Reason::ByteRate(throttle.map_or(0, |throttle| throttle.bytes_per_second()))
    }

    fn panicked(&mut self, panic: &(dyn std::any::Any + Send)) {
        self.answers = Answers::default();
        self.fail(Code::Panic, &panic_text(panic));
    }

    /// An answer that is none.
    fn failed(&mut self, failure: &BoxError) {
        match failure.downcast_ref::<Failed>() {
            // Each datagram has a program of its own: the failure of one is not the end of the next.
            Some(failed) if failed.code == Code::Ok => {}
            Some(failed) => self.tell_error(failed.code, &failed.text, "program"),
            None => self.fail(Code::Handler, &failure.to_string()),
        }
    }

    fn fail(&mut self, code: Code, text: &str) {
        self.ended.get_or_insert(code);
        if !code.is_clean() {
            self.tell_error(code, text, "handler");
        }
    }

    pub(super) fn tell_error(&self, code: Code, text: &str, place: &'static str) {
        self.emit(|| What::Error { code, text, place, fatal: false });
    }

    fn dropped(&self, reason: Reason, outbox: &mut Outbox) {
        let of = (Some(self.number()), self.alive.peer.remote());
        outbox.drops.add(&self.context, reason, of);
    }

    fn emit<'e>(&self, what: impl FnOnce() -> What<'e>) {
        self.context.observers.emit_of(self.number(), self.alive.peer.remote(), what);
    }

    /// The end of the flow: the handler's last call, the event, the totals.
    pub(super) fn close(mut self, code: Code) {
        let closed = Closed {
            code,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            unsent: 0,
            lasted: self.began.elapsed(),
        };
        if code != Code::Panic {
            let told = catch_unwind(AssertUnwindSafe(|| self.handler.closed(closed)));
            if let Err(panic) = told {
                self.tell_error(Code::Panic, &panic_text(&*panic), "closed");
            }
        }
        let Closed { bytes_in, bytes_out, lasted, .. } = closed;
        let (bytes_in, bytes_out) = (Some(bytes_in), Some(bytes_out));
        self.emit(|| What::Close { code, bytes_in, bytes_out, lasted });
        self.context.totals.drop_messages(self.alive.peer.desk().dropped());
        self.context.totals.close(&closed);
    }
}
