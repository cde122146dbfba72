//! The fault catalogue of docs/reliability.md, on real sockets and the real command.
//!
//! `row_NN_...` provokes row NN and holds its pass figure, which stands above it as a constant. Times are
//! those of an idle machine and are multiplied by [`SLACK`]: a test that fails because others build beside
//! it proves nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

#[path = "faults_tcp/accept.rs"]
mod accept;
#[path = "faults_tcp/clients.rs"]
mod clients;
#[path = "faults_tcp/clocks.rs"]
mod clocks;
#[path = "faults_tcp/ends.rs"]
mod ends;
#[path = "faults_tcp/memory.rs"]
mod memory;
#[path = "faults_tcp/slow.rs"]
mod slow;

/// How much longer everything may take on a machine that is busy with something else.
const SLACK: u32 = 10;

/// Memory of a process that is not shared with files, in bytes.
fn anonymous_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Descriptors that a process has open.
fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Raises the limit on descriptors of this process and its children; gives what it is then.
fn raise_descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
    hard.map_or(usize::MAX, |hard| usize::try_from(hard).unwrap_or(usize::MAX))
}

/// Waits until something holds; the test's deadline is a bound on it.
#[track_caller]
fn wait_until(what: &str, holds: impl Fn() -> bool) -> std::time::Duration {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < common::DEADLINE, "{what} did not happen in time");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    start.elapsed()
}

/// Sends on all of them until nothing more is taken anywhere, for a few seconds at most: who is cut makes
/// room for others. Calls `look` in between.
fn press(peers: &mut [std::net::TcpStream], piece: &[u8], mut look: impl FnMut()) {
    use std::io::Write as _;
    for peer in peers.iter() {
        peer.set_nonblocking(true).unwrap();
    }
    let (mut quiet, start) = (0, std::time::Instant::now());
    while quiet < 20 && start.elapsed() < std::time::Duration::from_secs(3) {
        let taken: usize = peers.iter_mut().filter_map(|peer| peer.write(piece).ok()).sum();
        quiet = if taken == 0 { quiet + 1 } else { 0 };
        look();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
