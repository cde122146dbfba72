//! What the tests of the command share: starting it, talking to it, and bounds on all of it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(dead_code, unused_imports, clippy::allow_attributes, reason = "each file uses its part")]

mod certificates;
mod hosts;
mod processes;
mod programs;
mod scratch;

use std::time::{Duration, Instant};

pub(crate) use certificates::{Authority, Files};
pub(crate) use hosts::{
    Host, accept, bounded, bounded_udp, client, finish, host, no_port, own_ip, read_line,
    read_to_end, reset, tcp_host, udp_socket,
};
pub(crate) use processes::{ask, descendants, guard_of, is_alive, processes, signal, wait_until};
pub(crate) use programs::{Heard, Program, Ran, Server, adit, keyboard, run, serve, terminal};
pub(crate) use scratch::{Scratch, find, noise, skipped};

/// Longest time any single step of a test may take. Generous: it is met only when something hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How long something took.
pub(crate) fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = act();
    (result, start.elapsed())
}
