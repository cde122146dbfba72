//! Raw: whatever one read brings is a message.

use super::{BoxError, Codec, Frame};

/// No framing at all: each read is a message, so where messages end is chance.
///
/// Right for services to which edges mean nothing, such as echo and discard. A protocol needs one of
/// the other codecs: bytes of one write may come in several reads, and of several writes in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it has no state and never will")]
pub struct Raw;

impl Codec for Raw {
    fn decode(&mut self, buf: &[u8]) -> Result<Option<Frame>, BoxError> {
        Ok((!buf.is_empty()).then_some(Frame { body: 0..buf.len(), used: buf.len() }))
    }

    fn encode(&mut self, msg: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.extend_from_slice(msg);
        Ok(())
    }
}
