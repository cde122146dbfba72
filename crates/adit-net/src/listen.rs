//! Listening sockets: TCP in both families, Unix by path or abstract name.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;

use socket2::{Domain, SockRef, Socket, Type};

use crate::stream::Options;
pub use crate::unix_file::{SocketFile, unix, unix_datagram};

/// Connections the kernel queues before accept; the kernel caps it by `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;
/// How often a port that is free for both loopback addresses is looked for.
pub(crate) const LOOPBACK_TRIES: u32 = 16;

/// Listens on one address. `v6only` says whether an IPv6 wildcard leaves IPv4 alone.
///
/// A port whose last connections are still in `TIME_WAIT` can be taken again at once (socket(7),
/// `SO_REUSEADDR`); one that somebody listens on cannot.
///
/// # Errors
/// The address is taken, not ours or not permitted.
pub fn tcp(address: SocketAddr, v6only: bool, options: &Options) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(v6only)?;
    }
    options.apply(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Listens on both loopback addresses under one port: IPv4 first, then IPv6 if this host has it.
/// Port 0 finds a port that is free for both.
///
/// # Errors
/// As [`tcp`].
pub fn tcp_loopback(port: u16, options: &Options) -> io::Result<Vec<TcpListener>> {
    let mut tries = 0;
    loop {
        let first = tcp((Ipv4Addr::LOCALHOST, port).into(), false, options)?;
        let bound = first.local_addr()?.port();
        match tcp((Ipv6Addr::LOCALHOST, bound).into(), true, options) {
            Ok(second) => return Ok(vec![first, second]),
            Err(error) if has_no_ipv6(&error) => return Ok(vec![first]),
            Err(_) if port == 0 && tries < LOOPBACK_TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Listens on every address of both families: one socket for both, or IPv4 alone on a host without
/// IPv6.
///
/// # Errors
/// As [`tcp`].
pub fn tcp_any(port: u16, options: &Options) -> io::Result<TcpListener> {
    match tcp((Ipv6Addr::UNSPECIFIED, port).into(), false, options) {
        Err(error) if has_no_ipv6(&error) => {
            tcp((Ipv4Addr::UNSPECIFIED, port).into(), false, options)
        }
        listener => listener,
    }
}

/// Is the socket one for IPv6 and never for IPv4 (ipv6(7), `IPV6_V6ONLY`)? No if it cannot be told.
pub fn is_v6_only(socket: &impl AsFd) -> bool {
    SockRef::from(socket).only_v6().unwrap_or(false)
}

/// Does the error say that this host has no IPv6, or none on loopback?
pub(crate) fn has_no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::PROTONOSUPPORT)
    )
}

// Miri knows no options of listening sockets.
#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::{tcp, tcp_any, tcp_loopback};
    use crate::stream::Options;
    use std::io::ErrorKind;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

    #[test]
    fn loopback_gives_both_families_one_port() {
        let listeners = tcp_loopback(0, &Options::default()).unwrap();
        let ports: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0]));
    }

    #[test]
    fn a_wildcard_is_reached_over_ipv4() {
        let listener = tcp_any(0, &Options::default()).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_in_use() {
        let first = tcp((Ipv4Addr::LOCALHOST, 0).into(), false, &Options::default()).unwrap();
        let again = tcp(first.local_addr().unwrap(), false, &Options::default());
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn hops_and_type_of_service_hold_for_both_families() {
        let options = Options { ttl: Some(7), tos: Some(0x20), ..Options::default() };
        for address in [
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        ] {
            let listener = match tcp(address, false, &options) {
                Err(error) if address.is_ipv6() && super::has_no_ipv6(&error) => continue,
                listener => listener.unwrap(),
            };
            let socket = socket2::SockRef::from(&listener);
            assert_eq!(
                (socket.ttl_v4().unwrap(), socket.tos_v4().unwrap()),
                (7, 0x20),
                "{address}"
            );
            if address.is_ipv6() {
                assert_eq!(socket.unicast_hops_v6().unwrap(), 7, "{address}");
                assert_eq!(socket.tclass_v6().unwrap(), 0x20, "{address}");
            }
        }
    }
}
