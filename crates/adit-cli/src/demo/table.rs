//! Printing within 80 columns, with foreign bytes made safe.

use adit::escape::escape_line;

/// A row of lines and answers.
pub(super) enum Row {
    Line(Vec<u8>, Vec<u8>),
    /// So many more, all right.
    More(usize),
}

/// Columns of a line or answer when two clients stand side by side.
const NARROW: usize = 15;
const WIDE: usize = 33;

/// Two clients that were answered the same: side by side if every line fits, else together.
pub(super) fn both(left: &str, right: &str, rows: &[Row]) -> Vec<String> {
    let fits = |row: &Row| match row {
        Row::Line(line, answer) => [line, answer].iter().all(|text| is_short(text)),
        Row::More(_) => true,
    };
    let narrow = rows.iter().all(fits);
    let print = |row: &Row| match row {
        Row::Line(line, answer) if narrow => {
            let cell = format!("{} -> {}", padded(line, NARROW), padded(answer, NARROW));
            format!("   {left}  {cell}  {right}  {cell}").trim_end().to_owned()
        }
        Row::Line(line, answer) => {
            let cell = format!("{} -> {}", padded(line, WIDE), padded(answer, WIDE));
            format!("   {left}, {right}  {cell}").trim_end().to_owned()
        }
        Row::More(count) => format!("   ... {} more, all right", thousands(*count)),
    };
    rows.iter().map(print).collect()
}

fn is_short(text: &[u8]) -> bool {
    escape_line(text, NARROW + 1).chars().count() <= NARROW
}

/// One client with its port.
pub(super) fn single(name: &str, port: Option<u16>, row: &Row) -> String {
    match row {
        Row::Line(line, answer) => {
            let port = port.unwrap_or(0);
            let cell = format!("{} -> {}", padded(line, 22), padded(answer, 22));
            format!("   {name}  from port {port:<5}  {cell}").trim_end().to_owned()
        }
        Row::More(count) => format!("   ... {} more, all right", thousands(*count)),
    }
}

fn padded(text: &[u8], width: usize) -> String {
    let mut text = escape_line(text, width);
    if text.chars().count() > width {
        // Shortened: the dots are part of the width.
        text = text.chars().take(width - 3).chain("...".chars()).collect();
    }
    format!("{text:<width$}")
}

/// `1,000,000`
pub(super) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Row, both, single, thousands};

    #[test]
    fn thousands_are_marked() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000_000), "1,000,000");
    }

    #[test]
    fn every_row_fits_80_columns_and_reaches_a_terminal_as_text() {
        for line in
            [&b"short"[..], &[b'x'; 500], b"\x1b[2J\xff\xfe", "\u{e9}".repeat(99).as_bytes()]
        {
            let row = Row::Line(line.to_vec(), line.to_ascii_uppercase());
            let single = single("D", Some(65535), &row);
            for text in both("B", "C", &[row]).into_iter().chain([single]) {
                assert!(text.chars().count() <= 80, "{text}");
                assert!(!text.contains('\x1b'));
            }
        }
    }
}
