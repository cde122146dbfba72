//! What stands above and below every picture: the badge, who tells it, and the notes.

use super::page::{Page, pad};
use super::{COLUMNS_MAX, Options, View};
use crate::rows::{Observers, clean, cut, duration, width};
use crate::story::{Act, Did, Seen, Story, Talk};

/// At most this many programs, doors, notes or acts of no conversation are shown.
const SHOWN_MAX: usize = 12;

/// The badge, the programs that tell, and where they listen.
pub(super) fn head(page: &mut Page, story: &Story, view: View, options: &Options) {
    if view == View::Steps {
        // Command lines have ports, and clocks differ from run to run.
        let (calls, wire) = (&story.badge.calls, &story.badge.wire);
        return page.line(&format!("adit   calls {calls} | wire {wire}"));
    }
    let (badge, start) = (story.badge.to_string(), clean(&story.start));
    let badge = match width(&badge) + width(&start) + 2 <= COLUMNS_MAX - 7 {
        true => pad(&badge, COLUMNS_MAX - 9 - width(&start)) + "  " + &start,
        false => badge,
    };
    page.line(&format!("adit   {badge}"));
    for program in story.programs.iter().take(SHOWN_MAX) {
        let name = if program.name.is_empty() { "(unnamed)" } else { &program.name };
        let pid = if program.pid == 0 { String::new() } else { format!("  (pid {})", program.pid) };
        page.line(&format!("{:<7}{}{pid}", side(program.seen), cut(name, 56)));
    }
    for door in story.doors.iter().take(SHOWN_MAX) {
        let socket = options.names.door(door.scheme.is_datagram());
        let fd = door.fd.map_or_else(String::new, |fd| format!(" fd{fd}"));
        let reach = match &*door.reach {
            "loopback" => "  reachable from this host only",
            "host" => "  reachable from this host",
            "lan" => "  reachable from the local network",
            "all" => "  reachable from every network",
            _ => "",
        };
        page.line(&format!("{socket}{fd}  {} {}{reach}", door.scheme.word(), clean(&door.addr)));
    }
    if story.doors.len() > SHOWN_MAX {
        page.line(&format!("... {} more sockets listen ...", story.doors.len() - SHOWN_MAX));
    }
}

/// What happened outside of every conversation.
pub(super) fn general(page: &mut Page, story: &Story) {
    if story.general.is_empty() {
        return;
    }
    page.blank();
    page.line("outside of every conversation");
    for act in story.general.iter().take(SHOWN_MAX) {
        happening(page, act);
    }
    if story.general.len() > SHOWN_MAX {
        page.line(&format!("  ... {} more ...", story.general.len() - SHOWN_MAX));
    }
}

/// One line about what belongs to no conversation.
pub(super) fn happening(page: &mut Page, act: &Act) {
    page.hanging(&format!("{:>13} ! ", clock(act.at)), &sentence(act));
}

/// What is missing in the story.
pub(super) fn notes(page: &mut Page, story: &Story, view: View) {
    page.blank();
    if view == View::Steps {
        // Numbers differ from run to run; that something is missing does not stay unsaid.
        if story.dropped > 0 {
            page.line("note: the trace is not complete");
        }
        return;
    }
    for note in story.notes.iter().take(SHOWN_MAX) {
        page.hanging("note: ", note);
    }
    if story.notes.len() > SHOWN_MAX {
        page.line(&format!("note: ... {} more notes ...", story.notes.len() - SHOWN_MAX));
    }
}

/// A time since the start in at most 9 columns: milliseconds, later seconds.
pub(super) fn clock(nanos: u64) -> String {
    let micros = nanos / 1_000;
    let (millis, seconds) = (micros / 1_000, micros / 1_000_000);
    match seconds {
        0..=99 => format!("{millis}.{:03}", micros % 1_000),
        100..=9_999 => format!("{seconds}.{:02}s", micros / 10_000 % 100),
        10_000..=9_999_999 => format!("{seconds}s"),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Who tells: `client`, `server`, `relay`, `wire`.
pub(super) const fn side(seen: Seen) -> &'static str {
    match seen {
        Seen::Client => "client",
        Seen::Server => "server",
        Seen::RelayToClient | Seen::RelayToServer => "relay",
        Seen::Wire => "wire",
    }
}

/// By whom something was seen: `the client and the server`.
pub(super) fn seen_by(observers: Observers) -> String {
    let all = [
        (observers.client, "the client"),
        (observers.server, "the server"),
        (observers.relay, "a relay between them"),
        (observers.wire, "the wire"),
    ];
    let seen: Vec<&str> = all.iter().filter(|(is, _)| *is).map(|(_, who)| *who).collect();
    match seen.split_last() {
        None => "nobody".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// The line above a conversation's picture.
pub(super) fn title(talk: &Talk, observers: Observers) -> String {
    let scheme = talk.scheme.word();
    format!("conversation {}  {scheme}  seen by {}", talk.number, seen_by(observers))
}

/// An address, or that it is unknown.
pub(super) fn known(addr: &str) -> String {
    if addr.is_empty() { "address unknown".to_owned() } else { clean(addr) }
}

fn sentence(act: &Act) -> String {
    let who = side(act.seen);
    match &act.did {
        Did::Limit { name, action, count } => {
            let times = if *count == 1 { String::new() } else { format!(", {count} times") };
            format!("{who}: limit {name} met: {action}{times}")
        }
        Did::Error { code, text, place } => format!("{who}: {place} failed: {text} ({code})"),
        Did::Drain => format!("{who} was told to stop: it finishes and takes nobody new"),
        Did::Over { code, took, .. } => format!("{who}: over after {} ({code})", duration(*took)),
        Did::Connect { addr, code: Some(code), .. } => {
            format!("{who}: connect to {addr} failed ({code})")
        }
        Did::Unreachable { .. } => "the network says that nobody listens there".to_owned(),
        did => {
            let text = format!("{did:?}");
            let word = text.split([' ', '{']).next().unwrap_or_default();
            format!("{who}: {}", word.to_lowercase())
        }
    }
}
