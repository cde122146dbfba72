//! Frames between a server and its worker: one process that serves all peers.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

/// A message between a server and its worker.
///
/// | offset | bytes | meaning |
/// |---|---|---|
/// | 0 | 4 | length of what follows, unsigned, most significant byte first: 9 and the payload |
/// | 4 | 8 | number of the conversation, unsigned, most significant byte first |
/// | 12 | 1 | kind, a letter: see [`Kind`] |
/// | 13 | length - 9 | payload, which may be empty |
///
/// ```
/// use adit_proto::worker::{Frame, Kind, decode, encode};
/// let mut bytes = Vec::new();
/// encode(Frame { number: 7, kind: Kind::Data, payload: b"hi" }, &mut bytes);
/// assert_eq!(bytes, b"\0\0\0\x0b\0\0\0\0\0\0\0\x07Dhi");
/// let (frame, used) = decode(&bytes).unwrap().unwrap();
/// assert_eq!((frame.number, frame.payload, used), (7, &b"hi"[..], bytes.len()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the layout of a frame is fixed")]
pub struct Frame<'a> {
    /// The conversation it belongs to. Numbers are not used twice in the life of a server.
    pub number: u64,
    /// What it says.
    pub kind: Kind,
    /// What it carries.
    pub payload: &'a [u8],
}

/// What a frame says.
///
/// | letter | to the worker | from the worker |
/// |---|---|---|
/// | `O` | a conversation begins; its variables, `NAME=VALUE` with a NUL behind each | never |
/// | `D` | the peer has said this: bytes of a stream, or one datagram | to be sent to the peer: bytes, or one datagram |
/// | `E` | the peer has ended its direction; it still reads | all is said: the conversation ends well once it is sent |
/// | `C` | the conversation is over, the last of its number | the conversation has failed, and ends |
/// | `T` | the peer has taken so many bytes more, 8 bytes, most significant first | never |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the kinds of a frame are fixed")]
pub enum Kind {
    /// `O`.
    Open,
    /// `D`.
    Data,
    /// `E`.
    End,
    /// `C`.
    Close,
    /// `T`.
    Taken,
}

/// Payload of one frame in bytes; no frame has more.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

const LENGTH_BYTES: usize = 4;
const HEAD_BYTES: usize = 9;

/// Why bytes are no frame; what follows them cannot be told apart any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(clippy::exhaustive_enums, reason = "a frame has a length and a letter")]
pub enum BadFrame {
    /// The length is below 9, or beyond what a frame may have.
    #[error("a length of {0}, which is not from 9 to {max}", max = PAYLOAD_BYTES_MAX.saturating_add(HEAD_BYTES))]
    Length(u32),
    /// The letter is none of the kinds.
    #[error("a kind of 0x{0:02x}, which there is not")]
    Kind(u8),
}

impl Kind {
    const fn letter(self) -> u8 {
        match self {
            Self::Open => b'O',
            Self::Data => b'D',
            Self::End => b'E',
            Self::Close => b'C',
            Self::Taken => b'T',
        }
    }

    const fn of(letter: u8) -> Option<Self> {
        Some(match letter {
            b'O' => Self::Open,
            b'D' => Self::Data,
            b'E' => Self::End,
            b'C' => Self::Close,
            b'T' => Self::Taken,
            _ => return None,
        })
    }
}

/// Appends a frame. What is beyond [`PAYLOAD_BYTES_MAX`] of its payload is left out: cut it before.
pub fn encode(frame: Frame<'_>, out: &mut Vec<u8>) {
    let payload = frame.payload.get(..PAYLOAD_BYTES_MAX).unwrap_or(frame.payload);
    // It fits: the payload has just been bounded.
    let length = u32::try_from(payload.len().saturating_add(HEAD_BYTES)).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&frame.number.to_be_bytes());
    out.push(frame.kind.letter());
    out.extend_from_slice(payload);
}

/// Reads the frame in front, and how many bytes it takes; nothing as long as it is not whole.
///
/// # Errors
/// There is no frame.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, BadFrame> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let announced = u32::from_be_bytes(*length);
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    let most = PAYLOAD_BYTES_MAX.saturating_add(HEAD_BYTES);
    if !(HEAD_BYTES..=most).contains(&length) {
        return Err(BadFrame::Length(announced));
    }
    let Some((number, after)) = rest.split_first_chunk::<8>() else { return Ok(None) };
    let Some((letter, after)) = after.split_first() else { return Ok(None) };
    let kind = Kind::of(*letter).ok_or(BadFrame::Kind(*letter))?;
    let Some(payload) = after.get(..length.saturating_sub(HEAD_BYTES)) else { return Ok(None) };
    let frame = Frame { number: u64::from_be_bytes(*number), kind, payload };
    Ok(Some((frame, length.saturating_add(LENGTH_BYTES))))
}

#[cfg(test)]
mod tests {
    use super::{BadFrame, Frame, Kind, PAYLOAD_BYTES_MAX, decode, encode};
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        let all = [Kind::Open, Kind::Data, Kind::End, Kind::Close, Kind::Taken];
        prop::sample::select(all.to_vec())
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_whole_and_not_before(
            number: u64,
            kind in kinds(),
            payload in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let frame = Frame { number, kind, payload: &payload };
            let mut bytes = Vec::new();
            encode(frame, &mut bytes);
            for end in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..end]), Ok(None));
            }
            let whole = bytes.len();
            bytes.extend_from_slice(b"more");
            prop_assert_eq!(decode(&bytes), Ok(Some((frame, whole))));
        }

        #[test]
        fn any_bytes_are_a_frame_a_beginning_or_an_error(bytes: Vec<u8>) {
            if let Ok(Some((frame, used))) = decode(&bytes) {
                let mut again = Vec::new();
                encode(frame, &mut again);
                prop_assert_eq!(&again[..], &bytes[..used]);
            }
        }
    }

    #[test]
    fn what_cannot_be_a_frame_is_known_by_its_head() {
        assert_eq!(decode(b"\0\0\0\x08"), Err(BadFrame::Length(8)));
        assert_eq!(decode(b"\xff\xff\xff\xff"), Err(BadFrame::Length(u32::MAX)));
        assert_eq!(decode(b"\0\0\0\x0912345678x"), Err(BadFrame::Kind(b'x')));
        let said = BadFrame::Length(8).to_string();
        assert_eq!(said, "a length of 8, which is not from 9 to 1048585");
        let mut longest = Vec::new();
        let payload = vec![1; PAYLOAD_BYTES_MAX + 1];
        encode(Frame { number: 1, kind: Kind::Data, payload: &payload }, &mut longest);
        let (frame, _) = decode(&longest).unwrap().unwrap();
        assert_eq!(frame.payload.len(), PAYLOAD_BYTES_MAX);
    }
}
