//! Rules about the edges of messages: streams lose them, datagrams keep them or are lost whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{Level, Report};
use crate::rows::{Observers, Stage, size, stage};
use crate::story::{Act, Did, Talk, Way};

/// R01: a read that covers at least so many writes.
pub(super) const WRITES_IN_READ_MIN: u64 = 2;
/// R02: a write that takes at least so many reads.
pub(super) const READS_OF_WRITE_MIN: u64 = 2;

pub(super) fn check(talk: &Talk, observers: Observers, report: &mut Report) {
    for way in [Way::Up, Way::Down] {
        match talk.scheme.is_datagram() {
            true => datagrams(talk, way, observers, report),
            false if observers.both_ends() => stream(talk, way, report),
            false => {}
        }
    }
}

/// R01 and R02: both lists go through the same bytes in the same order, so one pass joins them.
fn stream(talk: &Talk, way: Way, report: &mut Report) {
    let spans = |wanted: Stage| {
        talk.acts.iter().filter(move |act| stage(act) == wanted).filter_map(move |act| {
            match &act.did {
                Did::Write { way: of, off, .. } | Did::Read { way: of, off, .. }
                    if *of == way && !off.is_empty() =>
                {
                    Some((act, off.clone()))
                }
                _ => None,
            }
        })
    };
    let mut writes = spans(Stage::Written).peekable();
    let mut reads = spans(Stage::Read).peekable();
    let mut in_read = Run::default();
    let mut of_write = Run::default();
    while let (Some((write, out)), Some((read, inward))) = (writes.peek(), reads.peek()) {
        if out.start < inward.end && inward.start < out.end {
            in_read.count(write);
            of_write.count(read);
        }
        let (out, inward) = (out.clone(), inward.clone());
        if out.end <= inward.end
            && let Some((write, span)) = writes.next()
        {
            r02(report, write, &span, &of_write);
            of_write = Run::default();
        }
        if inward.end <= out.end
            && let Some((read, _)) = reads.next()
        {
            r01(report, read, &in_read);
            in_read = Run::default();
        }
    }
    // One side is through; the piece the other one stands in was met by what came before.
    if let Some((read, _)) = reads.peek() {
        r01(report, read, &in_read);
    }
    if let Some((write, span)) = writes.peek() {
        r02(report, write, span, &of_write);
    }
}

/// The pieces of one side that meet one piece of the other.
#[derive(Default)]
struct Run<'a> {
    count: u64,
    first: Option<&'a Act>,
    last: Option<&'a Act>,
}

impl<'a> Run<'a> {
    fn count(&mut self, act: &'a Act) {
        self.count += 1;
        self.first.get_or_insert(act);
        self.last = Some(act);
    }

    fn with(&self, act: &'a Act) -> Vec<&'a Act> {
        self.first.into_iter().chain(self.last).chain([act]).collect()
    }
}

fn r01(report: &mut Report, read: &Act, run: &Run<'_>) {
    if run.count >= WRITES_IN_READ_MIN {
        report.fire(("R01", Level::Note), &run.with(read), || {
            format!(
                "{} writes arrived as one read. TCP has no message edges: send a length or a \
                 newline",
                run.count
            )
        });
    }
}

fn r02(report: &mut Report, write: &Act, span: &Range<u64>, run: &Run<'_>) {
    if run.count >= READS_OF_WRITE_MIN {
        report.fire(("R02", Level::Note), &run.with(write), || {
            format!(
                "One write of {} bytes took {} reads. Read until the message is complete",
                span.end.saturating_sub(span.start),
                run.count
            )
        });
    }
}

/// R21, R23 and R24.
fn datagrams(talk: &Talk, way: Way, observers: Observers, report: &mut Report) {
    let mut sent: BTreeMap<u64, (&Act, u64)> = BTreeMap::new();
    let mut arrived: BTreeSet<u64> = BTreeSet::new();
    let mut highest: Option<u64> = None;
    let (from, to) = match observers.both_ends() {
        true => (Stage::Written, Stage::Read),
        false => (Stage::Came, Stage::Passed),
    };
    let mut last_seen_by_receiver = 0;
    for act in &talk.acts {
        let here = stage(act);
        let is_receiver = match (observers.both_ends(), way) {
            (true, Way::Up) => act.seen == crate::story::Seen::Server,
            (true, Way::Down) => act.seen == crate::story::Seen::Client,
            (false, _) => true,
        };
        if is_receiver {
            last_seen_by_receiver = last_seen_by_receiver.max(act.at);
        }
        let Some((msg, len)) = datagram(act, way) else { continue };
        if here == from {
            sent.insert(msg, (act, len));
        }
        if here == to {
            if let Some((_, whole)) = sent.get(&msg).filter(|(_, whole)| *whole > len) {
                report.fire(("R21", Level::Fault), &[act], || {
                    format!(
                        "Your buffer held {len} of {whole} bytes; the rest of the datagram is \
                         gone for good"
                    )
                });
            }
            order(report, act, (msg, highest), !arrived.insert(msg));
            highest = Some(highest.map_or(msg, |highest| highest.max(msg)));
        }
    }
    for (msg, (act, len)) in &sent {
        // What was sent last may still be on its way when a trace ends.
        if !arrived.contains(msg) && act.at < last_seen_by_receiver {
            report.fire(("R23", Level::Note), &[act], || {
                let by = if from == Stage::Came { "at the relay" } else { "on the wire" };
                format!("Lost {by}: nobody will send this datagram again (#{msg}, {})", size(*len))
            });
        }
    }
}

/// R24: a number smaller than one before, or seen before.
fn order(report: &mut Report, act: &Act, what: (u64, Option<u64>), is_twice: bool) {
    let (msg, highest) = what;
    let how = match highest {
        _ if is_twice => "twice".to_owned(),
        Some(highest) if msg < highest => format!("after {highest}"),
        _ => return,
    };
    report.fire(("R24", Level::Note), &[act], || {
        format!("Datagram {msg} arrived {how}. UDP promises neither order nor once")
    });
}

fn datagram(act: &Act, of: Way) -> Option<(u64, u64)> {
    match &act.did {
        Did::Send { way, msg, len, .. } | Did::Receive { way, msg, len, .. } if *way == of => {
            Some((*msg, *len))
        }
        _ => None,
    }
}
