//! JSON strings and base64, as event lines need them.

/// Appends `text` as a JSON string with its quotes (RFC 8259, section 7). Everything that could end
/// the line or act on a terminal is escaped.
pub fn json_string(text: &str, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if crate::escape::is_unsafe(char) => {
                let mut units = [0; 2];
                for unit in char.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            char => out.push(char),
        }
    }
    out.push('"');
}

/// Appends `bytes` in base64 with padding (RFC 4648, section 4).
pub fn base64(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        for (to, from) in three.iter_mut().zip(chunk) {
            *to = *from;
        }
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = usize::try_from((bits >> shift) & 63).unwrap_or(0);
            let digit = DIGITS.get(digit).copied().unwrap_or(b'=');
            out.push(if index <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{base64, json_string};

    fn quoted(text: &str) -> String {
        let mut out = String::new();
        json_string(text, &mut out);
        out
    }

    #[test]
    fn the_examples_of_rfc_4648_come_out() {
        let examples = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in examples {
            let mut out = String::new();
            base64(plain.as_bytes(), &mut out);
            assert_eq!(out, encoded);
        }
    }

    #[test]
    fn what_could_act_on_a_line_or_terminal_is_escaped() {
        assert_eq!(quoted("a\"b\\\n\r\t"), r#""a\"b\\\n\r\t""#);
        assert_eq!(quoted("\u{1b}[2J\u{9b}\u{7f}"), r#""\u001b[2J\u009b\u007f""#);
        assert_eq!(quoted("\u{202e}é"), "\"\\u202eé\"");
    }
}
