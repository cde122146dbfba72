//! Rules: what a story shows that its programmer should know, each in one sentence.
//!
//! A rule is a pure detector. What the sources of a story cannot decide is named as not checked, with
//! what is missing, and never counted as passed.

mod edges;
mod endings;
mod table;
mod wire;

pub use table::{RULES, Rule};

use std::fmt;

use crate::rows::Observers;
use crate::story::{Act, Story, Talk};

/// A text shows at most this many findings.
pub const FINDINGS_SHOWN_MAX: usize = 20;

/// A finding names at most this many events as its causes.
pub const CAUSES_MAX: usize = 8;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "the schema has these three")]
pub enum Level {
    /// Worth knowing; nothing is wrong.
    Note,
    /// It may hurt.
    Warn,
    /// Something is broken.
    Fault,
}

impl Level {
    /// `NOTE`, `WARN`, `FAULT`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Note => "NOTE",
            Self::Warn => "WARN",
            Self::Fault => "FAULT",
        }
    }
}

/// A rule that fired, once per rule and conversation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// The rule: `R01`.
    pub rule: &'static str,
    /// How bad it is.
    pub level: Level,
    /// Its sentence, with the values of the first time. Free of control characters.
    pub text: String,
    /// The conversation it is about; none for what concerns the whole host.
    pub talk: Option<u64>,
    /// How often it fired there.
    pub count: u64,
    /// Numbers of the events that made it fire, at most [`CAUSES_MAX`].
    pub causes: Vec<u64>,
}

impl fmt::Display for Finding {
    /// The sentence, and where: `... [conversation 1, 3 times, n=5 9]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        let mut places = Vec::new();
        places.extend(self.talk.map(|number| format!("conversation {number}")));
        if self.count > 1 {
            places.push(format!("{} times", self.count));
        }
        if !self.causes.is_empty() {
            let causes: Vec<String> = self.causes.iter().map(u64::to_string).collect();
            places.push(format!("n={}", causes.join(" ")));
        }
        match places.is_empty() {
            true => Ok(()),
            false => write!(f, " [{}]", places.join(", ")),
        }
    }
}

/// What the rules say of a story.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Findings {
    /// What fired, in the order of conversations, then of rules.
    pub found: Vec<Finding>,
    /// Rules that could not be checked, and which source they lack.
    pub not_checked: Vec<(&'static str, &'static str)>,
}

/// Applies every rule to a story. Linear in the number of its acts.
pub fn findings(story: &Story) -> Findings {
    let mut report = Report::default();
    endings::general(story, &mut report);
    let mut sources = Sources { programs: !story.programs.is_empty(), ..Sources::default() };
    for talk in &story.talks {
        let observers = Observers::of(&talk.acts);
        sources.add(talk, observers);
        report.talk = Some(talk.number);
        report.from = report.found.len();
        edges::check(talk, observers, &mut report);
        endings::check(story, talk, &mut report);
        wire::check(talk, observers, &mut report);
        if let Some(own) = report.found.get_mut(report.from..) {
            own.sort_by_key(|finding| finding.rule);
        }
    }
    let fired = |rule: &Rule| report.found.iter().any(|finding| finding.rule == rule.id);
    let not_checked = RULES
        .iter()
        .filter(|rule| !fired(rule))
        .filter_map(|rule| Some((rule.id, (rule.lacks)(&sources)?)))
        .collect();
    Findings { found: report.found, not_checked }
}

/// Which sources a story has.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "sources are there or not, each by itself")]
#[non_exhaustive]
pub struct Sources {
    /// Programs, or a relay, told of their calls.
    pub programs: bool,
    /// There are streams.
    pub streams: bool,
    /// Of each stream both programs told.
    pub both_of_streams: bool,
    /// There are datagrams.
    pub datagrams: bool,
    /// Of all datagrams both programs told, or a relay, or the wire.
    pub both_of_datagrams: bool,
    /// Packets of each conversation were seen.
    pub wire: bool,
}

impl Sources {
    fn add(&mut self, talk: &Talk, observers: Observers) {
        let is_first = !self.streams && !self.datagrams;
        self.programs |= observers.client || observers.server || observers.relay;
        self.wire = observers.wire && (is_first || self.wire);
        if talk.scheme.is_datagram() {
            let both = observers.both_ends() || observers.relay;
            self.both_of_datagrams = both && (!self.datagrams || self.both_of_datagrams);
            self.datagrams = true;
        } else {
            let both = observers.both_ends();
            self.both_of_streams = both && (!self.streams || self.both_of_streams);
            self.streams = true;
        }
    }
}

/// Collects what fires: the first time with its sentence, then only counted.
#[derive(Debug, Default)]
struct Report {
    found: Vec<Finding>,
    talk: Option<u64>,
    /// Where the findings of this talk begin.
    from: usize,
}

impl Report {
    fn fire(
        &mut self,
        rule: (&'static str, Level),
        causes: &[&Act],
        text: impl FnOnce() -> String,
    ) {
        let causes = causes.iter().map(|act| act.n);
        let known = self.found.iter_mut().skip(self.from).find(|known| known.rule == rule.0);
        if let Some(known) = known {
            known.count += 1;
            // The worst of them counts.
            known.level = known.level.max(rule.1);
            let room = CAUSES_MAX.saturating_sub(known.causes.len());
            return known.causes.extend(causes.take(room));
        }
        self.found.push(Finding {
            rule: rule.0,
            level: rule.1,
            text: crate::rows::clean(&text()),
            talk: self.talk,
            count: 1,
            causes: causes.take(CAUSES_MAX).collect(),
        });
    }
}

#[cfg(test)]
mod tests;
