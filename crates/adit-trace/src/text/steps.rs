//! The steps: the lecture's diagram of server and client, without anything that differs between runs.
//!
//! No times, ports, process numbers or descriptors, and no number of reads: two runs of the same
//! programs give the same text, so that it can be compared with a golden file.

use super::head::title;
use super::page::{Page, centre, pad};
use super::{COLUMNS_MAX, Options};
use crate::rows::{
    Fate, Joiner, Kind, Message, Observers, Row, Setup, Stage, cut, plural, size, width,
};
use crate::story::{Seen, Story, Talk, Way};
use adit_proto::escape::escape_line;

const SIDE: usize = 33;
const MIDDLE: usize = COLUMNS_MAX - 2 * SIDE;

/// One line of the diagram.
#[derive(Default)]
struct Step {
    server: String,
    middle: String,
    client: String,
}

/// The picture of one talk.
pub(super) fn steps(page: &mut Page, story: &Story, talk: &Talk, how: (&Options, usize)) {
    let (options, rows_max) = how;
    let rows = merged(talk);
    let observers = Observers::of(&talk.acts);
    page.line(&title(talk, observers));
    page.line(&format!("{}{}{}", pad("SERVER", SIDE), " ".repeat(MIDDLE), "CLIENT"));
    let drawing = Drawing { talk, options, observers };
    let mut steps = drawing.beginning(story);
    // Of too many the first and the last: the others are never drawn.
    let folded = rows.len().saturating_sub(rows_max);
    let first = if folded > 0 { rows_max - rows_max / 3 } else { rows.len() };
    let (first, rest) = rows.split_at(first);
    for row in first {
        drawing.row(row, &mut steps);
    }
    if folded > 0 {
        let count = u64::try_from(folded).unwrap_or(u64::MAX);
        let text = format!("... {} folded ...", plural(count, "step"));
        steps.push(Step { server: centre(&text, COLUMNS_MAX), ..Step::default() });
    }
    for row in rest.iter().skip(folded) {
        drawing.row(row, &mut steps);
    }
    for step in &steps {
        let (middle, client) = (pad(&step.middle, MIDDLE), cut(&step.client, SIDE));
        match step.middle.is_empty() && step.client.is_empty() {
            true => page.line(&step.server),
            false => page.line(&format!("{}{middle}{client}", pad(&step.server, SIDE))),
        }
    }
}

/// Rows that do not depend on times, and messages whole, however they were cut.
fn merged(talk: &Talk) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut joiner = Joiner::new(Observers::of(&talk.acts)).with_acts_max(1).timeless();
    for (index, act) in talk.acts.iter().enumerate() {
        joiner.push(index, act, &mut rows);
    }
    joiner.finish(&mut rows);
    let mut merged: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(place) = before_its_end(&row, &merged) {
            merged.insert(place, row);
            continue;
        }
        match (merged.last_mut().map(|row| &mut row.kind), &row.kind) {
            (Some(Kind::Message(last)), Kind::Message(next)) if last.way == next.way => {
                join(last, next);
            }
            _ => merged.push(row),
        }
    }
    merged
}

/// Where a close belongs if the peer has read the end that came of it: in front of that end, although
/// the peer may have been faster to tell.
fn before_its_end(row: &Row, merged: &[Row]) -> Option<usize> {
    let Kind::Close(close) = &row.kind else { return None };
    let way = match close.seen {
        Seen::Client => Way::Up,
        Seen::Server => Way::Down,
        _ => return None,
    };
    for (place, row) in merged.iter().enumerate().rev() {
        match &row.kind {
            Kind::End(end) if end.way == way => {
                return (!end.stages.contains(&Stage::Written)).then_some(place);
            }
            Kind::End(_) | Kind::Close(_) => {}
            _ => return None,
        }
    }
    None
}

fn join(last: &mut Message, next: &Message) {
    let known = last.off.start.saturating_add(u64::try_from(last.head.len()).unwrap_or(u64::MAX));
    if known == next.off.start {
        last.head.extend_from_slice(&next.head);
    }
    last.off = last.off.start.min(next.off.start)..last.off.end.max(next.off.end);
    for pieces in &next.stages {
        if last.at(pieces.stage).is_none() {
            last.stages.push(pieces.clone());
        }
    }
}

struct Drawing<'a> {
    talk: &'a Talk,
    options: &'a Options,
    observers: Observers,
}

impl Drawing<'_> {
    fn is_datagram(&self) -> bool {
        self.talk.scheme.is_datagram()
    }

    /// What the server does before anybody comes, and how the client makes its socket.
    fn beginning(&self, story: &Story) -> Vec<Step> {
        let names = self.options.names;
        let door = names.door(self.is_datagram());
        let mut steps = Vec::new();
        if story.doors.iter().any(|door| door.scheme == self.talk.scheme) {
            steps.push(Step { server: format!("create {door}, port=x"), ..Step::default() });
            if !self.is_datagram() {
                let server = "wait for a connection request".to_owned();
                steps.push(Step { server, ..Step::default() });
            }
        }
        if self.is_datagram() && self.observers.client {
            let client = format!("create {}", names.client());
            steps.push(Step { client, ..Step::default() });
        }
        steps
    }

    fn row(&self, row: &Row, steps: &mut Vec<Step>) {
        match &row.kind {
            Kind::Setup(setup) if !self.is_datagram() => self.setup(setup, steps),
            Kind::Setup(_) | Kind::Gap => {}
            Kind::Message(message) => {
                let text =
                    payload(message.off.end.saturating_sub(message.off.start), &message.head);
                let seen = |stage| message.at(stage).is_some();
                steps.push(self.moved(message.way, ("write", "read"), &text, seen));
            }
            Kind::Datagram(datagram) => {
                let text = payload(datagram.len, &datagram.head);
                let seen = |stage| datagram.at(stage).is_some();
                let mut step = self.moved(datagram.way, ("send", "receive"), &text, seen);
                if datagram.fate == Fate::Missing {
                    let lost = if datagram.way == Way::Up { "   x------" } else { "------x   " };
                    step.middle = centre(lost, MIDDLE);
                }
                steps.push(step);
            }
            Kind::End(end) => {
                let seen = |stage| end.stages.contains(&stage);
                let step = self.moved(end.way, ("finish sending", "read the end"), "", seen);
                steps.push(Step { middle: arrow(end.way, " FIN "), ..step });
            }
            Kind::Reset { way } => {
                steps.push(Step { middle: arrow(*way, " RST "), ..Step::default() });
            }
            Kind::Close(close) => {
                let why = match &close.code {
                    Some(code) if !close.is_clean() => format!(" ({code})"),
                    _ => String::new(),
                };
                self.close(close.seen, &why, steps);
            }
            Kind::Trouble(trouble) => {
                let text = format!("! {}", trouble.code);
                steps.push(match trouble.seen {
                    Seen::Client => Step { client: text, ..Step::default() },
                    Seen::Server => Step { server: text, ..Step::default() },
                    _ => Step { middle: centre(&text, MIDDLE), ..Step::default() },
                });
            }
        }
    }

    /// With packets, the handshake stands between the call of `connect` and what it brought.
    fn setup(&self, setup: &Setup, steps: &mut Vec<Step>) {
        let mut last = self.setup_step(setup);
        let Some(((_, way, name), before)) = setup.handshake.split_last() else {
            return steps.push(last);
        };
        for (place, (_, way, name)) in before.iter().enumerate() {
            let client = if place == 0 { std::mem::take(&mut last.client) } else { String::new() };
            steps.push(Step { middle: arrow(*way, name), client, ..Step::default() });
        }
        steps.push(Step { middle: arrow(*way, name), ..last });
    }

    fn setup_step(&self, setup: &Setup) -> Step {
        let names = self.options.names;
        let client = match &setup.code {
            Some(code) => format!("connect failed ({code})"),
            None => format!("{} = connect", names.client()),
        };
        let is_up = setup.code.is_none();
        Step {
            server: match self.observers.server && is_up {
                true => format!("{} = accept", names.server(false)),
                false => String::new(),
            },
            middle: centre(if is_up { "<= setup =>" } else { "x----" }, MIDDLE),
            client: if self.observers.client { client } else { String::new() },
        }
    }

    /// A step of both sides: what goes this way, as far as each side was seen.
    fn moved(
        &self,
        way: Way,
        verbs: (&str, &str),
        text: &str,
        seen: impl Fn(Stage) -> bool,
    ) -> Step {
        let side = |verb: &str, is_seen: bool| match is_seen {
            true => format!("{verb} {text}").trim_end().to_owned(),
            false => String::new(),
        };
        let (from, to) = (side(verbs.0, seen(Stage::Written)), side(verbs.1, seen(Stage::Read)));
        let label = if seen(Stage::Came) || seen(Stage::Passed) { "relay" } else { "" };
        // Nobody but the relay or the wire tells of it: then it is told in the sender's column.
        let is_known = !from.is_empty() || !to.is_empty();
        let from = if is_known {
            from
        } else {
            format!("({verb} {text}", verb = verbs.0).trim_end().to_owned() + ")"
        };
        let middle = arrow(way, label);
        match way {
            Way::Up => Step { server: to, middle, client: from },
            Way::Down => Step { server: from, middle, client: to },
        }
    }

    /// Both sides close whenever they like: next to each other, they share a line.
    fn close(&self, seen: Seen, why: &str, steps: &mut Vec<Step>) {
        let names = self.options.names;
        let is_datagram = self.is_datagram();
        let (is_client, text) = match seen {
            Seen::Client => (true, format!("close {}{why}", names.client())),
            // The one socket of a server over datagrams stays open.
            Seen::Server if is_datagram => (false, format!("forget this peer{why}")),
            Seen::Server => (false, format!("close {}{why}", names.server(false))),
            _ => {
                let middle = centre(&format!("close{why}"), MIDDLE);
                return steps.push(Step { middle, ..Step::default() });
            }
        };
        let free = steps.last_mut().filter(|step| {
            let other = if is_client { &step.server } else { &step.client };
            let own = if is_client { &step.client } else { &step.server };
            own.is_empty() && step.middle.is_empty() && is_close(other)
        });
        let step = match (free, is_client) {
            (Some(step), true) => return step.client = text,
            (Some(step), false) => return step.server = text,
            (None, true) => Step { client: text, ..Step::default() },
            (None, false) => Step { server: text, ..Step::default() },
        };
        steps.push(step);
    }
}

fn is_close(text: &str) -> bool {
    text.starts_with("close ") || text.starts_with("forget ")
}

/// Server left, client right: what goes up points to the left.
fn arrow(way: Way, label: &str) -> String {
    let line = centre(label, MIDDLE - 3).replace(' ', "-");
    let line = match way {
        Way::Up => format!("<{}", line.get(1..).unwrap_or_default()),
        Way::Down => format!("{}>", line.get(1..).unwrap_or_default()),
    };
    centre(&line, MIDDLE)
}

/// `6 B "hello\n"`, in the width of a column.
fn payload(bytes: u64, head: &[u8]) -> String {
    let lead = size(bytes);
    let room = SIDE.saturating_sub(width(&lead) + 12 + 3);
    let text = escape_line(head, room);
    if head.is_empty() || width(&text) > room + 3 {
        return lead;
    }
    format!("{lead} \"{text}\"")
}
