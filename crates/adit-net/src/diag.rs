//! Diag: TCP sockets of this host that listen, asked of the kernel (`sock_diag(7)`).
//!
//! The table of all sockets, /proc/net/tcp, takes a quarter of a second where 30,000 connections wait out
//! their end; this looks at the listeners of one port alone. Whoever may not ask is told of none.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

/// A TCP socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listener {
    /// Where it is bound.
    pub address: SocketAddr,
    /// It is one of IPv6 that takes no IPv4 (ipv6(7), `IPV6_V6ONLY`).
    pub only_v6: bool,
}

impl Listener {
    /// Does it hear who connects to this address?
    fn hears(&self, at: SocketAddr) -> bool {
        let (here, there) = (self.address.ip().to_canonical(), at.ip().to_canonical());
        let is_everywhere = self.address.ip().is_unspecified();
        let of_family = here.is_ipv4() == there.is_ipv4() || (there.is_ipv4() && !self.only_v6);
        self.address.port() == at.port() && (here == there || (is_everywhere && of_family))
    }
}

/// Does a socket of this host listen at this address? False also if that cannot be told.
pub fn is_listening(at: SocketAddr) -> bool {
    let listeners = listeners(at.port()).unwrap_or_default();
    listeners.iter().any(|listener| listener.hears(at))
}

/// TCP sockets that listen on a port, at most 64.
///
/// # Errors
/// The kernel does not tell, or not this process.
pub fn listeners(port: u16) -> io::Result<Vec<Listener>> {
    let mut found = Vec::new();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        ask(family, port, &mut found)?;
    }
    Ok(found)
}

/// Most that are told.
const LISTENERS_MAX: usize = 64;
/// What the kernel sends at once (netlink(7)).
const DATAGRAM_BYTES: usize = 32 << 10;
/// The kernel answers at once, or never will.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

fn ask(family: AddressFamily, port: u16, found: &mut Vec<Listener>) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(SOCK_DIAG))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(&socket, &request(family, port), SendFlags::empty(), &kernel)?;
    let mut datagram = vec![0; DATAGRAM_BYTES];
    loop {
        let (bytes, _) = recv(&socket, &mut *datagram, RecvFlags::empty())?;
        let told = datagram.get(..bytes).unwrap_or_default();
        let is_over = read(told, found)? == Told::All || found.len() >= LISTENERS_MAX;
        found.truncate(LISTENERS_MAX);
        if is_over {
            return Ok(());
        }
    }
}

// linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h.
const HEADER_BYTES: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u8 = 10;
/// A socket in an answer, in front of its attributes.
const SOCKET_BYTES: usize = 72;
const INET_DIAG_SKV6ONLY: u16 = 11;

/// `struct inet_diag_req_v2` behind its header: all that listen on the port.
fn request(family: AddressFamily, port: u16) -> Vec<u8> {
    const BYTES: u32 = 72;
    let mut request = Vec::with_capacity(BYTES as usize);
    request.extend_from_slice(&BYTES.to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    // Number of the request and of who asks: one at a time, by a socket of its own.
    request.extend_from_slice(&[0; 8]);
    let family = u8::try_from(family.as_raw()).unwrap_or_default();
    request.extend_from_slice(&[family, IPPROTO_TCP, 0, 0]);
    request.extend_from_slice(&(1_u32 << TCP_LISTEN).to_ne_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    // Any peer, any address, any interface.
    request.resize(BYTES as usize, 0);
    request
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    More,
    All,
}

/// Takes the sockets out of a datagram of the kernel.
fn read(mut told: &[u8], found: &mut Vec<Listener>) -> io::Result<Told> {
    while let Some((header, _)) = told.split_at_checked(HEADER_BYTES) {
        let length = u32_at(header, 0).unwrap_or_default() as usize;
        let Some(body) = told.get(HEADER_BYTES..length) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match u16_at(header, 4) {
            Some(NLMSG_DONE) => return Ok(Told::All),
            Some(NLMSG_ERROR) => {
                let error = u32_at(body, 0).unwrap_or_default().cast_signed();
                return Err(io::Error::from_raw_os_error(error.wrapping_neg()));
            }
            Some(SOCK_DIAG_BY_FAMILY) => found.extend(listener(body)),
            _ => {}
        }
        told = told.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Told::More)
}

/// `struct inet_diag_msg` and its attributes.
fn listener(body: &[u8]) -> Option<Listener> {
    let (socket, mut attributes) = body.split_at_checked(SOCKET_BYTES)?;
    let (family, state) = (*socket.first()?, *socket.get(1)?);
    let port = u16::from_be_bytes(*socket.get(4..)?.first_chunk()?);
    let ip: IpAddr = if AddressFamily::from_raw(family.into()) == AddressFamily::INET6 {
        Ipv6Addr::from(*socket.get(8..)?.first_chunk::<16>()?).into()
    } else {
        Ipv4Addr::from(*socket.get(8..)?.first_chunk::<4>()?).into()
    };
    let mut only_v6 = false;
    // Each is its length, its kind, and its value.
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        if kind == INET_DIAG_SKV6ONLY {
            only_v6 = attributes.get(4).is_some_and(|value| *value != 0);
        }
        let length = usize::from(length).next_multiple_of(4).max(4);
        attributes = attributes.get(length..).unwrap_or_default();
    }
    let address = SocketAddr::new(ip, port);
    (state == TCP_LISTEN).then_some(Listener { address, only_v6 })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::{Listener, Told, is_listening, listeners, read};
    use proptest::prelude::*;
    use socket2::{Domain, Socket, Type};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    fn listening(at: SocketAddr, only_v6: Option<bool>) -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
        if let Some(only) = only_v6 {
            socket.set_only_v6(only).unwrap();
        }
        socket.bind(&at.into()).unwrap();
        socket.listen(1).unwrap();
        let at = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, at)
    }

    /// Some systems tell nobody of their sockets.
    fn is_told() -> bool {
        let told = listeners(1);
        if let Err(error) = &told {
            eprintln!("skipped: the kernel does not tell who listens: {error}");
        }
        told.is_ok()
    }

    #[test]
    fn a_listener_is_seen_where_it_listens_and_nowhere_else() {
        if !is_told() {
            return;
        }
        let (socket, at) = listening((Ipv4Addr::LOCALHOST, 0).into(), None);
        assert_eq!(listeners(at.port()).unwrap(), [Listener { address: at, only_v6: false }]);
        assert!(is_listening(at));
        for elsewhere in [
            SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), at.port())),
            (Ipv6Addr::LOCALHOST, at.port()).into(),
        ] {
            assert!(!is_listening(elsewhere), "{elsewhere}");
        }
        drop(socket);
        assert!(!is_listening(at));
    }

    #[test]
    fn a_socket_of_ipv6_takes_ipv4_unless_it_was_told_not_to() {
        if !is_told() {
            return;
        }
        for only in [false, true] {
            let (_socket, at) = listening((Ipv6Addr::UNSPECIFIED, 0).into(), Some(only));
            assert!(is_listening((Ipv6Addr::LOCALHOST, at.port()).into()));
            assert_eq!(is_listening((Ipv4Addr::LOCALHOST, at.port()).into()), !only);
        }
    }

    #[test]
    fn a_connection_is_no_listener() {
        let (socket, at) = listening((Ipv4Addr::LOCALHOST, 0).into(), None);
        let client = std::net::TcpStream::connect(at).unwrap();
        assert!(!is_listening(client.local_addr().unwrap()));
        drop(socket);
    }

    proptest! {
        #[test]
        fn nothing_that_is_told_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut found = Vec::new();
            drop(read(&bytes, &mut found));
            prop_assert!(found.len() <= 300 / 72);
        }
    }

    #[test]
    fn a_message_that_is_cut_off_is_an_error_and_an_end_is_one() {
        let header = |length: u32, kind: u16| {
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat()
        };
        assert!(read(&header(17, 3), &mut Vec::new()).is_err());
        assert_eq!(read(&header(16, 3), &mut Vec::new()).unwrap(), Told::All);
        assert_eq!(read(&header(16, 9), &mut Vec::new()).unwrap(), Told::More);
        let refused = [header(20, 2), (-1_i32).to_ne_bytes().to_vec()].concat();
        assert_eq!(read(&refused, &mut Vec::new()).unwrap_err().raw_os_error(), Some(1));
    }
}
