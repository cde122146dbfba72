//! Endpoint: one end of a conversation, as it is printed and compared.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Transport {
    /// A TCP connection: ordered bytes without edges.
    Tcp,
    /// UDP datagrams: edges are kept; loss, order and doubling are not excluded.
    Udp,
    /// A Unix stream socket.
    Unix,
    /// A Unix datagram socket.
    UnixDatagram,
    /// Two ends in one process, for tests.
    Memory,
}

impl Transport {
    /// The word in addresses, events and messages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::UnixDatagram => "unix-dgram",
            Self::Memory => "memory",
        }
    }

    /// Does it keep the edges of messages?
    pub const fn is_datagram(self) -> bool {
        matches!(self, Self::Udp | Self::UnixDatagram)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The place of an endpoint within its transport.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Place {
    /// IP address and port.
    Ip(SocketAddr),
    /// A Unix socket in the file system; the bytes of its path.
    Path(Box<[u8]>),
    /// A Unix socket in the abstract namespace (unix(7)); its name without the leading NUL.
    Abstract(Box<[u8]>),
    /// A socket without a name, as most Unix clients have.
    Unnamed,
}

/// One end of a conversation: a transport and a place. IPv4-mapped IPv6 addresses are kept as IPv4.
///
/// ```
/// use adit_proto::endpoint::{Endpoint, Transport};
/// let end = Endpoint::ip(Transport::Tcp, "[::ffff:10.0.0.1]:80".parse().unwrap());
/// assert_eq!(end.to_string(), "tcp 10.0.0.1:80");
/// assert_eq!(end.place_text(), "10.0.0.1:80");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    transport: Transport,
    place: Place,
}

impl Endpoint {
    /// An endpoint with an IP address.
    pub fn ip(transport: Transport, address: SocketAddr) -> Self {
        let plain = SocketAddr::new(address.ip().to_canonical(), address.port());
        // The zone of a link-local IPv6 address must not get lost.
        let kept = if plain.ip() == address.ip() { address } else { plain };
        Self { transport, place: Place::Ip(kept) }
    }

    /// An endpoint with another kind of name.
    pub fn named(transport: Transport, place: Place) -> Self {
        match place {
            Place::Ip(address) => Self::ip(transport, address),
            place => Self { transport, place },
        }
    }

    /// How bytes travel.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// Where it is.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// IP address and port, if it has them.
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        match self.place {
            Place::Ip(address) => Some(address),
            _ => None,
        }
    }

    /// The place alone, safe to print: control bytes in a Unix name are escaped.
    pub fn place_text(&self) -> String {
        match &self.place {
            Place::Ip(address) => address.to_string(),
            Place::Path(path) => path.escape_ascii().to_string(),
            Place::Abstract(name) => format!("@{}", name.escape_ascii()),
            Place::Unnamed => "unnamed".to_owned(),
        }
    }

    /// Who can reach a server that listens here.
    pub fn reach(&self) -> Reach {
        match &self.place {
            Place::Ip(address) if address.ip().is_loopback() => Reach::Loopback,
            Place::Ip(address) if address.ip().is_unspecified() => Reach::All,
            Place::Ip(address) if is_private(address.ip()) => Reach::Lan,
            Place::Ip(_) => Reach::All,
            _ => Reach::Host,
        }
    }
}

/// Private and link-local ranges: RFC 1918, RFC 3927, RFC 4193, RFC 4291 section 2.5.6.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transport, self.place_text())
    }
}

/// Who can reach a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reach {
    /// Programs on this machine, over the loopback interface.
    Loopback,
    /// Programs on this machine, over the file system or the abstract namespace.
    Host,
    /// The private network of one interface.
    Lan,
    /// Every network this machine is in.
    All,
}

impl Reach {
    /// The word in events.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Host => "host",
            Self::Lan => "lan",
            Self::All => "all",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Place, Reach, Transport};

    fn reach(address: &str) -> Reach {
        Endpoint::ip(Transport::Tcp, address.parse().unwrap()).reach()
    }

    #[test]
    fn reach_is_told_by_the_address() {
        assert_eq!(reach("127.0.0.5:1"), Reach::Loopback);
        assert_eq!(reach("[::1]:1"), Reach::Loopback);
        assert_eq!(reach("[::]:1"), Reach::All);
        assert_eq!(reach("192.168.1.2:1"), Reach::Lan);
        assert_eq!(reach("8.8.8.8:1"), Reach::All);
    }

    #[test]
    fn a_hostile_unix_name_prints_as_text() {
        let place = Place::Abstract(b"a\x1b[2Jb".as_slice().into());
        let end = Endpoint::named(Transport::Unix, place);
        assert_eq!(end.to_string(), "unix @a\\x1b[2Jb");
    }
}
