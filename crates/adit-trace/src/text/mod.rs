//! Pictures as text: at most 80 columns, ASCII, readable on any terminal and in any log.
//!
//! [`draw`] makes the picture of a whole story, [`Live`] the lines of one that still goes on. What a
//! peer sent is shown, never obeyed.

mod head;
mod hosts;
mod layers;
mod live;
mod names;
mod page;
mod ruler;
mod sequence;
mod steps;
mod streams;
mod sums;

pub use live::Live;
pub use names::Names;

use std::ops::Range;

use crate::rules;
use crate::story::{Story, Talk};
use page::Page;

/// No line is wider than this many columns.
pub const COLUMNS_MAX: usize = 80;

/// More rows of one picture are folded.
pub const ROWS_MAX: usize = 200;

/// More conversations are named, not drawn, unless one is asked for by its number.
pub const TALKS_MAX: usize = 20;

/// Which picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum View {
    /// Two lifelines and an arrow for each message, with times.
    #[default]
    Sequence,
    /// The same as steps of two programs, without anything that differs from run to run.
    Steps,
    /// Writes and reads on one scale of bytes; datagrams as boxes.
    Ruler,
    /// The streams between keyboard, programs and sockets, with byte counts.
    Streams,
    /// Process, door and kernel, and what belongs to whom.
    Layers,
    /// Hosts, programs, sockets, and who talks to whom.
    Hosts,
}

impl View {
    /// Every view, in the order in which they are named to users.
    pub const ALL: [Self; 6] =
        [Self::Sequence, Self::Steps, Self::Ruler, Self::Streams, Self::Layers, Self::Hosts];

    /// The word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Steps => "steps",
            Self::Ruler => "ruler",
            Self::Streams => "streams",
            Self::Layers => "layers",
            Self::Hosts => "hosts",
        }
    }

    /// The view of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|view| view.word() == word)
    }
}

/// How to draw.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The names of sockets and streams.
    pub names: Names,
    /// Only the conversation with this number.
    pub talk: Option<u64>,
    /// Only these rows of each conversation, counted from 0; a byte range for the ruler.
    pub window: Option<Range<u64>>,
    /// More rows than this are folded in the middle.
    pub rows_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { names: Names::default(), talk: None, window: None, rows_max: ROWS_MAX }
    }
}

/// Draws a story. Equal stories give equal text; every line ends in a line feed.
///
/// ```
/// use adit_trace::text::{Options, View, draw};
/// let trace = r#"{"v":1,"n":0,"t":0,"ev":"trace","role":"server","prog":"adit serve echo 7000"}
/// {"v":1,"n":1,"t":10,"ev":"open","conn":1,"peer":"127.0.0.1:5000","scheme":"tcp"}
/// {"v":1,"n":2,"t":20,"ev":"data","conn":1,"dir":"in","len":3,"text":"hi\n"}"#;
/// let story = adit_trace::read::read(trace.as_bytes()).unwrap();
/// assert!(draw(&story, View::Sequence, &Options::default()).contains("3 B \"hi\\n\""));
/// ```
pub fn draw(story: &Story, view: View, options: &Options) -> String {
    let mut page = Page::default();
    head::head(&mut page, story, view, options);
    match view {
        View::Hosts => hosts::hosts(&mut page, story, options),
        _ => talks(&mut page, story, view, options),
    }
    if view != View::Steps {
        head::general(&mut page, story);
    }
    findings(&mut page, story, view, options);
    head::notes(&mut page, story, view);
    page.finish()
}

fn talks(page: &mut Page, story: &Story, view: View, options: &Options) {
    let chosen: Vec<&Talk> = story
        .talks
        .iter()
        .filter(|talk| options.talk.is_none_or(|number| talk.number == number))
        .collect();
    if chosen.is_empty() {
        page.blank();
        return page.line(&match options.talk {
            Some(number) => format!("no conversation {number} in this trace"),
            None => "no conversation in this trace".to_owned(),
        });
    }
    let rows_max = options.rows_max.min((2 * options.rows_max / chosen.len()).max(12));
    for talk in chosen.iter().take(TALKS_MAX) {
        page.blank();
        match view {
            View::Sequence | View::Hosts => sequence::sequence(page, talk, options, rows_max),
            View::Steps => steps::steps(page, story, talk, (options, rows_max)),
            View::Ruler => ruler::ruler(page, talk, options),
            View::Streams => streams::streams(page, story, talk, options),
            View::Layers => layers::layers(page, story, talk, options),
        }
    }
    if let Some(rest) = chosen.get(TALKS_MAX..).filter(|rest| !rest.is_empty()) {
        page.blank();
        page.line(&format!("... {} more conversations: choose one by its number ...", rest.len()));
    }
}

/// The findings about what is drawn; the story's others are counted.
fn findings(page: &mut Page, story: &Story, view: View, options: &Options) {
    let findings = rules::findings(story);
    let about = |finding: &&rules::Finding| {
        options.talk.is_none() || finding.talk.is_none() || finding.talk == options.talk
    };
    let found: Vec<&rules::Finding> = findings.found.iter().filter(about).collect();
    // Whether programs wrote in one piece or two depends on time: no part of the steps.
    if view == View::Steps {
        return;
    }
    page.blank();
    if found.is_empty() {
        let checked = rules::RULES.len() - findings.not_checked.len();
        page.line(&format!("findings: none; {checked} of {} rules checked", rules::RULES.len()));
    }
    for finding in found.iter().take(rules::FINDINGS_SHOWN_MAX) {
        page.hanging(&format!("{} {} ", finding.rule, finding.level.word()), &finding.to_string());
    }
    if let Some(rest) = found.get(rules::FINDINGS_SHOWN_MAX..).filter(|rest| !rest.is_empty()) {
        page.line(&format!("... {} more findings ...", rest.len()));
    }
    let mut missing: Vec<(&str, Vec<&str>)> = Vec::new();
    for (id, why) in findings.not_checked {
        match missing.iter_mut().find(|(known, _)| *known == why) {
            Some((_, ids)) => ids.push(id),
            None => missing.push((why, vec![id])),
        }
    }
    let missing: Vec<String> =
        missing.iter().map(|(why, ids)| format!("{} ({why})", ids.join(" "))).collect();
    if !missing.is_empty() {
        page.hanging("not checked: ", &missing.join(", "));
    }
}
