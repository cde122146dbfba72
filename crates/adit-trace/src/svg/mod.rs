//! A story as SVG: one picture that a browser, a document or a printer shows as it is.
//!
//! Text stays text, nothing is loaded and nothing runs; equal stories give equal bytes.

mod canvas;
mod facts;
mod hosts;
mod layers;
mod measure;
mod overview;
mod ruler;
mod sequence;
mod streams;
mod style;
mod words;

pub(crate) use canvas::{Canvas, Tone, markup};
pub(crate) use facts::{Facts, moment, plural, span, to_u64};
pub(crate) use style::{MONO, Palette, SANS, sheet};
pub(crate) use words::{call, general};

use crate::story::{Story, Talk};
use crate::text::{Names, View};
use canvas::Look;
use measure::{Font, Px};

/// What is drawn of a story, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The number of the one conversation to draw; none: all of them, one below the other.
    pub talk: Option<u64>,
    /// Conversations in one picture at most; how many are left out is said. Default 12.
    pub talks_max: usize,
    /// Rows of a sequence at most; default 2000. A longer one gets an overview and a window.
    pub rows_max: usize,
    /// The first row of the window; none: the beginning and the end are drawn.
    pub first_row: Option<usize>,
    /// How sockets and streams are called.
    pub names: Names,
}

impl Default for Options {
    fn default() -> Self {
        Self { talk: None, talks_max: 12, rows_max: 2000, first_row: None, names: Names::Lecture }
    }
}

impl Options {
    /// Those of a page that has room for so many rows.
    pub(crate) fn of_page(rows_max: usize, names: Names) -> Self {
        Self { rows_max: rows_max.max(ROWS_MIN), names, ..Self::default() }
    }

    /// The same for one conversation.
    #[must_use]
    pub fn of_talk(mut self, number: u64) -> Self {
        self.talk = Some(number);
        self
    }
}

/// Draws a story as one SVG file.
///
/// ```
/// use adit_trace::{read::read, svg, text::View};
/// let trace = r#"{"v":1,"n":0,"t":9,"ev":"data","conn":1,"peer":"[::1]:9","dir":"in","len":2,"text":"hi"}"#;
/// let story = read(trace.as_bytes()).unwrap();
/// let picture = svg::draw(&story, View::Sequence, &svg::Options::default());
/// assert!(picture.starts_with("<svg xmlns=") && picture.contains("2 B"));
/// ```
pub fn draw(story: &Story, view: View, options: &Options) -> String {
    let mut canvas = Canvas::new(false);
    let mut y = head(&mut canvas, story, view);
    let is_drawn = |talk: &&Talk| options.talk.is_none_or(|number| number == talk.number);
    let talks: Vec<&Talk> = story.talks.iter().filter(is_drawn).collect();
    if view == View::Hosts {
        let picture = hosts::draw(story, &talks, options.names);
        canvas.paste(&picture.body, y);
        y += picture.height;
    } else {
        for talk in talks.iter().take(options.talks_max) {
            if talks.len() > 1 {
                canvas.text((MARGIN, y + 30), Look::new(Font::STRONG, Tone::Ink), &name(talk));
                y += 38;
            }
            let picture = of_talk(story, talk, view, options, false);
            canvas.paste(&picture.body, y);
            y += picture.height;
        }
        y = left_out(&mut canvas, y, talks.len(), options.talks_max);
    }
    let height = foot(&mut canvas, y, story);
    let label = format!("{}: {}", view.word(), title(story));
    let picture = Picture { body: canvas.into_body(), height, label };
    picture.file()
}

/// What a sequence is drawn of, beside the talk.
pub(crate) struct Scene<'a> {
    pub(crate) story: &'a Story,
    pub(crate) options: &'a Options,
    pub(crate) view: View,
}

/// The pictures of a page, in order.
pub(crate) const PICTURES: [View; 5] =
    [View::Sequence, View::Ruler, View::Streams, View::Layers, View::Hosts];

/// One picture without the head and the foot of a file.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) body: String,
    pub(crate) height: Px,
    /// What it shows, for those who do not see it.
    pub(crate) label: String,
}

impl Picture {
    /// A file of its own.
    fn file(&self) -> String {
        let (body, height, label) = (&self.body, self.height, markup(&self.label));
        let css = sheet();
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" xml:space=\"preserve\" role=\"img\" \
             width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">\n\
             <title>{label}</title>\n<style>\n{css}</style>\n\
             <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n{body}</svg>\n"
        )
    }

    /// A part of a page.
    pub(crate) fn part(&self) -> String {
        let (body, height, label) = (&self.body, self.height, markup(&self.label));
        format!(
            "<svg xml:space=\"preserve\" role=\"group\" aria-label=\"{label}\" \
             viewBox=\"0 0 {WIDTH} {height}\">\n{body}</svg>\n"
        )
    }
}

/// The picture of one conversation; `is_live` adds what a page asks for.
pub(crate) fn of_talk(
    story: &Story,
    talk: &Talk,
    view: View,
    options: &Options,
    is_live: bool,
) -> Picture {
    match view {
        View::Sequence | View::Steps => {
            sequence::draw(&Scene { story, options, view }, talk, is_live)
        }
        View::Ruler => ruler::draw(talk, is_live),
        View::Streams => streams::draw(story, talk, options.names, is_live),
        View::Layers => layers::draw(story, talk, options.names, is_live),
        View::Hosts => hosts::draw(story, &[talk], options.names),
    }
}

/// All hosts of a story.
pub(crate) fn hosts(story: &Story, names: Names) -> Picture {
    let talks: Vec<&Talk> = story.talks.iter().collect();
    hosts::draw(story, &talks, names)
}

/// Which rows of a sequence are drawn: one range, or the beginning and the end.
pub(crate) fn window(rows: usize, options: &Options) -> Vec<std::ops::Range<usize>> {
    let most = options.rows_max.max(4);
    if rows <= most {
        return std::iter::once(0..rows).collect();
    }
    if let Some(first) = options.first_row {
        let first = first.min(rows - most);
        return std::iter::once(first..first + most).collect();
    }
    let tail = most / 4;
    vec![0..most - tail, rows - tail..rows]
}

/// `conversation 3: 127.0.0.1:51512 to 127.0.0.1:7000, tcp`.
pub(crate) fn name(talk: &Talk) -> String {
    let or_unknown = |addr: &str| if addr.is_empty() { "?".to_owned() } else { addr.to_owned() };
    let (client, server) = (or_unknown(&talk.client), or_unknown(&talk.server));
    format!("Conversation {}: {client} → {server} ({})", talk.number, talk.scheme.word())
}

/// The programs of a story; what it is, where they are unknown.
pub(crate) fn title(story: &Story) -> String {
    let names: Vec<&str> = story.programs.iter().map(|program| program.name.as_str()).collect();
    let named: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    if named.is_empty() { "trace of adit".to_owned() } else { named.join("  +  ") }
}

fn head(canvas: &mut Canvas, story: &Story, view: View) -> Px {
    let room = WIDTH - 2 * MARGIN;
    let name = Font::TITLE.fit(&title(story), room - 120);
    canvas.text((MARGIN, 36), Look::new(Font::TITLE, Tone::Ink), &name);
    let word = Look::new(Font::STRONG, Tone::Muted).end();
    canvas.text((WIDTH - MARGIN, 36), word, view.word());
    let line = match story.start.is_empty() {
        true => story.badge.to_string(),
        false => format!("{}    {}", story.badge, story.start),
    };
    let line = Font::CODE.fit(&line, room);
    canvas.text((MARGIN, 58), Look::new(Font::CODE, Tone::Muted), &line);
    68
}

fn foot(canvas: &mut Canvas, top: Px, story: &Story) -> Px {
    let room = WIDTH - 2 * MARGIN;
    let mut y = top;
    for line in general(story, NOTES_MAX) {
        y += 20;
        let line = Font::BODY.fit(&line, room);
        canvas.text((MARGIN, y), Look::new(Font::BODY, Tone::Ink), &line);
    }
    for note in story.notes.iter().take(NOTES_MAX) {
        y += 20;
        let note = Font::BODY.fit(&format!("Note: {note}"), room);
        canvas.text((MARGIN, y), Look::new(Font::BODY, Tone::Muted), &note);
    }
    let more = story.notes.len().saturating_sub(NOTES_MAX);
    if more > 0 {
        y += 20;
        let look = Look::new(Font::BODY, Tone::Muted);
        canvas.text((MARGIN, y), look, &format!("and {more} more notes"));
    }
    y + 24
}

fn left_out(canvas: &mut Canvas, y: Px, talks: usize, talks_max: usize) -> Px {
    let look = Look::new(Font::BODY, Tone::Muted);
    let text = match talks.saturating_sub(talks_max) {
        0 if talks == 0 => "No conversation.".to_owned(),
        0 => return y,
        more => format!("{more} more conversations are not drawn."),
    };
    canvas.text((MARGIN, y + 30), look, &text);
    y + 44
}

/// Every picture has this width; on paper it is scaled to the page.
pub(crate) const WIDTH: Px = 960;
pub(crate) const MARGIN: Px = 28;
const NOTES_MAX: usize = 8;
/// However little room a page has, of each sequence this many rows are drawn.
const ROWS_MIN: usize = 24;
