//! PROXY: the header in which a proxy in front says whose connection it passes on.
//!
//! The PROXY protocol, versions 1 and 2, as in `doc/proxy-protocol.txt` of `HAProxy`; the sections cited
//! are its. What stands in a header is a claim of its sender: read it only from proxies that are trusted
//! (section 2), never to find out whether there is one.

mod version1;
mod version2;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a header names the client, or it does not")]
pub enum Header {
    /// The proxy speaks for itself (LOCAL, section 2.2), as when it looks whether the server is there. In
    /// version 1 nothing tells this from the next.
    Local,
    /// Somebody's connection, and not known whose (UNKNOWN, UNSPEC), or the client has no IP address. The
    /// connection's own addresses hold (sections 2.1 and 2.2).
    Unknown,
    /// The client, and where it went. IPv4-mapped addresses are kept as IPv4.
    Client {
        /// Where the client is.
        source: SocketAddr,
        /// Where it reached the first proxy.
        target: SocketAddr,
    },
}

/// The two forms of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Version {
    /// A line of text (section 2.1).
    V1,
    /// Bytes (section 2.2).
    V2,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// They begin like none of both forms.
    #[error("it does not begin with a PROXY header")]
    None,
    /// The line does not end in time (section 2.1: 107 bytes are the longest).
    #[error("its PROXY line is longer than {LINE_BYTES_MAX} bytes")]
    LongLine,
    /// The line is not made as it should be.
    #[error("its PROXY line is wrong: {0}")]
    Line(LineFault),
    /// Neither version 2 with a command that is known, nor anything else that is.
    #[error("its PROXY header has the unknown version and command {0:#04x}")]
    Command(u8),
    /// An address family or a protocol that is unknown.
    #[error("its PROXY header has the unknown family and protocol {0:#04x}")]
    Family(u8),
    /// Its addresses do not fit into the length that it gives.
    #[error("its PROXY header gives a length of {0} bytes, too little for its addresses")]
    Short(u16),
    /// Longer than a header may be.
    #[error("its PROXY header gives a length of {0} bytes, more than a segment holds")]
    Long(u16),
}

/// What is wrong with a line of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// CR or LF alone.
    #[error("a CR or LF stands alone")]
    End,
    /// Not TCP4, TCP6 or UNKNOWN.
    #[error("the protocol is not TCP4, TCP6 or UNKNOWN")]
    Protocol,
    /// Not the six words, with one space between them.
    #[error("it has not six words with one space between them")]
    Words,
    /// Not an address of the family.
    #[error("an address is none of its family")]
    Address,
    /// Not a port.
    #[error("a port is no number from 0 to 65535")]
    Port,
}

/// Longest line of version 1, its end included (section 2.1).
pub const LINE_BYTES_MAX: usize = 107;
/// Longest header of version 2: "always smaller than an MSS" (section 2.2), which is 1,460 bytes on
/// Ethernet. The addresses take 232 of them at most, what is behind is passed over.
pub const HEADER_BYTES_MAX: usize = 1460;

/// Reads the header at the beginning of a stream. None as long as it is not whole; then the header, and
/// how many bytes it takes. Bytes of which one is not the header's are never needed: as long as there is
/// none, all of them are.
///
/// # Errors
/// It is no header, which is said as soon as it is certain.
///
/// ```
/// use adit_proto::proxy::{Header, decode};
/// let line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n";
/// assert_eq!(decode(&line[..20]), Ok(None));
/// let (header, bytes) = decode(line).unwrap().unwrap();
/// assert_eq!(bytes, 47);
/// assert!(matches!(header, Header::Client { source, .. } if source.port() == 56324));
/// ```
pub fn decode(input: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let begins = |whole: &[u8]| input.iter().zip(whole).all(|(have, want)| have == want);
    if begins(&version2::SIGNATURE) {
        version2::decode(input)
    } else if begins(version1::PREFIX) {
        version1::decode(input)
    } else {
        Err(ProxyError::None)
    }
}

impl Header {
    /// A client and where it went.
    pub fn client(source: SocketAddr, target: SocketAddr) -> Self {
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Self::Client { source: plain(source), target: plain(target) }
    }

    /// Appends the header in one of its forms.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match version {
            Version::V1 => version1::encode(self, out),
            Version::V2 => version2::encode(self, out),
        }
    }

    /// The address of the client, if the header names one.
    pub fn source(&self) -> Option<SocketAddr> {
        match self {
            Self::Local | Self::Unknown => None,
            Self::Client { source, .. } => Some(*source),
        }
    }
}

/// Two ends of one family: where they differ, IPv4 is written as IPv6 would.
enum Pair {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

impl Pair {
    fn of(source: IpAddr, target: IpAddr) -> Self {
        let wide = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        match (source.to_canonical(), target.to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => Self::V4(source.octets(), target.octets()),
            _ => Self::V6(wide(source), wide(target)),
        }
    }
}
