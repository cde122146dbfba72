//! What is open to a network, attacked from another host: a server of the command on one, the test on the
//! other, and a cable between them. Nothing here is on loopback, where most limits of a source are off.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says its figures to who asks"
)]

mod common;

#[path = "off_loopback/datagrams.rs"]
mod datagrams;
#[path = "off_loopback/exposure.rs"]
mod exposure;
#[path = "off_loopback/field.rs"]
mod field;
#[path = "off_loopback/handshakes.rs"]
mod handshakes;
#[path = "off_loopback/programs.rs"]
mod programs;
#[path = "off_loopback/proxies.rs"]
mod proxies;
#[path = "off_loopback/sources.rs"]
mod sources;
#[path = "off_loopback/targets.rs"]
mod targets;
