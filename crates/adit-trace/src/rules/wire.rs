//! Rules about packets: Nagle, closed windows, resets, what was sent again, silence.

use super::{Level, Report};
use crate::rows::{Observers, duration};
use crate::story::{Act, Did, Seen, Talk, Way};

/// R07: the second write leaves so many nanoseconds after its call.
pub(super) const NAGLE_NS_MIN: u64 = 30_000_000;
/// R07: the longest a delayed acknowledgement takes, in nanoseconds.
pub(super) const NAGLE_NS_MAX: u64 = 220_000_000;
/// R07: "right after the acknowledgement", in nanoseconds.
pub(super) const AFTER_ACK_NS_MAX: u64 = 1_000_000;
/// R07: a full segment on Ethernet; Nagle holds only smaller ones.
pub(super) const SEGMENT_BYTES: u64 = 1_448;
/// R10: nanoseconds that a window is closed.
pub(super) const WINDOW_CLOSED_NS_MIN: u64 = 200_000_000;
/// R25: nanoseconds without a packet while something is unacknowledged.
pub(super) const SILENT_NS_MIN: u64 = 15_000_000_000;
/// R25: segments sent again without an answer.
pub(super) const UNANSWERED_MIN: u64 = 3;

pub(super) fn check(talk: &Talk, observers: Observers, report: &mut Report) {
    if !observers.wire {
        return;
    }
    let mut sides = (Side::new(Way::Up), Side::new(Way::Down));
    let until = talk.acts.last().map_or(0, |act| act.at);
    let mut finished = [false; 2];
    for act in &talk.acts {
        let (way, flags) = match &act.did {
            Did::Segment { way, flags, .. } => (*way, &**flags),
            Did::Write { way, off, .. } if matches!(act.seen, Seen::Client | Seen::Server) => {
                sides_of(&mut sides, *way).0.written = Some((act, off.start));
                continue;
            }
            _ => continue,
        };
        let (own, other) = sides_of(&mut sides, way);
        if flags.contains('R') {
            let listener = other.has_syn && !own.has_syn;
            reset(report, act, (way, listener, other.bytes_after_fin));
        }
        own.has_syn |= flags.contains('S');
        finished[usize::from(way == Way::Down)] |= flags.contains('F');
        let other_finished = finished[usize::from(way == Way::Up)];
        own.segment(act, other_finished, report);
        other.heard(act, report);
    }
    for side in [&sides.0, &sides.1] {
        side.at_end(until, report);
    }
}

fn sides_of<'s, 'a>(
    sides: &'s mut (Side<'a>, Side<'a>),
    way: Way,
) -> (&'s mut Side<'a>, &'s mut Side<'a>) {
    match way {
        Way::Up => (&mut sides.0, &mut sides.1),
        Way::Down => (&mut sides.1, &mut sides.0),
    }
}

/// One side of the connection: the one that sends in this way.
struct Side<'a> {
    way: Way,
    has_syn: bool,
    /// Its last segment with payload, and how long that was.
    last: Option<(&'a Act, u64)>,
    /// Its last call of write.
    written: Option<(&'a Act, u64)>,
    /// When the other side last sent an acknowledgement without payload, and payload.
    acked: Option<u64>,
    answered: Option<u64>,
    /// Since when its window is closed.
    closed: Option<&'a Act>,
    /// Since when something is unacknowledged, and how often that was sent again.
    waiting: Option<&'a Act>,
    unanswered: u64,
    /// It sent payload after the other side had finished.
    bytes_after_fin: bool,
}

impl<'a> Side<'a> {
    const fn new(way: Way) -> Self {
        Self {
            way,
            has_syn: false,
            last: None,
            written: None,
            acked: None,
            answered: None,
            closed: None,
            waiting: None,
            unanswered: 0,
            bytes_after_fin: false,
        }
    }

    const fn name(&self) -> &'static str {
        match self.way {
            Way::Up => "Client",
            Way::Down => "Server",
        }
    }

    const fn other_name(&self) -> &'static str {
        match self.way {
            Way::Up => "Server",
            Way::Down => "Client",
        }
    }

    /// This side sends a segment.
    fn segment(&mut self, act: &'a Act, other_finished: bool, report: &mut Report) {
        let Did::Segment { flags, off, window, again, .. } = &act.did else { return };
        self.window(act, *window, flags, report);
        if off.is_empty() {
            return;
        }
        self.bytes_after_fin |= other_finished;
        let length = off.end.saturating_sub(off.start);
        if *again {
            self.unanswered += 1;
            report.fire(("R23", Level::Note), &[act], || {
                let after = self.last.map_or(0, |(last, _)| act.at.saturating_sub(last.at));
                format!("Lost on the wire: TCP sent it again after {}", duration(after))
            });
            if self.unanswered == UNANSWERED_MIN {
                self.silent(act, "sent again without an answer", report);
            }
        } else {
            self.nagle(act, (off.start, length), report);
            self.last = Some((act, length));
        }
        self.waiting.get_or_insert(act);
    }

    /// R07.
    fn nagle(&self, act: &Act, what: (u64, u64), report: &mut Report) {
        let (start, length) = what;
        let Some((first, before)) = self.last else { return };
        let Some(acked) = self.acked else { return };
        // The call that wrote these bytes if it was seen, else the segment before them.
        let called = match self.written {
            Some((write, from)) if from == start => write.at.max(first.at),
            _ => first.at,
        };
        let held = act.at.saturating_sub(called);
        let is_small = before < SEGMENT_BYTES && length < SEGMENT_BYTES;
        let is_freed = acked > first.at && act.at.saturating_sub(acked) <= AFTER_ACK_NS_MAX;
        let is_answered = self.answered.is_some_and(|at| at >= first.at);
        if is_small && is_freed && !is_answered && (NAGLE_NS_MIN..=NAGLE_NS_MAX).contains(&held) {
            report.fire(("R07", Level::Warn), &[first, act], || {
                format!(
                    "{} ms lost: Nagle held the second small write until the delayed \
                     acknowledgement. Join the writes or set TCP_NODELAY",
                    held / 1_000_000
                )
            });
        }
    }

    /// R10: its receive window is closed for long.
    fn window(&mut self, act: &'a Act, window: u64, flags: &str, report: &mut Report) {
        // A reset and the first packet say nothing about a buffer.
        if flags.contains(['R', 'S']) {
            return;
        }
        match (window, self.closed) {
            (0, None) => self.closed = Some(act),
            (0, Some(_)) | (_, None) => {}
            (_, Some(since)) => {
                self.closed = None;
                self.slow(since, act.at, report);
            }
        }
    }

    fn slow(&self, since: &Act, until: u64, report: &mut Report) {
        if until.saturating_sub(since.at) >= WINDOW_CLOSED_NS_MIN {
            report.fire(("R10", Level::Note), &[since], || {
                format!(
                    "{} reads too slowly: its buffer is full and the sender has to wait ({})",
                    self.name(),
                    duration(until.saturating_sub(since.at))
                )
            });
        }
    }

    /// The other side sends a segment.
    fn heard(&mut self, act: &'a Act, report: &mut Report) {
        let Did::Segment { off, .. } = &act.did else { return };
        if let Some(since) = self.waiting.take()
            && act.at.saturating_sub(since.at) >= SILENT_NS_MIN
        {
            self.silent(since, "unacknowledged", report);
        }
        self.unanswered = 0;
        match off.is_empty() {
            true => self.acked = Some(act.at),
            false => self.answered = Some(act.at),
        }
    }

    /// R25.
    fn silent(&self, since: &Act, how: &str, report: &mut Report) {
        report.fire(("R25", Level::Warn), &[since], || {
            format!(
                "{} is silent since {} ({how}): gone, cut or asleep look the same. Use keepalive \
                 or a limit",
                self.other_name(),
                duration(since.at)
            )
        });
    }

    fn at_end(&self, until: u64, report: &mut Report) {
        if let Some(since) = self.closed {
            self.slow(since, until, report);
        }
        if let Some(since) =
            self.waiting.filter(|since| until.saturating_sub(since.at) >= SILENT_NS_MIN)
        {
            self.silent(since, "unacknowledged", report);
        }
    }
}

/// R12, or R14 if a SYN was answered so.
fn reset(report: &mut Report, act: &Act, what: (Way, bool, bool)) {
    let (way, no_listener, after_close) = what;
    let side = if way == Way::Up { "the client" } else { "the server" };
    let why = match (no_listener, after_close) {
        (true, _) => "no listener",
        (false, true) => "data after close",
        (false, false) => "why is not known",
    };
    if no_listener {
        report.fire(("R14", Level::Fault), &[act], || {
            "Nothing listens there: the first packet was answered by a reset".to_owned()
        });
    }
    report.fire(("R12", Level::Warn), &[act], || format!("Reset by {side}: {why}"));
}
