//! One row of a sequence: an arrow with what it carries, and beside it what each side did.

use crate::rows::{Close, Datagram, End, Fate, Kind, Message, Pieces, Row, Setup, Stage, Trouble};
use crate::rows::{clean, duration, size};
use crate::story::{Seen, Way};

use super::super::canvas::{Area, Canvas, Look, Stroke, Tone};
use super::super::facts::moment;
use super::super::measure::{Font, Px, px};
use super::super::{MARGIN, WIDTH};
use super::TIME_END;
use super::cast::{Cast, zigzag};

/// From the top of a row to its line.
const LINE: Px = 26;
/// As much more room above and below a line where boxes of the wire stand upon it.
const WIRE: Px = 4;

/// From the top of a row to its line, in this sequence.
pub(super) fn line_of(cast: &Cast<'_>) -> Px {
    LINE + extra(cast)
}

fn extra(cast: &Cast<'_>) -> Px {
    if cast.wire.is_some() { WIRE } else { 0 }
}

/// How high a row is.
pub(super) fn height(row: &Row, cast: &Cast<'_>) -> Px {
    match &row.kind {
        Kind::Gap => 48,
        Kind::Close(_) => 46,
        Kind::Trouble(trouble) => 34 + px(trouble_lines(trouble, cast).len()) * 15,
        _ if under(row, cast).is_empty() => 44 + 2 * extra(cast),
        _ => 58 + 2 * extra(cast),
    }
}

/// The row in one sentence.
pub(super) fn tooltip(row: &Row) -> String {
    let at = moment(row.at);
    let unit = if at.ends_with('s') { "" } else { " ms" };
    let note = row.note();
    let note = if note.is_empty() { note } else { format!(" ({note})") };
    format!("{at}{unit}: {}{note}", row.label(160))
}

pub(super) fn draw(canvas: &mut Canvas, cast: &Cast<'_>, row: &Row, y: Px) {
    let line = y + line_of(cast);
    match &row.kind {
        Kind::Gap => {
            let words = match cast.has_times {
                true => row.label(40),
                false => "silence".to_owned(),
            };
            zigzag(canvas, (cast.server + 12, cast.client - 12), y + 24, &words);
        }
        Kind::Close(close) => draw_close(canvas, cast, close, y),
        Kind::Trouble(trouble) => draw_trouble(canvas, cast, trouble, y),
        Kind::Setup(_) if cast.talk.scheme.is_datagram() && !row.is_trouble() => {
            let look = Look::new(Font::SMALL, Tone::Muted).middle();
            canvas.text((middle(cast), line + 4), look, "a new peer; nothing is sent for that");
        }
        Kind::Setup(setup) => {
            let tone = if setup.code.is_some() { Tone::Lost } else { Tone::Ink };
            let is_lost = setup.code.is_some();
            arrow(canvas, cast, (Way::Up, tone, is_lost), line);
            label(canvas, cast, row, (line, tone));
            setup_sides(canvas, cast, setup, line);
        }
        Kind::Message(message) => {
            arrow(canvas, cast, (message.way, Tone::of(message.way), false), line);
            label(canvas, cast, row, (line, Tone::of(message.way)));
            for pieces in &message.stages {
                piece(canvas, cast, (row, message), pieces, line);
            }
        }
        Kind::Datagram(datagram) => {
            let is_lost = datagram.fate == Fate::Missing;
            let tone = if is_lost { Tone::Lost } else { Tone::of(datagram.way) };
            arrow(canvas, cast, (datagram.way, tone, is_lost), line);
            label(canvas, cast, row, (line, tone));
            datagram_sides(canvas, cast, (row.at, datagram), line);
        }
        Kind::End(end) => {
            arrow(canvas, cast, (end.way, Tone::of(end.way), false), line);
            label(canvas, cast, row, (line, Tone::of(end.way)));
            end_sides(canvas, cast, end, line);
        }
        Kind::Reset { way } => {
            arrow(canvas, cast, (*way, Tone::Lost, true), line);
            label(canvas, cast, row, (line, Tone::Lost));
        }
    }
    let under = under(row, cast);
    if !under.is_empty() {
        let room = cast.client - cast.server - 28;
        let look = Look::new(Font::SMALL, Tone::Muted).middle();
        // It may cross the relay's line.
        canvas.open(if cast.relay.is_some() { "halo" } else { "under" }, &[]);
        canvas.text((middle(cast), line + 17 + extra(cast)), look, &Font::SMALL.fit(&under, room));
        canvas.close();
    }
}

/// From one lifeline to the other, by way of the relay if there is one; a lost one ends in a cross.
fn arrow(canvas: &mut Canvas, cast: &Cast<'_>, what: (Way, Tone, bool), y: Px) {
    let (way, tone, is_lost) = what;
    let (from, to) = cast.ends(way);
    let away = if from < to { 3 } else { -3 };
    let stroke = Stroke::Solid;
    if is_lost {
        let stop = lost_at(from, to);
        canvas.line((from + away, y), (stop, y), stroke, tone);
        canvas.cross((stop + 3 * away, y));
        return;
    }
    match cast.relay {
        Some(relay) => {
            canvas.arrow((from + away, y), (relay - away, y), stroke, tone);
            canvas.arrow((relay + away, y), (to - away, y), stroke, tone);
        }
        None => canvas.arrow((from + away, y), (to - away, y), stroke, tone),
    }
}

/// What stands above an arrow: between the lifelines, or before the relay.
fn label(canvas: &mut Canvas, cast: &Cast<'_>, row: &Row, at: (Px, Tone)) {
    let (line, tone) = at;
    let (from, to) = row.way().map_or((cast.server, cast.client), |way| cast.ends(way));
    let end = match cast.relay {
        _ if row.is_trouble() => lost_at(from, to),
        Some(relay) => relay,
        None => to,
    };
    let (left, right) = (from.min(end), from.max(end));
    let room = right - left - 26;
    let columns = usize::try_from(room * 10 / 73).unwrap_or(0);
    let text = match (&row.kind, cast.has_times) {
        (Kind::Setup(setup), false) if setup.code.is_none() && !setup.is_unanswered() => {
            "connected".to_owned()
        }
        _ => row.label(columns),
    };
    let look = Look::new(Font::CODE, tone).middle();
    canvas.text(
        (i32::midpoint(left, right), line - 9 - extra(cast)),
        look,
        &Font::CODE.fit(&text, room),
    );
}

/// Where what is lost gets lost, for the eye.
fn lost_at(from: Px, to: Px) -> Px {
    from + (to - from) * 8 / 10
}

/// What stands below an arrow.
fn under(row: &Row, cast: &Cast<'_>) -> String {
    match &row.kind {
        Kind::Message(_) if cast.relay.is_some() => row.note(),
        Kind::Message(message) => {
            let again = match message.again {
                0 => None,
                again => Some(format!("{again} sent again")),
            };
            let late = message.is_late.then(|| "waited in the buffer".to_owned());
            let words: Vec<String> = again.into_iter().chain(late).collect();
            words.join(", ")
        }
        Kind::Datagram(_) | Kind::End(_) | Kind::Reset { .. } => row.note(),
        Kind::Setup(_) if cast.wire.is_some() => row.note(),
        Kind::Setup(_) | Kind::Close(_) | Kind::Trouble(_) | Kind::Gap => String::new(),
    }
}

fn setup_sides(canvas: &mut Canvas, cast: &Cast<'_>, setup: &Setup, line: Px) {
    let names = cast.scene.options.names;
    let is_datagram = cast.talk.scheme.is_datagram();
    let fd = |fd: Option<i32>| match (fd, cast.has_times) {
        (Some(fd), true) => format!("  fd {fd}"),
        _ => String::new(),
    };
    if let Some(seen) = setup.accept {
        let name = names.server(is_datagram);
        beside(canvas, cast, seen, line, &format!("{name}{}", fd(setup.accept_fd)));
    }
    if let Some(seen) = setup.connect {
        let name = names.client();
        beside(canvas, cast, seen, line, &format!("{name}{}", fd(setup.connect_fd)));
    }
}

/// What one side, or the wire, had of a message.
fn piece(
    canvas: &mut Canvas,
    cast: &Cast<'_>,
    (row, message): (&Row, &Message),
    pieces: &Pieces,
    line: Px,
) {
    let (writer, reader) = players(message.way);
    let seen = match pieces.stage {
        Stage::Written => writer,
        Stage::Read => reader,
        Stage::Wire => return on_the_wire(canvas, cast, pieces, line),
        Stage::Came | Stage::Passed => return,
    };
    let text = match (pieces.count, pieces.stage) {
        (0, _) => pieces.note(),
        (1, Stage::Written) => format!("write {}", size(pieces.bytes)),
        (1, _) => format!("read {}", size(pieces.bytes)),
        _ => format!("{}, {}", pieces.note(), size(pieces.bytes)),
    };
    beside(canvas, cast, seen, line, &(text + &after(cast, row.at, pieces.first)));
}

/// A box in the lane of the wire, upon the arrow.
fn on_the_wire(canvas: &mut Canvas, cast: &Cast<'_>, pieces: &Pieces, line: Px) {
    let Some((left, right)) = cast.wire else { return };
    let text = if pieces.count > 1 { pieces.note() } else { pieces.sums(14) };
    let (look, room) = (Look::new(Font::TINY, Tone::Ink).middle(), right - left - 16);
    canvas.area(Area(left + 4, line - 8, right - left - 8, 16), "chip");
    canvas.text((i32::midpoint(left, right), line + 4), look, &Font::TINY.fit(&text, room));
}

fn datagram_sides(canvas: &mut Canvas, cast: &Cast<'_>, what: (u64, &Datagram), line: Px) {
    let (at, datagram) = what;
    let (writer, reader) = players(datagram.way);
    for (stage, when) in &datagram.stages {
        let (seen, call) = match stage {
            Stage::Written => (writer, "sendto"),
            Stage::Read => (reader, "recvfrom"),
            Stage::Came | Stage::Wire | Stage::Passed => continue,
        };
        let text = format!("{call} {}{}", size(datagram.len), after(cast, at, *when));
        beside(canvas, cast, seen, line, &text);
    }
}

fn end_sides(canvas: &mut Canvas, cast: &Cast<'_>, end: &End, line: Px) {
    let (writer, reader) = players(end.way);
    for stage in &end.stages {
        match stage {
            Stage::Written => beside(canvas, cast, writer, line, "shutdown"),
            Stage::Read => beside(canvas, cast, reader, line, "read = 0: end"),
            Stage::Came | Stage::Wire | Stage::Passed => {}
        }
    }
}

/// The lifeline ends in a bar; a conversation that failed in a cross.
fn draw_close(canvas: &mut Canvas, cast: &Cast<'_>, close: &Close, y: Px) {
    let (x, line) = (cast.place(close.seen), y + 23);
    let (text, tone) = match &close.code {
        Some(code) if !close.is_clean() => (format!("over: {}", clean(code)), Tone::Lost),
        _ => match close.fd {
            Some(fd) if cast.has_times => (format!("close  fd {fd}"), Tone::Ink),
            _ => ("close".to_owned(), Tone::Ink),
        },
    };
    if tone == Tone::Lost {
        canvas.cross((x, line));
    } else {
        canvas.trail(&[(x - 9, line), (x + 9, line)], Stroke::Solid, Tone::Ink);
    }
    let sums = close.sums().filter(|_| cast.has_times);
    let first = if sums.is_some() { line - 3 } else { line + 4 };
    aside(canvas, cast, close.seen, (first, tone), &text);
    if let Some(sums) = sums {
        aside(canvas, cast, close.seen, (line + 12, Tone::Muted), &sums);
    }
}

fn draw_trouble(canvas: &mut Canvas, cast: &Cast<'_>, trouble: &Trouble, y: Px) {
    let is_order = matches!(&*trouble.code, "limit" | "drain");
    let (x, tone) = (cast.place(trouble.seen), if is_order { Tone::Ink } else { Tone::Lost });
    if is_order {
        canvas.dot((x, y + line_of(cast)), tone);
    } else {
        canvas.cross((x, y + line_of(cast)));
    }
    let is_right = x == cast.client;
    let look = Look::new(Font::SMALL, tone);
    let (x, look) = if is_right { (x - 16, look.end()) } else { (x + 16, look) };
    let mut base = y + line_of(cast) + 4;
    for line in trouble_lines(trouble, cast) {
        canvas.text((x, base), look, &line);
        base += 15;
    }
}

/// The words between the lifelines.
fn trouble_lines(trouble: &Trouble, cast: &Cast<'_>) -> Vec<String> {
    let room = cast.client - cast.server - 40;
    let room = if cast.relay.is_some() { room / 2 } else { room };
    Font::SMALL.lines(&trouble.text, room, 4)
}

/// Beside a lifeline, on its outer side, at the height of a line.
fn beside(canvas: &mut Canvas, cast: &Cast<'_>, seen: Seen, line: Px, text: &str) {
    if matches!(seen, Seen::Server | Seen::Client) {
        aside(canvas, cast, seen, (line + 4, Tone::Ink), text);
    }
}

/// A text on the outer side of a lifeline; the relay's stands between the lines to its right.
fn aside(canvas: &mut Canvas, cast: &Cast<'_>, seen: Seen, at: (Px, Tone), text: &str) {
    let (base, tone) = at;
    let (x, look) = (cast.place(seen), Look::new(Font::SMALL, tone));
    let (x, room, look) = match seen {
        Seen::Server => (x - 12, x - 12 - TIME_END - 8, look.end()),
        Seen::Client => (x + 12, WIDTH - MARGIN - x - 12, look),
        _ => (x + 14, cast.client - x - 28, look),
    };
    canvas.text((x, base), look, &Font::SMALL.fit(text, room));
}

/// How much later than the row began; empty where that is the beginning.
fn after(cast: &Cast<'_>, began: u64, at: u64) -> String {
    match at.saturating_sub(began) {
        0 => String::new(),
        _ if !cast.has_times => String::new(),
        later => format!("  +{}", duration(later)),
    }
}

fn middle(cast: &Cast<'_>) -> Px {
    i32::midpoint(cast.server, cast.client)
}

/// Who writes and who reads what goes this way.
const fn players(way: Way) -> (Seen, Seen) {
    match way {
        Way::Up => (Seen::Client, Seen::Server),
        Way::Down => (Seen::Server, Seen::Client),
    }
}
