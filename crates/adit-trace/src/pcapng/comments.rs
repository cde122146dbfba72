//! What each side called, as comments on the packets that carried it.

use std::ops::Range;

use adit_proto::escape::escape_line;

use super::draw::{Shown, What, own_way};
use super::legs::Leg;
use crate::capture::flags::{ACK, FIN, SYN};
use crate::story::{Act, Did, Seen, Way};

/// Comments on one packet at most; the rest is counted.
const COMMENTS_MAX: usize = 32;

/// Attaches every call to the packet that it sent, or that it waited for.
pub(super) fn attach(leg: &Leg<'_>, shown: &mut [Shown]) {
    let index = Index::of(shown);
    let mut left = vec![0_usize; shown.len()];
    for act in &leg.acts {
        let Some(words) = words(&act.did) else { continue };
        let Some(place) = index.home(act) else { continue };
        let Some(packet) = shown.get_mut(place) else { continue };
        if packet.comments.len() >= COMMENTS_MAX {
            left.get_mut(place).into_iter().for_each(|count| *count += 1);
            continue;
        }
        let (seconds, micros) = (act.at / 1_000_000_000, act.at / 1000 % 1_000_000);
        let who = who(act.seen);
        packet.comments.push(format!("{who}: {words} at {seconds}.{micros:06}"));
    }
    for (packet, count) in shown.iter_mut().zip(left).filter(|(_, count)| *count > 0) {
        packet.comments.push(format!("{count} calls more"));
    }
    if let Some(first) = shown.first_mut() {
        first.comments.extend(leg.comments.iter().cloned());
    }
}

/// Where to find a packet.
struct Index {
    /// First and one past the last byte of each segment with payload, and its place; up, down.
    bytes: [Vec<(u64, u64, usize)>; 2],
    /// The places of the datagrams; up, down.
    datagrams: [Vec<usize>; 2],
    /// The first FIN; up, down.
    ends: [Option<usize>; 2],
    syn: Option<usize>,
    opened: Option<usize>,
    /// When the packets were seen, never going back.
    times: Vec<u64>,
}

impl Index {
    fn of(shown: &[Shown]) -> Self {
        let mut index = Self {
            bytes: Default::default(),
            datagrams: Default::default(),
            ends: [None; 2],
            syn: None,
            opened: None,
            times: Vec::with_capacity(shown.len()),
        };
        for (place, packet) in shown.iter().enumerate() {
            let before = index.times.last().copied().unwrap_or(0);
            index.times.push(packet.at.max(before));
            let way = usize::from(packet.way == Way::Down);
            match &packet.what {
                What::Segment(segment) if !segment.off.is_empty() => {
                    index.bytes[way].push((segment.off.start, segment.off.end, place));
                }
                What::Datagram { .. } => index.datagrams[way].push(place),
                _ => {}
            }
            let flags = packet.flags();
            if flags & FIN != 0 {
                index.ends[way].get_or_insert(place);
            }
            if flags & SYN != 0 {
                index.syn.get_or_insert(place);
            } else if flags & ACK != 0 {
                index.opened.get_or_insert(place);
            }
        }
        index.bytes.iter_mut().for_each(|list| list.sort_unstable());
        index
    }

    fn home(&self, act: &Act) -> Option<usize> {
        let end = |way: Way| self.ends[usize::from(way == Way::Down)];
        let known = match &act.did {
            Did::Write { way, off, .. } => self.holding(*way, off, off.start),
            Did::Read { way, off, .. } => self.holding(*way, off, off.end.saturating_sub(1)),
            Did::Send { way, msg, .. } | Did::Receive { way, msg, .. } => {
                let list = &self.datagrams[usize::from(*way == Way::Down)];
                usize::try_from(*msg).ok().and_then(|msg| list.get(msg).copied())
            }
            Did::WriteEnd { way } | Did::ReadEnd { way } => end(*way),
            Did::Close { .. } | Did::Over { .. } => end(own_way(act.seen)),
            Did::Connect { .. } => self.syn,
            Did::Accept { .. } | Did::Open => self.opened,
            _ => None,
        };
        // Whatever went by last before it; the first if nothing did.
        let last = self.times.len().checked_sub(1)?;
        let before = self.times.partition_point(|at| *at <= act.at).saturating_sub(1);
        Some(known.unwrap_or(before).min(last))
    }

    /// The first segment that holds this byte.
    fn holding(&self, way: Way, off: &Range<u64>, byte: u64) -> Option<usize> {
        if off.is_empty() {
            return None;
        }
        let list = &self.bytes[usize::from(way == Way::Down)];
        let upper = list.partition_point(|(from, ..)| *from <= byte);
        // Segments overlap where bytes were sent again; not far.
        let near = list.get(upper.saturating_sub(OVERLAPS_MAX)..upper)?;
        near.iter().filter(|(_, to, _)| byte < *to).map(|(.., place)| *place).min()
    }
}

/// How many segments that begin before a byte are looked at.
const OVERLAPS_MAX: usize = 64;

const fn who(seen: Seen) -> &'static str {
    match seen {
        Seen::Client => "client",
        Seen::Server => "server",
        Seen::RelayToClient => "relay, towards the client",
        Seen::RelayToServer => "relay, towards the server",
        Seen::Wire => "wire",
    }
}

/// A call and what it returned; `None` for what is a packet itself.
fn words(did: &Did) -> Option<String> {
    let short = |text: &str| escape_line(text.as_bytes(), 80);
    let fd = |fd: &Option<i32>| fd.map_or_else(String::new, |fd| format!(" fd {fd}"));
    let len = |off: &Range<u64>| off.end.saturating_sub(off.start);
    Some(match did {
        Did::Accept { fd: Some(fd) } => format!("accept = fd {fd}"),
        Did::Accept { fd: None } => "accept".to_owned(),
        Did::Connect { fd: known, addr, took, code } => {
            let result =
                code.as_deref().map_or_else(|| fd(known), |code| format!(" {}", short(code)));
            let took = took.map_or_else(String::new, |took| format!(" after {} us", took / 1000));
            let result = if result.is_empty() { " done".to_owned() } else { result };
            format!("connect {} ={result}{took}", short(addr))
        }
        Did::Open => "open".to_owned(),
        Did::Write { off, .. } => format!("write {} B [{},{})", len(off), off.start, off.end),
        Did::Read { off, .. } => format!("read = {} B [{},{})", len(off), off.start, off.end),
        Did::Send { msg, len, .. } => format!("sendto {len} B, datagram {msg}"),
        Did::Receive { msg, len, .. } => format!("recvfrom = {len} B, datagram {msg}"),
        Did::Truncated { len } => format!("truncated: {len} B of the datagram are left"),
        Did::ReadEnd { .. } => "read = 0, the end".to_owned(),
        Did::WriteEnd { .. } => "shutdown, nothing more is written".to_owned(),
        Did::Close { fd: known } => format!("close{}", fd(known)),
        Did::Over { code, bytes_in, bytes_out, .. } => {
            let part = |bytes: Option<u64>, way: &str| {
                bytes.map_or_else(String::new, |bytes| format!(", {bytes} B {way}"))
            };
            let (came, went) = (part(*bytes_in, "in"), part(*bytes_out, "out"));
            format!("over: {}{came}{went}", short(code))
        }
        Did::Lost { code, unconfirmed } => {
            format!("lost: {unconfirmed} B not acknowledged, {}", short(code))
        }
        Did::Limit { name, action, count } => {
            format!("limit {}: {} ({count} times)", short(name), short(action))
        }
        Did::Error { code, text, place } => {
            format!("error {} in {}: {}", short(code), short(place), short(text))
        }
        Did::Drain => "drain".to_owned(),
        Did::Segment { .. } | Did::Packet { .. } | Did::Unreachable { .. } => return None,
    })
}
