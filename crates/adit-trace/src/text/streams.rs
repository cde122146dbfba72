//! The streams: the lecture's picture of keyboard, streams, sockets and monitor, with byte counts.
//!
//! A stream has a count of bytes; datagrams are boxes, because their edges are kept.

use super::head::title;
use super::page::{Page, centre, pad, wrap};
use super::sums::{Count, Sums};
use super::{COLUMNS_MAX, Options};
use crate::rows::{Kind, Observers, Row, Stage, plural, rows, size};
use crate::story::{Seen, Story, Talk, Way};

/// At most this many datagrams are drawn as boxes.
const BOXES_MAX: usize = 8;

/// Width of a box with its edges.
const BOX: usize = 36;

/// Columns between the client's boxes and the server's.
const BETWEEN: usize = COLUMNS_MAX - 2 * BOX - 2;

/// The picture of one talk.
pub(super) fn streams(page: &mut Page, story: &Story, talk: &Talk, options: &Options) {
    let sums = Sums::of(talk);
    page.line(&title(talk, sums.observers));
    if talk.scheme.is_datagram() {
        return datagrams(page, talk, &sums, options);
    }
    let names = options.names;
    let fd = |fd: Option<i32>| fd.map_or_else(String::new, |fd| format!(" fd{fd}"));
    let at = |way, stage, verb| amount(sums.at(way, stage), verb);
    let (typed, shown) = keyboard(story, &sums);
    page.line("    keyboard          monitor");
    page.line("        |                ^");
    page.line("        v                |");
    page.line(&edges(" client ", " server "));
    let text = |name: &str, count: &str| pad(name, 17) + count;
    let user = text(names.in_from_user(), &typed);
    page.line(&sides(&user, "", ""));
    let up = (at(Way::Up, Stage::Written, "write"), at(Way::Up, Stage::Read, "read"));
    let out = text(names.out_to_server(), &up.0);
    page.line(&sides(&out, &text(names.in_from_client(), &up.1), "----->"));
    let down = (at(Way::Down, Stage::Read, "read"), at(Way::Down, Stage::Written, "write"));
    let inward = text(names.in_from_server(), &down.0);
    page.line(&sides(&inward, &text(names.out_to_client(), &down.1), "<-----"));
    page.line(&sides(&text("to the monitor", &shown), "", ""));
    let doors = (
        format!(" {}{} ", names.client(), fd(sums.client_fd)),
        format!(" {}{} ", names.server(false), fd(sums.server_fd)),
    );
    page.line(
        &edges(&doors.0, &doors.1).replace('-', "=").replace(&doors.0.replace('-', "="), &doors.0),
    );
    let carried = |way| at_best(&sums, way);
    page.line(&format!(
        "{}: up {}, down {}",
        talk.scheme.word(),
        carried(Way::Up),
        carried(Way::Down)
    ));
    page.line("a stream has no edges: bytes, whatever the writes and reads; ? = nobody looked");
}

/// What is known of the user's side: adit's own client passes on what it reads, others may not.
fn keyboard(story: &Story, sums: &Sums) -> (String, String) {
    let passes_on = story.programs.iter().any(|program| {
        let mut words = program.name.split(' ');
        program.seen == Seen::Client
            && words.next().is_some_and(|word| word.rsplit('/').next() == Some("adit"))
            && !["--frame", "--hex"].iter().any(|word| program.name.contains(word))
    });
    let bytes = |way, stage| match sums.at(way, stage) {
        Some(count) if passes_on => size(count.bytes),
        _ => "?".to_owned(),
    };
    (bytes(Way::Up, Stage::Written), bytes(Way::Down, Stage::Read))
}

/// `6 B in 1 write`; of what nobody saw: `?`.
fn amount(count: Option<Count>, noun: &str) -> String {
    match count {
        None => "?".to_owned(),
        Some(Count { bytes, pieces }) => format!("{} in {}", size(bytes), plural(pieces, noun)),
    }
}

/// The bytes of a way at the stage that is nearest to its beginning.
fn at_best(sums: &Sums, way: Way) -> String {
    let stages = [Stage::Written, Stage::Came, Stage::Wire, Stage::Passed, Stage::Read];
    let known = stages.into_iter().find_map(|stage| sums.at(way, stage));
    known.map_or_else(|| "?".to_owned(), |count| size(count.bytes))
}

/// Datagrams are boxes: what was sent on the left, what was received on the right.
fn datagrams(page: &mut Page, talk: &Talk, sums: &Sums, options: &Options) {
    let names = options.names;
    page.line(&edges(
        &format!(" client: {} ", names.client()),
        &format!(" server: {} ", names.server(true)),
    ));
    let rows = rows(talk);
    let packets = rows.iter().filter(|row| matches!(row.kind, Kind::Datagram(_)));
    let count = packets.clone().count();
    for row in packets.take(BOXES_MAX) {
        packet(page, row, sums.observers, (names.send_packet(), names.receive_packet()));
    }
    if count > BOXES_MAX {
        let rest = u64::try_from(count - BOXES_MAX).unwrap_or(u64::MAX);
        page.line(&centre(&format!("... {} more ...", plural(rest, "datagram")), COLUMNS_MAX));
    }
    page.line(&edges("", ""));
    for (way, word) in [(Way::Up, "up"), (Way::Down, "down")] {
        let at = |stage| amount(sums.at(way, stage), "datagram");
        let mut line =
            format!("{word:<5} sent {}, received {}", at(Stage::Written), at(Stage::Read));
        if sums.observers.relay {
            line = format!("{line}, passed on {}", at(Stage::Passed));
        }
        page.line(&line);
    }
    for line in wrap("each datagram keeps its edges: one send, one receive, or none", COLUMNS_MAX) {
        page.line(&line);
    }
}

fn packet(page: &mut Page, row: &Row, observers: Observers, names: (&str, &str)) {
    let Kind::Datagram(datagram) = &row.kind else { return };
    let (sent, received) = match datagram.way {
        Way::Up => (observers.client, observers.server),
        Way::Down => (observers.server, observers.client),
    };
    // Numbers from 1 here, as the lecture counts; the events count from 0.
    let number = datagram.msg.saturating_add(1);
    let text = |name: &str, is_looked_at: bool, stage: Stage| match datagram.at(stage) {
        Some(_) => format!("[{name} #{number} {}]", size(datagram.len)),
        None if is_looked_at => "(not seen here)".to_owned(),
        None => "(nobody looked)".to_owned(),
    };
    let (from, to) = (text(names.0, sent, Stage::Written), text(names.1, received, Stage::Read));
    match datagram.way {
        Way::Up => page.line(&sides(&from, &to, "----->")),
        Way::Down => page.line(&sides(&to, &from, "<-----")),
    }
}

fn edges(one: &str, two: &str) -> String {
    let edge = |name: &str| {
        let name = crate::rows::cut(name, BOX - 4);
        format!("+-{name}{}+", "-".repeat(BOX - 3 - crate::rows::width(&name)))
    };
    format!("{}{}{}", edge(one), " ".repeat(BETWEEN + 2), edge(two))
}

fn sides(one: &str, two: &str, wire: &str) -> String {
    let side = |text: &str| format!("| {} |", pad(text, BOX - 4));
    format!("{}{}{}", side(one), centre(wire, BETWEEN + 2), side(two))
}
