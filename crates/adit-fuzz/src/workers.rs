//! Workers: the frames of a program that serves all peers are those of a plain reading, however they come.

use adit_proto::worker::{BadFrame, Frame, Kind, PAYLOAD_BYTES_MAX, decode, encode};

use crate::pieces::cut;

pub(crate) fn worker(data: &[u8]) {
    let (pieces, whole) = cut(data);
    let (expected, left) = plainly(whole);
    let each: Vec<&[u8]> = whole.chunks(1).collect();
    for cuts in [&[whole][..], &pieces, &each] {
        assert_eq!(read(cuts), (expected.clone(), left), "cut in {}", cuts.len());
    }
    let mut again = Vec::new();
    for (number, kind, payload) in &expected {
        encode(Frame { number: *number, kind: *kind, payload }, &mut again);
    }
    assert!(whole.starts_with(&again));
    match left {
        Ok(bytes) => assert_eq!(again.len() + bytes, whole.len()),
        Err(error) => assert!(error.to_string().len() < 100),
    }
}

/// The frames, and then how many bytes are left for one that is not whole, or why there is no other.
type Frames = (Vec<(u64, Kind, Vec<u8>)>, Result<usize, BadFrame>);

/// As who serves a worker reads it: what has come so far, again with each piece.
fn read(pieces: &[&[u8]]) -> Frames {
    let (mut frames, mut rest) = (Vec::new(), Vec::new());
    for piece in pieces {
        rest.extend_from_slice(piece);
        loop {
            match decode(&rest) {
                Ok(Some((frame, used))) => {
                    assert!(used > frame.payload.len() && used <= rest.len());
                    frames.push((frame.number, frame.kind, frame.payload.to_vec()));
                    rest.drain(..used);
                }
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(rest.len()))
}

/// As the table of the layout has it, byte for byte.
fn plainly(mut rest: &[u8]) -> Frames {
    let mut frames = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        let announced = u32::from_be_bytes(*head);
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        if !(9..=9 + PAYLOAD_BYTES_MAX).contains(&length) {
            return (frames, Err(BadFrame::Length(announced)));
        }
        let Some((number, after)) = after.split_first_chunk::<8>() else { break };
        let kind = match after.first() {
            None => break,
            Some(b'O') => Kind::Open,
            Some(b'D') => Kind::Data,
            Some(b'E') => Kind::End,
            Some(b'C') => Kind::Close,
            Some(b'T') => Kind::Taken,
            Some(other) => return (frames, Err(BadFrame::Kind(*other))),
        };
        let Some(payload) = after.get(1..length - 8) else { break };
        frames.push((u64::from_be_bytes(*number), kind, payload.to_vec()));
        rest = &rest[4 + length..];
    }
    (frames, Ok(rest.len()))
}
