//! How a server is told to stop, and how it does: nothing queued is lost, nothing stuck holds it up.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use common::{
    Program, Scratch, Server, adit, client, noise, own_ip, read_line, read_to_end, run, serve,
    terminal, timed,
};

/// A client of an echo that is owed more than it ever reads.
fn stuck(server: &Server) -> TcpStream {
    let mut peer = client(server.tcp());
    peer.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    // At last the server takes nothing any more, because nothing is taken from it.
    while peer.write_all(&[b'x'; 1 << 16]).is_ok() {}
    peer
}

#[test]
fn what_waits_in_the_queue_is_answered_before_the_end() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    // Nobody is let in any more; the kernel queues them with what they send.
    server.program.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..50).map(|_| client(server.tcp())).collect();
    for (number, peer) in clients.iter_mut().enumerate() {
        peer.write_all(format!("client {number}\n").as_bytes()).unwrap();
    }
    server.program.signal(Signal::TERM);
    server.program.signal(Signal::CONT);
    for (number, peer) in clients.iter_mut().enumerate() {
        assert_eq!(read_to_end(peer), format!("CLIENT {number}\n").as_bytes());
    }
    drop(clients);
    let mut program = server.program;
    let ran = program.wait();
    assert_eq!((ran.status, ran.signal), (0, None), "{ran:?}");
}

#[test]
fn at_its_limit_a_server_answers_the_queue_too() {
    let server = serve(&["upper", "127.0.0.1:0", "--max-conns=1"]);
    let mut first = client(server.tcp());
    first.write_all(b"first\n").unwrap();
    assert_eq!(read_line(&mut first), "FIRST\n");
    let mut second = client(server.tcp());
    second.write_all(b"second\n").unwrap();
    server.program.signal(Signal::TERM);
    assert_eq!(read_to_end(&mut first), b"");
    drop(first);
    assert_eq!(read_to_end(&mut second), b"SECOND\n");
    drop(second);
    let mut program = server.program;
    assert_eq!(program.wait().status, 0);
}

#[test]
fn an_idle_client_reads_a_clean_end() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let mut idle = client(server.tcp());
    idle.write_all(b"hello\n").unwrap();
    assert_eq!(read_line(&mut idle), "HELLO\n");
    server.program.signal(Signal::TERM);
    assert_eq!(read_to_end(&mut idle), b"");
    idle.shutdown(Shutdown::Both).unwrap();
    let mut program = server.program;
    assert_eq!(program.wait().status, 0);
}

#[test]
fn a_stuck_client_is_cut_when_the_drain_is_over_and_the_status_says_so() {
    let server = serve(&["echo", "127.0.0.1:0", "--drain=300ms"]);
    let peer = stuck(&server);
    server.program.signal(Signal::TERM);
    let mut program = server.program;
    let (ran, took) = timed(|| program.wait());
    assert_eq!((ran.status, ran.signal), (143, Some(Signal::TERM.as_raw())), "{ran:?}");
    assert!(ran.err.contains("cut 1"), "{}", ran.err);
    assert!(took >= Duration::from_millis(300), "{took:?}");
    drop(peer);
}

/// The codes of the close events of a server of these words, told to stop by these signals while a client
/// is stuck in the middle.
fn codes_of_the_cut(words: &[&str], signals: &[Signal]) -> Vec<String> {
    let scratch = Scratch::new();
    let trace = scratch.join("trace.jsonl");
    let words = [words, &["--json", "--trace", &trace, "--ready-fd=3"]].concat();
    let server = Server::start_as("exec \"$@\" 3>\"$READY\"", &words);
    let peer = stuck(&server);
    for signal in signals {
        server.program.signal(*signal);
        let said = || server.program.err.text() + &server.program.out.text();
        let end = std::time::Instant::now() + common::DEADLINE;
        while !said().contains("\"ev\":\"drain\"") {
            assert!(std::time::Instant::now() < end, "{}", said());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let mut program = server.program;
    let ran = program.wait();
    drop(peer);
    let codes = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains("\"ev\":\"close\""));
        // The call of that name has no code.
        let code = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["code"].as_str().map(str::to_owned)
        };
        lines.filter_map(code).collect()
    };
    let told = codes(&(ran.err + &String::from_utf8(ran.out).unwrap()));
    assert_eq!(told, codes(&std::fs::read_to_string(&trace).unwrap()), "{words:?}");
    told
}

#[test]
fn a_conversation_that_is_cut_has_its_close_and_its_reason() {
    let target = serve(&["echo", "127.0.0.1:0"]);
    let service = ["serve", "echo", "127.0.0.1:0"];
    let relay = ["forward", "127.0.0.1:0", target.place("tcp")];
    for words in [&service[..], &relay] {
        let words = [words, &["--drain=200ms"]].concat();
        assert_eq!(codes_of_the_cut(&words, &[Signal::TERM]), ["drain-timeout"], "{words:?}");
    }
    for words in [&service[..], &relay] {
        let words = [words, &["--drain=1h"]].concat();
        let twice = [Signal::TERM, Signal::INT];
        assert_eq!(codes_of_the_cut(&words, &twice), ["stopped"], "{words:?}");
    }
}

#[test]
fn an_interrupt_ends_a_server_as_that_signal_with_or_without_a_stuck_client() {
    for is_stuck in [false, true] {
        let server = serve(&["echo", "127.0.0.1:0"]);
        let peer = is_stuck.then(|| stuck(&server));
        server.program.signal(Signal::INT);
        let mut program = server.program;
        let ran = program.wait();
        assert_eq!((ran.status, ran.signal), (130, Some(Signal::INT.as_raw())), "{ran:?}");
        drop(peer);
    }
}

#[test]
fn a_second_signal_ends_a_draining_server_at_once() {
    for (second, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let server = serve(&["echo", "127.0.0.1:0", "--drain=1h", "--json"]);
        let peer = stuck(&server);
        server.program.signal(Signal::TERM);
        server.program.err.wait_for("\"ev\":\"drain\"");
        server.program.signal(second);
        let mut program = server.program;
        assert_eq!(program.wait().status, status);
        drop(peer);
    }
}

#[test]
fn a_signal_right_after_the_word_that_it_is_ready_finds_the_server_ready() {
    for _ in 0..20 {
        let server = serve(&["echo", "127.0.0.1:0"]);
        server.program.signal(Signal::USR1);
        let ran = server.stop();
        assert_eq!((ran.status, ran.signal), (0, None), "{ran:?}");
    }
}

#[test]
fn usr1_prints_counts_and_changes_nothing() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    run(&mut adit(&[server.place("tcp")]), b"hello\n").assert_clean("HELLO\n");
    let mut open = client(server.tcp());
    open.write_all(b"hi\n").unwrap();
    assert_eq!(read_line(&mut open), "HI\n");
    server.program.signal(Signal::USR1);
    let text = server.program.err.wait_for(" open");
    assert!(text.contains("1 open, 2 in all"), "{text}");
    open.write_all(b"still there\n").unwrap();
    assert_eq!(read_line(&mut open), "STILL THERE\n");
}

#[test]
fn a_hangup_ends_a_server_unless_it_was_started_by_nohup() {
    let scratch = Scratch::new();
    let (_ours, theirs) = terminal();
    let name = std::fs::read_link(format!("/proc/self/fd/{}", theirs.as_raw_fd())).unwrap();
    // In a session of its own, whose terminal this is.
    let script = format!("exec setsid -c \"$@\" 3>\"$READY\" <{}", name.display());
    let server = Server::start(&script, &["echo", &scratch.join("socket")]);
    server.program.signal(Signal::HUP);
    let mut program = server.program;
    assert_eq!(program.wait().status, 129);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);

    let script = "trap '' HUP; exec \"$@\" 3>\"$READY\"";
    let server = Server::start(script, &["upper", "127.0.0.1:0"]);
    server.program.signal(Signal::HUP);
    run(&mut adit(&[server.place("tcp")]), b"hello\n").assert_clean("HELLO\n");
    assert_eq!(server.stop().status, 0);
}

#[test]
fn the_socket_of_a_server_that_was_told_to_stop_is_gone() {
    for (signal, status) in [(Signal::TERM, 0), (Signal::INT, 130)] {
        let scratch = Scratch::new();
        let server = serve(&["echo", &scratch.join("socket")]);
        server.program.signal(signal);
        let mut program = server.program;
        assert_eq!(program.wait().status, status);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}

#[test]
fn what_clients_said_to_a_server_by_hand_is_printed_before_it_ends() {
    let address = format!("{}:7000", own_ip());
    let mut command = adit(&["serve", &address]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut printed = child.stdout.take().unwrap();
    let mut program = Program::of(child);
    run(&mut adit(&["wait", &address]), b"").assert_clean("");
    // As much as the system keeps, while nobody reads what is printed.
    let text = noise(1, 3 << 20);
    let mut peer = client(&address);
    peer.write_all(&text).unwrap();
    drop(peer);
    program.signal(Signal::TERM);
    let seen = read_to_end(&mut printed);
    let ran = program.wait();
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(seen == text, "{} of {} bytes", seen.len(), text.len());
}

#[test]
fn a_server_by_hand_ends_quietly_when_nobody_reads_what_it_prints() {
    let scratch = Scratch::new();
    let path = scratch.join("socket");
    let mut command = adit(&["serve", &path, "--quiet"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut program = Program::of(child);
    run(&mut adit(&["wait", &path]), b"").assert_clean("");
    run(&mut adit(&[&path, "--send-only"]), b"hello\n");
    let ran = program.wait();
    assert_eq!((ran.status, ran.err.as_str()), (141, ""));
}
