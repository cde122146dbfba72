//! Fuzzing: the decoders that have no public face of their own, for `adit-fuzz` alone.
//!
//! No promise: what is here changes without a word in the changelog.

use crate::Certificate;
use crate::der::Reader;
use crate::wire::First;

/// The values of a row of DER with their tags, one after the other until the end, or until what is no DER.
pub fn values(der: &[u8]) -> Vec<(u8, &[u8])> {
    let mut reader = Reader::new(der);
    std::iter::from_fn(|| reader.next()).collect()
}

/// The first value of a row of DER, if it has this tag, and the bytes that are left.
pub fn take(der: &[u8], tag: u8) -> (Option<&[u8]>, &[u8]) {
    let mut reader = Reader::new(der);
    (reader.take(tag), reader.rest())
}

/// What a certificate says of itself, given as DER.
pub fn certificate(der: &[u8]) -> Certificate {
    Certificate::of(der)
}

/// How a peer begins, and what is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Beginning {
    /// The bytes that are kept.
    pub bytes: Vec<u8>,
    /// It is no TLS.
    pub is_plain: bool,
    /// It is a request of HTTP.
    pub is_http: bool,
}

/// The beginning of a peer whose bytes come in these pieces.
pub fn beginning(pieces: &[&[u8]]) -> Beginning {
    let first = First::default();
    pieces.iter().for_each(|piece| first.note(piece));
    Beginning { bytes: first.bytes(), is_plain: first.is_plain(), is_http: first.is_http() }
}
