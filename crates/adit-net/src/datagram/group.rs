//! Binding UDP: one socket per I/O thread, and nobody else on the port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, SockRef, Socket, Type};

use crate::listen::LOOPBACK_TRIES;
use crate::stream::Options;
use crate::sys::{Switch, switch_on};

/// Receive buffer asked for: bursts of some thousand small datagrams. The kernel caps it by
/// `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Binds `sockets` UDP sockets to one address, at least one, each a share of the peers.
///
/// The kernel spreads peers over the sockets of a group by a hash of their address, so that a peer
/// stays with its socket. The first is bound alone, and only then is sharing allowed: a foreign server
/// on the port is met as "address in use", and can never join.
///
/// # Errors
/// The address is taken, not ours or not permitted.
pub fn udp_group(
    address: SocketAddr,
    sockets: usize,
    v6only: bool,
    options: &Options,
) -> io::Result<Vec<UdpSocket>> {
    let first = new_socket(address, v6only, options)?;
    first.bind(&address.into())?;
    let bound = first.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    first.set_reuse_port(true)?;
    let mut group = vec![UdpSocket::from(first)];
    for _ in 1..sockets {
        let socket = new_socket(address, v6only, options)?;
        socket.set_reuse_port(true)?;
        socket.bind(&bound.into())?;
        group.push(socket.into());
    }
    Ok(group)
}

fn new_socket(address: SocketAddr, v6only: bool, options: &Options) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(v6only)?;
    }
    tell_all(&socket, address.is_ipv6(), address.is_ipv4() || !v6only)?;
    // A smaller buffer than asked for is no reason not to serve.
    drop(socket.set_recv_buffer_size(RECEIVE_BUFFER));
    options.apply(&socket)?;
    Ok(socket)
}

/// Makes a UDP socket that somebody else has opened tell what those made here do.
///
/// # Errors
/// The socket is not one of IPv4 or IPv6.
pub fn adopt(socket: &UdpSocket) -> io::Result<()> {
    let is_v6 = socket.local_addr()?.is_ipv6();
    let socket = SockRef::from(socket);
    tell_all(&socket, is_v6, !is_v6 || !socket.only_v6()?)
}

/// Which address a datagram came to, and what became of those that were sent.
fn tell_all(socket: &Socket, of_v6: bool, of_v4: bool) -> io::Result<()> {
    if of_v6 {
        switch_on(socket, Switch::PacketInfo6)?;
        switch_on(socket, Switch::Errors6)?;
    }
    if of_v4 {
        // On a socket for both families only IPv4's own packet info names an address to answer from
        // when the datagram came as a broadcast.
        switch_on(socket, Switch::PacketInfo4)?;
        switch_on(socket, Switch::Errors4)?;
    }
    Ok(())
}

/// Binds both loopback addresses to one port: IPv4 first, then IPv6 if this host has it. Port 0
/// finds a port that is free for both.
///
/// # Errors
/// As [`udp_group`].
pub fn udp_loopback(
    port: u16,
    sockets: usize,
    options: &Options,
) -> io::Result<Vec<Vec<UdpSocket>>> {
    let mut tries = 0;
    loop {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let first = udp_group(v4, sockets, false, options)?;
        let bound = first[0].local_addr()?.port();
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, bound));
        match udp_group(v6, sockets, true, options) {
            Ok(second) => return Ok(vec![first, second]),
            Err(error) if crate::listen::has_no_ipv6(&error) => return Ok(vec![first]),
            Err(_) if port == 0 && tries < LOOPBACK_TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Binds a port on every address of both families.
///
/// # Errors
/// As [`udp_group`].
pub fn udp_any(port: u16, sockets: usize, options: &Options) -> io::Result<Vec<UdpSocket>> {
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match udp_group(v6, sockets, false, options) {
        Err(error) if crate::listen::has_no_ipv6(&error) => {
            let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
            udp_group(v4, sockets, false, options)
        }
        group => group,
    }
}

/// Is this an address of this host, whatever the port? Where that cannot be found out, it is taken for
/// one.
pub fn is_own_address(mut address: SocketAddr) -> bool {
    address.set_port(0);
    match UdpSocket::bind(address) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

/// What [`DatagramSocket::connected`](super::DatagramSocket::connected) binds and connects.
pub(super) fn connected(
    peer: SocketAddr,
    source: Option<SocketAddr>,
    options: &Options,
) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    drop(socket.set_recv_buffer_size(RECEIVE_BUFFER));
    options.apply(&socket)?;
    if let Some(source) = source {
        socket.bind(&source.into())?;
    }
    socket.connect(&peer.into())?;
    Ok(socket.into())
}
