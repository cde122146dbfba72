//! Connecting stream sockets.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpStream, UnixStream};

use crate::stream::Options;
use crate::sys::{Switch, switch_on};
use crate::unix::UnixName;

/// From where to connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain settings, built with ..Default::default()")]
pub struct Source {
    /// Our address; the kernel chooses when there is none.
    pub address: Option<IpAddr>,
    /// Our port; the kernel chooses when there is none.
    pub port: Option<u16>,
}

impl Source {
    /// The address to bind for a peer, if anything is asked for.
    pub fn bind_address(&self, peer: SocketAddr) -> Option<SocketAddr> {
        if self.address.is_none() && self.port.is_none() {
            return None;
        }
        let any: IpAddr = match peer {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Some(SocketAddr::new(self.address.unwrap_or(any), self.port.unwrap_or(0)))
    }
}

/// The connection turned out to be with itself: on a port of the dynamic range that nobody listens
/// on, the kernel may choose the very same port as ours (RFC 9293, section 3.5, simultaneous open).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SelfConnect;

impl fmt::Display for SelfConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is with itself: nothing listens there")
    }
}

impl std::error::Error for SelfConnect {}

/// Makes a socket that can connect to a peer.
///
/// # Errors
/// As socket(2), setsockopt(2) and bind(2).
pub fn socket(peer: SocketAddr, source: Source, options: &Options) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    options.apply(&socket)?;
    if let Some(address) = source.bind_address(peer) {
        if address.port() == 0 {
            // The port is chosen at connect, when the kernel knows the peer: ports that are busy
            // with other peers can then be used (ip(7)).
            choose_port_at_connect(&socket)?;
        } else {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&address.into())?;
    }
    Ok(socket.into())
}

/// Connects to one address.
///
/// # Errors
/// As connect(2); [`SelfConnect`] inside an error of kind `ConnectionRefused`.
///
/// # Cancel safety
/// A dropped call closes the socket.
pub async fn tcp(socket: OwnedFd, peer: SocketAddr) -> io::Result<TcpStream> {
    let stream = connected(socket.into(), peer).await?;
    if stream.local_addr().is_ok_and(|local| local == peer) {
        // Closed by a reset, else the port stays busy with a connection to itself.
        crate::stream::reset_on_close(&stream)?;
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, SelfConnect));
    }
    Ok(stream)
}

/// Connects, and leaves a reset that comes right behind the handshake to who reads.
///
/// tokio's own `connect` asks for the error of the socket (`SO_ERROR`), which takes it away: a peer that
/// answers and resets at once would look as if it had never been there, and its answer would be lost.
async fn connected(socket: Socket, peer: SocketAddr) -> io::Result<TcpStream> {
    match socket.connect(&peer.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
        _ => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    stream.writable().await?;
    // Without a peer it is over, or never was; either way nothing more can come.
    if stream.peer_addr().is_ok() || crate::stream::unread(&stream)? > 0 {
        return Ok(stream);
    }
    Err(stream.take_error()?.unwrap_or_else(|| io::ErrorKind::NotConnected.into()))
}

fn choose_port_at_connect(socket: &Socket) -> io::Result<()> {
    match switch_on(socket, Switch::BindAddressNoPort) {
        // Older kernels choose the port at bind.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOPROTOOPT) => Ok(()),
        result => result,
    }
}

/// Connects to a Unix stream socket.
///
/// A server whose queue of waiting connections is full is waited for, as over TCP.
///
/// # Errors
/// As connect(2): "not found" without such a file, "refused" if nobody listens.
///
/// # Cancel safety
/// A dropped call closes the socket.
pub async fn unix(name: &UnixName) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = match name {
        UnixName::Path(_) => SocketAddrUnix::new(name.path().ok_or(io::ErrorKind::InvalidInput)?)?,
        UnixName::Abstract(name) => SocketAddrUnix::new_abstract_name(name)?,
    };
    let mut pause = Duration::from_millis(1);
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return UnixStream::from_std(socket.into()),
            Err(Errno::INTR) => {}
            // The queue is full, and no event tells of room in it (unix(7), connect(2) `EAGAIN`).
            Err(Errno::AGAIN) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Process, user and group at the other end of a Unix socket, as they were when it connected
/// (unix(7), `SO_PEERCRED`).
///
/// The process is 0 if it cannot be seen from here, as from outside of a container's namespace.
///
/// # Errors
/// The socket is no Unix socket.
pub fn peer_credentials(socket: &impl AsFd) -> io::Result<(i32, u32, u32)> {
    crate::sys::peer_credentials(socket.as_fd())
}

// Miri knows neither Unix sockets nor half of the options.
#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::{SelfConnect, Source, peer_credentials, unix};
    use crate::stream::Options;
    use crate::unix::UnixName;
    use std::io::{ErrorKind, Write as _};
    use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener};
    use std::task::{Context, Waker};
    use std::time::Duration;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    async fn tcp(
        peer: SocketAddr,
        source: Source,
        options: &Options,
    ) -> std::io::Result<TcpStream> {
        super::tcp(super::socket(peer, source, options)?, peer).await
    }

    #[test]
    fn the_source_address_is_the_one_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let source = Source { address: Some(IpAddr::from([127, 0, 0, 5])), port: None };
        let stream =
            block_on(tcp(listener.local_addr().unwrap(), source, &Options::default())).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 5]));
    }

    /// Row 27 of docs/reliability.md: tries to connect to a port of the dynamic range on which nobody
    /// listens, and how many of them may look as if somebody did.
    const TRIES: usize = 60_000;
    const FALSE_CONNECTIONS: usize = 0;

    #[test]
    fn row_27_no_connection_with_itself_is_taken_for_one_with_a_server() {
        // An address of the test's own, so that nobody begins to listen there meanwhile. The kernel gives
        // out ports of one parity first, that of the lowest: such a one is asked for.
        let [high, low] = u16::try_from(std::process::id() & 0x7fff).unwrap().to_be_bytes();
        let own = IpAddr::from([127, high + 1, low, 27]);
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
        let peer = SocketAddr::new(own, first + 2000);
        let source = Source { address: Some(own), port: None };
        let (mut own_ends, mut connected) = (0, 0);
        block_on(async {
            for _ in 0..TRIES {
                match tcp(peer, source, &Options::default()).await {
                    Ok(_) => connected += 1,
                    Err(error)
                        if error.get_ref().is_some_and(|inner| inner.is::<SelfConnect>()) =>
                    {
                        own_ends += 1;
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
                }
            }
        });
        assert_eq!(connected, FALSE_CONNECTIONS);
        eprintln!("connected to itself {own_ends} times in {TRIES}");
    }

    #[test]
    fn a_connection_with_itself_is_refused_by_name() {
        // A free port, taken as source and as peer: the simultaneous open made certain.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let source = Source { address: Some(free.ip()), port: Some(free.port()) };
        let error = block_on(tcp(free, source, &Options::default())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.get_ref().is_some_and(|inner| inner.is::<SelfConnect>()));
    }

    #[test]
    fn nobody_there_is_refused() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, free.port()));
        let error = block_on(tcp(peer, Source::default(), &Options::default())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn what_a_peer_says_right_before_it_resets_is_read_and_then_the_reset() {
        for ends_first in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            block_on(async {
                let options = Options::default();
                let mut connecting = std::pin::pin!(tcp(address, Source::default(), &options));
                let mut context = Context::from_waker(Waker::noop());
                assert!(connecting.as_mut().poll(&mut context).is_pending());
                // All of this happens before anybody looks whether the connection is there.
                let (mut peer, _) = listener.accept().unwrap();
                peer.write_all(b"part").unwrap();
                if ends_first {
                    peer.shutdown(Shutdown::Write).unwrap();
                }
                crate::stream::reset_on_close(&peer).unwrap();
                drop(peer);
                let mut stream = connecting.await.unwrap();
                let mut heard = [0; 4];
                stream.read_exact(&mut heard).await.unwrap();
                assert_eq!(&heard, b"part");
                let end = stream.read(&mut heard).await.map_err(|error| error.kind());
                if ends_first {
                    let error = stream.take_error().unwrap().map(|error| error.kind());
                    assert_eq!((end, error), (Ok(0), Some(ErrorKind::BrokenPipe)));
                } else {
                    assert_eq!(end, Err(ErrorKind::ConnectionReset));
                }
            });
        }
    }

    #[test]
    fn a_full_unix_server_is_waited_for_without_holding_up_the_thread() {
        let name = format!("adit-full-{}", std::process::id());
        let name = UnixName::Abstract(name.as_bytes().into());
        let (listener, _) = crate::listen::unix(&name, 0o600).unwrap();
        // As small as it gets: one connection waits, the next one finds the queue full.
        rustix::net::listen(&listener, 0).unwrap();
        block_on(async {
            let _first = unix(&name).await.unwrap();
            let mut second = std::pin::pin!(unix(&name));
            let limit = Duration::from_millis(20);
            assert!(tokio::time::timeout(limit, &mut second).await.is_err());
            listener.accept().unwrap();
            tokio::time::timeout(Duration::from_secs(10), second).await.unwrap().unwrap();
        });
    }

    #[test]
    fn nobody_behind_a_unix_name_is_told_apart() {
        block_on(async {
            let gone = unix(&UnixName::Abstract(b"adit-nobody".as_slice().into())).await;
            assert_eq!(gone.unwrap_err().kind(), ErrorKind::ConnectionRefused);
            let missing = unix(&UnixName::Path(b"/nonexistent/s".as_slice().into())).await;
            assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
            let too_long = unix(&UnixName::Path([b'x'; 108].as_slice().into())).await;
            assert!(too_long.is_err());
        });
    }

    #[test]
    fn the_peer_of_a_unix_socket_is_known() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (pid, uid, _gid) = peer_credentials(&ours).unwrap();
        assert_eq!(u32::try_from(pid).unwrap(), std::process::id());
        assert_eq!(uid, rustix::process::geteuid().as_raw());
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(peer_credentials(&tcp).is_err_and(|error| error.raw_os_error().is_some()));
    }
}
