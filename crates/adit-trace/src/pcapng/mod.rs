//! A story as a capture that Wireshark, tshark and tcpdump open.
//!
//! What was captured is written as it was. What only the programs told of is drawn: the handshake,
//! segments and their acknowledgements are made up around the bytes, places and times of the trace,
//! and the comment on the section says so. What each side called stands in comments on the packets.

mod comments;
mod draw;
mod legs;
mod packet;

use std::io::{self, Write};

use adit_proto::escape::escape_line;

use crate::capture::DRAWN;
use crate::story::Story;
use crate::time;
use draw::Shown;
use legs::Leg;
pub(crate) use legs::parse;
use packet::Numbers;

/// Writes the story as pcapng: one section, one interface of raw IP, times in nanoseconds.
///
/// Of each packet as much is captured as the story has of its payload; its original length is true.
/// Sequence numbers begin anew in each conversation. Unix sockets, and ends whose address is unknown,
/// stand at addresses in 127.64.0.0/10 and 127.128.0.0/10 that are made up; a comment says for whom.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let mut file = Vec::new();
/// adit_trace::pcapng::write(&adit_trace::Story::default(), &mut file)?;
/// assert!(adit_trace::capture::is_capture(&file));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The target cannot be written.
pub fn write(story: &Story, out: &mut impl Write) -> io::Result<()> {
    let legs = legs::legs(story);
    let mut room = PACKETS_MAX;
    let mut drawn = 0_usize;
    let mut sheets = Vec::with_capacity(legs.len());
    for leg in &legs {
        let is_drawn = !leg.has_packets();
        let mut shown = if is_drawn { draw::from_calls(leg, room) } else { draw::from_wire(leg) };
        shown.truncate(room);
        room -= shown.len();
        drawn += usize::from(is_drawn && !shown.is_empty());
        comments::attach(leg, &mut shown);
        sheets.push((leg, shown));
    }
    let mut comment = match drawn {
        0 => "Written by adit from a capture; sequence numbers begin anew".to_owned(),
        _ if sheets.iter().any(|(leg, _)| leg.has_packets()) => {
            format!("{DRAWN}: {drawn} of {} conversations; {MADE_UP}", sheets.len())
        }
        _ => format!("{DRAWN}: {MADE_UP}"),
    };
    if room == 0 {
        comment.push_str(&format!("; only the first {PACKETS_MAX} packets are here"));
    }
    header(story, &comment, out)?;
    let start = time::nanos(&story.start).unwrap_or(0);
    for (at, bytes, len, comments) in packets(&sheets) {
        packet_block(start.saturating_add(at), (&bytes, len), comments, out)?;
    }
    out.flush()
}

/// Packets that are drawn at most: a trace may claim any number of bytes in one line.
const PACKETS_MAX: usize = 1_000_000;

const MADE_UP: &str = "handshakes, segments and acknowledgements are made up around the bytes, \
                       places and times of the events";

/// A packet in bytes, of which the first of its payload are known; its length; what is said of it.
type Block<'a> = (u64, Vec<u8>, u64, &'a [String]);

/// All packets in order of time.
fn packets<'a>(sheets: &'a [(&Leg<'_>, Vec<Shown>)]) -> impl Iterator<Item = Block<'a>> {
    let mut order: Vec<(u64, usize, &Shown)> = Vec::new();
    for (place, (_, shown)) in sheets.iter().enumerate() {
        order.extend(shown.iter().map(|one| (one.at, place, one)));
    }
    order.sort_by_key(|(at, ..)| *at);
    let mut numbers: Vec<Numbers> = sheets.iter().map(|_| Numbers::default()).collect();
    order.into_iter().filter_map(move |(at, place, shown)| {
        let (leg, _) = sheets.get(place)?;
        let (bytes, len) = numbers.get_mut(place)?.encode(leg, shown);
        Some((at, bytes, len, shown.comments.as_slice()))
    })
}

/// The section and its interface.
fn header(story: &Story, comment: &str, out: &mut impl Write) -> io::Result<()> {
    let mut body = Vec::new();
    body.extend(0x1a2b_3c4d_u32.to_le_bytes());
    body.extend(1_u16.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    body.extend(u64::MAX.to_le_bytes());
    option(&mut body, 1, comment.as_bytes());
    let programs = story.programs.iter().filter(|program| !program.name.is_empty());
    for program in programs.take(8) {
        let name = escape_line(program.name.as_bytes(), 200);
        let said = match program.pid {
            0 => format!("program: {name}"),
            pid => format!("program: {name} (pid {pid})"),
        };
        option(&mut body, 1, said.as_bytes());
    }
    option(&mut body, 1, escape_line(story.badge.to_string().as_bytes(), 200).as_bytes());
    option(&mut body, 4, concat!("adit ", env!("CARGO_PKG_VERSION")).as_bytes());
    option(&mut body, 0, &[]);
    block(0x0a0d_0d0a, &body, out)?;
    let mut body = Vec::new();
    body.extend(LINK_RAW.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    body.extend(0_u32.to_le_bytes());
    option(&mut body, 2, b"adit");
    option(&mut body, 9, &[9]);
    option(&mut body, 0, &[]);
    block(1, &body, out)
}

/// `LINKTYPE_RAW`: the packet begins with IP, of either version.
const LINK_RAW: u16 = 101;

fn packet_block(
    at: u64,
    (bytes, len): (&[u8], u64),
    comments: &[String],
    out: &mut impl Write,
) -> io::Result<()> {
    let [high, low] = [at >> 32, at & 0xffff_ffff].map(to_u32);
    let mut body = Vec::with_capacity(bytes.len() + 64);
    for field in [0, high, low, to_u32(bytes.len()), to_u32(len)] {
        body.extend(field.to_le_bytes());
    }
    body.extend(bytes);
    pad(&mut body);
    for comment in comments {
        option(&mut body, 1, comment.as_bytes());
    }
    if !comments.is_empty() {
        option(&mut body, 0, &[]);
    }
    block(6, &body, out)
}

fn block(kind: u32, body: &[u8], out: &mut impl Write) -> io::Result<()> {
    let length = to_u32(body.len() + 12).to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&length)?;
    out.write_all(body)?;
    out.write_all(&length)
}

/// Appends an option; a value that is too long for its length field is cut.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..OPTION_BYTES_MAX).unwrap_or(value);
    let length = u16::try_from(value.len()).unwrap_or(0);
    body.extend(code.to_le_bytes());
    body.extend(length.to_le_bytes());
    body.extend(value);
    pad(body);
}

const OPTION_BYTES_MAX: usize = 4096;

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn to_u32(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}
