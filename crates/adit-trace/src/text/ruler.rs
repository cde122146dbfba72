//! The ruler: every byte of a stream has one number, and writes, segments and reads share its scale.
//!
//! Datagrams are boxes with numbers: sent above, received below, and a gap where one is missing.

use std::ops::Range;

use super::head::title;
use super::page::{Page, pad, pad_left};
use super::{COLUMNS_MAX, Options};
use crate::rows::{Observers, Stage, plural, stage, thousands};
use crate::story::{Act, Did, Talk, Way};

/// Columns for the name of a line.
const NAME: usize = 18;
/// Columns of the scale, both edges included.
const SCALE: usize = COLUMNS_MAX - NAME - 1;
/// More pieces than this have no room for their edges.
const EDGES_MAX: u64 = 24;
/// At most this many datagrams are drawn; more are counted.
const BOXES_MAX: usize = 96;

/// The picture of one talk.
pub(super) fn ruler(page: &mut Page, talk: &Talk, options: &Options) {
    let observers = Observers::of(&talk.acts);
    page.line(&title(talk, observers));
    for way in [Way::Up, Way::Down] {
        match talk.scheme.is_datagram() {
            true => boxes(page, talk, way),
            false => stream(page, talk, way, options),
        }
    }
    if talk.scheme.is_datagram() {
        page.line(&format!("{}each box is one send; x = it did not get there", pad("", NAME)));
    }
}

const fn ends(way: Way) -> &'static str {
    match way {
        Way::Up => "client to server",
        Way::Down => "server to client",
    }
}

/// The lines of a way, in the order in which bytes pass.
const LINES: [(Stage, &str); 5] = [
    (Stage::Written, "write"),
    (Stage::Came, "relay read"),
    (Stage::Wire, "segment"),
    (Stage::Passed, "relay write"),
    (Stage::Read, "read"),
];

fn stream(page: &mut Page, talk: &Talk, way: Way, options: &Options) {
    let end = talk.acts.iter().filter_map(|act| span(act, way)).map(|off| off.end).max();
    let Some(end) = end.filter(|end| *end > 0) else {
        return page.line(&format!("{}  no bytes", ends(way)));
    };
    let window = match &options.window {
        Some(window) if window.start < window.end.min(end) => window.start..window.end.min(end),
        _ => 0..end,
    };
    page.line(&format!("{}  {} bytes", ends(way), thousands(end)));
    page.line(&numbers(&window));
    let mut is_dense = false;
    for (wanted, name) in LINES {
        let mut line = Line::new(&window);
        for act in talk.acts.iter().filter(|act| stage(act) == wanted) {
            if let Some(off) = span(act, way) {
                line.add(&off, matches!(act.did, Did::Segment { again: true, .. }));
            }
        }
        if line.count > 0 {
            let name = format!("{name} x{}", line.count);
            page.line(&format!("{} {}", pad(&name, NAME - 1), line.text()));
            is_dense |= line.count > EDGES_MAX;
        }
    }
    if is_dense {
        page.line(&format!("{}|||| = edges too close to draw", pad("", NAME)));
    }
}

fn span(act: &Act, of: Way) -> Option<Range<u64>> {
    match &act.did {
        Did::Write { way, off, .. }
        | Did::Read { way, off, .. }
        | Did::Segment { way, off, .. }
            if *way == of && !off.is_empty() =>
        {
            Some(off.clone())
        }
        _ => None,
    }
}

/// The numbers above the scale: its edges, and its middle if that is a whole number.
fn numbers(window: &Range<u64>) -> String {
    let (first, last) = (thousands(window.start), thousands(window.end));
    let middle = window.start + (window.end - window.start) / 2;
    let middle = match (window.end - window.start).is_multiple_of(2) {
        true => thousands(middle),
        false => String::new(),
    };
    let half = SCALE / 2;
    let left = pad(&first, half - middle.len() / 2);
    let right = SCALE - left.len() - middle.len();
    format!("{}{left}{middle}{}", pad("byte", NAME), pad_left(&last, right))
}

/// One line of the scale, drawn piece by piece.
struct Line {
    window: Range<u64>,
    cells: Vec<u8>,
    count: u64,
    pieces_shown: Vec<Range<usize>>,
}

impl Line {
    fn new(window: &Range<u64>) -> Self {
        let cells = vec![b' '; SCALE];
        Self { window: window.clone(), cells, count: 0, pieces_shown: Vec::new() }
    }

    fn add(&mut self, off: &Range<u64>, again: bool) {
        if off.end <= self.window.start || off.start >= self.window.end {
            return;
        }
        self.count += 1;
        let (from, to) = (self.column(off.start), self.column(off.end));
        let fill = if again { b'=' } else { b'-' };
        for cell in self.cells.iter_mut().take(to).skip(from + 1) {
            if *cell != b'|' {
                *cell = fill;
            }
        }
        for edge in [from, to] {
            if let Some(cell) = self.cells.get_mut(edge) {
                *cell = b'|';
            }
        }
        // The number of its first byte, if there is room; more than this many cannot have room.
        let digits = off.start.to_string();
        if self.pieces_shown.len() < SCALE && to.saturating_sub(from) > digits.len() + 1 {
            let place = from + 1..from + 1 + digits.len();
            if let Some(cells) = self.cells.get_mut(place.clone())
                && !cells.contains(&b'|')
            {
                cells.copy_from_slice(digits.as_bytes());
                self.pieces_shown.push(place);
            }
        }
    }

    fn column(&self, at: u64) -> usize {
        let length = u128::from(self.window.end - self.window.start).max(1);
        let at = at.clamp(self.window.start, self.window.end) - self.window.start;
        let last = u128::try_from(SCALE - 1).unwrap_or(0);
        usize::try_from(u128::from(at) * last / length).unwrap_or(SCALE - 1)
    }

    fn text(&self) -> String {
        self.cells.iter().map(|cell| char::from(*cell)).collect()
    }
}

/// Datagrams: sent, on the wire, passed on and received, each in its place.
fn boxes(page: &mut Page, talk: &Talk, way: Way) {
    let numbers = |wanted: Stage| -> Vec<u64> {
        talk.acts
            .iter()
            .filter(|act| stage(act) == wanted)
            .filter_map(|act| match &act.did {
                Did::Send { way: of, msg, .. }
                | Did::Receive { way: of, msg, .. }
                | Did::Packet { way: of, msg, .. } => (*of == way).then_some(*msg),
                _ => None,
            })
            .collect()
    };
    let lines: Vec<(&str, Vec<u64>)> = [
        (Stage::Written, "send"),
        (Stage::Came, "relay receive"),
        (Stage::Wire, "wire"),
        (Stage::Passed, "relay send"),
        (Stage::Read, "receive"),
    ]
    .into_iter()
    .map(|(stage, name)| (name, numbers(stage)))
    .filter(|(_, numbers)| !numbers.is_empty())
    .collect();
    let Some((_, sent)) = lines.first() else {
        return page.line(&format!("{}  no datagrams", ends(way)));
    };
    let count = u64::try_from(sent.len()).unwrap_or(u64::MAX);
    page.line(&format!("{}  {}", ends(way), plural(count, "datagram")));
    let slots: Vec<(&str, usize, Vec<Option<u64>>)> =
        lines.iter().map(|(name, numbers)| (*name, numbers.len(), placed(sent, numbers))).collect();
    let length = slots.iter().map(|(_, _, slots)| slots.len()).max().unwrap_or(0);
    let widest = sent.iter().take(BOXES_MAX).max().copied().unwrap_or(0).to_string().len();
    let widest = widest.min(12);
    let per_line = SCALE / (widest + 2);
    let mut from = 0;
    while from < length.min(BOXES_MAX) {
        if from > 0 {
            page.blank();
        }
        let to = (from + per_line).min(length).min(BOXES_MAX);
        for (name, count, slots) in &slots {
            let name = if from == 0 { format!("{name} x{count}") } else { (*name).to_owned() };
            let cells: String = (from..to).map(|at| cell(slots.get(at).copied(), widest)).collect();
            page.line(&format!("{}{cells}", pad(&name, NAME)));
        }
        from = to;
    }
    if length > BOXES_MAX {
        let rest = u64::try_from(length - BOXES_MAX).unwrap_or(u64::MAX);
        page.line(&format!("{}... {} more ...", pad("", NAME), plural(rest, "datagram")));
    }
}

/// What arrived, in the order of arrival, in the places of what was sent; a lost one leaves its place.
fn placed(sent: &[u64], arrived: &[u64]) -> Vec<Option<u64>> {
    let known: std::collections::BTreeSet<u64> = arrived.iter().copied().collect();
    let mut arrivals = arrived.iter().copied();
    let mut slots: Vec<Option<u64>> =
        sent.iter().map(|msg| if known.contains(msg) { arrivals.next() } else { None }).collect();
    slots.extend(arrivals.map(Some));
    slots
}

fn cell(slot: Option<Option<u64>>, widest: usize) -> String {
    match slot {
        Some(Some(msg)) => format!("[{}]", pad_left(&msg.to_string(), widest)),
        Some(None) => format!(" {} ", super::page::centre("x", widest)),
        None => " ".repeat(widest + 2),
    }
}
