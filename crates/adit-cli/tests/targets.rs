//! Programs as targets: exec: addresses of connect and forward.

mod common;

use std::io::Write as _;

use rustix::process::Signal;

use common::{
    Program, Server, adit, ask, client, descendants, finish, guard_of, is_alive, noise, read_line,
    read_to_end, run, signal, udp_socket, wait_until,
};

/// Starts `adit forward` with these words.
fn forward(words: &[&str]) -> Server {
    let words = [&["forward", "--ready-fd=3"], words].concat();
    Server::start_as("exec \"$@\" 3>\"$READY\"", &words)
}

#[test]
fn connect_talks_to_a_program_and_its_status_counts() {
    run(&mut adit(&["connect", "exec:tr,arg=a-z,arg=A-Z"]), b"hello\n").assert_clean("HELLO\n");
    run(&mut adit(&["exec:tr?arg=a-z&arg=A-Z"]), b"hello\n").assert_clean("HELLO\n");
    // No shell reads it, and a comma is written otherwise.
    run(&mut adit(&["exec:echo,arg=$HOME; a%2Cb"]), b"").assert_clean("$HOME; a,b\n");
    let bytes = noise(31, 3_000_000);
    let ran = run(&mut adit(&["exec:cat"]), &bytes);
    assert!((ran.status, ran.out == bytes) == (0, true), "{} bytes, {}", ran.out.len(), ran.err);
    let ran = run(&mut adit(&["exec:sh,arg=-c,arg=cat; exit 7"]), b"all\n");
    assert_eq!((ran.status, ran.text().as_str()), (1, "all\n"));
    assert_eq!(ran.err, "adit: sh failed: exit 7 (code=handler)\n");
    // A program on each side.
    let script = "echo question; read answer; echo \"$answer\" >&2";
    let ran = run(&mut adit(&["exec:cat", "--", "sh", "-c", script]), b"");
    assert_eq!((ran.status, ran.err.as_str()), (0, "question\n"));
}

#[test]
fn a_program_that_is_not_there_or_words_that_do_not_fit_are_refused() {
    let ran = run(&mut adit(&["exec:./no-such"]), b"");
    let said = "adit: cannot run ./no-such: no such file (code=not-found); not connecting\n";
    assert_eq!((ran.status, ran.err.as_str()), (127, said));
    run(&mut adit(&["forward", "127.0.0.1:0", "exec:./no-such"]), b"")
        .assert_failed(127, "not-found");
    for words in [
        &["exec:"][..],
        &["exec:cat,ttl=1"],
        &["exec:cat", "-p", "7000"],
        &["-z", "exec:cat"],
        &["serve", "exec:cat"],
        &["wait", "exec:cat"],
        &["explain", "127.0.0.1:0", "exec:cat"],
        &["forward", "exec:cat", "127.0.0.1:1"],
        &["forward", "127.0.0.1:0", "exec:cat", "--proxy-out", "v1"],
    ] {
        let ran = run(&mut adit(words), b"");
        ran.assert_failed(2, "usage");
    }
}

#[test]
fn each_connection_of_a_forward_has_a_process_of_its_own() {
    let script = "exec:sh,arg=-c,arg=echo $TCPREMOTEPORT $$; cat; [ $ADIT_CONN = 1 ]";
    let server = forward(&["127.0.0.1:0", script]);
    let mut streams = [client(server.tcp()), client(server.tcp())];
    let lines = streams.each_mut().map(read_line);
    for (stream, line) in streams.iter().zip(&lines) {
        let port = stream.local_addr().unwrap().port();
        assert!(line.starts_with(&format!("{port} ")), "{line}");
    }
    assert_ne!(lines[0].split_once(' ').unwrap().1, lines[1].split_once(' ').unwrap().1);
    for stream in &mut streams {
        stream.write_all(b"hello\n").unwrap();
        finish(stream);
        assert_eq!(read_to_end(stream), b"hello\n");
    }
    let place = streams.map(|stream| stream.local_addr().unwrap());
    let log = server.program.err.wait_for("failed for peer ");
    assert!(place.iter().any(|place| log.contains(&format!("{place}: exit 1 (code=handler)"))));
    assert_eq!(server.stop().status, 0);
}

#[test]
fn datagrams_of_a_forward_go_to_a_program_and_what_it_says_comes_back() {
    let server = forward(&["udp://127.0.0.1:0", "exec:tr,arg=a-z,arg=A-Z"]);
    let (socket, mut answer) = (udp_socket(), [0; 100]);
    socket.send_to(b"hello", server.udp()).unwrap();
    let bytes = socket.recv(&mut answer).unwrap();
    assert_eq!(&answer[..bytes], b"HELLO");
}

#[test]
fn who_may_have_the_program_of_a_forward_run_is_said_as_for_serve() {
    let ran = run(&mut adit(&["forward", "0.0.0.0:0", "exec:cat"]), b"");
    ran.assert_failed(2, "unsafe");
    assert!(ran.err.contains("would be open to everyone"), "{ran:?}");
    if rustix::process::geteuid().is_root() {
        let ran = run(&mut adit(&["forward", "0.0.0.0:0", "exec:cat", "--open"]), b"");
        ran.assert_failed(2, "unsafe");
        let words = ["0.0.0.0:0", "exec:id,arg=-un", "--open", "--user", "nobody"];
        assert_eq!(ask(&forward(&words), b""), b"nobody\n");
    }
    // A socket as a target has no use for it.
    let words = ["forward", "127.0.0.1:0", "127.0.0.1:1", "--sandbox"];
    run(&mut adit(&words), b"").assert_failed(2, "usage");
}

#[test]
fn no_program_of_a_forward_or_of_a_client_outlives_it() {
    let script = "exec:sh,arg=-c,arg=setsid sleep 1000 & echo here; exec sleep 1000";
    let server = forward(&["127.0.0.1:0", script]);
    let mut stream = client(server.tcp());
    assert_eq!(read_line(&mut stream), "here\n");
    let guard = guard_of(&server);
    wait_until("both run", || descendants(guard).len() == 2);
    let all: Vec<u32> = descendants(guard).into_iter().map(|(pid, _)| pid).collect();
    signal(server.program.id(), Signal::KILL);
    wait_until("all are gone", || !all.iter().any(|pid| is_alive(*pid)));

    let mut client = Program::start(&mut adit(&[script]));
    client.out.wait_for("here\n");
    wait_until("both run", || descendants(client.id()).len() == 3);
    let all: Vec<u32> = descendants(client.id()).into_iter().map(|(pid, _)| pid).collect();
    client.signal(Signal::KILL);
    client.wait();
    wait_until("all are gone", || !all.iter().any(|pid| is_alive(*pid)));
}
