//! A story as trace lines again, schema version 1: what [`read`](crate::read::read) makes the same
//! story of.
//!
//! A story may come from several traces, or from a capture. Lines are numbered anew in the order of
//! time; `orig` has the number that an event had before, where that is another one. `seen` says who
//! saw it where `role` cannot. A conversation is introduced by the word `talk`, with all addresses,
//! and notes are lines of the word `note`.

use std::io::{self, Write};

use adit_proto::json::{base64, json_string};

use crate::story::{Act, Did, Door, Program, Seen, Story, Talk, Way};

/// Writes the story as JSON Lines.
///
/// # Errors
/// The target cannot be written.
pub fn write(story: &Story, out: &mut impl Write) -> io::Result<()> {
    let mut n = 0_u64;
    let mut put = |line: Line| {
        let text = line.finish(n);
        n += 1;
        out.write_all(text.as_bytes())
    };
    for program in &story.programs {
        put(header(story, program))?;
    }
    let mut lines: Vec<(u64, Item<'_>)> = Vec::new();
    lines.extend(story.doors.iter().map(|door| (door.since, Item::Door(door))));
    for talk in &story.talks {
        lines.push((talk.acts.first().map_or(0, |act| act.at), Item::Talk(talk)));
        lines.extend(talk.acts.iter().map(|act| (act.at, Item::Act(Some(talk), act))));
    }
    lines.extend(story.general.iter().map(|act| (act.at, Item::Act(None, act))));
    lines.sort_by_key(|(at, _)| *at);
    for (_, item) in lines {
        put(match item {
            Item::Door(door) => listen(door),
            Item::Talk(talk) => introduction(talk),
            Item::Act(talk, act) => line_of(story, talk, act),
        })?;
    }
    if story.dropped > 0 {
        let mut line = Line::new(0, "drop");
        line.text("where", "trace");
        line.number("count", story.dropped);
        line.yes("noted");
        put(line)?;
    }
    for note in &story.notes {
        let mut line = Line::new(0, "note");
        line.text("text", note);
        put(line)?;
    }
    out.flush()
}

/// What a line tells of.
enum Item<'a> {
    Door(&'a Door),
    Talk(&'a Talk),
    Act(Option<&'a Talk>, &'a Act),
}

/// A line in the making; its number is known last and stands first.
struct Line {
    at: u64,
    rest: String,
    /// The number it had before.
    orig: Option<u64>,
}

impl Line {
    fn new(at: u64, ev: &str) -> Self {
        let mut line = Self { at, rest: String::new(), orig: None };
        line.text("ev", ev);
        line
    }

    fn text(&mut self, field: &str, value: &str) {
        self.rest.push_str(&format!(",\"{field}\":"));
        json_string(value, &mut self.rest);
    }

    fn known(&mut self, field: &str, value: &str) {
        if !value.is_empty() {
            self.text(field, value);
        }
    }

    fn number(&mut self, field: &str, value: impl std::fmt::Display) {
        self.rest.push_str(&format!(",\"{field}\":{value}"));
    }

    fn yes(&mut self, field: &str) {
        self.number(field, true);
    }

    fn time(&mut self, field: &str, nanos: u64) {
        self.number(field, Micros(nanos));
    }

    fn payload(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok("") => {}
            Ok(text) => self.text("text", text),
            Err(_) => {
                let mut digits = String::new();
                base64(bytes, &mut digits);
                self.text("b64", &digits);
            }
        }
    }

    fn finish(self, n: u64) -> String {
        let Self { at, rest, orig } = self;
        let orig = orig.filter(|orig| *orig != n);
        let orig = orig.map_or_else(String::new, |orig| format!(",\"orig\":{orig}"));
        format!("{{\"v\":1,\"n\":{n},\"t\":{}{rest}{orig}}}\n", Micros(at))
    }
}

/// Nanoseconds as microseconds with up to three decimals.
struct Micros(u64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0 / 1000, self.0 % 1000) {
            (micros, 0) => write!(f, "{micros}"),
            (micros, nanos) => write!(f, "{micros}.{nanos:03}"),
        }
    }
}

fn header(story: &Story, program: &Program) -> Line {
    let mut line = Line::new(0, "trace");
    line.text("adit", env!("CARGO_PKG_VERSION"));
    line.known("start", &story.start);
    let (role, seen) = match program.seen {
        Seen::RelayToClient => ("relay", None),
        Seen::RelayToServer => ("relay", Some(program.seen)),
        other => (other.word(), None),
    };
    line.text("role", role);
    if let Some(seen) = seen {
        line.text("seen", seen.word());
    }
    line.known("prog", &program.name);
    if program.pid != 0 {
        line.number("pid", program.pid);
    }
    line.text("calls", &story.badge.calls);
    line.text("wire", &story.badge.wire);
    line.text("clock", &story.badge.clock);
    line
}

fn listen(door: &Door) -> Line {
    let mut line = Line::new(door.since, "listen");
    line.orig = Some(door.n);
    line.text("addr", &format!("{} {}", door.scheme.word(), door.addr));
    line.known("reach", &door.reach);
    if let Some(fd) = door.fd {
        line.number("fd", fd);
    }
    if let Some(until) = door.until {
        line.time("until", until);
    }
    line
}

fn introduction(talk: &Talk) -> Line {
    let mut line = Line::new(talk.acts.first().map_or(0, |act| act.at), "talk");
    line.number("conn", talk.number);
    line.known("peer", &talk.client);
    line.known("local", &talk.server);
    line.text("scheme", talk.scheme.word());
    if let Some((near, far)) = &talk.relay {
        let mut pair = String::new();
        for (mark, addr) in [('[', near), (',', far)] {
            pair.push(mark);
            json_string(addr, &mut pair);
        }
        line.number("relay", format_args!("{pair}]"));
    }
    line
}

fn line_of(story: &Story, talk: Option<&Talk>, act: &Act) -> Line {
    let is_call = matches!(act.did, Did::Accept { .. } | Did::Connect { .. } | Did::Close { .. });
    let is_wire =
        matches!(act.did, Did::Segment { .. } | Did::Packet { .. } | Did::Unreachable { .. });
    let mut line = Line::new(act.at, word(&act.did));
    line.orig = Some(act.n);
    if is_call || is_wire {
        line.text("layer", if is_call { "call" } else { "wire" });
    }
    if let Some(talk) = talk {
        line.number("conn", talk.number);
    }
    let role = match act.seen {
        Seen::Client | Seen::RelayToServer => "client",
        Seen::Server | Seen::RelayToClient => "server",
        Seen::Wire => "wire",
    };
    line.text("role", role);
    // What a reader would take it for, from the role and the first line alone.
    let is_relay =
        |program: &Program| matches!(program.seen, Seen::RelayToClient | Seen::RelayToServer);
    let in_relay = story.programs.last().is_some_and(is_relay);
    let understood = match (role, in_relay) {
        ("client", true) => Seen::RelayToServer,
        (_, true) => Seen::RelayToClient,
        (role, false) => Seen::of(role).unwrap_or_default(),
    };
    if understood != act.seen {
        line.text("seen", act.seen.word());
    }
    describe(&mut line, act);
    line
}

const fn word(did: &Did) -> &'static str {
    match did {
        Did::Accept { .. } => "accept",
        Did::Connect { .. } => "connect",
        Did::Open => "open",
        Did::Write { .. } | Did::Read { .. } | Did::Send { .. } | Did::Receive { .. } => "data",
        Did::Truncated { .. } => "truncated",
        Did::ReadEnd { .. } | Did::WriteEnd { .. } => "half_close",
        Did::Close { .. } | Did::Over { .. } => "close",
        Did::Lost { .. } => "lost",
        Did::Limit { .. } => "limit",
        Did::Error { .. } => "error",
        Did::Drain => "drain",
        Did::Segment { .. } | Did::Packet { .. } => "frame",
        Did::Unreachable { .. } => "icmp",
    }
}

fn describe(line: &mut Line, act: &Act) {
    let way_word = |way: Way| if way == Way::Up { "up" } else { "down" };
    match &act.did {
        Did::Open | Did::Drain => {}
        Did::Accept { fd } | Did::Close { fd } => {
            if let Some(fd) = fd {
                line.number("fd", fd);
            }
        }
        Did::Connect { fd, addr, took, code } => {
            line.text("peer", addr);
            if let Some(fd) = fd {
                line.number("fd", fd);
            }
            if let Some(took) = took {
                line.time("dt", *took);
            }
            if let Some(code) = code {
                line.text("code", code);
            }
        }
        Did::Write { off, bytes, .. } | Did::Read { off, bytes, .. } => {
            direction(line, &act.did);
            line.number("off", format_args!("[{},{}]", off.start, off.end));
            line.number("len", off.end.saturating_sub(off.start));
            line.payload(bytes);
        }
        Did::Send { msg, len, bytes, .. } | Did::Receive { msg, len, bytes, .. } => {
            direction(line, &act.did);
            line.number("msg", msg);
            line.number("len", len);
            line.payload(bytes);
        }
        Did::Truncated { len } => line.number("len", len),
        Did::ReadEnd { way } | Did::WriteEnd { way } => {
            direction(line, &act.did);
            line.text("way", way_word(*way));
        }
        Did::Over { code, bytes_in, bytes_out, took } => {
            line.text("code", code);
            for (name, bytes) in [("in", bytes_in), ("out", bytes_out)] {
                if let Some(bytes) = bytes {
                    line.number(name, bytes);
                }
            }
            line.time("dt", *took);
        }
        Did::Lost { code, unconfirmed } => {
            line.text("code", code);
            line.number("unconfirmed", unconfirmed);
        }
        Did::Limit { name, action, count } => {
            line.text("name", name);
            line.text("action", action);
            line.number("count", count);
        }
        Did::Error { code, text, place } => {
            line.text("code", code);
            line.text("text", text);
            line.text("where", place);
        }
        Did::Segment { way, .. } | Did::Packet { way, .. } | Did::Unreachable { way } => {
            line.text("way", way_word(*way));
            frame(line, &act.did);
        }
    }
}

fn direction(line: &mut Line, did: &Did) {
    let is_in = matches!(did, Did::Read { .. } | Did::Receive { .. } | Did::ReadEnd { .. });
    line.text("dir", if is_in { "in" } else { "out" });
}

fn frame(line: &mut Line, did: &Did) {
    match did {
        Did::Segment { flags, off, bytes, window, again, .. } => {
            line.text("flags", flags);
            line.number("off", format_args!("[{},{}]", off.start, off.end));
            line.number("len", off.end.saturating_sub(off.start));
            line.number("win", window);
            if *again {
                line.yes("again");
            }
            line.payload(bytes);
        }
        Did::Packet { msg, len, bytes, .. } => {
            line.number("msg", msg);
            line.number("len", len);
            line.payload(bytes);
        }
        _ => {}
    }
}
