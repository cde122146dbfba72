//! The packets of a connection: as they were captured, or made up around what the programs called.

use std::ops::Range;

use super::legs::Leg;
use super::packet::{PAYLOAD_BYTES_MAX, Segment};
use crate::capture::flags::{ACK, FIN, PSH, RST, SYN};
use crate::story::{Act, Did, Seen, Way};

/// A packet that is going to be written.
pub(super) struct Shown {
    pub(super) at: u64,
    pub(super) way: Way,
    pub(super) what: What,
    pub(super) comments: Vec<String>,
}

pub(super) enum What {
    Segment(Segment),
    Datagram {
        len: u64,
        bytes: Box<[u8]>,
    },
    /// Nobody listens where the last datagram of this way went.
    Unreachable,
}

impl Shown {
    const fn new(at: u64, way: Way, what: What) -> Self {
        Self { at, way, what, comments: Vec::new() }
    }

    pub(super) const fn flags(&self) -> u8 {
        match &self.what {
            What::Segment(segment) => segment.flags,
            _ => 0,
        }
    }
}

/// Payload of a segment on an Ethernet with timestamps: 1500 - 40 - 12.
const SEGMENT_BYTES: u64 = 1448;
/// A write of more segments than this is drawn in few long ones, as segmentation offload shows them.
const SEGMENTS_PER_WRITE_MAX: u64 = 2048;
/// Drawn windows never close: with the largest scale they are this long.
const WINDOW: u64 = 0xffff << SHIFT;
const SHIFT: u8 = 14;
/// A datagram of Unix sockets may be longer than any of IP.
const DATAGRAM_BYTES_MAX: u64 = 65_507;

/// The packets that were captured.
pub(super) fn from_wire(leg: &Leg<'_>) -> Vec<Shown> {
    let shift = shift_of(leg);
    let mut shown = Vec::with_capacity(leg.acts.len());
    for act in &leg.acts {
        match &act.did {
            Did::Segment { way, flags, off, bytes, window, .. } => {
                let window = if shift.is_none() { (*window).min(0xffff) } else { *window };
                let flags = flags_of(flags);
                for (off, bytes, is_last) in pieces(off, bytes, PAYLOAD_BYTES_MAX) {
                    let flags = if is_last { flags } else { flags & !(FIN | PSH) };
                    let segment = Segment { flags, off, bytes, window, shift };
                    shown.push(Shown::new(act.at, *way, What::Segment(segment)));
                }
            }
            Did::Packet { way, len, bytes, .. } => shown.push(datagram(act.at, *way, *len, bytes)),
            Did::Unreachable { way } => shown.push(Shown::new(act.at, *way, What::Unreachable)),
            _ => {}
        }
    }
    shown
}

/// The packets that calls must have made, at most `room`: one line may claim any number of bytes.
pub(super) fn from_calls(leg: &Leg<'_>, room: usize) -> Vec<Shown> {
    if leg.scheme.is_datagram() { datagrams(leg) } else { Drawing::of(leg, room).shown }
}

/// Every datagram once: as it was sent, or where nobody told of that, as it was received.
fn datagrams(leg: &Leg<'_>) -> Vec<Shown> {
    let is_sent = |wanted: Way| {
        leg.acts.iter().any(|act| matches!(&act.did, Did::Send { way, .. } if *way == wanted))
    };
    let (up, down) = (is_sent(Way::Up), is_sent(Way::Down));
    let sent = |way: Way| if way == Way::Up { up } else { down };
    let of_act = |act: &&Act| match &act.did {
        Did::Send { way, len, bytes, .. } => Some(datagram(act.at, *way, *len, bytes)),
        Did::Receive { way, len, bytes, .. } if !sent(*way) => {
            Some(datagram(act.at, *way, *len, bytes))
        }
        _ => None,
    };
    leg.acts.iter().filter_map(of_act).collect()
}

fn datagram(at: u64, way: Way, len: u64, bytes: &[u8]) -> Shown {
    let shown = len.min(DATAGRAM_BYTES_MAX);
    let known = usize::try_from(shown).unwrap_or(usize::MAX);
    let bytes = bytes.get(..known).unwrap_or(bytes).into();
    let mut packet = Shown::new(at, way, What::Datagram { len: shown, bytes });
    if shown < len {
        packet.comments.push(format!("of {len} B; IP carries no more than this"));
    }
    packet
}

/// A stream that is being drawn.
struct Drawing {
    shown: Vec<Shown>,
    is_open: bool,
    /// Reset, or refused: nothing comes behind it.
    is_over: bool,
    /// Packets that it may have.
    room: usize,
    /// The time of the last one.
    last: u64,
    /// How far each way is: up, down.
    next: [u64; 2],
    ended: [bool; 2],
}

impl Drawing {
    fn of(leg: &Leg<'_>, room: usize) -> Self {
        let mut drawing = Self {
            shown: Vec::new(),
            is_open: false,
            is_over: false,
            room,
            last: 0,
            next: [0; 2],
            ended: [false; 2],
        };
        let is_written = |wanted: Way| {
            leg.acts.iter().any(|act| matches!(&act.did, Did::Write { way, .. } if *way == wanted))
        };
        let written = [is_written(Way::Up), is_written(Way::Down)];
        for act in &leg.acts {
            if drawing.is_over {
                break;
            }
            drawing.act(act, written);
        }
        drawing
    }

    fn act(&mut self, act: &Act, written: [bool; 2]) {
        let at = act.at;
        match &act.did {
            Did::Connect { took, code: None, .. } => self.open(at, took.unwrap_or(0)),
            Did::Connect { took, code: Some(code), .. } if !self.is_open => {
                self.push(at, (Way::Up, SYN), 0..0, &[]);
                if &**code == "refused" {
                    let at = at.saturating_add(took.unwrap_or(0));
                    self.push(at, (Way::Down, RST | ACK), 0..0, &[]);
                }
                self.is_over = true;
            }
            Did::Accept { .. } | Did::Open => self.open(at, 0),
            Did::Write { way, off, bytes } => self.data(at, *way, off, bytes),
            Did::Read { way, off, bytes } if !written[index(*way)] => {
                self.data(at, *way, off, bytes);
            }
            Did::WriteEnd { way } | Did::ReadEnd { way } => self.end(at, *way),
            Did::Close { .. } => self.end(at, own_way(act.seen)),
            Did::Over { code, .. } | Did::Error { code, .. } if &**code == "reset" => {
                self.open(at, 0);
                let way = opposite(own_way(act.seen));
                let here = self.next[index(way)];
                self.push(at, (way, RST | ACK), here..here, &[]);
                self.is_over = true;
            }
            Did::Over { .. } => self.end(at, own_way(act.seen)),
            _ => {}
        }
    }

    fn open(&mut self, at: u64, took: u64) {
        if self.is_open {
            return;
        }
        self.is_open = true;
        let (middle, end) = (at.saturating_add(took / 2), at.saturating_add(took));
        self.push(at, (Way::Up, SYN), 0..0, &[]);
        self.push(middle, (Way::Down, SYN | ACK), 0..0, &[]);
        self.push(end, (Way::Up, ACK), 0..0, &[]);
    }

    fn data(&mut self, at: u64, way: Way, off: &Range<u64>, bytes: &[u8]) {
        self.open(at, 0);
        let len = off.end.saturating_sub(off.start);
        if len == 0 {
            return;
        }
        let is_long = len / SEGMENT_BYTES >= SEGMENTS_PER_WRITE_MAX;
        let size = if is_long { PAYLOAD_BYTES_MAX } else { SEGMENT_BYTES };
        for (off, bytes, is_last) in pieces(off, bytes, size) {
            let flags = if is_last { ACK | PSH } else { ACK };
            self.push(at, (way, flags), off, &bytes);
            if self.is_over {
                return;
            }
        }
        if let Some(last) = self.shown.last_mut()
            && let What::Segment(segment) = &last.what
            && segment.off.end < off.end
        {
            let left = off.end - segment.off.end;
            last.comments.push(format!("{left} B more are not drawn"));
        }
        self.next[index(way)] = self.next[index(way)].max(off.end);
        self.acknowledge(at, way);
    }

    fn end(&mut self, at: u64, way: Way) {
        if std::mem::replace(&mut self.ended[index(way)], true) {
            return;
        }
        self.open(at, 0);
        let here = self.next[index(way)];
        self.push(at, (way, FIN | ACK), here..here, &[]);
        self.acknowledge(at, way);
    }

    /// The other side acknowledges what came this way.
    fn acknowledge(&mut self, at: u64, way: Way) {
        let other = opposite(way);
        let here = self.next[index(other)];
        self.push(at, (other, ACK), here..here, &[]);
    }

    fn push(&mut self, at: u64, (way, flags): (Way, u8), off: Range<u64>, bytes: &[u8]) {
        if self.shown.len() >= self.room {
            self.is_over = true;
            return;
        }
        // The two sides tell of one moment at different times; packets keep their order.
        self.last = self.last.max(at);
        let window = if flags & (SYN | RST) == 0 { WINDOW } else { 0xffff };
        let segment = Segment { flags, off, bytes: bytes.into(), window, shift: Some(SHIFT) };
        self.shown.push(Shown::new(self.last, way, What::Segment(segment)));
    }
}

/// A range cut into pieces of at most `size`, each with what is known of its bytes, and whether it is
/// the last. An empty range is one piece. No more pieces are made than anybody looks at.
fn pieces(
    off: &Range<u64>,
    bytes: &[u8],
    size: u64,
) -> impl Iterator<Item = (Range<u64>, Box<[u8]>, bool)> {
    let (first, end) = (off.start, off.end.max(off.start));
    let count = (end - first).div_ceil(size).clamp(1, 2 * SEGMENTS_PER_WRITE_MAX);
    (0..count).map(move |number| {
        let from = first + number * size;
        let to = from.saturating_add(size).min(end);
        let known = |at: u64| usize::try_from(at - first).unwrap_or(usize::MAX).min(bytes.len());
        let piece = bytes.get(known(from)..known(to)).unwrap_or_default();
        (from..to, piece.into(), number + 1 == count)
    })
}

/// The smallest scale that lets a captured connection say all its windows. The scale that it had
/// itself was no smaller, so that no window changes.
fn shift_of(leg: &Leg<'_>) -> Option<u8> {
    let mut largest = 0;
    let mut opened = [false; 2];
    for act in &leg.acts {
        if let Did::Segment { way, flags, window, .. } = &act.did {
            largest = largest.max(*window);
            opened[index(*way)] |= flags.contains('S');
        }
    }
    let is_scaled = largest > 0xffff && opened == [true; 2];
    is_scaled.then(|| (1..=14).find(|shift| largest >> shift <= 0xffff).unwrap_or(14))
}

fn flags_of(letters: &str) -> u8 {
    let flag = |letter: char| match letter {
        'S' => SYN,
        'F' => FIN,
        'R' => RST,
        'A' => ACK,
        'P' => PSH,
        _ => 0,
    };
    letters.chars().map(flag).fold(0, |all, one| all | one)
}

const fn index(way: Way) -> usize {
    match way {
        Way::Up => 0,
        Way::Down => 1,
    }
}

pub(super) const fn opposite(way: Way) -> Way {
    match way {
        Way::Up => Way::Down,
        Way::Down => Way::Up,
    }
}

/// The way in which this side writes.
pub(super) const fn own_way(seen: Seen) -> Way {
    match seen {
        Seen::Client | Seen::RelayToServer | Seen::Wire => Way::Up,
        Seen::Server | Seen::RelayToClient => Way::Down,
    }
}
