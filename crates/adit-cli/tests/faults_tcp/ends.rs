//! How things end: panics, half-closes, signals, broken pipes.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use adit::prelude::*;
use rustix::process::Signal;

use super::{descriptors, wait_until};
use crate::common::{
    DEADLINE, Program, Server as Served, adit, client, host, noise, read_line, read_to_end, run,
    serve,
};

/// Row 8: connections of which every tenth makes its handler panic, and what they may leave behind.
const CONNECTIONS: usize = 10_000;
const LEFT_BEHIND: usize = 0;

/// Answers in capitals, and panics at the word that says so.
struct Fragile;

impl Handler for Fragile {
    fn message(&mut self, msg: &[u8], out: &mut Out<'_>) -> Answer {
        assert_ne!(msg, b"boom", "boom");
        out.send(msg.to_ascii_uppercase());
        Answer::Done
    }
}

/// Who comes at the same time.
const CLIENTS: usize = 4;

/// The connections of one client, and a neighbour of theirs that is answered all the time.
fn come_and_go(address: SocketAddr) {
    let mut other = client(address);
    for number in 0..CONNECTIONS / CLIENTS {
        let mut peer = client(address);
        let is_fatal = number % 10 == 0;
        peer.write_all(if is_fatal { b"boom\n" } else { b"word\n" }).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let answer: &[u8] = if is_fatal { b"" } else { b"WORD\n" };
        assert_eq!(read_to_end(&mut peer), answer);
        if is_fatal {
            other.write_all(b"undisturbed\n").unwrap();
            assert_eq!(read_line(&mut other), "UNDISTURBED\n");
        }
    }
}

#[test]
fn row_08_ten_thousand_connections_with_panics_disturb_nobody_and_leave_nothing_behind() {
    // In a process of its own, whose descriptors are the server's alone and whose panics nobody reads.
    if std::env::var_os("ADIT_TEST_PANICS").is_none() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = "ends::row_08_ten_thousand_connections_with_panics_disturb_nobody_and_leave_nothing_behind";
        command.args(["--exact", name, "--nocapture"]);
        command.env("ADIT_TEST_PANICS", "1").env("RUST_BACKTRACE", "0");
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
        return;
    }
    let server =
        Server::new(each(|_| Fragile)).listen("tcp://127.0.0.1:0", Lines::new()).start().unwrap();
    let address = server.addr(0).socket_addr().unwrap();
    let mut other = client(address);
    let own = std::process::id();
    other.write_all(b"here\n").unwrap();
    assert_eq!(read_line(&mut other), "HERE\n");
    let before = descriptors(own);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| come_and_go(address));
        }
    });
    other.write_all(b"undisturbed\n").unwrap();
    assert_eq!(read_line(&mut other), "UNDISTURBED\n");
    wait_until("the close of the last one", || {
        descriptors(own).saturating_sub(before) == LEFT_BEHIND
    });
    let stats = server.stats();
    assert_eq!((stats.open, stats.failed), (1, CONNECTIONS as u64 / 10));
}

#[test]
fn row_10_an_answer_three_seconds_after_the_end_of_the_question_arrives_through_a_forward_too() {
    /// Row 10: an answer takes so long after the end of the question.
    const LATE: Duration = Duration::from_secs(3);
    let late = host(|listener| {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let mut peer = crate::common::accept(&listener);
                scope.spawn(move || {
                    let question = read_to_end(&mut peer);
                    // Not a wait for something: the answer takes its time.
                    std::thread::sleep(LATE);
                    peer.write_all(&[b"answer to ", &question[..]].concat()).unwrap();
                });
            }
        });
    });
    let words = ["forward", "--ready-fd=3", "127.0.0.1:0", &late.place()];
    let forward = Served::start_as("exec \"$@\" 3>\"$READY\"", &words);
    std::thread::scope(|scope| {
        let (mut straight, mut through) = (adit(&[&late.place()]), adit(&[forward.place("tcp")]));
        scope.spawn(move || run(&mut straight, b"one").assert_clean("answer to one"));
        scope.spawn(move || run(&mut through, b"two").assert_clean("answer to two"));
    });
    late.finish();
}

/// Sends signals at 1 kHz until told to stop; gives how many.
fn storm(pid: u32, signals: &[Signal], until: &AtomicBool) -> usize {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let mut count = 0;
    while !until.load(Relaxed) {
        for signal in signals {
            rustix::process::kill_process(pid, *signal).unwrap();
            count += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    count
}

#[test]
fn row_38_a_storm_of_signals_loses_no_byte_and_is_not_talked_about() {
    const BYTES: usize = 8 << 20;
    // A stop and its end interrupt every call that waits (signal(7)); USR1 has a handler.
    let server = serve(&["echo", "127.0.0.1:0"]);
    let mut talk = Program::start(&mut adit(&[server.place("tcp")]));
    let sent = noise(38, BYTES);
    let over = AtomicBool::new(false);
    let waiting = [Signal::STOP, Signal::CONT];
    let (serving, talking) = (server.program.id(), talk.id());
    std::thread::scope(|scope| {
        let storms = [
            scope.spawn(|| storm(serving, &[Signal::USR1], &over)),
            scope.spawn(|| storm(serving, &waiting, &over)),
            scope.spawn(|| storm(talking, &waiting, &over)),
        ];
        let mut input = talk.take_input();
        // The storm lasts a second at least, and as long as the bytes flow.
        for piece in sent.chunks(BYTES / 16) {
            input.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(60));
        }
        drop(input);
        wait_until("the echo", || talk.out.bytes().len() >= BYTES);
        over.store(true, Relaxed);
        let counts = storms.map(|storm| storm.join().unwrap());
        assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
    });
    let ran = talk.wait();
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(ran.out == sent, "the bytes differ");
    let ran = server.stop();
    assert_eq!(ran.status, 0, "{}", ran.err);
    for word in ["panic", "EINTR", "nterrupted"] {
        assert!(!ran.err.contains(word), "{word}");
    }
}

#[test]
fn row_38_a_pipe_that_nobody_reads_ends_each_command_quietly() {
    let server = serve(&["chargen", "127.0.0.1:0"]);
    let place = server.place("tcp").to_owned();
    for words in [&["connect", &place][..], &["connect", "--eof=hold", "--raw", &place]] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = adit(words);
        // Its input stays open: only the output ends it.
        command.stdin(Stdio::piped()).stdout(Stdio::from(writer));
        let mut program = Program::start_with_output(&mut command);
        // The command's copy of the writer is the only one from now on.
        drop(command);
        let mut reader = reader;
        reader.read_exact(&mut [0; 100]).unwrap();
        drop(reader);
        let ran = program.wait();
        assert_eq!((ran.status, ran.err.as_str()), (141, ""), "{words:?}");
    }
    // A client that leaves in the middle of its answer is that conversation's matter.
    for _ in 0..20 {
        let mut peer = client(server.tcp());
        peer.read_exact(&mut [0; 100]).unwrap();
    }
    let mut peer = TcpStream::connect(server.tcp()).unwrap();
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    peer.read_exact(&mut [0; 100]).unwrap();
}
