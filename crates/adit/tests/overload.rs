//! Overload: what a server does when those it serves hold more memory than it may spend, or keep its
//! threads.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adit::prelude::*;
use adit::{Endpoint, Running, WhenFull};
use common::{DEADLINE, Seen, ask, client, read_lines, watch};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
    late.read_exact(&mut answer).unwrap();
}

/// Sends the beginning of a message, and no more.
fn half_a_message(server: &Running, bytes: usize) -> TcpStream {
    let before = server.stats().held;
    let mut peer = client(server.addr(0));
    peer.write_all(&vec![b'x'; bytes]).unwrap();
    wait_until(server, "half a message is held", |held| held >= before + bytes as u64);
    peer
}

#[test]
fn silent_peers_with_half_a_message_keep_newcomers_out_for_seconds_at_most() {
    let (observer, seen) = watch();
    let server = Server::new(fast(|msg, out| out.send(msg)))
        .limits(limits())
        .observe(observer)
        .threads(2)
        .listen("tcp://127.0.0.1:0", Lines::new())
        .start()
        .unwrap();
    // To where newcomers wait; with no limit of time on a message nobody but memory ends these.
    let mut silent: Vec<_> = (0..8).map(|_| half_a_message(&server, 700 << 10)).collect();
    silent.extend(crowd(server.addr(0), 46));
    for peer in &mut silent[8..] {
        peer.write_all(&[b'x'; 40 << 10]).unwrap();
    }
    let mut newcomer = client(server.addr(0));
    newcomer.write_all(b"at last\n").unwrap();
    assert_eq!(read_lines(&mut newcomer, 1), ["at last"]);
    assert_eq!(seen.next_close(), "shed");
    assert!(server.stats().held > 0, "no more go than have to");
}

#[test]
fn who_is_silent_goes_before_who_is_at_work_though_that_one_holds_more() {
    const ANSWER: usize = 2 << 20;
    let (observer, seen) = watch();
    // A second of work, which is when those that are silent have been so for that long.
    let work = task(async |_| {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        Ok(Bytes::from(vec![b'x'; ANSWER]))
    });
    let server = Server::new(work)
        .limits(Limits { unsent_bytes: ANSWER, ..limits() })
        .observe(observer)
        .threads(1)
        .listen("tcp://127.0.0.1:0", Lines::new())
        .start()
        .unwrap();
    let silent: Vec<_> = (0..6).map(|_| half_a_message(&server, 1 << 20)).collect();
    let mut at_work = client(server.addr(0));
    at_work.write_all(b"work\n").unwrap();
    let mut answer = vec![0; ANSWER + 1];
    at_work.read_exact(&mut answer).unwrap();
    assert_eq!(answer.pop(), Some(b'\n'), "who holds most has its whole answer");
    assert_eq!(seen.next_close(), "shed");
    drop(silent);
}

#[test]
fn raw_streams_whose_peer_does_not_read_are_cut_while_memory_is_tight() {
    let (observer, seen) = watch();
    // Echoes, and floods whoever asks for more.
    let flood = stream(async |mut conn: Conn| {
        let mut word = [0; 5];
        conn.read_exact(&mut word).await?;
        if &word == b"more\n" {
            loop {
                conn.write_all(&[b'x'; 10_000]).await?;
            }
        }
        let (mut source, mut target) = conn.split();
        tokio::io::copy(&mut source, &mut target).await?;
        Ok(())
    });
    let target = Server::streams(flood).listen("tcp://127.0.0.1:0").start().unwrap();
    let limits = Limits { memory: Limit::At(1 << 20), ..limits() };
    let server = Forward::to(target.addr(0))
        .unwrap()
        .limits(limits)
        .observe(observer)
        .listen("tcp://127.0.0.1:0")
        .start()
        .unwrap();
    let mut good = client(server.addr(0));
    assert_eq!(ask(&mut good, "echo\necho\n", 1), ["echo"]);
    let mut stuck = Vec::new();
    // Tight, and not so tight that somebody is cut at once.
    while server.stats().held < MEMORY_OF_STREAMS / 100 * 82 {
        assert!(stuck.len() < 60, "{} B held by all", server.stats().held);
        let (mut peer, before) = (client(server.addr(0)), server.stats().held);
        peer.write_all(b"more\n").unwrap();
        stuck.push(peer);
        // What comes may end just where a piece does: then nothing of it is held, and the next one comes.
        let end = Instant::now() + Duration::from_secs(2);
        while server.stats().held == before && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        settle(&server);
    }
    assert_eq!(ask(&mut good, "echo\n", 1), ["echo"]);
    seen.wait_for("limit memory close");
    assert_eq!(seen.next_close(), "shed");
    assert_eq!(ask(&mut good, "echo\n", 1), ["echo"]);
    assert!(stuck.len() > 10 && server.stats().held > 0, "no more go than have to");
}

/// What 64 conversations leave of 1 MiB.
const MEMORY_OF_STREAMS: u64 = (1 << 20) - 64 * (4 << 10);

/// Waits until what is held does not change any more.
fn settle(server: &Running) {
    let mut before = u64::MAX;
    while before != server.stats().held {
        before = server.stats().held;
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server whose handler keeps its thread, where it is asked to, until the test lets go of it.
fn held_up(limits: Limits, threads: usize) -> (Running, Seen, Release) {
    let (release, held) = sync_channel::<()>(1);
    let held = Arc::new(Mutex::new(held));
    let (observer, seen) = watch();
    let upper = fast(move |msg, out| {
        if msg == b"hold" {
            // Ends too when the test has.
            let _ended = held.lock().unwrap().recv_timeout(DEADLINE);
        }
        out.send(msg.to_ascii_uppercase());
    });
    let server = Server::new(upper).limits(limits).observe(observer).threads(threads);
    (server.listen("tcp://127.0.0.1:0", Lines::new()).start().unwrap(), seen, release)
}

type Release = SyncSender<()>;

/// Holds one thread up, and waits until that is seen from outside.
fn hold(server: &Running) -> TcpStream {
    let mut peer = client(server.addr(0));
    peer.write_all(b"hold\n").unwrap();
    let end = Instant::now() + DEADLINE;
    while server.stats().lag <= 2 * LAG {
        assert!(Instant::now() < end, "late by {:?}", server.stats().lag);
        std::thread::sleep(Duration::from_millis(5));
    }
    peer
}

/// The default of `Limits::lag`.
const LAG: Duration = Duration::from_millis(100);
const NEWCOMERS: usize = 40;

#[test]
fn newcomers_are_taken_by_the_threads_that_are_not_held_up() {
    let (server, _seen, release) = held_up(Limits::default(), 2);
    let mut holding = hold(&server);
    // None is given to the thread that has only one, since that one takes it whole.
    let mut newcomers: Vec<_> = (0..NEWCOMERS).map(|_| client(server.addr(0))).collect();
    for newcomer in &mut newcomers {
        assert_eq!(ask(newcomer, "hello\n", 1), ["HELLO"]);
    }
    assert!(server.loads().contains(&1) && server.stats().lag > LAG);
    release.send(()).unwrap();
    assert_eq!(read_lines(&mut holding, 1), ["HOLD"]);
}

#[test]
fn newcomers_of_a_thread_that_is_late_wait_and_are_served_in_the_end() {
    let (server, seen, release) = held_up(Limits::default(), 1);
    let mut holding = hold(&server);
    let mut newcomers: Vec<_> = (0..NEWCOMERS).map(|_| client(server.addr(0))).collect();
    release.send(()).unwrap();
    assert_eq!(read_lines(&mut holding, 1), ["HOLD"]);
    seen.wait_for("limit lag wait");
    for newcomer in &mut newcomers {
        assert_eq!(ask(newcomer, "hello\n", 1), ["HELLO"]);
    }
    assert_eq!(server.stats().refused, 0);
}

#[test]
fn newcomers_of_a_thread_that_is_late_are_turned_away_where_they_do_not_wait() {
    let limits = Limits { when_full: WhenFull::Refuse, ..Limits::default() };
    let (server, seen, release) = held_up(limits, 1);
    let mut holding = hold(&server);
    let newcomers: Vec<_> = (0..NEWCOMERS).map(|_| client(server.addr(0))).collect();
    release.send(()).unwrap();
    assert_eq!(read_lines(&mut holding, 1), ["HOLD"]);
    seen.wait_for("limit lag refuse");
    let answered = newcomers.into_iter().filter_map(|mut newcomer| {
        // Who was turned away may have been reset.
        newcomer.write_all(b"hello\n").ok()?;
        newcomer.read_exact(&mut [0; 6]).ok()
    });
    let answered = answered.count();
    assert!((1..NEWCOMERS).contains(&answered), "{answered} of {NEWCOMERS}");
    assert_eq!(server.stats().refused, (NEWCOMERS - answered) as u64);
    // Soon it is calm again, and whoever comes is served.
    let served = || {
        let mut late = client(server.addr(0));
        late.write_all(b"late\n").is_ok() && late.read_exact(&mut [0; 5]).is_ok()
    };
    let end = Instant::now() + DEADLINE;
    while !served() {
        assert!(Instant::now() < end, "nobody is let in any more");
    }
}
