//! UDP: lengths, empty messages, several peers, and from where the answer comes.

use std::net::{Ipv4Addr, SocketAddr};

use crate::common::{Program, adit, bounded_udp, noise, run, serve, udp_socket};
use crate::peers::{
    Words, assert_done, at, is_here, is_measured, listening, own_address, own_port, tool,
    wait_for_count,
};

/// Clients that wait for an answer as long as their input is open.
const CLIENTS: [Words; 3] = [
    &["nc", "-nu", "HOST", "PORT"],
    &["ncat", "-nu", "HOST", "PORT"],
    &["socat", "-b65536", "-", "UDP:HOST:PORT"],
];

/// Servers that print what comes, with the longest datagram that each takes whole.
const PRINTERS: [(Words, usize); 4] = [
    (&["nc", "-lnvu", "HOST", "PORT"], 16_384),
    (&["ncat", "-lnvu", "HOST", "PORT"], 65_507),
    (&["socat", "-d", "-d", "-", "UDP-LISTEN:PORT,bind=HOST"], 8192),
    (&["socat", "-d", "-d", "-b65536", "-", "UDP-LISTEN:PORT,bind=HOST"], 65_507),
];

/// An echo for many peers.
const SOCAT_ECHO: Words =
    &["socat", "-d", "-d", "-b65536", "UDP-RECVFROM:PORT,bind=HOST,fork", "PIPE"];

fn udp(address: SocketAddr) -> String {
    format!("udp://{address}")
}

/// Messages as `--frame len32` has them.
fn len32(messages: &[&[u8]]) -> Vec<u8> {
    let length = |msg: &[u8]| u32::try_from(msg.len()).unwrap().to_be_bytes();
    messages.iter().flat_map(|msg| [&length(msg), *msg].concat()).collect()
}

#[test]
fn datagrams_of_every_length_go_to_adit_and_come_back() {
    // nc and ncat cut what is longer than their buffer into several datagrams; the bytes are the same.
    for words in CLIENTS.into_iter().filter(|words| is_here(words[0])) {
        for bytes in [1, 1472, 60_000] {
            let server = serve(&["echo", "-u", "127.0.0.1:0"]);
            let mut client = Program::start(&mut tool(words, server.udp()));
            let datagram = noise(1, bytes);
            client.write(&datagram);
            assert!(client.out.wait_for_bytes(bytes) == datagram, "{bytes} of {words:?}");
        }
    }
}

#[test]
fn a_datagram_longer_than_its_buffer_is_cut_into_several_by_nc_and_ncat() {
    for (words, longest) in [(CLIENTS[0], 16_384), (CLIENTS[1], 8192)] {
        if !is_measured(words[0]) {
            continue;
        }
        let server = serve(&["discard", "-u", "127.0.0.1:0", "--json"]);
        let mut client = Program::start(&mut tool(words, server.udp()));
        // One write of less than a pipe takes is one read, or as much of it as fits.
        client.write(&noise(2, 60_000));
        wait_for_count(&server.program.err, "\"dir\":\"in\"", 60_000_usize.div_ceil(longest));
        let said = server.program.err.text();
        let whole = said.matches(&format!("\"len\":{longest}")).count();
        assert_eq!(whole, 60_000 / longest, "{words:?}: {said}");
    }
}

#[test]
fn datagrams_of_adit_arrive_as_far_as_they_take_them() {
    let sizes = [1, 1472, 9000, 20_000, 60_000];
    for (words, longest) in PRINTERS.into_iter().filter(|(words, _)| is_measured(words[0])) {
        let address = own_address();
        let theirs = listening(words, address);
        let mut client =
            Program::start(&mut adit(&[&udp(address), "--frame=len32", "--send-only"]));
        let mut expected = Vec::new();
        // One after the other: while they connect to their first peer, a datagram may be lost.
        for bytes in sizes {
            let datagram = noise(3, bytes);
            client.write(&len32(&[&datagram]));
            expected.extend_from_slice(&datagram[..bytes.min(longest)]);
            assert!(theirs.out.wait_for_bytes(expected.len()) == expected, "{bytes} {words:?}");
        }
        client.end_input();
        client.wait().assert_clean("");
    }
}

#[test]
fn socat_sends_datagrams_of_every_length_back_to_every_peer() {
    if !is_here(SOCAT_ECHO[0]) {
        return;
    }
    let address = own_address();
    let _theirs = listening(SOCAT_ECHO, address);
    for bytes in [1, 1472, 60_000] {
        let datagram = noise(4, bytes);
        let ran = run(&mut adit(&[&udp(address), "--frame=whole"]), &datagram);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""));
        assert!(ran.out == datagram, "{} of {bytes} bytes came back", ran.out.len());
    }
}

#[test]
fn an_empty_datagram_ends_nc_and_socat_and_not_ncat() {
    for (words, _) in PRINTERS.into_iter().filter(|(words, _)| is_measured(words[0])) {
        let address = own_address();
        let mut theirs = listening(words, address);
        let mut client = Program::start(&mut adit(&[&udp(address), "--send-only"]));
        client.write(b"\n");
        if words[0] == "ncat" {
            client.write(b"after\n");
            theirs.out.wait_for("after");
        } else {
            // Nobody has ended its input.
            assert_done(&theirs.wait(), "", words);
        }
    }
}

#[test]
fn three_of_each_of_their_clients_are_served_at_once() {
    let server = serve(&["upper", "-u", "127.0.0.1:0"]);
    let here: Vec<_> = CLIENTS.into_iter().filter(|words| is_here(words[0])).collect();
    let start = |words: &Words| Program::start(&mut tool(words, server.udp()));
    let mut clients: Vec<_> = here.iter().cycle().take(3 * here.len()).map(start).collect();
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.write(format!("client {number} round {round}\n").as_bytes());
        }
        for (number, client) in clients.iter().enumerate() {
            client.out.wait_for(&format!("CLIENT {number} ROUND {round}\n"));
        }
    }
}

#[test]
fn of_several_adits_nc_ncat_and_socat_hear_only_the_first() {
    for (words, _) in PRINTERS.into_iter().filter(|(words, _)| is_measured(words[0])) {
        let address = own_address();
        let theirs = listening(words, address);
        let mut first = Program::start(&mut adit(&[&udp(address)]));
        first.write(b"one\n");
        theirs.out.wait_for("one");
        run(&mut adit(&[&udp(address)]), b"not heard\n").assert_failed(1, "refused");
        first.write(b"two\n");
        assert_eq!(theirs.out.wait_for("two"), "onetwo", "{words:?}");
    }
}

#[test]
fn several_adits_are_served_by_socat_and_ncat_that_fork() {
    let forking: [(Words, &str); 3] = [
        // One socket for all, which queues.
        (SOCAT_ECHO, ""),
        // Each takes the socket and makes a new one for the next peer, and says so.
        (&["socat", "-d", "-d", "UDP-LISTEN:PORT,bind=HOST,fork", "PIPE"], "listening on"),
        (&["ncat", "-lnvuk", "HOST", "PORT", "-c", "cat"], "Listening on"),
    ];
    for (words, again) in forking.into_iter().filter(|(words, _)| is_here(words[0])) {
        let address = own_address();
        let theirs = listening(words, address);
        let mut clients = Vec::new();
        for number in 1..=3 {
            let mut client = Program::start(&mut adit(&[&udp(address), "--linger=30s"]));
            let text = format!("client {number}\n");
            wait_for_count(&theirs.err, again, number);
            client.write(text.as_bytes());
            client.out.wait_for(&text);
            clients.push(client);
        }
    }
}

#[test]
fn three_lines_are_one_datagram_of_theirs_and_three_of_adit() {
    for words in CLIENTS.into_iter().filter(|words| is_measured(words[0])) {
        let socket = udp_socket();
        let to = socket.local_addr().unwrap();
        let mut client = Program::start(&mut tool(words, to));
        client.write(b"one\ntwo\nthree\n");
        let mut datagram = [0; 99];
        assert_eq!(socket.recv(&mut datagram).unwrap(), 14, "{words:?}");
        run(&mut adit(&[&udp(to), "--send-only"]), b"one\ntwo\nthree\n").assert_clean("");
        let lengths = [(); 3].map(|()| socket.recv(&mut datagram).unwrap());
        assert_eq!(lengths, [3, 3, 5]);
    }
}

#[test]
fn on_all_addresses_socat_and_ncat_answer_from_another_one_than_was_asked() {
    let everywhere: [Words; 2] = [
        &["socat", "-d", "-d", "UDP4-RECVFROM:PORT,fork", "PIPE"],
        &["ncat", "-lnvu4", "0.0.0.0", "PORT", "-c", "cat"],
    ];
    for words in everywhere.into_iter().filter(|words| is_measured(words[0])) {
        let port = own_port();
        let _theirs = listening(words, at("0.0.0.0", port));
        assert_eq!(answers_from(at("127.0.0.5", port)), at("127.0.0.1", port), "{words:?}");
    }
    let server = serve(&["echo", "udp://:0"]);
    let asked = at("127.0.0.5", server.udp().port());
    assert_eq!(answers_from(asked), asked);
}

/// Who answers a question to this address.
fn answers_from(asked: SocketAddr) -> SocketAddr {
    let socket = bounded_udp(std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    socket.send_to(b"who answers?", asked).unwrap();
    socket.recv_from(&mut [0; 99]).unwrap().1
}

#[test]
fn ncat_serves_many_over_udp_only_by_programs() {
    if is_measured("ncat") {
        let ran = run(&mut tool(&["ncat", "-lnuk", "HOST", "PORT"], own_address()), b"");
        assert_eq!((ran.status, ran.text().as_str()), (2, ""), "{ran:?}");
    }
}
