//! The ruler: every byte of a stream has one number; writes, segments and reads share the scale.

mod datagrams;
mod lane;

use crate::rows::size;
use crate::story::{Act, Did, Seen, Talk, Way};

use super::canvas::{Area, Canvas, Look, Stroke, Tone};
use super::measure::{Font, Px, scale};
use super::{MARGIN, Picture, WIDTH};
use lane::{Block, Lane};

/// Draws the rulers of both ways of a talk.
pub(super) fn draw(talk: &Talk, is_live: bool) -> Picture {
    let mut canvas = Canvas::new(is_live);
    let mut y = 8;
    for way in [Way::Up, Way::Down] {
        y = match talk.scheme.is_datagram() {
            true => datagrams::draw(&mut canvas, talk, way, y),
            false => stream(&mut canvas, talk, way, y),
        };
        y += 20;
    }
    let label = format!("Byte ruler of conversation {}", talk.number);
    Picture { body: canvas.into_body(), height: y, label }
}

/// One way of a stream; gives where it ends.
fn stream(canvas: &mut Canvas, talk: &Talk, way: Way, y: Px) -> Px {
    let lanes = lanes(talk, way);
    let total = lanes.iter().flat_map(|lane| &lane.blocks).map(|block| block.to).max().unwrap_or(0);
    heading(canvas, way, y, &size(total));
    if total == 0 {
        let look = Look::new(Font::BODY, Tone::Muted);
        canvas.text((MARGIN, y + 48), look, "No byte went this way.");
        return y + 60;
    }
    let ruler = Ruler::of(total, way);
    let mut y = y + 60;
    ruler.axis(canvas, y, &lanes);
    y += 14;
    let bytes = contents(talk, way, total);
    if !bytes.is_empty() {
        ruler.cells(canvas, y, &bytes);
        y += 36;
    }
    for lane in &lanes {
        y = lane.draw(canvas, &ruler, y);
    }
    y
}

/// `client → server    100 B`.
fn heading(canvas: &mut Canvas, way: Way, y: Px, sum: &str) {
    let text = match way {
        Way::Up => "client → server",
        Way::Down => "server → client",
    };
    canvas.text((MARGIN, y + 20), Look::new(Font::STRONG, Tone::of(way)), text);
    canvas.text((MARGIN + 150, y + 20), Look::new(Font::BODY, Tone::Muted), sum);
}

/// The scale of one way.
struct Ruler {
    way: Way,
    total: u64,
    length: Px,
    /// Width of a byte where single bytes are shown, else 0.
    byte_width: Px,
}

impl Ruler {
    fn of(total: u64, way: Way) -> Self {
        let few = i32::try_from(total).unwrap_or(i32::MAX);
        let byte_width = match few {
            1..=33 => 22,
            34..=BYTES_MAX => LENGTH / few,
            _ => 0,
        };
        let length = if byte_width > 0 { byte_width * few } else { LENGTH };
        Self { way, total, length, byte_width }
    }

    /// Where a byte begins.
    fn place(&self, byte: u64) -> Px {
        LEFT + scale(byte, self.total, self.length)
    }

    fn axis(&self, canvas: &mut Canvas, y: Px, lanes: &[Lane]) {
        let apart = if self.byte_width > 0 { 44 } else { 72 };
        let step = step(self.total, u64::try_from(self.length / apart).unwrap_or(1));
        canvas.line((LEFT, y), (LEFT + self.length, y), Stroke::Thin, Tone::Muted);
        let bottom = y + 10 + 34 * i32::try_from(lanes.len()).unwrap_or(8);
        let bottom = if self.byte_width > 0 { bottom + 36 } else { bottom };
        let look = Look::new(Font::TINY, Tone::Muted).middle();
        let width = Font::TINY.width(&self.total.to_string());
        let mut byte = 0;
        while byte < self.total {
            let x = self.place(byte);
            canvas.line((x, y - 5), (x, bottom), Stroke::Thin, Tone::Faint);
            // The last number is that of the end; no other stands in its way.
            if x + width + 4 < LEFT + self.length {
                canvas.text((x, y - 9), look, &byte.to_string());
            }
            byte = byte.saturating_add(step);
        }
        let end = LEFT + self.length;
        canvas.line((end, y - 5), (end, bottom), Stroke::Thin, Tone::Faint);
        let look = Look::new(Font::TINY, Tone::Ink).middle();
        canvas.text((end.min(WIDTH - 4 - width / 2), y - 9), look, &self.total.to_string());
    }

    /// Each byte as a cell of its own.
    fn cells(&self, canvas: &mut Canvas, y: Px, bytes: &[Option<u8>]) {
        canvas.text((MARGIN, y + 19), Look::new(Font::BODY, Tone::Ink), "bytes");
        for (number, byte) in (0_u64..).zip(bytes) {
            let (x, next) = (self.place(number), number + 1);
            let letter = Tone::of(self.way).letter();
            canvas.open("byte", &[("w", &letter), ("a", &number), ("z", &next)]);
            canvas.area(Area(x, y + 2, self.byte_width, 26), "chip");
            if let Some(byte) = byte {
                canvas.title(&format!("byte {number}: {}", spelled(*byte)));
                let text = if self.byte_width < 18 { narrow(*byte) } else { wide(*byte) };
                let font = if text.len() > 1 { Font::TINY } else { Font::CODE };
                let look = Look::new(font, Tone::Ink).middle();
                canvas.text((x + self.byte_width / 2, y + 19), look, &text);
            }
            canvas.close();
        }
    }
}

/// What was done with the bytes of this way, in the order in which they pass.
fn lanes(talk: &Talk, way: Way) -> Vec<Lane> {
    let (writer, reader) = match way {
        Way::Up => ("client", "server"),
        Way::Down => ("server", "client"),
    };
    let mut lanes = [
        Lane::new(writer, "write", way),
        Lane::new("relay", "read", way),
        Lane::new("wire", "segment", way),
        Lane::new("relay", "write", way),
        Lane::new(reader, "read", way),
    ];
    for (index, act) in talk.acts.iter().enumerate() {
        let Some((place, block)) = block(act, index, way) else { continue };
        if let Some(lane) = lanes.get_mut(place) {
            lane.blocks.push(block);
        }
    }
    lanes.into_iter().filter(|lane| !lane.blocks.is_empty()).collect()
}

/// The bytes of an act, and the number of its lane.
fn block(act: &Act, index: usize, wanted: Way) -> Option<(usize, Block)> {
    let is_relay = matches!(act.seen, Seen::RelayToClient | Seen::RelayToServer);
    let (lane, way, off, again) = match &act.did {
        Did::Write { way, off, .. } => (if is_relay { 3 } else { 0 }, way, off, false),
        Did::Read { way, off, .. } => (if is_relay { 1 } else { 4 }, way, off, false),
        Did::Segment { way, off, again, .. } => (2, way, off, *again),
        _ => return None,
    };
    let is_wanted = *way == wanted && off.start < off.end;
    is_wanted.then_some((lane, Block { from: off.start, to: off.end, again, index, at: act.at }))
}

/// The bytes of a short stream, as far as the trace has them.
fn contents(talk: &Talk, way: Way, total: u64) -> Vec<Option<u8>> {
    let Some(total) = i32::try_from(total).ok().filter(|total| *total <= BYTES_MAX) else {
        return Vec::new();
    };
    let mut known = vec![None; usize::try_from(total).unwrap_or(0)];
    for act in &talk.acts {
        let (Did::Write { way: one, off, bytes }
        | Did::Read { way: one, off, bytes }
        | Did::Segment { way: one, off, bytes, .. }) = &act.did
        else {
            continue;
        };
        let from = usize::try_from(off.start).unwrap_or(usize::MAX);
        let places = known.get_mut(from..).unwrap_or_default();
        for (place, byte) in places.iter_mut().zip(bytes).filter(|_| *one == way) {
            place.get_or_insert(*byte);
        }
    }
    known
}

/// A byte where two characters have room.
fn wide(byte: u8) -> String {
    match byte {
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\t' => "\\t".to_owned(),
        b' ' => "␣".to_owned(),
        0x21..=0x7e => char::from(byte).to_string(),
        _ => format!("{byte:02x}"),
    }
}

/// A byte where one character has room.
fn narrow(byte: u8) -> String {
    match byte {
        0x21..=0x7e => char::from(byte).to_string(),
        _ => "·".to_owned(),
    }
}

fn spelled(byte: u8) -> String {
    match byte {
        0x21..=0x7e => format!("{} (0x{byte:02x})", char::from(byte)),
        _ => format!("0x{byte:02x}"),
    }
}

/// A step of 1, 2 or 5 times a power of ten, so that about `most` steps fit.
fn step(total: u64, most: u64) -> u64 {
    let least = total / most.max(1) + 1;
    let mut ten = 1_u64;
    loop {
        for step in [ten, ten.saturating_mul(2), ten.saturating_mul(5)] {
            if step >= least {
                return step;
            }
        }
        // 20 rounds at most: then it has saturated, and is not less than anything.
        ten = ten.saturating_mul(10);
    }
}

/// Where rulers begin.
const LEFT: Px = MARGIN + 150;
/// How long they are at most.
const LENGTH: Px = WIDTH - MARGIN - LEFT - 14;
/// Streams up to this length show each byte.
const BYTES_MAX: i32 = 92;

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn steps_are_round_and_few() {
        assert_eq!(step(100, 10), 20);
        assert_eq!(step(6, 10), 1);
        assert_eq!(step(1_000_000, 10), 200_000);
        assert!(step(u64::MAX, 10) >= u64::MAX / 10);
    }
}
