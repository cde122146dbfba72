//! Escaper: nothing a terminal obeys comes out, and the cuts do not show.

use adit_proto::escape::{Escaper, escape as whole_text, escape_line, is_unsafe};
use adit_proto::json::json_string;

use crate::pieces::cut;

pub(crate) fn escape(data: &[u8]) {
    let (pieces, whole) = cut(data);
    let shown = whole_text(whole);
    assert!(shown.chars().all(|char| "\n\t".contains(char) || !is_unsafe(char)), "{shown:?}");
    assert_eq!(in_pieces(pieces.iter().copied()), shown);
    assert_eq!(in_pieces(whole.chunks(1)), shown);
    for chars_max in [0, 7, 80] {
        let line = escape_line(whole, chars_max);
        assert!(!line.chars().any(is_unsafe), "{line:?}");
        assert!(line.chars().count() <= chars_max + 3);
    }
    let mut json = String::new();
    json_string(&String::from_utf8_lossy(whole), &mut json);
    assert!(!json.chars().any(is_unsafe), "{json:?}");
}

fn in_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let (mut escaper, mut out) = (Escaper::new(), String::new());
    pieces.for_each(|piece| escaper.push(piece, &mut out));
    escaper.finish(&mut out);
    out
}
