//! adit without sockets: bytes to bytes and state to state, no clock, no task, no randomness.
//!
//! Everything here is a pure function of its arguments, so that every split point of a stream, every
//! hostile byte and every order of events can be tested without a network. The crate `adit` awaits
//! and spawns on top of it; `adit-net` names the operating system.
#![forbid(unsafe_code)]
// What decodes foreign bytes must have no operation that can panic, and no number that is another one
// behind a cast. Nearly every module here decodes, so the rule is the crate's. Tests may panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod access;
pub mod address;
pub mod amplification;
pub mod backoff;
pub mod code;
pub mod codec;
pub mod endpoint;
pub mod error;
pub mod escape;
pub mod event;
pub mod json;
pub mod limits;
pub mod proxy;
pub mod race;
pub mod rate;
pub mod sources;
pub mod worker;
