//! The server socket: one socket, many peers, a conversation for each.
//!
//! A datagram is a whole message and the sender's address is its only sign of who sent it. The answer
//! leaves from the address the question came to. Nothing a peer sends, and no error the network
//! reports, ends this loop.

mod drops;
mod flow;
mod peers;
mod woken;

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Waker};
use std::time::Duration;

use adit_net::datagram::{
    DatagramPeer, DatagramSocket, Local, PeerError, RecvBatch, is_own_address,
};
use adit_proto::amplification::Answering;
use tokio::time::{Instant, sleep_until};

use crate::admission::Refusal;
use crate::endpoint::{Endpoint, Place, Transport};
use crate::event::What;
use crate::handler::Open;
use crate::listen::{DatagramDoor, unix_place};
use crate::worker::{Alive, Guest, Order, Worker};
use crate::{Code, Limit};

use drops::{Reason, TELL_EVERY};
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
        socket.keep_house();
    }
    socket.drain(&mut batch).await
}

/// What a server socket woke up for.
enum Turn {
    /// Datagrams have come, or errors.
    Received,
    /// Peers have something to say by themselves.
    Woken,
    /// The send queue has taken what waited, except for these.
    Sent(Failed),
    /// A peer may have expired, or there is something to count or to tell.
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
    /// DNS and NTP servers are answered.
    trusts_servers: bool,
    /// Drops of the kernel told so far, and when it is asked again: a while after datagrams have come.
    dropped: u32,
    count_at: Option<Instant>,
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
        let peers = Peers::new(limits, amplification);
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
            trusts_servers: amplify.is_some() || amplification == Limit::Off,
            dropped: 0,
            count_at: None,
        })
    }

    /// Waits for the next thing to do. While answers wait for the send queue nothing is received.
    ///
    /// Cancel safe: what it has taken from the socket it returns at once.
    async fn wait(&mut self, batch: &mut RecvBatch) -> io::Result<Turn> {
        let deadlines = [self.peers.next_deadline(), self.count_at, self.outbox.drops.due()];
        let deadline = deadlines.into_iter().flatten().min();
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
            // Each socket of the port has its own copy; the first thread serves for all.
            if datagram.to_everybody && self.worker.index > 0 {
                continue;
            }
            if datagram.truncated {
                let len = datagram.data.len();
                self.worker.context.observers.emit(|| What::Truncated { len });
            }
            let known = self.peers.find(&datagram.from, datagram.local);
            let Some(number) = known.or_else(|| self.newcomer(&datagram.from, datagram.local))
            else {
                continue;
            };
            self.with_flow(number, |flow, cx, outbox| {
                flow.earn(datagram.data.len());
                if known.is_none() {
                    flow.greet(cx, outbox);
                }
                flow.receive(datagram.data, cx, outbox);
            });
        }
        self.count_at.get_or_insert_with(|| Instant::now() + TELL_EVERY);
        if batch.is_empty() {
            // It was errors that woke us. Beside datagrams they wait for their own turn.
            for PeerError { peer, error, .. } in self.io.take_errors() {
                self.peer_failed(&DatagramPeer::Udp(peer), &error);
            }
        }
        self.send();
    }

    /// A new flow, for a peer that has none; none if the peer is not to be answered.
    fn newcomer(&mut self, from: &DatagramPeer, local: Option<Local>) -> Option<u64> {
        let remote = endpoint(self.transport, from);
        if let Err(refusal) = self.worker.invites(&remote) {
            self.worker.refuse(refusal, &remote);
            return None;
        }
        let answering = self.answering(&remote, local);
        if answering == Answering::Never || is_disguised(from, local) {
            let context = &self.worker.context;
            self.outbox.drops.add(context, Reason::Reflection, (None, &remote));
            return None;
        }
        let share = match self.peers.share(from) {
            Ok(share) => share,
            Err(excess) => {
                self.worker.refuse(Refusal::Source(excess), &remote);
                return None;
            }
        };
        if self.peers.is_full() {
            self.make_room(&remote);
        }
        let Some((handler, alive)) = self.meet(remote, local) else {
            self.peers.release(from, share);
            return None;
        };
        let context = Rc::clone(&self.worker.context);
        let key = (from.clone(), local);
        let mut flow = Flow::new(handler, alive, context, key, (share, answering));
        flow.set_waker(self.woken.waker(flow.number()));
        let number = flow.number();
        self.peers.insert(flow);
        Some(number)
    }

    /// Makes the handler of a peer, unless it refuses the peer.
    fn meet(&self, remote: Endpoint, local: Option<Local>) -> Option<(T::Handler, Alive)> {
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
        match self.open.open(&alive.peer) {
            Ok(handler) => Some((handler, alive)),
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
                None
            }
        }
    }

    /// Forgets the peer that would be forgotten first.
    fn make_room(&mut self, remote: &Endpoint) {
        let context = &self.worker.context;
        let reason = Reason::Peers(context.limits.datagram_peers);
        self.outbox.drops.add(context, reason, (None, remote));
        if let Some(oldest) = self.peers.oldest() {
            self.close(oldest, Code::Full);
        }
    }

    /// What a newcomer earns. A datagram that could be our own, or that of a service that answers by
    /// itself, would begin a conversation without end.
    fn answering(&self, remote: &Endpoint, local: Option<Local>) -> Answering {
        let (Some(remote), Some(bound)) = (remote.socket_addr(), self.bound.socket_addr()) else {
            return Answering::Always;
        };
        let is_own = remote.port() == bound.port()
            && if bound.ip().is_unspecified() {
                let asked = local.map(|local| local.ip.to_canonical());
                asked == Some(remote.ip()) || is_own_address(remote)
            } else {
                bound.ip() == remote.ip()
            };
        if is_own {
            return Answering::Never;
        }
        Answering::of_port(remote.port(), self.trusts_servers)
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

    /// What is to be done now and then: peers not heard of for too long are forgotten, drops are counted
    /// and told.
    fn keep_house(&mut self) {
        let now = Instant::now();
        while let Some(number) = self.peers.expired(now) {
            self.close(number, Code::Ok);
        }
        if self.count_at.is_some_and(|at| at <= now) {
            self.count_at = None;
            self.count_drops();
        }
        self.outbox.drops.tell(&self.worker.context, TELL_EVERY);
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
    fn count_drops(&mut self) {
        let Ok(dropped) = self.io.dropped() else {
            return;
        };
        let more = dropped.wrapping_sub(std::mem::replace(&mut self.dropped, dropped));
        if more > 0 {
            let context = &self.worker.context;
            self.outbox.drops.add_unknown(context, Reason::Queue, more.into());
        }
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
                self.count_drops();
                self.outbox.drops.tell(&self.worker.context, Duration::ZERO);
                return Ok(());
            }
            match self.wait(batch).await? {
                Turn::Woken => self.serve_woken(),
                Turn::Sent(failed) => self.sending_failed(failed),
                // The server is closed: what comes now is not heard any more.
                Turn::Received | Turn::Late => {}
            }
            self.keep_house();
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

/// A packet of IPv6 whose sender claims an IPv4-mapped address (RFC 4291, section 2.5.5.2): lists and
/// limits would take it for that address, as for 127.0.0.1, and nobody could be answered there.
fn is_disguised(from: &DatagramPeer, local: Option<Local>) -> bool {
    let is_v4 = |ip: IpAddr| ip.to_canonical().is_ipv4();
    let DatagramPeer::Udp(from) = from else { return false };
    from.is_ipv6() && is_v4(from.ip()) && !local.is_some_and(|local| is_v4(local.ip))
}

/// A peer's address as it is printed.
fn endpoint(transport: Transport, peer: &DatagramPeer) -> Endpoint {
    match peer {
        DatagramPeer::Udp(address) => Endpoint::ip(transport, *address),
        DatagramPeer::Unix(name) => Endpoint::named(transport, unix_place(name)),
        _ => Endpoint::named(transport, Place::Unnamed),
    }
}
