//! Version 2: bytes (section 2.2).
//!
//! | bytes | what |
//! |---|---|
//! | 12 | the signature |
//! | 1 | version 2 in the high half; the command in the low one: 0 LOCAL, 1 PROXY |
//! | 1 | family in the high half: 0 UNSPEC, 1 INET, 2 INET6, 3 UNIX; protocol in the low one: 0 UNSPEC, 1 STREAM, 2 DGRAM |
//! | 2 | the length of what follows, highest byte first |
//! | 12, 36, 216 | source address, target address, and for INET and INET6 source port, target port |
//! | the rest | type, length, value: passed over |

use std::net::{IpAddr, SocketAddr};

use super::{HEADER_BYTES_MAX, Header, Pair, ProxyError};

pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;
/// Two names of a Unix socket.
const UNIX_BYTES: u16 = 216;

/// Reads a header that begins with [`SIGNATURE`], as far as it goes.
pub(super) fn decode(input: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let mut cursor = Cursor(input);
    let Some(_signature) = cursor.take::<12>() else { return Ok(None) };
    let Some([command]) = cursor.take() else { return Ok(None) };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError::Command(command)),
    };
    let Some([family]) = cursor.take() else { return Ok(None) };
    let kind = match (is_local, family) {
        // Of a LOCAL one the family is ignored.
        (true, _) | (_, 0x00..=0x02 | 0x10 | 0x20 | 0x30) => Kind::Unknown,
        (_, 0x11 | 0x12) => Kind::V4,
        (_, 0x21 | 0x22) => Kind::V6,
        (_, 0x31 | 0x32) => Kind::Unix,
        _ => return Err(ProxyError::Family(family)),
    };
    let Some(length) = cursor.number() else { return Ok(None) };
    if length < kind.bytes() {
        return Err(ProxyError::Short(length));
    }
    let bytes = FIXED_BYTES.saturating_add(usize::from(length));
    if bytes > HEADER_BYTES_MAX {
        return Err(ProxyError::Long(length));
    }
    if input.len() < bytes {
        return Ok(None);
    }
    let header = match kind {
        Kind::V4 => cursor.ends::<4>(),
        Kind::V6 => cursor.ends::<16>(),
        // A receiver may treat a family as unspecified that it has no use for.
        Kind::Unknown | Kind::Unix if !is_local => Some(Header::Unknown),
        Kind::Unknown | Kind::Unix => Some(Header::Local),
    };
    Ok(Some((header.ok_or(ProxyError::Short(length))?, bytes)))
}

#[derive(Clone, Copy)]
enum Kind {
    Unknown,
    V4,
    V6,
    Unix,
}

impl Kind {
    /// What its addresses take.
    const fn bytes(self) -> u16 {
        match self {
            Self::Unknown => 0,
            Self::V4 => 12,
            Self::V6 => 36,
            Self::Unix => UNIX_BYTES,
        }
    }
}

/// What has not been read yet. Every byte is taken here, and only if it is there.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    /// Two addresses of so many bytes, and their ports.
    fn ends<const N: usize>(&mut self) -> Option<Header>
    where
        IpAddr: From<[u8; N]>,
    {
        let (source, target) = (self.take::<N>()?, self.take::<N>()?);
        let (source_port, target_port) = (self.number()?, self.number()?);
        let end = |address: [u8; N], port| SocketAddr::new(address.into(), port);
        Some(Header::client(end(source, source_port), end(target, target_port)))
    }
}

pub(super) fn encode(header: &Header, out: &mut Vec<u8>) {
    out.extend_from_slice(&SIGNATURE);
    let Header::Client { source, target } = header else {
        let command = if *header == Header::Local { 0x20 } else { 0x21 };
        out.extend_from_slice(&[command, 0x00, 0, 0]);
        return;
    };
    match Pair::of(source.ip(), target.ip()) {
        Pair::V4(from, to) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&from);
            out.extend_from_slice(&to);
        }
        Pair::V6(from, to) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&from);
            out.extend_from_slice(&to);
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&target.port().to_be_bytes());
}
