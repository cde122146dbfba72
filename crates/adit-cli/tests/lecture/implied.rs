//! What follows from the lecture without being said there: how things end, and what is left behind.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use adit::prelude::*;
use adit::system::unread;
use adit::{Code, Dial};
use socket2::{Domain, Type};

use crate::common::{DEADLINE, accept, adit, bounded, host, run, serve, udp_socket};
use crate::look::{Socket, sockets, until, watch};
use crate::udp::deaf_socket;

const ANSWER: usize = 600_000;

/// The server closes with five bytes unread: its system resets the connection, and what was still on
/// its way to the client is gone. The client prints what came and does not take it for the whole.
#[test]
fn lecture_implied_a_close_with_unread_data_is_a_reset_and_the_client_says_so() {
    let careless = host(|listener| {
        let mut connection = accept(&listener);
        connection.read_exact(&mut [0; 5]).unwrap();
        connection.write_all(&[b'x'; ANSWER]).unwrap();
        until("5 bytes unread", || unread(&connection).unwrap() == 5);
        drop(connection);
    });
    let ran = run(&mut adit(&["connect", &careless.place()]), b"1234567890");
    ran.assert_failed(1, "reset");
    assert!(ran.out.len() <= ANSWER && ran.out.iter().all(|byte| *byte == b'x'));
    careless.finish();
}

/// adit's own server ends its direction first, reads what still comes, and only then closes.
#[test]
fn lecture_implied_adits_server_closes_so_that_the_whole_answer_arrives() {
    struct Answers;
    impl Handler for Answers {
        fn message(&mut self, _msg: &[u8], out: &mut Out<'_>) -> Answer {
            out.send(vec![b'x'; ANSWER]);
            Answer::Close
        }
    }
    let server = Server::new(each(|_| Answers)).listen("tcp://127.0.0.1:0", Lines::new());
    let server = server.start().unwrap();
    let mut client = bounded(TcpStream::connect(server.addr(0).socket_addr().unwrap()).unwrap());
    client.write_all(b"request\n5more").unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), ANSWER + 1);
}

#[test]
fn lecture_implied_a_server_restarts_while_old_connections_wait_out_their_time() {
    // A service that closes first: its side of the connection waits.
    let server = serve(&["daytime", "127.0.0.1:0"]);
    let address = server.tcp();
    let mut client = bounded(TcpStream::connect(address).unwrap());
    client.read_to_end(&mut Vec::new()).unwrap();
    drop(client);
    let waits = || {
        let ours = |socket: &Socket| socket.local == address && socket.waits_out_its_time();
        sockets("tcp").iter().any(ours)
    };
    until("TIME_WAIT", waits);
    assert_eq!(server.stop().status, 0);
    // Without SO_REUSEADDR the port cannot be had.
    let plain = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let refused = plain.bind(&address.into()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrInUse);
    let server = serve(&["daytime", &address.to_string()]);
    assert_eq!(server.tcp(), address);
    assert!(waits(), "the old connection is still there");
}

#[tokio::test]
async fn lecture_implied_a_connected_udp_socket_hears_of_nobody_at_its_second_send() {
    let nobody = deaf_socket();
    let address = nobody.local_addr().unwrap();
    let client_socket = Dial::new().datagrams(format!("udp://{address}")).await.unwrap();
    client_socket.send(b"first").await.unwrap();
    let error = client_socket.send(b"second").await.unwrap_err();
    assert_eq!(adit::code_of(&error), Code::Refused);
    // An unconnected socket is told nothing, neither then nor later.
    let unconnected = udp_socket();
    for _ in 0..2 {
        unconnected.send_to(b"nobody there", address).unwrap();
    }
    unconnected.set_nonblocking(true).unwrap();
    assert_eq!(unconnected.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// The server's socket is not connected either, and hears it all the same (ip(7), `IP_RECVERR`); it ends
/// that peer and nothing else.
#[test]
fn lecture_implied_a_udp_server_hears_of_a_client_that_is_gone_and_goes_on() {
    let (watch, seen) = watch();
    let (gone, is_gone) = sync_channel::<()>(0);
    let is_gone = Arc::new(Mutex::new(is_gone));
    let echo = fast(move |msg, out| {
        if msg == b"and away" {
            is_gone.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        }
        out.send(msg);
    });
    let server = Server::new(echo).threads(1).observe(watch).listen_datagrams("udp://127.0.0.1:0");
    let server = server.start().unwrap();
    let address = server.addr(0).socket_addr().unwrap();
    let client = udp_socket();
    client.send_to(b"and away", address).unwrap();
    drop(client);
    gone.send(()).unwrap();
    assert_eq!(seen.next("error")["code"], "refused");
    let client = udp_socket();
    client.send_to(b"still there?", address).unwrap();
    assert_eq!(client.recv(&mut [0; 100]).unwrap(), 12);
}

#[test]
fn lecture_implied_at_its_limit_a_server_lets_newcomers_wait_and_refuses_nobody() {
    let server = serve(&["echo", "127.0.0.1:0", "--max-conns=2"]);
    let mut clients: Vec<_> =
        (0..8).map(|_| bounded(TcpStream::connect(server.tcp()).unwrap())).collect();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    for mut client in clients {
        // Those in front leave, and the next ones get in.
        client.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(server.stop().status, 0);
}
