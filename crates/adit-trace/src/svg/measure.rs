//! How wide a text is at most: no picture asks the fonts of the machine that shows it.
//!
//! The widths are those of the widest face that is usual (`DejaVu Sans`; 0.6 em for every character
//! of a monospaced face), so that a label that fits by this measure fits everywhere.

use super::canvas::visible;

/// Length in a picture, in the units of its view box, which are pixels on screen.
pub(crate) type Px = i32;

/// The faces in a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// Prose.
    Sans,
    /// Prose that stands out.
    Bold,
    /// Calls, addresses and bytes.
    Mono,
}

/// A face in a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Font {
    pub(crate) face: Face,
    pub(crate) size: Px,
}

impl Font {
    pub(crate) const BODY: Self = Self { face: Face::Sans, size: 13 };
    pub(crate) const STRONG: Self = Self { face: Face::Bold, size: 13 };
    pub(crate) const SMALL: Self = Self { face: Face::Sans, size: 11 };
    pub(crate) const TITLE: Self = Self { face: Face::Bold, size: 16 };
    pub(crate) const CODE: Self = Self { face: Face::Mono, size: 12 };
    pub(crate) const TINY: Self = Self { face: Face::Mono, size: 10 };

    /// How wide `text` is at most.
    pub(crate) fn width(self, text: &str) -> Px {
        let thousandths: i64 = text.chars().map(|char| i64::from(self.face.advance(char))).sum();
        Px::try_from(thousandths * i64::from(self.size) / 1000 + 1).unwrap_or(Px::MAX)
    }

    /// `text` as far as it fits into `room`; a text that is cut ends with an ellipsis.
    pub(crate) fn fit(self, text: &str, room: Px) -> String {
        let text = &*visible(text);
        if self.width(text) <= room {
            return text.to_owned();
        }
        let room =
            i64::from(room) * 1000 / i64::from(self.size) - i64::from(self.face.advance('…'));
        let mut used = 0_i64;
        let is_inside = |char: &char| {
            used += i64::from(self.face.advance(*char));
            used <= room
        };
        let mut short: String = text.chars().take_while(is_inside).collect();
        short.truncate(short.trim_end().len());
        short.push('…');
        short
    }

    /// `text` as at most `most` lines that fit into `room`, broken between words.
    pub(crate) fn lines(self, text: &str, room: Px, most: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in visible(text).split_whitespace() {
            let is_last = lines.len() >= most;
            match lines.last_mut() {
                Some(line)
                    if is_last || self.width(line) + self.width(word) + self.size / 2 <= room =>
                {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        lines.iter().map(|line| self.fit(line, room)).collect()
    }
}

impl Face {
    /// Thousandths of the size of the font.
    fn advance(self, char: char) -> u16 {
        let advance = match self {
            _ if !char.is_ascii() => return foreign(char),
            Self::Mono => return 605,
            Self::Sans | Self::Bold => match char {
                'i' | 'j' | 'l' | '\'' | '|' => 340,
                ' ' | '.' | ',' | ':' | ';' | 'f' | 't' | '!' | 'I' | '-' | '/' | '\\' => 400,
                '(' | ')' | '[' | ']' | 'r' => 430,
                'm' | 'M' | 'W' | '@' | '%' => 1000,
                'w' | '+' | '<' | '>' | '=' | '~' | '#' => 840,
                'A'..='Z' | '&' => 780,
                _ => 640,
            },
        };
        if self == Self::Bold { advance + 70 } else { advance }
    }
}

/// What is no ASCII may be as wide as it is high; pictographs are wider.
fn foreign(char: char) -> u16 {
    match char {
        '\u{a0}'..='\u{24f}' | '–' | '→' | '←' => 840,
        '\u{1f000}'.. => 1400,
        _ => 1020,
    }
}

/// The place of `part` on a line of this length that stands for `whole`.
pub(crate) fn scale(part: u64, whole: u64, length: Px) -> Px {
    let length = u128::try_from(length).unwrap_or(0);
    let at = u128::from(part.min(whole)) * length / u128::from(whole.max(1));
    Px::try_from(at).unwrap_or(Px::MAX)
}

/// A count as a length.
pub(crate) fn px(count: usize) -> Px {
    Px::try_from(count).unwrap_or(Px::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Font, scale};

    #[test]
    fn what_does_not_fit_is_cut_with_an_ellipsis_and_then_fits() {
        assert_eq!(Font::BODY.fit("short", 200), "short");
        for room in [40, 77, 120] {
            let cut = Font::BODY.fit("a text that is longer than its room", room);
            assert!(cut.ends_with('…') && Font::BODY.width(&cut) <= room + 1, "{room}: {cut}");
        }
        assert_eq!(Font::CODE.fit("日本語日本語", 40), "日本…");
    }

    #[test]
    fn a_scale_ends_at_its_length_and_never_overflows() {
        assert_eq!(scale(0, 10, 500), 0);
        assert_eq!(scale(5, 10, 500), 250);
        assert_eq!(scale(u64::MAX, u64::MAX, 500), 500);
        assert_eq!(scale(3, 0, 500), 0);
    }
}
