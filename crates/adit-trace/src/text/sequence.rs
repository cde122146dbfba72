//! The sequence: two lifelines, time downwards, an arrow for each message.
//!
//! ```text
//! conversation 1  tcp  seen by the server
//!         t ms client 127.0.0.1:51512                server 127.0.0.1:7000
//!        0.180 |--- 6 B "hello\n" ------------------->|  1 read
//!        0.220 |<-- 6 B "HELLO\n" --------------------|  1 write
//! ```

use std::collections::VecDeque;

use super::head::{clock, known, title};
use super::page::{Page, centre, pad, pad_left, wrap};
use super::{COLUMNS_MAX, Options};
use crate::rows::{
    Datagram, Fate, Joiner, Kind, Message, Observers, Row, Setup, Stage, clean, cut, duration,
    plural, width,
};
use crate::story::{Seen, Talk, Way};

/// Columns in front of the left lifeline: number of the conversation, time.
const LEFT: usize = 14;
/// Columns between the lifelines.
const INNER: usize = 38;
/// Columns for the note behind the right lifeline.
const NOTE: usize = COLUMNS_MAX - LEFT - INNER - 4;

/// The picture of one talk.
pub(super) fn sequence(page: &mut Page, talk: &Talk, options: &Options, rows_max: usize) {
    let (first, items) = folded(talk, options, rows_max);
    for line in opening(talk, Observers::of(&talk.acts), first.as_ref(), options) {
        page.line(&line);
    }
    for item in items {
        match item {
            Item::Row(row) => {
                for line in lines(&row, talk, "") {
                    page.line(&line);
                }
            }
            Item::Folded(count) => {
                let text = format!("... {} folded ...", plural(count, "row"));
                page.line(&(" ".repeat(LEFT) + &between(":", &centre(&text, INNER), "")));
            }
        }
    }
}

/// What is drawn of a talk that is too long.
pub(super) enum Item {
    /// A row.
    Row(Row),
    /// So many rows are left out here.
    Folded(u64),
}

/// The setup of a talk, if it is known, and its rows; of too many only the first and the last.
///
/// Never holds more rows than it gives.
fn folded(talk: &Talk, options: &Options, rows_max: usize) -> (Option<Row>, Vec<Item>) {
    let window = options.window.clone().unwrap_or(0..u64::MAX);
    let last_max = rows_max / 3;
    let (mut setup, mut first, mut last) = (None, Vec::new(), VecDeque::new());
    let (mut place, mut before, mut within, mut after) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut take = |row: Row| {
        if place == 0 {
            setup = Some(row.clone());
        }
        place += 1;
        if place <= window.start {
            before += 1;
        } else if place > window.end {
            after += 1;
        } else if first.len() + last_max < rows_max {
            first.push(row);
        } else {
            last.push_back(row);
        }
        if last.len() > last_max {
            last.pop_front();
            within += 1;
        }
    };
    let mut joiner = Joiner::new(Observers::of(&talk.acts)).with_acts_max(1);
    let mut rows = Vec::new();
    for (index, act) in talk.acts.iter().enumerate() {
        joiner.push(index, act, &mut rows);
        rows.drain(..).for_each(&mut take);
    }
    joiner.finish(&mut rows);
    rows.into_iter().for_each(&mut take);
    let gap = |count: u64| (count > 0).then_some(Item::Folded(count));
    let mut items: Vec<Item> = gap(before).into_iter().collect();
    items.extend(first.into_iter().map(Item::Row));
    items.extend(gap(within));
    items.extend(last.into_iter().map(Item::Row));
    items.extend(gap(after));
    (setup, items)
}

/// The lines above the rows: who talks with whom, through which sockets.
pub(super) fn opening(
    talk: &Talk,
    observers: Observers,
    first: Option<&Row>,
    options: &Options,
) -> Vec<String> {
    let (client_fd, server_fd) = match first.map(|row| &row.kind) {
        Some(Kind::Setup(setup)) => (
            setup.connect_fd.filter(|_| setup.connect == Some(Seen::Client)),
            setup.accept_fd.filter(|_| setup.accept == Some(Seen::Server)),
        ),
        _ => (None, None),
    };
    let fd = |fd: Option<i32>| fd.map_or_else(String::new, |fd| format!(" fd{fd}"));
    let client = options.names.client().to_owned() + &fd(client_fd);
    let server = match first.map(|row| &row.kind) {
        Some(Kind::Setup(Setup { code: Some(_), .. })) => "(no socket)".to_owned(),
        _ => options.names.server(talk.scheme.is_datagram()).to_owned() + &fd(server_fd),
    };
    // The server's name begins under its lifeline if there is room, else further left.
    let head = |left: &str, one: &str, two: &str| {
        let room = COLUMNS_MAX - LEFT;
        let two = cut(two, room / 2 + 4);
        let at = (INNER + 1).min(room - width(&two));
        pad_left(left, LEFT - 1) + " " + &pad(one, at - 1) + " " + &two
    };
    let mut lines = vec![title(talk, observers)];
    let (one, two) = (known(&talk.client), known(&talk.server));
    lines.push(head("t ms", &format!("client {one}"), &format!("server {two}")));
    lines.push(head("", &client, &server));
    if let Some((to_client, to_server)) = &talk.relay {
        let relay = format!("|  relay {} .. {}", known(to_client), known(to_server));
        lines.push(" ".repeat(LEFT) + &relay);
    }
    lines
}

/// The lines of one row; `number` stands in front of the first.
pub(super) fn lines(row: &Row, talk: &Talk, number: &str) -> Vec<String> {
    let mut drawn = drawn(row, talk);
    let is_gap = matches!(row.kind, Kind::Gap);
    let notes = wrap(&drawn.note, NOTE);
    let count = notes.len().max(drawn.lines.len());
    drawn.lines.resize(count, " ".repeat(INNER));
    let line = |(place, inner): (usize, &String)| {
        let left = match (place, is_gap) {
            (0, false) => pad_left(number, 3) + &pad_left(&clock(row.at), 10) + " ",
            (0, true) => pad(&pad_left(number, 3), LEFT),
            _ => " ".repeat(LEFT),
        };
        let note = notes.get(place).map_or("", String::as_str);
        left + &between(if is_gap { ":" } else { "|" }, inner, note)
    };
    drawn.lines.iter().enumerate().map(line).collect()
}

struct Drawn {
    /// What stands between the lifelines, each [`INNER`] wide.
    lines: Vec<String>,
    note: String,
}

fn drawn(row: &Row, talk: &Talk) -> Drawn {
    let note = row.note();
    let one = |line: String, note: String| Drawn { lines: vec![line], note };
    match &row.kind {
        Kind::Setup(setup) => setup_drawn(setup, talk),
        Kind::Message(message) => {
            let note = match is_stuck(message) {
                true => format!("{note}, not passed on"),
                false => note,
            };
            let fill = if message.is_late { '.' } else { '-' };
            one(arrow(message.way, &row.label(INNER - 10), (fill, ">")), note)
        }
        Kind::Datagram(datagram) => one(packet(datagram, &row.label(INNER - 10)), note),
        Kind::End(end) => one(arrow(end.way, "FIN", ('-', ">")), note),
        Kind::Reset { way } => one(arrow(*way, "RST", ('-', "X")), note),
        Kind::Close(close) => {
            let text = row.label(INNER - 2);
            let line = match close.seen {
                Seen::Client => pad(&format!(" {text}"), INNER),
                Seen::Server => pad_left(&format!("{text} "), INNER),
                _ => centre(&text, INNER),
            };
            one(line, note)
        }
        Kind::Trouble(trouble) => {
            let lines = wrap(&trouble.text, INNER - 3);
            let lines = lines.iter().enumerate().map(|(place, text)| {
                pad(&format!("{} {text}", if place == 0 { " !" } else { "  " }), INNER)
            });
            Drawn { lines: lines.collect(), note }
        }
        Kind::Gap => one(centre(&format!("~ {} ~", row.label(INNER - 4)), INNER), note),
    }
}

/// Bytes came to the relay that it did not pass on.
fn is_stuck(message: &Message) -> bool {
    message.at(Stage::Came).is_some()
        && message.at(Stage::Passed).is_none()
        && message.at(Stage::Read).is_none()
}

fn setup_drawn(setup: &Setup, talk: &Talk) -> Drawn {
    if let Some(code) = &setup.code {
        let took = setup.took.map_or_else(String::new, |took| format!(" after {}", duration(took)));
        return Drawn {
            lines: vec![broken(Way::Up, "connect", '-')],
            note: format!("not connected ({}){took}", clean(code)),
        };
    }
    if talk.scheme.is_datagram() {
        let line = centre("(no setup: a datagram just comes)", INNER);
        return Drawn { lines: vec![line], note: String::new() };
    }
    let took = setup.took.map_or_else(String::new, |took| format!(" ({})", duration(took)));
    let calls: Vec<&str> = [
        (setup.connect == Some(Seen::Client), "connect"),
        (setup.accept == Some(Seen::Server), "accept"),
        (setup.accept == Some(Seen::RelayToClient), "relay accepts,"),
        (setup.connect == Some(Seen::RelayToServer), "connects"),
    ]
    .iter()
    .filter(|(is, _)| *is)
    .map(|(_, call)| *call)
    .collect();
    let label = format!(" connected{took} ");
    let fill = INNER - 2 - width(&label);
    let line = format!("<{}{label}{}>", "=".repeat(fill / 2), "=".repeat(fill - fill / 2));
    let packets = setup.handshake.iter().map(|(_, way, name)| arrow(*way, name, ('-', ">")));
    let lines = packets.chain((!setup.is_unanswered()).then_some(line)).collect();
    Drawn {
        lines,
        note: calls.join(" ").trim_end_matches(',').replace("connect accept", "connect, accept"),
    }
}

fn packet(datagram: &Datagram, label: &str) -> String {
    match datagram.fate {
        Fate::Missing => broken(datagram.way, label, '-'),
        Fate::Late => arrow(datagram.way, label, ('.', ">")),
        Fate::Arrived | Fate::Unknown => arrow(datagram.way, label, ('-', ">")),
    }
}

/// `--- 6 B "hello" ----->` or `<-- 6 B "HELLO" ------`, [`INNER`] wide.
fn arrow(way: Way, label: &str, how: (char, &str)) -> String {
    let (fill, tip) = how;
    let label = cut(label, INNER - 8);
    let line = |count: usize| String::from(fill).repeat(count);
    let rest = INNER - 6 - width(&label);
    match way {
        Way::Up => format!("{} {label} {}{tip}", line(3), line(rest)),
        Way::Down => {
            let tip = if tip == ">" { "<" } else { tip };
            format!("{tip}{} {label} {}", line(2), line(rest + 1))
        }
    }
}

/// An arrow that does not get there: it ends in an `x` on its way.
fn broken(way: Way, label: &str, fill: char) -> String {
    let line = |count: usize| String::from(fill).repeat(count);
    let label = cut(label, INNER - 12);
    match way {
        Way::Up => pad(&format!("{} {label} {}x", line(3), line(3)), INNER),
        Way::Down => pad_left(&format!("x{} {label} {}", line(3), line(3)), INNER),
    }
}

fn between(lifeline: &str, inner: &str, note: &str) -> String {
    format!("{lifeline}{inner}{lifeline}  {note}").trim_end().to_owned()
}
