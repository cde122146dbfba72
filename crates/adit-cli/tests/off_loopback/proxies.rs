//! PROXY headers: from whoever is no proxy, forged by one, naming nobody, and never whole.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Instant;

use crate::common::DEADLINE;
use crate::field::{Field, connect, memory, v4};

/// A connection from there that begins with these bytes; none if it is not served.
fn served(from: IpAddr, header: &[u8]) -> Option<TcpStream> {
    let mut stream = connect(from, 7000);
    // Whoever is turned away may find the connection closed already.
    drop(stream.write_all(&[header, b"x\n"].concat()));
    (stream.read(&mut [0; 9]).unwrap_or(0) > 0).then_some(stream)
}

fn line(client: &str) -> Vec<u8> {
    let (family, server) = if client.contains(':') { ("6", "fd00::9") } else { ("4", "192.0.2.9") };
    format!("PROXY TCP{family} {client} {server} 4711 443\r\n").into_bytes()
}

const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
/// Version 2, LOCAL, and UNSPEC: somebody of whom nothing is said.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const UNSPEC: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0";

#[test]
fn a_header_is_believed_from_proxies_alone_and_no_list_is_passed_by_what_it_says() {
    let test =
        "proxies::a_header_is_believed_from_proxies_alone_and_no_list_is_passed_by_what_it_says";
    let Some(field) = Field::of(test) else { return };
    let rules = ["--deny=192.0.2.0/24", "--deny=fd66::/16", "--allow=198.51.100.0/24"];
    let words = ["echo", ":7000", "--proxy-in", "--proxy-from=10.78.1.0/24", "--json"];
    let server = field.serve(&[&words[..], &rules].concat());
    let proxy = v4(1, 1);
    for (from, header, is_let_in) in [
        (proxy, line("198.51.100.7"), true),
        (proxy, line("::ffff:198.51.100.7"), true),
        (proxy, line("192.0.2.1"), false),
        (proxy, line("::ffff:192.0.2.1"), false),
        (proxy, line("fd66::1"), false),
        (proxy, line("203.0.113.1"), false),
        (proxy, line("127.0.0.1"), false),
        // Nobody is named: then it is the proxy itself that the list does not allow.
        (proxy, UNKNOWN.to_vec(), false),
        (proxy, b"PROXY UNKNOWN 198.51.100.7 192.0.2.9 1 2\r\n".to_vec(), false),
        (proxy, UNSPEC.to_vec(), false),
        // A proxy that looks whether the server is there.
        (proxy, LOCAL.to_vec(), true),
        // Two headers are one, and a message.
        (proxy, [line("198.51.100.7"), line("192.0.2.1")].concat(), true),
        (proxy, b"x\n".to_vec(), false),
        // Who is no proxy is not listened to.
        (v4(2, 1), line("198.51.100.7"), false),
        (v4(2, 1), LOCAL.to_vec(), false),
        ("10.77.0.1".parse().unwrap(), line("198.51.100.7"), false),
    ] {
        let said = String::from_utf8_lossy(&header).into_owned();
        assert_eq!(served(from, &header).is_some(), is_let_in, "{from}: {said:?}");
    }
    server.err.wait_for("\"name\":\"proxy-from\"");
    server.err.wait_for("\"peer\":\"10.78.1.1:");
}

#[test]
fn a_client_that_a_proxy_names_has_the_share_of_a_source_and_so_has_the_one_it_does_not_name() {
    let test = "proxies::a_client_that_a_proxy_names_has_the_share_of_a_source_and_so_has_the_one_it_does_not_name";
    let Some(field) = Field::of(test) else { return };
    let words = ["echo", ":7000", "--proxy-in", "--proxy-from=10.78.1.0/24", "--per-source=5"];
    let _server = field.serve(&words);
    // 127.0.0.1 is on the host of the proxy, not on that of the server.
    for header in [line("198.51.100.7"), line("127.0.0.1"), line("::1"), UNKNOWN.to_vec()] {
        let open: Vec<_> = (0..9).filter_map(|_| served(v4(1, 1), &header)).collect();
        assert_eq!(open.len(), 5, "{:?}", String::from_utf8_lossy(&header));
    }
    let one_each =
        (1..=50).filter_map(|host| served(v4(1, 1), &line(&format!("198.51.100.{host}"))));
    assert_eq!(one_each.count(), 50);
}

#[test]
fn headers_that_never_end_are_bounded_in_time_and_memory_from_one_proxy_and_from_many() {
    let test = "proxies::headers_that_never_end_are_bounded_in_time_and_memory_from_one_proxy_and_from_many";
    let Some(field) = Field::of(test) else { return };
    let words = ["echo", ":7000", "--proxy-in", "--proxy-from=10.78.1.0/24", "--json"];
    let server = field.serve(&[&words[..], &["--handshake-timeout=3s"]].concat());
    let before = memory(&server);
    let began = Instant::now();
    let begin = |host| {
        let mut stream = connect(v4(1, host), 7000);
        stream.write_all(b"PROXY TCP4 198.51").unwrap();
        stream
    };
    let slow: Vec<_> = (0..250).map(|_| begin(1)).chain((1..=250).map(begin)).collect();
    assert!(served(v4(1, 1), &line("198.51.100.7")).is_some(), "others are served meanwhile");
    let grown = memory(&server).saturating_sub(before);
    // 10 s more than promised, for a busy machine; each is read to its end.
    for mut stream in slow {
        assert_eq!(stream.read(&mut [0; 9]).unwrap_or(0), 0);
    }
    println!("500 headers: +{grown} kB, gone after {:?}", began.elapsed());
    assert!(grown < 500 * 16, "+{grown} kB");
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    server.err.wait_for("\"handshake-timeout\"");
}
