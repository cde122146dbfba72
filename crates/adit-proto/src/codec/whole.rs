//! Whole: everything up to the end of the stream is one message.

use super::{BoxError, Codec, Frame};

/// One message per stream: all bytes until the peer's half-close, also when there are none.
///
/// Replies are written without framing, as to a peer that reads until the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Whole {
    delivered: bool,
}

impl Whole {
    /// A codec at the start of a stream.
    pub const fn new() -> Self {
        Self { delivered: false }
    }
}

impl Codec for Whole {
    fn decode(&mut self, _buf: &[u8]) -> Result<Option<Frame>, BoxError> {
        Ok(None)
    }

    fn decode_end(&mut self, rest: &[u8]) -> Result<Option<Frame>, BoxError> {
        if std::mem::replace(&mut self.delivered, true) {
            return Ok(None);
        }
        Ok(Some(Frame { body: 0..rest.len(), used: rest.len() }))
    }

    fn encode(&mut self, msg: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.extend_from_slice(msg);
        Ok(())
    }
}
