//! Overload: what a server does when those it serves hold more memory than it may spend.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use adit::prelude::*;
use adit::{Endpoint, Running};
use common::{DEADLINE, ask, client, watch};

/// What the server may spend; 64 conversations take 256 KiB of it.
const MEMORY: usize = 8 << 20;
/// The pass figure of section 10 of the design: budget + 10 %.
const HELD_MAX: u64 = (MEMORY + MEMORY / 10) as u64;

fn limits() -> Limits {
    Limits {
        memory: Limit::At(MEMORY),
        conversations: Limit::At(64),
        message: Limit::Off,
        ..Limits::default()
    }
}

/// Sends until nothing more is taken, or the connection is cut; true if it was cut.
fn press(peer: &mut TcpStream, piece: &[u8]) -> bool {
    peer.set_write_timeout(Some(Duration::from_millis(5))).unwrap();
    loop {
        match peer.write_all(piece) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

/// Waits until the condition holds of what the server holds.
fn wait_until(server: &Running, what: &str, holds: impl Fn(u64) -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds(server.stats().held) {
        assert!(Instant::now() < end, "{what}: {} B held", server.stats().held);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn crowd(address: &Endpoint, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| client(address)).collect()
}

#[test]
fn messages_that_never_end_stay_within_the_budget_and_those_who_send_little_are_served() {
    let (observer, seen) = watch();
    let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
    let server = Server::new(upper)
        .limits(limits())
        .observe(observer)
        .listen("tcp://127.0.0.1:0", Lines::new())
        .start()
        .unwrap();
    let mut good = client(server.addr(0));
    assert_eq!(ask(&mut good, "before\n", 1), ["BEFORE"]);
    // 40 messages of up to 1 MiB, none of which ends.
    let mut crowd = crowd(server.addr(0), 40);
    let piece = vec![b'x'; 64 << 10];
    for round in 0..12 {
        for peer in &mut crowd {
            peer.set_write_timeout(Some(Duration::from_millis(2))).unwrap();
            // Who is not read any more takes nothing; who is cut is gone.
            drop(peer.write_all(&piece));
        }
        let held = server.stats().held;
        assert!(held <= HELD_MAX, "{held} B held in round {round}");
        assert_eq!(ask(&mut good, "still here\n", 1), ["STILL HERE"]);
    }
    wait_until(&server, "it never came near its budget", |held| held > (MEMORY as u64) / 10 * 7);
    seen.wait_for("limit memory report");
    drop(crowd);
    wait_until(&server, "not given back", |held| held == 0);
    let mut late = client(server.addr(0));
    assert_eq!(ask(&mut late, "late\n", 1), ["LATE"]);
}

#[test]
fn newcomers_wait_while_memory_is_short_and_whoever_holds_most_is_cut() {
    let (observer, seen) = watch();
    // A word of one byte is answered by 128 KiB, which nobody reads.
    let large = fast(|_, out| out.send(vec![b'x'; 128 << 10]));
    let limits = Limits { unsent_bytes: 1 << 20, ..limits() };
    let server = Server::new(large)
        .limits(limits)
        .observe(observer)
        .threads(2)
        .listen("tcp://127.0.0.1:0", Lines::new())
        .start()
        .unwrap();
    let mut crowd = crowd(server.addr(0), 60);
    let piece = b"x\n".repeat(4096);
    for peer in &mut crowd {
        press(peer, &piece);
        assert!(server.stats().held <= HELD_MAX, "{} B held", server.stats().held);
    }
    seen.wait_for("limit memory close");
    assert_eq!(seen.next_close(), "shed");
    // All go, and it is as before.
    for peer in &crowd {
        // Who was cut has been reset.
        drop(peer.shutdown(Shutdown::Both));
    }
    drop(crowd);
    wait_until(&server, "not given back", |held| held == 0);
    let mut late = client(server.addr(0));
    late.write_all(b"y\n").unwrap();
    let mut answer = vec![0; (128 << 10) + 1];
    std::io::Read::read_exact(&mut late, &mut answer).unwrap();
}
