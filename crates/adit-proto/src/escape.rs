//! Escape: the one way of foreign bytes to a terminal or into a line of text.
//!
//! A terminal obeys control characters: they move the cursor, change the title, fill the clipboard,
//! and reorder text. Whatever a peer sent is therefore shown, not obeyed.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

/// Must this character not reach a terminal as it is?
///
/// C0 and DEL, C1 (ECMA-48), and what reorders or breaks text: bidirectional controls, line and
/// paragraph separators (Unicode, UAX 9 and chapter 23).
pub fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Makes bytes safe for a terminal, piece by piece.
///
/// Text passes; tab and line feed pass; a carriage return in front of a line feed passes. Every other
/// control is shown as `\x1b`, bidirectional controls as `\u{202e}`, bytes that are no UTF-8 as `\xff`.
/// How the bytes are cut into pieces does not change what comes out.
///
/// ```
/// use adit_proto::escape::Escaper;
/// let (mut escaper, mut out) = (Escaper::new(), String::new());
/// escaper.push(b"caf\xc3", &mut out);
/// escaper.push(b"\xa9 \x1b[2J\r\n", &mut out);
/// escaper.finish(&mut out);
/// assert_eq!(out, "café \\x1b[2J\r\n");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Escaper {
    /// The beginning of a character or of CR LF, at most 3 bytes.
    held: Vec<u8>,
}

impl Escaper {
    /// An escaper at the start of a text.
    pub const fn new() -> Self {
        Self { held: Vec::new() }
    }

    /// Appends the safe form of the next bytes to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut String) {
        let joined;
        let mut rest = if self.held.is_empty() {
            bytes
        } else {
            joined = [&std::mem::take(&mut self.held), bytes].concat();
            &joined
        };
        while !rest.is_empty() {
            rest = match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.push_text(text, out);
                    return;
                }
                Err(error) => {
                    let (valid, tail) = rest.split_at(error.valid_up_to());
                    let text = String::from_utf8_lossy(valid);
                    let Some(bad) = error.error_len() else {
                        // A character that has only begun.
                        push_text(&text, out);
                        self.held = tail.to_vec();
                        return;
                    };
                    push_text(&text, out);
                    let (bad, after) = tail.split_at(bad);
                    push_bytes(bad, out);
                    after
                }
            };
        }
    }

    /// The text is over: appends the safe form of what was held back.
    pub fn finish(&mut self, out: &mut String) {
        push_bytes(&std::mem::take(&mut self.held), out);
    }

    fn push_text(&mut self, text: &str, out: &mut String) {
        let text = match text.strip_suffix('\r') {
            Some(text) => {
                self.held.push(b'\r');
                text
            }
            None => text,
        };
        push_text(text, out);
    }
}

fn push_text(text: &str, out: &mut String) {
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let passes = match char {
            '\n' | '\t' => true,
            '\r' => chars.peek() == Some(&'\n'),
            char => !is_unsafe(char),
        };
        if passes {
            out.push(char);
        } else {
            push_char(char, out);
        }
    }
}

fn push_char(char: char, out: &mut String) {
    out.push_str(&match u32::from(char) {
        code @ 0..=0xff => format!("\\x{code:02x}"),
        code => format!("\\u{{{code:x}}}"),
    });
}

fn push_bytes(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        out.push_str(&format!("\\x{byte:02x}"));
    }
}

/// The safe form of a whole text.
pub fn escape(bytes: &[u8]) -> String {
    let (mut escaper, mut out) = (Escaper::new(), String::with_capacity(bytes.len()));
    escaper.push(bytes, &mut out);
    escaper.finish(&mut out);
    out
}

/// The safe form of a text within one line: line ends, tabs and quotes are escaped too, and after
/// `chars_max` characters it ends with `...`.
pub fn escape_line(bytes: &[u8], chars_max: usize) -> String {
    let mut line = String::new();
    for char in escape(bytes).chars() {
        match char {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '"' => line.push_str("\\\""),
            char => line.push(char),
        }
    }
    match line.char_indices().nth(chars_max) {
        Some((cut, _)) => format!("{}...", line.get(..cut).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::{Escaper, escape, escape_line, is_unsafe};
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(escape(b"\x1b]52;c;aGk=\x07"), "\\x1b]52;c;aGk=\\x07");
        assert_eq!(escape(b"a\tb\nc\r\nd\re"), "a\tb\nc\r\nd\\x0de");
        assert_eq!(escape("\u{9b}2J\u{202e}evil".as_bytes()), "\\x9b2J\\u{202e}evil");
        assert_eq!(escape(b"\xff\xfeok\xc3"), "\\xff\\xfeok\\xc3");
    }

    #[test]
    fn one_event_stays_one_line() {
        assert_eq!(escape_line(b"a\"\r\n\tb", 80), "a\\\"\\r\\n\\tb");
        assert_eq!(escape_line(b"abcdef", 3), "abc...");
    }

    proptest! {
        #[test]
        fn pieces_do_not_change_the_text(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(0xe2), Just(0x80)], 0..60),
        ) {
            let whole = escape(&bytes);
            prop_assert!(whole.chars().all(|c| "\n\t\r".contains(c) || !is_unsafe(c)));
            for cut in 0..=bytes.len() {
                let (mut escaper, mut out) = (Escaper::new(), String::new());
                escaper.push(&bytes[..cut], &mut out);
                escaper.push(&bytes[cut..], &mut out);
                escaper.finish(&mut out);
                prop_assert_eq!(&out, &whole, "cut at {}", cut);
            }
        }
    }
}
