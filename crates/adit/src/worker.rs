//! One I/O thread: its conversations, its mailbox, its part in the balance.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use adit_net::accept::Accepted;
use adit_proto::sources::Fault;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::admission::{Admission, Invited, Ticket};
use crate::budget::{self, Budget};
use crate::conn::Io;
use crate::context::Context;
use crate::idle::{Entry, IdleBook, Stage};
use crate::introduction::greet;
use crate::lag::{Lag, Pulse};
use crate::lobby::LOBBY;
use crate::observe::Seldom;
use crate::peer::{Desk, Peer};
use crate::reserve::Reserve;
use crate::throttle::Meters;
use crate::{AccessList, Blame, Code, Endpoint, Error, Limit, Limits, WhenFull, room, tls};

/// What the threads of a server share.
pub(crate) struct Shared {
    /// Conversations per thread, those on their way to it included.
    pub(crate) loads: Box<[AtomicUsize]>,
    pub(crate) mailboxes: Box<[Mailbox]>,
    /// How late each thread is.
    pub(crate) pulses: Box<[Pulse]>,
    pub(crate) lag_told: Seldom,
    /// Descriptors that newcomers may not have.
    pub(crate) reserve: Reserve,
    /// One permit per connection; taken before accept.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) permits_max: usize,
    pub(crate) admission: Admission,
    pub(crate) budget: Arc<Budget>,
    /// How fast bytes of each source may go, if that is bounded.
    pub(crate) meters: Option<Meters>,
    /// Who makes room, where somebody may have to.
    pub(crate) idle_book: Option<Arc<IdleBook>>,
    /// Newcomers for whom somebody makes room.
    pub(crate) lobby: Arc<Semaphore>,
    /// The doors close behind the first connection.
    once: bool,
    /// Pulses when they do.
    shut: Notify,
    pub(crate) numbers: AtomicU64,
    /// Conversations that are over.
    pub(crate) over: AtomicU64,
    /// Conversations whose socket is not closed yet, those that are over included.
    pub(crate) unclosed: AtomicUsize,
    /// Welcome sockets that are still open, counted once per thread.
    pub(crate) doors: AtomicUsize,
    /// Pulses when the last conversation of a thread ends and when a welcome socket closes.
    pub(crate) idle: Notify,
    /// Pulses when a connection has given its descriptor back.
    pub(crate) descriptors: Notify,
    breakdown: watch::Sender<Option<String>>,
}

impl Shared {
    pub(crate) fn new(
        mailboxes: Vec<Mailbox>,
        limits: &Limits,
        once: bool,
        secured: bool,
        invited: Invited,
    ) -> Self {
        let permits_max = match limits.conversations {
            _ if once => 1,
            Limit::At(conversations) => conversations.min(descriptors_for_conversations()).max(1),
            Limit::Off => Semaphore::MAX_PERMITS,
        };
        let cost = budget::cost(secured);
        let fit = |bytes| budget::conversations_of(bytes, cost);
        let fitting = budget::bytes_of(limits).map_or(usize::MAX, fit);
        let permits_max = permits_max.min(fitting).max(1);
        Self {
            budget: Arc::new(Budget::new(limits, permits_max.saturating_mul(cost), &mailboxes)),
            loads: mailboxes.iter().map(|_| AtomicUsize::new(0)).collect(),
            pulses: mailboxes.iter().map(|_| Pulse::new()).collect(),
            lag_told: Seldom::default(),
            reserve: Reserve::new(),
            mailboxes: mailboxes.into(),
            permits: Arc::new(Semaphore::new(permits_max.min(Semaphore::MAX_PERMITS))),
            permits_max,
            admission: Admission::new(limits, invited),
            meters: limits.byte_rate.at().map(Meters::new),
            idle_book: (limits.when_full == WhenFull::Shed).then(Arc::default),
            lobby: Arc::new(Semaphore::new(LOBBY)),
            once,
            shut: Notify::new(),
            numbers: AtomicU64::new(0),
            over: AtomicU64::new(0),
            unclosed: AtomicUsize::new(0),
            doors: AtomicUsize::new(0),
            idle: Notify::new(),
            descriptors: Notify::new(),
            breakdown: watch::channel(None).0,
        }
    }

    /// A connection was taken. With `once` it is the last one: its permit was the only one, so nobody
    /// else has come in meanwhile.
    pub(crate) fn let_in(&self) {
        if self.once {
            self.permits.close();
            self.shut.notify_waiters();
        }
    }

    /// Has somebody go for a newcomer; false if nobody can, or nobody is let in any more.
    pub(crate) fn make_room(&self) -> bool {
        let is_wanted = || !self.permits.is_closed();
        self.idle_book.as_ref().is_some_and(|book| book.make_room(is_wanted))
    }

    /// Waits until nobody is let in any more; for ever without `once`.
    pub(crate) async fn shut(&self) {
        // Made before the look, so that a pulse in between is not missed.
        let shut = self.shut.notified();
        if !self.permits.is_closed() {
            shut.await;
        }
    }

    /// A door is broken beyond repair.
    pub(crate) fn break_down(&self, error: &std::io::Error) {
        self.breakdown.send_replace(Some(error.to_string()));
    }

    /// Waits until a door is broken.
    pub(crate) async fn broken(&self) -> Error {
        let mut breakdown = self.breakdown.subscribe();
        let text = match breakdown.wait_for(Option::is_some).await {
            Ok(text) => text.clone().unwrap_or_default(),
            // The sender lives as long as this value.
            Err(_) => std::future::pending().await,
        };
        Error::new(Code::Internal, Blame::Local, format!("a listening socket broke: {text}"))
    }

    pub(crate) fn live(&self) -> usize {
        self.loads.iter().map(|load| load.load(Relaxed)).sum()
    }

    /// Nobody is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.live() == 0 && self.unclosed.load(Acquire) == 0
    }

    /// Nobody is here and nobody can come any more.
    pub(crate) fn is_deserted(&self) -> bool {
        self.doors.load(Acquire) == 0 && self.is_empty()
    }

    pub(crate) fn open_door(&self) {
        self.doors.fetch_add(1, Relaxed);
    }

    pub(crate) fn close_door(&self) {
        self.doors.fetch_sub(1, Release);
        self.idle.notify_waiters();
    }
}

/// Connections that descriptors allow: a reserve is kept for everything else a program opens.
pub(crate) fn descriptors_for_conversations() -> usize {
    match adit_net::descriptors::limit() {
        Ok(limit) => {
            let soft = usize::try_from(limit.soft).unwrap_or(usize::MAX);
            soft - (soft / 4).min(64)
        }
        // Not knowing the limit is no reason to serve nobody; accept meets it then.
        Err(_) => usize::MAX,
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("loads", &self.loads).finish_non_exhaustive()
    }
}

/// What threads say to each other. Never on the way from a message to its answer.
pub(crate) enum Mail {
    /// A connection for you.
    Connection(Box<Arrival>),
    /// Memory is short: one of your conversations has to go.
    Lighten,
    /// A message of a room for its members on your thread.
    Room(room::Letter),
    /// Change your course.
    Order(Order),
    /// Who may come from now on.
    Access(Option<Arc<AccessList>>),
    /// Say that you have come so far.
    Ask(oneshot::Sender<()>),
}

pub(crate) type Mailbox = mpsc::Sender<Mail>;

/// Mails that may wait for one thread; a burst of connections at most.
pub(crate) const MAILBOX: usize = 4096;

/// A connection that has been accepted and not yet been given to a conversation.
pub(crate) struct Arrival {
    /// Which of the server's listeners it came to.
    pub(crate) listener: usize,
    pub(crate) accepted: Accepted,
    /// Where the listener listens.
    pub(crate) local: Endpoint,
    pub(crate) permit: OwnedSemaphorePermit,
    /// Its place among those of its source, if that is counted.
    pub(crate) ticket: Option<Ticket>,
    /// The client that a PROXY header names.
    pub(crate) client: Option<Endpoint>,
}

/// Who comes into a conversation.
pub(crate) struct Guest {
    /// When it came; what goes before the conversation has its time from here.
    pub(crate) arrived: Instant,
    pub(crate) remote: Endpoint,
    pub(crate) via: Option<Endpoint>,
    pub(crate) local: Option<Endpoint>,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    pub(crate) ticket: Option<Ticket>,
}

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Serve,
    /// Take what is queued, close the listeners, finish what there is.
    Drain,
}

/// Starts conversations of one listener on one thread.
pub(crate) trait Welcome {
    /// Begins a conversation on this thread, whose load already counts it.
    fn welcome(&self, worker: &Rc<Worker>, io: Io, guest: Guest);

    /// Does it shake hands first? Then it says itself when somebody has been let in.
    fn is_secured(&self) -> bool {
        false
    }
}

/// One I/O thread.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) context: Rc<Context>,
    pub(crate) desks: RefCell<HashMap<u64, Rc<Desk>>>,
    order: watch::Sender<Order>,
    /// How late this thread is.
    pub(crate) lag: Lag,
    /// Who may come.
    pub(crate) access: RefCell<Option<Arc<AccessList>>>,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, context: Rc<Context>) -> Rc<Self> {
        let (order, _) = watch::channel(Order::Serve);
        let access = RefCell::new(shared.admission.access.clone());
        let (desks, lag) = (RefCell::default(), Lag::new(context.limits.lag.at()));
        Rc::new(Self { index, shared, context, desks, order, lag, access })
    }

    /// The course of this thread and its changes.
    pub(crate) fn orders(&self) -> watch::Receiver<Order> {
        self.order.subscribe()
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.order.borrow() == Order::Drain
    }

    /// Answers the mail of this thread until the server is gone.
    pub(crate) async fn read_mail(
        self: &Rc<Self>,
        mut mailbox: mpsc::Receiver<Mail>,
        welcomes: Vec<Option<Rc<dyn Welcome>>>,
    ) {
        while let Some(mail) = mailbox.recv().await {
            match mail {
                Mail::Connection(arrival) => match welcomes.get(arrival.listener) {
                    Some(Some(welcome)) => greet(self, welcome, *arrival),
                    // Only listeners that welcome connections send any.
                    _ => self.depart(),
                },
                Mail::Lighten => self.lighten(),
                Mail::Room(letter) => room::deliver(&letter),
                Mail::Order(order) => self.follow(order),
                Mail::Access(list) => drop(self.access.replace(list)),
                // Whoever has asked may not wait any more.
                Mail::Ask(answer) => drop(answer.send(())),
            }
        }
    }

    fn follow(&self, order: Order) {
        self.order.send_replace(order);
        // A conversation that ends at once leaves the map: the list is made before.
        let desks: Vec<_> = self.desks.borrow().values().map(Rc::clone).collect();
        for desk in desks {
            desk.end();
        }
    }

    /// Begins a conversation on this thread, whose load already counts it.
    pub(crate) fn enter(self: &Rc<Self>, guest: Guest, tls: Option<&tls::Info>) -> Alive {
        let Guest { remote, via, local, permit, ticket, .. } = guest;
        let number = self.shared.numbers.fetch_add(1, Relaxed) + 1;
        // Datagrams take no permit, and their peers can give none back.
        let book = self.shared.idle_book.as_ref().filter(|_| permit.is_some());
        let entry = book.map(|book| book.enter(Stage::Conversation));
        let mark = entry.as_ref().map(|entry| entry.mark().clone());
        let meters = self.shared.meters.as_ref();
        let throttle = meters
            .map(|meters| Arc::new(meters.throttle(number, &remote, &self.context.observers)));
        let (limits, budget) = (&self.context.limits, &self.shared.budget);
        let desk = Desk::bounded((limits, budget), mark, throttle);
        // Accepted or handed over after the order: nobody would tell it any more.
        if self.is_draining() {
            desk.end();
        }
        self.desks.borrow_mut().insert(number, Rc::clone(&desk));
        self.context.totals.open();
        let peer = Peer::new((remote, via), local, number, tls, desk);
        let slot = Slot { worker: Rc::clone(self), _entry: entry, _permit: permit };
        let slot = RefCell::new(Some(slot));
        self.shared.unclosed.fetch_add(1, Relaxed);
        Alive { worker: Rc::clone(self), peer, slot, ticket }
    }

    /// Counts one more conversation on this thread.
    pub(crate) fn arrive(&self) {
        self.shared.loads[self.index].fetch_add(1, Relaxed);
    }

    /// Counts one less, and one that is over.
    fn leave(&self) {
        self.shared.over.fetch_add(1, Relaxed);
        self.depart();
    }

    /// Counts one less.
    pub(crate) fn depart(&self) {
        if self.shared.loads[self.index].fetch_sub(1, Relaxed) == 1 {
            self.shared.idle.notify_waiters();
        }
    }
}

/// A conversation on this thread, from its first byte to the close of its socket.
pub(crate) struct Alive {
    worker: Rc<Worker>,
    pub(crate) peer: Peer,
    slot: RefCell<Option<Slot>>,
    /// Until the socket is closed: one that does not let itself be closed counts on.
    ticket: Option<Ticket>,
}

/// The place a conversation takes while it goes on; its close takes none.
struct Slot {
    worker: Rc<Worker>,
    /// In front of the permit: nobody is chosen who has given his back.
    _entry: Option<Entry>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Alive {
    /// The conversation is over: lets the next one in although the close still goes on.
    pub(crate) fn free_slot(&self) {
        drop(self.slot.take());
    }

    /// Notes how it ended for the source it came from.
    pub(crate) fn judge(&self, code: Code) {
        if let (Code::MessageTimeout, Some(ticket)) = (code, &self.ticket) {
            ticket.fault(Fault::Message);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.worker.leave();
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.free_slot();
        self.worker.desks.borrow_mut().remove(&self.peer.number());
        let shared = &self.worker.shared;
        if shared.unclosed.fetch_sub(1, Release) == 1 {
            shared.idle.notify_waiters();
        }
        shared.descriptors.notify_waiters();
    }
}
