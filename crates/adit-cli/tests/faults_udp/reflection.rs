//! Row 20: servers that are made to answer each other, and answers that others would pay for.

use std::io::ErrorKind;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Instant;

use crate::common::{Server, bounded_udp, serve};
use crate::network::{forge, is_own_network};
use crate::{ask, client, lines_with, numbers};

fn v4(address: &str) -> SocketAddrV4 {
    address.parse().unwrap()
}

fn echo(address: &str) -> Server {
    serve(&["echo", &format!("udp://{address}"), "--json"])
}

/// How many datagrams two echo servers send each other after one that says it is from the other.
fn exchanged(one: &str, other: &str) -> u64 {
    const HELLO: &[u8] = b"hello";
    let servers = [echo(one), echo(other)];
    forge(v4(other), v4(one), HELLO);
    // Both look at the same datagrams, and the one that was cheated is the first to have had enough.
    servers[0].program.err.wait_for("\"name\":\"loop\"");
    let received = servers.map(|server| {
        let ran = server.stop();
        numbers(&lines_with(&ran.err, &["\"summary\""]), "in")[0] / HELLO.len() as u64
    });
    println!("{one} and {other} received {received:?} datagrams, the forged one among them");
    received.iter().sum::<u64>() - 1
}

#[test]
fn row_20_two_echo_servers_that_are_set_on_each_other_stop() {
    if !is_own_network("reflection::row_20_two_echo_servers_that_are_set_on_each_other_stop") {
        return;
    }
    let system = exchanged("127.0.0.1:1007", "127.0.0.2:1007");
    assert!(system <= 4, "{system} datagrams between ports of the system");
    for (one, other) in [
        ("127.0.0.1:7001", "127.0.0.2:7002"),
        ("192.0.2.1:7001", "192.0.2.2:7001"),
        ("192.0.2.1:40001", "192.0.2.2:40001"),
    ] {
        let count = exchanged(one, other);
        assert!(count <= 200, "{count} datagrams between {one} and {other}");
    }
    // Ports of clients on this host may be asked the same for longer.
    let clients = exchanged("127.0.0.1:40001", "127.0.0.2:40002");
    assert!(clients <= 20_000, "{clients} datagrams");
}

/// A server that has answered nobody: so many drops, and then a client that is served.
fn answers_only_others(server: Server, forged: u64) {
    let peer = client(server.udp());
    assert_eq!(ask(&peer, b"served?"), b"served?");
    let ran = server.stop();
    let summary = lines_with(&ran.err, &["\"summary\""]);
    assert_eq!(numbers(&summary, "in"), [7], "{}", ran.err);
    assert_eq!(numbers(&summary, "dropped"), [forged]);
    let told = numbers(&lines_with(&ran.err, &["\"reflection\""]), "count");
    assert_eq!(told.iter().sum::<u64>(), forged, "{}", ran.err);
}

#[test]
fn row_20_a_server_does_not_answer_itself() {
    if !is_own_network("reflection::row_20_a_server_does_not_answer_itself") {
        return;
    }
    let server = echo("127.0.0.1:7003");
    forge(v4("127.0.0.1:7003"), v4("127.0.0.1:7003"), b"hello");
    answers_only_others(server, 1);
    for wildcard in ["0.0.0.0:7004", "[::]:7004"] {
        let server = echo(wildcard);
        for (from, to) in [
            ("127.0.0.1:7004", "127.0.0.1:7004"),
            ("127.0.0.1:7004", "127.0.0.5:7004"),
            ("192.0.2.7:7004", "192.0.2.9:7004"),
        ] {
            forge(v4(from), v4(to), b"hello");
        }
        let port = server.udp().port();
        let peer = client(SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(ask(&peer, b"served?"), b"served?");
        let ran = server.stop();
        let summary = lines_with(&ran.err, &["\"summary\""]);
        assert_eq!((numbers(&summary, "in"), numbers(&summary, "dropped")), (vec![7], vec![3]));
    }
}

#[test]
fn row_20_services_that_answer_by_themselves_are_not_answered() {
    if !is_own_network("reflection::row_20_services_that_answer_by_themselves_are_not_answered") {
        return;
    }
    let never = [7, 17, 19, 53, 111, 123, 137, 138, 161, 389, 500];
    let server = echo("127.0.0.1:7005");
    for port in never {
        forge(v4(&format!("127.0.0.9:{port}")), v4("127.0.0.1:7005"), b"hello");
    }
    forge(v4("127.0.0.9:0"), v4("127.0.0.1:7005"), b"hello");
    answers_only_others(server, 12);
}

/// Those who say to whom they answer what may be asked by other servers: a forward, and `amplify`.
#[test]
fn row_20_dns_and_ntp_servers_may_ask_where_the_user_says_so() {
    if !is_own_network("reflection::row_20_dns_and_ntp_servers_may_ask_where_the_user_says_so") {
        return;
    }
    let target = echo("127.0.0.1:7006");
    let relay = Server::start_as(
        "exec \"$@\" 3>\"$READY\"",
        &["forward", "--ready-fd=3", "udp://127.0.0.1:7007", "udp://127.0.0.1:7006"],
    );
    let amplified = echo("127.0.0.1:7008,amplify=3");
    for port in [53, 123] {
        for server in [&relay, &amplified] {
            let peer = bounded_udp(UdpSocket::bind(("127.0.0.9", port)).unwrap());
            peer.connect(server.udp()).unwrap();
            assert_eq!(ask(&peer, b"answered?"), b"answered?", "{port}");
        }
    }
    let silent = [53, 123].map(|port| UdpSocket::bind(("127.0.0.9", port)).unwrap());
    for peer in &silent {
        peer.send_to(b"anybody?", target.udp()).unwrap();
    }
    // A server that is told to stop takes what has come before.
    target.stop();
    for peer in silent {
        peer.set_nonblocking(true).unwrap();
        assert_eq!(peer.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn row_20_ports_that_are_attacked_by_answers_are_answered_slowly() {
    if !is_own_network("reflection::row_20_ports_that_are_attacked_by_answers_are_answered_slowly")
    {
        return;
    }
    for port in [1900, 5353, 11_211] {
        let server = echo("127.0.0.1:7009");
        let peer = UdpSocket::bind(("127.0.0.9", port)).unwrap();
        let began = Instant::now();
        for number in 0..100_u32 {
            peer.send_to(&number.to_be_bytes(), server.udp()).unwrap();
        }
        // A server that is told to stop takes what has come before.
        server.stop();
        let most = 10 + 1 + began.elapsed().as_millis() / 100;
        peer.set_nonblocking(true).unwrap();
        let mut answered = 0;
        while peer.recv(&mut [0; 9]).is_ok() {
            answered += 1;
        }
        println!(
            "{answered} answers to 100 questions from port {port}, at most {most} in this time"
        );
        assert!((10..=most).contains(&answered), "{port}: {answered} of at most {most}");
    }
}

#[test]
fn row_20_the_listening_line_says_how_much_is_answered() {
    if !is_own_network("reflection::row_20_the_listening_line_says_how_much_is_answered") {
        return;
    }
    let said = |words: &[&str]| {
        let all = [words, &["--ready-fd=3"]].concat();
        let server = Server::start_as("exec \"$@\" 3>\"$READY\"", &all);
        server.stop().err
    };
    let three = said(&["serve", "daytime", "udp://192.0.2.1:0"]);
    assert!(three.contains(", replies capped at 3x"), "{three}");
    let five = said(&["serve", "daytime", "udp://192.0.2.1:0,amplify=5"]);
    assert!(five.contains(", replies capped at 5x"), "{five}");
    let none = said(&["forward", "udp://192.0.2.1:0", "udp://192.0.2.1:9"]);
    assert!(none.contains(", replies not capped"), "{none}");
    let here = said(&["serve", "daytime", "udp://127.0.0.1:0"]);
    assert!(here.contains("listening  udp") && !here.contains("capped"), "{here}");
}

/// Off loopback the answer to an empty question fits, and a second one to nothing does not.
#[test]
fn row_20_at_most_three_bytes_leave_for_each_that_came() {
    if !is_own_network("reflection::row_20_at_most_three_bytes_leave_for_each_that_came") {
        return;
    }
    const HEADERS: usize = 28;
    let server = serve(&["daytime", "udp://192.0.2.1:0", "--json"]);
    let peer = bounded_udp(UdpSocket::bind("192.0.2.77:0").unwrap());
    peer.connect(server.udp()).unwrap();
    let (mut asked, mut answered) = (0, 0);
    for _ in 0..20 {
        answered += ask(&peer, b"").len() + HEADERS;
        asked += HEADERS;
    }
    println!("{answered} B of daytime for {asked} B");
    assert!(answered <= 3 * asked, "{answered} B for {asked} B");
}
