//! Lines: one message per line, `\n` or `\r\n` removed.

use super::{BoxError, Codec, Frame, Skip, Unframeable};

/// One message per line: ends with `\n` or `\r\n`, neither is part of the message; `\n` is sent.
///
/// An unterminated last line is a message, an empty line is an empty message. A message that contains
/// `\n` cannot be sent: the peer would read two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lines {
    /// Bytes of the current line already searched in vain, so that a long line costs linear time.
    searched: usize,
}

impl Lines {
    /// A codec at the start of a stream.
    pub const fn new() -> Self {
        Self { searched: 0 }
    }
}

impl Codec for Lines {
    fn decode(&mut self, buf: &[u8]) -> Result<Option<Frame>, BoxError> {
        let fresh = buf.get(self.searched..).unwrap_or_default();
        let Some(found) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.searched = buf.len();
            return Ok(None);
        };
        let newline = self.searched.saturating_add(found);
        self.searched = 0;
        let line = buf.get(..newline).unwrap_or_default();
        let end = if line.ends_with(b"\r") { newline.saturating_sub(1) } else { newline };
        Ok(Some(Frame { body: 0..end, used: newline.saturating_add(1) }))
    }

    fn decode_end(&mut self, rest: &[u8]) -> Result<Option<Frame>, BoxError> {
        self.searched = 0;
        Ok((!rest.is_empty()).then_some(Frame { body: 0..rest.len(), used: rest.len() }))
    }

    fn encode(&mut self, msg: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
        if let Some(at) = msg.iter().position(|byte| *byte == b'\n') {
            return Err(Unframeable::Delimiter { at }.into());
        }
        out.extend_from_slice(msg);
        out.push(b'\n');
        Ok(())
    }

    fn skip(&mut self, _buf: &[u8]) -> Option<Skip> {
        self.searched = 0;
        Some(Skip::ToNextFrame)
    }
}
