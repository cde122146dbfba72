//! Slides 9 to 12, sockets with UDP: no connection, an address on every datagram, and no promise.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use adit::prelude::*;

use crate::common::{DEADLINE, Program, Server as Served, adit, run, serve, udp_socket};
use crate::look::{events, number, of_kind, sockets_of, watch};

/// Sends a datagram and waits for the next one, with its sender.
fn ask(socket: &UdpSocket, server: SocketAddr, text: &str) -> (String, SocketAddr) {
    socket.send_to(text.as_bytes(), server).unwrap();
    let mut answer = [0; 2000];
    let (bytes, from) = socket.recv_from(&mut answer).unwrap();
    (String::from_utf8(answer[..bytes].to_vec()).unwrap(), from)
}

/// A socket that hears one address only, which never speaks: to everybody else its port is closed, and
/// nobody can take it.
pub(crate) fn deaf_socket() -> UdpSocket {
    let socket = udp_socket();
    socket.connect("127.0.0.1:9").unwrap();
    socket
}

fn udp_sockets(server: &Served) -> usize {
    sockets_of(server.program.id(), "udp").len()
}

#[test]
fn lecture_s30_the_first_packet_is_data_and_no_client_gets_a_socket_of_its_own() {
    // What the client sends first, seen by a socket that answers nothing: the line itself.
    let socket = udp_socket();
    let place = socket.local_addr().unwrap().to_string();
    run(&mut adit(&["connect", "-u", "--send-only", &place]), b"hello\n").assert_clean("");
    let mut first = [0; 100];
    let bytes = socket.recv(&mut first).unwrap();
    assert_eq!(&first[..bytes], b"hello");

    // A server has one socket for each of its threads, and none more for 50 clients.
    let server = serve(&["upper", "udp://127.0.0.1:0"]);
    let before = udp_sockets(&server);
    let clients: Vec<_> = (0..50).map(|_| udp_socket()).collect();
    for client in &clients {
        assert_eq!(ask(client, server.udp(), "hello").0, "HELLO");
    }
    assert_eq!(udp_sockets(&server), before);
}

/// Who only sends is not bothered by answers, however early they come.
#[test]
fn lecture_s30_an_answer_to_a_client_that_only_sends_is_not_printed() {
    let socket = udp_socket();
    let place = socket.local_addr().unwrap().to_string();
    let mut client = Program::start(&mut adit(&["connect", "-u", "--send-only", "--json", &place]));
    client.write(b"hello\n");
    let (_, from) = socket.recv_from(&mut [0; 100]).unwrap();
    socket.send_to(b"an answer", from).unwrap();
    client.err.wait_for("\"dir\":\"in\"");
    client.end_input();
    let ran = client.wait();
    assert_eq!((ran.status, ran.text().as_str()), (0, ""));
}

#[test]
fn lecture_s31_one_client_socket_talks_to_two_servers_because_each_datagram_says_where_to() {
    let servers: [_; 2] = std::array::from_fn(|_| serve(&["echo", "udp://127.0.0.1:0", "--json"]));
    let client = udp_socket();
    for number in 0..20 {
        let server = servers[number % 2].udp();
        let (answer, from) = ask(&client, server, &number.to_string());
        assert_eq!((answer, from), (number.to_string(), server));
    }
    let client = client.local_addr().unwrap().to_string();
    for server in servers {
        let told = events(&server.stop().err);
        let (sent, came): (Vec<_>, Vec<_>) =
            of_kind(&told, "data").partition(|event| event["dir"] == "out");
        assert_eq!((sent.len(), came.len()), (10, 10), "each gets its half");
        assert!(sent.iter().all(|event| event["peer"] == client), "every send says where to");
    }
}

#[test]
fn lecture_s31_the_command_says_where_every_datagram_goes() {
    let server = serve(&["echo", "udp://127.0.0.1:0"]);
    let ran = run(&mut adit(&["connect", "-u", "--json", server.place("udp")]), b"a\nbb\n\n");
    let told = events(&ran.err);
    let sent: Vec<_> = of_kind(&told, "data").filter(|event| event["dir"] == "out").collect();
    let lengths: Vec<_> = sent.iter().map(|event| number(event, "len")).collect();
    assert_eq!((ran.status, lengths), (0, vec![1, 2, 0]));
    assert!(sent.iter().all(|event| event["peer"] == server.place("udp")), "{sent:?}");
}

#[test]
fn lecture_s32_the_handler_is_given_the_address_of_each_of_50_senders() {
    struct WhoAsks(String);
    impl Handler for WhoAsks {
        fn message(&mut self, _msg: &[u8], out: &mut Out<'_>) -> Answer {
            out.send(&self.0);
            Answer::Done
        }
    }
    let who = each(|peer: &Peer| WhoAsks(peer.remote().place_text()));
    let server = Server::new(who).listen_datagrams("udp://127.0.0.1:0").start().unwrap();
    let address = server.addr(0).socket_addr().unwrap();
    let clients: Vec<_> = (0..50).map(|_| udp_socket()).collect();
    let mut seen = BTreeSet::new();
    for client in clients.iter().chain(clients.iter().rev()) {
        let (answer, from) = ask(client, address, "who am I?");
        assert_eq!((&answer, from), (&client.local_addr().unwrap().to_string(), address));
        seen.insert(answer);
    }
    assert_eq!(seen.len(), 50);
}

#[test]
fn lecture_s32_the_answer_comes_from_the_address_the_client_has_asked() {
    let server = serve(&["echo", "udp://0.0.0.0:0"]);
    let port = server.udp().port();
    for host in ["127.0.0.1", "127.0.0.5", "127.1.2.3"] {
        let asked = SocketAddr::new(host.parse().unwrap(), port);
        assert_eq!(ask(&udp_socket(), asked, "hello"), ("hello".to_owned(), asked));
        // The command hears nobody but the address it has asked.
        let ran = run(&mut adit(&["connect", "-u", &asked.to_string()]), b"hello\n");
        ran.assert_clean("hello\n");
    }
}

/// A server with one thread, whose handler keeps it busy until the test lets go: meanwhile datagrams
/// pile up in the receive queue, which has room for some of them.
#[test]
fn lecture_s42_what_the_receive_queue_had_no_room_for_is_counted_to_the_datagram() {
    const BURST: u64 = 1000;
    let (watch, seen) = watch();
    let (busy, is_busy) = sync_channel(1);
    let (let_go, told) = sync_channel::<()>(0);
    let told = Arc::new(Mutex::new(told));
    let sleeper = fast(move |msg, _out| {
        if msg == b"sleep" {
            busy.send(()).unwrap();
            told.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        }
    });
    let server = Server::new(sleeper)
        .threads(1)
        .observe(watch)
        .listen_datagrams("udp://127.0.0.1:0,rcvbuf=64kB")
        .start()
        .unwrap();
    let client = udp_socket();
    client.connect(server.addr(0).socket_addr().unwrap()).unwrap();
    client.send(b"sleep").unwrap();
    is_busy.recv_timeout(DEADLINE).unwrap();
    for number in 0..BURST {
        client.send(format!("{number:04}{:96}", "").as_bytes()).unwrap();
    }
    let_go.send(()).unwrap();
    // At its end the server takes what the queue still holds, and asks the kernel once more.
    let stats = drained(server);
    let told = seen.so_far();
    let mut came: Vec<_> = of_kind(&told, "data").collect();
    assert_eq!(came.remove(0)["text"], "sleep");
    // What came is a part of what was sent, each whole, here even in order.
    assert!(came.iter().all(|data| number(data, "len") == 100));
    assert!(came.is_sorted_by_key(|data| data["text"].to_string()));
    let drops = of_kind(&told, "limit").inspect(|limit| assert_eq!(limit["name"], "receive-queue"));
    let lost: u64 = drops.map(|limit| number(limit, "count")).sum();
    assert!(lost > 0 && !came.is_empty(), "{lost} lost");
    assert_eq!((came.len() as u64 + lost, stats.dropped), (BURST, lost));
}

/// The counts of a server at its end.
fn drained(server: adit::Running) -> adit::Stats {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.drain_with_stats(DEADLINE)).1
}

#[test]
fn lecture_s42_a_datagram_to_nobody_is_refused_and_one_without_answer_says_so() {
    // Nobody has the port: the system of the host says so.
    let nobody = deaf_socket();
    let nobody = nobody.local_addr().unwrap();
    let ran = run(&mut adit(&["connect", "-u", &nobody.to_string()]), b"hello\n");
    ran.assert_failed(1, "refused");
    // Somebody has it and answers nothing: lost on the wire, or not worth an answer, cannot be told.
    let silent = udp_socket();
    let place = silent.local_addr().unwrap().to_string();
    let ran = run(&mut adit(&["connect", "-u", "--linger=300ms", &place]), b"a\nb\n");
    ran.assert_failed(1, "no-answer");
    assert!(ran.err.contains("sent 2 datagrams"), "{}", ran.err);
}
