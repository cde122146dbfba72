//! The slides that are pictures: where the same can be seen, happening.

use crate::common::{adit, run, serve};
use crate::look::{events, number, of_kind};

/// What `adit demo` shows of one line of input.
fn demo() -> String {
    let ran = run(&mut adit(&["demo"]), b"hello\n");
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    ran.text()
}

/// All of them are there, in this order.
#[track_caller]
fn assert_in_order(text: &str, steps: &[&str]) {
    let mut rest = text;
    for step in steps {
        let at = rest.find(step).unwrap_or_else(|| panic!("no {step:?} in time: {text}"));
        rest = &rest[at + step.len()..];
    }
}

#[test]
fn lecture_s25_the_demo_acts_out_the_diagram_of_tcp_from_socket_to_close() {
    assert_in_order(
        &demo(),
        &[
            "The server process must first be running",
            "adit serve upper tcp://127.0.0.1:0",
            "welcomeSocket",
            "waiting for clients",
            "adit connect 127.0.0.1:",
            "connectionSocket 1",
            "connectionSocket 3",
            "-> HELLO",
            "5. Close",
            "finished 5 conversations, cut 0, exit 0",
        ],
    );
}

#[test]
fn lecture_s34_the_demo_acts_out_the_diagram_of_udp_with_one_server_socket() {
    let steps = [
        "serverSocket",
        "no handshake",
        "adit connect udp://",
        "from port",
        "-> HELLO",
        "5. Close",
    ];
    let told = demo();
    assert_in_order(&told, &steps);
    assert_eq!(told.matches("serverSocket").count(), 1);
}

#[test]
fn lecture_s28_the_streams_of_the_picture_are_counted() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let ran = run(&mut adit(&["connect", "--json", server.place("tcp")]), b"hello\n");
    let told = events(&ran.err);
    let close = of_kind(&told, "close").next().unwrap();
    // inFromUser and outToServer, inFromServer, and what the monitor shows.
    assert_eq!((number(close, "out"), number(close, "in"), ran.out.len()), (6, 6, 6));
}

#[test]
fn lecture_s35_one_packet_goes_out_and_one_comes_in() {
    let server = serve(&["upper", "udp://127.0.0.1:0"]);
    let ran = run(&mut adit(&["connect", "-u", "--json", server.place("udp")]), b"hello\n");
    let told = events(&ran.err);
    let packets: Vec<_> = of_kind(&told, "data")
        .map(|data| (data["dir"].as_str().unwrap(), number(data, "seq"), number(data, "len")))
        .collect();
    assert_eq!(packets, [("out", 0, 5), ("in", 0, 5)]);
}
