//! Two traces of the two ends of a conversation become one story.

mod clocks;
mod pair;

use std::fmt;

use adit_proto::escape::escape_line;

use crate::story::{Act, Badge, Did, Door, Seen, Story, Talk};
use crate::time;
use clocks::Clock;

/// Makes one story of two: of a server's trace and a client's, or of a trace and a capture.
///
/// Conversations are matched by transport and addresses, and by time where ports were used again.
/// Those that only one trace has are kept. What one side did stays its own: every act keeps `seen`.
///
/// Events of the first trace keep their numbers. Those of the second are counted on from the next
/// thousand; a note says from which: `n=1012` is line 12 of the second. Conversations keep the numbers
/// they have in the first; those that only the second has are counted on.
///
/// The two starts tell how far the clocks are apart. Where that would let a byte be read before it was
/// written, the middle of what is possible is taken, and [`Badge::clock`] says how well that is known.
///
/// ```
/// use adit_trace::{Story, merge::merge};
/// let error = merge(Story::default(), Story::default()).unwrap_err();
/// assert!(error.to_string().starts_with("no conversation is in both"));
/// ```
///
/// # Errors
/// No conversation is in both.
pub fn merge(a: Story, b: Story) -> Result<Story, NoMatch> {
    let starts = (time::nanos(&a.start), time::nanos(&b.start));
    let shift = match starts {
        (Some(a), Some(b)) => Some(difference(b, a)),
        _ => None,
    };
    let pairs = pair::pairs(&a, &b, shift.unwrap_or(0));
    if pairs.is_empty() {
        return Err(NoMatch { first: names(&a), second: names(&b) });
    }
    let clock = clocks::estimate(&a, &b, &pairs, shift);
    let (mut a, mut b) = (a, b);
    let later = [clock.shift.saturating_neg(), clock.shift];
    let [a_later, b_later] = later.map(|shift| u64::try_from(shift).unwrap_or(0));
    move_later(&mut a, a_later);
    move_later(&mut b, b_later);
    a.start = start(&a, &b, starts, (a_later, b_later));
    let base = count_on(&a, &mut b);
    let notes = told(&a, &b, pairs.len(), base);
    join(&mut a, b, &pairs, &clock);
    a.notes.extend(notes);
    a.notes.extend(clock.note);
    Ok(a)
}

/// No conversation is in both traces.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoMatch {
    /// The conversations of the first: `tcp 10.0.0.1:51512 > 10.0.0.2:7000, seen by server`.
    pub first: Vec<String>,
    /// The conversations of the second.
    pub second: Vec<String>,
}

impl fmt::Display for NoMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| match names.split_at_checked(NAMES_MAX) {
            Some((shown, rest)) if !rest.is_empty() => {
                format!("{} and {} more", shown.join("; "), rest.len())
            }
            _ if names.is_empty() => "none".to_owned(),
            _ => names.join("; "),
        };
        write!(
            f,
            "no conversation is in both, each seen by another: the first has {}; the second has {}",
            list(&self.first),
            list(&self.second)
        )
    }
}

impl std::error::Error for NoMatch {}

/// Conversations that an error names.
const NAMES_MAX: usize = 5;

fn names(story: &Story) -> Vec<String> {
    let name = |talk: &Talk| {
        let known = |addr: &str| match addr {
            "" => "an unknown address".to_owned(),
            addr => escape_line(addr.as_bytes(), 120),
        };
        let (client, server) = (known(&talk.client), known(&talk.server));
        let seen: Vec<_> = pair::observers(talk).into_iter().map(Seen::word).collect();
        format!("{} {client} > {server}, seen by {}", talk.scheme.word(), seen.join(", "))
    };
    story.talks.iter().map(name).collect()
}

fn move_later(story: &mut Story, nanos: u64) {
    let acts = story.talks.iter_mut().flat_map(|talk| &mut talk.acts);
    for act in acts.chain(&mut story.general) {
        act.at = act.at.saturating_add(nanos);
    }
    for door in &mut story.doors {
        door.since = door.since.saturating_add(nanos);
        door.until = door.until.map(|until| until.saturating_add(nanos));
    }
}

/// When the new story begins, in the words of the trace that begins then.
fn start(a: &Story, b: &Story, starts: (Option<u64>, Option<u64>), later: (u64, u64)) -> String {
    let start = match starts {
        (Some(start), _) => start.saturating_sub(later.0),
        (None, Some(start)) => start.saturating_sub(later.1),
        (None, None) => return String::new(),
    };
    match starts {
        (Some(known), _) if known == start => a.start.clone(),
        (_, Some(known)) if known == start => b.start.clone(),
        _ => time::rfc3339(start),
    }
}

/// Numbers the events of the second story from the next thousand on; from which.
fn count_on(a: &Story, b: &mut Story) -> u64 {
    let acts = a.talks.iter().flat_map(|talk| &talk.acts).chain(&a.general).map(|act| act.n);
    let last = acts.chain(a.doors.iter().map(|door| door.n)).max().unwrap_or(0);
    let base = (last / 1000).saturating_add(1).saturating_mul(1000);
    for act in b.talks.iter_mut().flat_map(|talk| &mut talk.acts).chain(&mut b.general) {
        act.n = act.n.saturating_add(base);
    }
    for door in &mut b.doors {
        door.n = door.n.saturating_add(base);
    }
    base
}

fn told(a: &Story, b: &Story, both: usize, base: u64) -> Vec<String> {
    let mut notes = vec![format!("n from {base} on: events of the second trace, n - {base} there")];
    for (story, name) in [(a, "first"), (b, "second")] {
        let count = story.talks.len().saturating_sub(both);
        if count > 0 {
            let of = if count == 1 {
                "1 conversation is"
            } else {
                &format!("{count} conversations are")
            };
            notes.push(format!("{of} only in the {name} trace"));
        }
    }
    notes
}

fn join(a: &mut Story, b: Story, pairs: &[(usize, usize)], clock: &Clock) {
    let mut next = a.talks.iter().map(|talk| talk.number).max().unwrap_or(0);
    let mut partner = vec![None; b.talks.len()];
    for (one, other) in pairs {
        if let Some(place) = partner.get_mut(*other) {
            *place = Some(*one);
        }
    }
    for (mut talk, partner) in b.talks.into_iter().zip(partner) {
        match partner.and_then(|place| a.talks.get_mut(place)) {
            Some(known) => unite(known, talk),
            None => {
                next = next.saturating_add(1);
                talk.number = next;
                a.talks.push(talk);
            }
        }
    }
    a.talks.sort_by_key(|talk| talk.acts.first().map_or(0, |act| act.at));
    a.badge = Badge {
        calls: worse(&a.badge.calls, &b.badge.calls),
        wire: worse(&a.badge.wire, &b.badge.wire),
        clock: clock.words.clone(),
    };
    a.programs.extend(b.programs);
    for door in b.doors {
        add_door(&mut a.doors, door);
    }
    a.doors.sort_by_key(|door| door.since);
    a.general.extend(b.general);
    a.general.sort_by_key(|act| act.at);
    a.notes.extend(b.notes);
    a.dropped = a.dropped.saturating_add(b.dropped);
}

/// What is said of both: of two who can tell, the one who knows less.
fn worse(a: &str, b: &str) -> String {
    match (a, b) {
        ("none", other) | (other, "none") => other,
        ("relay", _) | (_, "relay") => "relay",
        (a, _) => a,
    }
    .to_owned()
}

/// The one who listens knows more of the door than a SYN that was answered.
fn add_door(doors: &mut Vec<Door>, new: Door) {
    let is_hearsay = |door: &Door| door.fd.is_none() && door.reach.is_empty();
    let same = doors
        .iter_mut()
        .find(|door| door.scheme == new.scheme && pair::is_same(&door.addr, &new.addr));
    match same {
        Some(_) if is_hearsay(&new) => {}
        Some(known) if is_hearsay(known) => *known = new,
        _ => doors.push(new),
    }
}

fn unite(talk: &mut Talk, other: Talk) {
    let better = |own: &mut String, new: String| {
        if own.is_empty() || (pair::is_wildcard(own) && !new.is_empty()) {
            *own = new;
        }
    };
    match (&talk.relay, &other.relay) {
        (None, Some(_)) => {
            // Who talks with a relay takes it for the other end.
            talk.relay = other.relay;
            let own = std::mem::replace(&mut talk.client, other.client);
            better(&mut talk.client, own);
            talk.server = other.server;
        }
        (Some(_), None) => {}
        _ => {
            better(&mut talk.client, other.client);
            better(&mut talk.server, other.server);
        }
    }
    talk.acts.extend(other.acts);
    talk.acts.sort_by_key(|act| (act.at, turn(act)));
}

/// What comes first of what happened at once: cause, wire, effect.
const fn turn(act: &Act) -> u8 {
    match act.did {
        Did::Connect { .. } | Did::Write { .. } | Did::Send { .. } | Did::WriteEnd { .. } => 0,
        Did::Segment { .. } | Did::Packet { .. } | Did::Unreachable { .. } => 1,
        _ => 2,
    }
}

/// `a - b` in nanoseconds.
fn difference(a: u64, b: u64) -> i64 {
    let clamp = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    if a >= b { clamp(a - b) } else { -clamp(b - a) }
}
