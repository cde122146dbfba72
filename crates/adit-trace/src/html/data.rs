//! The data of a page: every act that is drawn, in full, for the script to show.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::rows::rows;
use crate::story::{Act, Did, Seen, Talk, Way};
use crate::svg::{self, call, moment, window};

/// What the script of a page knows of the conversations it shows.
#[derive(Default)]
pub(super) struct Data {
    talks: Map<String, Value>,
}

impl Data {
    /// Adds the rows of a talk that are drawn, with their acts; gives how many.
    pub(super) fn add(&mut self, talk: &Talk, options: &svg::Options) -> usize {
        let all = rows(talk);
        let (mut lines, mut acts) = (Map::new(), BTreeMap::new());
        for index in window(all.len(), options).into_iter().flatten() {
            let Some(row) = all.get(index) else { continue };
            let shown: Vec<usize> = row.acts.iter().copied().take(ACTS_MAX).collect();
            for at in &shown {
                if let Some(act) = talk.acts.get(*at) {
                    acts.insert(*at, full(act));
                }
            }
            let line = json!({
                "label": row.label(120), "note": row.note(), "t": time(row.at),
                "ms": millis(row.at), "acts": shown, "more": row.acts.len() - shown.len(),
            });
            lines.insert(index.to_string(), line);
        }
        let count = lines.len();
        let acts: Map<String, Value> =
            acts.into_iter().map(|(at, act)| (at.to_string(), act)).collect();
        self.talks.insert(talk.number.to_string(), json!({ "rows": lines, "acts": acts }));
        count
    }

    /// All of it as JSON that cannot end the element it stands in.
    pub(super) fn json(self) -> String {
        let text = json!({ "talks": self.talks }).to_string();
        let mut safe = String::with_capacity(text.len());
        for char in text.chars() {
            match char {
                '<' | '>' | '&' | '\u{7f}'.. => escape(char, &mut safe),
                char => safe.push(char),
            }
        }
        safe
    }
}

fn escape(char: char, out: &mut String) {
    let mut units = [0; 2];
    for unit in char.encode_utf16(&mut units) {
        let _infallible = write!(out, "\\u{unit:04x}");
    }
}

/// An act with its bytes.
fn full(act: &Act) -> Value {
    let mut one = json!({
        "t": time(act.at), "n": act.n, "who": who(act.seen), "call": call(&act.did),
    });
    let Some(fields) = one.as_object_mut() else { return one };
    let letter = |way: &Way| if *way == Way::Up { "u" } else { "d" };
    match &act.did {
        Did::Write { way, off, bytes }
        | Did::Read { way, off, bytes }
        | Did::Segment { way, off, bytes, .. } => {
            fields.insert("w".into(), letter(way).into());
            fields.insert("a".into(), off.start.into());
            fields.insert("z".into(), off.end.into());
            fields.insert("hex".into(), hex(bytes).into());
        }
        Did::Send { way, msg, bytes, .. }
        | Did::Receive { way, msg, bytes, .. }
        | Did::Packet { way, msg, bytes, .. } => {
            fields.insert("w".into(), letter(way).into());
            fields.insert("m".into(), (*msg).into());
            fields.insert("hex".into(), hex(bytes).into());
        }
        _ => {}
    }
    one
}

const fn who(seen: Seen) -> &'static str {
    match seen {
        Seen::Client => "client",
        Seen::Server => "server",
        Seen::RelayToClient => "relay, towards the client",
        Seen::RelayToServer => "relay, towards the server",
        Seen::Wire => "wire",
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len().min(BYTES_MAX));
    for byte in bytes.iter().take(BYTES_MAX) {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

fn time(nanos: u64) -> String {
    let at = moment(nanos);
    if at.ends_with('s') { at } else { at + " ms" }
}

/// Milliseconds for the script to compare; microseconds are kept.
fn millis(nanos: u64) -> Value {
    let text = format!("{}.{:03}", nanos / 1_000_000, nanos / 1_000 % 1_000);
    text.parse::<f64>().map_or(Value::Null, Value::from)
}

/// Acts of one row that a page knows in full.
const ACTS_MAX: usize = 12;
/// Bytes of one act that a page knows.
const BYTES_MAX: usize = 128;
