//! Length32: a 32-bit length in front of every message.

use super::{BoxError, Codec, Frame, Skip, Unframeable};

/// Every message is preceded by its length.
///
/// | offset | bytes | meaning |
/// |---|---|---|
/// | 0 | 4 | length of the body in bytes, unsigned, most significant byte first |
/// | 4 | length | the body, which may be empty |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it has no state and never will")]
pub struct Length32;

const HEADER_BYTES: usize = 4;

fn announced(buf: &[u8]) -> Option<usize> {
    let header = buf.first_chunk::<HEADER_BYTES>()?;
    // A length that does not fit this machine's addresses can never be whole: the largest stands in.
    Some(usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX))
}

impl Codec for Length32 {
    fn decode(&mut self, buf: &[u8]) -> Result<Option<Frame>, BoxError> {
        let Some(length) = announced(buf) else {
            return Ok(None);
        };
        let end = length.saturating_add(HEADER_BYTES);
        Ok((buf.len() >= end).then_some(Frame { body: HEADER_BYTES..end, used: end }))
    }

    fn encode(&mut self, msg: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
        let Ok(length) = u32::try_from(msg.len()) else {
            return Err(Unframeable::TooLong { bytes: msg.len() }.into());
        };
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(msg);
        Ok(())
    }

    fn announced(&self, buf: &[u8]) -> Option<u64> {
        announced(buf).and_then(|length| u64::try_from(length).ok())
    }

    fn skip(&mut self, buf: &[u8]) -> Option<Skip> {
        let body = self.announced(buf)?;
        Some(Skip::Bytes(body.saturating_add(4)))
    }
}
