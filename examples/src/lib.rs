//! What the example programs share, and the guide, so that the tests compile and run its Rust.
#![doc = include_str!("../../docs/guide.md")]
#![forbid(unsafe_code)]

use adit::{Event, What};

/// Prints where a server listens: with port 0 only the system knows.
pub fn announce(event: &Event<'_>) {
    if let What::Listen { addr, .. } = event.what {
        println!("listening on {addr}");
    }
}
