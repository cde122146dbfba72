//! A story as a Mermaid `sequenceDiagram`: text that Markdown viewers draw.

use std::collections::BTreeMap;

use adit_proto::escape::is_unsafe;

use crate::rows::{self, Kind, Observers, Row, duration};
use crate::story::{Seen, Story, Talk, Way};

/// Conversations that are drawn; a diagram with more has no room between its lines.
const TALKS_MAX: usize = 20;
/// Mermaid draws no text longer than 50 000 characters, unless told to.
const TEXT_BYTES_MAX: usize = 45_000;
const LABEL_COLUMNS: usize = 60;

/// Draws the story: one line of life for each address, arrows in order of time.
///
/// Foreign bytes are text: whatever means something to Mermaid or HTML is written as a character code.
/// Equal stories give equal text.
///
/// ```
/// let text = adit_trace::mermaid::draw(&adit_trace::Story::default());
/// assert!(text.starts_with("sequenceDiagram\n"));
/// ```
pub fn draw(story: &Story) -> String {
    let talks = story.talks.get(..TALKS_MAX).unwrap_or(&story.talks);
    let cast = Cast::of(talks);
    let mut text = "sequenceDiagram\n".to_owned();
    for (id, name) in &cast.parts {
        text.push_str(&format!("    participant {id} as {name}\n"));
    }
    if let (Some((first, _)), Some((last, _))) = (cast.parts.first(), cast.parts.last()) {
        let badge = escape(&story.badge.to_string());
        text.push_str(&format!("    Note over {first},{last}: {badge}\n"));
    }
    let mut lines: Vec<(u64, String)> = Vec::new();
    for talk in talks {
        let ends = cast.ends(talk);
        let observers = Observers::of(&talk.acts);
        for row in rows::rows(talk) {
            lines.push((row.at, arrows(&row, &ends, observers)));
        }
    }
    lines.sort_by_key(|(at, _)| *at);
    let mut left = lines.len();
    for (_, line) in &lines {
        if text.len() + line.len() > TEXT_BYTES_MAX {
            break;
        }
        text.push_str(line);
        left -= 1;
    }
    let mut comments = Vec::new();
    if left > 0 {
        comments.push(format!("{left} more rows are not drawn"));
    }
    if story.talks.len() > talks.len() {
        comments
            .push(format!("{} more conversations are not drawn", story.talks.len() - TALKS_MAX));
    }
    if cast.parts.is_empty() {
        comments.push("no conversation".to_owned());
        text.push_str("    participant nobody\n");
    }
    let notes = story.notes.iter().map(String::as_str).take(NOTES_MAX);
    let (first, last) = cast.outer();
    for comment in comments.iter().map(String::as_str).chain(notes) {
        let comment = escape(&rows::cut(&rows::clean(comment), 120));
        text.push_str(&format!("    Note over {first},{last}: {comment}\n"));
    }
    text
}

/// Notes of the story that are shown.
const NOTES_MAX: usize = 8;

/// Who takes part: an identifier, and a name that is safe to write.
struct Cast {
    parts: Vec<(String, String)>,
    ids: BTreeMap<(char, String), String>,
}

/// The identifiers of one talk, from the client to the server.
type Ends = Vec<String>;

impl Cast {
    fn of(talks: &[Talk]) -> Self {
        let mut cast = Self { parts: Vec::new(), ids: BTreeMap::new() };
        for (kind, word) in [('c', "client"), ('r', "relay"), ('s', "server")] {
            for talk in talks {
                cast.add(kind, word, addr(talk, kind));
            }
        }
        cast
    }

    fn add(&mut self, kind: char, word: &str, addr: Option<&str>) {
        let Some(addr) = addr else { return };
        let key = (kind, addr.to_owned());
        if self.ids.contains_key(&key) {
            return;
        }
        let id =
            format!("{kind}{}", self.ids.keys().filter(|(known, _)| *known == kind).count() + 1);
        let name = rows::cut(&rows::clean(addr), LABEL_COLUMNS);
        self.parts.push((id.clone(), escape(format!("{word} {name}").trim_end())));
        self.ids.insert(key, id);
    }

    fn ends(&self, talk: &Talk) -> Ends {
        let id = |kind: char| {
            let key = (kind, addr(talk, kind)?.to_owned());
            self.ids.get(&key).cloned()
        };
        ['c', 'r', 's'].into_iter().filter_map(id).collect()
    }

    fn outer(&self) -> (&str, &str) {
        match (self.parts.first(), self.parts.last()) {
            (Some((first, _)), Some((last, _))) => (first, last),
            _ => ("nobody", "nobody"),
        }
    }
}

fn addr(talk: &Talk, kind: char) -> Option<&str> {
    match kind {
        'c' => Some(&talk.client),
        's' => Some(&talk.server),
        _ => talk.relay.as_ref().map(|(near, _)| near.as_str()),
    }
}

/// The lines of a row: an arrow over each part of the way, or a note at who it is about.
fn arrows(row: &Row, ends: &Ends, observers: Observers) -> String {
    let (Some(first), Some(last)) = (ends.first(), ends.last()) else { return String::new() };
    let note = row.note();
    let mut words = row.label(LABEL_COLUMNS);
    if !note.is_empty() {
        words.push_str(&format!(" ({note})"));
    }
    let words = escape(&words);
    let arrow = match &row.kind {
        Kind::End(_) => "--)",
        _ if row.is_trouble() => "-x",
        _ => "->>",
    };
    let place = match &row.kind {
        Kind::Close(close) => one(close.seen, ends),
        Kind::Trouble(trouble) => one(trouble.seen, ends),
        _ => format!("{first},{last}"),
    };
    let Some(way) = row.way() else {
        let at = match row.kind {
            Kind::Gap => String::new(),
            _ => format!(" at {}", escape(&duration(row.at))),
        };
        return format!("    Note over {place}: {words}{at}\n");
    };
    let mut path: Vec<&String> = ends.iter().collect();
    if way == Way::Down {
        path.reverse();
    }
    // Of a relay's refused or missing part nobody knows how far it came: one arrow then.
    if row.is_trouble() && !observers.both_ends() {
        path.truncate(2);
    }
    let parts = path.iter().zip(path.iter().skip(1));
    parts.map(|(from, to)| format!("    {from}{arrow}{to}: {words}\n")).collect()
}

fn one(seen: Seen, ends: &Ends) -> String {
    let id = match seen {
        Seen::Client => ends.first(),
        Seen::RelayToClient | Seen::RelayToServer => ends.get(1),
        Seen::Server => ends.last(),
        Seen::Wire => None,
    };
    match (id, ends.first(), ends.last()) {
        (Some(id), ..) => id.clone(),
        (None, Some(first), Some(last)) => format!("{first},{last}"),
        _ => String::new(),
    }
}

/// Text as Mermaid shows it and does not obey it: letters, digits and harmless marks are themselves,
/// everything else is a code (`#59;`). A semicolon ends a statement, `#` begins a code or a comment,
/// `%%` a directive, and a viewer takes `<` for HTML.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            ' ' | '.' | ',' | '-' | '_' | '+' | '=' | '(' | ')' | '[' | ']' | '/' | '!' | '?' => {
                safe.push(char);
            }
            char if char.is_alphanumeric() => safe.push(char),
            char if is_unsafe(char) => safe.push('?'),
            char => safe.push_str(&format!("#{};", u32::from(char))),
        }
    }
    safe
}
