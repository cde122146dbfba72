//! `adit forward`, and what `--steps` and `--trace` tell of real conversations.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use common::{
    DEADLINE, Program, Scratch, Server, adit, client, no_port, noise, reset, run, serve, tcp_host,
    udp_socket,
};

/// Starts `adit forward` to a target and waits until it is ready.
fn forward(flags: &[&str], target: &str) -> Server {
    let listen = if target.starts_with("udp://") { "udp://127.0.0.1:0" } else { "127.0.0.1:0" };
    let words = [&["forward", "--ready-fd=3"], flags, &[listen, target]].concat();
    Server::start_as("exec \"$@\" 3>\"$READY\"", &words)
}

#[test]
fn what_goes_through_a_forward_is_what_would_have_come_without_it() {
    let server = serve(&["echo", "127.0.0.1:0", "udp://127.0.0.1:0"]);
    let streams = forward(&[], server.place("tcp"));
    let bytes = noise(1, 5_000_000);
    let ran = run(&mut adit(&[streams.place("tcp")]), &bytes);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(ran.out == bytes, "other bytes came");
    let datagrams = forward(&[], &format!("udp://{}", server.place("udp")));
    let ran = run(&mut adit(&["-u", datagrams.place("udp")]), b"one\n\nthree\n");
    ran.assert_clean("one\n\nthree\n");
    for program in [streams, datagrams, server] {
        assert_eq!(program.stop().status, 0);
    }
}

#[test]
fn a_chain_of_three_over_tcp_and_unix_passes_the_half_close_on() {
    let scratch = Scratch::new();
    let path = scratch.join("socket");
    let server = serve(&["upper", &path]);
    let second = forward(&[], &path);
    let first = forward(&[], second.place("tcp"));
    run(&mut adit(&[first.place("tcp")]), b"hello\n").assert_clean("HELLO\n");
    drop((first, second, server));
}

#[test]
fn a_bad_end_behind_a_forward_is_a_bad_end_in_front_of_it() {
    let host = tcp_host(|mut stream| {
        stream.read_exact(&mut [0; 6]).unwrap();
        stream.write_all(b"part").unwrap();
        reset(stream);
    });
    let through = forward(&["-v"], &host.place());
    let ran = run(&mut adit(&[through.place("tcp")]), b"hello\n");
    assert_eq!(ran.text(), "part");
    ran.assert_failed(1, "reset");
    through.program.err.wait_for("(code=reset)");

    let (_held, nobody) = no_port();
    let through = forward(&[], &nobody.to_string());
    run(&mut adit(&[through.place("tcp")]), b"hello\n").assert_failed(1, "reset");
    let said = through.program.err.wait_for("(code=refused)");
    assert!(said.contains(&format!("nothing is listening on tcp {nobody}")), "{said}");
    // It goes on: the next client may be luckier.
    run(&mut adit(&[through.place("tcp")]), b"hello\n").assert_failed(1, "reset");
    assert_eq!(through.stop().status, 0);
}

#[test]
fn once_forwards_one_conversation_and_ends_with_its_code() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let through = forward(&["--once"], server.place("tcp"));
    let mut program = through.program;
    let address = through.lines[0].replace(' ', "://");
    run(&mut adit(&[&address]), b"hello\n").assert_clean("HELLO\n");
    assert_eq!(program.wait().status, 0);
    let through = forward(&["--once"], server.place("tcp"));
    reset(client(through.tcp()));
    let mut program = through.program;
    program.wait().assert_failed(1, "reset");
}

#[test]
fn a_second_signal_ends_a_forward_that_waits_for_its_ends() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let through = forward(&["--drain=1h", "--json"], server.place("tcp"));
    let mut open = client(through.tcp());
    open.write_all(b"x").unwrap();
    open.read_exact(&mut [0]).unwrap();
    let mut program = through.program;
    program.signal(Signal::TERM);
    program.out.wait_for("\"ev\":\"drain\"");
    // What comes after the order still goes through.
    open.write_all(b"y").unwrap();
    open.read_exact(&mut [0]).unwrap();
    program.signal(Signal::TERM);
    assert_eq!(program.wait().status, 143);
}

#[test]
fn newcomers_wait_when_descriptors_run_out_and_nobody_is_reset() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    // A thread for each core has descriptors of its own.
    let limit = 64 + 8 * std::thread::available_parallelism().unwrap().get();
    let script = format!("ulimit -n {limit}; exec \"$@\" 3>\"$READY\"");
    for conversations in ["1024", "off"] {
        let flag = format!("--max-conns={conversations}");
        let words = ["forward", "--ready-fd=3", &flag, "127.0.0.1:0", server.place("tcp")];
        let through = Server::start_as(&script, &words);
        let crowd = (0..limit).map(|_| {
            let mut peer = client(through.tcp());
            peer.write_all(b"x").unwrap();
            peer
        });
        // Each leaves when it has its answer, and makes room for one that waits.
        for mut peer in crowd.collect::<Vec<_>>() {
            peer.read_exact(&mut [0]).unwrap();
        }
        let ran = through.stop();
        assert!(ran.status == 0 && !ran.err.contains("code="), "{}", ran.err);
    }
}

/// The most memory a program has used so far.
fn peak_kilobytes(program: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_client_over_udp_takes_a_socket_and_little_memory() {
    let server = serve(&["echo", "udp://127.0.0.1:0"]);
    let through = forward(&[], &format!("udp://{}", server.place("udp")));
    let before = peak_kilobytes(&through.program);
    let clients = 400;
    let crowd: Vec<_> = (0..clients)
        .map(|_| {
            let peer = udp_socket();
            peer.connect(through.udp()).unwrap();
            peer.send(b"hello").unwrap();
            assert_eq!(peer.recv(&mut [0; 9]).unwrap(), 5);
            peer
        })
        .collect();
    let each = (peak_kilobytes(&through.program) - before) / clients;
    assert!(each < 100, "{each} kB each");
    drop(crowd);
}

/// A pipe that is open for reading and never read, and where it is.
fn clogged(scratch: &Scratch) -> (File, String) {
    let path = scratch.join("clogged");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let pipe = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap();
    (File::from(pipe), path)
}

/// Returns once it is about full.
fn wait_until_clogged(pipe: &File) {
    let end = Instant::now() + DEADLINE;
    while rustix::io::ioctl_fionread(pipe).unwrap() < 32 << 10 {
        assert!(Instant::now() < end, "nothing fills the pipe");
        std::thread::yield_now();
    }
}

#[test]
fn a_trace_that_cannot_be_written_down_keeps_nobody_waiting() {
    let (scratch, server) = (Scratch::new(), serve(&["echo", "127.0.0.1:0"]));
    let (pipe, path) = clogged(&scratch);
    let through = forward(&[&format!("--trace={path}"), "--payload=100000"], server.place("tcp"));
    let bytes = noise(1, 5_000_000);
    let ran = run(&mut adit(&[through.place("tcp")]), &bytes);
    assert!(ran.status == 0 && ran.out == bytes, "{}", ran.err);
    wait_until_clogged(&pipe);
}

#[test]
fn a_pipe_that_nobody_reads_is_no_place_for_a_trace() {
    let scratch = Scratch::new();
    let (pipe, path) = clogged(&scratch);
    drop(pipe);
    let flag = format!("--trace={path}");
    let ran = run(&mut adit(&["forward", &flag, "127.0.0.1:0", "127.0.0.1:9"]), b"");
    ran.assert_failed(2, "usage");
}

#[test]
fn a_picture_that_nobody_reads_takes_little_memory() {
    let (scratch, server) = (Scratch::new(), serve(&["discard", "127.0.0.1:0"]));
    let (pipe, path) = clogged(&scratch);
    let script = format!("exec \"$@\" 3>\"$READY\" >{path}");
    let place = server.place("tcp");
    let words = ["explain", "--ready-fd=3", "--json", "--payload=65536", "127.0.0.1:0", place];
    let explaining = Server::start_as(&script, &words);
    let mut peer = client(explaining.tcp());
    let piece = vec![b'a'; 1 << 20];
    for _ in 0..150 {
        peer.write_all(&piece).unwrap();
    }
    wait_until_clogged(&pipe);
    let peak = peak_kilobytes(&explaining.program);
    assert!(peak < 200_000, "{peak} kB");
}

// What is told.

/// Numbers that differ from run to run, replaced: descriptors, ports of clients, times.
fn without_numbers(text: &str, server: u16) -> String {
    let text = text.replace(&server.to_string(), "PORT");
    let mut plain = String::new();
    for line in text.lines() {
        let line = match line.split_once("  from ") {
            Some((before, _)) => format!("{before}  from CLIENT"),
            None => line.to_owned(),
        };
        let words: Vec<&str> = line.split(' ').collect();
        let mut shown = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let is_fd = at > 0 && words[at - 1].ends_with("fd");
            let end = word.find(|char: char| !char.is_ascii_digit()).unwrap_or(word.len());
            match word.strip_prefix("127.0.0.1:") {
                _ if is_fd => shown.push(format!("N{}", &word[end..])),
                Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                    shown.push("CLIENT".to_owned());
                }
                _ => shown.push((*word).to_owned()),
            }
        }
        plain += &shown.join(" ");
        plain.push('\n');
    }
    plain
}

#[test]
fn the_steps_of_both_sides_are_the_lectures_calls_in_their_order() {
    let server = serve(&["upper", "127.0.0.1:0", "--steps"]);
    let port = server.tcp().port();
    let ran = run(&mut adit(&[server.place("tcp"), "--steps"]), b"hello\n");
    assert_eq!((ran.status, ran.text().as_str()), (0, "HELLO\n"));
    let client = without_numbers(&ran.err, port);
    // The two ends may be seen in either order with the bytes in between.
    for line in [
        " #1 clientSocket = socket()  fd N",
        " #1 connect(fd N, tcp 127.0.0.1:PORT) = 0  from CLIENT",
        " #1 write(fd N) = 6 B  \"hello\\n\"",
        " #1 shutdown(fd N)  we have finished",
        " #1 read(fd N) = 6 B  \"HELLO\\n\"",
        " #1 read(fd N) = 0  the peer has finished",
        " #1 close(fd N)",
    ] {
        assert!(client.contains(line), "no {line:?} in\n{client}");
    }
    server.program.err.wait_for("close(");
    let served = without_numbers(&server.stop().err, port);
    let steps: Vec<&str> = served.lines().filter(|line| line.starts_with(' ')).collect();
    assert_eq!(
        steps,
        [
            "    welcomeSocket = socket()  fd N",
            "    bind(fd N, tcp 127.0.0.1:PORT)",
            "    listen(fd N)",
            " #1 connectionSocket = accept()  fd N, tcp CLIENT",
            " #1 read(fd N) = 6 B  \"hello\\n\"",
            " #1 write(fd N) = 6 B  \"HELLO\\n\"",
            " #1 read(fd N) = 0  the peer has finished",
            " #1 close(fd N)",
        ]
    );
}

#[test]
fn the_steps_of_datagrams_name_the_address_of_every_one() {
    let server = serve(&["upper", "udp://127.0.0.1:0", "--steps"]);
    let place = server.place("udp").to_owned();
    let ran = run(&mut adit(&["-u", &place, "--steps"]), b"hello\n");
    assert!(ran.err.contains("clientSocket = socket()  fd "), "{}", ran.err);
    assert!(ran.err.contains(&format!(", udp {place}) = 5 B  \"hello\"")), "{}", ran.err);
    let served = server.stop().err;
    assert!(served.contains("serverSocket = socket()  fd "), "{served}");
    assert!(served.contains("recvfrom(serverSocket) = 5 B, udp 127.0.0.1:"), "{served}");
    assert!(served.contains("sendto(serverSocket, udp 127.0.0.1:"), "{served}");
    assert!(!served.contains("accept") && !served.contains("listen("), "{served}");
}

#[test]
fn steps_show_as_much_payload_as_is_asked_for() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    for (flags, shown) in [
        (&[][..], "write(fd N) = 6 B  \"hello\\n\""),
        (&["--payload=2"], "write(fd N) = 6 B  \"he\".."),
        (&["--payload=none"], "write(fd N) = 6 B\n"),
    ] {
        let ran = run(adit(&[server.place("tcp"), "--steps"]).args(flags), b"hello\n");
        let said = without_numbers(&ran.err, server.tcp().port());
        assert!(ran.status == 0 && said.contains(shown), "{flags:?}: {said}");
    }
}

#[test]
fn a_welcome_socket_keeps_its_descriptor_while_clients_come_and_go() {
    let server = serve(&["daytime", "127.0.0.1:0", "--steps"]);
    let descriptor = |text: &str, step: &str| {
        let line = text.lines().find(|line| line.contains(step)).unwrap();
        line.split("fd ").nth(1).unwrap().split([',', ')']).next().unwrap().to_owned()
    };
    for _ in 0..3 {
        run(&mut adit(&[server.place("tcp")]), b"");
    }
    let said = server.stop().err;
    let welcome = descriptor(&said, "listen(");
    let connections = said.lines().filter(|line| line.contains("connectionSocket = accept()"));
    for line in connections {
        assert_ne!(descriptor(line, "accept"), welcome, "{said}");
    }
}

/// A trace as JSON, line by line; the numbers are gapless.
fn trace(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line["n"], number, "{line}");
    }
    lines
}

#[test]
fn a_trace_has_every_call_and_every_byte_with_its_place_and_is_private() {
    let scratch = Scratch::new();
    let [at_server, at_relay, at_client] =
        ["server", "relay", "client"].map(|name| scratch.join(name));
    let flag = |path: &str| format!("--trace={path}");
    let server = serve(&["upper", "127.0.0.1:0", &flag(&at_server), "--payload=64"]);
    let relay = forward(&[&flag(&at_relay)], server.place("tcp"));
    let ran = run(&mut adit(&[relay.place("tcp"), &flag(&at_client)]), b"hello\n");
    assert_eq!((ran.status, ran.text().as_str(), ran.err.as_str()), (0, "HELLO\n", ""));
    assert_eq!((relay.stop().status, server.stop().status), (0, 0));
    for (path, role) in [(&at_server, "server"), (&at_relay, "relay"), (&at_client, "client")] {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
        let lines = trace(path);
        assert_eq!((&lines[0]["ev"], &lines[0]["role"]), (&"trace".into(), &role.into()));
        let data = lines.iter().filter(|line| line["ev"] == "data");
        assert!(data.clone().all(|line| line["off"] == serde_json::json!([0, 6])), "{lines:?}");
        assert_eq!(data.count(), if role == "relay" { 4 } else { 2 });
        assert!(lines.iter().any(|line| line["ev"] == "close" && line["layer"] == "call"));
    }
    let with_text = trace(&at_server).iter().any(|line| line["text"] == "hello\n");
    let without = trace(&at_relay).iter().all(|line| line["text"].is_null());
    assert!(with_text && without, "payload is there only when it is asked for");
}

#[test]
fn a_trace_on_a_full_disk_is_said_and_the_work_is_done() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let ran = run(&mut adit(&[server.place("tcp"), "--trace=/dev/full"]), b"hello\n");
    assert_eq!((ran.status, ran.text().as_str()), (0, "HELLO\n"));
    assert!(ran.err.contains("the trace ends early"), "{}", ran.err);
}

#[test]
fn hex_shows_every_byte_once_with_its_place_and_tee_keeps_what_came() {
    let scratch = Scratch::new();
    let server = serve(&["upper", "127.0.0.1:0"]);
    let tees = ["relay", "client"].map(|name| scratch.join(name));
    let flag = |path: &str| format!("--tee={path}");
    let relay = forward(&["--hex", &flag(&tees[0])], server.place("tcp"));
    let ran = run(&mut adit(&[relay.place("tcp"), "--hex", &flag(&tees[1])]), b"hello, hexdump!\n");
    assert_eq!((ran.status, ran.text().as_str()), (0, "HELLO, HEXDUMP!\n"));
    let up = " #1 > 00000000  68 65 6c 6c 6f 2c 20 68  65 78 64 75 6d 70 21 0a  |hello, hexdump!.|";
    let down =
        " #1 < 00000000  48 45 4c 4c 4f 2c 20 48  45 58 44 55 4d 50 21 0a  |HELLO, HEXDUMP!.|";
    let relayed = relay.stop().err;
    for said in [&ran.err, &relayed] {
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with(' ')).collect();
        assert_eq!(lines, [up, down], "{said}");
    }
    assert_eq!(std::fs::read(&tees[1]).unwrap(), b"HELLO, HEXDUMP!\n");
    assert_eq!(std::fs::read(&tees[0]).unwrap(), b"hello, hexdump!\nHELLO, HEXDUMP!\n");
}

#[test]
fn a_copy_on_a_full_disk_is_said_and_the_work_is_done() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let ran = run(&mut adit(&[server.place("tcp"), "--tee=/dev/full"]), b"hello\n");
    assert_eq!((ran.status, ran.text().as_str()), (0, "HELLO\n"));
    assert!(ran.err.contains("the copy ends early"), "{}", ran.err);
}
