//! Options and state of a connected stream socket.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::{RecvFlags, sockopt};
use socket2::{Domain, SockRef, TcpKeepalive};

pub use crate::sys::TcpInfo;

/// Bytes the kernel takes beyond what it has sent already (tcp(7), `TCP_NOTSENT_LOWAT`): more would
/// only be memory.
const NOT_SENT_LOWAT: u32 = 128 << 10;

/// Sets what every TCP connection of adit has: no waiting for small writes to be joined, and a bound
/// on how long a dead peer goes unnoticed.
///
/// Keepalive does not run while data is unacknowledged, and the user timeout (RFC 5482) does not run
/// while there is none; so both are set together. While the user timeout is set it also decides when
/// keepalive gives up. With an idle time of half the limit and an interval of a sixth, a peer that is
/// gone is found within the limit and 1.5 s, whether the connection is idle, has data on the way, or
/// faces a closed window.
///
/// # Errors
/// The socket is no TCP socket, or already reset.
pub fn configure(socket: &impl AsFd, dead_peer: Option<Duration>) -> io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    let socket = SockRef::from(socket);
    socket.set_tcp_notsent_lowat(NOT_SENT_LOWAT)?;
    if let Some(limit) = dead_peer {
        let keepalive = TcpKeepalive::new()
            .with_time(whole_seconds(limit / 2))
            .with_interval(whole_seconds(limit / 6))
            .with_retries(3);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(limit))?;
    }
    Ok(())
}

/// Sends small writes at once, or waits to join them (tcp(7), `TCP_NODELAY`).
///
/// # Errors
/// The socket is no TCP socket.
pub fn set_nodelay(socket: &impl AsFd, nodelay: bool) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(socket, nodelay)?)
}

/// Probes an idle connection after `idle` (whole seconds, at least one), or not at all (tcp(7),
/// `TCP_KEEPIDLE`). [`configure`] sets it too; call this one after it.
///
/// # Errors
/// The socket is no TCP socket.
pub fn set_keepalive(socket: &impl AsFd, idle: Option<Duration>) -> io::Result<()> {
    let socket = SockRef::from(socket);
    match idle {
        Some(idle) => socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(whole_seconds(idle))),
        None => socket.set_keepalive(false),
    }
}

/// Ends a connection whose data is unacknowledged for so long (tcp(7), `TCP_USER_TIMEOUT`), or leaves
/// that to the system. [`configure`] sets it too; call this one after it.
///
/// # Errors
/// The socket is no TCP socket.
pub fn set_user_timeout(socket: &impl AsFd, limit: Option<Duration>) -> io::Result<()> {
    SockRef::from(socket).set_tcp_user_timeout(Some(limit.unwrap_or(Duration::ZERO)))
}

/// Keepalive times are whole seconds to the kernel, at least one.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs().max(1))
}

/// Ends our direction (shutdown(2), `SHUT_WR`): the peer reads an end of stream.
///
/// # Errors
/// The connection is already broken.
pub fn finish(socket: &impl AsFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket, rustix::net::Shutdown::Write)?)
}

/// Lets nothing more in (shutdown(2), `SHUT_RD`). What has come can be read, then the end; on a Unix
/// socket the peer's writes fail from now on.
///
/// # Errors
/// The connection is already broken.
pub fn shut_in(socket: &impl AsFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket, rustix::net::Shutdown::Read)?)
}

/// Makes the coming close a reset (socket(7), `SO_LINGER` with 0): the peer learns that this was no
/// clean end, and what it has not read yet is gone.
///
/// # Errors
/// The socket is not open.
pub fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, Some(Duration::ZERO))?)
}

/// Bytes written that the peer's system has not acknowledged (`SIOCOUTQ`, tcp(7) and unix(7); on a
/// Unix socket: that the peer has not read).
///
/// # Errors
/// The socket is not open or does not tell.
pub fn unacknowledged(socket: &impl AsFd) -> io::Result<usize> {
    let bytes = crate::sys::outgoing_queue(socket.as_fd())?;
    // The end of our direction counts as one byte there (RFC 9293, section 3.4), and cannot be
    // acknowledged before everything in front of it.
    let end = bytes > 0 && tcp_info(socket).is_ok_and(|info| info.end_unacknowledged);
    Ok(bytes - usize::from(end))
}

/// Bytes received that nobody has read yet (`FIONREAD`). On a datagram socket: length of the next
/// datagram.
///
/// # Errors
/// The socket is not open.
pub fn unread(socket: &impl AsFd) -> io::Result<usize> {
    let bytes = rustix::io::ioctl_fionread(socket)?;
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Looks at the bytes that have come, and leaves them to be read.
///
/// # Errors
/// None have come, or the connection is broken.
pub fn peek(socket: &impl AsFd, into: &mut [u8]) -> io::Result<usize> {
    let (bytes, _) = rustix::net::recv(socket, into, RecvFlags::PEEK)?;
    Ok(bytes)
}

/// The kernel's view of a TCP connection (tcp(7), `TCP_INFO`).
///
/// # Errors
/// The socket is no TCP socket.
pub fn tcp_info(socket: &impl AsFd) -> io::Result<TcpInfo> {
    crate::sys::tcp_info(socket.as_fd())
}

/// The error the kernel keeps for the socket, which reading it removes (socket(7), `SO_ERROR`).
///
/// # Errors
/// The socket is not open.
pub fn take_error(socket: &impl AsFd) -> io::Result<Option<io::Error>> {
    match sockopt::socket_error(socket)? {
        Ok(()) => Ok(None),
        Err(error) => Ok(Some(error.into())),
    }
}

/// Options an address may carry; what is not set stays as the system has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain settings, built with ..Default::default()")]
pub struct Options {
    /// Send buffer in bytes (socket(7), `SO_SNDBUF`; the kernel doubles it).
    pub send_buffer: Option<usize>,
    /// Receive buffer in bytes (socket(7), `SO_RCVBUF`; the kernel doubles it).
    pub receive_buffer: Option<usize>,
    /// Hops a packet may make (ip(7), `IP_TTL`; ipv6(7), `IPV6_UNICAST_HOPS`).
    pub ttl: Option<u32>,
    /// Type of service (ip(7), `IP_TOS`; RFC 3542, section 6.5, `IPV6_TCLASS`).
    pub tos: Option<u8>,
    /// May datagrams be broadcast (socket(7), `SO_BROADCAST`)?
    pub broadcast: bool,
}

impl Options {
    /// Sets the options on a socket, before it is connected or bound.
    ///
    /// # Errors
    /// An option does not fit the socket or is out of range.
    pub fn apply(&self, socket: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        // An IPv6 socket has both: one for its own family, one for IPv4-mapped peers.
        let is_v6 = socket.domain()? == Domain::IPV6;
        if let Some(hops) = self.ttl {
            socket.set_ttl_v4(hops)?;
            if is_v6 {
                socket.set_unicast_hops_v6(hops)?;
            }
        }
        if let Some(tos) = self.tos {
            socket.set_tos_v4(u32::from(tos))?;
            if is_v6 {
                socket.set_tclass_v6(u32::from(tos))?;
            }
        }
        if self.broadcast {
            socket.set_broadcast(true)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        configure, finish, reset_on_close, set_keepalive, set_nodelay, set_user_timeout, tcp_info,
        unacknowledged, unread,
    };
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the queues nor these options of a socket")]
    fn unread_bytes_are_counted_on_the_receiving_side() {
        let (mut client, server) = pair();
        client.write_all(&[7; 1000]).unwrap();
        while unread(&server).unwrap() < 1000 {
            std::thread::yield_now();
        }
        assert_eq!(unread(&server).unwrap(), 1000);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the queues nor these options of a socket")]
    fn a_peer_that_does_not_read_leaves_bytes_unacknowledged() {
        let (client, _server) = pair();
        client.set_nonblocking(true).unwrap();
        while (&client).write(&[0; 65536]).is_ok() {}
        assert!(unacknowledged(&client).unwrap() > 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the queues nor these options of a socket")]
    fn the_end_of_our_direction_is_not_counted_as_a_byte() {
        // The peer takes nothing: its window is closed, the end waits behind what is unsent.
        let (client, _server) = pair();
        client.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(bytes) = (&client).write(&[0; 65536]) {
            sent += bytes;
        }
        let before = unacknowledged(&client).unwrap();
        finish(&client).unwrap();
        let after = unacknowledged(&client).unwrap();
        assert!(after <= before && after <= sent, "{before} {after} {sent}");
    }

    #[test]
    fn a_finished_direction_leaves_the_other_one_open() {
        let (client, mut server) = pair();
        finish(&client).unwrap();
        assert_eq!(server.read(&mut [0; 9]).unwrap(), 0);
        server.write_all(b"late").unwrap();
        let mut answer = [0; 4];
        (&client).read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"late");
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the queues nor these options of a socket")]
    fn a_reset_is_seen_as_one() {
        let (client, mut server) = pair();
        reset_on_close(&client).unwrap();
        drop(client);
        assert_eq!(server.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the queues nor these options of a socket")]
    fn both_watches_for_dead_peers_are_set_together() {
        let (client, _server) = pair();
        configure(&client, Some(Duration::from_secs(30))).unwrap();
        let socket = socket2::SockRef::from(&client);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
        assert!(client.nodelay().unwrap());
        assert!(tcp_info(&client).unwrap().established);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the queues nor these options of a socket")]
    fn on_a_unix_socket_what_the_peer_has_not_read_is_unacknowledged() {
        let (mut client, mut server) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(unacknowledged(&client).unwrap(), 0);
        client.write_all(&[7; 1000]).unwrap();
        assert_eq!(unread(&server).unwrap(), 1000);
        // The kernel counts its own memory too.
        assert!(unacknowledged(&client).unwrap() >= 1000);
        server.read_exact(&mut [0; 1000]).unwrap();
        assert_eq!((unread(&server).unwrap(), unacknowledged(&client).unwrap()), (0, 0));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the queues nor these options of a socket")]
    fn all_that_arrived_is_acknowledged() {
        let (mut client, mut server) = pair();
        client.write_all(&[7; 1000]).unwrap();
        server.read_exact(&mut [0; 1000]).unwrap();
        while unacknowledged(&client).unwrap() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the queues nor these options of a socket")]
    fn a_closed_window_is_seen() {
        let (client, _server) = pair();
        assert!(tcp_info(&client).unwrap().send_window.is_none_or(|bytes| bytes > 0));
        client.set_nonblocking(true).unwrap();
        while tcp_info(&client).unwrap().send_window.is_some_and(|bytes| bytes > 0) {
            drop((&client).write(&[0; 65536]));
        }
        let info = tcp_info(&client).unwrap();
        assert!(info.established && info.state == 1, "{info:?}");
        assert!(info.rtt_us > 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows neither the queues nor these options of a socket")]
    fn single_options_replace_those_set_together() {
        let (client, _server) = pair();
        configure(&client, Some(Duration::from_secs(30))).unwrap();
        let socket = socket2::SockRef::from(&client);
        set_nodelay(&client, false).unwrap();
        assert!(!client.nodelay().unwrap());
        set_keepalive(&client, Some(Duration::from_secs(7))).unwrap();
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
        set_keepalive(&client, None).unwrap();
        assert!(!socket.keepalive().unwrap());
        set_user_timeout(&client, Some(Duration::from_secs(9))).unwrap();
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(9)));
        set_user_timeout(&client, None).unwrap();
        assert!(socket.tcp_user_timeout().unwrap().is_none_or(|limit| limit.is_zero()));
    }
}
