//! A datagram socket of either kind at home on a runtime.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use socket2::SockAddr;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{DatagramPeer, Local, group};
use crate::stream::Options;
use crate::sys::{self, HEADERS, Headers, Outgoing};
use crate::unix::UnixName;

/// A UDP or Unix datagram socket.
#[derive(Debug)]
pub struct DatagramSocket {
    io: AsyncFd<OwnedFd>,
    has_error_queue: bool,
}

/// Room for one batch of datagrams, each received whole. About 1 MiB of address space; memory only
/// for what was received.
pub struct RecvBatch(Headers);

/// One received datagram.
#[derive(Debug)]
#[non_exhaustive]
pub struct Received<'a> {
    /// Its bytes; none for an empty datagram, which is a message like any other.
    pub data: &'a [u8],
    /// Who sent it.
    pub from: DatagramPeer,
    /// The address of ours it came to, if the socket tells.
    pub local: Option<Local>,
    /// It was longer than the longest datagram there is room for.
    pub truncated: bool,
}

/// An error that an ICMP message brought about one peer.
#[derive(Debug)]
#[non_exhaustive]
pub struct PeerError {
    /// Whom the datagram was for.
    pub peer: SocketAddr,
    /// What the network said.
    pub error: io::Error,
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl RecvBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self(Headers::new())
    }

    /// Number of datagrams in it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The datagram at `index`, in order of arrival.
    pub fn get(&self, index: usize) -> Option<Received<'_>> {
        let (data, arrived) = self.0.get(index)?;
        Some(Received {
            data,
            from: DatagramPeer::of(&arrived.from),
            local: arrived.local,
            truncated: arrived.truncated,
        })
    }

    /// The datagrams in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl std::fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecvBatch").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl DatagramSocket {
    /// Takes a UDP socket, as [`udp_group`](super::udp_group) makes it, to this runtime.
    ///
    /// # Errors
    /// The runtime cannot watch it: no descriptor is left.
    pub fn udp(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { io: sys::watch(socket.into())?, has_error_queue: true })
    }

    /// Takes a Unix datagram socket to this runtime.
    ///
    /// # Errors
    /// As [`udp`](Self::udp).
    pub fn unix(socket: UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { io: sys::watch(socket.into())?, has_error_queue: false })
    }

    /// A UDP socket that talks to one peer and hears of its refusals.
    ///
    /// # Errors
    /// The peer's network is unreachable, or the source address is not ours.
    pub fn connected(
        peer: SocketAddr,
        source: Option<SocketAddr>,
        options: &Options,
    ) -> io::Result<Self> {
        let io = sys::watch(group::connected(peer, source, options)?.into())?;
        Ok(Self { io, has_error_queue: false })
    }

    /// A Unix datagram socket that talks to one peer, under an abstract name that the kernel chose so
    /// that it can be answered (unix(7), "autobind").
    ///
    /// # Errors
    /// Nobody is there, or it is not permitted.
    pub fn connected_unix(peer: &UnixName) -> io::Result<Self> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
        let flags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        bind(&socket, &rustix::net::SocketAddrUnix::new_unnamed())?;
        let socket = UnixDatagram::from(socket);
        socket.connect_addr(&peer.to_std()?)?;
        Self::unix(socket)
    }

    /// Our own address.
    ///
    /// # Errors
    /// The socket is not open.
    pub fn local(&self) -> io::Result<DatagramPeer> {
        Ok(DatagramPeer::of(&socket2::SockRef::from(&self.io).local_addr()?))
    }

    /// Receives the datagrams that are there, up to a batch, as soon as there is one.
    ///
    /// On a server's socket an ICMP error never ends it: such errors wait in
    /// [`take_errors`](Self::take_errors), and the call gives 0 when there are only those.
    ///
    /// # Errors
    /// On a connected socket, what the network says about the peer, as "connection refused".
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped call has received nothing.
    pub async fn recv(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        loop {
            let mut ready = self.io.ready(Interest::READABLE | Interest::ERROR).await?;
            let is_error = ready.ready().is_error();
            match ready.try_io(|io| sys::receive(io.as_fd(), &mut batch.0)) {
                Ok(Err(error)) if self.is_peers_error(&error) => {}
                Ok(received) => return received,
                Err(_would_block) if is_error && self.has_error_queue => {
                    batch.0.clear();
                    return Ok(0);
                }
                Err(_would_block) => {}
            }
        }
    }

    /// Receives what is there without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there; else as [`recv`](Self::recv).
    pub fn try_recv(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        loop {
            match sys::receive(self.io.as_fd(), &mut batch.0) {
                Err(error) if self.is_peers_error(&error) => {}
                received => return received,
            }
        }
    }

    /// On an unconnected socket the kernel reports a peer's ICMP error to whoever calls next. It is
    /// about an earlier datagram, the error queue has it too, and the call can be repeated.
    fn is_peers_error(&self, error: &io::Error) -> bool {
        use io::ErrorKind as Kind;
        error.kind() == Kind::Interrupted
            || self.has_error_queue
                && matches!(
                    error.kind(),
                    Kind::ConnectionRefused
                        | Kind::HostUnreachable
                        | Kind::NetworkUnreachable
                        | Kind::NetworkDown
                        | Kind::ConnectionReset
                        | Kind::PermissionDenied
                )
                && rustix::io::Errno::from_io_error(error)
                    .is_some_and(|errno| errno != rustix::io::Errno::PERM)
            || self.has_error_queue
                && rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::PROTO)
    }

    /// Sends one datagram without waiting, from `local` if given.
    ///
    /// # Errors
    /// `WouldBlock` if the send queue is full; "message too long"; what the network says.
    pub fn try_send(&self, data: &[u8], to: &DatagramPeer, local: Option<Local>) -> io::Result<()> {
        let to = to.to_socket2().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let outgoing = Outgoing { bytes: data, to: &to, from: local };
        match sys::send(self.io.as_fd(), &outgoing) {
            // The error was about an earlier datagram; this one has not been tried.
            Err(error) if self.is_peers_error(&error) => sys::send(self.io.as_fd(), &outgoing),
            sent => sent,
        }
    }

    /// Sends one datagram on a connected socket, as soon as the send queue takes it.
    ///
    /// # Errors
    /// "Message too long"; what the network says about the peer.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped call has sent nothing.
    pub async fn send(&self, data: &[u8]) -> io::Result<()> {
        loop {
            let mut ready = self.io.writable().await?;
            let sent = ready.try_io(|io| Ok(rustix::net::send(io, data, NO_SIGNAL)?));
            if let Ok(sent) = sent {
                return sent.map(drop);
            }
        }
    }

    /// Waits until the send queue takes datagrams again, then sends what is left of the batch.
    ///
    /// # Errors
    /// The runtime is going away.
    ///
    /// # Cancel safety
    /// Cancel safe: what a dropped call has not sent is still in the batch.
    pub async fn send_rest(
        &self,
        batch: &mut SendBatch,
        mut failed: impl FnMut(DatagramPeer, io::Error),
    ) -> io::Result<()> {
        while !batch.is_empty() {
            let mut ready = self.io.writable().await?;
            let sent = ready.try_io(|_| batch.send(self, &mut failed));
            // "Would block" has cleared the readiness; there is no other error.
            drop(sent);
        }
        Ok(())
    }

    /// Errors that ICMP messages brought since the last call, at most 64.
    pub fn take_errors(&self) -> Vec<PeerError> {
        let mut errors = Vec::new();
        while self.has_error_queue && errors.len() < 64 {
            match sys::receive_error(self.io.as_fd()) {
                Ok(Some((to, errno))) => {
                    if let Some(peer) = to.as_socket() {
                        let error = io::Error::from_raw_os_error(errno);
                        errors.push(PeerError { peer, error });
                    }
                }
                // A queue that cannot be read has nothing to tell.
                Ok(None) | Err(_) => break,
            }
        }
        errors
    }

    /// Datagrams the kernel dropped because this socket's receive queue was full.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn dropped(&self) -> io::Result<u32> {
        sys::dropped(self.io.as_fd())
    }

    /// Length of the next datagram that waits, 0 if none does.
    ///
    /// # Errors
    /// The socket is not open.
    pub fn waiting(&self) -> io::Result<usize> {
        crate::stream::unread(&self.io)
    }
}

const NO_SIGNAL: rustix::net::SendFlags = rustix::net::SendFlags::NOSIGNAL;

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

/// Datagrams that wait to be sent together.
#[derive(Default)]
pub struct SendBatch {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

struct Item {
    bytes: Range<usize>,
    to: SockAddr,
    from: Option<Local>,
}

impl SendBatch {
    /// Adds a datagram; false if its receiver has no address.
    pub fn push(&mut self, data: &[u8], to: &DatagramPeer, local: Option<Local>) -> bool {
        let Some(to) = to.to_socket2() else {
            return false;
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(data);
        self.items.push(Item { bytes: start..self.bytes.len(), to, from: local });
        true
    }

    /// Number of datagrams in it.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Sends in order what the kernel takes and keeps the rest; a datagram that cannot be sent is
    /// told to `failed` and does not hold up the others.
    ///
    /// # Errors
    /// `WouldBlock` if some are left: try again when the socket is writable.
    pub fn send(
        &mut self,
        socket: &DatagramSocket,
        mut failed: impl FnMut(DatagramPeer, io::Error),
    ) -> io::Result<()> {
        let mut done = 0;
        let mut repeated = false;
        let result = loop {
            let left = &self.items[done..];
            if left.is_empty() {
                break Ok(());
            }
            let batch: Vec<_> = left.iter().take(HEADERS).map(|item| self.outgoing(item)).collect();
            match sys::send_many(socket.as_fd(), &batch) {
                Ok(sent) => (done, repeated) = (done + sent, false),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Err(error),
                // About an earlier datagram: this one has not been tried yet.
                Err(error) if !repeated && socket.is_peers_error(&error) => repeated = true,
                Err(error) => {
                    failed(DatagramPeer::of(&left[0].to), error);
                    (done, repeated) = (done + 1, false);
                }
            }
        };
        self.forget(done);
        result
    }

    fn outgoing<'a>(&'a self, item: &'a Item) -> Outgoing<'a> {
        Outgoing { bytes: &self.bytes[item.bytes.clone()], to: &item.to, from: item.from }
    }

    fn forget(&mut self, done: usize) {
        let end = done.checked_sub(1).map_or(0, |last| self.items[last].bytes.end);
        self.items.drain(..done);
        self.bytes.drain(..end);
        for item in &mut self.items {
            item.bytes = item.bytes.start - end..item.bytes.end - end;
        }
    }
}

impl std::fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendBatch").field("len", &self.len()).finish_non_exhaustive()
    }
}
