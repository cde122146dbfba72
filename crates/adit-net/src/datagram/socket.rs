//! A datagram socket of either kind at home on a runtime.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use super::{DatagramPeer, Local, Received, RecvBatch, SendBatch, group};
use crate::stream::Options;
use crate::sys::{self, Outgoing};
use crate::unix::UnixName;

/// A UDP or Unix datagram socket.
#[derive(Debug)]
pub struct DatagramSocket {
    io: AsyncFd<OwnedFd>,
    has_error_queue: bool,
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
    /// [`take_errors`](Self::take_errors), and the call gives 0 when there are only those, or many.
    ///
    /// # Errors
    /// On a connected socket, what the network says about the peer, as "connection refused".
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped call has received nothing.
    pub async fn recv(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        let mut errors = 0;
        loop {
            let mut ready = self.io.ready(Interest::READABLE | Interest::ERROR).await?;
            let is_error = ready.ready().is_error();
            match ready.try_io(|io| sys::receive(io.as_fd(), &mut batch.0)) {
                Ok(Err(error)) if self.is_peers_error(&error) => {
                    errors += 1;
                    if errors == ERRORS_IN_A_ROW_MAX {
                        batch.0.clear();
                        return Ok(0);
                    }
                }
                Ok(received) => return received,
                Err(_would_block) if is_error && self.has_error_queue => {
                    batch.0.clear();
                    return Ok(0);
                }
                Err(_would_block) => {}
            }
        }
    }

    /// Receives on a connected socket the datagrams that are there, as soon as there is one, and shows
    /// each to `take`. The room for them is lent by the thread: a socket that waits owns none, however
    /// many of them there are.
    ///
    /// # Errors
    /// What the network says about the peer, as "connection refused".
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped call has received nothing.
    pub async fn recv_each(&self, mut take: impl FnMut(Received<'_>)) -> io::Result<()> {
        loop {
            let mut ready = self.io.ready(Interest::READABLE | Interest::ERROR).await?;
            let received = ready.try_io(|io| {
                RecvBatch::lend(|batch| {
                    sys::receive(io.as_fd(), &mut batch.0)?;
                    batch.iter().for_each(&mut take);
                    Ok(())
                })
            });
            match received {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(received) => return received,
                Err(_would_block) => {}
            }
        }
    }

    /// Receives what is there without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there; else as [`recv`](Self::recv).
    pub fn try_recv(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        for _ in 0..ERRORS_IN_A_ROW_MAX {
            match sys::receive(self.io.as_fd(), &mut batch.0) {
                Err(error) if self.is_peers_error(&error) => {}
                received => return received,
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// On an unconnected socket the kernel reports a peer's ICMP error to whoever calls next. It is
    /// about an earlier datagram, the error queue has it too, and the call can be repeated.
    pub(super) fn is_peers_error(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::Interrupted
            || self.has_error_queue && Errno::from_io_error(error).is_some_and(is_icmp)
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
            let is_told = tells_of_room(&ready);
            let sent = ready.try_io(|io| Ok(rustix::net::send(io, data, NO_SIGNAL)?));
            if let Ok(sent) = sent {
                return sent.map(drop);
            }
            pause_unless(is_told).await;
        }
    }

    /// Sends one datagram, from `local` if given, as soon as the send queue takes it.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), but never `WouldBlock`.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped call has sent nothing.
    pub async fn send_to(
        &self,
        data: &[u8],
        to: &DatagramPeer,
        local: Option<Local>,
    ) -> io::Result<()> {
        loop {
            let mut ready = self.io.writable().await?;
            let is_told = tells_of_room(&ready);
            if let Ok(sent) = ready.try_io(|_| self.try_send(data, to, local)) {
                return sent;
            }
            pause_unless(is_told).await;
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
            let is_told = tells_of_room(&ready);
            // "Would block" has cleared the readiness; there is no other error.
            if ready.try_io(|_| batch.send(self, &mut failed)).is_err() {
                pause_unless(is_told).await;
            }
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

/// Once a socket had an ICMP error, the runtime takes its writing half for closed, and so for ready,
/// for ever: to wait for it would be to spin. To be asked before the readiness is used up.
fn tells_of_room(ready: &AsyncFdReadyGuard<'_, OwnedFd>) -> bool {
    !ready.ready().is_write_closed()
}

/// Waits where the runtime does not tell; a queue has room again after a packet or two.
async fn pause_unless(is_told: bool) {
    if !is_told {
        tokio::time::sleep(QUEUE_PAUSE).await;
    }
}

/// Can an ICMP message bring this error? Anybody on the way may send one, so none of them may end a
/// server (Linux: `icmp_err_convert` in net/ipv4/icmp.c, `icmpv6_err_convert` in net/ipv6/icmp.c).
fn is_icmp(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::CONNREFUSED
            | Errno::CONNRESET
            | Errno::HOSTUNREACH
            | Errno::HOSTDOWN
            | Errno::NETUNREACH
            | Errno::NETDOWN
            | Errno::NONET
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::MSGSIZE
            | Errno::PROTO
            | Errno::ACCESS
    )
}

/// How many errors one call looks past before it lets its caller take them.
const ERRORS_IN_A_ROW_MAX: u32 = 16;

/// How long to wait for room in the send queue where no event tells of it.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);

const NO_SIGNAL: rustix::net::SendFlags = rustix::net::SendFlags::NOSIGNAL;

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}
