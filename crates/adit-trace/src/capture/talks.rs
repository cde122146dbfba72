//! From packets to conversations: who is the client, which one a packet belongs to, what was seen.

use core::net::SocketAddr;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::file::Frame;
use super::layers::{self, ACK, FIN, PSH, Packet, RST, SYN, Skip, Tcp, What};
use super::stream::Stream;
use crate::story::{Act, Did, Door, Scheme, Seen, Story, Talk, Way};

/// Conversations that are told of; a port scan has one per port.
const TALKS_MAX: usize = 65_536;
/// Packets that are told of; each takes some 150 bytes.
const ACTS_MAX: usize = 1_000_000;
/// Payload that is kept of one packet: all that an Ethernet frame carries.
const BYTES_PER_ACT_MAX: usize = 2048;
/// Payload that is kept of all packets.
const BYTES_MAX: usize = 64 << 20;
/// Doors that answered.
const DOORS_MAX: usize = 4096;
/// A copy of a packet, seen on a second interface of the same host, comes no later than this.
const COPY_NANOS_MAX: u64 = 10_000_000;
/// Packets of a conversation among which a copy is looked for.
const COPIES_MAX: usize = 8;
/// Ports from here on are given to clients by the kernel (ip(7), `ip_local_port_range`).
const EPHEMERAL_MIN: u16 = 32_768;

/// The conversations of a capture, as far as it was read.
#[derive(Default)]
pub(super) struct Talks {
    story: Story,
    flows: HashMap<Key, Flow>,
    acts: usize,
    bytes: usize,
    last: u64,
    frames: u64,
    remarks: BTreeMap<&'static str, Remark>,
    skipped: BTreeMap<Skip, u64>,
}

/// A note, and how often it would have been made.
struct Remark {
    text: String,
    count: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    is_stream: bool,
    lower: SocketAddr,
    upper: SocketAddr,
}

/// A conversation that packets still come for.
struct Flow {
    /// Where it stands in the story.
    place: usize,
    client: SocketAddr,
    up: Stream,
    down: Stream,
    /// Datagrams of each way.
    messages: (u64, u64),
    is_reset: bool,
    copies: VecDeque<Copy>,
}

struct Copy {
    print: u64,
    place: (u32, u64),
    at: u64,
}

impl Talks {
    /// Takes in a frame.
    pub(super) fn take(&mut self, frame: &Frame) {
        self.frames = self.frames.saturating_add(1);
        let at = frame.at.unwrap_or(self.last);
        if frame.at.is_none() {
            self.remark("time", || "packets without a time stand at the time before them".into());
        }
        self.last = at;
        let packet = match layers::packet(frame.link, &frame.data) {
            Ok(packet) => packet,
            Err(skip) => {
                let count = self.skipped.entry(skip).or_default();
                *count = count.saturating_add(1);
                return;
            }
        };
        if packet.is_fragment {
            self.remark("fragment", || {
                format!("frame {}: only the first fragment is shown, as the whole", frame.number)
            });
        }
        if self.acts >= ACTS_MAX {
            let text = || format!("only the first {ACTS_MAX} packets are told of");
            return self.remark("acts", text);
        }
        let (source, target) = (packet.source, packet.target);
        let key = Key {
            is_stream: is_stream(&packet.what),
            lower: source.min(target),
            upper: source.max(target),
        };
        let Some(mut flow) = self.flow(key, &packet, frame.number) else { return };
        let place = (frame.interface, packet.place);
        if flow.is_copy(&packet, place, at) {
            self.remark("copy", || {
                format!("frame {}: seen before on another interface, left out", frame.number)
            });
        } else {
            self.act(&mut flow, &packet, (at, frame.number));
        }
        self.flows.insert(key, flow);
    }

    /// The conversation of a packet, a new one if need be; `None` if there are too many.
    fn flow(&mut self, key: Key, packet: &Packet<'_>, number: u64) -> Option<Flow> {
        if let Some(flow) = self.flows.remove(&key) {
            if !flow.is_over_with(packet) {
                return Some(flow);
            }
            self.end(&flow);
        }
        let place = self.story.talks.len();
        if place >= TALKS_MAX {
            let text = || format!("only the first {TALKS_MAX} conversations are told of");
            self.remark("talks", text);
            return None;
        }
        let (client, is_guess) = client_of(packet);
        let server = if client == packet.source { packet.target } else { packet.source };
        if is_guess {
            self.remark("guess", || {
                format!(
                    "frame {number}: the beginning was not captured; {server} is taken for the server"
                )
            });
        }
        let scheme = if key.is_stream { Scheme::Tcp } else { Scheme::Udp };
        self.story.talks.push(Talk {
            number: u64::try_from(place).unwrap_or(u64::MAX).saturating_add(1),
            scheme,
            client: client.to_string(),
            server: server.to_string(),
            ..Talk::default()
        });
        Some(Flow {
            place,
            client,
            up: Stream::default(),
            down: Stream::default(),
            messages: (0, 0),
            is_reset: false,
            copies: VecDeque::new(),
        })
    }

    fn act(&mut self, flow: &mut Flow, packet: &Packet<'_>, (at, n): (u64, u64)) {
        let way = if packet.source == flow.client { Way::Up } else { Way::Down };
        let did = match &packet.what {
            What::Unreachable { .. } => Did::Unreachable { way },
            What::Udp { len, bytes } => {
                let count = match way {
                    Way::Up => &mut flow.messages.0,
                    Way::Down => &mut flow.messages.1,
                };
                let msg = *count;
                *count = count.saturating_add(1);
                Did::Packet { way, msg, len: *len, bytes: self.keep(bytes) }
            }
            What::Tcp(tcp) => self.segment(flow, way, tcp, n),
        };
        if let Did::Segment { way: Way::Down, flags, .. } = &did
            && &**flags == "SA"
        {
            self.door(packet.source.to_string(), (at, n));
        }
        if let Some(talk) = self.story.talks.get_mut(flow.place) {
            talk.acts.push(Act { at, n, seen: Seen::Wire, did });
            self.acts = self.acts.saturating_add(1);
        }
    }

    fn segment(&mut self, flow: &mut Flow, way: Way, tcp: &Tcp<'_>, n: u64) -> Did {
        let (own, other) = match way {
            Way::Up => (&mut flow.up, &mut flow.down),
            Way::Down => (&mut flow.down, &mut flow.up),
        };
        let placed = own.place(tcp);
        if tcp.flags & ACK != 0 && tcp.flags & RST == 0 {
            other.acknowledged(tcp.ack);
        }
        flow.is_reset |= tcp.flags & RST != 0;
        // Both sides must have offered to scale (RFC 7323, section 2.2), and a SYN never is scaled.
        let shift = match (own.shift(), other.shift()) {
            (Some(Some(shift)), Some(Some(_))) if tcp.flags & SYN == 0 => shift,
            _ => 0,
        };
        let is_unscaled = own.shift().is_none() && tcp.flags & RST == 0;
        if is_unscaled {
            let text = "windows are shown unscaled where the SYN was not captured";
            self.remark("scale", || text.to_owned());
        }
        if placed.before > 0 {
            self.remark("before", || {
                format!("frame {n}: bytes before the first one that was captured are left out")
            });
        }
        let skip = usize::try_from(placed.before).unwrap_or(usize::MAX);
        let bytes = if tcp.flags & RST != 0 { &[] } else { tcp.bytes.get(skip..).unwrap_or(&[]) };
        Did::Segment {
            way,
            flags: letters(tcp.flags),
            off: placed.off,
            bytes: self.keep(bytes),
            window: u64::from(tcp.window) << shift,
            again: placed.again,
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Box<[u8]> {
        let room = BYTES_MAX.saturating_sub(self.bytes).min(BYTES_PER_ACT_MAX);
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.bytes = self.bytes.saturating_add(kept.len());
        kept.into()
    }

    /// Somebody listens there: the kernel answered a SYN.
    fn door(&mut self, addr: String, (since, n): (u64, u64)) {
        let doors = &mut self.story.doors;
        let is_known = doors.iter().any(|door| door.addr == addr);
        if !is_known && doors.len() < DOORS_MAX {
            doors.push(Door { addr, since, n, ..Door::default() });
        }
    }

    /// No packet comes for this conversation any more.
    fn end(&mut self, flow: &Flow) {
        let missing = flow.up.missing().saturating_add(flow.down.missing());
        if missing > 0 {
            let number = flow.place.saturating_add(1);
            self.remark("missing", || {
                format!("conversation {number}: {missing} bytes of it were not captured")
            });
        }
    }

    fn remark(&mut self, kind: &'static str, text: impl FnOnce() -> String) {
        let remark = self.remarks.entry(kind).or_insert_with(|| Remark { text: text(), count: 0 });
        remark.count = remark.count.saturating_add(1);
    }

    /// The story, and the time at which it begins: nanoseconds since 1970.
    pub(super) fn finish(mut self) -> (Story, Option<u64>) {
        let mut flows: Vec<Flow> = std::mem::take(&mut self.flows).into_values().collect();
        flows.sort_by_key(|flow| flow.place);
        for flow in flows {
            self.end(&flow);
        }
        let skips = self.skipped.into_iter().map(|(skip, count)| left_out(skip, count));
        let once = ["time", "acts", "talks", "scale"];
        let remarks = self.remarks.into_iter().map(|(kind, Remark { text, count })| match count {
            1 => text,
            _ if once.contains(&kind) => text,
            count => format!("{text}; {} more like this", count.saturating_sub(1)),
        });
        let mut story = self.story;
        story.notes.extend(remarks.chain(skips));
        if story.talks.is_empty() {
            let frames = self.frames;
            story.notes.push(format!("no TCP or UDP over IP in {frames} frames"));
        }
        let first = story.talks.iter().flat_map(|talk| &talk.acts).map(|act| act.at).min();
        let begin = first.unwrap_or(0);
        for talk in &mut story.talks {
            // Several interfaces do not write in order.
            talk.acts.sort_by_key(|act| act.at);
            talk.acts.iter_mut().for_each(|act| act.at = act.at.saturating_sub(begin));
        }
        for door in &mut story.doors {
            door.since = door.since.saturating_sub(begin);
        }
        (story, first)
    }
}

impl Flow {
    /// Does this packet open a new conversation between the same two addresses?
    fn is_over_with(&self, packet: &Packet<'_>) -> bool {
        let What::Tcp(tcp) = &packet.what else { return false };
        if tcp.flags & (SYN | ACK) != SYN {
            return false;
        }
        let own = if packet.source == self.client { &self.up } else { &self.down };
        let is_closed = self.is_reset || (self.up.is_ended() && self.down.is_ended());
        match own.syn() {
            Some(syn) => is_closed || syn != tcp.seq,
            // Both may open at once (RFC 9293, section 3.5); a beginning that was not captured is
            // another matter.
            None => is_closed || own.is_begun(),
        }
    }

    /// The `any` device shows a packet once for each interface that it passes.
    fn is_copy(&mut self, packet: &Packet<'_>, place: (u32, u64), at: u64) -> bool {
        let mut hasher = DefaultHasher::new();
        (packet.source, packet.target, packet.identity).hash(&mut hasher);
        let print = hasher.finish();
        let seen = self.copies.iter().position(|copy| {
            copy.print == print && copy.place != place && copy.at.abs_diff(at) <= COPY_NANOS_MAX
        });
        if seen.and_then(|index| self.copies.remove(index)).is_some() {
            return true;
        }
        self.copies.truncate(COPIES_MAX - 1);
        self.copies.push_front(Copy { print, place, at });
        false
    }
}

fn is_stream(what: &What<'_>) -> bool {
    matches!(what, What::Tcp(_) | What::Unreachable { is_stream: true })
}

/// The client of the conversation that this packet is the first of, and whether that is a guess.
fn client_of(packet: &Packet<'_>) -> (SocketAddr, bool) {
    let (source, target) = (packet.source, packet.target);
    match &packet.what {
        What::Tcp(tcp) if tcp.flags & SYN != 0 => {
            (if tcp.flags & ACK == 0 { source } else { target }, false)
        }
        What::Tcp(_) if source.port() < target.port() => (target, true),
        What::Tcp(_) => (source, true),
        // Who sends first is the client, unless only its port is one that servers have.
        _ if source.port() < EPHEMERAL_MIN && target.port() >= EPHEMERAL_MIN => (target, true),
        _ => (source, false),
    }
}

fn letters(flags: u8) -> Box<str> {
    let all = [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (ACK, 'A'), (PSH, 'P')];
    let set = all.into_iter().filter(|(flag, _)| flags & flag != 0);
    set.map(|(_, letter)| letter).collect::<String>().into()
}

fn left_out(skip: Skip, count: u64) -> String {
    let frames = if count == 1 { "1 frame".to_owned() } else { format!("{count} frames") };
    match skip {
        Skip::Link(link) => format!("{frames} left out: link type {link} is not known here"),
        Skip::NotIp => format!("{frames} left out: no IP, such as ARP"),
        Skip::LaterFragment => format!("{frames} left out: further fragments of a datagram"),
        Skip::OtherProtocol => format!("{frames} left out: neither TCP nor UDP"),
        Skip::Short => format!("{frames} left out: cut short, or broken"),
    }
}
