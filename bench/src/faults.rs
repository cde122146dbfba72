//! The figures of docs/reliability.md that depend on the machine: what a fault costs the others.
//!
//! `cargo run --release -p adit-bench --bin faults [stalled|greedy|flood|handshakes|storm|overload]...`; without a
//! word all of them. Each prints what it measured beside the figure of its row, and whether that is held. A
//! figure is that of an idle machine: on a busy one it says more about the machine. Everything happens on
//! loopback and ends by itself.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement prints, and one that cannot be made is none"
)]

mod flood;
mod handshakes;
mod load;
mod measure;
mod overload;
mod served;
mod storm;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use adit::Running;
use adit::prelude::*;

use measure::{Samples, ask, connect, narrow};

fn main() {
    let rows: [(&str, fn()); 6] = [
        ("stalled", stalled),
        ("greedy", greedy),
        ("flood", flood::flood),
        ("handshakes", handshakes::handshakes),
        ("storm", storm::storm),
        ("overload", overload::overload),
    ];
    let asked: Vec<String> = std::env::args().skip(1).collect();
    if served::serve(&asked) || flood::take_part(&asked) {
        return;
    }
    drop(adit::system::descriptors::raise_limit());
    for (name, measure) in rows {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            measure();
        }
    }
}

/// Says what was measured, what it may be, and whether it is.
pub(crate) fn report(row: &str, measured: &str, held: bool, figure: &str) {
    let verdict = if held { "held" } else { "NOT HELD" };
    println!("{row:<10} {measured}; pass: {figure}: {verdict}");
}

/// A server of capitals with these limits.
fn upper(limits: Limits) -> Running {
    let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
    let server = Server::new(upper).limits(limits).listen("tcp://127.0.0.1:0", Lines::new());
    server.start().unwrap()
}

fn address(server: &Running) -> SocketAddr {
    server.addr(0).socket_addr().unwrap()
}

/// Round trips of one client, for so long.
fn round_trips(address: SocketAddr, within: Duration) -> Samples {
    let mut peer = connect(address);
    let end = Instant::now() + within;
    let mut samples = Samples::default();
    while Instant::now() < end {
        let start = Instant::now();
        ask(&mut peer, b"small\n");
        samples.push(start.elapsed());
        std::thread::sleep(Duration::from_micros(500));
    }
    samples
}

/// Row 1: 200 clients send and never read.
fn stalled() {
    const P99_MAX: Duration = Duration::from_millis(50);
    let server = upper(Limits::default());
    let address = address(&server);
    let line = [vec![b'x'; 1 << 10], vec![b'\n']].concat();
    let mut peers: Vec<_> = (0..200).map(|_| narrow(address)).collect();
    let stop = AtomicBool::new(false);
    let p99 = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                for peer in &mut peers {
                    // Who is full takes nothing.
                    drop(peer.write(&line));
                }
            }
        });
        let mut samples = round_trips(address, Duration::from_secs(5));
        stop.store(true, Relaxed);
        samples.percentile(99)
    });
    let text = format!("p99 of another client {p99:.1?}, {} B held", server.stats().held);
    report("stalled", &text, p99 < P99_MAX, "p99 < 50 ms");
}

/// Row 32: one client without end beside 99 that ask now and then.
fn greedy() {
    const TIMES_MAX: u32 = 3;
    let server = upper(Limits::default());
    let address = address(&server);
    let crowd = || {
        let mut all = Samples::default();
        std::thread::scope(|scope| {
            let each = || round_trips(address, Duration::from_secs(3));
            let asking: Vec<_> = (0..99).map(|_| scope.spawn(each)).collect();
            asking.into_iter().for_each(|samples| all.join(samples.join().unwrap()));
        });
        all.percentile(99)
    };
    let alone = crowd();
    let stop = Arc::new(AtomicBool::new(false));
    let (mut writer, stopped) = (connect(address), Arc::clone(&stop));
    let mut reader = writer.try_clone().unwrap();
    let greed = std::thread::spawn(move || {
        let many = b"greedy\n".repeat(4096);
        while !stopped.load(Relaxed) && writer.write_all(&many).is_ok() {}
        drop(writer.shutdown(std::net::Shutdown::Write));
    });
    let taking = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    let beside = crowd();
    stop.store(true, Relaxed);
    greed.join().unwrap();
    taking.join().unwrap().unwrap();
    let text = format!("p99 of 99 clients {alone:.1?} alone, {beside:.1?} beside a greedy one");
    report("greedy", &text, beside <= alone * TIMES_MAX, "3 times alone at most");
}
