//! Pieces: an input that says itself how it is cut.

/// Cuts `data` into the pieces that its first bytes name, and what they are cut from.
///
/// The first byte says how many cuts, 0 to 7; each of them is a byte that says how long the next piece
/// is. What is left is the last piece.
pub(crate) fn cut(data: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (count, rest) = data.split_first().map_or((0, data), |(count, rest)| (count % 8, rest));
    let (lengths, whole) = rest.split_at_checked(count.into()).unwrap_or((&[], rest));
    let (mut pieces, mut rest) = (Vec::new(), whole);
    for length in lengths {
        let (piece, after) = rest.split_at_checked(usize::from(*length)).unwrap_or((rest, &[]));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    (pieces, whole)
}

/// Takes the next byte; 0 at the end.
pub(crate) fn byte(data: &mut &[u8]) -> u8 {
    let Some((first, rest)) = data.split_first() else { return 0 };
    *data = rest;
    *first
}

/// Takes a number that is often small, often at the edge of its range, and sometimes anything.
pub(crate) fn number(data: &mut &[u8]) -> u64 {
    match byte(data) {
        small @ 0..=0xbf => small.into(),
        0xc0..=0xcf => u64::from(byte(data)) << 8 | u64::from(byte(data)),
        edge @ 0xd0..=0xdf => u64::MAX - u64::from(edge & 0xf),
        _ => (0..8).fold(0, |number, _| number << 8 | u64::from(byte(data))),
    }
}

/// Takes up to `most` bytes, as many as the next byte says.
pub(crate) fn bytes<'a>(data: &mut &'a [u8], most: u8) -> &'a [u8] {
    let length = usize::from(byte(data).min(most)).min(data.len());
    let (taken, rest) = data.split_at(length);
    *data = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn the_pieces_are_the_whole() {
        assert_eq!(cut(&[]), (vec![&[][..]], &[][..]));
        assert_eq!(cut(b"\x00abc"), (vec![&b"abc"[..]], &b"abc"[..]));
        assert_eq!(cut(b"\x02\x01\x00abc"), (vec![&b"a"[..], b"", b"bc"], &b"abc"[..]));
        assert_eq!(cut(b"\x01\x09abc"), (vec![&b"abc"[..], b""], &b"abc"[..]));
    }
}
