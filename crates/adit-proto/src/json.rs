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
    use proptest::prelude::*;

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

    /// Reads a JSON string back, for the test below.
    fn unquoted(json: &str) -> String {
        let inside = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap();
        let (mut units, mut chars) = (Vec::new(), inside.chars());
        while let Some(char) = chars.next() {
            let code = match char {
                '"' => panic!("a quote inside"),
                '\\' => match chars.next().unwrap() {
                    'n' => 10,
                    'r' => 13,
                    't' => 9,
                    'u' => {
                        let digits: String = chars.by_ref().take(4).collect();
                        u16::from_str_radix(&digits, 16).unwrap()
                    }
                    same => u16::try_from(u32::from(same)).unwrap(),
                },
                char => {
                    units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
                    continue;
                }
            };
            units.push(code);
        }
        String::from_utf16(&units).unwrap()
    }

    proptest! {
        #[test]
        fn a_json_string_reads_back(text in any::<String>()) {
            let json = quoted(&text);
            prop_assert!(!json.chars().any(crate::escape::is_unsafe));
            prop_assert_eq!(unquoted(&json), text);
        }

        #[test]
        fn base64_holds_every_bit(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut out = String::new();
            base64(&bytes, &mut out);
            prop_assert_eq!(out.len(), bytes.chunks(3).flat_map(|_| 0..4).count());
            let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let bits: String = out
                .trim_end_matches('=')
                .chars()
                .map(|digit| format!("{:06b}", digits.find(digit).unwrap()))
                .collect();
            let expected: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
            prop_assert!(bits.starts_with(&expected));
            prop_assert!(bits[expected.len()..].chars().all(|bit| bit == '0'));
        }
    }
}
