//! Handshakes: who gets through, who does not, what becomes of those, and that they hinder nobody.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use adit::prelude::*;
use adit::{Endpoint, WhenFull};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{DEADLINE, client, read_to_end, watch};
use crate::trust::{Authority, at, wait};

/// How a record of a client of TLS begins, which then says nothing more.
const HALF_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

fn upper() -> impl Service {
    fast(|msg, out| out.send(msg.to_ascii_uppercase()))
}

async fn ask(trust: &Authority, endpoint: &Endpoint) -> adit::Result<Vec<u8>> {
    let mut conn = trust.dial().connect(at(endpoint)).await?;
    conn.write_all(b"hello\n").await?;
    conn.flush().await?;
    let mut answer = vec![0; 6];
    conn.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Row 21 of the catalogue, and row 12 for the handshake.
#[test]
fn row_21_five_hundred_half_handshakes_keep_nobody_waiting() {
    let trust = Authority::new();
    let limits = Limits { handshake: Limit::At(Duration::from_secs(3600)), ..Limits::default() };
    let server = Server::new(upper()).limits(limits).threads(2).tls(trust.server());
    let server = server.listen("tls://127.0.0.1:0", Lines::new()).start().unwrap();
    let halves: Vec<_> = (0..500)
        .map(|number| {
            let mut half = client(server.addr(0));
            // Some say nothing, some begin, and some send a byte now and then.
            half.write_all(&HALF_HELLO[..number % HALF_HELLO.len()]).unwrap();
            half
        })
        .collect();
    wait(async {
        for round in 0..10 {
            for (number, mut half) in halves.iter().enumerate() {
                // The next byte of a greeting of 512, which never gets whole.
                let at = number % HALF_HELLO.len() + round;
                half.write_all(&[HALF_HELLO.get(at).copied().unwrap_or(0)]).unwrap();
            }
            // None of the 500 ends before an hour is over; whoever had to wait for them would, too.
            assert_eq!(ask(&trust, server.addr(0)).await.unwrap(), b"HELLO\n");
        }
    });
    assert_eq!(server.stats().conversations, 10);
}

#[test]
fn a_handshake_takes_the_place_of_a_conversation() {
    let trust = Authority::new();
    let limits = Limits {
        conversations: Limit::At(2),
        handshake: Limit::At(Duration::from_secs(3600)),
        ..Limits::default()
    };
    let server = Server::new(upper()).limits(limits).threads(1).tls(trust.server());
    let server = server.listen("tls://127.0.0.1:0", Lines::new()).start().unwrap();
    let mute: Vec<_> = (0..2).map(|_| client(server.addr(0))).collect();
    wait(async {
        let third = ask(&trust, server.addr(0));
        tokio::pin!(third);
        let soon = tokio::time::timeout(Duration::from_millis(300), &mut third).await;
        assert!(soon.is_err(), "two places, and a third is served");
        drop(mute);
        assert_eq!(third.await.unwrap(), b"HELLO\n");
    });
}

#[test]
fn half_handshakes_make_room_where_somebody_has_to_and_conversations_stay() {
    let trust = Authority::new();
    let (observer, seen) = watch();
    let limits = Limits {
        conversations: Limit::At(8),
        when_full: WhenFull::Shed,
        // A machine that is busy turns nobody away here.
        lag: Limit::Off,
        handshake: Limit::At(Duration::from_secs(3600)),
        ..Limits::default()
    };
    let server = Server::new(upper()).limits(limits).threads(2).tls(trust.server());
    let server =
        server.observe(observer).listen("tls://127.0.0.1:0", Lines::new()).start().unwrap();
    wait(async {
        let mut idle = trust.dial().connect(at(server.addr(0))).await.unwrap();
        let halves: Vec<_> = (0..7)
            .map(|number| {
                let mut half = client(server.addr(0));
                half.write_all(&HALF_HELLO[..number % 2 * HALF_HELLO.len()]).unwrap();
                half
            })
            .collect();
        // One after the other, none of whom leaves: each has the place of one that is mute.
        let mut served = Vec::new();
        for _ in 0..7 {
            let mut conn = trust.dial().connect(at(server.addr(0))).await.unwrap();
            conn.write_all(b"hello\n").await.unwrap();
            conn.read_exact(&mut [0; 6]).await.unwrap();
            served.push(conn);
        }
        for mut half in halves {
            assert!(!matches!(half.read(&mut [0; 16]), Ok(1..)));
        }
        idle.write_all(b"idle\n").await.unwrap();
        let mut answer = [0; 5];
        idle.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"IDLE\n");
    });
    assert_eq!(seen.wait_for("limit conversations").1, "limit conversations refuse 1");
    assert_eq!((server.stats().refused, server.stats().conversations), (7, 8));
}

#[test]
fn who_says_nothing_or_stops_in_the_middle_is_ended_by_the_limit_and_told() {
    let trust = Authority::new();
    for begin in [&b""[..], HALF_HELLO] {
        let (observer, seen) = watch();
        let limits =
            Limits { handshake: Limit::At(Duration::from_millis(300)), ..Limits::default() };
        let server = Server::new(upper()).observe(observer).limits(limits).tls(trust.server());
        let server = server.listen("tls://127.0.0.1:0", Lines::new()).start().unwrap();
        let mut peer = client(server.addr(0));
        peer.write_all(begin).unwrap();
        // By an end, or by a reset.
        assert!(!matches!(peer.read(&mut [0; 100]), Ok(1..)));
        let (number, line) = seen.wait_for("error");
        let peer = peer.local_addr().unwrap();
        let said = format!("error handshake-timeout no TLS handshake from {peer} within 300ms");
        assert!(line.starts_with(&said) && number.is_none(), "{line}");
        assert_eq!((server.stats().refused, server.stats().conversations), (1, 0));
    }
}

#[test]
fn who_only_looks_whether_the_port_is_open_is_told_to_nobody() {
    let trust = Authority::new();
    let (observer, seen) = watch();
    let server = Server::new(upper()).observe(observer).tls(trust.server());
    let server = server.listen("tls://127.0.0.1:0", Lines::new()).start().unwrap();
    drop(client(server.addr(0)));
    let ended = client(server.addr(0));
    ended.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut &ended), b"");
    let reset = client(server.addr(0));
    socket2::SockRef::from(&reset).set_linger(Some(Duration::ZERO)).unwrap();
    drop(reset);
    assert_eq!(wait(ask(&trust, server.addr(0))).unwrap(), b"HELLO\n");
    // The first event of a peer is that of the one who has said something.
    let (number, line) = seen.wait_for("");
    assert_eq!((number, line.as_str()), (None, "listen"));
    assert_eq!((seen.wait_for("").1.as_str(), server.stats().refused), ("open", 0));
}

#[test]
fn what_a_plain_peer_says_is_never_taken_for_heard() {
    let trust = Authority::new();
    let (observer, seen) = watch();
    let server = Server::new(upper()).observe(observer).tls(trust.server());
    let server = server.listen("tls://127.0.0.1:0", Lines::new()).start().unwrap();
    let mut plain = client(server.addr(0));
    plain.write_all(b"EHLO me\n").unwrap();
    assert_eq!(plain.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let here = plain.local_addr().unwrap();
    let said =
        format!("error tls-plain-peer {here} is not speaking TLS (first bytes \"EHLO me\\n\")");
    assert_eq!(seen.wait_for("error").1, said);
    let mut http = client(server.addr(0));
    http.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let answer = String::from_utf8(read_to_end(&mut http)).unwrap();
    assert!(answer.ends_with("This port speaks TLS. Is it https://?\n"), "{answer}");
}

#[test]
fn five_handshakes_that_fail_hold_their_source_off() {
    let trust = Authority::new();
    let (observer, seen) = watch();
    let limits = Limits { exempt_loopback: false, ..Limits::default() };
    let server = Server::new(upper()).observe(observer).limits(limits).tls(trust.server());
    let server = server.listen("tls://127.0.0.1:0", Lines::new()).start().unwrap();
    let from = |host: u8| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
        socket.connect(&server.addr(0).socket_addr().unwrap().into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    };
    for _ in 0..5 {
        let mut wrong = from(9);
        wrong.write_all(b"hello\n").unwrap();
        // Its handshake has failed once this is over.
        assert!(!matches!(wrong.read(&mut [0]), Ok(1..)));
    }
    assert!(!matches!(from(9).read(&mut [0]), Ok(1..)));
    assert_eq!(seen.wait_for("limit penalty").1, "limit penalty refuse 1");
    assert_eq!(wait(ask(&trust, server.addr(0))).unwrap(), b"HELLO\n", "another source");
}

#[test]
fn one_connection_is_the_first_that_gets_through() {
    let trust = Authority::new();
    let server = Server::new(upper()).once().tls(trust.server());
    let server = server.listen("tls://127.0.0.1:0", Lines::new()).start().unwrap();
    drop(client(server.addr(0)));
    let mut plain = client(server.addr(0));
    plain.write_all(b"hello\n").unwrap();
    assert!(plain.read(&mut [0]).is_err());
    assert_eq!(wait(ask(&trust, server.addr(0))).unwrap(), b"HELLO\n");
    assert_eq!(server.stats().conversations, 1);
}

#[test]
fn a_proxy_header_stands_in_front_of_the_handshake() {
    let trust = Authority::new();
    let who = each(|peer: &Peer| Who(format!("{} {}", peer.remote(), peer.tls().is_some())));
    let server = Server::new(who).tls(trust.server()).proxy_from(["127.0.0.0/8".parse().unwrap()]);
    let server = server.listen("tls://127.0.0.1:0", Lines::new()).start().unwrap();
    wait(async {
        let address = server.addr(0).socket_addr().unwrap();
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        socket.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n").await.unwrap();
        let tls = trust.client().connect(socket, "localhost", "the server", DEADLINE).await;
        let mut tls = tls.unwrap();
        tls.write_all(b"who\n").await.unwrap();
        tls.shutdown().await.unwrap();
        let mut answer = String::new();
        tls.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "tcp 192.0.2.7:4711 true\n");
    });
}

struct Who(String);

impl Handler for Who {
    fn message(&mut self, _: &[u8], out: &mut Out<'_>) -> Answer {
        out.send(&self.0);
        Answer::Done
    }
}
