//! Who is let in: access lists, the limits of a source, a full server, and what turning away costs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use adit::prelude::*;
use adit::{AccessList, Endpoint, Rate, Running, Service, WhenFull};
use common::{DEADLINE, ask, ask_udp, client, read_to_end, udp_client, watch};
use socket2::{Domain, Socket, Type};

fn upper() -> impl Service {
    fast(|msg, out| out.send(msg.to_ascii_uppercase()))
}

/// Limits under which loopback counts like any other network.
fn limits() -> Limits {
    Limits { exempt_loopback: false, ..Limits::default() }
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

/// Is the connection closed without an answer? By an end or, where too many are refused, by a reset.
fn is_turned_away(mut stream: TcpStream) -> bool {
    // It may be closed by now.
    drop(stream.write_all(b"hello\n"));
    match stream.read(&mut [0; 16]) {
        Ok(bytes) => bytes == 0,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    }
}

fn is_served(stream: &mut TcpStream) -> bool {
    ask(stream, "hello\n", 1) == ["HELLO"]
}

#[test]
fn a_source_has_so_many_at_once_and_others_have_theirs() {
    let (watch, seen) = watch();
    let limits = Limits { per_source: Limit::At(2), ..limits() };
    let server = Server::new(upper())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .limits(limits)
        .observe(watch)
        .start()
        .unwrap();
    let mut held: Vec<_> = (0..2).map(|_| from(2, server.addr(0))).collect();
    assert!(held.iter_mut().all(is_served));
    assert!(is_turned_away(from(2, server.addr(0))));
    assert_eq!(seen.wait_for("limit per-source").1, "limit per-source refuse 1");
    assert!(is_served(&mut from(3, server.addr(0))), "another source has its own count");
    assert_eq!(seen.next_close(), "ok", "of the other source");
    held.pop();
    assert_eq!(seen.next_close(), "ok");
    // The place is free once its socket is closed, which the event comes just in front of.
    let mut again = from(2, server.addr(0));
    while !again.write_all(b"hello\n").is_ok_and(|()| matches!(again.read(&mut [0; 16]), Ok(6))) {
        again = from(2, server.addr(0));
    }
    assert!(is_served(&mut held[0]));
}

#[test]
fn loopback_is_exempt_unless_it_is_said() {
    let limits = Limits { per_source: Limit::At(1), exempt_loopback: true, ..Limits::default() };
    let server = Server::new(upper())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .limits(limits)
        .start()
        .unwrap();
    let mut held: Vec<_> = (0..20).map(|_| client(server.addr(0))).collect();
    assert!(held.iter_mut().all(is_served));
}

/// xinetd closes the port for everybody when one comes too fast.
#[test]
fn a_source_that_comes_too_fast_is_refused_and_nobody_else_is() {
    let (watch, seen) = watch();
    let conn_rate = Limit::At(Rate { per_second: 10, burst: 20 });
    let server = Server::new(upper())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .limits(Limits { conn_rate, ..limits() })
        .observe(watch)
        .start()
        .unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Relaxed) {
                // Closed at once: the flood is one of connections, not of what is held.
                drop(from(2, server.addr(0)));
                count += 1;
            }
            count
        });
        seen.wait_for("limit conn-rate refuse");
        for host in 3..43 {
            assert!(is_served(&mut from(host, server.addr(0))), "127.0.0.{host}");
        }
        is_over.store(true, Relaxed);
        assert!(flood.join().unwrap() > 20);
    });
    assert!(server.stats().refused > 0);
}

#[test]
fn who_lets_messages_expire_is_held_off_for_a_while() {
    let (watch, seen) = watch();
    let message = Limit::At(Duration::from_millis(20));
    let server = Server::new(upper())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .limits(Limits { message, ..limits() })
        .observe(watch)
        .start()
        .unwrap();
    for _ in 0..10 {
        let mut stream = from(2, server.addr(0));
        stream.write_all(b"never whole").unwrap();
        assert_eq!(read_to_end(&mut stream), b"");
        drop(stream);
        assert_eq!(seen.next_close(), "message-timeout");
    }
    // The tenth is noted right behind its event.
    while !is_turned_away(from(2, server.addr(0))) {}
    assert_eq!(seen.wait_for("limit penalty").1, "limit penalty refuse 1");
    assert!(is_served(&mut from(3, server.addr(0))));
}

#[test]
fn the_access_list_says_who_comes_over_tcp_and_udp() {
    let (watch, seen) = watch();
    let list = AccessList::allow_only(["127.0.0.2".parse().unwrap(), "::1".parse().unwrap()]);
    let server = Server::new(upper())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .listen_datagrams("udp://127.0.0.1:0")
        .access(list)
        .observe(watch)
        .start()
        .unwrap();
    assert!(is_served(&mut from(2, server.addr(0))));
    assert!(is_turned_away(from(3, server.addr(0))));
    assert_eq!(seen.wait_for("limit access"), (None, "limit access refuse 1".to_owned()));

    let denied = udp_client(server.addr(1).socket_addr().unwrap());
    denied.send(b"denied").unwrap();
    let allowed = UdpSocket::bind("127.0.0.2:0").unwrap();
    allowed.connect(server.addr(1).socket_addr().unwrap()).unwrap();
    allowed.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(ask_udp(&allowed, b"allowed"), b"ALLOWED");
    // Whoever is not allowed is not heard, however often: two more, behind which an answer comes.
    denied.send(b"denied").unwrap();
    assert_eq!(ask_udp(&allowed, b"again"), b"AGAIN");
    denied.set_nonblocking(true).unwrap();
    assert_eq!(denied.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(server.stats().conversations, 2, "those who were turned away had none");
}

#[test]
fn a_rule_for_ipv4_holds_on_a_socket_of_both_families() {
    let deny = AccessList::deny_only(["127.0.0.3".parse().unwrap()]);
    let server =
        Server::new(upper()).listen("tcp://[::]:0", Lines::new()).access(deny).start().unwrap();
    let port = server.addr(0).socket_addr().unwrap().port();
    let server_v4 =
        Endpoint::ip(adit::endpoint::Transport::Tcp, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    assert!(is_turned_away(from(3, &server_v4)));
    assert!(is_served(&mut from(2, &server_v4)));
}

/// Few places; a machine that is busy turns nobody away.
fn full_limits(seats: usize, when_full: WhenFull) -> Limits {
    Limits { conversations: Limit::At(seats), when_full, lag: Limit::Off, ..Limits::default() }
}

fn full(when_full: WhenFull, seats: usize) -> (Running, common::Seen) {
    let (watch, seen) = watch();
    let limits = full_limits(seats, when_full);
    let server = Server::new(upper())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .limits(limits)
        .threads(2)
        .observe(watch)
        .start()
        .unwrap();
    (server, seen)
}

#[test]
fn a_full_server_refuses_where_it_shall() {
    let (server, seen) = full(WhenFull::Refuse, 2);
    let mut held: Vec<_> = (0..2).map(|_| client(server.addr(0))).collect();
    assert!(held.iter_mut().all(is_served));
    assert!(is_turned_away(client(server.addr(0))));
    assert_eq!(seen.wait_for("limit conversations").1, "limit conversations refuse 1");
    drop(held.pop());
    assert_eq!(seen.next_close(), "ok");
    assert!(is_served(&mut client(server.addr(0))));
    assert!(is_served(&mut held[0]));
}

#[test]
fn the_one_idle_for_longest_makes_room_where_it_shall() {
    let (server, seen) = full(WhenFull::Shed, 3);
    let mut held: Vec<_> = (0..3).map(|_| client(server.addr(0))).collect();
    assert!(held.iter_mut().all(is_served));
    assert!(is_served(&mut held[0]), "the first is the latest now");
    let mut newcomer = client(server.addr(0));
    assert!(is_served(&mut newcomer));
    assert_eq!(seen.next_close(), "shed");
    assert_eq!(read_to_end(&mut held[1]), b"", "the second had been idle for longest");
    assert!(is_served(&mut held[0]) && is_served(&mut held[2]));
}

#[test]
fn who_owes_answers_is_not_shed() {
    let (release, released) = tokio::sync::watch::channel(false);
    let (begin, has_begun) = std::sync::mpsc::sync_channel(1);
    let slow = task(move |msg: Bytes| {
        let (mut released, begin) = (released.clone(), begin.clone());
        async move {
            begin.send(())?;
            released.wait_for(|is_released| *is_released).await?;
            Ok(msg)
        }
    });
    let limits = full_limits(1, WhenFull::Shed);
    // One thread: what it has begun it has noted before it welcomes the next.
    let server = Server::new(slow)
        .listen("tcp://127.0.0.1:0", Lines::new())
        .limits(limits)
        .threads(1)
        .start()
        .unwrap();
    let mut first = client(server.addr(0));
    first.write_all(b"work\n").unwrap();
    has_begun.recv_timeout(DEADLINE).unwrap();
    assert!(is_turned_away(client(server.addr(0))));
    release.send_replace(true);
    assert_eq!(ask(&mut first, "", 1), ["work"]);
}

#[test]
fn a_raw_stream_makes_room_too() {
    let (watch, seen) = watch();
    let echo = stream(async |conn: Conn| {
        let (mut source, mut target) = conn.split();
        tokio::io::copy(&mut source, &mut target).await?;
        Ok(())
    });
    let limits = full_limits(2, WhenFull::Shed);
    let server = Server::streams(echo)
        .listen("tcp://127.0.0.1:0")
        .limits(limits)
        .observe(watch)
        .start()
        .unwrap();
    let mut held: Vec<_> = (0..2).map(|_| client(server.addr(0))).collect();
    for stream in &mut held {
        assert_eq!(ask(stream, "a\n", 1), ["a"]);
    }
    assert_eq!(ask(&mut held[0], "b\n", 1), ["b"]);
    let mut newcomer = client(server.addr(0));
    assert_eq!(ask(&mut newcomer, "c\n", 1), ["c"]);
    assert_eq!(seen.next_close(), "shed");
    assert_eq!(read_to_end(&mut held[1]), b"");
    assert_eq!(ask(&mut held[0], "d\n", 1), ["d"]);
}

/// Descriptors that this process has open, and kilobytes of memory that are its own.
fn costs() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let memory = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    (descriptors, memory.split_whitespace().nth(1).unwrap().parse().unwrap())
}

#[test]
fn turning_ten_thousand_away_leaves_nothing_behind() {
    const COUNT: u64 = 10_000;
    let (watch, seen) = watch();
    let list = AccessList::deny_only(["127.0.0.2".parse().unwrap()]);
    let server = Server::new(upper())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .access(list)
        .limits(limits())
        .observe(watch)
        .start()
        .unwrap();
    let turned_away = |count: u64| {
        for _ in 0..count {
            let mut stream = from(2, server.addr(0));
            drop(stream.read(&mut [0; 1]));
            // The client's end is reset, else its ports would run out.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    };
    turned_away(1000);
    let before = costs();
    turned_away(COUNT - 1000);
    let after = costs();
    assert_eq!(server.stats().refused, COUNT);
    assert_eq!(server.stats().conversations, 0);
    // Other tests of this process open and close theirs.
    assert!(after.0 <= before.0 + 100, "descriptors: {before:?} before, {after:?} after");
    assert!(after.1 <= before.1 + 4096, "kilobytes: {before:?} before, {after:?} after");
    assert!(is_served(&mut from(3, server.addr(0))));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.drain(DEADLINE));
    let (mut events, mut count) = (0, 0);
    while count < COUNT {
        let (_, line) = seen.wait_for("limit access refuse");
        count += line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        events += 1;
    }
    assert!(events <= 20, "{events} events about {count} refusals");
}

#[test]
fn a_new_list_is_for_those_who_come_and_those_who_are_there_stay() {
    let server = Server::new(upper())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .listen_datagrams("udp://127.0.0.1:0")
        .start()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut there, there_udp) = (from(2, server.addr(0)), udp_client_at(2, server.addr(1)));
    assert!(is_served(&mut there));
    assert_eq!(ask_udp(&there_udp, b"hello"), b"HELLO");

    let third = AccessList::allow_only(["127.0.0.3".parse().unwrap()]);
    runtime.block_on(server.set_access(Some(third)));
    // On whichever thread they come: all of them go by it.
    for _ in 0..20 {
        assert!(is_turned_away(from(2, server.addr(0))));
        assert!(is_served(&mut from(3, server.addr(0))));
    }
    assert!(is_served(&mut there));
    assert_eq!(ask_udp(&there_udp, b"hello"), b"HELLO");

    runtime.block_on(server.set_access(None));
    assert!(is_served(&mut from(2, server.addr(0))));
}

/// A UDP client at 127.0.0.HOST.
fn udp_client_at(host: u8, server: &Endpoint) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).unwrap();
    socket.connect(server.socket_addr().unwrap()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// One thread is held up by a handler: the pulse waits for it, and for it alone.
#[test]
fn the_pulse_of_a_server_waits_for_a_handler_that_holds_its_thread() {
    let (go_on, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let (began, has_begun) = std::sync::mpsc::sync_channel(1);
    let service = fast(move |msg, out| {
        began.send(()).unwrap();
        wait.lock().unwrap().recv().unwrap();
        out.send(msg);
    });
    let server = Server::new(service).listen("tcp://127.0.0.1:0", Lines::new());
    let server = server.threads(2).start().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.pulse());
    let mut stream = client(server.addr(0));
    stream.write_all(b"hello\n").unwrap();
    has_begun.recv_timeout(DEADLINE).unwrap();
    let soon = Duration::from_millis(50);
    let pulse = runtime.block_on(async { tokio::time::timeout(soon, server.pulse()).await });
    assert!(pulse.is_err());
    go_on.send(()).unwrap();
    runtime.block_on(server.pulse());
    assert_eq!(common::read_lines(&mut stream, 1), ["hello"]);
}
