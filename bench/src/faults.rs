//! The figures of docs/reliability.md that depend on the machine: what a fault costs the others.
//!
//! `cargo run --release -p adit-bench --bin faults [stalled|greedy|flood|storm|overload]...`; without a
//! word all of them. Each prints what it measured beside the figure of its row, and whether that is held. A
//! figure is that of an idle machine: on a busy one it says more about the machine. Everything happens on
//! loopback and ends by itself.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement prints, and one that cannot be made is none"
)]

mod measure;
mod storm;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use adit::prelude::*;
use adit::{Rate, Running};

use measure::{Samples, ask, connect, connect_from, narrow};

fn main() {
    let rows: [(&str, fn()); 5] = [
        ("stalled", stalled),
        ("greedy", greedy),
        ("flood", flood),
        ("storm", storm::storm),
        ("overload", overload),
    ];
    let asked: Vec<String> = std::env::args().skip(1).collect();
    for (name, measure) in rows {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            measure();
        }
    }
}

/// Says what was measured, what it may be, and whether it is.
pub(crate) fn report(row: &str, measured: &str, held: bool, figure: &str) {
    let verdict = if held { "held" } else { "NOT HELD" };
    println!("{row:<9} {measured}; pass: {figure}: {verdict}");
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

/// Row 22: one source connects as fast as it can. Loopback is not exempt here.
fn flood() {
    const SHARE_MIN: f64 = 0.9;
    let rate = Rate { per_second: 50, burst: 100 };
    let limits = Limits {
        exempt_loopback: false,
        conn_rate: Limit::At(rate),
        per_source: Limit::At(100),
        ..Limits::default()
    };
    let server = upper(limits);
    let address = address(&server);
    let count = || round_trips(address, Duration::from_secs(3)).len();
    let before = count();
    let (stop, came) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stopped, coming) = (Arc::clone(&stop), Arc::clone(&came));
    let flooding = std::thread::spawn(move || {
        let pause = Duration::from_micros(200);
        while !stopped.load(Relaxed) {
            drop(connect_from([127, 0, 0, 66].into(), address));
            coming.fetch_add(1, Relaxed);
            std::thread::sleep(pause);
        }
    });
    let during = count();
    stop.store(true, Relaxed);
    flooding.join().unwrap();
    let share = during as f64 / before as f64;
    let (came, refused) = (came.load(Relaxed), server.stats().refused);
    let text =
        format!("{:.0} % of the round trips; {refused} of {came} turned away", share * 100.0);
    report("flood", &text, share >= SHARE_MIN, "90 % at least");
}

/// Section 10: three times as many clients as saturate the server, and the rate of what is answered.
fn overload() {
    const SHARE_MIN: f64 = 0.8;
    let server = upper(Limits { conversations: Limit::At(1000), ..Limits::default() });
    let address = address(&server);
    let within = Duration::from_secs(3);
    let rate = |clients: usize| {
        let asking = || asks(address, within);
        let answered: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..clients).map(|_| scope.spawn(asking)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        answered as f64 / within.as_secs_f64()
    };
    let peak = [4, 16, 64].map(rate).into_iter().fold(0.0, f64::max);
    let at_three = rate(192);
    let share = at_three / peak;
    let text = format!("{peak:.0} answers a second at the peak, {at_three:.0} at three times it");
    report("overload", &text, share >= SHARE_MIN, "80 % of the peak at least");
}

/// How often one client is answered that asks again at once.
fn asks(address: SocketAddr, within: Duration) -> u64 {
    let (mut peer, end) = (connect(address), Instant::now() + within);
    let mut answered = 0;
    while Instant::now() < end {
        ask(&mut peer, b"small\n");
        answered += 1;
    }
    answered
}
