//! Addresses: `tcp://host:80`, `:8080`, `[::1]:80`, `/run/a.sock`, `udp://h:53,ttl=1`.
//!
//! Reading an address resolves nothing: a name stays a name.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod keys;
mod parse;
mod units;

pub use keys::{Keys, SocketOptions};
pub use parse::AddressError;
pub use units::{UnitError, parse_duration, parse_size};

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::endpoint::Transport;

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
    /// `h:80`, a name to be resolved.
    Name(String, u16),
    /// `/run/a.sock`, a Unix socket in the file system.
    Path(String),
    /// `@a`, a Unix socket in the abstract namespace.
    Abstract(String),
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
        Self { transport, place, keys: Keys::default() }
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

    /// As it is named in messages: `tcp 127.0.0.1:80`, `unix /run/a.sock`.
    pub fn spoken(&self) -> String {
        format!("{} {}", self.transport, PlaceText(&self.place))
    }
}

struct PlaceText<'a>(&'a Place);

impl fmt::Display for PlaceText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::Loopback(port) => write!(f, "localhost:{port}"),
            Place::Any(port) => write!(f, ":{port}"),
            Place::Ip(address) => address.fmt(f),
            Place::Name(name, port) => write!(f, "{name}:{port}"),
            Place::Path(path) => f.write_str(&crate::escape::escape_line(path.as_bytes(), 200)),
            Place::Abstract(name) => {
                write!(f, "@{}", crate::escape::escape_line(name.as_bytes(), 200))
            }
        }
    }
}

/// The address in full, as it can be read again.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Path(path) => {
                // What begins with two slashes would lose them to the scheme.
                let slashes = if path.starts_with("//") { "//" } else { "" };
                write!(f, "{}:{slashes}{}", self.transport, parse::encode(path))?;
            }
            Place::Abstract(name) => write!(f, "{}:@{}", self.transport, parse::encode(name))?,
            Place::Loopback(port) => write!(f, "{}://{port}", self.transport)?,
            place => write!(f, "{}://{}", self.transport, PlaceText(place))?,
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

/// The IP address in text that is one, brackets or not.
fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

#[cfg(test)]
mod tests;
