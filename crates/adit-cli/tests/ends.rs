//! How a `connect` ends: what arrived is printed, what was sent is confirmed, and the exit status says
//! which of the two is not so.

mod common;

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use common::{
    Heard, Program, Scratch, adit, bounded, host, keyboard, no_port, noise, read_to_end, reset,
    run, serve, tcp_host, timed,
};

const MIB: usize = 1 << 20;

// The end of our input.

#[test]
fn an_answer_long_after_the_end_of_input_is_printed() {
    let host = tcp_host(|mut stream| {
        let question = read_to_end(&mut stream);
        sleep(Duration::from_millis(1500));
        stream.write_all(b"late\n").unwrap();
        question
    });
    let ran = run(&mut adit(&[&host.place()]), b"question\n");
    ran.assert_clean("late\n");
    assert_eq!(host.finish(), b"question\n");
}

#[test]
fn a_receiver_without_input_keeps_every_line() {
    let host = tcp_host(|mut stream| {
        for line in ["one\n", "two\n", "three\n"] {
            sleep(Duration::from_millis(300));
            stream.write_all(line.as_bytes()).unwrap();
        }
    });
    let mut command = adit(&[&host.place()]);
    let ran = Program::start_with_input(command.stdin(Stdio::null())).wait();
    ran.assert_clean("one\ntwo\nthree\n");
}

#[test]
fn a_closed_standard_input_is_an_empty_one() {
    let host = tcp_host(|mut stream| {
        let heard = read_to_end(&mut stream);
        stream.write_all(b"hello\n").unwrap();
        heard
    });
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$1\" <&-", env!("CARGO_BIN_EXE_adit"), &host.place()]);
    run(&mut command, b"").assert_clean("hello\n");
    assert_eq!(host.finish(), b"");
}

#[test]
fn eof_hold_keeps_our_direction_open_until_the_peer_ends() {
    let host = tcp_host(|mut stream| {
        let mut question = [0; 9];
        stream.read_exact(&mut question).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let nothing_more = stream.read(&mut [0; 9]).map_err(|error| error.kind());
        stream.write_all(b"answer\n").unwrap();
        nothing_more
    });
    let ran = run(&mut adit(&[&host.place(), "--eof=hold"]), b"question\n");
    ran.assert_clean("answer\n");
    assert_eq!(host.finish(), Err(ErrorKind::WouldBlock), "the end was passed on");
}

#[test]
fn end_local_ends_with_our_input_once_the_peer_has_acknowledged_it() {
    let sent = noise(1, 3 * MIB);
    let (sender, said) = sync_channel(0);
    let host = tcp_host(move |mut stream| {
        let heard = read_to_end(&mut stream);
        // It would go on for ever.
        said.recv().unwrap();
        heard
    });
    let ran = run(&mut adit(&[&host.place(), "--end=local"]), &sent);
    sender.send(()).unwrap();
    ran.assert_clean("");
    assert!(host.finish() == sent, "not everything arrived");
}

#[test]
fn linger_is_how_long_the_answer_may_take() {
    let (sender, ended) = sync_channel::<()>(0);
    let host = tcp_host(move |stream| {
        // Until the test lets go.
        let _gone = ended.recv();
        drop(stream);
    });
    let command = &mut adit(&[&host.place(), "--linger=300ms"]);
    let (ran, took) = timed(|| run(command, b"hello\n"));
    ran.assert_failed(124, "linger-timeout");
    assert!(took >= Duration::from_millis(300), "{took:?}");
    drop(sender);
}

#[test]
fn control_d_on_a_terminal_is_a_half_close() {
    let host = tcp_host(|mut stream| {
        let heard = read_to_end(&mut stream);
        stream.write_all(b"answer\n").unwrap();
        heard
    });
    let (mut ours, theirs) = keyboard();
    let mut program = Program::start_with_input(adit(&[&host.place()]).stdin(theirs));
    ours.write_all(b"hello\n\x04").unwrap();
    program.wait().assert_clean("answer\n");
    assert_eq!(host.finish(), b"hello\n");
}

#[test]
fn send_only_throws_the_answer_away_and_confirms_what_was_sent() {
    let sent = noise(7, 3 * MIB);
    let host = tcp_host(|mut stream| {
        stream.write_all(b"welcome\n").unwrap();
        let heard = read_to_end(&mut stream);
        stream.write_all(b"thanks\n").unwrap();
        heard
    });
    run(&mut adit(&[&host.place(), "--send-only"]), &sent).assert_clean("");
    assert!(host.finish() == sent, "not everything arrived");
}

#[test]
fn recv_only_reads_no_input_and_ends_with_the_peer() {
    let host = tcp_host(|mut stream| {
        stream.write_all(b"one\ntwo\n").unwrap();
        common::finish(&stream);
        read_to_end(&mut stream)
    });
    run(&mut adit(&[&host.place(), "--recv-only"]), b"not sent\n").assert_clean("one\ntwo\n");
    assert_eq!(host.finish(), b"");
}

// The end of the peer.

#[test]
fn on_a_terminal_the_end_of_the_peer_is_the_end_and_said() {
    let host = tcp_host(|mut stream| stream.write_all(b"bye\n").unwrap());
    let (ours, theirs) = keyboard();
    let mut command = adit(&[&host.place()]);
    command.stdin(theirs.try_clone().unwrap()).stdout(Stdio::piped()).stderr(theirs);
    let mut program = Program::of(command.spawn().unwrap());
    drop(command);
    let said = Heard::of(ours);
    let ran = program.wait();
    assert_eq!((ran.status, ran.text().as_str()), (0, "bye\n"), "{ran:?}");
    said.wait_for("has ended the connection");
}

#[test]
fn a_peer_that_ends_first_is_sent_the_rest_of_the_input() {
    let (sender, said) = sync_channel(0);
    let host = tcp_host(move |mut stream| {
        stream.write_all(b"bye\n").unwrap();
        common::finish(&stream);
        said.recv().unwrap();
        read_to_end(&mut stream)
    });
    let mut program = Program::start(&mut adit(&[&host.place()]));
    program.write(b"one\n");
    program.out.wait_for("bye\n");
    program.write(b"two\n");
    sender.send(()).unwrap();
    program.end_input();
    program.wait().assert_clean("bye\n");
    assert_eq!(host.finish(), b"one\ntwo\n");
}

#[test]
fn end_peer_ends_although_there_is_input_left() {
    let host = tcp_host(|mut stream| stream.write_all(b"bye\n").unwrap());
    let mut program = Program::start(&mut adit(&[&host.place(), "--end=peer"]));
    program.wait().assert_clean("bye\n");
}

#[test]
fn a_peer_that_is_gone_before_the_input_ends_is_reported_as_a_reset() {
    let host = tcp_host(|mut stream| stream.write_all(b"bye\n").unwrap());
    let mut program = Program::start(&mut adit(&[&host.place()]));
    program.out.wait_for("bye\n");
    host.finish();
    // The peer's system answers the first piece with a reset; a piece after that meets it.
    let mut input = program.take_input();
    let writer = std::thread::spawn(move || {
        while input.write_all(&[b'x'; 4096]).is_ok() {
            sleep(Duration::from_millis(1));
        }
    });
    program.wait().assert_failed(1, "reset");
    writer.join().unwrap();
}

#[test]
fn what_came_before_a_reset_is_printed_and_the_status_is_1() {
    for (input, ends) in [(&b""[..], true), (b"hello\n", true), (b"hello\n", false)] {
        let (sender, said) = sync_channel::<()>(0);
        let host = tcp_host(move |mut stream| {
            stream.read_exact(&mut vec![0; input.len()]).unwrap();
            stream.write_all(b"part").unwrap();
            said.recv().unwrap();
            reset(stream);
        });
        let mut program = Program::start(&mut adit(&[&host.place()]));
        program.write(input);
        if ends {
            program.end_input();
        }
        program.out.wait_for("part");
        sender.send(()).unwrap();
        let ran = program.wait();
        ran.assert_failed(1, "reset");
        assert_eq!(ran.text(), "part", "{input:?} {ends}");
    }
}

#[test]
fn what_came_right_before_a_reset_is_printed() {
    for _ in 0..20 {
        let host = tcp_host(|mut stream| {
            stream.read_exact(&mut [0; 6]).unwrap();
            stream.write_all(b"part").unwrap();
            reset(stream);
        });
        let ran = run(&mut adit(&[&host.place()]), b"hello\n");
        ran.assert_failed(1, "reset");
        assert_eq!(ran.text(), "part");
    }
}

#[test]
fn a_reset_while_most_of_the_input_is_unsent_prints_what_came_and_counts_what_is_lost() {
    let host = tcp_host(|mut stream| {
        stream.read_exact(&mut [0; 1000]).unwrap();
        stream.write_all(b"part").unwrap();
        // The client's system is full of what nobody reads.
        sleep(Duration::from_millis(200));
        reset(stream);
    });
    let ran = run(&mut adit(&[&host.place()]), &noise(2, 3 * MIB));
    ran.assert_failed(1, "reset");
    assert_eq!(ran.text(), "part");
    assert!(ran.err.contains("4 B in") && ran.err.contains("unconfirmed"), "{}", ran.err);
}

#[test]
fn a_unix_peer_that_leaves_without_reading_everything_is_a_reset() {
    let scratch = Scratch::new();
    let path = scratch.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"part").unwrap();
    });
    let ran = run(&mut adit(&[&path]), b"hello, who is there?\n");
    peer.join().unwrap();
    ran.assert_failed(1, "reset");
    assert_eq!(ran.text(), "part");
}

// A connection that comes back.

#[test]
fn retry_waits_for_a_server_that_is_not_there_yet() {
    let (socket, address) = no_port();
    let mut program = Program::start(&mut adit(&[
        &address.to_string(),
        "--retry=forever",
        "--backoff=5ms..20ms",
        "-v",
    ]));
    program.write(b"hello\n");
    program.end_input();
    program.err.wait_for("trying again");
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let mut stream = common::accept(&listener);
    assert_eq!(read_to_end(&mut stream), b"hello\n");
    drop(stream);
    assert_eq!(program.wait().status, 0);
}

#[test]
fn retry_goes_on_after_a_lost_connection_and_says_what_was_lost() {
    let host = host(|listener| {
        let mut first = common::accept(&listener);
        first.read_exact(&mut [0; 4]).unwrap();
        reset(first);
        let mut second = common::accept(&listener);
        read_to_end(&mut second)
    });
    let mut program =
        Program::start(&mut adit(&[&host.place(), "--retry=3", "--backoff=5ms..20ms"]));
    program.write(b"one\n");
    program.err.wait_for("connecting again");
    program.write(b"two\n");
    program.end_input();
    let ran = program.wait();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(host.finish(), b"two\n");
}

// Limits that the user sets.

#[test]
fn limits_of_the_user_end_with_124_and_their_own_word() {
    let (sender, ended) = sync_channel::<()>(0);
    let host = host(move |listener| {
        let streams: Vec<_> = (0..3).map(|_| common::accept(&listener)).collect();
        let _gone = ended.recv();
        drop(streams);
    });
    let place = host.place();
    let silent = |flag: &str| {
        let mut program = Program::start(&mut adit(&[&place, flag]));
        let (ran, took) = timed(|| program.wait());
        (ran, took)
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (ran, took) = silent("--idle=1s");
            ran.assert_failed(124, "idle-timeout");
            assert!(took >= Duration::from_secs(1), "{took:?}");
        });
        scope.spawn(|| {
            let (ran, took) = silent("--max-time=500ms");
            ran.assert_failed(124, "max-time");
            assert!(took >= Duration::from_millis(500), "{took:?}");
        });
        scope.spawn(|| {
            let ran = run(&mut adit(&[&place, "--stall=500ms"]), &noise(3, 16 * MIB));
            ran.assert_failed(124, "stall-timeout");
        });
    });
    drop(sender);
}

#[test]
fn max_time_ends_a_conversation_in_which_bytes_flow() {
    let server = serve(&["chargen", "0"]);
    let ran = Program::start_with_output(
        adit(&[server.place("tcp"), "--recv-only", "--max-time=300ms"]).stdout(Stdio::null()),
    )
    .wait();
    ran.assert_failed(124, "max-time");
}

// Standard output.

#[test]
fn a_reader_that_leaves_ends_the_command_with_141_and_without_a_word() {
    let server = serve(&["chargen", "0"]);
    let mut command = adit(&[server.place("tcp"), "--recv-only"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut first).unwrap();
    drop(lines);
    let mut program = Program::of(child);
    let ran = program.wait();
    assert_eq!((ran.status, ran.err.as_str()), (141, ""));
    assert_eq!(first.len(), 74, "{first:?}");
}

#[test]
fn an_output_that_takes_nothing_is_an_error() {
    let host = tcp_host(|mut stream| stream.write_all(b"hello\n").unwrap());
    let mut command = adit(&[&host.place()]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    command.stdin(Stdio::null()).stdout(full);
    let ran = Program::start_with_output(&mut command).wait();
    ran.assert_failed(1, "lost");
    assert!(ran.err.contains("standard output"), "{}", ran.err);
}

#[test]
fn a_closed_standard_output_is_as_dev_null() {
    let host = tcp_host(|mut stream| stream.write_all(b"hello\n").unwrap());
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$1\" >&-", env!("CARGO_BIN_EXE_adit"), &host.place()]);
    run(&mut command, b"").assert_clean("");
}

// Much data.

#[test]
fn both_directions_carry_64_mb_at_once() {
    let (ours, theirs) = (noise(4, 64 * MIB), noise(5, 64 * MIB));
    let answer = theirs.clone();
    let host = tcp_host(move |mut stream| {
        let mut sending = bounded(stream.try_clone().unwrap());
        let sender = std::thread::spawn(move || {
            sending.write_all(&answer).unwrap();
            common::finish(&sending);
        });
        let heard = read_to_end(&mut stream);
        sender.join().unwrap();
        heard
    });
    let ran = run(&mut adit(&[&host.place()]), &ours);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(ran.out == theirs, "{} bytes came", ran.out.len());
    assert!(host.finish() == ours, "what was sent did not arrive");
}

#[test]
fn a_gigabyte_comes_back_unchanged_from_an_echo() {
    const ROUNDS: usize = 1000;
    let server = serve(&["echo", "0"]);
    let mut command = adit(&[server.place("tcp")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut program = Program::of(child);
    // A megabyte of noise whose first bytes are the number of the round.
    let block = |round: usize, noise: &mut [u8]| noise[..8].copy_from_slice(&round.to_le_bytes());
    let noise = noise(6, 1_000_000);
    let mut ours = noise.clone();
    let sender = std::thread::spawn(move || {
        for round in 0..ROUNDS {
            block(round, &mut ours);
            input.write_all(&ours).unwrap();
        }
    });
    let (mut expected, mut came) = (noise, vec![0; 1_000_000]);
    for round in 0..ROUNDS {
        block(round, &mut expected);
        output.read_exact(&mut came).unwrap();
        assert!(came == expected, "megabyte {round} is not what was sent");
    }
    assert_eq!(output.read(&mut came).unwrap(), 0, "more came than was sent");
    sender.join().unwrap();
    let ran = program.wait();
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
}

// Newlines.

#[test]
fn crlf_is_sent_for_lf_and_never_twice() {
    let server = serve(&["echo", "0"]);
    let ran = run(&mut adit(&["-C", server.place("tcp")]), b"a\nb\r\n\nc");
    ran.assert_clean("a\r\nb\r\n\r\nc");
}

// Signals.

#[test]
fn a_signal_ends_a_connect_as_that_signal() {
    let (sender, ended) = sync_channel::<()>(0);
    let host = host(move |listener| {
        let streams: Vec<_> = (0..3)
            .map(|_| {
                let mut stream = common::accept(&listener);
                stream.write_all(b"hello\n").unwrap();
                stream
            })
            .collect();
        let _gone = ended.recv();
        drop(streams);
    });
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut program = Program::start(&mut adit(&[&host.place()]));
        program.out.wait_for("hello\n");
        program.signal(signal);
        let ran = program.wait();
        assert_eq!((ran.status, ran.signal), (status, Some(signal.as_raw())), "{ran:?}");
        assert_eq!((ran.text().as_str(), ran.err.as_str()), ("hello\n", ""));
    }
    drop(sender);
}
