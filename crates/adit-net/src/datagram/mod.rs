//! Datagrams: whom they are from, which of our addresses they came to, and how they go back from it.

mod batch;
mod group;
mod socket;

pub use batch::{Received, RecvBatch, SendBatch};
pub use group::{adopt, is_own_address, udp_any, udp_group, udp_loopback};
pub use socket::{DatagramSocket, PeerError};

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use socket2::SockAddr;

use crate::unix::UnixName;

/// Longest payload of a UDP datagram over IPv4 (RFC 768: 65,535 less 8; RFC 791: less 20).
pub const UDP_BYTES_MAX: usize = 65_507;

/// The address of ours that a datagram came to; for a broadcast, the one to answer it from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "what the kernel tells, no more")]
pub struct Local {
    /// The IP address, in the family of the socket (IPv4-mapped on an IPv6 socket).
    pub ip: IpAddr,
    /// The interface's number, 0 if unknown.
    pub interface: u32,
}

/// Who sent a datagram.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DatagramPeer {
    /// A UDP socket. IPv4 peers of an IPv6 socket have an IPv4-mapped address here, so that it can be
    /// sent to.
    Udp(SocketAddr),
    /// A Unix datagram socket with a name.
    Unix(UnixName),
    /// A Unix datagram socket without a name: it cannot be answered.
    Unnamed,
}

impl DatagramPeer {
    pub(crate) fn of(address: &SockAddr) -> Self {
        if let Some(address) = address.as_socket() {
            return Self::Udp(address);
        }
        if let Some(name) = address.as_abstract_namespace() {
            return Self::Unix(UnixName::Abstract(name.into()));
        }
        match address.as_pathname() {
            Some(path) => {
                use std::os::unix::ffi::OsStrExt as _;
                Self::Unix(UnixName::Path(path.as_os_str().as_bytes().into()))
            }
            None => Self::Unnamed,
        }
    }

    pub(crate) fn to_socket2(&self) -> Option<SockAddr> {
        match self {
            Self::Udp(address) => Some((*address).into()),
            Self::Unix(UnixName::Path(_)) => {
                let Self::Unix(name) = self else { return None };
                SockAddr::unix(name.path()?).ok()
            }
            // Linux takes an abstract name as a path with a leading NUL.
            Self::Unix(UnixName::Abstract(name)) => {
                use std::os::unix::ffi::OsStrExt as _;
                let path = [b"\0", &**name].concat();
                SockAddr::unix(std::ffi::OsStr::from_bytes(&path)).ok()
            }
            Self::Unnamed => None,
        }
    }
}

impl fmt::Display for DatagramPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => {
                SocketAddr::new(address.ip().to_canonical(), address.port()).fmt(f)
            }
            Self::Unix(name) => name.fmt(f),
            Self::Unnamed => f.write_str("unnamed"),
        }
    }
}

// Miri knows no datagram sockets.
#[cfg(test)]
#[cfg(not(miri))]
mod tests;
