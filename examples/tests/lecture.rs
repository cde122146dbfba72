//! The lecture's programs as real processes: every client talks to every server.

mod common;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener};

use common::{Program, accept, ask, read_line, read_to_end, tcp_client, udp_socket};

const TCP_SERVERS: [&str; 3] = ["std_tcp_server", "std_tcp_server_concurrent", "adit_server"];
const UDP_SERVERS: [&str; 2] = ["std_udp_server", "adit_server"];

/// Starts a server of both transports or of one; gives where it listens with this one.
fn serve(server: &str, transport: &str) -> (Program, SocketAddr) {
    let program = Program::serve(server);
    let first = if server == "adit_server" { "tcp" } else { transport };
    let mut address = program.address(first);
    if first != transport {
        address = program.address(transport);
    }
    (program, address)
}

/// Every client of a transport, with the argument that sends it to this address.
fn clients(transport: &str, address: SocketAddr) -> [(String, String); 3] {
    [
        (format!("std_{transport}_client"), address.to_string()),
        (format!("adit_{transport}_client"), address.to_string()),
        ("adit_client".to_owned(), format!("{transport}://{address}")),
    ]
}

/// A user who waits for each answer, then ends the input behind a last line that is not ended.
fn talk(client: &str, argument: &str) {
    let mut client = Program::start(client, &[argument]);
    for line in ["hello", "", "Second Line, 2"] {
        client.types(&format!("{line}\n"));
        assert_eq!(client.line(), line.to_uppercase());
    }
    client.types("at once\nlast");
    client.end_input();
    assert_eq!(client.end(), (vec!["AT ONCE".to_owned(), "LAST".to_owned()], true));
}

#[test]
fn every_tcp_client_talks_to_every_tcp_server() {
    for server in TCP_SERVERS {
        let (_server, address) = serve(server, "tcp");
        for (client, argument) in clients("tcp", address) {
            println!("{client} and {server}");
            talk(&client, &argument);
        }
    }
}

#[test]
fn every_udp_client_talks_to_every_udp_server() {
    for server in UDP_SERVERS {
        let (_server, address) = serve(server, "udp");
        for (client, argument) in clients("udp", address) {
            println!("{client} and {server}");
            talk(&client, &argument);
        }
    }
}

#[test]
fn every_tcp_server_answers_after_the_half_close() {
    for server in TCP_SERVERS {
        let (_server, address) = serve(server, "tcp");
        let mut client = tcp_client(address);
        client.write_all(b"one\r\ntwo").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut client), b"ONE\nTWO\n", "{server}");
    }
}

#[test]
fn a_client_ends_its_direction_and_awaits_an_answer_that_comes_only_then() {
    for client in ["std_tcp_client", "adit_tcp_client"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut client = Program::start(client, &[&address]);
        let mut connection = accept(listener);
        client.types("all of it");
        client.end_input();
        assert_eq!(read_to_end(&mut connection), b"all of it");
        connection.write_all(b"9 bytes\n").unwrap();
        assert_eq!(client.line(), "9 bytes");
        drop(connection);
        assert_eq!(client.end(), (vec![], true));
    }
}

#[test]
fn a_client_ends_with_its_server_although_nobody_has_typed_anything() {
    for client in ["std_tcp_client", "adit_tcp_client"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut client = Program::start(client, &[&address]);
        let mut connection = accept(listener);
        connection.write_all(b"go away").unwrap();
        drop(connection);
        assert_eq!(client.end(), (vec!["go away".to_owned()], true));
    }
}

#[test]
fn a_concurrent_server_serves_the_second_client_while_the_first_is_silent() {
    for server in ["std_tcp_server_concurrent", "adit_server"] {
        let (_server, address) = serve(server, "tcp");
        let mut silent = tcp_client(address);
        let mut second = tcp_client(address);
        assert_eq!(ask(&mut second, "second\n", 1), ["SECOND"], "{server}");
        let mut third = tcp_client(address);
        assert_eq!(ask(&mut third, "third\n", 1), ["THIRD"], "{server}");
        assert_eq!(ask(&mut second, "again\n", 1), ["AGAIN"], "{server}");
        assert_eq!(ask(&mut silent, "not any more\n", 1), ["NOT ANY MORE"], "{server}");
    }
}

#[test]
fn a_server_of_one_client_at_a_time_lets_the_second_one_wait() {
    let (_server, address) = serve("std_tcp_server", "tcp");
    let mut first = tcp_client(address);
    assert_eq!(ask(&mut first, "first\n", 1), ["FIRST"]);
    let mut second = tcp_client(address);
    second.write_all(b"second\n").unwrap();
    assert_eq!(ask(&mut first, "still first\n", 1), ["STILL FIRST"]);
    // The server has read what came after the second client's line, but not that line.
    second.set_nonblocking(true).unwrap();
    assert_eq!(second.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    second.set_nonblocking(false).unwrap();
    drop(first);
    assert_eq!(read_line(&mut second), "SECOND");
}

#[test]
fn one_udp_socket_serves_all_clients_and_keeps_the_edges_of_packets() {
    for server in UDP_SERVERS {
        let (_server, address) = serve(server, "udp");
        let clients = [udp_socket(), udp_socket(), udp_socket()];
        for round in 0..3 {
            for (number, client) in clients.iter().enumerate() {
                let packet = format!("line {round}\nof client {number}");
                client.send_to(packet.as_bytes(), address).unwrap();
            }
            for (number, client) in clients.iter().enumerate() {
                let mut packet = [0; 100];
                let (length, from) = client.recv_from(&mut packet).unwrap();
                let expected = format!("LINE {round}\nOF CLIENT {number}");
                assert_eq!(packet[..length].escape_ascii().to_string(), {
                    expected.as_bytes().escape_ascii().to_string()
                });
                assert_eq!(from, address, "{server}");
            }
        }
        for length in [0, 1, 1472, 65_507] {
            clients[0].send_to(&vec![b'x'; length], address).unwrap();
            let mut packet = vec![0; 65_536];
            assert_eq!(clients[0].recv(&mut packet).unwrap(), length, "{server}");
        }
    }
}

#[test]
fn a_lost_packet_is_told_by_one_client_and_sent_again_by_the_other() {
    // A server that hears every packet of a text for the first time as if it were lost.
    let server = udp_socket();
    let address = server.local_addr().unwrap().to_string();
    let mut plain = Program::start("std_udp_client", &[&address]);
    plain.types("plain\n");
    let mut packet = [0; 100];
    let (length, _) = server.recv_from(&mut packet).unwrap();
    assert_eq!(&packet[..length], b"plain");
    assert_eq!(plain.complaint(), "no answer to plain");
    plain.end_input();
    assert_eq!(plain.end(), (vec![], true));

    let mut again = Program::start("adit_udp_client", &[&address]);
    again.types("again\n");
    for _ in 0..2 {
        let (length, from) = server.recv_from(&mut packet).unwrap();
        assert_eq!(&packet[..length], b"again");
        server.connect(from).unwrap();
    }
    server.send(b"AGAIN").unwrap();
    assert_eq!(again.line(), "AGAIN");
    again.types("never\n");
    let complaint = again.complaint();
    assert!(complaint.starts_with("no answer to never: no answer from udp "), "{complaint}");
    again.end_input();
    assert_eq!(again.end(), (vec![], true));
}

#[test]
fn the_server_finishes_what_it_has_when_it_is_told_to_stop() {
    let (mut server, address) = serve("adit_server", "tcp");
    let mut client = tcp_client(address);
    assert_eq!(ask(&mut client, "hello\n", 1), ["HELLO"]);
    client.write_all(b"last words\n").unwrap();
    server.terminate();
    assert_eq!(read_line(&mut client), "LAST WORDS");
    assert_eq!(read_to_end(&mut client), b"");
    drop(client);
    let (lines, is_well) = server.end();
    assert!(is_well && lines.len() == 1, "{lines:?}");
}
