//! The peer of a conversation: who it is, how to reach it from outside, how it ended.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::budget::{Account, Budget};
use crate::endpoint::Transport;
use crate::idle::Mark;
use crate::throttle::Throttle;
use crate::{Code, Endpoint, Limits, tls};

/// Who is at the other end. Cheap to clone; belongs to the conversation's thread.
#[derive(Clone)]
pub struct Peer {
    info: Rc<Info>,
    desk: Rc<Desk>,
}

struct Info {
    remote: Endpoint,
    via: Option<Endpoint>,
    local: Option<Endpoint>,
    number: u64,
    tls: Option<Box<tls::Info>>,
}

impl Peer {
    pub(crate) fn new(
        (remote, via): (Endpoint, Option<Endpoint>),
        local: Option<Endpoint>,
        number: u64,
        tls: Option<&tls::Info>,
        desk: Rc<Desk>,
    ) -> Self {
        let tls = tls.cloned().map(Box::new);
        Self { info: Rc::new(Info { remote, via, local, number, tls }), desk }
    }

    /// The peer's address: what the lecture calls the sender's IP address and port.
    #[doc(alias = "recvfrom")]
    pub fn remote(&self) -> &Endpoint {
        &self.info.remote
    }

    /// The proxy that named the peer, where the server reads PROXY headers
    /// ([`Server::proxy_from`](crate::Server::proxy_from)): its address is the other end of the socket.
    /// None if the peer came by itself.
    pub fn via(&self) -> Option<&Endpoint> {
        self.info.via.as_ref()
    }

    /// The address the peer reached us at; on a wildcard socket the one it really used.
    pub fn local(&self) -> Option<&Endpoint> {
        self.info.local.as_ref()
    }

    /// What the TLS handshake has settled: the version, the protocol, and the certificate that the peer
    /// has shown, if the server asked for one. None over a plain connection.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&tls::Info> {
        self.info.tls.as_deref()
    }

    /// How bytes travel.
    pub fn transport(&self) -> Transport {
        self.via().unwrap_or(&self.info.remote).transport()
    }

    /// Number of the conversation in this server, from 1, as in events.
    pub fn number(&self) -> u64 {
        self.info.number
    }

    /// A handle that sends messages to this peer from any thread or task.
    ///
    /// At most `limits.inbox` messages wait; they are written as the peer takes them, between the
    /// answers of the handler.
    pub fn sender(&self) -> Sender {
        self.desk.sender()
    }

    pub(crate) fn desk(&self) -> &Rc<Desk> {
        &self.desk
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("number", &self.info.number)
            .field("remote", &self.info.remote)
            .field("local", &self.info.local)
            .finish_non_exhaustive()
    }
}

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Why.
    pub code: Code,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes written to the socket.
    pub bytes_out: u64,
    /// Bytes owed to the peer that were never written.
    pub unsent: u64,
    /// How long it lasted.
    pub lasted: Duration,
}

/// Sends messages to one peer from outside its handler. `Send`, cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender(mpsc::Sender<Bytes>);

/// Why a message was not taken at once; the message comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no room, or nobody")]
pub enum TrySendError {
    /// The peer does not read fast enough: as many messages wait as may.
    Full(Bytes),
    /// The conversation is over.
    Closed(Bytes),
}

impl fmt::Display for TrySendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the peer's inbox is full",
            Self::Closed(_) => "the conversation is over",
        })
    }
}

impl std::error::Error for TrySendError {}

impl Sender {
    /// Sends as soon as there is room in the peer's inbox.
    ///
    /// # Errors
    /// The conversation is over; the message comes back.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped call has sent nothing.
    pub async fn send(&self, msg: impl Into<Bytes>) -> Result<(), Bytes> {
        self.0.send(msg.into()).await.map_err(|unsent| unsent.0)
    }

    /// Sends if there is room in the peer's inbox now.
    ///
    /// # Errors
    /// There is no room, or the conversation is over; the message comes back.
    pub fn try_send(&self, msg: impl Into<Bytes>) -> Result<(), TrySendError> {
        self.0.try_send(msg.into()).map_err(|unsent| match unsent {
            mpsc::error::TrySendError::Full(msg) => TrySendError::Full(msg),
            mpsc::error::TrySendError::Closed(msg) => TrySendError::Closed(msg),
        })
    }

    /// Is the conversation over?
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// What the rest of a thread may touch of a conversation: its inbox, its waker, the order to end.
pub(crate) struct Desk {
    waker: RefCell<Waker>,
    inbox: RefCell<Inbox>,
    inbox_max: usize,
    inbox_bytes_max: usize,
    dropped: Cell<u64>,
    ending: Cell<bool>,
    /// It goes at once, with what it owes.
    is_shed: Cell<bool>,
    account: Arc<Account>,
    /// Kept up to date while somebody may want to know how long it has been idle.
    mark: Option<Mark>,
    /// Slows the peer, if its rate is bounded.
    throttle: Option<Arc<Throttle>>,
    failure: RefCell<Option<(Code, String)>>,
    outside: RefCell<Option<Outside>>,
}

/// Messages of rooms that wait for their turn.
#[derive(Default)]
struct Inbox {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

impl Inbox {
    fn pop(&mut self) -> Option<Bytes> {
        let msg = self.messages.pop_front()?;
        self.bytes -= msg.len() + MESSAGE_BYTES;
        Some(msg)
    }
}

/// What a waiting message costs beside its text.
const MESSAGE_BYTES: usize = 64;

/// The channel behind [`Sender`]; made when the first one is asked for.
struct Outside {
    /// Weak, so that the receiver learns when no sender is left.
    sender: mpsc::WeakSender<Bytes>,
    receiver: mpsc::Receiver<Bytes>,
}

impl Desk {
    pub(crate) fn new(limits: &Limits) -> Rc<Self> {
        Self::bounded((limits, &Arc::default()), None, None)
    }

    /// One whose buffers count, and whose idle time too if there is a mark.
    pub(crate) fn bounded(
        (limits, budget): (&Limits, &Arc<Budget>),
        mark: Option<Mark>,
        throttle: Option<Arc<Throttle>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            waker: RefCell::new(Waker::noop().clone()),
            inbox: RefCell::default(),
            inbox_max: limits.inbox.max(1),
            inbox_bytes_max: limits.unsent_bytes,
            dropped: Cell::new(0),
            ending: Cell::new(false),
            is_shed: Cell::new(false),
            account: Account::new(budget),
            mark,
            throttle,
            failure: RefCell::default(),
            outside: RefCell::default(),
        })
    }

    /// Remembers whom to wake; called at the start of every poll.
    pub(crate) fn attend(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if known.will_wake(waker) {
            return;
        }
        known.clone_from(waker);
        if let Some(mark) = &self.mark {
            mark.attend(waker);
        }
    }

    pub(crate) fn wake(&self) {
        self.waker.borrow().wake_by_ref();
    }

    /// Puts a message of a room into the inbox; the oldest make room. Gives how many of them.
    pub(crate) fn deliver(&self, msg: Bytes) -> u64 {
        let mut inbox = self.inbox.borrow_mut();
        inbox.bytes += msg.len() + MESSAGE_BYTES;
        inbox.messages.push_back(msg);
        let mut dropped = 0;
        while inbox.messages.len() > self.inbox_max && inbox.bytes > self.inbox_bytes_max {
            drop(inbox.pop());
            dropped += 1;
        }
        drop(inbox);
        self.dropped.set(self.dropped.get() + dropped);
        self.wake();
        dropped
    }

    /// The next message from outside: of a room first, then of a sender.
    pub(crate) fn poll_mail(&self, cx: &mut Context<'_>) -> Option<Bytes> {
        if let Some(msg) = self.inbox.borrow_mut().pop() {
            return Some(msg);
        }
        let mut outside = self.outside.borrow_mut();
        match outside.as_mut()?.receiver.poll_recv(cx) {
            Poll::Ready(Some(msg)) => Some(msg),
            Poll::Ready(None) => {
                *outside = None;
                None
            }
            Poll::Pending => None,
        }
    }

    fn sender(&self) -> Sender {
        let mut outside = self.outside.borrow_mut();
        if let Some(sender) = outside.as_ref().and_then(|outside| outside.sender.upgrade()) {
            return Sender(sender);
        }
        let (sender, receiver) = mpsc::channel(self.inbox_max);
        *outside = Some(Outside { sender: sender.downgrade(), receiver });
        drop(outside);
        // The conversation has to look at the new channel once to be woken by it.
        self.wake();
        Sender(sender)
    }

    /// Messages of rooms dropped because this peer read too slowly.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// Orders the conversation to finish what it owes and end.
    pub(crate) fn end(&self) {
        self.ending.set(true);
        self.wake();
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Does the conversation have to make room, as soon as it owes nothing? Asked behind
    /// [`attend`](Self::attend).
    pub(crate) fn is_chosen(&self) -> bool {
        self.mark.as_ref().is_some_and(Mark::is_chosen)
    }

    /// Ends the conversation at once, with what it owes: its memory is needed.
    pub(crate) fn shed(&self) {
        self.is_shed.set(true);
        self.wake();
    }

    pub(crate) fn is_shed(&self) -> bool {
        self.is_shed.get()
    }

    /// What it holds in buffers.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    pub(crate) fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    pub(crate) fn throttle(&self) -> Option<&Arc<Throttle>> {
        self.throttle.as_ref()
    }

    /// Notes why the conversation has to end; the first reason counts.
    pub(crate) fn fail(&self, code: Code, text: String) {
        self.failure.borrow_mut().get_or_insert((code, text));
    }

    pub(crate) fn take_failure(&self) -> Option<(Code, String)> {
        self.failure.borrow_mut().take()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }
}
