//! What the command tells: events that programs read, and bytes of strangers on a terminal.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{Read, Write};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use common::{
    Heard, Program, adit, client, no_port, read_line, run, serve, tcp_host, terminal, udp_socket,
};

/// Every line as JSON, with what every line has.
fn events(text: &str) -> Vec<Value> {
    let events: Vec<Value> = text
        .lines()
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| unreachable!("{error}: {line}"))
        })
        .collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!((&event["v"], &event["n"]), (&1.into(), &number.into()), "{event}");
        assert!(event["t"].is_u64() && event["ev"].is_string(), "{event}");
    }
    assert_eq!(events[0]["ev"], "trace");
    events
}

fn only<'a>(events: &'a [Value], word: &str) -> &'a Value {
    let mut found = events.iter().filter(|event| event["ev"] == word);
    let first = found.next().unwrap_or_else(|| unreachable!("no {word} in {events:?}"));
    assert!(found.next().is_none(), "more than one {word} in {events:?}");
    first
}

/// The bytes of all data events of a direction.
fn payload(events: &[Value], dir: &str) -> Vec<u8> {
    let data = events.iter().filter(|event| event["ev"] == "data" && event["dir"] == dir);
    data.flat_map(|event| match event["text"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => base64(event["b64"].as_str().unwrap()),
    })
    .collect()
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |byte: u8| DIGITS.iter().position(|digit| *digit == byte);
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for value in text.bytes().filter_map(digit) {
        bits = bits << 6 | u32::try_from(value).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).unwrap());
        }
    }
    bytes
}

#[test]
fn a_server_tells_the_life_of_a_conversation() {
    let server = serve(&["upper", "127.0.0.1:0", "--json"]);
    let address = server.tcp();
    let mut peer = client(address);
    let from = peer.local_addr().unwrap().to_string();
    peer.write_all(b"hello\n").unwrap();
    assert_eq!(read_line(&mut peer), "HELLO\n");
    drop(peer);
    server.program.err.wait_for("\"close\"");
    let ran = server.stop();
    let events = events(&ran.err);
    let listen = only(&events, "listen");
    assert_eq!(listen["addr"], format!("tcp {address}"));
    assert_eq!(listen["reach"], "loopback");
    let open = only(&events, "open");
    assert_eq!(open["local"], address.to_string());
    let data: Vec<_> = events.iter().filter(|event| event["ev"] == "data").collect();
    assert_eq!(
        (&data[0]["dir"], &data[0]["len"], &data[0]["seq"]),
        (&"in".into(), &6.into(), &0.into())
    );
    assert_eq!((&data[1]["dir"], &data[1]["len"]), (&"out".into(), &6.into()));
    assert!(data.iter().all(|event| event["text"].is_null()), "no payload without --payload");
    assert_eq!(only(&events, "half_close")["dir"], "in");
    let close = only(&events, "close");
    assert_eq!((&close["code"], &close["in"], &close["out"]), (&"ok".into(), &6.into(), &6.into()));
    assert!(close["dt"].as_u64().unwrap() > 0);
    for event in [open, data[0], close] {
        assert_eq!((&event["conn"], &event["peer"]), (&1.into(), &from.as_str().into()));
    }
    only(&events, "drain");
    let summary = only(&events, "summary");
    assert_eq!(summary["conns"], 1);
    assert_eq!((&summary["in"], &summary["out"]), (&6.into(), &6.into()));
    assert_eq!((&summary["exit"], &summary["code"]), (&0.into(), &"drained".into()));
    assert_eq!((&summary["errors"], &summary["dropped"]), (&0.into(), &0.into()));
    assert_eq!(events.last().unwrap()["ev"], "summary");
}

#[test]
fn a_client_tells_the_same_story_from_its_side() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let ran = run(&mut adit(&[server.place("tcp"), "--json"]), b"hello\n");
    assert_eq!((ran.status, ran.text().as_str()), (0, "HELLO\n"));
    let events = events(&ran.err);
    let open = only(&events, "open");
    assert_eq!(open["peer"], server.place("tcp"));
    assert!(open["local"].as_str().unwrap().starts_with("127.0.0.1:"));
    let close = only(&events, "close");
    assert_eq!((&close["code"], &close["in"], &close["out"]), (&"ok".into(), &6.into(), &6.into()));
    let ends: Vec<_> = events.iter().filter(|event| event["ev"] == "half_close").collect();
    assert_eq!(ends.len(), 2);
}

#[test]
fn json_on_standard_output_carries_the_whole_payload() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    for input in [&b"hello \"world\"\n\x1b[2J\xc3\xa9"[..], &bytes] {
        let ran = run(&mut adit(&[server.place("tcp"), "--json=stdout"]), input);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""));
        let events = events(&ran.text());
        assert!(payload(&events, "in") == input && payload(&events, "out") == input);
    }
}

#[test]
fn json_on_standard_output_of_a_server_by_hand_carries_what_clients_say() {
    let server = serve(&["127.0.0.1:0", "--json=stdout"]);
    let mut peer = client(server.tcp());
    peer.write_all(b"hello\n").unwrap();
    drop(peer);
    server.program.out.wait_for("half_close");
    let ran = server.stop();
    assert_eq!(ran.err, "");
    assert_eq!(payload(&events(&ran.text()), "in"), b"hello\n");
}

#[test]
fn payload_shows_as_much_as_is_asked_for() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let ran = run(&mut adit(&[server.place("tcp"), "--json", "--payload=4"]), b"hello\n");
    assert_eq!(payload(&events(&ran.err), "in"), b"hell");
}

#[test]
fn datagrams_are_told_with_their_edges() {
    let server = serve(&["echo", "-u", "127.0.0.1:0"]);
    let ran = run(&mut adit(&["-u", server.place("udp"), "--json"]), b"one\n\nthree\n");
    assert_eq!((ran.status, ran.text().as_str()), (0, "one\n\nthree\n"));
    let events = events(&ran.err);
    let sent = events.iter().filter(|event| event["ev"] == "data" && event["dir"] == "out");
    let lengths: Vec<_> = sent.map(|event| event["len"].as_u64().unwrap()).collect();
    assert_eq!(lengths, [3, 0, 5]);
}

#[test]
fn a_failure_is_an_event_and_an_exit_status() {
    let (_socket, nobody) = no_port();
    let nobody = nobody.to_string();
    let silent = udp_socket();
    let silent = format!("udp://{}", silent.local_addr().unwrap());
    let rows: [(&[&str], i32, &str); 6] = [
        (&[&nobody], 1, "refused"),
        (&["127.0.0.1:99999"], 2, "usage"),
        (&[&silent, "--linger=50ms"], 1, "no-answer"),
        (&["serve", "chargen", "-u", "0"], 2, "unsafe"),
        (&["serve", "echo", "192.0.2.1:0"], 1, "no-address"),
        (&["wait", &nobody, "--for=150ms"], 124, "wait-timeout"),
    ];
    for (words, status, code) in rows {
        let ran = run(adit(words).arg("--json"), b"hello\n");
        // A wait has no payload: its events go where a program looks for them.
        let (said, other) = match words[0] {
            "wait" => (ran.text(), ran.err),
            _ => (ran.err.clone(), ran.text()),
        };
        assert_eq!((ran.status, other.as_str()), (status, ""), "{words:?}");
        let events = events(&said);
        let error = only(&events, "error");
        assert_eq!((&error["code"], &error["fatal"]), (&code.into(), &true.into()), "{words:?}");
        assert!(!error["text"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_bad_end_is_told_by_the_close_event_too() {
    let host = tcp_host(|mut stream| {
        stream.read_exact(&mut [0; 6]).unwrap();
        stream.write_all(b"part").unwrap();
        common::reset(stream);
    });
    let ran = run(&mut adit(&[&host.place(), "--json"]), b"hello\n");
    assert_eq!((ran.status, ran.text().as_str()), (1, "part"));
    let events = events(&ran.err);
    let close = only(&events, "close");
    assert_eq!(
        (&close["code"], &close["in"], &close["out"]),
        (&"reset".into(), &4.into(), &6.into())
    );
}

// Terminals.

/// Takes over the clipboard, clears the screen, moves the text about, in old and new ways.
const ATTACK: &[u8] = b"\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b2J\r\x08\x7f\xc2\x9b31m\xe2\x80\xae\xff";

#[test]
fn control_characters_of_a_peer_reach_a_pipe_as_they_are_and_a_terminal_escaped() {
    let attack = [ATTACK, b"\tend\n"].concat();
    let say = || {
        let attack = attack.clone();
        tcp_host(move |mut stream| stream.write_all(&attack).unwrap())
    };
    let host = say();
    let ran = run(&mut adit(&[&host.place()]), b"");
    assert_eq!((ran.status, &ran.out), (0, &attack), "a pipe gets exact bytes");

    for (flags, is_raw) in [(&[][..], false), (&["--raw"], true)] {
        let host = say();
        let (ours, theirs) = terminal();
        let mut command = adit(&[&host.place()]);
        command.args(flags).stdin(Stdio::null()).stdout(theirs);
        let screen = Heard::of(ours);
        let ran = Program::start_with_output(&mut command).wait();
        drop(command);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""));
        let seen = screen.to_end();
        if is_raw {
            assert_eq!(seen, attack);
        } else {
            assert_harmless(&seen);
            let text = String::from_utf8(seen).unwrap();
            assert!(
                text.contains("\\x1b]52;c;cm0gLXJm\\x07\\x1b[2J") && text.ends_with("\tend\n"),
                "{text:?}"
            );
        }
    }
}

/// Nothing but text, tabs and line ends.
fn assert_harmless(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    let harmful = |char: &char| {
        let is_bidi = matches!(*char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        is_bidi || (char.is_control() && !"\t\n".contains(*char))
    };
    assert_eq!(text.chars().find(harmful), None, "{text:?}");
}

#[test]
fn two_clients_on_a_terminal_are_labelled_escaped_and_never_share_a_line() {
    let scratch = common::Scratch::new();
    let path = scratch.join("socket");
    let (ours, theirs) = terminal();
    let mut command = adit(&["serve", &path, "--color=never"]);
    command.stdin(Stdio::piped()).stdout(theirs);
    let mut program = Program::start_with_output(&mut command);
    drop(command);
    let screen = Heard::of(ours);
    run(&mut adit(&["wait", &path]), b"").assert_clean("");
    let mut clients: Vec<_> =
        (0..2).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
    // Both are known before anything else is said; which is which the label says.
    for (number, peer) in clients.iter_mut().enumerate() {
        peer.write_all(format!("I am {number}\n").as_bytes()).unwrap();
        screen.wait_for(&format!("I am {number}\n"));
    }
    clients[0].write_all(&[b"half ", ATTACK].concat()).unwrap();
    clients[1].write_all(b"a line between the halves\n").unwrap();
    screen.wait_for("a line between the halves\n");
    clients[0].write_all(b"other half\n").unwrap();
    screen.wait_for("other half\n");
    drop(clients);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().status, 0);
    let seen = screen.to_end();
    assert_harmless(&seen);
    let text = String::from_utf8(seen).unwrap();
    for line in text.lines().filter(|line| line.contains("half") || line.contains("halves")) {
        assert!(line.starts_with('['), "no label: {line:?} in {text:?}");
    }
    assert!(text.lines().any(|line| line.ends_with("] a line between the halves")), "{text:?}");
}

#[test]
fn what_a_peer_says_cannot_forge_a_line_of_the_log() {
    let server = serve(&["127.0.0.1:0", "-v"]);
    let mut peer = client(server.tcp());
    peer.write_all(b"+2 10.0.0.1:1\r\nadit: you were hacked\n").unwrap();
    drop(peer);
    server.program.out.wait_for("hacked\n");
    let ran = server.stop();
    assert!(!ran.err.contains("hacked"), "{}", ran.err);
}

#[test]
fn without_a_standard_error_the_work_is_done_all_the_same() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let mut command = std::process::Command::new("sh");
    let script = "exec \"$0\" \"$1\" -v 2>&-";
    command.args(["-c", script, env!("CARGO_BIN_EXE_adit"), server.place("tcp")]);
    let ran = run(&mut command, b"hello\n");
    assert_eq!((ran.status, ran.text().as_str()), (0, "HELLO\n"));
}
