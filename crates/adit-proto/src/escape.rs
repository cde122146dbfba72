//! Escape: the one way of foreign bytes to a terminal or into a line of text.
//!
//! A terminal obeys control characters: they move the cursor, change the title, fill the clipboard,
//! and reorder text. Whatever a peer sent is therefore shown, not obeyed.

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
/// Text passes, backslashes too; tab and line feed pass. CR LF comes out as LF; any other carriage
/// return would let the peer write over a line and is shown. A control of one byte is shown as `\x1b`,
/// one of several (C1, bidirectional) as `\u{202e}`, a byte that is no UTF-8 as `\xff`. How the bytes
/// are cut into pieces does not change what comes out.
///
/// ```
/// use adit_proto::escape::Escaper;
/// let (mut escaper, mut out) = (Escaper::new(), String::new());
/// escaper.push(b"caf\xc3", &mut out);
/// escaper.push(b"\xa9 \x1b[2J\r\n", &mut out);
/// escaper.finish(&mut out);
/// assert_eq!(out, "café \\x1b[2J\n");
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
    let mut rest = text;
    while let Some(at) = rest.find(|char| !matches!(char, '\n' | '\t') && is_unsafe(char)) {
        let (safe, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(safe);
        let mut chars = tail.chars();
        match chars.next() {
            Some('\r') if chars.as_str().starts_with('\n') => {}
            Some(char) => push_char(char, out),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}

fn push_char(char: char, out: &mut String) {
    match u32::from(char) {
        code @ 0..=0x7f => out.push_str(&format!("\\x{code:02x}")),
        code => out.push_str(&format!("\\u{{{code:x}}}")),
    }
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

/// The safe form of a text within one line: line ends, tabs and quotes are escaped too, and what does
/// not fit into `chars_max` characters is replaced by `...`. Costs no more for a longer text.
///
/// ```
/// use adit_proto::escape::escape_line;
/// assert_eq!(escape_line(b"SSH-2.0-x\r\n", 80), "SSH-2.0-x\\r\\n");
/// ```
pub fn escape_line(bytes: &[u8], chars_max: usize) -> String {
    let (mut line, mut room) = (String::new(), chars_max);
    for chunk in bytes.utf8_chunks() {
        let chars = chunk.valid().chars().map(Shown::Char);
        for shown in chars.chain(chunk.invalid().iter().copied().map(Shown::Byte)) {
            let before = line.len();
            shown.push(&mut line);
            let added = line.get(before..).map_or(0, |added| added.chars().count());
            let Some(left) = room.checked_sub(added) else {
                // An escape is left out whole rather than cut.
                line.truncate(before);
                line.push_str("...");
                return line;
            };
            room = left;
        }
    }
    line
}

/// What [`escape_line`] shows at once.
enum Shown {
    Char(char),
    Byte(u8),
}

impl Shown {
    fn push(self, line: &mut String) {
        match self {
            Self::Char('\n') => line.push_str("\\n"),
            Self::Char('\r') => line.push_str("\\r"),
            Self::Char('\t') => line.push_str("\\t"),
            Self::Char('"') => line.push_str("\\\""),
            Self::Char(char) if is_unsafe(char) => push_char(char, line),
            Self::Char(char) => line.push(char),
            Self::Byte(byte) => push_bytes(&[byte], line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Escaper, escape, escape_line, is_unsafe};
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(escape(b"\x1b]52;c;aGk=\x07"), "\\x1b]52;c;aGk=\\x07");
        assert_eq!(escape(b"a\tb\nc\r\nd\re"), "a\tb\nc\nd\\x0de");
        assert_eq!(escape(b"\r\r\n\r"), "\\x0d\n\\x0d");
        assert_eq!(escape("\u{9b}2J\u{202e}evil".as_bytes()), "\\u{9b}2J\\u{202e}evil");
        assert_eq!(escape(b"\x9b2J"), "\\x9b2J");
        assert_eq!(escape(b"\xff\xfeok\xc3"), "\\xff\\xfeok\\xc3");
    }

    #[test]
    fn one_event_stays_one_line() {
        assert_eq!(escape_line(b"a\"\r\n\tb", 80), "a\\\"\\r\\n\\tb");
        assert_eq!(escape_line(b"a\rb\xff\xc3", 80), "a\\rb\\xff\\xc3");
    }

    #[test]
    fn a_long_line_ends_with_an_ellipsis_and_no_half_escape() {
        assert_eq!(escape_line(b"abc", 3), "abc");
        assert_eq!(escape_line(b"abcdef", 3), "abc...");
        assert_eq!(escape_line(b"ab\x1b\x1b", 5), "ab...");
        assert_eq!(escape_line(b"ab\x1b\x1b", 6), "ab\\x1b...");
        assert_eq!(escape_line(b"a", 0), "...");
    }

    #[test]
    fn everything_a_terminal_may_obey_is_unsafe_and_text_is_not() {
        let controls = ('\0'..'\u{20}').chain('\u{7f}'..='\u{9f}');
        let marks = "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}".chars();
        let orders = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        for char in controls.chain(marks).chain(orders) {
            assert!(is_unsafe(char), "{char:?}");
        }
        let text = "a\\ ~é日本語\u{a0}e\u{301}👩\u{200d}🚀";
        assert_eq!(escape(text.as_bytes()), text);
    }

    proptest! {
        #[test]
        fn byte_by_byte_gives_the_same_text(text in any::<String>()) {
            let (mut escaper, mut out) = (Escaper::new(), String::new());
            for byte in text.as_bytes() {
                escaper.push(&[*byte], &mut out);
                escaper.push(&[], &mut out);
            }
            escaper.finish(&mut out);
            prop_assert_eq!(out, escape(text.as_bytes()));
        }

        #[test]
        fn pieces_do_not_change_the_text(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(0xe2), Just(0x80)], 0..60),
        ) {
            let whole = escape(&bytes);
            prop_assert!(whole.chars().all(|c| "\n\t".contains(c) || !is_unsafe(c)));
            let line = escape_line(&bytes, 40);
            prop_assert!(!line.chars().any(is_unsafe));
            prop_assert!(line.chars().count() <= 43);
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
