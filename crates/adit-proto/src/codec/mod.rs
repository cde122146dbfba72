//! Codecs: where a message begins and ends in a stream of bytes.
//!
//! A codec returns *ranges* of the buffer it is shown and never copies or stores payload. The engine
//! owns reading, leftovers, size limits, reply order and flushing, so a codec cannot get those wrong.

mod delimited;
mod fixed;
mod length32;
mod lines;
mod raw;
mod whole;

pub use delimited::Delimited;
pub use fixed::Fixed;
pub use length32::Length32;
pub use lines::Lines;
pub use raw::Raw;
pub use whole::Whole;

use std::ops::Range;

/// The error type of codecs and handlers: anything that can say what is wrong.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One message in front of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a codec of the user builds it")]
pub struct Frame {
    /// Where the message's own bytes are, without framing.
    pub body: Range<usize>,
    /// How many bytes of the buffer the message takes, framing included; at least `body.end`.
    pub used: usize,
}

/// How the rest of a message that is too long can be passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a length is known or it is not")]
pub enum Skip {
    /// Its length is known: drop this many bytes, counted from the start of the buffer.
    Bytes(u64),
    /// Drop the whole buffer, then drop the next frame too: it is the tail of the long message.
    ToNextFrame,
}

/// Finds messages in a stream of bytes and frames messages for a stream.
///
/// One value serves one conversation in both directions. It is object safe; `Clone` and `Send` are
/// asked for only where a server listens.
///
/// ```
/// use adit_proto::codec::{Codec, Frame, Lines};
/// let mut lines = Lines::new();
/// let frame = lines.decode(b"hello\nwor").unwrap().unwrap();
/// assert_eq!((frame.body, frame.used), (0..5, 6));
/// assert_eq!(lines.decode(b"wor").unwrap(), None); // not whole yet
/// ```
pub trait Codec: 'static {
    /// Looks for a whole message at the start of `buf`; `None` means that more bytes are needed.
    ///
    /// Called again with the same bytes and more behind them until it returns a frame, then with
    /// what follows that frame. An empty `buf` must give `None`.
    ///
    /// # Errors
    /// The bytes cannot be the start of a message. The conversation ends with `bad-frame`.
    fn decode(&mut self, buf: &[u8]) -> Result<Option<Frame>, BoxError>;

    /// The stream has ended and `rest` will not grow: is it a message all the same?
    ///
    /// Called until it returns `None`. The default takes leftover bytes for a message cut short.
    ///
    /// # Errors
    /// [`CutShort`] when `rest` is the beginning of a message. The conversation ends with
    /// `truncated`.
    fn decode_end(&mut self, rest: &[u8]) -> Result<Option<Frame>, BoxError> {
        if rest.is_empty() { Ok(None) } else { Err(CutShort { bytes: rest.len() }.into()) }
    }

    /// Appends `msg` with its framing to `out`. Nothing is appended when it fails.
    ///
    /// # Errors
    /// The message cannot be framed, so that the peer would read something else: a newline inside a
    /// line, a wrong length under [`Fixed`]. The conversation ends with `bad-frame`.
    fn encode(&mut self, msg: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError>;

    /// The length of the message at the start of `buf` if the format announces it, body only.
    ///
    /// With it the engine refuses a message that is too long before receiving it.
    fn announced(&self, _buf: &[u8]) -> Option<u64> {
        None
    }

    /// How to pass over the too long message whose beginning is `buf`; `None` if there is no way.
    fn skip(&mut self, _buf: &[u8]) -> Option<Skip> {
        None
    }
}

impl<C: Codec + ?Sized> Codec for Box<C> {
    fn decode(&mut self, buf: &[u8]) -> Result<Option<Frame>, BoxError> {
        (**self).decode(buf)
    }
    fn decode_end(&mut self, rest: &[u8]) -> Result<Option<Frame>, BoxError> {
        (**self).decode_end(rest)
    }
    fn encode(&mut self, msg: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
        (**self).encode(msg, out)
    }
    fn announced(&self, buf: &[u8]) -> Option<u64> {
        (**self).announced(buf)
    }
    fn skip(&mut self, buf: &[u8]) -> Option<Skip> {
        (**self).skip(buf)
    }
}

/// The stream ended inside a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream ended inside a message, after {bytes} B of it")]
#[non_exhaustive]
pub struct CutShort {
    /// How much of the message had come, framing included.
    pub bytes: usize,
}

/// A message that its codec cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unframeable {
    /// The message contains the byte or text that ends a message, first at this offset.
    #[error("the message contains the delimiter at byte {at}: the peer would read two messages")]
    Delimiter {
        /// Offset of the delimiter in the message.
        at: usize,
    },
    /// Every message has the same length, and this one has another.
    #[error("the message has {bytes} B where every message has {expected} B")]
    Length {
        /// Length of the message.
        bytes: usize,
        /// Length of every message.
        expected: usize,
    },
    /// The message is longer than its length field can say.
    #[error("the message has {bytes} B, more than its 32-bit length field can say")]
    TooLong {
        /// Length of the message.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests;
