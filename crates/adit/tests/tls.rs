//! TLS over real sockets: servers, clients and relays, their ends, their limits, and peers of bad will.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

#[path = "tls/conversations.rs"]
mod conversations;
#[path = "tls/handshakes.rs"]
mod handshakes;
#[path = "tls/memory.rs"]
mod memory;
#[path = "tls/relays.rs"]
mod relays;
#[path = "tls/trust.rs"]
mod trust;
