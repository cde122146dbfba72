//! The table of rules: what each needs to be checked.

use super::{Level, Sources};

/// A rule.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Rule {
    /// `R01` to `R30`.
    pub id: &'static str,
    /// How bad it is at least.
    pub level: Level,
    /// What it is about, in a few words.
    pub title: &'static str,
    /// The source it lacks in a story, if it lacks one.
    pub(super) lacks: fn(&Sources) -> Option<&'static str>,
}

const fn rule(
    id: &'static str,
    level: Level,
    title: &'static str,
    lacks: fn(&Sources) -> Option<&'static str>,
) -> Rule {
    Rule { id, level, title, lacks }
}

fn both_of_streams(sources: &Sources) -> Option<&'static str> {
    let is_met = !sources.streams || sources.both_of_streams;
    (!is_met).then_some("needs both programs")
}

fn both_of_datagrams(sources: &Sources) -> Option<&'static str> {
    let is_met = !sources.datagrams || sources.both_of_datagrams;
    (!is_met).then_some("needs both programs")
}

fn calls(sources: &Sources) -> Option<&'static str> {
    (!sources.programs).then_some("needs calls")
}

fn packets(sources: &Sources) -> Option<&'static str> {
    (!sources.wire).then_some("needs packets")
}

fn packets_or_calls(sources: &Sources) -> Option<&'static str> {
    (!sources.wire && !sources.programs).then_some("needs packets or calls")
}

fn packets_of_streams(sources: &Sources) -> Option<&'static str> {
    both_of_datagrams(sources).or_else(|| packets(sources).filter(|_| sources.streams))
}

fn traced(_: &Sources) -> Option<&'static str> {
    Some("needs traced calls")
}

fn framed(_: &Sources) -> Option<&'static str> {
    Some("needs a codec")
}

fn queues(_: &Sources) -> Option<&'static str> {
    Some("needs kernel queues")
}

fn addresses(_: &Sources) -> Option<&'static str> {
    Some("needs each datagram's addresses")
}

use Level::{Fault, Note, Warn};

/// Every rule, in the order of their numbers.
pub const RULES: [Rule; 30] = [
    rule("R01", Note, "several writes in one read", both_of_streams),
    rule("R02", Note, "one write in several reads", both_of_streams),
    rule("R03", Warn, "a short write", traced),
    rule("R04", Fault, "several messages in one read, one handled", framed),
    rule("R05", Warn, "waiting for the rest of a message", framed),
    rule("R06", Fault, "reading on after the end", calls),
    rule("R07", Warn, "Nagle and the delayed acknowledgement", packets),
    rule("R08", Fault, "both wait to read", traced),
    rule("R09", Note, "half-closed", packets_or_calls),
    rule("R10", Note, "receive window closed", packets),
    rule("R11", Fault, "closed with unread bytes", queues),
    rule("R12", Warn, "reset", packets_or_calls),
    rule("R13", Fault, "written after the peer had gone", traced),
    rule("R14", Fault, "nothing listens", packets_or_calls),
    rule("R15", Fault, "accept queue full", queues),
    rule("R16", Note, "accepted late", both_of_streams),
    rule("R17", Warn, "one client at a time", traced),
    rule("R18", Fault, "port not free", calls),
    rule("R19", Warn, "out of descriptors", calls),
    rule("R20", Warn, "closed here, open in another process", traced),
    rule("R21", Fault, "datagram cut off", calls),
    rule("R22", Fault, "receive queue full", queues),
    rule("R23", Note, "lost on the wire", packets_of_streams),
    rule("R24", Note, "datagrams out of order or twice", both_of_datagrams),
    rule("R25", Warn, "peer silent", packets),
    rule("R26", Warn, "datagram to a port where nobody listens", packets_or_calls),
    rule("R27", Fault, "answered from another address", addresses),
    rule("R28", Warn, "datagram too big", calls),
    rule("R29", Fault, "port with swapped bytes", calls),
    rule("R30", Fault, "both write, nobody reads", traced),
];
