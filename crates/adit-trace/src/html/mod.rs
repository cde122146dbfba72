//! A story as one HTML file: all pictures, a slider for the time, and every act in full.
//!
//! It opens from disk, loads nothing and prints on paper; without script the pictures are the same.
//! What a peer sent stands in it as text and as data, never as markup.

mod data;
mod list;
mod style;

use crate::rules::Findings;
use crate::story::{Story, Talk};
use crate::svg::{self, Facts, PICTURES, markup};
use crate::text::{Names, View};

/// How much of a story a page holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The number of the one conversation to show; none: all.
    pub talk: Option<u64>,
    /// Conversations with pictures at most; the others are only listed. Default 20.
    pub talks_max: usize,
    /// Rows in all sequences together at most; default 1000. Longer ones get a window.
    pub rows_max: usize,
    /// Conversations in the list at most; default 1000.
    pub list_max: usize,
    /// How sockets and streams are called.
    pub names: Names,
}

impl Default for Options {
    fn default() -> Self {
        Self { talk: None, talks_max: 20, rows_max: 1000, list_max: 1000, names: Names::Lecture }
    }
}

/// Makes the page of a story with what the rules found in it.
///
/// ```
/// use adit_trace::{html, read::read, rules::findings};
/// let trace = r#"{"v":1,"n":0,"t":9,"ev":"data","conn":1,"peer":"[::1]:9","dir":"in","len":2,"text":"<b"}"#;
/// let story = read(trace.as_bytes()).unwrap();
/// let page = html::page(&story, &findings(&story), &html::Options::default());
/// assert!(page.starts_with("<!doctype html>") && !page.contains("<b\""));
/// ```
pub fn page(story: &Story, findings: &Findings, options: &Options) -> String {
    let drawn = drawn(story, findings, options);
    let title = markup(&svg::title(story));
    let mut body = head(story);
    body.push_str(&list::findings(findings));
    body.push_str(&list::talks(story, &drawn, options));
    if drawn.len() > 1 {
        let picture = svg::hosts(story, options.names);
        body.push_str(&format!(
            "<details class=\"all-hosts\"><summary>All hosts</summary>\n\
             <figure class=\"picture\">{}</figure></details>\n",
            picture.part()
        ));
    }
    let mut rows_left = options.rows_max;
    let mut data = data::Data::default();
    for talk in &drawn {
        let window = svg::Options::of_page(rows_left, options.names);
        let rows = data.add(talk, &window);
        rows_left = rows_left.saturating_sub(rows);
        body.push_str(&article(story, talk, &window));
    }
    body.push_str(&list::outside(story));
    body.push_str(&list::notes(story));
    let (css, json) = (style::sheet(), data.json());
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src '{SCRIPT_HASH}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{title}</title>\n<style>\n{css}</style>\n</head>\n<body>\n{body}\
         <script type=\"application/json\" id=\"data\">{json}</script>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// The conversations that get pictures: those in trouble first, then from the first on.
fn drawn<'a>(story: &'a Story, findings: &Findings, options: &Options) -> Vec<&'a Talk> {
    let is_wanted = |talk: &&Talk| options.talk.is_none_or(|number| number == talk.number);
    let mut talks: Vec<&Talk> = story.talks.iter().filter(is_wanted).collect();
    let most = options.talks_max.max(1);
    if talks.len() > most {
        let is_quiet = |talk: &&Talk| {
            let is_found = findings.found.iter().any(|finding| finding.talk == Some(talk.number));
            !is_found && Facts::of(talk).is_clean()
        };
        // Stable: among those alike the first come first.
        talks.sort_by_cached_key(is_quiet);
        talks.truncate(most);
        talks.sort_by_key(|talk| talk.number);
    }
    talks
}

fn head(story: &Story) -> String {
    let chips: Vec<String> = story
        .badge
        .to_string()
        .split(" | ")
        .map(|chip| format!("<li>{}</li>", markup(chip)))
        .collect();
    let start = match story.start.is_empty() {
        true => String::new(),
        false => format!("<time>{}</time>", markup(&story.start)),
    };
    format!(
        "<header>\n<p class=\"brand\">adit</p>\n<h1>{}</h1>\n{start}\n\
         <ul class=\"badge\" aria-label=\"What is exact\">{}</ul>\n</header>\n",
        markup(&svg::title(story)),
        chips.concat()
    )
}

/// One conversation with its pictures.
fn article(story: &Story, talk: &Talk, window: &svg::Options) -> String {
    let (number, name) = (talk.number, markup(&svg::name(talk)));
    let sums = list::sums(talk);
    let mut html = format!(
        "<article class=\"talk\" id=\"talk-{number}\" data-conv=\"{number}\" aria-labelledby=\"h-{number}\">\n\
         <h2 id=\"h-{number}\">{name}</h2>\n<p class=\"sums\">{sums}</p>\n\
         <div class=\"tabs js\" role=\"tablist\" aria-label=\"Pictures\"></div>\n\
         <div class=\"stage\">\n<div class=\"views\">\n"
    );
    for view in PICTURES {
        let (word, title) = (view.word(), heading(view));
        let player = if view == View::Sequence { PLAYER } else { "" };
        let picture = svg::of_talk(story, talk, view, window, true).part();
        html.push_str(&format!(
            "<section class=\"view\" data-view=\"{word}\" aria-label=\"{title}\">\n<h3>{title}</h3>\n\
             {player}<figure class=\"picture\">\n{picture}</figure>\n</section>\n"
        ));
    }
    html.push_str(
        "</div>\n<aside class=\"detail js\" aria-live=\"polite\" aria-label=\"This line in full\"></aside>\n\
         </div>\n</article>\n",
    );
    html
}

const fn heading(view: View) -> &'static str {
    match view {
        View::Sequence | View::Steps => "Sequence",
        View::Ruler => "Bytes",
        View::Streams => "Streams",
        View::Layers => "Layers",
        View::Hosts => "Hosts",
    }
}

/// The slider and its buttons; the script wakes them.
const PLAYER: &str = "<div class=\"player js\" role=\"group\" aria-label=\"Time\">\
<button type=\"button\" data-do=\"first\" aria-label=\"To the beginning\" title=\"To the beginning (Home)\">|&lt;</button>\
<button type=\"button\" data-do=\"back\" aria-label=\"One step back\" title=\"One step back (left)\">&lt;</button>\
<button type=\"button\" data-do=\"play\" aria-label=\"Play\" title=\"Play or pause (space)\">play</button>\
<button type=\"button\" data-do=\"on\" aria-label=\"One step on\" title=\"One step on (right)\">&gt;</button>\
<button type=\"button\" data-do=\"last\" aria-label=\"To the end\" title=\"To the end (End)\">&gt;|</button>\
<input type=\"range\" min=\"0\" step=\"1\" aria-label=\"Moment\"><output></output></div>\n";

/// The script of every page. It is the same for each: nothing of a story is written into it.
const SCRIPT: &str = include_str!("page.js");

/// SHA-256 of [`SCRIPT`]: the page's policy lets this script run and no other.
const SCRIPT_HASH: &str = "sha256-VwGY7MOcgvGrXb6qphTjHWgTjF2ueeIxncgR0j2kNeA=";
