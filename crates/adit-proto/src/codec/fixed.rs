//! Fixed: every message has the same length.

use std::num::NonZeroUsize;

use super::{BoxError, Codec, Frame, Unframeable};

/// Records of one length without any framing; a short last one is cut short, not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    bytes: NonZeroUsize,
}

impl Fixed {
    /// Records of `bytes` bytes; `None` for 0, which would be an endless row of empty messages.
    pub fn new(bytes: usize) -> Option<Self> {
        NonZeroUsize::new(bytes).map(|bytes| Self { bytes })
    }
}

impl Codec for Fixed {
    fn decode(&mut self, buf: &[u8]) -> Result<Option<Frame>, BoxError> {
        let length = self.bytes.get();
        Ok((buf.len() >= length).then_some(Frame { body: 0..length, used: length }))
    }

    fn encode(&mut self, msg: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
        if msg.len() != self.bytes.get() {
            let expected = self.bytes.get();
            return Err(Unframeable::Length { bytes: msg.len(), expected }.into());
        }
        out.extend_from_slice(msg);
        Ok(())
    }

    fn announced(&self, _buf: &[u8]) -> Option<u64> {
        u64::try_from(self.bytes.get()).ok()
    }
}
