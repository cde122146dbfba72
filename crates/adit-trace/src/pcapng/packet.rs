//! The bytes of a packet: IP, TCP, UDP and ICMP headers with their checksums.

use core::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::draw::{Shown, What};
use super::legs::Leg;
use crate::capture::flags::{ACK, FIN, PSH, RST, SYN};
use crate::story::Way;

/// Payload of one packet at most: what IP can carry behind the longest headers drawn here.
pub(super) const PAYLOAD_BYTES_MAX: u64 = 65_000;

/// The sequence numbers of a connection so far, and the numbers of its packets.
#[derive(Default)]
pub(super) struct Numbers {
    up: Half,
    down: Half,
    /// The identification of the next IPv4 packet.
    packets: u16,
}

#[derive(Default)]
struct Half {
    /// One past the last byte sent.
    next: u64,
    is_open: bool,
    end: Option<u64>,
    /// The length of the last datagram, which an ICMP message quotes.
    datagram: u16,
}

/// The sequence number of a SYN, of the client and of the server. Any would do; that they differ helps
/// a reader of hex.
const FIRST: [u32; 2] = [0x1000_0000, 0x2000_0000];

impl Numbers {
    /// A packet with as much of its payload as is known, and its length in all.
    pub(super) fn encode(&mut self, leg: &Leg<'_>, shown: &Shown) -> (Vec<u8>, u64) {
        let (source, target) = match shown.way {
            Way::Up => (leg.client, leg.server),
            Way::Down => (leg.server, leg.client),
        };
        let (protocol, transport, missing) = match &shown.what {
            What::Segment(segment) => {
                let mut bytes = self.tcp(shown.way, segment, (source.port(), target.port()));
                bytes.extend(&segment.bytes);
                let len = segment.off.end - segment.off.start;
                (6, bytes, len.saturating_sub(segment.bytes.len().try_into().unwrap_or(len)))
            }
            What::Datagram { len, bytes } => {
                self.half(shown.way).datagram = u16::try_from(len + 8).unwrap_or(u16::MAX);
                let whole = udp((source.port(), target.port()), *len, bytes);
                (17, whole, len.saturating_sub(bytes.len().try_into().unwrap_or(*len)))
            }
            What::Unreachable => {
                // The one who says so is the target of the datagram.
                let datagram = self.half(shown.way).datagram.max(8);
                let is_six = source.is_ipv6();
                let quoted = [
                    ip((source, target), 17, self.packets, datagram.into()),
                    udp((source.port(), target.port()), u64::from(datagram) - 8, &[]),
                ]
                .concat();
                let kind: [u8; 8] =
                    if is_six { [1, 4, 0, 0, 0, 0, 0, 0] } else { [3, 3, 0, 0, 0, 0, 0, 0] };
                let bytes = [&kind[..], &quoted].concat();
                return self.finish((target, source), if is_six { 58 } else { 1 }, bytes, 0);
            }
        };
        self.finish((source, target), protocol, transport, missing)
    }

    /// Puts the IP header in front and the checksum into the transport.
    fn finish(
        &mut self,
        ends: (SocketAddr, SocketAddr),
        protocol: u8,
        mut transport: Vec<u8>,
        missing: u64,
    ) -> (Vec<u8>, u64) {
        let known = u64::try_from(transport.len()).unwrap_or(0);
        let len = known.saturating_add(missing);
        let pseudo = if protocol == 1 { 0 } else { pseudo_sum(ends, protocol, len) };
        let place = match protocol {
            6 => 16,
            17 => 6,
            _ => 2,
        };
        let sum = match (protocol, checksum(pseudo, &transport)) {
            // RFC 768: 0 would say that there is none.
            (17, 0) => 0xffff,
            (_, sum) => sum,
        };
        if let Some(field) = transport.get_mut(place..place + 2) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
        self.packets = self.packets.wrapping_add(1);
        let mut bytes = ip(ends, protocol, self.packets, len);
        let whole = u64::try_from(bytes.len()).unwrap_or(0).saturating_add(len);
        bytes.append(&mut transport);
        (bytes, whole)
    }

    const fn half(&mut self, way: Way) -> &mut Half {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    fn tcp(&mut self, way: Way, segment: &Segment, ports: (u16, u16)) -> Vec<u8> {
        let Segment { flags, off, window, shift, .. } = segment;
        let (flags, is_syn) = (*flags, flags & SYN != 0);
        let [own_first, other_first] = match way {
            Way::Up => FIRST,
            Way::Down => [FIRST[1], FIRST[0]],
        };
        let other = match way {
            Way::Up => &self.down,
            Way::Down => &self.up,
        };
        let acked = other.next.saturating_add(u64::from(other.end.is_some()));
        let ack = place(other_first, acked);
        let own = self.half(way);
        let past_end = u64::from(
            off.is_empty() && flags & FIN == 0 && own.end.is_some_and(|end| end == off.start),
        );
        let seq = match is_syn {
            true => own_first,
            // Nobody listens: there is no sequence number yet (RFC 9293, section 3.5.2).
            false if flags & RST != 0 && flags & ACK != 0 && !own.is_open => 0,
            false => place(own_first, off.start.saturating_add(past_end)),
        };
        own.is_open |= is_syn || !off.is_empty();
        own.next = own.next.max(off.end);
        if flags & FIN != 0 {
            own.end.get_or_insert(off.end);
        }
        let options: &[u8] = match (is_syn, shift) {
            (true, Some(shift)) => &[2, 4, 5, 0xb4, 1, 3, 3, *shift],
            (true, None) => &[2, 4, 5, 0xb4],
            (false, _) => &[],
        };
        let words = u8::try_from(5 + options.len() / 4).unwrap_or(5);
        let scaled = if is_syn { *window } else { window >> shift.unwrap_or(0) };
        let mut bytes = Vec::with_capacity(28);
        bytes.extend(ports.0.to_be_bytes());
        bytes.extend(ports.1.to_be_bytes());
        bytes.extend(seq.to_be_bytes());
        bytes.extend(if flags & ACK == 0 { 0 } else { ack }.to_be_bytes());
        bytes.extend([words << 4, flags & (SYN | FIN | RST | ACK | PSH)]);
        bytes.extend(u16::try_from(scaled).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes
    }
}

/// A segment as it is drawn.
pub(super) struct Segment {
    pub(super) flags: u8,
    pub(super) off: Range<u64>,
    pub(super) bytes: Box<[u8]>,
    /// In bytes, as far as its side may say by then.
    pub(super) window: u64,
    /// How windows of this connection are scaled, if they are.
    pub(super) shift: Option<u8>,
}

/// The sequence number of a place in the stream; numbers wrap around.
fn place(first: u32, offset: u64) -> u32 {
    let [.., a, b, c, d] = offset.to_be_bytes();
    first.wrapping_add(1).wrapping_add(u32::from_be_bytes([a, b, c, d]))
}

fn udp((source, target): (u16, u16), len: u64, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(len.saturating_add(8)).unwrap_or(0);
    let mut header = Vec::with_capacity(8 + bytes.len());
    for field in [source, target, length, 0] {
        header.extend(field.to_be_bytes());
    }
    header.extend(bytes);
    header
}

/// An IP header of either version (RFC 791, RFC 8200) for `len` bytes behind it.
fn ip(ends: (SocketAddr, SocketAddr), protocol: u8, number: u16, len: u64) -> Vec<u8> {
    let to_u16 = |number: u64| u16::try_from(number).unwrap_or(0);
    match (ends.0.ip(), ends.1.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let mut header = vec![0x45, 0];
            header.extend(to_u16(len.saturating_add(20)).to_be_bytes());
            header.extend(number.to_be_bytes());
            // Not to be fragmented, 64 hops, and a checksum that is calculated over zeros.
            header.extend([0x40, 0, 64, protocol, 0, 0]);
            header.extend(source.octets());
            header.extend(target.octets());
            let sum = checksum(0, &header).to_be_bytes();
            if let Some(field) = header.get_mut(10..12) {
                field.copy_from_slice(&sum);
            }
            header
        }
        (source, target) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(to_u16(len).to_be_bytes());
            header.extend([protocol, 64]);
            header.extend(six(source));
            header.extend(six(target));
            header
        }
    }
}

fn six(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

/// What is summed up beside the transport: addresses, protocol, length (RFC 9293, section 3.1).
fn pseudo_sum(ends: (SocketAddr, SocketAddr), protocol: u8, len: u64) -> u64 {
    let addrs = match (ends.0.ip(), ends.1.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => [source.octets(), target.octets()].concat(),
        (source, target) => [six(source), six(target)].concat(),
    };
    sum(&addrs) + u64::from(protocol) + len
}

fn sum(bytes: &[u8]) -> u64 {
    let pairs = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u64::from(*high) << 8 | u64::from(*low),
        [high] => u64::from(*high) << 8,
        _ => 0,
    });
    pairs.sum()
}

/// The checksum of the Internet (RFC 1071).
fn checksum(start: u64, bytes: &[u8]) -> u16 {
    let mut total = start + sum(bytes);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).unwrap_or(0)
}
