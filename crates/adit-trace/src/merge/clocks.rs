//! How far two clocks are apart: nothing is received before it was sent, in either direction.

use crate::story::{Did, Seen, Story, Talk, Way};

/// How the times of the second story are brought to those of the first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// Nanoseconds to add to the second's times.
    pub(super) shift: i64,
    /// For the badge.
    pub(super) words: String,
    pub(super) note: Option<String>,
}

/// The starts are written in microseconds.
const START_NANOS: i64 = 2_000;

/// `shift` is what the starts of both say, if they say it.
pub(super) fn estimate(
    a: &Story,
    b: &Story,
    pairs: &[(usize, usize)],
    shift: Option<i64>,
) -> Clock {
    let mut bounds = Bounds { low: None, high: None };
    for (one, other) in pairs {
        if let (Some(one), Some(other)) = (a.talks.get(*one), b.talks.get(*other)) {
            bounds.add(one, other);
        }
    }
    let clock = |shift: i64, words: String| Clock { shift, words, note: None };
    match (bounds.low, bounds.high, shift) {
        (low, high, Some(shift))
            if low.is_none_or(|low| low <= shift.saturating_add(START_NANOS))
                && high.is_none_or(|high| high >= shift.saturating_sub(START_NANOS)) =>
        {
            let shift = low.map_or(shift, |low| shift.max(low));
            let shift = high.map_or(shift, |high| shift.min(high));
            clock(shift, "one clock".to_owned())
        }
        (Some(low), Some(high), _) => {
            let middle = i64::midpoint(low, high);
            let half = low.abs_diff(high) / 2;
            let mut clock = clock(middle, format!("two clocks, ± {}", Span(half)));
            if low > high {
                let span = Span(low.abs_diff(high));
                clock.note = Some(format!(
                    "the two clocks contradict each other by {span}: one drifts, or told of it late"
                ));
            }
            clock
        }
        (Some(bound), None, _) | (None, Some(bound), _) => Clock {
            shift: bound,
            words: "two clocks, compared one way only".to_owned(),
            note: Some("nothing that came back tells how far the two clocks are apart".to_owned()),
        },
        (None, None, _) => clock(0, "two clocks, not compared".to_owned()),
    }
}

/// A span of time, for people.
struct Span(u64);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            nanos @ 0..10_000_000 => write!(f, "{} us", nanos.div_ceil(1000)),
            nanos @ 10_000_000..10_000_000_000 => write!(f, "{} ms", nanos.div_ceil(1_000_000)),
            nanos => write!(f, "{} s", nanos.div_ceil(1_000_000_000)),
        }
    }
}

/// Between which two shifts cause comes before effect.
struct Bounds {
    low: Option<i64>,
    high: Option<i64>,
}

impl Bounds {
    fn add(&mut self, a: &Talk, b: &Talk) {
        for way in [Way::Up, Way::Down] {
            let (of_a, of_b) = (Marks::of(a, way), Marks::of(b, way));
            for (cause, effect) in of_a.before(&of_b) {
                let bound = apart(cause, effect);
                self.low = Some(self.low.map_or(bound, |low| low.max(bound)));
            }
            for (cause, effect) in of_b.before(&of_a) {
                let bound = apart(effect, cause);
                self.high = Some(self.high.map_or(bound, |high| high.min(bound)));
            }
        }
    }
}

fn apart(a: u64, b: u64) -> i64 {
    let clamp = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    if a >= b { clamp(a - b) } else { -clamp(b - a) }
}

/// What one trace saw go by in one way of a talk.
#[derive(Default)]
struct Marks {
    /// Of a stream: first and one past the last byte, how far on the way, when.
    bytes: Vec<(u64, u64, u8, u64)>,
    /// Datagrams: which one, how far, length, when.
    datagrams: Vec<(u64, u8, u64, u64)>,
    /// The beginning of this way and its end: how far, when first.
    begins: Vec<(u8, u64)>,
    ends: Vec<(u8, u64)>,
}

impl Marks {
    fn of(talk: &Talk, wanted: Way) -> Self {
        let mut marks = Self::default();
        // On which side of a relay packets were captured is not known.
        let is_wire_vague = talk.relay.is_some();
        let mut counts = [0_u64; PLACES];
        for act in &talk.acts {
            if is_wire_vague && act.seen == Seen::Wire {
                continue;
            }
            let place = place(act.seen, wanted);
            match &act.did {
                Did::Write { way, off, .. } | Did::Read { way, off, .. } if *way == wanted => {
                    marks.bytes.push((off.start, off.end, place, act.at));
                }
                Did::Segment { way, off, flags, again: false, .. } if *way == wanted => {
                    if !off.is_empty() {
                        marks.bytes.push((off.start, off.end, place, act.at));
                    }
                    if flags.contains('S') {
                        first(&mut marks.begins, place, act.at);
                    }
                    if flags.contains('F') {
                        first(&mut marks.ends, place, act.at);
                    }
                }
                Did::Send { way, len, .. }
                | Did::Receive { way, len, .. }
                | Did::Packet { way, len, .. }
                    if *way == wanted =>
                {
                    // The k-th to arrive comes behind the k-th that was sent, lost or not.
                    if let Some(count) = counts.get_mut(usize::from(place)) {
                        marks.datagrams.push((*count, place, *len, act.at));
                        *count += 1;
                    }
                }
                Did::WriteEnd { way } | Did::ReadEnd { way } if *way == wanted => {
                    first(&mut marks.ends, place, act.at);
                }
                Did::Close { .. } if own_way(act.seen) == Some(wanted) => {
                    first(&mut marks.ends, place, act.at);
                }
                Did::Connect { .. } if wanted == Way::Up => {
                    first(&mut marks.begins, place, act.at);
                }
                // It returns when the answer to the SYN has come.
                Did::Connect { took: Some(took), code: None, .. } => {
                    first(&mut marks.begins, place, act.at.saturating_add(*took));
                }
                Did::Accept { .. } if wanted == Way::Up => {
                    first(&mut marks.begins, place, act.at);
                }
                _ => {}
            }
        }
        marks.bytes.sort_unstable();
        marks.datagrams.sort_unstable();
        marks
    }

    /// Times of what was seen here and later, further on the way, by the other.
    fn before(&self, other: &Self) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        for (from, to, place, at) in &other.bytes {
            if from < to {
                let cause = self.passing(to - 1, *place);
                found.extend(cause.map(|cause| (cause, *at)));
            }
        }
        for (number, place, len, at) in &other.datagrams {
            let from = self.datagrams.partition_point(|(known, ..)| known < number);
            let same = self.datagrams.get(from..).unwrap_or_default().iter();
            let same = same.take_while(|(known, ..)| known == number);
            let cause = same.filter(|(_, before, known, _)| before < place && known == len);
            found.extend(cause.map(|(.., cause)| (*cause, *at)));
        }
        for (own, others) in [(&self.begins, &other.begins), (&self.ends, &other.ends)] {
            for (place, at) in others {
                let causes = own.iter().filter(|(before, _)| before < place);
                found.extend(causes.map(|(_, cause)| (*cause, *at)));
            }
        }
        found
    }

    /// When this byte was first seen before that place.
    fn passing(&self, byte: u64, place: u8) -> Option<u64> {
        let upper = self.bytes.partition_point(|(from, ..)| *from <= byte);
        let near = self.bytes.get(upper.saturating_sub(OVERLAPS_MAX)..upper)?;
        let holding = near.iter().filter(|(_, to, before, _)| byte < *to && *before < place);
        holding.map(|(.., at)| *at).min()
    }
}

/// How many pieces that begin before a byte are looked at.
const OVERLAPS_MAX: usize = 64;

fn first(list: &mut Vec<(u8, u64)>, place: u8, at: u64) {
    match list.iter_mut().find(|(known, _)| *known == place) {
        Some((_, earliest)) => *earliest = at.min(*earliest),
        None => list.push((place, at)),
    }
}

const PLACES: usize = 5;

/// How far on its way a byte is where it is seen.
const fn place(seen: Seen, way: Way) -> u8 {
    let up = match seen {
        Seen::Client => 0,
        Seen::Wire => 1,
        Seen::RelayToClient => 2,
        Seen::RelayToServer => 3,
        Seen::Server => 4,
    };
    match way {
        Way::Up => up,
        Way::Down => 4 - up,
    }
}

/// The way that ends when this one closes its socket.
const fn own_way(seen: Seen) -> Option<Way> {
    match seen {
        Seen::Client | Seen::RelayToServer => Some(Way::Up),
        Seen::Server | Seen::RelayToClient => Some(Way::Down),
        Seen::Wire => None,
    }
}
