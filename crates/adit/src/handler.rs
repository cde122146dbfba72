//! The handler: what a server does with a message. Written once, served over every transport.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;

use crate::peer::{Closed, Desk, Peer};
use crate::{BoxError, Code, Codec};

/// What a server does with one peer: one value per conversation, on one I/O thread.
///
/// A handler needs neither `Send` nor locks. It borrows the message from the read buffer and writes
/// its answer into the write buffer; what takes longer than some microseconds belongs into
/// [`Answer::later`]. A panic ends this one conversation: state that it shares with others by `Rc` may
/// then be half-changed.
///
/// ```
/// use adit::prelude::*;
///
/// #[derive(Default)]
/// struct Count(u64);
///
/// impl Handler for Count {
///     fn message(&mut self, msg: &[u8], out: &mut Out<'_>) -> Answer {
///         self.0 += 1;
///         out.send(format!("{} {}", self.0, msg.len()));
///         Answer::Done
///     }
/// }
/// let server = Server::new(each(|_peer| Count::default()));
/// ```
pub trait Handler: 'static {
    /// The conversation begins; over datagrams, right before its first message.
    fn opened(&mut self, peer: &Peer, out: &mut Out<'_>) {
        let _unused = (peer, out);
    }

    /// One whole message of the peer.
    fn message(&mut self, msg: &[u8], out: &mut Out<'_>) -> Answer;

    /// The peer has ended its direction (half-close) and may still be reading.
    ///
    /// `Close`, the default, ends the conversation once everything is sent. `Done` keeps our
    /// direction open, for what comes from a room or a sender; `Later` sends one more answer, then
    /// closes. Never called over datagrams, which have no end.
    fn finished(&mut self, out: &mut Out<'_>) -> Answer {
        let _unused = out;
        Answer::Close
    }

    /// The conversation is over. Not called after a panic of this handler.
    fn closed(&mut self, why: Closed) {
        let _unused = why;
    }
}

impl<H: Handler + ?Sized> Handler for Box<H> {
    fn opened(&mut self, peer: &Peer, out: &mut Out<'_>) {
        (**self).opened(peer, out);
    }
    fn message(&mut self, msg: &[u8], out: &mut Out<'_>) -> Answer {
        (**self).message(msg, out)
    }
    fn finished(&mut self, out: &mut Out<'_>) -> Answer {
        (**self).finished(out)
    }
    fn closed(&mut self, why: Closed) {
        (**self).closed(why);
    }
}

/// An answer that is still being worked out.
pub(crate) type Later = Pin<Box<dyn Future<Output = Result<Bytes, BoxError>>>>;

/// How the answer to a message is given.
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "now, later or never again: matched by tests of users")]
pub enum Answer {
    /// Everything there is to say was given to [`Out::send`], if anything.
    Done,
    /// One message that comes later. Answers keep the order of their messages, whatever finishes
    /// first. An error ends the conversation with `handler`.
    Later(Pin<Box<dyn Future<Output = Result<Bytes, BoxError>>>>),
    /// The conversation ends once what was sent, and every earlier answer, is on its way.
    Close,
}

impl Answer {
    /// An answer that awaits something. It cannot borrow the message: copy what it needs.
    pub fn later(answer: impl Future<Output = Result<Bytes, BoxError>> + 'static) -> Self {
        Self::Later(Box::pin(answer))
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Done => "Done",
            Self::Later(_) => "Later",
            Self::Close => "Close",
        })
    }
}

/// Where answers go: the conversation's write buffer, framed by its codec.
pub struct Out<'a> {
    pub(crate) codec: &'a mut dyn Codec,
    pub(crate) buffer: &'a mut Vec<u8>,
    pub(crate) desk: &'a Rc<Desk>,
    pub(crate) limits: &'a OutLimits,
}

/// The part of the limits that `Out` enforces, and where it notes a breach.
pub(crate) struct OutLimits {
    pub(crate) reply_bytes: usize,
}

impl Out<'_> {
    /// Sends one message.
    ///
    /// A message longer than `limits.reply_bytes`, or one the codec cannot frame, is not sent and
    /// ends the conversation with `too-big` or `bad-frame`: nothing would be worse than a peer that
    /// takes the next answer for this one.
    pub fn send(&mut self, msg: impl AsRef<[u8]>) {
        let msg = msg.as_ref();
        if msg.len() > self.limits.reply_bytes {
            self.desk.fail(Code::TooBig, format!("an answer of {} B", msg.len()));
        } else if let Err(error) = self.codec.encode(msg, self.buffer) {
            self.desk.fail(Code::BadFrame, error.to_string());
        }
    }
}

impl Out<'_> {
    /// Ends the conversation once what was sent, and every earlier answer, is on its way: what
    /// [`Answer::Close`] does, for [`Handler::opened`], which gives no answer.
    pub fn close(&mut self) {
        self.desk.fail(Code::Ok, String::new());
    }
}

/// A newcomer is not wanted; its connection is closed. Carries the reason for the event.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Refuse {
    reason: String,
}

impl Refuse {
    /// Refuses with a reason that is told to observers, not to the peer.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl std::fmt::Display for Refuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refused: {}", self.reason)
    }
}

impl std::error::Error for Refuse {}

/// What a factory may return: a handler, or a handler or a refusal.
pub trait Opened {
    /// The handler.
    type Handler: Handler;
    /// The handler or the refusal.
    ///
    /// # Errors
    /// The factory does not want this peer.
    fn opened(self) -> Result<Self::Handler, Refuse>;
}

impl<H: Handler> Opened for H {
    type Handler = H;
    fn opened(self) -> Result<H, Refuse> {
        Ok(self)
    }
}

impl<H: Handler> Opened for Result<H, Refuse> {
    type Handler = H;
    fn opened(self) -> Self {
        self
    }
}

/// Makes a handler for each peer. Lives on one I/O thread and need not be `Send`.
pub trait Open: 'static {
    /// What it makes.
    type Handler: Handler;
    /// A peer has come.
    ///
    /// # Errors
    /// The peer is not wanted; its connection is closed.
    fn open(&self, peer: &Peer) -> Result<Self::Handler, Refuse>;
}

/// What a server serves: the one thing that crosses threads.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a service",
    note = "make one with fast(..), task(..), blocking(..), each(|peer| handler) or per_thread(state, |state, peer| handler)"
)]
pub trait Service: Clone + Send + 'static {
    /// What lives on each I/O thread.
    type Open: Open;
    /// Called once on each I/O thread.
    fn thread(&self) -> Self::Open;
    /// Called once, before anything is bound.
    ///
    /// # Errors
    /// It cannot serve anybody.
    fn ready(&self) -> crate::Result<()> {
        Ok(())
    }
}
