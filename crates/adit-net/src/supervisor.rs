//! Supervisor: words to the service manager that has started this process (`sd_notify(3)`).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Longest time a word may take to be handed over: a manager that reads nothing holds nobody up.
const SEND_WITHIN: Duration = Duration::from_secs(1);

/// The socket of a service manager.
///
/// ```
/// use adit_net::supervisor::Supervisor;
/// use std::os::{linux::net::SocketAddrExt as _, unix::net::{SocketAddr, UnixDatagram}};
/// let name = format!("manager-{}", std::process::id());
/// let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
/// Supervisor::at(format!("@{name}").as_ref())?.tell("READY=1\n")?;
/// let mut word = [0; 8];
/// manager.recv(&mut word)?;
/// assert_eq!(&word, b"READY=1\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Supervisor(UnixDatagram);

impl Supervisor {
    /// Whoever is at the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// Nobody is there, or the address is neither.
    pub fn at(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(SEND_WITHIN))?;
        Ok(Self(socket))
    }

    /// Hands over lines of `WORD=VALUE`, all in one datagram.
    ///
    /// # Errors
    /// The manager is gone, or reads nothing.
    pub fn tell(&self, lines: &str) -> io::Result<()> {
        self.0.send(lines.as_bytes()).map(drop)
    }
}

/// The time of `MONOTONIC_USEC`, which tells the manager which reload is meant (`CLOCK_MONOTONIC`).
pub fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let rest_us = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000;
    seconds.saturating_mul(1_000_000).saturating_add(rest_us)
}

#[cfg(test)]
mod tests {
    use super::{Supervisor, monotonic_us};

    #[test]
    fn an_address_that_is_none_is_an_error() {
        for address in ["", "@", "relative/path", "vsock:2:1234", "/no/such/socket"] {
            assert!(Supervisor::at(address.as_ref()).is_err(), "{address}");
        }
    }

    #[test]
    fn the_clock_goes_forward() {
        let first = monotonic_us();
        assert!(first > 0 && monotonic_us() >= first);
    }
}
