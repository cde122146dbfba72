//! Passed: sockets that another process has opened and left to this one (`sd_listen_fds(3)`).
//!
//! Whoever starts this process holds them too, so that clients who come while it is not there wait in
//! the kernel's queue. They come without close-on-exec, which is set before anything else is done.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener};

use socket2::{Domain, Protocol, SockRef, Type};

use crate::datagram::adopt;
use crate::sys;

/// The first descriptor that is passed (`sd_listen_fds(3)`, `SD_LISTEN_FDS_START`).
pub const FIRST: RawFd = 3;

/// What the environment says about passed descriptors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Announced {
    /// Names by descriptor, from [`FIRST`] on. Several may have one name.
    pub names: Vec<String>,
}

/// Why the environment does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "three variables, and what can be wrong with them")]
pub enum Unannounced {
    /// There are no such variables.
    Nothing,
    /// They are meant for the process with this number.
    Other(String),
    /// `LISTEN_FDS` is no number of descriptors.
    Count(String),
    /// `LISTEN_FDNAMES` names more, or fewer.
    Names {
        /// How many it names.
        names: usize,
        /// How many there are.
        count: usize,
    },
}

impl Announced {
    /// Reads the values of `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`, as process `own`.
    ///
    /// # Errors
    /// Why there is nothing to take.
    pub fn read(
        pid: Option<&str>,
        count: Option<&str>,
        names: Option<&str>,
        own: u32,
    ) -> Result<Self, Unannounced> {
        let (Some(pid), Some(text)) = (pid, count) else { return Err(Unannounced::Nothing) };
        // The variables outlive who they were for: a shell hands them on to what it starts.
        if pid.parse() != Ok(own) {
            return Err(Unannounced::Other(pid.to_owned()));
        }
        let count = text.parse::<usize>().ok().filter(|count| *count <= DESCRIPTORS_MAX);
        let Some(count) = count else { return Err(Unannounced::Count(text.to_owned())) };
        let names: Vec<String> = match names {
            Some(names) if count > 0 => names.split(':').map(str::to_owned).collect(),
            // As sd_listen_fds_with_names(3) calls them.
            _ => vec!["unknown".to_owned(); count],
        };
        if names.len() != count {
            return Err(Unannounced::Names { names: names.len(), count });
        }
        Ok(Self { names })
    }

    /// The descriptors with their names.
    pub fn descriptors(&self) -> impl Iterator<Item = (RawFd, &str)> {
        (FIRST..).zip(self.names.iter().map(String::as_str))
    }
}

/// `fs.nr_open` as Linux has it: no process has more open than this.
const DESCRIPTORS_MAX: usize = 1 << 20;

/// Protocols of streams; over the second a connection may use several ways.
const STREAMS: [Option<Protocol>; 2] = [Some(Protocol::TCP), Some(Protocol::MPTCP)];

/// A socket that was passed, ready to be served.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "the sockets served here")]
pub enum Passed {
    /// It welcomes connections over TCP.
    Tcp(TcpListener),
    /// It welcomes connections over a Unix socket.
    Unix(UnixListener),
    /// It receives datagrams over UDP.
    Udp(UdpSocket),
    /// It receives datagrams over a Unix socket.
    UnixDatagram(UnixDatagram),
}

/// Why a descriptor cannot be served.
#[derive(Debug)]
#[non_exhaustive]
pub enum NotServed {
    /// It is not open, or one of the standard three.
    NotOpen(io::Error),
    /// It is no socket.
    NoSocket,
    /// It is a connection, and not what welcomes them.
    Connection,
    /// It has no address to be reached at.
    Unbound,
    /// It is of a kind that is not served.
    Kind,
}

impl Passed {
    /// Takes a descriptor over, which is closed with what is given. To be done first of all, as
    /// [`Inherited::take`](crate::descriptors::Inherited::take) says; each once.
    ///
    /// # Errors
    /// Why it is nothing to serve; it is closed then.
    pub fn take(descriptor: RawFd) -> Result<Self, NotServed> {
        let file = sys::take_descriptor(descriptor).map_err(NotServed::NotOpen)?;
        Self::of(file.into())
    }

    fn of(descriptor: OwnedFd) -> Result<Self, NotServed> {
        let socket = SockRef::from(&descriptor);
        let kind = socket.r#type().map_err(|_not_a_socket| NotServed::NoSocket)?;
        let family = socket.domain().map_err(|_not_a_socket| NotServed::NoSocket)?;
        let is_ip = [Domain::IPV4, Domain::IPV6].contains(&family);
        let protocol = socket.protocol().ok().flatten();
        let is_listener = socket.is_listener().unwrap_or(false);
        let is_unix = family == Domain::UNIX;
        let is_stream = kind == Type::STREAM && (is_unix || STREAMS.contains(&protocol));
        let is_datagram = kind == Type::DGRAM && (is_unix || protocol == Some(Protocol::UDP));
        if !(is_ip || is_unix) || !(is_stream || is_datagram) {
            return Err(NotServed::Kind);
        }
        if is_stream && !is_listener {
            return Err(NotServed::Connection);
        }
        Ok(match (is_unix, is_stream) {
            (false, true) => Self::Tcp(descriptor.into()),
            (true, true) => Self::Unix(descriptor.into()),
            (true, false) => {
                let socket = UnixDatagram::from(descriptor);
                if socket.local_addr().is_ok_and(|address| address.is_unnamed()) {
                    return Err(NotServed::Unbound);
                }
                Self::UnixDatagram(socket)
            }
            (false, false) => Self::udp(descriptor.into())?,
        })
    }

    fn udp(socket: UdpSocket) -> Result<Self, NotServed> {
        if !socket.local_addr().is_ok_and(|address: SocketAddr| address.port() > 0) {
            return Err(NotServed::Unbound);
        }
        // Without them a datagram does not tell where it came to: no answer would leave from there.
        adopt(&socket).map_err(NotServed::NotOpen)?;
        Ok(Self::Udp(socket))
    }
}

/// Keeps descriptors from reaching the children of this process; those that are not open are passed over.
pub fn close_on_exec(descriptors: impl IntoIterator<Item = RawFd>) {
    for descriptor in descriptors {
        // Taking it says what is wrong with it.
        drop(sys::close_on_exec(descriptor));
    }
}

#[cfg(test)]
mod tests {
    use super::{Announced, NotServed, Passed, Unannounced};
    use std::fs::File;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    fn read(pid: &str, count: &str, names: Option<&str>) -> Result<Vec<String>, Unannounced> {
        Announced::read(Some(pid), Some(count), names, 7).map(|announced| announced.names)
    }

    #[test]
    fn the_variables_are_for_the_process_they_name() {
        assert_eq!(read("7", "2", Some("http:admin")).unwrap(), ["http", "admin"]);
        assert_eq!(read("7", "1", None).unwrap(), ["unknown"]);
        assert_eq!(read("7", "0", Some("")).unwrap(), Vec::<String>::new());
        assert_eq!(read("8", "2", None), Err(Unannounced::Other("8".to_owned())));
        assert_eq!(Announced::read(None, Some("2"), None, 7), Err(Unannounced::Nothing));
        for count in ["", "-1", "two", "99999999999999999999", "2147483647", "1048577"] {
            assert_eq!(read("7", count, None), Err(Unannounced::Count(count.to_owned())));
        }
        let other = Err(Unannounced::Names { names: 2, count: 3 });
        assert_eq!(read("7", "3", Some("a:b")), other);
    }

    #[test]
    fn what_listens_is_served_and_nothing_else_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let of = |descriptor: OwnedFd| Passed::of(descriptor);
        assert!(matches!(of(client.into()), Err(NotServed::Connection)));
        assert!(matches!(of(listener.into()), Ok(Passed::Tcp(_))));
        assert!(matches!(of(UdpSocket::bind("[::1]:0").unwrap().into()), Ok(Passed::Udp(_))));
        let (one, two) = UnixStream::pair().unwrap();
        assert!(matches!(of(one.into()), Err(NotServed::Connection)));
        drop(two);
        let unbound = UnixDatagram::unbound().unwrap();
        assert!(matches!(of(unbound.into()), Err(NotServed::Unbound)));
        let file = File::open("/dev/null").unwrap();
        assert!(matches!(of(file.into()), Err(NotServed::NoSocket)));
        assert!(matches!(Passed::take(1_000_000), Err(NotServed::NotOpen(_))));
    }

    #[test]
    fn a_passed_descriptor_is_closed_on_exec() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
        let Ok(Passed::Tcp(passed)) = Passed::take(listener.into_raw_fd()) else {
            unreachable!("it listens")
        };
        let flags = rustix::io::fcntl_getfd(&passed).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        super::close_on_exec([passed.as_raw_fd(), 1_000_000]);
    }
}
