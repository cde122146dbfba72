//! Builds captures byte by byte, as other programs would write them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses its own part")]

use std::net::SocketAddr;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// A TCP segment in the making.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn segment(
    ends: (&str, &str),
    flags: u8,
    (seq, ack): (u32, u32),
    payload: &[u8],
) -> Segment {
    Segment {
        from: ends.0.parse().unwrap(),
        to: ends.1.parse().unwrap(),
        seq,
        ack,
        flags,
        window: 512,
        options: Vec::new(),
        payload: payload.to_vec(),
    }
}

impl Segment {
    pub(crate) fn ip(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.from.port().to_be_bytes());
        bytes.extend(self.to.port().to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        bytes.extend([u8::try_from(5 + options.len() / 4).unwrap() << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.extend(&self.payload);
        ip(self.from, self.to, 6, &bytes)
    }
}

pub(crate) fn udp(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let mut bytes = Vec::new();
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(u16::try_from(payload.len() + 8).unwrap().to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(payload);
    ip(from, to, 17, &bytes)
}

pub(crate) fn ip(from: SocketAddr, to: SocketAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            bytes.extend([0x45, 0]);
            bytes.extend(u16::try_from(body.len() + 20).unwrap().to_be_bytes());
            bytes.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
            bytes.extend(from.ip().octets());
            bytes.extend(to.ip().octets());
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
            bytes.extend([protocol, 64]);
            bytes.extend(from.ip().octets());
            bytes.extend(to.ip().octets());
        }
        _ => unreachable!("one family"),
    }
    bytes.extend(body);
    bytes
}

pub(crate) fn ethernet(ip: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if ip[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind, ip].concat()
}

/// A classic capture; `fraction` counts microseconds or nanoseconds.
pub(crate) fn pcap(link: u32, nanos: bool, big: bool, frames: &[(u32, u32, Vec<u8>)]) -> Vec<u8> {
    let four = |number: u32| if big { number.to_be_bytes() } else { number.to_le_bytes() };
    let two = |number: u16| if big { number.to_be_bytes() } else { number.to_le_bytes() };
    let mut bytes = Vec::new();
    bytes.extend(four(if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }));
    bytes.extend(two(2));
    bytes.extend(two(4));
    for field in [0, 0, 262_144, link] {
        bytes.extend(four(field));
    }
    for (seconds, fraction, data) in frames {
        let len = u32::try_from(data.len()).unwrap();
        for field in [*seconds, *fraction, len, len] {
            bytes.extend(four(field));
        }
        bytes.extend(data);
    }
    bytes
}

/// A pcapng file in the making.
pub(crate) struct Pcapng {
    pub(crate) bytes: Vec<u8>,
    big: bool,
}

impl Pcapng {
    pub(crate) fn new(big: bool) -> Self {
        let mut file = Self { bytes: Vec::new(), big };
        file.section();
        file
    }

    pub(crate) fn section(&mut self) {
        let mut body = self.four(0x1a2b_3c4d).to_vec();
        body.extend(self.two(1));
        body.extend(self.two(0));
        body.extend([0xff; 8]);
        self.block(0x0a0d_0d0a, &body);
    }

    pub(crate) fn interface(&mut self, link: u16, options: &[(u16, Vec<u8>)]) {
        let mut body = self.two(link).to_vec();
        body.extend([0; 2]);
        body.extend(self.four(0));
        self.options(&mut body, options);
        self.block(1, &body);
    }

    pub(crate) fn packet(
        &mut self,
        interface: u32,
        ticks: u64,
        data: &[u8],
        options: &[(u16, Vec<u8>)],
    ) {
        let len = u32::try_from(data.len()).unwrap();
        let mut body = Vec::new();
        let [high, low] = [ticks >> 32, ticks & 0xffff_ffff].map(|it| u32::try_from(it).unwrap());
        for field in [interface, high, low, len, len] {
            body.extend(self.four(field));
        }
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
        self.options(&mut body, options);
        self.block(6, &body);
    }

    pub(crate) fn simple(&mut self, data: &[u8]) {
        let mut body = self.four(u32::try_from(data.len()).unwrap()).to_vec();
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
        self.block(3, &body);
    }

    pub(crate) fn obsolete(&mut self, ticks: u32, data: &[u8]) {
        let len = u32::try_from(data.len()).unwrap();
        let mut body = self.two(0).to_vec();
        body.extend(self.two(0));
        for field in [0, ticks, len, len] {
            body.extend(self.four(field));
        }
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
        self.block(2, &body);
    }

    pub(crate) fn block(&mut self, kind: u32, body: &[u8]) {
        let length = self.four(u32::try_from(body.len() + 12).unwrap());
        let kind = self.four(kind);
        self.bytes.extend(kind);
        self.bytes.extend(length);
        self.bytes.extend(body);
        self.bytes.extend(length);
    }

    fn options(&self, body: &mut Vec<u8>, options: &[(u16, Vec<u8>)]) {
        for (code, value) in options {
            body.extend(self.two(*code));
            body.extend(self.two(u16::try_from(value.len()).unwrap()));
            body.extend(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        if !options.is_empty() {
            body.extend([0; 4]);
        }
    }

    pub(crate) fn four(&self, number: u32) -> [u8; 4] {
        if self.big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    pub(crate) fn two(&self, number: u16) -> [u8; 2] {
        if self.big { number.to_be_bytes() } else { number.to_le_bytes() }
    }
}
