//! One process for all peers: answers find their peers, queues are bounded, a death ends what it ends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;

use common::{
    DEADLINE, Scratch, Server, adit, ask, client, descendants, find, finish, guard_of, is_alive,
    read_line, read_to_end, reset, run, serve, signal, skipped, udp_socket, wait_until,
};

/// What a worker in python begins with: frames in and out.
const FRAMES: &str = r#"
import os, struct, sys, time
def read(count):
    got = sys.stdin.buffer.read(count)
    if len(got) < count: sys.exit(0)
    return got
def say(number, kind, text=b""):
    sys.stdout.buffer.write(struct.pack(">IQc", 9 + len(text), number, kind) + text)
    sys.stdout.buffer.flush()
def frames():
    while True:
        length, number, kind = struct.unpack(">IQc", read(13))
        yield number, kind, read(length - 9)
def note(*words):
    print(*words, file=sys.stderr, flush=True)
"#;

/// Capitals for everybody; some words are orders.
const UPPER: &str = r#"
for number, kind, text in frames():
    if kind == b"O":
        told = dict(pair.split(b"=", 1) for pair in text.split(b"\0") if pair)
        port = told.get(b"TCPREMOTEPORT", told.get(b"UDPREMOTEPORT", b"")).decode()
        note("open", number, told[b"PROTO"].decode(), port)
    elif kind == b"C": note("close", number)
    elif kind == b"E": say(number, b"E")
    elif kind == b"D" and text == b"die\n": os._exit(7)
    elif kind == b"D" and text == b"fail\n": say(number, b"C")
    elif kind == b"D" and text == b"nonsense\n": sys.stdout.buffer.write(b"\0\0\0\1x"); sys.stdout.flush()
    elif kind == b"D" and text == b"hold\n": note("holding")
    elif kind == b"D": say(number, b"D", text.upper())
"#;

/// A worker with a script, if there is a python to run it.
fn worker(script: &str) -> Option<(Scratch, String)> {
    if find("python3").is_none() {
        skipped("the workers of these tests are in python3");
        return None;
    }
    let scratch = Scratch::new();
    let path = scratch.join("worker.py");
    fs::write(&path, [FRAMES, script].concat()).unwrap();
    Some((scratch, path))
}

fn serve_worker(words: &[&str], path: &str) -> Server {
    serve(&[words, &["--worker", "--", "python3", path]].concat())
}

/// The one process of a worker.
fn process_of(server: &Server) -> u32 {
    let guard = guard_of(server);
    wait_until("the worker runs", || descendants(guard).len() == 1);
    descendants(guard)[0].0
}

#[test]
fn every_answer_finds_its_own_peer_among_many() {
    let Some((_scratch, path)) = worker(UPPER) else { return };
    let words = ["127.0.0.1:0", "udp://127.0.0.1:0", "--frame", "len32"];
    let server = serve_worker(&words, &path);
    let process = process_of(&server);
    let talk = |name: usize| {
        let mut stream = client(server.tcp());
        for round in 0..50 {
            stream.write_all(format!("peer {name} round {round}\n").as_bytes()).unwrap();
            assert_eq!(read_line(&mut stream), format!("PEER {name} ROUND {round}\n"));
        }
        finish(&stream);
        assert_eq!(read_to_end(&mut stream), b"");
    };
    let send = |name: usize| {
        let (socket, mut answer) = (udp_socket(), [0; 100]);
        for round in 0..50 {
            socket.send_to(format!("peer {name} round {round}").as_bytes(), server.udp()).unwrap();
            let bytes = socket.recv(&mut answer).unwrap();
            let expected = format!("PEER {name} ROUND {round}");
            assert_eq!(String::from_utf8_lossy(&answer[..bytes]), expected);
        }
    };
    std::thread::scope(|scope| {
        for name in 0..10 {
            scope.spawn(move || talk(name));
            scope.spawn(move || send(name + 100));
        }
    });
    assert_eq!(process_of(&server), process, "one process has served all");
    assert_eq!(server.stop().status, 0);
    assert!(!is_alive(process));
}

#[test]
fn a_worker_is_told_who_comes_and_who_is_gone() {
    let Some((_scratch, path)) = worker(UPPER) else { return };
    let server = serve_worker(&["127.0.0.1:0", "udp://127.0.0.1:0"], &path);
    let mut stream = client(server.tcp());
    let port = stream.local_addr().unwrap().port();
    stream.write_all(b"hello\n").unwrap();
    assert_eq!(read_line(&mut stream), "HELLO\n");
    server.program.err.wait_for(&format!("open 1 TCP {port}\n"));
    finish(&stream);
    assert_eq!(read_to_end(&mut stream), b"");
    server.program.err.wait_for("close 1\n");
    // Also of one that breaks off, and of datagrams.
    let mut stream = client(server.tcp());
    stream.write_all(b"hello\n").unwrap();
    assert_eq!(read_line(&mut stream), "HELLO\n");
    reset(stream);
    server.program.err.wait_for("close 2\n");
    let socket = udp_socket();
    socket.send_to(b"", server.udp()).unwrap();
    assert_eq!(socket.recv(&mut [0; 10]).unwrap(), 0, "an empty datagram is answered by one");
    let port = socket.local_addr().unwrap().port();
    server.program.err.wait_for(&format!("open 3 UDP {port}\n"));
}

#[test]
fn a_worker_that_dies_ends_who_waits_and_the_next_one_serves() {
    let Some((_scratch, path)) = worker(UPPER) else { return };
    let server = serve_worker(&["127.0.0.1:0", "udp://127.0.0.1:0", "-v"], &path);
    let mut waiting = client(server.tcp());
    let place = waiting.local_addr().unwrap();
    waiting.write_all(b"hold\n").unwrap();
    server.program.err.wait_for("holding\n");
    let mut stream = client(server.tcp());
    stream.write_all(b"die\n").unwrap();
    assert_eq!(read_to_end(&mut stream), b"");
    assert_eq!(read_to_end(&mut waiting), b"");
    let said =
        format!("python3 failed for peer {place}: exit 7 (code=handler); the peer got a closed");
    server.program.err.wait_for(&said);
    server.program.err.wait_for("adit: python3 ended: exit 7 (code=handler); starting it again\n");
    // Who comes meanwhile waits for the next one.
    assert_eq!(ask(&server, b"hello"), b"HELLO");
    signal(process_of(&server), Signal::KILL);
    server.program.err.wait_for("adit: python3 ended: signal 9 (code=handler)");
    assert_eq!(ask(&server, b"hello"), b"HELLO");
    // Datagrams as well: the one it died of is not answered, the next one is.
    let (socket, mut answer) = (udp_socket(), [0; 100]);
    socket.send_to(b"die\n", server.udp()).unwrap();
    wait_until("it is dead", || {
        server.program.err.text().matches("exit 7 (code=handler); starting").count() == 2
    });
    socket.send_to(b"hello", server.udp()).unwrap();
    let bytes = socket.recv(&mut answer).unwrap();
    assert_eq!(&answer[..bytes], b"HELLO");
    assert_eq!(server.stop().status, 0);
}

#[test]
fn a_worker_that_speaks_nonsense_is_killed_and_one_conversation_can_fail_alone() {
    let Some((_scratch, path)) = worker(UPPER) else { return };
    let server = serve_worker(&["127.0.0.1:0"], &path);
    let before = process_of(&server);
    let mut stream = client(server.tcp());
    let place = stream.local_addr().unwrap();
    stream.write_all(b"fail\n").unwrap();
    assert_eq!(read_to_end(&mut stream), b"");
    server.program.err.wait_for(&format!("failed for peer {place}: it said so (code=handler)"));
    assert_eq!((ask(&server, b"hello"), process_of(&server)), (b"HELLO".to_vec(), before));
    assert_eq!(ask(&server, b"nonsense\n"), b"");
    let why = "ended: it sent a length of 1, which is not from 9 to 1048585 (code=handler)";
    server.program.err.wait_for(why);
    wait_until("it is gone", || !is_alive(before));
    assert_eq!(ask(&server, b"hello"), b"HELLO");
}

/// The `D` frames of a peer that asks for a flood come without pause, or as fast as it takes them.
const FLOOD: &str = r#"
WHOLE, PIECE = 6_000_000, 50_000
left, ahead = {}, {}
def go_on(number):
    while left.get(number, 0) > 0 and ahead[number] + PIECE <= 1 << 20:
        say(number, b"D", b"x" * PIECE)
        left[number] -= PIECE
        ahead[number] += PIECE
    if left.get(number) == 0: say(number, b"E")
for number, kind, text in frames():
    if kind == b"D" and text == b"flood\n":
        for _ in range(WHOLE // PIECE): say(number, b"D", b"x" * PIECE)
        say(number, b"E")
    elif kind == b"D" and text == b"paced\n":
        left[number], ahead[number] = WHOLE, 0
        go_on(number)
    elif kind == b"D": say(number, b"D", text)
    elif kind == b"E" and number not in left: say(number, b"E")
    elif kind == b"T" and number in left:
        ahead[number] -= int.from_bytes(text, "big")
        go_on(number)
"#;

#[test]
fn a_peer_that_reads_slowly_harms_nobody_and_a_worker_that_waits_for_it_loses_nothing() {
    let Some((_scratch, path)) = worker(FLOOD) else { return };
    // What the kernel holds for a peer that reads nothing is bounded: the rest would wait here.
    let server = serve_worker(&["127.0.0.1:0,sndbuf=64kB"], &path);
    let [mut flooded, mut paced] = ["flood\n", "paced\n"].map(|order| {
        let stream = slow_reader(&server);
        (&stream).write_all(order.as_bytes()).unwrap();
        stream
    });
    // Nobody reads them, and others are served.
    assert_eq!(ask(&server, b"hello"), b"hello");
    let place = flooded.local_addr().unwrap();
    let why = "it has sent 1 MiB more than the peer takes, and did not wait (code=too-big)";
    let got = read_to_end(&mut flooded).len();
    assert!(got < 6_000_000, "{got} bytes came");
    server.program.err.wait_for(&format!("failed for peer {place}: {why}"));
    assert_eq!(read_to_end(&mut paced).len(), 6_000_000);
    assert_eq!(server.stop().status, 0);
}

/// A client with little room for what comes.
fn slow_reader(server: &Server) -> TcpStream {
    let domain = socket2::Domain::IPV4;
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.connect(&server.tcp().into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

#[test]
fn a_worker_that_does_not_read_holds_its_peers_up_and_nothing_grows() {
    let script = "read(13); note('busy'); time.sleep(1000)";
    let Some((_scratch, path)) = worker(script) else { return };
    let server = serve_worker(&["127.0.0.1:0"], &path);
    let streams: Vec<TcpStream> = (0..4).map(|_| client(server.tcp())).collect();
    server.program.err.wait_for("busy\n");
    let piece = vec![b'x'; 64 << 10];
    let mut sent = 0;
    for mut stream in &streams {
        // Until nothing more is taken for a while: what was sent is somewhere on the way.
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        loop {
            match stream.write(&piece) {
                Ok(bytes) => sent += bytes,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
            assert!(sent < 200 << 20, "no end: {sent} bytes were taken");
        }
    }
    let memory_kb = memory_kb(&server);
    assert!(memory_kb < 32 << 10, "{memory_kb} kB with {sent} bytes sent");
}

#[test]
fn what_peers_of_a_worker_do_not_take_counts_against_the_memory_of_the_server() {
    let script = r#"
for number, kind, text in frames():
    if kind == b"D" and text == b"much":
        for _ in range(15): say(number, b"D", bytes(65536))
    elif kind == b"D": say(number, b"D", text)
    elif kind == b"E": say(number, b"E")
"#;
    let Some((_scratch, path)) = worker(script) else { return };
    // A budget of a quarter of this; all of them together are owed more than the whole.
    let script = "ulimit -v 400000; exec \"$@\" 3>\"$READY\"";
    let words = ["127.0.0.1:0,sndbuf=64kB", "--worker", "--", "python3", &path];
    let server = Server::start(script, &words);
    let mut peers = Vec::new();
    wait_until("memory is short", || {
        if peers.len() < 450 && !server.program.err.text().contains("newcomers wait") {
            let peer = slow_reader(&server);
            (&peer).write_all(b"much").unwrap();
            peers.push(peer);
        }
        server.program.err.text().contains("adit: memory is short")
    });
    drop(peers);
    assert_eq!(ask(&server, b"hello"), b"hello");
    assert_eq!(server.stop().status, 0);
}

fn memory_kb(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.program.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn datagrams_of_many_peers_that_wait_for_a_worker_are_bounded_together() {
    let script = "read(13); note('busy'); time.sleep(1000)";
    let Some((_scratch, path)) = worker(script) else { return };
    let server = serve_worker(&["udp://127.0.0.1:0", "--frame", "len32"], &path);
    let piece = vec![b'x'; 60_000];
    // Twice what may wait; each peer alone keeps to its share. What the kernel drops on the way is sent
    // again, until the server says that it drops some.
    let peers: Vec<_> = (0..80).map(|_| udp_socket()).collect();
    let full = "64 MiB of datagrams wait for the worker already: one is dropped (code=full)";
    wait_until("no more may wait", || {
        for peer in &peers {
            peer.send_to(&piece, server.udp()).unwrap();
        }
        server.program.err.text().contains(full)
    });
    let memory_kb = memory_kb(&server);
    assert!(memory_kb < 128 << 10, "{memory_kb} kB");
}

#[test]
fn a_worker_does_not_outlive_its_server() {
    let script = "\nif os.fork() == 0: os.setsid(); note('child'); time.sleep(1000)\n";
    let Some((_scratch, path)) = worker(&[script, UPPER].concat()) else { return };
    let server = serve_worker(&["127.0.0.1:0"], &path);
    server.program.err.wait_for("child\n");
    let guard = guard_of(&server);
    let all: Vec<u32> = descendants(guard).into_iter().map(|(pid, _)| pid).collect();
    assert_eq!(all.len(), 2);
    signal(server.program.id(), Signal::KILL);
    wait_until("all are gone", || !all.iter().chain([&guard]).any(|pid| is_alive(*pid)));
}

#[test]
fn a_worker_that_is_not_there_is_refused_and_one_that_vanishes_ends_who_waits() {
    let ran = run(&mut adit(&["serve", "--worker", "127.0.0.1:0", "--", "./no-such"]), b"");
    ran.assert_failed(127, "not-found");
    let Some((scratch, path)) = worker(UPPER) else { return };
    let program = scratch.join("worker");
    fs::write(&program, format!("#!/bin/sh\nexec python3 {path}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).unwrap();
    let server = serve(&["127.0.0.1:0", "--worker", "--", &program]);
    assert_eq!(ask(&server, b"hello"), b"HELLO");
    fs::rename(&program, scratch.join("away")).unwrap();
    assert_eq!(ask(&server, b"die\n"), b"");
    server.program.err.wait_for("no such file (code=not-found); starting it again");
    let mut stream = client(server.tcp());
    drop(stream.read(&mut [0; 10]).map(|bytes| assert_eq!(bytes, 0)));
    fs::rename(scratch.join("away"), &program).unwrap();
    // The try that was on its way may still fail.
    wait_until("it serves again", || ask(&server, b"hello") == b"HELLO");
}
