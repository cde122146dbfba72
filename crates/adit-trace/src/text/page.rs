//! The page: lines that never get wider than a terminal, whatever is put on them.

use super::COLUMNS_MAX;
use crate::rows::{clean, cut, width};

/// Lines of text, one below the other.
#[derive(Debug, Default)]
pub(super) struct Page {
    lines: Vec<String>,
}

impl Page {
    /// A line; what is too wide is cut.
    pub(super) fn line(&mut self, text: &str) {
        self.lines.push(cut(text.trim_end(), COLUMNS_MAX));
    }

    /// An empty line, but never two, and none at the top.
    pub(super) fn blank(&mut self) {
        if self.lines.last().is_some_and(|line| !line.is_empty()) {
            self.lines.push(String::new());
        }
    }

    /// A text that goes on below itself, as far right as it began behind its lead.
    pub(super) fn hanging(&mut self, lead: &str, text: &str) {
        let lead = cut(lead, COLUMNS_MAX / 2);
        let indent = width(&lead);
        for (place, piece) in wrap(text, COLUMNS_MAX - indent).iter().enumerate() {
            let start = if place == 0 { lead.as_str() } else { "" };
            self.line(&format!("{}{piece}", pad(start, indent)));
        }
    }

    /// Takes the lines out.
    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// All of it, each line with its line feed.
    pub(super) fn finish(mut self) -> String {
        while self.lines.last().is_some_and(String::is_empty) {
            self.lines.pop();
        }
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

/// A text cut or filled with spaces to exactly this many columns.
pub(super) fn pad(text: &str, columns: usize) -> String {
    let mut text = cut(text, columns);
    text.push_str(&" ".repeat(columns.saturating_sub(width(&text))));
    text
}

/// The same with the text at the right end.
pub(super) fn pad_left(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    " ".repeat(columns.saturating_sub(width(&text))) + &text
}

/// The same with the text in the middle.
pub(super) fn centre(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let left = columns.saturating_sub(width(&text)) / 2;
    pad(&(" ".repeat(left) + &text), columns)
}

/// The words of a text; a number and the unit behind it are one.
fn glued(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let is_number = |word: &str| {
        word.contains(|char: char| char.is_ascii_digit())
            && word.chars().all(|char| char.is_ascii_digit() || ".,".contains(char))
    };
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match words.last_mut() {
            Some(last) if is_number(last) => *last = format!("{last} {word}"),
            _ => words.push(word.to_owned()),
        }
    }
    words
}

/// A text in lines of at most `columns`, broken at spaces where there are any. At least one line.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let text = clean(text);
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in glued(&text) {
        let word = cut(&word, columns);
        let wide = width(&word);
        if !line.is_empty() && used + 1 + wide > columns {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if !line.is_empty() {
            line.push(' ');
            used += 1;
        }
        line.push_str(&word);
        used += wide;
    }
    lines.push(line);
    lines
}
