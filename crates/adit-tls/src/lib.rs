//! adit's TLS: one more transport over any stream of bytes.
#![forbid(unsafe_code)]

mod pin;

pub use pin::Pin;
