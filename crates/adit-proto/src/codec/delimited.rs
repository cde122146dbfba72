//! Delimited: messages separated by one byte or by a short text.

use super::{BoxError, Codec, Frame, Skip, Unframeable};

/// Messages that end with a delimiter of at least one byte, which is not part of the message.
///
/// As with [`Lines`](super::Lines), an unterminated last message is a message, and a message that
/// contains the delimiter cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delimited {
    delimiter: Vec<u8>,
    searched: usize,
}

impl Delimited {
    /// A codec for messages that end with `delimiter`; `None` if the delimiter is empty.
    pub fn new(delimiter: impl Into<Vec<u8>>) -> Option<Self> {
        let delimiter = delimiter.into();
        (!delimiter.is_empty()).then_some(Self { delimiter, searched: 0 })
    }

    /// Messages that end with a NUL byte, as `find -print0` writes them.
    pub fn null() -> Self {
        Self { delimiter: vec![0], searched: 0 }
    }

    fn find(&self, hay: &[u8]) -> Option<usize> {
        match self.delimiter.as_slice() {
            [byte] => hay.iter().position(|b| b == byte),
            text => hay.windows(text.len()).position(|window| window == text),
        }
    }
}

impl Codec for Delimited {
    fn decode(&mut self, buf: &[u8]) -> Result<Option<Frame>, BoxError> {
        let Some(found) = self.find(buf.get(self.searched..).unwrap_or_default()) else {
            // A delimiter may have begun at the end of what is here.
            let kept = self.delimiter.len().saturating_sub(1);
            self.searched = buf.len().saturating_sub(kept);
            return Ok(None);
        };
        let end = self.searched.saturating_add(found);
        self.searched = 0;
        Ok(Some(Frame { body: 0..end, used: end.saturating_add(self.delimiter.len()) }))
    }

    fn decode_end(&mut self, rest: &[u8]) -> Result<Option<Frame>, BoxError> {
        self.searched = 0;
        Ok((!rest.is_empty()).then_some(Frame { body: 0..rest.len(), used: rest.len() }))
    }

    fn encode(&mut self, msg: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
        let start = out.len();
        out.extend_from_slice(msg);
        out.extend_from_slice(&self.delimiter);
        // Searched with the delimiter behind it: `a` + `aa` ends one byte early in the peer's eyes.
        match self.find(out.get(start..).unwrap_or_default()) {
            Some(at) if at < msg.len() => {
                out.truncate(start);
                Err(Unframeable::Delimiter { at }.into())
            }
            _ => Ok(()),
        }
    }

    fn skip(&mut self, _buf: &[u8]) -> Option<Skip> {
        // A delimiter cut in two by the drop would be missed if it is longer than one byte.
        self.searched = 0;
        (self.delimiter.len() == 1).then_some(Skip::ToNextFrame)
    }
}
