//! Names of Unix sockets: a path, or a name in the abstract namespace (unix(7)).

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::SocketAddr;
use std::path::Path;

/// Longest path or abstract name (unix(7): `sun_path` has 108 bytes, one is a NUL).
pub const NAME_BYTES_MAX: usize = 107;

/// The name of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "unix(7) knows no third kind of name")]
pub enum UnixName {
    /// A place in the file system.
    Path(Box<[u8]>),
    /// A name without a file, gone with its socket; without the leading NUL.
    Abstract(Box<[u8]>),
}

impl UnixName {
    /// The name as a path of the file system, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(Path::new(OsStr::from_bytes(path))),
            Self::Abstract(_) => None,
        }
    }

    /// The address for the socket calls.
    ///
    /// # Errors
    /// The name is longer than [`NAME_BYTES_MAX`] or contains a NUL.
    pub fn to_std(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Path(path) => SocketAddr::from_pathname(OsStr::from_bytes(path)),
            Self::Abstract(name) => SocketAddr::from_abstract_name(name),
        }
    }

    /// The name in an address; none for a socket without one.
    pub fn of_std(address: &SocketAddr) -> Option<Self> {
        if let Some(path) = address.as_pathname() {
            return Some(Self::Path(path.as_os_str().as_bytes().into()));
        }
        address.as_abstract_name().map(|name| Self::Abstract(name.into()))
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.escape_ascii()),
            Self::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
        }
    }
}
