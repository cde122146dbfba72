//! Accept: one connection from a listening socket, and what its errors mean.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, acceptfrom_with};
use socket2::SockRef;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use crate::datagram::DatagramPeer;
use crate::sys;
use crate::unix::UnixName;

/// What an error of accept(2) asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptError {
    /// Nobody waits, or a signal came: wait and try again.
    Retry,
    /// That one connection is broken: count it and go on at once (accept(2), "Error handling").
    ThatConnection,
    /// No file descriptor is left, here or in the whole system: stop polling for a while.
    OutOfDescriptors,
    /// No memory for sockets is left: stop polling for a while.
    OutOfMemory,
    /// The listening socket is no listening socket: a bug.
    Broken,
}

/// Sorts an error of accept(2).
pub fn classify(error: &io::Error) -> AcceptError {
    let Some(errno) = Errno::from_io_error(error) else {
        return AcceptError::Broken;
    };
    match errno {
        Errno::AGAIN | Errno::INTR => AcceptError::Retry,
        Errno::CONNABORTED
        | Errno::PROTO
        | Errno::PERM
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NONET
        | Errno::NOPROTOOPT
        | Errno::OPNOTSUPP
        | Errno::CONNRESET => AcceptError::ThatConnection,
        Errno::MFILE | Errno::NFILE => AcceptError::OutOfDescriptors,
        Errno::NOBUFS | Errno::NOMEM => AcceptError::OutOfMemory,
        _ => AcceptError::Broken,
    }
}

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A listening socket of either family.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    is_unix: bool,
}

/// A connection just accepted, nonblocking, with the peer's address.
///
/// The address comes with the connection: asking for it later fails if the peer has reset it
/// meanwhile.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "the stream sockets served here")]
pub enum Accepted {
    /// Over TCP.
    Tcp(TcpStream, SocketAddr),
    /// Over a Unix stream socket; most clients have no name.
    Unix(UnixStream, Option<UnixName>),
}

impl Accepted {
    /// The number of its descriptor: as many were in use when it was accepted, at least.
    pub fn descriptor(&self) -> RawFd {
        match self {
            Self::Tcp(socket, _) => socket.as_raw_fd(),
            Self::Unix(socket, _) => socket.as_raw_fd(),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self { socket: listener.into(), is_unix: false }
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self { socket: listener.into(), is_unix: true }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Listener {
    /// The same socket under another descriptor, for another thread.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, is_unix: self.is_unix })
    }

    /// The address of a TCP listener.
    pub fn ip_address(&self) -> Option<SocketAddr> {
        SockRef::from(&self.socket).local_addr().ok()?.as_socket()
    }

    /// The name of a Unix listener.
    pub fn unix_name(&self) -> Option<UnixName> {
        match DatagramPeer::of(&SockRef::from(&self.socket).local_addr().ok()?) {
            DatagramPeer::Unix(name) => Some(name),
            _ => None,
        }
    }

    /// Makes a socket that was handed over ready to be watched.
    ///
    /// # Errors
    /// The socket is not open.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        SockRef::from(&self.socket).set_nonblocking(true)
    }

    /// Has this thread's runtime watch the socket.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn watch(self) -> io::Result<Watched> {
        Ok(Watched { socket: sys::watch(self.socket)?, is_unix: self.is_unix })
    }
}

/// A listening socket that a runtime watches.
#[derive(Debug)]
pub struct Watched {
    socket: AsyncFd<OwnedFd>,
    is_unix: bool,
}

/// The queue of connections that wait to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overflow {
    /// Attempts to connect that were dropped since the socket was made, over and over if need be: the
    /// peer's system tries again after 1, 3 and 7 s.
    pub dropped: u32,
    /// Connections that may wait.
    pub waiting_max: u32,
}

/// Somebody may be waiting to be accepted.
#[derive(Debug)]
pub struct Ready<'a> {
    guard: AsyncFdReadyGuard<'a, OwnedFd>,
    is_unix: bool,
}

impl Watched {
    /// Waits until somebody wants to connect.
    ///
    /// # Errors
    /// The runtime is going away.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn readable(&self) -> io::Result<Ready<'_>> {
        Ok(Ready { guard: self.socket.readable().await?, is_unix: self.is_unix })
    }

    /// What has become of those who came while the queue of waiting connections was full.
    ///
    /// # Errors
    /// It is no TCP socket, or the kernel does not tell.
    pub fn overflow(&self) -> io::Result<Overflow> {
        let socket = self.socket.as_fd();
        let waiting_max = sys::tcp_info(socket)?.backlog.ok_or(io::ErrorKind::Unsupported)?;
        Ok(Overflow { dropped: sys::dropped(socket)?, waiting_max })
    }

    /// Takes the next connection; none if nobody waits.
    ///
    /// # Errors
    /// As accept4(2); see [`classify`].
    pub fn accept(&self) -> io::Result<Option<Accepted>> {
        match accept(self.socket.as_fd(), self.is_unix) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            accepted => accepted.map(Some),
        }
    }
}

impl Ready<'_> {
    /// Takes the next connection; none if nobody waits, and only then will
    /// [`Watched::readable`] wait again.
    ///
    /// # Errors
    /// As accept4(2); see [`classify`].
    pub fn accept(&mut self) -> io::Result<Option<Accepted>> {
        let is_unix = self.is_unix;
        match self.guard.try_io(|socket| accept(socket.as_fd(), is_unix)) {
            Ok(accepted) => accepted.map(Some),
            Err(_would_block) => Ok(None),
        }
    }
}

fn accept(listener: BorrowedFd<'_>, is_unix: bool) -> io::Result<Accepted> {
    if is_unix {
        let socket = UnixStream::from(accept_with(listener, FLAGS)?);
        let name = socket.peer_addr().ok().as_ref().and_then(UnixName::of_std);
        return Ok(Accepted::Unix(socket, name));
    }
    let (socket, peer) = acceptfrom_with(listener, FLAGS)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    let peer = peer.ok_or(Errno::CONNABORTED)?;
    Ok(Accepted::Tcp(socket.into(), peer))
}

#[cfg(test)]
mod tests {
    use super::{AcceptError, classify};
    use std::io::Error;

    #[test]
    fn every_errno_of_accept_has_its_class() {
        let classes: [(AcceptError, &[i32]); 5] = [
            (AcceptError::Retry, &[libc::EAGAIN, libc::EINTR]),
            (
                AcceptError::ThatConnection,
                &[
                    libc::ECONNABORTED,
                    libc::EPROTO,
                    libc::EPERM,
                    libc::ENETDOWN,
                    libc::ENETUNREACH,
                    libc::EHOSTDOWN,
                    libc::EHOSTUNREACH,
                    libc::ENONET,
                    libc::ENOPROTOOPT,
                    libc::EOPNOTSUPP,
                    libc::ECONNRESET,
                ],
            ),
            (AcceptError::OutOfDescriptors, &[libc::EMFILE, libc::ENFILE]),
            (AcceptError::OutOfMemory, &[libc::ENOBUFS, libc::ENOMEM]),
            (AcceptError::Broken, &[libc::EBADF, libc::EINVAL, libc::ENOTSOCK, libc::EFAULT]),
        ];
        for (class, errnos) in classes {
            for errno in errnos {
                assert_eq!(classify(&Error::from_raw_os_error(*errno)), class, "errno {errno}");
            }
        }
    }
}
