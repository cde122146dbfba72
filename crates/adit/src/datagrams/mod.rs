//! The server socket: one socket, many peers, a conversation for each.
//!
//! A datagram is a whole message and the sender's address is its only sign of who sent it. The answer
//! leaves from the address the question came to. Nothing a peer sends, and no error the network
//! reports, ends this loop.

mod flow;
mod peers;
mod woken;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Waker};
use std::time::Duration;

use adit_net::datagram::{DatagramPeer, DatagramSocket, Local, PeerError, RecvBatch};
use adit_proto::amplification::may_answer_port;
use tokio::time::{Instant, sleep_until};

use crate::endpoint::{Endpoint, Place, Transport};
use crate::event::{Action, What};
use crate::handler::Open;
use crate::listen::{DatagramDoor, unix_place};
use crate::worker::{Guest, Order, Worker};
use crate::{Code, Limit};

use flow::{Flow, Outbox};
use peers::Peers;
use woken::Woken;

/// Serves one datagram socket on one thread, until the order to drain and then until every answer
/// that is owed has been sent.
///
/// `amplify` overrides how much is answered per byte received.
#[doc(alias = "serverSocket")]
pub(crate) async fn serve<T: Open>(
    door: DatagramDoor,
    amplify: Option<u32>,
    open: Rc<T>,
    worker: Rc<Worker>,
) -> io::Result<()> {
    let mut socket = ServerSocket::new(door, amplify, open, Rc::clone(&worker))?;
    let mut orders = worker.orders();
    let mut batch = RecvBatch::new();
    while *orders.borrow_and_update() == Order::Serve {
        tokio::select! {
            biased;
            _ = orders.changed() => continue,
            turn = socket.wait(&mut batch) => match turn? {
                Turn::Received => socket.take(&batch),
                Turn::Woken => socket.serve_woken(),
                Turn::Sent(failed) => socket.sending_failed(failed),
                Turn::Late => {}
            },
        }
        socket.expire();
        socket.count_drops(COUNT_EVERY);
    }
    socket.drain(&mut batch).await
}

/// How often the kernel is asked for its drops.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// What a server socket woke up for.
enum Turn {
    /// Datagrams have come, or errors.
    Received,
    /// Peers have something to say by themselves.
    Woken,
    /// The send queue has taken what waited, except for these.
    Sent(Failed),
    /// A peer may have expired.
    Late,
}

/// Peers to which something could not be sent.
type Failed = Vec<(DatagramPeer, io::Error)>;

/// A datagram socket with its peers.
struct ServerSocket<T: Open> {
    io: DatagramSocket,
    open: Rc<T>,
    worker: Rc<Worker>,
    peers: Peers<T::Handler>,
    woken: Arc<Woken>,
    outbox: Outbox,
    transport: Transport,
    /// Where it is bound; on a wildcard every datagram tells the address it came to.
    bound: Endpoint,
    amplification: Limit<u32>,
    /// Drops of the kernel told so far, and when it was last asked.
    dropped: u32,
    counted: Instant,
}

impl<T: Open> ServerSocket<T> {
    fn new(
        door: DatagramDoor,
        amplify: Option<u32>,
        open: Rc<T>,
        worker: Rc<Worker>,
    ) -> io::Result<Self> {
        let (io, transport) = match door {
            DatagramDoor::Udp(socket) => (DatagramSocket::udp(socket)?, Transport::Udp),
            DatagramDoor::Unix(socket) => (DatagramSocket::unix(socket)?, Transport::UnixDatagram),
        };
        let limits = &worker.context.limits;
        let amplification = amplify.map_or(limits.amplification, Limit::At);
        let peers = Peers::new(limits);
        let bound = endpoint(transport, &io.local()?);
        Ok(Self {
            io,
            open,
            peers,
            worker,
            woken: Arc::default(),
            outbox: Outbox::default(),
            transport,
            bound,
            amplification,
            dropped: 0,
            counted: Instant::now(),
        })
    }

    /// Waits for the next thing to do. While answers wait for the send queue nothing is received.
    ///
    /// Cancel safe: what it has taken from the socket it returns at once.
    async fn wait(&mut self, batch: &mut RecvBatch) -> io::Result<Turn> {
        let deadline = self.peers.next_deadline();
        let Self { io, woken, outbox, .. } = self;
        let (is_blocked, mut failed) = (!outbox.is_empty(), Vec::new());
        tokio::select! {
            biased;
            () = woken.wait() => Ok(Turn::Woken),
            sent = io.send_rest(&mut outbox.batch, |to, why| failed.push((to, why))), if is_blocked => {
                sent?;
                Ok(Turn::Sent(failed))
            }
            received = io.recv(batch), if !is_blocked => received.map(|_count| Turn::Received),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                Ok(Turn::Late)
            }
        }
    }

    /// Hands a batch of datagrams to the handlers of their peers and sends the answers.
    fn take(&mut self, batch: &RecvBatch) {
        for datagram in batch.iter() {
            if datagram.truncated {
                let len = datagram.data.len();
                self.worker.context.observers.emit(|| What::Truncated { len });
            }
            let Some(number) = self.peer(&datagram.from, datagram.local) else {
                continue;
            };
            self.with_flow(number, |flow, cx, outbox| {
                flow.receive(datagram.data, cx, outbox);
            });
        }
        if batch.is_empty() {
            // It was errors that woke us. Beside datagrams they wait for their own turn.
            for PeerError { peer, error, .. } in self.io.take_errors() {
                self.peer_failed(&DatagramPeer::Udp(peer), &error);
            }
        }
        self.send();
    }

    /// The flow of a peer, a new one if it has none; none if the peer is not to be answered.
    fn peer(&mut self, from: &DatagramPeer, local: Option<Local>) -> Option<u64> {
        if let Some(number) = self.peers.find(from, local) {
            return Some(number);
        }
        let remote = endpoint(self.transport, from);
        if let Err(refusal) = self.worker.shared.admission.invites(&remote) {
            self.worker.refuse(refusal, &remote);
            return None;
        }
        if !self.may_answer(&remote) {
            self.worker.context.totals.drop_messages(1);
            self.limit("reflection", 0, Action::Drop);
            return None;
        }
        if self.peers.is_full() {
            let oldest = self.peers.oldest()?;
            self.limit("datagram-peers", self.worker.context.limits.datagram_peers, Action::Drop);
            self.close(oldest, Code::Full);
        }
        let here = match local {
            Some(local) => {
                let port = self.bound.socket_addr().map_or(0, |bound| bound.port());
                Endpoint::ip(Transport::Udp, (local.ip, port).into())
            }
            None => self.bound.clone(),
        };
        self.worker.arrive();
        let guest = Guest {
            arrived: Instant::now(),
            remote,
            via: None,
            local: Some(here),
            permit: None,
            ticket: None,
        };
        let alive = self.worker.enter(guest, None);
        let handler = match self.open.open(&alive.peer) {
            Ok(handler) => handler,
            Err(refusal) => {
                self.worker.context.totals.refuse();
                let what = || What::Error {
                    code: Code::NotAllowed,
                    text: refusal.reason(),
                    place: "open",
                    fatal: false,
                };
                let (number, remote) = (alive.peer.number(), alive.peer.remote());
                self.worker.context.observers.emit_of(number, remote, what);
                return None;
            }
        };
        let context = Rc::clone(&self.worker.context);
        let mut flow =
            Flow::new(handler, alive, context, (from.clone(), local), self.amplification);
        flow.set_waker(self.woken.waker(flow.number()));
        let number = flow.number();
        self.peers.insert(flow);
        self.with_flow(number, Flow::greet);
        Some(number)
    }

    /// A datagram that could be our own, or that of a service that answers by itself, would begin a
    /// conversation without end.
    fn may_answer(&self, remote: &Endpoint) -> bool {
        remote.socket_addr().is_none_or(|address| {
            may_answer_port(address.port()) && Some(address) != self.bound.socket_addr()
        })
    }

    /// Lets a flow act; ends it if it wants to end.
    fn with_flow(
        &mut self,
        number: u64,
        act: impl FnOnce(&mut Flow<T::Handler>, &mut TaskContext<'_>, &mut Outbox),
    ) {
        let Some(flow) = self.peers.get(number) else {
            return;
        };
        let waker: Waker = flow.waker().clone();
        let mut cx = TaskContext::from_waker(&waker);
        act(flow, &mut cx, &mut self.outbox);
        if let Some(code) = flow.has_ended() {
            self.close(number, code);
        }
    }

    /// Flows that have something to say by themselves: a late answer, a message from outside.
    fn serve_woken(&mut self) {
        for number in self.woken.take() {
            self.with_flow(number, Flow::act);
        }
        self.send();
    }

    fn close(&mut self, number: u64, code: Code) {
        if let Some(flow) = self.peers.remove(number) {
            flow.close(code);
        }
    }

    /// Peers not heard of for too long are forgotten.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(number) = self.peers.expired(now) {
            self.close(number, Code::Ok);
        }
    }

    /// The network says that a peer is not there.
    fn peer_failed(&mut self, peer: &DatagramPeer, error: &io::Error) {
        let code = crate::code_of(error);
        for number in self.peers.all_of(peer) {
            if let Some(flow) = self.peers.get(number) {
                flow.tell_error(code, &error.to_string(), "network");
            }
            self.close(number, code);
        }
    }

    /// Sends what the kernel takes now.
    fn send(&mut self) {
        let mut failed = Vec::new();
        // What would block is sent when the socket is writable again.
        let sent = self.outbox.batch.send(&self.io, |peer, error| failed.push((peer, error)));
        drop(sent);
        self.sending_failed(failed);
    }

    fn sending_failed(&mut self, failed: Failed) {
        for (peer, error) in failed {
            self.peer_failed(&peer, &error);
        }
    }

    /// Datagrams the kernel had no room for are lost, but not in silence.
    fn count_drops(&mut self, every: Duration) {
        let now = Instant::now();
        if now.duration_since(self.counted) < every {
            return;
        }
        self.counted = now;
        let Ok(dropped) = self.io.dropped() else {
            return;
        };
        let more = dropped.wrapping_sub(std::mem::replace(&mut self.dropped, dropped));
        if more > 0 {
            self.worker.context.totals.drop_messages(more.into());
            let (name, action, count) = ("receive-queue", Action::Drop, more.into());
            let what = || What::Limit { name, value: 0, action, count };
            self.worker.context.observers.emit(what);
        }
    }

    fn limit(&self, name: &'static str, value: usize, action: Action) {
        let value = value as u64;
        self.worker.context.observers.emit(|| What::Limit { name, value, action, count: 1 });
    }

    /// Takes the datagrams that are queued, waits for answers that are owed, and says goodbye.
    async fn drain(mut self, batch: &mut RecvBatch) -> io::Result<()> {
        while self.io.try_recv(batch).is_ok() {
            self.take(batch);
        }
        loop {
            for number in self.peers.not_owing() {
                self.close(number, Code::Drained);
            }
            if self.peers.is_empty() && self.outbox.is_empty() {
                self.count_drops(Duration::ZERO);
                return Ok(());
            }
            match self.wait(batch).await? {
                Turn::Woken => self.serve_woken(),
                Turn::Sent(failed) => self.sending_failed(failed),
                // The server is closed: what comes now is not heard any more.
                Turn::Received | Turn::Late => {}
            }
        }
    }
}

impl<T: Open> Drop for ServerSocket<T> {
    /// Cut in the middle, by the end of the server: every conversation that is left is told all the same.
    fn drop(&mut self) {
        let code = self.worker.context.cut_code();
        for number in self.peers.numbers() {
            self.close(number, code);
        }
    }
}

/// A peer's address as it is printed.
fn endpoint(transport: Transport, peer: &DatagramPeer) -> Endpoint {
    match peer {
        DatagramPeer::Udp(address) => Endpoint::ip(transport, *address),
        DatagramPeer::Unix(name) => Endpoint::named(transport, unix_place(name)),
        _ => Endpoint::named(transport, Place::Unnamed),
    }
}
