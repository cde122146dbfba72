//! A full server where newcomers are let in all the same: who makes room, and what that costs whom.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adit::prelude::*;
use adit::{Endpoint, Running, WhenFull};
use common::{DEADLINE, ask, client, read_lines, read_to_end, watch};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn limits(seats: usize) -> Limits {
    Limits {
        conversations: Limit::At(seats),
        when_full: WhenFull::Shed,
        // A machine that is busy turns nobody away here.
        lag: Limit::Off,
        handshake: Limit::At(Duration::from_secs(3600)),
        ..Limits::default()
    }
}

/// Who is to say when a handler goes on that holds its thread.
struct Hold {
    begun: Receiver<()>,
    release: SyncSender<()>,
}

/// A server of two threads that answers with the name of the thread; `hold` holds it up.
fn held(seats: usize) -> (Running, Hold) {
    let (begin, begun) = sync_channel(1);
    let (release, released) = sync_channel(1);
    let released = Arc::new(Mutex::new(released));
    let thread = fast(move |msg, out| {
        if msg == b"hold" {
            begin.send(()).unwrap();
            released.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        }
        out.send(format!("{:?}", std::thread::current().id()));
    });
    let server = Server::new(thread)
        .listen("tcp://127.0.0.1:0", Lines::new())
        .limits(limits(seats))
        .threads(2)
        .start()
        .unwrap();
    (server, Hold { begun, release })
}

/// Connections and the threads they are on.
fn crowd(server: &Running, count: usize) -> Vec<(String, TcpStream)> {
    let enter = |_| {
        let mut stream = client(server.addr(0));
        (ask(&mut stream, "who\n", 1).remove(0), stream)
    };
    (0..count).map(enter).collect()
}

#[test]
fn peers_that_owe_a_proxy_header_make_room_before_any_conversation() {
    let (observer, seen) = watch();
    let server = Server::new(fast(|msg, out| out.send(msg)))
        .listen("tcp://127.0.0.1:0", Lines::new())
        .proxy_from(["127.0.0.0/8".parse().unwrap()])
        .limits(limits(4))
        .threads(2)
        .observe(observer)
        .start()
        .unwrap();
    let introduced = |text: &str| {
        let mut stream = client(server.addr(0));
        stream.write_all(b"PROXY UNKNOWN\r\n").unwrap();
        assert_eq!(ask(&mut stream, &format!("{text}\n"), 1), [text]);
        stream
    };
    let mut idle = introduced("first");
    let mut mute = Vec::new();
    // Each is there before the next one comes: their order is known.
    for count in 2..=4 {
        mute.push(client(server.addr(0)));
        mute[count - 2].write_all(b"PROXY ").unwrap();
        wait_until("a mute peer is in", || server.stats().open == count as u64);
    }
    let mut newcomers = Vec::new();
    for (round, stream) in mute.iter_mut().enumerate() {
        newcomers.push(introduced("next"));
        assert!(is_over(stream), "the one that has been mute for longest, in round {round}");
        assert_eq!(ask(&mut idle, "still here\n", 1), ["still here"]);
    }
    assert_eq!(seen.wait_for("limit conversations").1, "limit conversations refuse 1");
    assert_eq!(server.stats().refused, 3);
    // All are conversations now: the one idle for longest goes.
    newcomers.push(introduced("last"));
    assert!(is_over(&mut newcomers[0]));
    assert_eq!(ask(&mut idle, "and still\n", 1), ["and still"]);
}

/// Waits for what is so in a moment.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "not so: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Ended or reset, without another word.
fn is_over(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// Two on one thread, which is held up by the second of them; and the others, which were active later.
fn hold_up(
    server: &Running,
    seats: usize,
    hold: &Hold,
) -> (Vec<(String, TcpStream)>, Vec<TcpStream>) {
    let mut all = crowd(server, seats);
    let held = all
        .iter()
        .map(|(thread, _)| thread.clone())
        .max_by_key(|thread| all.iter().filter(|(other, _)| other == thread).count());
    let held = held.unwrap();
    let (on_it, mut elsewhere): (Vec<_>, Vec<_>) =
        all.drain(..).partition(|(thread, _)| *thread == held);
    for (_, stream) in &mut elsewhere {
        ask(stream, "who\n", 1);
    }
    let mut on_it = on_it;
    let (_, holder) = on_it.last_mut().unwrap();
    holder.write_all(b"hold\n").unwrap();
    hold.begun.recv_timeout(DEADLINE).unwrap();
    (on_it, elsewhere.into_iter().map(|(_, stream)| stream).collect())
}

/// Longest time for which a newcomer waits that somebody makes room.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs a scenario in which newcomers wait; it gives whether they were served, and the time they had. A test
/// that was held up itself for as long as they wait has seen nothing, and begins anew.
fn while_newcomers_wait(scenario: impl Fn() -> (bool, Duration)) {
    for tries_left in (0..20).rev() {
        let (is_served, time) = scenario();
        if is_served {
            return;
        }
        assert!(time >= PATIENCE, "a newcomer was not served within {time:?}");
        assert!(tries_left > 0, "held up each time, at last for {time:?}");
    }
}

/// Asks once; true if it is answered.
fn is_served(newcomer: &mut TcpStream) -> bool {
    let asked = newcomer.write_all(b"who\n").and_then(|()| newcomer.read(&mut [0; 64]));
    matches!(asked, Ok(1..))
}

#[test]
fn one_that_cannot_go_at_once_holds_up_no_other_newcomer() {
    while_newcomers_wait(newcomers_beside_a_thread_that_is_held_up);
}

fn newcomers_beside_a_thread_that_is_held_up() -> (bool, Duration) {
    let (server, hold) = held(12);
    let (mut on_it, elsewhere) = hold_up(&server, 12, &hold);
    let free = elsewhere.len();
    assert!(free >= 2, "{free} of 12 on the other thread");
    // The first of these are to have the places of those who are held up; those of the others they get.
    let began = Instant::now();
    let mut newcomers: Vec<_> = (0..12 - 1).map(|_| client(server.addr(0))).collect();
    // Nobody has let go of the thread when they are served.
    let are_served = newcomers.iter_mut().take(free).all(is_served);
    let time = began.elapsed();
    hold.release.send(()).unwrap();
    let (thread, mut holder) = on_it.pop().unwrap();
    assert_eq!(read_lines(&mut holder, 1), [thread], "who is answered is not cut");
    for (_, mut stream) in on_it {
        assert!(is_over(&mut stream), "who was chosen goes, be it later");
    }
    (are_served, time)
}

#[test]
fn what_has_come_before_somebody_makes_room_is_answered() {
    while_newcomers_wait(one_that_asks_before_it_makes_room);
}

fn one_that_asks_before_it_makes_room() -> (bool, Duration) {
    let (server, hold) = held(3);
    let (mut on_it, _elsewhere) = hold_up(&server, 3, &hold);
    assert!(on_it.len() >= 2);
    let (thread, mut longest) = on_it.remove(0);
    let began = Instant::now();
    let mut newcomer = client(server.addr(0));
    longest.write_all(b"who\n").unwrap();
    hold.release.send(()).unwrap();
    assert_eq!(read_lines(&mut longest, 1), [thread], "answered, and then it goes");
    let served = (is_served(&mut newcomer), began.elapsed());
    // If the newcomer has come late, somebody else has been idle for longer by then.
    wait_until("one has made room", || server.stats().closed == 1);
    served
}

#[test]
fn a_raw_stream_whose_peer_does_not_read_is_owed_an_answer_and_stays() {
    let (observer, seen) = watch();
    let (stall, is_stalled) = sync_channel(1);
    let flood = stream(async move |mut conn: Conn| {
        let mut word = [0; 5];
        conn.read_exact(&mut word).await?;
        if &word == b"flood" {
            loop {
                let written = conn.write_all(&[b'x'; 10_000]);
                if tokio::time::timeout(Duration::from_millis(100), written).await.is_err() {
                    // Nothing more fits: it is tried for ever.
                    let _is_first = stall.try_send(()).is_ok();
                }
            }
        }
        conn.write_all(&word).await?;
        std::future::pending().await
    });
    let server = Server::streams(flood)
        .listen("tcp://127.0.0.1:0")
        .limits(limits(2))
        .threads(1)
        .observe(observer)
        .start()
        .unwrap();
    let mut stalled = client(server.addr(0));
    stalled.write_all(b"flood").unwrap();
    is_stalled.recv_timeout(DEADLINE).unwrap();
    let mut idle = client(server.addr(0));
    assert_eq!(ask(&mut idle, "idle\n", 1), ["idle"]);
    let mut newcomer = client(server.addr(0));
    assert_eq!(ask(&mut newcomer, "next\n", 1), ["next"]);
    assert_eq!(seen.next_close(), "shed");
    assert!(is_over(&mut idle), "the one that was idle, though not for as long");
    let mut answer = vec![0; 100_000];
    stalled.read_exact(&mut answer).unwrap();
}

/// Asks once; none if it is not answered before the place is needed for somebody else.
fn comes_and_asks(server: &Endpoint) -> Option<TcpStream> {
    let mut stream = client(server);
    is_served(&mut stream).then_some(stream)
}

#[test]
fn thousands_of_newcomers_leave_as_many_places_as_there_were() {
    const SEATS: usize = 8;
    let server = Server::new(fast(|msg, out| out.send(msg)))
        .listen("tcp://127.0.0.1:0", Lines::new())
        .limits(limits(SEATS))
        .threads(2)
        .start()
        .unwrap();
    let address = server.addr(0);
    let come = || {
        let mut served = 0;
        let mut held = std::collections::VecDeque::new();
        for number in 0..750 {
            match number % 5 {
                // Some say nothing and stay for a while, so that it is full all the time.
                0 => held.push_back(client(address)),
                _ => {
                    let stream = comes_and_asks(address);
                    served += usize::from(stream.is_some());
                    held.extend(stream);
                }
            }
            if held.len() > 4 {
                drop(held.pop_front());
            }
        }
        served
    };
    let served: usize = std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..4).map(|_| scope.spawn(come)).collect();
        crowd.into_iter().map(|one| one.join().unwrap()).sum()
    });
    wait_until("all have gone", || server.stats().open == 0);
    assert!(served > 600, "only {served} of 2,400 were answered");
    // Not one place less: all have one and keep it. Not one more: the next one costs somebody his.
    let mut last: Vec<_> = (0..SEATS).map(|_| client(address)).collect();
    for round in ["first\n", "second\n"] {
        for stream in &mut last {
            assert_eq!(ask(stream, round, 1), [round.trim_end()]);
        }
    }
    let mut newcomer = client(address);
    assert_eq!(ask(&mut newcomer, "third\n", 1), ["third"]);
    assert_eq!(read_to_end(&mut last[0]), b"");
    assert!(last[1..].iter_mut().all(|stream| ask(stream, "fourth\n", 1) == ["fourth"]));
}
