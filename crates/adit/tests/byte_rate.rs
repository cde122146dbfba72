//! The rate of bytes: whoever is too fast is slowed, on every kind of conversation, and nobody else is.
//!
//! Only lower bounds are looked at, which hold under any load.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use adit::prelude::*;
use adit::{ByteRate, Endpoint, Service};
use common::{DEADLINE, client, read_to_end, watch};
use socket2::{Domain, Socket, Type};

/// A second, of which the burst is there at once.
const RATE: u64 = 64_000;
/// Half a second above it.
const SENT: usize = 96_000;
/// What that takes at least; a timer may be early by a part of a millisecond.
const AT_LEAST: Duration = Duration::from_millis(490);

fn slowed() -> Limits {
    Limits { byte_rate: Limit::At(ByteRate::per_second(RATE)), ..Limits::default() }
}

fn echo() -> impl Service {
    fast(|msg, out| out.send(msg))
}

/// Sends lines, ends its direction and reads what comes back; how long it took.
fn exchange(mut stream: impl Read + Write + Send, finish: impl Fn()) -> Duration {
    let began = Instant::now();
    let line = [&[b'x'; 999][..], b"\n"].concat();
    let sent = line.repeat(SENT / line.len());
    stream.write_all(&sent).unwrap();
    finish();
    assert!(read_to_end(&mut stream) == sent, "every byte comes back, in order");
    began.elapsed()
}

fn tcp_exchange(server: &Endpoint) -> Duration {
    let stream = client(server);
    let other = stream.try_clone().unwrap();
    exchange(stream, || other.shutdown(Shutdown::Write).unwrap())
}

#[test]
fn a_conversation_is_slowed_and_nothing_of_it_is_lost() {
    let (watch, seen) = watch();
    let server = Server::new(echo()).listen("tcp://127.0.0.1:0", Lines::new());
    let server = server.limits(slowed()).observe(watch).start().unwrap();
    let took = tcp_exchange(server.addr(0));
    assert!(took >= AT_LEAST, "{took:?}");
    assert_eq!(seen.wait_for("limit byte-rate").1, "limit byte-rate slow 1");
    assert_eq!(seen.next_close(), "ok");
}

#[test]
fn a_raw_stream_is_slowed() {
    let service = stream(async |conn: Conn| {
        let (mut reader, mut writer) = tokio::io::split(conn);
        tokio::io::copy(&mut reader, &mut writer).await?;
        Ok(())
    });
    let server = Server::streams(service).listen("tcp://127.0.0.1:0");
    let server = server.limits(slowed()).start().unwrap();
    let took = tcp_exchange(server.addr(0));
    assert!(took >= AT_LEAST, "{took:?}");
}

#[test]
fn a_relay_slows_its_client_and_the_target_is_not_asked() {
    let target = Server::new(echo()).listen("tcp://127.0.0.1:0", Lines::new()).start().unwrap();
    let relay = Forward::to(target.addr(0)).unwrap().listen("tcp://127.0.0.1:0");
    let relay = relay.limits(slowed()).start().unwrap();
    let took = tcp_exchange(relay.addr(0));
    assert!(took >= AT_LEAST, "{took:?}");
}

#[test]
fn a_unix_socket_is_slowed_each_conversation_by_itself() {
    let server = Server::new(echo()).listen("unix:@adit-byte-rate-test", Lines::new());
    let server = server.limits(slowed()).start().unwrap();
    let stream = UnixStream::connect_addr(
        &<std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
            "adit-byte-rate-test",
        )
        .unwrap(),
    )
    .unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let other = stream.try_clone().unwrap();
    let took = exchange(stream, || other.shutdown(Shutdown::Write).unwrap());
    assert!(took >= AT_LEAST, "{took:?}");
    drop(server);
}

/// A client at 127.0.0.HOST.
fn from(host: u8, server: &Endpoint) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into()).unwrap();
    socket.connect(&server.socket_addr().unwrap().into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// The one that is slowed would take an hour; the other shares its thread and is served meanwhile.
#[test]
fn another_source_is_served_while_one_waits() {
    let (watch, seen) = watch();
    let rate = ByteRate { bytes_per_second: 10, burst_bytes: 36_000 };
    let limits = Limits { byte_rate: Limit::At(rate), ..Limits::default() };
    let server = Server::new(echo()).listen("tcp://127.0.0.1:0", Lines::new()).threads(1);
    let server = server.limits(limits).observe(watch).start().unwrap();
    let mut greedy = from(2, server.addr(0));
    greedy.write_all(&[b'x'; 72_000]).unwrap();
    seen.wait_for("limit byte-rate slow");
    let mut other = from(3, server.addr(0));
    other.write_all(b"hello\n").unwrap();
    assert_eq!(common::read_lines(&mut other, 1), ["hello"]);
    // A second connection of the one that waits brings it nothing.
    let mut second = from(2, server.addr(0));
    second.write_all(b"hello\n").unwrap();
    second.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(second.read(&mut [0; 16]).is_err());
}

#[test]
fn datagrams_above_the_rate_are_dropped_and_counted_and_others_are_not() {
    let (watch, seen) = watch();
    let rate = ByteRate { bytes_per_second: 1, burst_bytes: 3_000 };
    let limits = Limits { byte_rate: Limit::At(rate), ..Limits::default() };
    let server = Server::new(echo()).listen_datagrams("udp://127.0.0.1:0").threads(1);
    let server = server.limits(limits).observe(watch).start().unwrap();
    let to = server.addr(0).socket_addr().unwrap();
    let udp = |host| {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    };
    let greedy = udp(2);
    for _ in 0..3 {
        assert_eq!(common::ask_udp(&greedy, &[b'x'; 1_000]).len(), 1_000);
    }
    greedy.send(&[b'x'; 1_000]).unwrap();
    assert_eq!(seen.wait_for("limit byte-rate").1, "limit byte-rate drop 1");
    assert_eq!(common::ask_udp(&udp(3), b"hello"), b"hello");
    assert_eq!(server.stats().dropped, 1);
}
