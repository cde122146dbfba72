//! Datagrams keep their edges, whatever their size; what is lost or refused is said.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use common::{
    DEADLINE, Program, Ran, Scratch, adit, bounded_udp, noise, run, serve, timed, udp_socket,
};

/// A client that hears only the address it asks.
fn client(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = bounded_udp(UdpSocket::bind(any).unwrap());
    socket.connect(server).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut datagram = vec![0; 1 << 16];
    let bytes = socket.recv(&mut datagram).unwrap();
    datagram.truncate(bytes);
    datagram
}

fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.send(question).unwrap();
    receive(socket)
}

fn place(socket: &UdpSocket) -> String {
    format!("udp://{}", socket.local_addr().unwrap())
}

/// `connect` over UDP to a socket of the test.
fn connect(socket: &UdpSocket, flags: &[&str], input: &[u8]) -> Ran {
    let mut command = adit(&[&place(socket)]);
    run(command.args(flags), input)
}

/// What has arrived at a socket whose client is done.
fn arrived(socket: &UdpSocket) -> Vec<Vec<u8>> {
    socket.set_nonblocking(true).unwrap();
    let mut all = Vec::new();
    let mut datagram = vec![0; 1 << 16];
    loop {
        match socket.recv(&mut datagram) {
            Ok(bytes) => all.push(datagram[..bytes].to_vec()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Messages as `--frame len32` has them.
fn len32(messages: &[&[u8]]) -> Vec<u8> {
    let length = |msg: &[u8]| u32::try_from(msg.len()).unwrap().to_be_bytes();
    messages.iter().flat_map(|msg| [&length(msg), *msg].concat()).collect()
}

// Servers.

#[test]
fn five_peers_are_served_at_once() {
    let server = serve(&["upper", "-u", "0"]);
    let clients: Vec<_> = (0..5).map(|_| client(server.udp())).collect();
    for round in 0..3 {
        for (number, client) in clients.iter().enumerate() {
            client.send(format!("client {number} round {round}").as_bytes()).unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            let answer = format!("CLIENT {number} ROUND {round}");
            assert_eq!(receive(client), answer.as_bytes());
        }
    }
}

#[test]
fn five_clients_of_the_command_are_served_at_once() {
    let server = serve(&["upper", "-u", "0"]);
    let mut clients: Vec<_> = (0..5)
        .map(|_| Program::start(&mut adit(&["-u", server.place("udp"), "--linger=30s"])))
        .collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write(format!("number {number}\n").as_bytes());
        client.out.wait_for(&format!("NUMBER {number}\n"));
    }
    for client in &mut clients {
        client.end_input();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.wait().assert_clean(&format!("NUMBER {number}\n"));
    }
}

#[test]
fn an_empty_datagram_is_a_message_and_ends_nothing() {
    let server = serve(&["echo", "-u", "0"]);
    let first = client(server.udp());
    assert_eq!(ask(&first, b""), b"");
    assert_eq!(ask(&first, b"still here"), b"still here");
    assert_eq!(ask(&client(server.udp()), b"and for others"), b"and for others");
}

#[test]
fn a_server_by_hand_prints_an_empty_datagram_as_an_empty_line() {
    let mut server = serve(&["-u", "0"]);
    let peer = client(server.udp());
    for message in [&b"one"[..], b"", b"two"] {
        peer.send(message).unwrap();
    }
    server.program.out.wait_for("two\n");
    // An empty line that is typed is an empty datagram.
    server.program.write(b"\nanswer\n");
    assert_eq!((receive(&peer), receive(&peer)), (b"".to_vec(), b"answer".to_vec()));
    let ran = server.stop();
    assert_eq!((ran.status, ran.text().as_str()), (0, "one\n\ntwo\n"));
}

#[test]
fn large_datagrams_arrive_whole() {
    let server = serve(&["-u", "0", "--frame=whole"]);
    let peer = client(server.udp());
    let parts = [noise(1, 9_000), noise(2, 20_000), noise(3, 60_000)];
    for part in &parts {
        peer.send(part).unwrap();
    }
    server.program.out.wait_for_bytes(89_000);
    let ran = server.stop();
    assert!(ran.out == parts.concat(), "{} bytes came", ran.out.len());
}

#[test]
fn large_datagrams_are_sent_and_answered_whole() {
    let server = serve(&["echo", "-u", "0"]);
    let parts = [noise(1, 9_000), noise(2, 20_000), noise(3, 60_000), noise(4, 65_507)];
    let input = len32(&[&parts[0], &parts[1], &parts[2], &parts[3]]);
    let ran = run(&mut adit(&["-u", server.place("udp"), "--frame=len32"]), &input);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    // Datagrams may overtake each other in theory, on loopback they do not.
    assert!(ran.out == input, "{} of {} bytes came back", ran.out.len(), input.len());
}

#[test]
fn a_server_on_all_addresses_answers_from_the_one_that_was_asked() {
    let server = serve(&["echo", "-u", ":0"]);
    let port = server.udp().port();
    for host in ["127.0.0.1", "127.0.0.5", "[::1]"] {
        // A connected socket hears no other address.
        let peer = client(format!("{host}:{port}").parse().unwrap());
        assert_eq!(ask(&peer, b"who answers?"), b"who answers?", "{host}");
    }
}

// Clients.

#[test]
fn three_piped_lines_are_three_datagrams() {
    let socket = udp_socket();
    let ran = connect(&socket, &["--send-only"], b"one\ntwo\r\nthree");
    ran.assert_clean("");
    assert_eq!(arrived(&socket), [&b"one"[..], b"two", b"three"]);
}

#[test]
fn lines_are_datagrams_whatever_their_timing() {
    let socket = udp_socket();
    let mut program = Program::start(&mut adit(&[&place(&socket), "--send-only"]));
    for piece in [&b"o"[..], b"ne\ntw", b"o\n\nthr", b"ee\n"] {
        program.write(piece);
    }
    for message in [&b"one"[..], b"two", b"", b"three"] {
        assert_eq!(receive(&socket), message);
    }
    program.end_input();
    program.wait().assert_clean("");
}

#[test]
fn what_no_datagram_can_carry_is_refused_and_nothing_of_it_is_sent() {
    let socket = udp_socket();
    let line = [noise(5, 70_000).escape_ascii().to_string().as_bytes(), b"\n"].concat();
    for (flags, input) in [
        (&["--frame=line"][..], line),
        (&["--frame=whole"], noise(6, 70_000)),
        (&["--frame=len32"], len32(&[&noise(7, 70_000)])),
    ] {
        let ran = connect(&socket, flags, &input);
        ran.assert_failed(1, "too-big");
        assert!(ran.err.contains("--frame chunk:1200"), "{}", ran.err);
        assert_eq!(arrived(&socket).len(), 0, "{flags:?}");
    }
}

#[test]
fn a_closed_port_is_refused() {
    // Bound, so that nobody else gets the port, and deaf to everybody but one.
    let socket = udp_socket();
    socket.connect("127.0.0.1:9").unwrap();
    for flags in [&[][..], &["--linger=30s"]] {
        let ran = connect(&socket, flags, b"hello\n");
        ran.assert_failed(1, "refused");
        assert!(ran.err.contains("adit wait udp://"), "{}", ran.err);
    }
}

#[test]
fn a_silent_server_is_no_answer_unless_none_is_expected() {
    let socket = udp_socket();
    let (ran, took) = timed(|| connect(&socket, &["--linger=300ms"], b"hello\n"));
    ran.assert_failed(1, "no-answer");
    assert!(ran.err.contains("--send-only"), "{}", ran.err);
    assert!(took >= Duration::from_millis(300), "{took:?}");
    connect(&socket, &["--send-only"], b"hello\n").assert_clean("");
}

#[test]
fn an_answer_is_awaited_and_more_of_them_until_there_is_quiet() {
    let socket = udp_socket();
    let to = place(&socket);
    let server = std::thread::spawn(move || {
        let mut question = [0; 9];
        let (_, peer) = socket.recv_from(&mut question).unwrap();
        for answer in ["one", "two", "three"] {
            std::thread::sleep(Duration::from_millis(600));
            socket.send_to(answer.as_bytes(), peer).unwrap();
        }
    });
    run(&mut adit(&[&to]), b"hello\n").assert_clean("one\ntwo\nthree\n");
    server.join().unwrap();
}

#[test]
fn limits_of_the_user_end_with_124() {
    let socket = udp_socket();
    std::thread::scope(|scope| {
        for (flag, code) in [("--idle=300ms", "idle-timeout"), ("--max-time=300ms", "max-time")] {
            let to = place(&socket);
            scope.spawn(move || {
                let mut program = Program::start(&mut adit(&[&to, flag]));
                program.write(b"hello\n");
                program.wait().assert_failed(124, code);
            });
        }
    });
}

/// Sends so many datagrams back to whom they came from; gives them.
fn echo_datagrams(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
    let mut datagram = [0; 99];
    let mut echo = |_| {
        let (bytes, peer) = socket.recv_from(&mut datagram).unwrap();
        socket.send_to(&datagram[..bytes], peer).unwrap();
        datagram[..bytes].to_vec()
    };
    (0..count).map(&mut echo).collect()
}

#[test]
fn every_frame_cuts_input_into_messages_and_writes_them_back_alike() {
    /// A frame, its input, the messages on the wire, the output.
    type Row = (&'static str, &'static [u8], &'static [&'static [u8]], &'static [u8]);
    let rows: &[Row] = &[
        ("line", b"a b\r\n\nc", &[b"a b", b"", b"c"], b"a b\n\nc\n"),
        ("line-nl", b"a\r\n\nc\n", &[b"a\r\n", b"\n", b"c\n"], b"a\r\n\nc\n"),
        ("delim:--", b"a--b\n--", &[b"a", b"b\n"], b"a--b\n--"),
        ("null", b"a\0\0b\nc\0", &[b"a", b"", b"b\nc"], b"a\0\0b\nc\0"),
        ("len32", b"\0\0\0\x02hi\0\0\0\0", &[b"hi", b""], b"\0\0\0\x02hi\0\0\0\0"),
        ("fixed:3", b"abcdef", &[b"abc", b"def"], b"abcdef"),
        ("json", b"{\"a\":1}\n[2]\n", &[b"{\"a\":1}", b"[2]"], b"{\"a\":1}\n[2]\n"),
        ("hex", b"00ff 0a\n6869\n", &[b"\0\xff\n", b"hi"], b"00ff0a\n6869\n"),
        ("chunk:4", b"abcdefghij", &[b"abcd", b"efgh", b"ij"], b"abcdefghij"),
        ("whole", b"a\nb\0c", &[b"a\nb\0c"], b"a\nb\0c"),
    ];
    std::thread::scope(|scope| {
        for (frame, input, messages, output) in rows {
            scope.spawn(move || {
                let socket = udp_socket();
                let to = place(&socket);
                let server = std::thread::spawn(move || echo_datagrams(&socket, messages.len()));
                let ran = run(&mut adit(&[&to, "--frame", frame]), input);
                assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{frame}");
                assert_eq!(ran.text(), String::from_utf8_lossy(output), "{frame}");
                assert_eq!(server.join().unwrap(), *messages, "{frame}");
            });
        }
    });
}

#[test]
fn a_frame_that_cannot_be_is_refused_before_anything_is_sent() {
    let socket = udp_socket();
    for frame in ["raw", "no-such", "fixed:0", "chunk:x", "delim:"] {
        let ran = connect(&socket, &["--frame", frame], b"hello\n");
        ran.assert_failed(2, "usage");
        assert!(ran.err.contains("chunk:N"), "{}", ran.err);
    }
    let record = connect(&socket, &["--frame=len32"], b"\0\0\0\x09short");
    record.assert_failed(1, "truncated");
    connect(&socket, &["--frame=hex"], b"no digits\n").assert_failed(1, "bad-frame");
    assert_eq!(arrived(&socket).len(), 0);
}

#[test]
fn a_message_with_a_newline_inside_is_printed_whole_and_said() {
    let server = serve(&["echo", "-u", "0"]);
    let ran = run(&mut adit(&["-u", server.place("udp"), "--frame=line-nl"]), b"a\n");
    ran.assert_clean("a\n");
    let socket = udp_socket();
    let to = place(&socket);
    let host = std::thread::spawn(move || {
        let (_, peer) = socket.recv_from(&mut [0; 9]).unwrap();
        socket.send_to(b"two\nlines", peer).unwrap();
    });
    let ran = run(&mut adit(&[&to]), b"a\n");
    host.join().unwrap();
    assert_eq!((ran.status, ran.text().as_str()), (0, "two\nlines\n"));
    assert!(ran.err.contains("1 message with a newline inside"), "{}", ran.err);
}

// Unix datagram sockets.

#[test]
fn unix_datagrams_are_answered_to_a_client_without_a_name_of_its_own() {
    let scratch = Scratch::new();
    let path = format!("unix-dgram:{}", scratch.join("socket"));
    let abstract_name = format!("unix-dgram:@{}", scratch.join("name"));
    for address in [&path, &abstract_name] {
        let server = serve(&["echo", address]);
        let ran = run(&mut adit(&[address]), b"one\n\ntwo\n");
        ran.assert_clean("one\n\ntwo\n");
        drop(server);
    }
}

#[test]
fn large_unix_datagrams_arrive_whole() {
    let scratch = Scratch::new();
    let path = scratch.join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let message = noise(8, 60_000);
    let address = format!("unix-dgram:{path}");
    let ran = run(&mut adit(&[&address, "--frame=whole", "--send-only"]), &message);
    ran.assert_clean("");
    let mut datagram = vec![0; 1 << 16];
    let bytes = socket.recv(&mut datagram).unwrap();
    assert!(datagram[..bytes] == message, "{bytes} bytes came");
}

#[test]
fn a_unix_datagram_socket_that_is_not_there_is_refused() {
    let scratch = Scratch::new();
    let address = format!("unix-dgram:{}", scratch.join("nobody"));
    run(&mut adit(&[&address]), b"hello\n").assert_failed(1, "refused");
    // Somebody has left it behind.
    drop(UnixDatagram::bind(scratch.join("nobody")).unwrap());
    run(&mut adit(&[&address]), b"hello\n").assert_failed(1, "refused");
}
