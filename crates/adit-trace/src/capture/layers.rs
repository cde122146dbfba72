//! From a frame to a segment or datagram: link, IP, TCP, UDP and ICMP, one header after the other.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::cursor::Cursor;

/// What a frame carries, and between whom.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    /// Of an unreachable: the sender of the datagram that met nobody.
    pub(super) source: SocketAddr,
    pub(super) target: SocketAddr,
    pub(super) what: What<'a>,
    /// The number that IPv4 gave it, if it did, and all of its transport: what a copy has in common.
    pub(super) identity: (u16, &'a [u8]),
    /// Which way through which interface the `any` device saw it; a copy differs here.
    pub(super) place: u64,
    pub(super) is_fragment: bool,
}

/// What stands in IP.
#[derive(Debug)]
pub(super) enum What<'a> {
    Tcp(Tcp<'a>),
    Udp {
        len: u64,
        bytes: &'a [u8],
    },
    /// A port nobody listens on; `is_stream` says of which protocol.
    Unreachable {
        is_stream: bool,
    },
}

/// A TCP segment (RFC 9293, section 3.1).
#[derive(Debug)]
pub(super) struct Tcp<'a> {
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    /// The option that scales windows (RFC 7323, section 2), in a SYN.
    pub(super) shift: Option<u8>,
    pub(super) len: u64,
    pub(super) bytes: &'a [u8],
}

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;

/// Why a frame is no part of any conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Skip {
    /// Its kind of link is not known here.
    Link(u32),
    /// Not IP: ARP and others.
    NotIp,
    /// A piece of a datagram that is not the first.
    LaterFragment,
    /// Neither TCP nor UDP, nor an ICMP message about a port.
    OtherProtocol,
    /// Cut short, or broken.
    Short,
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// Takes a frame apart.
pub(super) fn packet(link: u32, data: &[u8]) -> Result<Packet<'_>, Skip> {
    let mut cursor = Cursor::new(data);
    let (protocol, place) = link_header(link, &mut cursor)?;
    let mut packet = match protocol {
        IPV4 => ipv4(cursor, Depth::Outer),
        IPV6 => ipv6(cursor, Depth::Outer),
        _ => Err(Skip::NotIp),
    }?;
    packet.place = place;
    Ok(packet)
}

/// Passes over the header of the link; gives the protocol behind it and where it was seen.
fn link_header(link: u32, cursor: &mut Cursor<'_>) -> Result<(u16, u64), Skip> {
    let short = Skip::Short;
    let (mut protocol, place) = match link {
        // NULL and LOOP: a protocol family, in the order of either machine.
        0 | 108 => {
            let [a, b, c, d] = cursor.array().ok_or(short)?;
            return match if a == 0 && b == 0 { [c, d] } else { [b, a] } {
                [0, 2] => Ok((IPV4, 0)),
                // The families of IPv6 on NetBSD and Linux, FreeBSD, macOS.
                [0, 10 | 24 | 28 | 30] => Ok((IPV6, 0)),
                _ => Err(Skip::NotIp),
            };
        }
        1 => {
            cursor.skip(12).ok_or(short)?;
            (cursor.u16().ok_or(short)?, 0)
        }
        12 | 14 | 101 | 228 | 229 => {
            let version = cursor.rest().first().ok_or(short)? >> 4;
            return match version {
                4 => Ok((IPV4, 0)),
                6 => Ok((IPV6, 0)),
                _ => Err(Skip::NotIp),
            };
        }
        // Linux cooked: direction, kind of hardware, address, protocol.
        113 => {
            let direction = cursor.u16().ok_or(short)?;
            cursor.skip(12).ok_or(short)?;
            (cursor.u16().ok_or(short)?, u64::from(direction) + 1)
        }
        // Its second version: protocol, interface, hardware, direction, address.
        276 => {
            let protocol = cursor.u16().ok_or(short)?;
            cursor.skip(2).ok_or(short)?;
            let interface = cursor.u32().ok_or(short)?;
            cursor.skip(2).ok_or(short)?;
            let direction = cursor.u8().ok_or(short)?;
            cursor.skip(9).ok_or(short)?;
            (protocol, u64::from(interface) << 8 | (u64::from(direction) + 1))
        }
        _ => return Err(Skip::Link(link)),
    };
    // Tags of virtual networks (IEEE 802.1Q, 802.1ad), one in the other; each takes 4 bytes.
    while matches!(protocol, 0x8100 | 0x88a8 | 0x9100) {
        cursor.skip(2).ok_or(short)?;
        protocol = cursor.u16().ok_or(short)?;
    }
    Ok((protocol, place))
}

/// Is it the packet itself, or one that an ICMP message quotes, of which 8 bytes are enough?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Outer,
    Quoted,
}

/// IPv4 (RFC 791, section 3.1).
fn ipv4(mut cursor: Cursor<'_>, depth: Depth) -> Result<Packet<'_>, Skip> {
    (|| {
        let first = cursor.u8()?;
        let header_bytes = usize::from(first & 0x0f) * 4;
        cursor.skip(1)?;
        let (total, number, fragment) = (cursor.u16()?, cursor.u16()?, cursor.u16()?);
        let (_life, protocol, _checksum) = (cursor.u8()?, cursor.u8()?, cursor.u16()?);
        let addr = |bytes: [u8; 4]| IpAddr::V4(Ipv4Addr::from(bytes));
        let (source, target) = (addr(cursor.array()?), addr(cursor.array()?));
        if first >> 4 != 4 {
            return None;
        }
        cursor.skip(header_bytes.checked_sub(20)?)?;
        // Segmentation offload leaves 0 where the length does not fit.
        let len = match total {
            0 => cursor.rest().len(),
            total => usize::from(total).checked_sub(header_bytes)?,
        };
        let (is_later, is_fragment) = (fragment & 0x1fff != 0, fragment & 0x3fff != 0);
        let ip = Ip { source, target, number, len, is_later, is_fragment };
        Some((ip, protocol, cursor))
    })()
    .ok_or(Skip::Short)
    .and_then(|(ip, protocol, cursor)| transport(&ip, protocol, cursor, depth))
}

/// IPv6 and its extension headers (RFC 8200, sections 3 and 4).
fn ipv6(mut cursor: Cursor<'_>, depth: Depth) -> Result<Packet<'_>, Skip> {
    (|| {
        let first = cursor.u8()?;
        cursor.skip(3)?;
        let (length, mut next, _hops) = (cursor.u16()?, cursor.u8()?, cursor.u8()?);
        let addr = |bytes: [u8; 16]| IpAddr::V6(Ipv6Addr::from(bytes));
        let (source, target) = (addr(cursor.array()?), addr(cursor.array()?));
        if first >> 4 != 6 {
            return None;
        }
        let mut len = if length == 0 { cursor.rest().len() } else { length.into() };
        let (mut is_later, mut is_fragment) = (false, false);
        // Each header takes at least 8 bytes, so that the frame bounds the loop.
        loop {
            let before = cursor.rest().len();
            let kind = next;
            match kind {
                // Hop by hop, routing, destination, mobility, host identity, shim.
                0 | 43 | 60 | 135 | 139 | 140 => {
                    next = cursor.u8()?;
                    let words = usize::from(cursor.u8()?);
                    cursor.skip(words.saturating_mul(8).saturating_add(6))?;
                }
                44 => {
                    next = cursor.u8()?;
                    cursor.skip(1)?;
                    let offset = cursor.u16()?;
                    cursor.skip(4)?;
                    is_later |= offset & 0xfff8 != 0;
                    is_fragment |= offset & 0xfff9 != 0;
                }
                // Authentication counts in other units.
                51 => {
                    next = cursor.u8()?;
                    let words = usize::from(cursor.u8()?);
                    cursor.skip(words.saturating_mul(4).saturating_add(6))?;
                }
                _ => break,
            }
            len = len.checked_sub(before.checked_sub(cursor.rest().len())?)?;
            if is_later {
                break;
            }
        }
        let ip = Ip { source, target, number: 0, len, is_later, is_fragment };
        Some((ip, next, cursor))
    })()
    .ok_or(Skip::Short)
    .and_then(|(ip, protocol, cursor)| transport(&ip, protocol, cursor, depth))
}

/// What both versions of IP tell.
struct Ip {
    source: IpAddr,
    target: IpAddr,
    number: u16,
    /// Bytes behind its headers, captured or not.
    len: usize,
    is_later: bool,
    is_fragment: bool,
}

fn transport<'a>(
    ip: &Ip,
    protocol: u8,
    cursor: Cursor<'a>,
    depth: Depth,
) -> Result<Packet<'a>, Skip> {
    if ip.is_later {
        return Err(Skip::LaterFragment);
    }
    // Behind the packet may stand what fills up the frame.
    let rest = cursor.rest();
    let body = rest.get(..ip.len).unwrap_or(rest);
    let mut cursor = Cursor::new(body);
    let what = match (protocol, depth) {
        (6 | 17, _) => {
            let ports = (cursor.u16().ok_or(Skip::Short)?, cursor.u16().ok_or(Skip::Short)?);
            let what = match (depth, protocol) {
                (Depth::Quoted, _) => Some(What::Unreachable { is_stream: protocol == 6 }),
                (Depth::Outer, 6) => tcp(cursor, ip.len).map(What::Tcp),
                (Depth::Outer, _) => udp(cursor, ip.len),
            };
            (ports, what.ok_or(Skip::Short)?)
        }
        (1 | 58, Depth::Outer) => return icmp(cursor, protocol == 58),
        _ => return Err(Skip::OtherProtocol),
    };
    let ((source, target), what) = what;
    Ok(Packet {
        source: SocketAddr::new(ip.source, source),
        target: SocketAddr::new(ip.target, target),
        what,
        identity: (ip.number, body),
        place: 0,
        is_fragment: ip.is_fragment,
    })
}

/// Behind the ports of a segment of `len` bytes, header included.
fn tcp(mut cursor: Cursor<'_>, len: usize) -> Option<Tcp<'_>> {
    let (seq, ack) = (cursor.u32()?, cursor.u32()?);
    let header_bytes = usize::from(cursor.u8()? >> 4) * 4;
    let (flags, window) = (cursor.u8()?, cursor.u16()?);
    cursor.skip(4)?;
    let option_bytes = header_bytes.checked_sub(20)?;
    let len = u64::try_from(len.checked_sub(header_bytes)?).ok()?;
    // A short snap length may cut the options off, and the payload with them.
    let options = cursor.take(option_bytes.min(cursor.rest().len()))?;
    let shift = if flags & SYN == 0 { None } else { window_shift(options) };
    Some(Tcp { seq, ack, flags, window, shift, len, bytes: cursor.rest() })
}

fn window_shift(options: &[u8]) -> Option<u8> {
    let mut cursor = Cursor::new(options);
    loop {
        match cursor.u8()? {
            0 => return None,
            1 => {}
            kind => {
                let length = usize::from(cursor.u8()?);
                let value = cursor.take(length.checked_sub(2)?)?;
                if kind == 3 {
                    // RFC 7323, section 2.3: more than 14 is taken as 14.
                    return value.first().map(|shift| *shift.min(&14));
                }
            }
        }
    }
}

/// Behind the ports of a datagram of `len` bytes, header included (RFC 768).
fn udp(mut cursor: Cursor<'_>, len: usize) -> Option<What<'_>> {
    let length = usize::from(cursor.u16()?);
    cursor.skip(2)?;
    // 0 stands in datagrams that are longer than the field can say (RFC 2675, section 4). The field
    // is right where the packet is only the first fragment.
    let whole = if length == 0 { len } else { length };
    let payload = whole.checked_sub(8)?;
    let rest = cursor.rest();
    let bytes = rest.get(..payload).unwrap_or(rest);
    Some(What::Udp { len: u64::try_from(payload).ok()?, bytes })
}

/// Destination unreachable, port (RFC 792; RFC 4443, section 3.1), with the packet it is about.
fn icmp(mut cursor: Cursor<'_>, is_six: bool) -> Result<Packet<'_>, Skip> {
    let kind = (cursor.u8().ok_or(Skip::Short)?, cursor.u8().ok_or(Skip::Short)?);
    cursor.skip(6).ok_or(Skip::Short)?;
    match (is_six, kind) {
        (false, (3, 3)) => ipv4(cursor, Depth::Quoted),
        (true, (1, 4)) => ipv6(cursor, Depth::Quoted),
        _ => Err(Skip::OtherProtocol),
    }
}
