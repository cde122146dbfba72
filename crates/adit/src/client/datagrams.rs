//! Datagrams: a client's datagram socket, without calls.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use adit_net::connect::Source;
use adit_net::datagram::{DatagramPeer, DatagramSocket, Received};
use adit_net::unix::UnixName;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::lookup::{Target, cannot_connect};
use crate::Error;
use crate::endpoint::{Endpoint, Place, Transport};
use crate::event::{Call, Direction, What};
use crate::listen::unix_place;
use crate::observe::Observers;

/// A datagram socket that talks to one peer. Each message keeps its edges; none is promised to
/// arrive, to arrive once, or to arrive in order.
#[derive(Debug)]
pub struct Datagrams {
    socket: DatagramSocket,
    remote: Endpoint,
    /// Datagrams that came in one batch and were not asked for yet.
    received: Mutex<VecDeque<Bytes>>,
    observers: Observers,
    number: u64,
    sent: Count,
    heard: Count,
}

/// What went one way.
#[derive(Debug, Default)]
struct Count {
    datagrams: AtomicU64,
    bytes: AtomicU64,
}

impl Datagrams {
    pub(super) fn new(
        socket: DatagramSocket,
        remote: Endpoint,
        (observers, number): (Observers, u64),
    ) -> Self {
        let received = Mutex::default();
        let (sent, heard) = (Count::default(), Count::default());
        let socket = Self { socket, remote, received, observers, number, sent, heard };
        socket.call(Call::Socket);
        socket
    }

    fn call(&self, call: Call) {
        let fd = self.socket.as_fd().as_raw_fd();
        self.observers.call(Some((self.number, &self.remote)), (call, Some(fd)), None);
    }

    fn tell(&self, at: Option<Duration>, dir: Direction, bytes: &[u8]) {
        let count = if dir == Direction::In { &self.heard } else { &self.sent };
        let seq = count.datagrams.fetch_add(1, Relaxed);
        let off = count.bytes.fetch_add(bytes.len() as u64, Relaxed);
        let what = || What::Data { dir, seq, off, bytes };
        self.observers.emit_at(at, (self.number, &self.remote), what);
    }

    /// Number of the socket of its [`Dial`](crate::Dial), as in events.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The peer's address.
    pub fn remote(&self) -> &Endpoint {
        &self.remote
    }

    /// Our own address.
    pub fn local(&self) -> Option<Endpoint> {
        match self.socket.local().ok()? {
            DatagramPeer::Udp(address) => Some(Endpoint::ip(Transport::Udp, address)),
            DatagramPeer::Unix(name) => {
                Some(Endpoint::named(Transport::UnixDatagram, unix_place(&name)))
            }
            _ => None,
        }
    }

    /// Sends one datagram, which may be empty.
    ///
    /// # Errors
    /// Longer than 65,507 bytes ("message too long"); what the network said about an earlier one, as
    /// "connection refused".
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped call has sent nothing.
    #[doc(alias = "sendto")]
    #[doc(alias = "sendPacket")]
    pub async fn send(&self, data: &[u8]) -> io::Result<()> {
        let at = self.observers.time();
        self.socket.send(data).await?;
        self.tell(at, Direction::Out, data);
        Ok(())
    }

    /// Receives the next datagram, whole.
    ///
    /// # Errors
    /// What the network said about an earlier one, as "connection refused"; the socket stays usable.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped call has received nothing.
    #[doc(alias = "recvfrom")]
    #[doc(alias = "receivePacket")]
    pub async fn recv(&self) -> io::Result<Bytes> {
        let mut received = self.received.lock().await;
        loop {
            if let Some(datagram) = received.pop_front() {
                self.tell(self.observers.time(), Direction::In, &datagram);
                return Ok(datagram);
            }
            let mut keep = |datagram: Received<'_>| {
                received.push_back(Bytes::copy_from_slice(datagram.data));
            };
            self.socket.recv_each(&mut keep).await?;
        }
    }

    /// What an error of [`send`](Self::send) or [`recv`](Self::recv) says about the peer, in words and
    /// with the next step.
    pub fn explain(&self, error: &io::Error) -> Error {
        let spoken = self.remote.to_string();
        let transport = self.remote.transport();
        let Some(address) = self.remote.socket_addr() else {
            let name = match self.remote.place() {
                Place::Abstract(name) => UnixName::Abstract(name.clone()),
                Place::Path(path) => UnixName::Path(path.clone()),
                _ => UnixName::Path(Box::default()),
            };
            return cannot_connect(Target::unix(&spoken, transport, &name), error);
        };
        cannot_connect(Target::ip(&spoken, transport, address, Source::default()), error)
    }

    /// Datagrams the kernel dropped because they came faster than they were received.
    pub fn dropped(&self) -> u64 {
        self.socket.dropped().unwrap_or(0).into()
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.call(Call::Close);
    }
}
