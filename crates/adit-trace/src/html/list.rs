//! Lists around the pictures: findings, conversations, notes.

use std::collections::BTreeMap;

use super::Options;
use crate::rows::{duration, size};
use crate::rules::{Finding, Findings, Level, RULES};
use crate::story::{Story, Talk};
use crate::svg::{Facts, general, markup, moment, plural, span, to_u64};

/// What the rules found, each with its sentence.
pub(super) fn findings(findings: &Findings) -> String {
    let mut html = "<section class=\"panel\" aria-labelledby=\"findings\">\n\
         <h2 id=\"findings\">Findings</h2>\n"
        .to_owned();
    let found = &findings.found;
    if found.is_empty() {
        html.push_str("<p>None.</p>\n");
    } else {
        let lines: String =
            alike(found).iter().take(FINDINGS_MAX).map(|group| line_of(group)).collect();
        html.push_str(&format!("<ul>\n{lines}</ul>\n"));
    }
    let more = alike(found).len().saturating_sub(FINDINGS_MAX);
    if more > 0 {
        html.push_str(&format!("<p>{} are not shown.</p>\n", plural(to_u64(more), "more finding")));
    }
    if !findings.not_checked.is_empty() {
        let rules = findings.not_checked.iter().map(|(rule, lacks)| {
            let title =
                RULES.iter().find(|known| known.id == *rule).map_or("", |known| known.title);
            let (rule, title, lacks) = (markup(rule), markup(title), markup(lacks));
            format!("<li><code>{rule}</code> {title}: {lacks}</li>\n")
        });
        let (count, rules) = (findings.not_checked.len(), rules.collect::<String>());
        html.push_str(&format!(
            "<details class=\"unchecked\"><summary>Not checked: {}</summary>\n<ul>\n{rules}</ul></details>\n",
            plural(to_u64(count), "rule")
        ));
    }
    html.push_str("</section>\n");
    html
}

/// Findings that say the same of several conversations, together.
fn alike(found: &[Finding]) -> Vec<Vec<&Finding>> {
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    let mut places: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for finding in found {
        let place = *places.entry((finding.rule, &finding.text)).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    groups
}

/// One sentence, and the conversations of which it is true.
fn line_of(group: &[&Finding]) -> String {
    let Some(first) = group.first() else { return String::new() };
    let (class, word) = match first.level {
        Level::Note => ("note", "note"),
        Level::Warn => ("warn", "warn"),
        Level::Fault => ("fault", "fault"),
    };
    let places: Vec<String> = group.iter().take(PLACES_MAX).filter_map(|one| place(one)).collect();
    let lead = match places.len() {
        0 => "",
        1 => "conversation ",
        _ => "conversations ",
    };
    let more = match group.len().saturating_sub(PLACES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "<li><span class=\"level {class}\">{word}</span><code>{}</code> {} \
         <span class=\"advice\">{lead}{}{more}</span></li>\n",
        markup(first.rule),
        markup(&first.text),
        places.join(", ")
    )
}

/// A link to a conversation and the events of a finding in it.
fn place(finding: &Finding) -> Option<String> {
    let number = finding.talk?;
    let causes: Vec<String> = finding.causes.iter().map(u64::to_string).collect();
    let times = match finding.count {
        0 | 1 => String::new(),
        count => format!(" ({count} times)"),
    };
    let causes = causes.join(" ");
    Some(format!(
        "<a href=\"#talk-{number},sequence\" data-causes=\"{causes}\">{number}</a>{times}"
    ))
}

/// The conversations, as a table; those with pictures are links.
pub(super) fn talks(story: &Story, drawn: &[&Talk], options: &Options) -> String {
    if story.talks.is_empty() {
        return "<section class=\"panel\"><p>No conversation.</p></section>\n".to_owned();
    }
    if story.talks.len() == 1 {
        return String::new();
    }
    let mut html = format!(
        "<section class=\"panel\" aria-labelledby=\"talks\">\n<h2 id=\"talks\">{}</h2>\n",
        plural(to_u64(story.talks.len()), "conversation")
    );
    if story.talks.len() > SEARCH_MIN {
        html.push_str(
            "<p class=\"js\"><input type=\"search\" placeholder=\"Find an address, a number, an end\" \
             aria-label=\"Find conversations\"><span class=\"found\" role=\"status\"></span></p>\n",
        );
    }
    html.push_str(
        "<div class=\"list\" tabindex=\"0\" role=\"region\" aria-labelledby=\"talks\"><table>\n\
         <thead><tr><th class=\"num\">no.</th><th>client</th><th>server</th><th class=\"num\">from</th>\
         <th class=\"num\">for</th><th class=\"num\">up</th><th class=\"num\">down</th><th>end</th></tr>\
         </thead>\n<tbody>\n",
    );
    for talk in story.talks.iter().take(options.list_max) {
        let is_drawn = drawn.iter().any(|one| one.number == talk.number);
        html.push_str(&line(talk, is_drawn));
    }
    html.push_str("</tbody></table></div>\n");
    let listed = story.talks.len().saturating_sub(options.list_max);
    if listed > 0 {
        html.push_str(&format!(
            "<p>{} are not listed.</p>\n",
            plural(to_u64(listed), "more conversation")
        ));
    }
    if drawn.len() < story.talks.len() {
        html.push_str(&format!(
            "<p class=\"notes\">{} drawn: those in trouble first, then from the first on.</p>\n",
            plural(to_u64(drawn.len()), "conversation")
        ));
    }
    html.push_str("</section>\n");
    html
}

fn line(talk: &Talk, is_drawn: bool) -> String {
    let facts = Facts::of(talk);
    let (from, to) = span(talk);
    let number = match is_drawn {
        true => format!("<a href=\"#talk-{0}\">{0}</a>", talk.number),
        false => talk.number.to_string(),
    };
    let class = if facts.is_clean() { "" } else { " class=\"bad\"" };
    format!(
        "<tr data-conv=\"{}\"{class}><td class=\"num\">{number}</td><td><code>{}</code></td>\
         <td><code>{}</code></td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
         <td class=\"num\">{}</td><td class=\"num\">{}</td><td>{}</td></tr>\n",
        talk.number,
        markup(&talk.client),
        markup(&talk.server),
        moment(from),
        duration(to - from),
        size(facts.up.most().bytes),
        size(facts.down.most().bytes),
        markup(&facts.state()),
    )
}

/// One line of sums below the name of a conversation.
pub(super) fn sums(talk: &Talk) -> String {
    let facts = Facts::of(talk);
    let (from, to) = span(talk);
    markup(&format!(
        "{} up, {} down, {}, {}",
        size(facts.up.most().bytes),
        size(facts.down.most().bytes),
        duration(to - from),
        facts.state()
    ))
}

/// What belongs to no conversation.
pub(super) fn outside(story: &Story) -> String {
    if story.general.is_empty() {
        return String::new();
    }
    let lines = general(story, NOTES_MAX);
    let lines: String = lines.iter().map(|line| format!("<li>{}</li>\n", markup(line))).collect();
    format!(
        "<section class=\"panel\" aria-labelledby=\"outside\">\n\
         <h2 id=\"outside\">Outside of every conversation</h2>\n<ul>\n{lines}</ul>\n</section>\n"
    )
}

/// What is missing in the trace.
pub(super) fn notes(story: &Story) -> String {
    if story.notes.is_empty() {
        return String::new();
    }
    let mut html = "<section class=\"panel notes\" aria-labelledby=\"notes\">\n\
         <h2 id=\"notes\">Notes</h2>\n<ul>\n"
        .to_owned();
    for note in story.notes.iter().take(NOTES_MAX) {
        html.push_str(&format!("<li>{}</li>\n", markup(note)));
    }
    let more = story.notes.len().saturating_sub(NOTES_MAX);
    if more > 0 {
        html.push_str(&format!("<li>{}</li>\n", plural(to_u64(more), "more note")));
    }
    html.push_str("</ul>\n</section>\n");
    html
}

const FINDINGS_MAX: usize = 200;
/// Conversations named beside one finding.
const PLACES_MAX: usize = 30;
const NOTES_MAX: usize = 100;
/// A list of more conversations can be searched.
const SEARCH_MIN: usize = 8;
