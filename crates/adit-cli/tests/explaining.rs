//! `adit explain`: in the middle of real conversations, and on what was saved of them.

mod common;

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::process::Stdio;

use rustix::process::Signal;

use common::{
    Program, Ran, Scratch, Server, adit, bounded_udp, client, finish, no_port, read_to_end, reset,
    run, serve, tcp_host,
};

/// Starts `adit explain` in front of a target and waits until it is ready.
fn explain(flags: &[&str], target: &str) -> Server {
    let listen = if target.starts_with("udp://") { "udp://127.0.0.1:0" } else { "127.0.0.1:0" };
    let words = [&["explain", "--ready-fd=3"], flags, &[listen, target]].concat();
    Server::start_as("exec \"$@\" 3>\"$READY\"", &words)
}

/// Ends it as its user does, by Ctrl-C.
fn interrupt(explaining: Server) -> Ran {
    let mut program = explaining.program;
    program.signal(Signal::INT);
    program.wait()
}

/// Draws a saved trace.
fn draw(words: &[&str]) -> String {
    let ran = run(adit(&["explain"]).args(words), b"");
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{words:?}");
    ran.text()
}

fn assert_in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| unreachable!("no {part:?} next in\n{text}"));
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn the_sequence_grows_while_the_conversation_goes_on() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let explaining = explain(&[], server.place("tcp"));
    let mut peer = client(explaining.tcp());
    peer.write_all(b"hello\n").unwrap();
    let mut answer = [0; 6];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HELLO\n");
    // It is drawn although nothing has ended yet.
    explaining.program.out.wait_for("6 B \"HELLO\\n\"");
    finish(&peer);
    assert_eq!(read_to_end(&mut peer), b"");
    explaining.program.out.wait_for("close");
    let ran = interrupt(explaining);
    assert_eq!(ran.status, 130);
    assert_in_order(
        &ran.text(),
        &[
            "connected",
            "6 B \"hello\\n\"",
            "6 B \"HELLO\\n\"",
            "FIN",
            "FIN",
            "close",
            "in 6 B, out 6 B",
        ],
    );
    assert!(ran.text().lines().all(|line| line.chars().count() <= 80), "{}", ran.text());
}

#[test]
fn what_the_client_gets_is_what_it_would_get_without_the_picture() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let explaining = explain(&["--payload=none"], server.place("tcp"));
    let bytes = common::noise(7, 3_000_000);
    let ran = run(&mut adit(&[explaining.place("tcp")]), &bytes);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(ran.out == bytes, "other bytes came");
    let drawn = interrupt(explaining).text();
    assert!(drawn.contains("in 3.00 MB, out 3.00 MB"), "{drawn}");
}

#[test]
fn a_reset_and_a_target_that_is_not_there_are_drawn_as_what_they_are() {
    let host = tcp_host(|mut stream| {
        stream.read_exact(&mut [0; 6]).unwrap();
        stream.write_all(b"part").unwrap();
        reset(stream);
    });
    let explaining = explain(&[], &host.place());
    let ran = run(&mut adit(&[explaining.place("tcp")]), b"hello\n");
    ran.assert_failed(1, "reset");
    let drawn = interrupt(explaining).text();
    assert_in_order(&drawn, &["4 B \"part\"", "reset"]);

    let (_held, nobody) = no_port();
    let explaining = explain(&[], &nobody.to_string());
    run(&mut adit(&[explaining.place("tcp")]), b"hello\n").assert_failed(1, "reset");
    let drawn = interrupt(explaining).text();
    assert!(drawn.contains("refused"), "{drawn}");
}

#[test]
fn datagrams_are_drawn_one_by_one() {
    let server = serve(&["upper", "udp://127.0.0.1:0"]);
    let explaining = explain(&[], &format!("udp://{}", server.place("udp")));
    let ran = run(&mut adit(&["-u", explaining.place("udp")]), b"one\n\nthree\n");
    ran.assert_clean("ONE\n\nTHREE\n");
    let drawn = interrupt(explaining).text();
    for arrow in ["#0 3 B \"one\"", "#1 0 B", "#2 5 B \"three\"", "#2 5 B \"THREE\""] {
        assert!(drawn.contains(arrow), "no {arrow} in\n{drawn}");
    }
}

#[test]
fn several_clients_are_drawn_each_with_its_number() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let explaining = explain(&[], server.place("tcp"));
    let mut clients: Vec<_> = (0..3).map(|_| client(explaining.tcp())).collect();
    for (number, peer) in clients.iter_mut().enumerate() {
        peer.write_all(format!("client {number}\n").as_bytes()).unwrap();
    }
    for (number, peer) in clients.iter_mut().enumerate() {
        finish(peer);
        assert_eq!(read_to_end(peer), format!("CLIENT {number}\n").as_bytes());
    }
    let drawn = interrupt(explaining).text();
    for number in 1..=3 {
        assert!(drawn.contains(&format!("conversation {number} ")), "{drawn}");
    }
}

#[test]
fn events_go_to_standard_output_for_programs() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let explaining = explain(&["--json"], server.place("tcp"));
    run(&mut adit(&[explaining.place("tcp")]), b"hello\n").assert_clean("HELLO\n");
    let lines = interrupt(explaining).text();
    for (number, line) in lines.lines().enumerate() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["n"], number, "{line}");
    }
    assert!(lines.contains(r#""role":"client","off":[0,6],"dir":"out""#), "{lines}");
}

#[test]
fn nobody_who_reads_the_picture_ends_it_quietly() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let scratch = Scratch::new();
    let path = scratch.join("door");
    let mut command = adit(&["explain", "--quiet", &path, server.place("tcp")]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut program = Program::of(child);
    run(&mut adit(&["wait", &path]), b"").assert_clean("");
    run(&mut adit(&[&path]), b"hello\n");
    let ran = program.wait();
    assert_eq!((ran.status, ran.err.as_str()), (141, ""));
}

/// The traces of a server and a client of one conversation.
fn traces(scratch: &Scratch) -> [String; 2] {
    let [at_server, at_client] = ["server", "client"].map(|name| scratch.join(name) + ".jsonl");
    let server_flag = format!("--trace={at_server}");
    let server =
        serve(&["upper", "127.0.0.1:0", "udp://127.0.0.1:0", &server_flag, "--payload=64"]);
    let client_flag = format!("--trace={at_client}");
    let ran = run(&mut adit(&[server.place("tcp"), &client_flag, "--payload=64"]), b"hello\n");
    assert_eq!((ran.status, ran.text().as_str(), ran.err.as_str()), (0, "HELLO\n", ""));
    assert_eq!(server.stop().status, 0);
    [at_server, at_client]
}

#[test]
fn the_traces_of_both_ends_are_one_picture() {
    let scratch = Scratch::new();
    let [at_server, at_client] = traces(&scratch);
    for files in [[&at_server, &at_client], [&at_client, &at_server]] {
        let drawn = draw(&files.map(String::as_str));
        assert!(drawn.contains("seen by the client and the server"), "{drawn}");
        assert!(drawn.contains("6 B \"hello\\n\"") && drawn.contains("1 write, 1 read"), "{drawn}");
    }
    let alone = draw(&[&at_client]);
    assert!(alone.contains("seen by the client"), "{alone}");
    assert!(alone.contains("not checked: "), "what nobody saw is never said to be right: {alone}");
}

#[test]
fn every_view_and_every_format_is_made_of_a_saved_trace() {
    let scratch = Scratch::new();
    let [at_server, at_client] = traces(&scratch);
    for view in ["sequence", "steps", "ruler", "streams", "layers", "hosts"] {
        let drawn = draw(&[&at_server, &at_client, "--view", view]);
        assert!(drawn.lines().count() > 5, "{view}: {drawn}");
        assert!(drawn.lines().all(|line| line.chars().count() <= 80), "{view}: {drawn}");
    }
    for (ending, begins) in [
        ("txt", &b"adit "[..]),
        ("svg", b"<svg "),
        ("html", b"<!doctype html>"),
        ("jsonl", b"{\"v\":1,\"n\":0,"),
        ("pcapng", b"\x0a\x0d\x0d\x0a"),
        ("mmd", b"sequenceDiagram"),
    ] {
        let path = scratch.join(&format!("picture.{ending}"));
        let ran = run(&mut adit(&["explain", &at_server, &at_client, "--out", &path]), b"");
        assert_eq!((ran.status, ran.text().as_str()), (0, ""), "{ending}: {}", ran.err);
        assert!(ran.err.starts_with("written: "), "{}", ran.err);
        assert!(std::fs::read(&path).unwrap().starts_with(begins), "{ending}");
    }
    // What was written can be read again, and says the same.
    let again = draw(&[&scratch.join("picture.jsonl"), "--view=steps"]);
    assert_eq!(again, draw(&[&at_server, &at_client, "--view=steps"]));
    let captured = draw(&[&scratch.join("picture.pcapng")]);
    assert!(captured.contains("6 B \"hello\\n\""), "{captured}");
}

#[test]
fn one_conversation_of_many_is_drawn_in_every_format() {
    let scratch = Scratch::new();
    let trace = scratch.join("server.jsonl");
    let server = serve(&["upper", "127.0.0.1:0", &format!("--trace={trace}"), "--payload=64"]);
    for text in ["first\n", "second\n"] {
        run(&mut adit(&[server.place("tcp")]), text.as_bytes());
    }
    assert_eq!(server.stop().status, 0);
    for ending in ["txt", "svg", "html", "jsonl", "mmd", "pcapng"] {
        let path = scratch.join(&format!("one.{ending}"));
        let ran = run(&mut adit(&["explain", &trace, "--conn=2", "--out", &path]), b"");
        assert_eq!(ran.status, 0, "{ending}: {}", ran.err);
        let picture = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        assert!(picture.contains("second") && !picture.contains("first\\n"), "{ending}");
        assert!(!picture.contains("FIRST"), "{ending}");
    }
    let ran = run(&mut adit(&["explain", &trace, "--conn=3"]), b"");
    ran.assert_failed(2, "usage");
}

#[test]
fn a_trace_that_is_cut_anywhere_is_drawn_as_far_as_it_goes() {
    let scratch = Scratch::new();
    let [at_server, _] = traces(&scratch);
    let whole = std::fs::read(&at_server).unwrap();
    let path = scratch.join("cut.jsonl");
    let first_line = whole.iter().position(|byte| *byte == b'\n').unwrap();
    for bytes in (first_line + 1..whole.len()).step_by(97) {
        std::fs::write(&path, &whole[..bytes]).unwrap();
        let drawn = draw(&[&path]);
        let is_cut = ![whole[bytes - 1], whole[bytes]].contains(&b'\n');
        assert_eq!(drawn.contains("ends in the middle of a line"), is_cut, "{bytes}: {drawn}");
    }
}

#[test]
fn what_is_no_trace_says_what_is_wrong_with_it() {
    let scratch = Scratch::new();
    let file = |name: &str, bytes: &[u8]| {
        let path = scratch.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let rows = [
        (file("empty", b""), "it is empty"),
        (file("text", b"hello\n"), "line 1"),
        (file("other.json", b"{\"a\":1}\n"), "the field \"v\" is missing"),
        (file("later", b"{\"v\":2,\"n\":0,\"t\":0,\"ev\":\"trace\"}\n"), "schema version 2"),
    ];
    for (path, says) in rows {
        let ran = run(&mut adit(&["explain", &path]), b"");
        ran.assert_failed(2, "usage");
        assert!(ran.err.contains(says), "{}", ran.err);
        assert_eq!(ran.text(), "");
    }
    let scratch_traces = Scratch::new();
    let [first, _] = traces(&scratch_traces);
    let other = Scratch::new();
    let [_, second] = traces(&other);
    let ran = run(&mut adit(&["explain", &first, &second]), b"");
    ran.assert_failed(2, "usage");
    assert!(ran.err.contains("no conversation in common"), "{}", ran.err);
}

#[test]
fn what_a_peer_says_stays_text_in_every_picture() {
    let scratch = Scratch::new();
    let path = scratch.join("hostile.jsonl");
    let server = serve(&["echo", "127.0.0.1:0"]);
    let flag = format!("--trace={path}");
    let hostile = b"\x1b]52;c;AAAA\x07</script><img src=x onerror=alert(1)>\x1b[2J\xe2\x80\xae\n";
    let ran = run(&mut adit(&[server.place("tcp"), &flag, "--payload=200"]), hostile);
    assert_eq!(ran.status, 0);
    for view in ["sequence", "steps", "ruler", "streams", "layers", "hosts"] {
        let drawn = draw(&[&path, "--view", view]);
        assert!(drawn.chars().all(|char| char == '\n' || !char.is_control()), "{drawn:?}");
        assert!(!drawn.contains('\u{202e}'), "{drawn:?}");
    }
    for ending in ["svg", "html"] {
        let out = scratch.join(&format!("hostile.{ending}"));
        run(&mut adit(&["explain", &path, "--out", &out]), b"");
        let page = std::fs::read_to_string(out).unwrap();
        assert!(!page.contains("<img") && !page.contains("\u{1b}"), "markup in {ending}");
    }
}

#[test]
fn a_picture_that_cannot_be_written_is_an_error_and_the_conversation_was_none() {
    let scratch = Scratch::new();
    let [trace, _] = traces(&scratch);
    for (out, says) in [("/nonexistent/p.svg", "cannot write"), ("picture", "does not say what")] {
        let ran = run(&mut adit(&["explain", &trace, "--out", out]), b"");
        ran.assert_failed(2, "usage");
        assert!(ran.err.contains(says), "{}", ran.err);
    }
}

#[test]
fn the_demo_draws_what_it_has_done() {
    let scratch = Scratch::new();
    let path = scratch.join("demo.html");
    let ran = run(&mut adit(&["demo", "--out", &path]), b"hello\nworld\n");
    assert_eq!(ran.status, 0, "{}", ran.err);
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("5 conversations"), "no page");
    let offered = run(&mut adit(&["demo"]), b"hello\n");
    assert!(offered.text().contains("adit demo --out demo.html"), "{}", offered.text());
}

#[test]
fn a_datagram_target_that_is_not_there_is_drawn_as_unreachable() {
    let deaf = bounded_udp(UdpSocket::bind("127.0.0.1:0").unwrap());
    deaf.connect("127.0.0.1:9").unwrap();
    let explaining = explain(&[], &format!("udp://{}", deaf.local_addr().unwrap()));
    run(&mut adit(&["-u", explaining.place("udp"), "--linger=300ms"]), b"hello\n");
    let drawn = interrupt(explaining).text();
    assert!(drawn.contains("refused"), "{drawn}");
}

#[test]
fn a_file_that_cannot_be_written_is_known_before_the_conversation() {
    let (scratch, (_held, nobody)) = (Scratch::new(), no_port());
    let flag = format!("--out={}", scratch.join("missing/picture.svg"));
    let ran = run(&mut adit(&["explain", &flag, "127.0.0.1:0", &nobody.to_string()]), b"");
    ran.assert_failed(2, "usage");
    assert!(!ran.err.contains("listening"), "{}", ran.err);
}
