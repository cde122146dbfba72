//! The pen of every picture: shapes and text as SVG, and the one way of foreign text into markup.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

use adit_proto::escape::is_unsafe;

use super::measure::{Face, Font, Px};
use crate::story::Way;

/// What a shape or a text says by its colour; every tone differs in grey or in shape too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Text and lines that matter.
    Ink,
    /// Times, units, what only helps to read.
    Muted,
    /// Frames and grid lines.
    Faint,
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
    /// Lost, refused, reset.
    Lost,
}

impl Tone {
    /// The letter of the tone in the names of classes.
    pub(crate) const fn letter(self) -> char {
        match self {
            Self::Ink => 'i',
            Self::Muted => 'm',
            Self::Faint => 'f',
            Self::Up => 'u',
            Self::Down => 'd',
            Self::Lost => 'x',
        }
    }

    /// The tone of a way.
    pub(crate) const fn of(way: Way) -> Self {
        match way {
            Way::Up => Self::Up,
            Way::Down => Self::Down,
        }
    }

    pub(crate) const ALL: [Self; 6] =
        [Self::Ink, Self::Muted, Self::Faint, Self::Up, Self::Down, Self::Lost];
}

/// Which part of a text stands at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) font: Font,
    pub(crate) tone: Tone,
    pub(crate) anchor: Anchor,
}

impl Look {
    pub(crate) const fn new(font: Font, tone: Tone) -> Self {
        Self { font, tone, anchor: Anchor::Start }
    }

    pub(crate) const fn middle(self) -> Self {
        Self { anchor: Anchor::Middle, ..self }
    }

    pub(crate) const fn end(self) -> Self {
        Self { anchor: Anchor::End, ..self }
    }
}

/// How a line is drawn: solid is data, dashed is waiting, dotted is not traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stroke {
    Solid,
    Thin,
    Dashed,
    Dotted,
}

/// A rectangle: left, top, width, height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area(pub(crate) Px, pub(crate) Px, pub(crate) Px, pub(crate) Px);

/// A picture that grows.
#[derive(Debug, Default)]
pub(crate) struct Canvas {
    body: String,
    /// Does a page around it want to know what a shape stands for?
    pub(crate) is_live: bool,
}

impl Canvas {
    pub(crate) fn new(is_live: bool) -> Self {
        Self { body: String::new(), is_live }
    }

    pub(crate) fn into_body(self) -> String {
        self.body
    }

    /// Appends a picture that is finished, `down` further below.
    pub(crate) fn paste(&mut self, body: &str, down: Px) {
        self.push(format_args!("<g transform=\"translate(0 {down})\">\n{body}</g>\n"));
    }

    /// Begins a group. The data of its shapes is written for a page only.
    pub(crate) fn open(&mut self, class: &str, data: &[(&str, &dyn Display)]) {
        self.push(format_args!("<g class=\"{class}\""));
        for (name, value) in data.iter().filter(|_| self.is_live) {
            let value = markup(&value.to_string());
            // Not `self.push`: the filter borrows.
            let _infallible = write!(self.body, " data-{name}=\"{value}\"");
        }
        self.body.push_str(">\n");
    }

    pub(crate) fn close(&mut self) {
        self.body.push_str("</g>\n");
    }

    /// The tooltip of the group that has just begun.
    pub(crate) fn title(&mut self, text: &str) {
        self.push(format_args!("<title>{}</title>\n", markup(text)));
    }

    pub(crate) fn text(&mut self, (x, y): (Px, Px), look: Look, text: &str) {
        let font = match (look.font.face, look.font.size) {
            (Face::Bold, 14..) => "h",
            (Face::Bold, _) => "s",
            (Face::Mono, ..=10) => "y",
            (Face::Mono, _) => "c",
            (Face::Sans, ..=11) => "n",
            (Face::Sans, _) => "b",
        };
        let anchor = match look.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (tone, text) = (look.tone.letter(), markup(text));
        self.push(format_args!(
            "<text class=\"{font} t{tone}\" x=\"{x}\" y=\"{y}\"{anchor}>{text}</text>\n"
        ));
    }

    pub(crate) fn line(&mut self, from: (Px, Px), to: (Px, Px), stroke: Stroke, tone: Tone) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let class = stroke_class(stroke, tone);
        self.push(format_args!("<path class=\"{class}\" d=\"M{x1} {y1}L{x2} {y2}\"/>\n"));
    }

    /// A line through points.
    pub(crate) fn trail(&mut self, points: &[(Px, Px)], stroke: Stroke, tone: Tone) {
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            path.push(if index == 0 { 'M' } else { 'L' });
            path.push_str(&format!("{x} {y}"));
        }
        let class = stroke_class(stroke, tone);
        self.push(format_args!("<path class=\"{class}\" d=\"{path}\"/>\n"));
    }

    /// A line with a solid head at `to`; it runs from left to right or from right to left.
    pub(crate) fn arrow(&mut self, from: (Px, Px), to: (Px, Px), stroke: Stroke, tone: Tone) {
        let (x, y) = to;
        let back = if from.0 < x { -HEAD } else { HEAD };
        self.line(from, (x + back / 2, y), stroke, tone);
        let (letter, half) = (tone.letter(), HEAD / 2);
        self.push(format_args!(
            "<path class=\"k{letter}\" d=\"M{x} {y}l{back} -{half}v{HEAD}z\"/>\n"
        ));
    }

    /// Lost: a cross, red and heavy.
    pub(crate) fn cross(&mut self, (x, y): (Px, Px)) {
        let (left, top, arm) = (x - 6, y - 6, 12);
        self.push(format_args!(
            "<path class=\"x\" d=\"M{left} {top}l{arm} {arm}m0 -{arm}l-{arm} {arm}\"/>\n"
        ));
    }

    /// A filled dot.
    pub(crate) fn dot(&mut self, (x, y): (Px, Px), tone: Tone) {
        let letter = tone.letter();
        self.push(format_args!("<circle class=\"k{letter}\" cx=\"{x}\" cy=\"{y}\" r=\"4\"/>\n"));
    }

    /// A box with rounded corners; `class` is one of `card`, `chip`, `fill`, `hatch` with a tone.
    pub(crate) fn area(&mut self, area: Area, class: &str) {
        let Area(x, y, width, height) = area;
        let radius = if class.starts_with("card") { 8 } else { 2 };
        self.push(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{radius}\"/>\n"
        ));
    }

    fn push(&mut self, piece: std::fmt::Arguments<'_>) {
        let _infallible = self.body.write_fmt(piece);
    }
}

/// Length and width of the head of an arrow.
const HEAD: Px = 10;

fn stroke_class(stroke: Stroke, tone: Tone) -> String {
    let stroke = match stroke {
        Stroke::Solid => "",
        Stroke::Thin => " thin",
        Stroke::Dashed => " dash",
        Stroke::Dotted => " dots",
    };
    format!("l{}{stroke}", tone.letter())
}

/// A text as it may stand in XML and HTML, between tags and in a quoted attribute: nothing in it is
/// markup, acts on the order of the text around it, or is no character of XML.
pub(crate) fn markup(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in visible(text).chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            char => safe.push(char),
        }
    }
    safe
}

/// A text with everything spelled out that nobody could see, or that acts on the text around it.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let is_foreign = |char| char != '\n' && (is_unsafe(char) || is_hidden(char));
    if !text.contains(is_foreign) {
        return text.into();
    }
    let spell = |char: char| match u32::from(char) {
        _ if !is_foreign(char) => char.to_string(),
        code @ 0..=0x7f => format!("\\x{code:02x}"),
        code => format!("\\u{{{code:x}}}"),
    };
    text.chars().map(spell).collect()
}

/// What XML forbids, and tags and fillers that nobody can see.
fn is_hidden(char: char) -> bool {
    matches!(char, '\u{fffe}' | '\u{ffff}' | '\u{feff}' | '\u{ad}' | '\u{200b}')
        || matches!(char, '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::markup;

    #[test]
    fn foreign_text_is_never_markup_and_never_acts() {
        assert_eq!(markup("<b a='1' c=\"2\">&"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;");
        assert_eq!(markup("a\x1b\u{202e}\u{ffff}\u{feff}"), "a\\x1b\\u{202e}\\u{ffff}\\u{feff}");
        assert_eq!(markup("café 日本"), "café 日本");
    }
}
