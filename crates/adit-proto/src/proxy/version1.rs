//! Version 1: a line of text (section 2.1).

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Header, LINE_BYTES_MAX, LineFault, Pair, ProxyError};

pub(super) const PREFIX: &[u8] = b"PROXY ";

/// Reads a line that begins with [`PREFIX`], as far as it goes.
pub(super) fn decode(input: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    // A line that ends later is too long, whatever it ends with.
    let first = input.iter().take(LINE_BYTES_MAX - 1);
    let end = first.copied().position(|byte| matches!(byte, b'\r' | b'\n'));
    let Some(end) = end else {
        let is_too_long = input.len() >= LINE_BYTES_MAX;
        return if is_too_long { Err(ProxyError::LongLine) } else { Ok(None) };
    };
    let (line, rest) = input.split_at_checked(end).unwrap_or((input, &[]));
    match rest {
        [b'\r', b'\n', ..] => {}
        [b'\r'] => return Ok(None),
        _ => return Err(ProxyError::Line(LineFault::End)),
    }
    let words = line.strip_prefix(PREFIX).unwrap_or_default();
    let header = read(words).map_err(ProxyError::Line)?;
    Ok(Some((header, end.saturating_add(2))))
}

/// What stands between `PROXY ` and the end of the line.
fn read(words: &[u8]) -> Result<Header, LineFault> {
    let mut words = words.split(|byte| *byte == b' ');
    let read_address: fn(&str) -> Option<IpAddr> = match words.next() {
        // Whatever follows is ignored.
        Some(b"UNKNOWN") => return Ok(Header::Unknown),
        Some(b"TCP4") => |text| Some(text.parse::<Ipv4Addr>().ok()?.into()),
        Some(b"TCP6") => |text| Some(text.parse::<Ipv6Addr>().ok()?.into()),
        _ => return Err(LineFault::Protocol),
    };
    let mut next = || {
        let word = words.next().ok_or(LineFault::Words)?;
        std::str::from_utf8(word).map_err(|_no_text| LineFault::Words)
    };
    let (source, target) = (next()?, next()?);
    let (source_port, target_port) = (next()?, next()?);
    if words.next().is_some() {
        return Err(LineFault::Words);
    }
    let end = |address: &str, port: &str| {
        let address = read_address(address).ok_or(LineFault::Address)?;
        Ok(SocketAddr::new(address, read_port(port).ok_or(LineFault::Port)?))
    };
    Ok(Header::client(end(source, source_port)?, end(target, target_port)?))
}

/// Digits, without a zero in front of others.
fn read_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let has_zero_in_front = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| is_plain && !has_zero_in_front)
}

pub(super) fn encode(header: &Header, out: &mut Vec<u8>) {
    let Header::Client { source, target } = header else {
        out.extend_from_slice(b"PROXY UNKNOWN\r\n");
        return;
    };
    let (family, from, to): (_, IpAddr, IpAddr) = match Pair::of(source.ip(), target.ip()) {
        Pair::V4(from, to) => ("TCP4", from.into(), to.into()),
        Pair::V6(from, to) => ("TCP6", from.into(), to.into()),
    };
    let (source, target) = (source.port(), target.port());
    // Writing to memory does not fail.
    drop(write!(out, "PROXY {family} {from} {to} {source} {target}\r\n"));
}
