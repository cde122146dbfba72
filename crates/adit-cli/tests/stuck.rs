//! Readers that do not read: no conversation waits for them, and neither does the end of the command.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::ioctl_fionread;
use rustix::process::Signal;
use serde_json::Value;

use common::{DEADLINE, Host, Program, Scratch, adit, client, host, noise, read_line, serve};

/// Waits until a pipe holds so much that whoever writes to it waits.
#[track_caller]
fn fill(reader: &impl AsFd) {
    let end = Instant::now() + DEADLINE;
    let (mut last, mut same) = (0, 0);
    while same < 5 {
        assert!(Instant::now() < end, "only {last} bytes came");
        std::thread::sleep(std::time::Duration::from_millis(10));
        let now = ioctl_fionread(reader).unwrap();
        same = if now == last && now > 16 << 10 { same + 1 } else { 0 };
        last = now;
    }
}

/// A command whose standard output, or standard error, is a pipe that nobody reads.
fn start(command: &mut Command, is_err: bool) -> (Program, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdin(Stdio::piped());
    if is_err {
        command.stdout(Stdio::piped()).stderr(writer);
    } else {
        command.stdout(writer).stderr(Stdio::piped());
    }
    let program = Program::of(command.spawn().unwrap());
    // The command holds the writing end; the pipe ends with the program.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    (program, reader)
}

/// Where a command with a socket in this folder is once it is ready.
fn ready(path: &str) {
    common::run(&mut adit(&["wait", path]), b"").assert_clean("");
}

fn connect(path: &str) -> std::os::unix::net::UnixStream {
    let stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends all of it to an echo and reads it back.
fn echo(mut stream: impl Read + Write + Send + 'static, bytes: usize, back: impl Read) {
    let text = noise(7, bytes);
    let sent = text.clone();
    let feeder = std::thread::spawn(move || {
        for piece in sent.chunks(8 << 10) {
            stream.write_all(piece).unwrap();
        }
        stream
    });
    let mut seen = Vec::new();
    back.take(bytes as u64).read_to_end(&mut seen).unwrap();
    assert!(seen == text, "{} of {} bytes", seen.len(), text.len());
    drop(feeder.join().unwrap());
}

fn echo_over(path: &str, bytes: usize) {
    let stream = connect(path);
    let back = stream.try_clone().unwrap();
    echo(stream, bytes, back);
}

/// A first signal that is not enough, because something is not over, and a second one that is.
fn ends_by_two(mut program: Program) {
    program.signal(Signal::TERM);
    program.signal(Signal::INT);
    let ran = program.wait();
    let ends = [Some(Signal::TERM.as_raw()), Some(Signal::INT.as_raw())];
    assert!(ends.contains(&ran.signal) && [130, 143].contains(&ran.status), "{ran:?}");
}

/// A pipe with a name and a reader that reads nothing.
fn named_pipe(scratch: &Scratch) -> (String, File) {
    let path = scratch.join("pipe");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let reader = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
    (path, File::from(reader))
}

#[test]
fn two_signals_end_a_server_whose_trace_nobody_reads() {
    let scratch = Scratch::new();
    let (path, reader) = named_pipe(&scratch);
    let server = serve(&["echo", "127.0.0.1:0", "--drain=1h", "--payload=64kB", "--trace", &path]);
    let stream = client(server.tcp());
    let back = stream.try_clone().unwrap();
    echo(stream, 4 << 20, back);
    fill(&reader);
    let open = busy(server.tcp());
    ends_by_two(server.program);
    drop(open);
}

/// A client of an echo that is owed more than it ever reads.
fn busy(address: SocketAddr) -> std::net::TcpStream {
    let mut peer = client(address);
    peer.set_write_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    while peer.write_all(&[b'x'; 1 << 16]).is_ok() {}
    peer
}

#[test]
fn one_signal_ends_a_server_whose_trace_nobody_reads_and_that_is_said() {
    let scratch = Scratch::new();
    let (path, reader) = named_pipe(&scratch);
    let server = serve(&["echo", "127.0.0.1:0", "--payload=64kB", "--trace", &path]);
    let stream = client(server.tcp());
    let back = stream.try_clone().unwrap();
    echo(stream, 4 << 20, back);
    fill(&reader);
    let ran = server.stop();
    assert_eq!((ran.status, ran.signal), (0, None), "{ran:?}");
    assert!(ran.err.contains("the trace ends early"), "{}", ran.err);
}

#[test]
fn a_relay_whose_events_nobody_reads_goes_on_and_counts_what_is_lost() {
    let target = serve(&["echo", "127.0.0.1:0"]);
    let scratch = Scratch::new();
    let path = scratch.join("in");
    let words = ["forward", &path, target.place("tcp"), "--json", "--payload=1MB"];
    let (mut program, mut reader) = start(&mut adit(&words), false);
    ready(&path);
    echo_over(&path, 16 << 20);
    let taker = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    // It finds room again, and says what is missing.
    echo_over(&path, 1);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().status, 0);
    let text = taker.join().unwrap().unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["n"], number, "{event}");
    }
    let told = events.iter().filter(|event| event["ev"] == "drop");
    let told: u64 = told.map(|event| event["count"].as_u64().unwrap()).sum();
    let summary = events.last().unwrap();
    assert_eq!(summary["ev"], "summary");
    assert!(told > 0 && summary["dropped"] == told, "{told}: {summary}");
}

#[test]
fn two_signals_end_a_relay_whose_events_nobody_reads() {
    let target = serve(&["echo", "127.0.0.1:0"]);
    let scratch = Scratch::new();
    let path = scratch.join("in");
    let words = ["forward", &path, target.place("tcp"), "--json", "--payload=1MB", "--drain=1h"];
    let (program, reader) = start(&mut adit(&words), false);
    ready(&path);
    echo_over(&path, 1 << 20);
    fill(&reader);
    let open = connect(&path);
    ends_by_two(program);
    drop(open);
}

#[test]
fn a_server_whose_log_nobody_reads_serves_on_and_says_later_what_is_missing() {
    let scratch = Scratch::new();
    let path = scratch.join("in");
    let (mut program, mut reader) = start(&mut adit(&["serve", "echo", &path, "--hex"]), true);
    ready(&path);
    echo_over(&path, 4 << 20);
    let taker = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    echo_over(&path, 1);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().status, 0);
    let text = taker.join().unwrap().unwrap();
    assert!(text.contains(" lines are missing here"), "nothing is said");
    assert!(text.lines().all(|line| line.len() < 200), "lines are whole");
}

#[test]
fn one_signal_ends_a_server_whose_log_nobody_reads() {
    let scratch = Scratch::new();
    let path = scratch.join("in");
    let (mut program, reader) = start(&mut adit(&["serve", "echo", &path, "--hex"]), true);
    ready(&path);
    echo_over(&path, 1 << 20);
    fill(&reader);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().status, 0);
}

/// A target that answers every byte, and what draws the way there, whose picture nobody reads.
fn explained(scratch: &Scratch, drain: &str) -> (Program, PipeReader) {
    let path = scratch.join("in");
    let target = scratch.join("target");
    let (server, _nobody) = start(&mut adit(&["serve", "echo", &target]), false);
    ready(&target);
    let words = ["explain", &path, &target, "--payload=64", drain];
    let (program, reader) = start(&mut adit(&words), false);
    ready(&path);
    for _ in 0..100 {
        echo_over(&path, 1 << 10);
        if ioctl_fionread(&reader).unwrap() > 60 << 10 {
            break;
        }
    }
    drop(server);
    (program, reader)
}

#[test]
fn two_signals_end_a_drawing_that_nobody_looks_at() {
    let scratch = Scratch::new();
    let (program, reader) = explained(&scratch, "--drain=1h");
    ends_by_two(program);
    drop(reader);
}

#[test]
fn one_signal_ends_a_drawing_that_nobody_looks_at_when_the_drain_is_over() {
    let scratch = Scratch::new();
    let (mut program, reader) = explained(&scratch, "--drain=100ms");
    program.signal(Signal::INT);
    let ran = program.wait();
    assert_eq!((ran.status, ran.signal), (130, Some(Signal::INT.as_raw())), "{ran:?}");
    drop(reader);
}

/// A server that says more than anybody reads.
fn talker() -> Host<()> {
    host(|listener| {
        let mut stream = common::accept(&listener);
        // It ends with its client.
        while stream.write_all(&[b'x'; 1 << 16]).is_ok() {}
    })
}

#[test]
fn a_signal_ends_a_client_whose_output_nobody_reads() {
    for signal in [Signal::TERM, Signal::INT] {
        let talker = talker();
        let (mut program, reader) = start(&mut adit(&[&talker.place()]), false);
        fill(&reader);
        program.signal(signal);
        let ran = program.wait();
        assert_eq!(ran.signal, Some(signal.as_raw()), "{ran:?}");
        talker.finish();
    }
}

#[test]
fn a_signal_ends_a_client_whose_events_nobody_reads() {
    let talker = talker();
    let (mut program, reader) = start(&mut adit(&[&talker.place(), "--json=stdout"]), false);
    fill(&reader);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().signal, Some(Signal::TERM.as_raw()));
    talker.finish();
}

#[test]
fn by_hand_what_is_typed_goes_out_while_nobody_reads_what_is_said() {
    let scratch = Scratch::new();
    let path = scratch.join("in");
    let (mut program, reader) = start(&mut adit(&["serve", &path, "--drain=1h"]), false);
    ready(&path);
    let mut loud = connect(&path);
    loud.set_write_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    while loud.write_all(&[b'x'; 1 << 16]).is_ok() {}
    fill(&reader);
    let mut quiet = connect(&path);
    // Typed until the newcomer is known and hears it.
    let mut heard = [0; 6];
    let end = Instant::now() + DEADLINE;
    quiet.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    while quiet.read_exact(&mut heard).is_err() {
        assert!(Instant::now() < end, "nothing typed comes through");
        program.write(b"hello\n");
    }
    assert_eq!(&heard, b"hello\n");
    ends_by_two(program);
}

#[test]
fn by_hand_a_client_that_says_all_before_it_listens_is_heard() {
    let scratch = Scratch::new();
    let path = scratch.join("in");
    let mut program = Program::start(&mut adit(&["serve", &path]));
    // Not by a knock: that would be a client, and hear what is typed.
    program.err.wait_for("listening");
    let (said, typed) = (noise(1, 12 << 20), noise(2, 12 << 20));
    program.feed(typed.clone());
    let mut peer = connect(&path);
    peer.write_all(&said).unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).unwrap();
    assert!(heard == typed, "{} of {} bytes", heard.len(), typed.len());
    assert!(program.out.wait_for_bytes(said.len()) == said);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().status, 0);
}

#[test]
fn payload_as_events_is_waited_for_and_none_is_lost() {
    let scratch = Scratch::new();
    let path = scratch.join("in");
    let (mut program, mut reader) = start(&mut adit(&["serve", &path, "--json=stdout"]), false);
    ready(&path);
    let text = noise(3, 12 << 20);
    let mut peer = connect(&path);
    let sent = text.clone();
    let feeder = std::thread::spawn(move || peer.write_all(&sent));
    fill(&reader);
    let taker = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    feeder.join().unwrap().unwrap();
    program.signal(Signal::TERM);
    program.wait();
    let lines = taker.join().unwrap().unwrap();
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let data = events.filter(|event| event["ev"] == "data");
    let bytes: u64 = data.map(|event| event["len"].as_u64().unwrap()).sum();
    assert_eq!(bytes, text.len() as u64);
}

#[test]
fn whatever_a_peer_says_an_event_is_one_line() {
    let forged =
        b"x\r\n{\"v\":1,\"n\":9,\"ev\":\"open\"}\x1b[2J\xc2\x9b\xe2\x80\xa8+2 10.0.0.1:1\rend\n";
    let flags: [&[&str]; 3] = [
        &["--steps", "--payload=200"],
        &["--json", "--payload=200"],
        &["-v", "--steps", "--payload=200"],
    ];
    for flags in flags {
        let server = serve(&[&["echo", "-u", "127.0.0.1:0"], flags].concat());
        let peer = common::udp_socket();
        let mut answer = [0; 500];
        for _ in 0..3 {
            peer.send_to(forged, server.udp()).unwrap();
            assert_eq!(peer.recv(&mut answer).unwrap(), forged.len());
        }
        let ran = server.stop();
        let told: Vec<&str> = ran.err.lines().filter(|line| line.contains("10.0.0.1")).collect();
        assert_eq!(told.len(), 6, "{flags:?}: {}", ran.err);
        // Nor does a terminal or a reader of lines see anything else in it.
        let raw = |char: char| char.is_control() && char != '\n' || char == '\u{2028}';
        assert!(!ran.err.contains(raw), "{flags:?}: {:?}", ran.err);
        if flags[0] == "--json" {
            for (number, line) in ran.err.lines().enumerate() {
                assert_eq!(serde_json::from_str::<Value>(line).unwrap()["n"], number, "{line}");
            }
        } else {
            assert!(told.iter().all(|line| line.contains("fd ") || line.contains("Socket")));
        }
    }
}

#[test]
fn a_server_whose_log_is_read_late_is_heard_to_the_end() {
    let scratch = Scratch::new();
    let path = scratch.join("in");
    let (mut program, mut reader) = start(&mut adit(&["serve", "upper", &path, "-v"]), true);
    ready(&path);
    let mut peer = connect(&path);
    peer.write_all(b"hello\n").unwrap();
    assert_eq!(read_line(&mut peer), "HELLO\n");
    drop(peer);
    program.signal(Signal::TERM);
    program.wait();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let (last, lines) = (text.lines().last().unwrap(), text.lines().count());
    assert!(last.starts_with("told to stop:") && lines >= 4, "{text}");
}
