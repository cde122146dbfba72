//! Addresses: `tcp://host:80`, `:8080`, `[::1]:80`, `/run/a.sock`, `udp://h:53,ttl=1`.
//!
//! Reading an address resolves nothing: a name stays a name.

mod error;
mod exec;
mod keys;
mod parse;
mod spelling;
mod units;

pub use error::AddressError;
pub use exec::Exec;
pub use keys::{Keys, SocketOptions, TlsMode, TlsOptions};
pub use spelling::nearest;
pub use units::{UnitError, parse_duration, parse_rate, parse_size};

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use crate::endpoint::Transport;
use crate::escape::escape_line;

/// Longest Unix socket name in bytes (unix(7)).
pub const UNIX_NAME_BYTES_MAX: usize = 107;

/// Where to listen or connect.
///
/// ```
/// use adit_proto::address::Address;
/// let address: Address = "tcp://[::1]:80".parse().unwrap();
/// assert_eq!(address.to_string(), "tcp://[::1]:80");
/// assert!("tcp://h:99999".parse::<Address>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// How bytes travel.
    pub transport: Transport,
    /// Whether TLS goes over it: `tls://`, `tls+unix:`, or an option of TLS.
    pub tls: bool,
    /// Where.
    pub place: Place,
    /// Options of the endpoint.
    pub keys: Keys,
}

/// The place an address names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// `8080`: both loopback addresses.
    Loopback(u16),
    /// `:8080`, `*:8080`: every address of both families; as a target, loopback.
    Any(u16),
    /// `127.0.0.1:80`, `[::1]:80`.
    Ip(SocketAddr),
    /// `h:80`, a name to be resolved; also `fe80::1%eth0`, an IPv6 address with a zone by name.
    Name(String, u16),
    /// `/run/a.sock`, a Unix socket in the file system.
    Path(String),
    /// `@a`, a Unix socket in the abstract namespace.
    Abstract(String),
}

impl Place {
    /// Is it a name that has to be looked up? An IPv6 address with the name of an interface is none: the
    /// system itself knows its interfaces (RFC 4007, section 11).
    pub fn is_looked_up(&self) -> bool {
        let Self::Name(name, _) = self else { return false };
        let ip = name.split_once('%').map(|(ip, _zone)| ip.parse::<Ipv6Addr>());
        !matches!(ip, Some(Ok(_)))
    }
}

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "one listens, the other connects")]
pub enum Role {
    /// A server.
    Listen,
    /// A client.
    Connect,
}

impl Address {
    /// An address without options.
    pub fn new(transport: Transport, place: Place) -> Self {
        Self { transport, tls: false, place, keys: Keys::default() }
    }

    /// The port, if the transport has ports.
    pub fn port(&self) -> Option<u16> {
        match &self.place {
            Place::Loopback(port) | Place::Any(port) | Place::Name(_, port) => Some(*port),
            Place::Ip(address) => Some(address.port()),
            Place::Path(_) | Place::Abstract(_) => None,
        }
    }

    /// Is the address of use for that?
    ///
    /// # Errors
    /// Port 0 to connect to.
    pub fn check(&self, role: Role) -> Result<(), AddressError> {
        if role == Role::Connect && self.port() == Some(0) {
            return Err(AddressError::PortZero { text: self.to_string() });
        }
        Ok(())
    }

    /// The host that was written, for a certificate to be compared with: a name or an IP address.
    /// `localhost` where no host is written; none for a Unix socket.
    pub fn host(&self) -> Option<String> {
        match &self.place {
            Place::Loopback(_) | Place::Any(_) => Some("localhost".to_owned()),
            Place::Ip(address) => Some(address.ip().to_string()),
            Place::Name(name, _) => Some(name.clone()),
            Place::Path(_) | Place::Abstract(_) => None,
        }
    }

    /// The word for how bytes travel: `tcp`, `tls`, `tls+unix`.
    pub fn scheme(&self) -> &'static str {
        match (self.tls, self.transport) {
            (true, Transport::Unix) => "tls+unix",
            (true, _) => "tls",
            (false, transport) => transport.word(),
        }
    }

    /// As it is named in messages, safe for a terminal: `tcp 127.0.0.1:80`, `tcp [::]:8080`,
    /// `unix /run/a.sock`.
    pub fn spoken(&self) -> String {
        let shown = |text: &str| escape_line(text.as_bytes(), SPOKEN_CHARS_MAX);
        let place = match &self.place {
            Place::Loopback(port) => format!("localhost:{port}"),
            Place::Any(port) => format!("[::]:{port}"),
            Place::Ip(address) => address.to_string(),
            Place::Name(name, port) => format!("{}:{port}", shown(&bracketed(name))),
            Place::Path(path) => shown(path),
            Place::Abstract(name) => format!("@{}", shown(name)),
        };
        format!("{} {place}", self.scheme())
    }
}

/// Characters of a name that are shown in a message: a whole host name fits.
const SPOKEN_CHARS_MAX: usize = 260;

/// A host as it stands before its port: an IPv6 address with a zone by name needs brackets.
fn bracketed(name: &str) -> Cow<'_, str> {
    if name.contains(':') { Cow::Owned(format!("[{name}]")) } else { Cow::Borrowed(name) }
}

/// The address in full, as it can be read again; for messages there is [`Address::spoken`].
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme();
        match &self.place {
            Place::Path(path) => {
                // What begins with two slashes would lose them to the scheme.
                let slashes = if path.starts_with("//") { "//" } else { "" };
                write!(f, "{scheme}:{slashes}{}", parse::encode(path))?;
            }
            Place::Abstract(name) => write!(f, "{scheme}:@{}", parse::encode(name))?,
            Place::Loopback(port) => write!(f, "{scheme}://{port}")?,
            Place::Any(port) => write!(f, "{scheme}://:{port}")?,
            Place::Ip(address) => write!(f, "{scheme}://{address}")?,
            Place::Name(name, port) => {
                write!(f, "{scheme}://{}:{port}", bracketed(name))?;
            }
        }
        self.keys.fmt(f)
    }
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    /// Reads an address with its scheme, as programs write it.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse::address(text, None)
    }
}

impl Address {
    /// Reads an address as people type it: the scheme may be missing, then `transport` is meant or
    /// what the form of the place says.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse(text: &str, transport: Transport) -> Result<Self, AddressError> {
        parse::address(text, Some(transport))
    }

    /// Reads the first address of a command line; gives how many words it took: a host without a port
    /// takes the next word as its port.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse_words(
        words: &[impl AsRef<str>],
        transport: Transport,
    ) -> Result<(Self, usize), AddressError> {
        parse::words(words, transport)
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

#[cfg(test)]
mod tests;
