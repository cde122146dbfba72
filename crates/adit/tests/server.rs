//! A server of messages over real sockets: every transport, order, faults, limits, the end.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use adit::endpoint::{Endpoint, Transport};
use adit::prelude::*;
use adit::{Code, Service};
use common::{ask, ask_udp, client, read_lines, read_to_end, udp_client, watch, word};

fn upper() -> impl Service {
    fast(|msg, out| out.send(msg.to_ascii_uppercase()))
}

#[test]
fn one_handler_serves_tcp_udp_unix_and_two_codecs() {
    let name = format!("unix:@adit-server-{}", std::process::id());
    let dgram = format!("unix-dgram:@adit-dgram-{}", std::process::id());
    let server = Server::new(upper())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .listen("tcp://127.0.0.1:0", Length32)
        .listen_datagrams("udp://127.0.0.1:0")
        .listen(&name, Lines::new())
        .listen_datagrams(&dgram)
        .start()
        .unwrap();
    assert_eq!(ask(&mut client(server.addr(0)), "a\r\nbb\nc", 2), ["A", "BB"]);
    let mut binary = client(server.addr(1));
    binary.write_all(b"\0\0\0\x02hi").unwrap();
    let mut answer = [0; 6];
    binary.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\0\0\0\x02HI");
    assert_eq!(ask_udp(&udp_client(server.addr(2).socket_addr().unwrap()), b"hello"), b"HELLO");

    use std::os::linux::net::SocketAddrExt;
    let named = |name: &str| {
        std::os::unix::net::SocketAddr::from_abstract_name(name.split('@').nth(1).unwrap()).unwrap()
    };
    let mut unix = std::os::unix::net::UnixStream::connect_addr(&named(&name)).unwrap();
    unix.write_all(b"unix\n").unwrap();
    let mut answer = [0; 5];
    unix.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"UNIX\n");
    let unnamed = std::os::unix::net::UnixDatagram::unbound().unwrap();
    unnamed.connect_addr(&named(&dgram)).unwrap();
    unnamed.send(b"cannot be answered").unwrap();
    let me = format!("adit-client-{}", std::process::id());
    let me = std::os::unix::net::SocketAddr::from_abstract_name(me).unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind_addr(&me).unwrap();
    socket.connect_addr(&named(&dgram)).unwrap();
    socket.send(b"dgram").unwrap();
    let bytes = socket.recv(&mut answer).unwrap();
    assert_eq!(&answer[..bytes], b"DGRAM");
}

#[test]
fn an_unterminated_last_line_is_a_message_and_the_answer_comes_after_the_half_close() {
    let server = Server::new(upper()).listen("tcp://127.0.0.1:0", Lines::new()).start().unwrap();
    let mut stream = client(server.addr(0));
    stream.write_all(b"one\nlast").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut stream), b"ONE\nLAST\n");
}

#[test]
fn both_families_are_served_on_a_wildcard() {
    let server = Server::new(upper()).listen("tcp://:0", Lines::new()).start().unwrap();
    let port = server.addr(0).socket_addr().unwrap().port();
    for ip in ["127.0.0.1", "::1"] {
        let mut stream = TcpStream::connect((ip, port)).unwrap();
        assert_eq!(ask(&mut stream, "x\n", 1), ["X"]);
    }
}

#[test]
fn a_datagram_is_answered_from_the_address_it_came_to() {
    let server = Server::new(upper()).listen_datagrams("udp://:0").start().unwrap();
    let port = server.addr(0).socket_addr().unwrap().port();
    for last in [1, 5, 77] {
        let peer = (Ipv4Addr::new(127, 0, 0, last), port).into();
        assert_eq!(ask_udp(&udp_client(peer), b"who"), b"WHO");
    }
}

#[test]
fn datagrams_of_every_size_are_messages() {
    let echo = fast(|msg, out| out.send(msg));
    let server = Server::new(echo).listen_datagrams("udp://127.0.0.1:0").start().unwrap();
    let socket = udp_client(server.addr(0).socket_addr().unwrap());
    for size in [0, 1, 1472, 20_000, 65_507, 0] {
        assert_eq!(ask_udp(&socket, &vec![7; size]).len(), size);
    }
}

#[test]
fn a_peer_that_is_gone_does_not_end_the_datagram_loop() {
    let (observer, seen) = watch();
    // The peer is gone before it is answered.
    let gone = Arc::new(Barrier::new(2));
    let is_gone = Arc::clone(&gone);
    let answers = fast(move |msg: &[u8], out: &mut Out<'_>| {
        if msg == b"bye" {
            is_gone.wait();
        }
        out.send(msg.to_ascii_uppercase());
    });
    let server = Server::new(answers)
        .observe(observer)
        .threads(1)
        .listen_datagrams("udp://127.0.0.1:0")
        .start()
        .unwrap();
    let address = server.addr(0).socket_addr().unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.send_to(b"bye", address).unwrap();
    drop(peer);
    gone.wait();
    seen.wait_for("error refused");
    assert_eq!(seen.next_close(), word(Code::Refused));
    assert_eq!(ask_udp(&udp_client(address), b"still here"), b"STILL HERE");
}

#[test]
fn the_port_of_a_datagram_server_is_not_shared_with_strangers() {
    let server = Server::new(upper()).listen_datagrams("udp://127.0.0.1:0").start().unwrap();
    let address = server.addr(0).socket_addr().unwrap();
    let second = Server::new(upper()).listen_datagrams(format!("udp://{address}")).start();
    let error = second.unwrap_err();
    assert_eq!(error.code(), Code::InUse);
    assert!(error.to_string().contains("held by pid"), "{error}");
}

/// Answers at once, later, or with the end, as the message says.
#[derive(Default)]
struct Mixed {
    done: Rc<Cell<u32>>,
}

impl Handler for Mixed {
    fn message(&mut self, msg: &[u8], out: &mut Out<'_>) -> Answer {
        let msg = String::from_utf8_lossy(msg).into_owned();
        match msg.split_once(' ') {
            Some(("later", turns)) => {
                let (turns, done): (u32, _) = (turns.parse().unwrap(), Rc::clone(&self.done));
                Answer::later(async move {
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                    done.set(done.get() + 1);
                    Ok(format!("after {turns}").into())
                })
            }
            Some(("fail", why)) => {
                let why = why.to_owned();
                Answer::later(async move { Err(why.into()) })
            }
            _ if msg == "quit" => {
                out.send("bye");
                Answer::Close
            }
            _ => {
                out.send(msg);
                Answer::Done
            }
        }
    }
}

#[tokio::test]
async fn answers_keep_the_order_of_their_messages_whatever_is_ready_first() {
    for in_flight in [1, 2, 3, 32] {
        let limits = Limits { in_flight, ..Limits::default() };
        let service = each(|_| Mixed::default());
        let mut peer = adit::testing::memory_with(service, Lines::new(), limits);
        for msg in ["a", "later 9", "b", "later 0", "c", "later 3", "d", "quit", "never"] {
            peer.send(msg).await.unwrap();
        }
        for msg in ["a", "after 9", "b", "after 0", "c", "after 3", "d", "bye"] {
            assert_eq!(peer.recv().await.unwrap(), msg, "in flight {in_flight}");
        }
        assert!(peer.recv().await.is_err());
        assert_eq!(peer.finish().await.code, Code::Ok);
    }
}

#[tokio::test]
async fn every_split_of_the_input_gives_the_same_answers() {
    let input = b"a\nlater 2\nb\r\n\nlater 0\nlast";
    let answer = adit::testing::every_split(each(|_| Mixed::default()), Lines::new(), input).await;
    assert_eq!(answer.unwrap(), b"a\nafter 2\nb\n\nafter 0\nlast\n");
    let input = b"\0\0\0\x01a\0\0\0\x07later 3\0\0\0\0";
    let answer = adit::testing::every_split(each(|_| Mixed::default()), Length32, input);
    assert_eq!(answer.await.unwrap(), b"\0\0\0\x01a\0\0\0\x07after 3\0\0\0\0");
    let whole = fast(|msg, out| out.send(msg.len().to_string()));
    let answer = adit::testing::every_split(whole, Whole::new(), b"all of it").await;
    assert_eq!(answer.unwrap(), b"9");
}

#[tokio::test]
async fn a_failed_answer_ends_the_conversation_after_the_earlier_ones() {
    let mut peer = adit::testing::memory(each(|_| Mixed::default()), Lines::new());
    for msg in ["later 5", "fail disk", "later 0", "x"] {
        peer.send(msg).await.unwrap();
    }
    assert_eq!(peer.recv().await.unwrap(), "after 5");
    assert!(peer.recv().await.is_err());
    assert_eq!(peer.finish().await.code, Code::Handler);
}

#[tokio::test]
async fn a_message_cut_short_is_named_and_a_foreign_one_refused() {
    let mut peer = adit::testing::memory(upper(), Length32);
    peer.send_raw(b"\0\0\0\x09short").await.unwrap();
    assert_eq!(peer.finish().await.code, Code::Truncated);
    let limits = Limits { message_bytes: 100, ..Limits::default() };
    let mut peer = adit::testing::memory_with(upper(), Length32, limits.clone());
    peer.send_raw(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(peer.closed().await.code, Code::TooBig);
    let mut peer = adit::testing::memory_with(upper(), Lines::new(), limits);
    peer.send_raw(vec![b'x'; 5000]).await.unwrap();
    assert_eq!(peer.closed().await.code, Code::TooBig);
}

#[tokio::test]
async fn a_message_that_is_too_long_can_be_skipped_or_answered() {
    let skip = Limits { message_bytes: 10, overlong: adit::Overlong::Skip, ..Limits::default() };
    let long = "y".repeat(200_000);
    let input = format!("one\n{long}\ntwo\n{}\nthree\n", &long[..11]);
    let mut peer = adit::testing::memory_with(upper(), Lines::new(), skip.clone());
    let mut got = Vec::new();
    for chunk in input.as_bytes().chunks(1000) {
        peer.send_raw(chunk).await.unwrap();
    }
    for _ in 0..3 {
        got.push(peer.recv().await.unwrap());
    }
    assert_eq!(got, ["ONE", "TWO", "THREE"]);
    let mut peer = adit::testing::memory_with(upper(), Length32, skip);
    peer.send_raw([&b"\0\0\0\x0c"[..], &[b'z'; 12], b"\0\0\0\x02ok"].concat()).await.unwrap();
    assert_eq!(peer.recv().await.unwrap(), "OK");

    let overlong = adit::Overlong::Answer("too long".into());
    let answer = Limits { message_bytes: 10, overlong, ..Limits::default() };
    let mut peer = adit::testing::memory_with(upper(), Lines::new(), answer);
    peer.send_raw(vec![b'x'; 2000]).await.unwrap();
    assert_eq!(peer.recv().await.unwrap(), "too long");
    assert_eq!(peer.closed().await.code, Code::TooBig);
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_unframeable_ends_the_conversation() {
    let limits = Limits { reply_bytes: 5, ..Limits::default() };
    let double = fast(|msg, out| out.send([msg, msg].concat()));
    let mut peer = adit::testing::memory_with(double, Lines::new(), limits);
    assert_eq!(peer.call("ab").await.unwrap(), "abab");
    peer.send("abc").await.unwrap();
    assert_eq!(peer.closed().await.code, Code::TooBig);
    let two = fast(|_, out| out.send("a\nb"));
    let mut peer = adit::testing::memory(two, Lines::new());
    peer.send("x").await.unwrap();
    assert_eq!(peer.closed().await.code, Code::BadFrame);
}

#[tokio::test(start_paused = true)]
async fn time_limits_end_what_does_not_move_and_nothing_else() {
    let seconds = Duration::from_secs;
    let limits = Limits {
        first_message: Limit::At(seconds(10)),
        message: Limit::At(seconds(30)),
        idle: Limit::At(seconds(60)),
        ..Limits::default()
    };
    let mut peer = adit::testing::memory_with(upper(), Lines::new(), limits.clone());
    let closed = peer.closed().await;
    assert_eq!((closed.code, closed.lasted.as_secs()), (Code::MessageTimeout, 10), "never began");

    let mut peer = adit::testing::memory_with(upper(), Lines::new(), limits.clone());
    peer.call("x").await.unwrap();
    for _ in 0..3 {
        tokio::time::sleep(seconds(7)).await;
        peer.call("x").await.unwrap();
    }
    let closed = peer.closed().await;
    assert_eq!((closed.code, closed.lasted.as_secs()), (Code::IdleTimeout, 81), "since the last");

    let mut peer = adit::testing::memory_with(upper(), Lines::new(), limits.clone());
    peer.send_raw("begun").await.unwrap();
    let dribble = async {
        loop {
            tokio::time::sleep(seconds(2)).await;
            if peer.send_raw("x").await.is_err() {
                break;
            }
        }
        peer.closed().await
    };
    let closed = dribble.await;
    assert_eq!(closed.code, Code::MessageTimeout);
    assert!((30..=32).contains(&closed.lasted.as_secs()), "a byte now and then does not help");

    let slow = task(async |msg: Bytes| {
        tokio::time::sleep(Duration::from_secs(600)).await;
        Ok(msg)
    });
    let mut peer = adit::testing::memory_with(slow, Lines::new(), limits);
    assert_eq!(peer.call("x").await.unwrap(), "x", "idle does not run while an answer is owed");
}

#[test]
fn a_panic_ends_one_conversation_and_is_reported() {
    struct Boom(Rc<RefCell<u32>>);
    impl Handler for Boom {
        fn message(&mut self, msg: &[u8], out: &mut Out<'_>) -> Answer {
            *self.0.borrow_mut() += 1;
            assert_ne!(msg, b"boom", "boom");
            if msg == b"later boom" {
                return Answer::later(async { panic!("late boom") });
            }
            out.send(self.0.borrow().to_string());
            Answer::Done
        }
    }
    let (observer, seen) = watch();
    let service = per_thread(Rc::<RefCell<u32>>::default, |count, _| Boom(Rc::clone(count)));
    let server = Server::new(service)
        .observe(observer)
        .threads(1)
        .listen("tcp://127.0.0.1:0", Lines::new())
        .listen_datagrams("udp://127.0.0.1:0")
        .start()
        .unwrap();
    let (mut first, mut second) = (client(server.addr(0)), client(server.addr(0)));
    assert_eq!(ask(&mut first, "x\n", 1), ["1"]);
    for (boom, before) in [("x\nboom\n", "2\n"), ("later boom\n", "")] {
        first.write_all(boom.as_bytes()).unwrap();
        seen.wait_for("error panic");
        assert_eq!(read_to_end(&mut first), before.as_bytes(), "what was answered before arrives");
        first.shutdown(Shutdown::Both).unwrap();
        assert_eq!(seen.next_close(), word(Code::Panic));
        first = client(server.addr(0));
    }
    assert_eq!(ask(&mut second, "x\n", 1), ["5"]);
    let udp = udp_client(server.addr(1).socket_addr().unwrap());
    for boom in [&b"boom"[..], b"later boom"] {
        udp.send(boom).unwrap();
        assert_eq!(seen.next_close(), word(Code::Panic));
    }
    assert_eq!(ask_udp(&udp, b"x"), b"8");
}

/// Reliability: what was answered arrives although the peer sent more than was read.
/// Row 5 of docs/reliability.md: bytes that arrive of an answer, and how often that is tried.
const ANSWER: usize = 200_000;
const TIMES: usize = 100;

#[test]
fn no_answer_is_lost_because_the_peer_sent_more_than_was_read() {
    struct OnceLarge;
    impl Handler for OnceLarge {
        fn message(&mut self, _: &[u8], out: &mut Out<'_>) -> Answer {
            out.send(vec![b'r'; ANSWER]);
            Answer::Close
        }
    }
    let server =
        Server::new(each(|_| OnceLarge)).listen("tcp://127.0.0.1:0", Lines::new()).start().unwrap();
    for _ in 0..TIMES {
        let address = server.addr(0).socket_addr().unwrap();
        let socket = socket_with_small_buffer();
        socket.connect(&address.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(common::DEADLINE)).unwrap();
        stream.write_all(b"go\n").unwrap();
        stream.write_all(&[b'u'; 5000]).unwrap();
        assert_eq!(read_to_end(&mut stream).len(), ANSWER + 1);
    }
}

fn socket_with_small_buffer() -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket
}

#[test]
fn a_peer_that_does_not_read_is_bounded_and_ended() {
    let (observer, seen) = watch();
    let big = fast(|_, out| out.send(vec![b'x'; 1 << 20]));
    let limits = Limits { stall: Limit::At(Duration::from_millis(300)), ..Limits::default() };
    let server = Server::new(big)
        .observe(observer)
        .limits(limits)
        .listen("tcp://127.0.0.1:0", Lines::new())
        .start()
        .unwrap();
    let mut stalled = client(server.addr(0));
    stalled.write_all(&b"a\n".repeat(40)).unwrap();
    assert_eq!(seen.next_close(), word(Code::StallTimeout));
}

#[test]
fn a_drain_takes_what_is_queued_finishes_what_is_owed_and_cuts_the_rest() {
    let slow = task(async |msg: Bytes| {
        let rounds = if msg == "too slow" { u64::MAX } else { 100 };
        tokio::time::sleep(Duration::from_millis(rounds.min(1_000_000))).await;
        Ok(msg)
    });
    let server =
        Server::new(slow).threads(2).listen("tcp://127.0.0.1:0", Lines::new()).start().unwrap();
    let mut clients: Vec<_> = (0..6)
        .map(|index| {
            let mut stream = client(server.addr(0));
            let msg = if index == 0 { "too slow\n" } else { "abc\n" };
            stream.write_all(msg.as_bytes()).unwrap();
            stream
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(server.drain(Duration::from_secs(2)));
    assert_eq!((report.finished, report.cut), (5, 1));
    for stream in &mut clients[1..] {
        assert_eq!(read_to_end(stream), b"abc\n");
    }
}

#[test]
fn a_conversation_that_the_end_of_the_server_cuts_is_told_with_its_reason() {
    let (sender, asked) = std::sync::mpsc::sync_channel(4);
    let never = || {
        let sender = sender.clone();
        task(async move |msg: Bytes| {
            sender.send(msg)?;
            std::future::pending::<Result<Bytes, BoxError>>().await
        })
    };
    for (within, code) in [(Some(50), Code::DrainTimeout), (None, Code::Stopped)] {
        for is_datagram in [false, true] {
            let (observer, seen) = watch();
            let server = Server::new(never()).observe(observer);
            let server = match is_datagram {
                false => server.listen("tcp://127.0.0.1:0", Lines::new()),
                true => server.listen_datagrams("udp://127.0.0.1:0"),
            };
            let server = server.start().unwrap();
            let address = server.addr(0).socket_addr().unwrap();
            let stream = (!is_datagram).then(|| client(server.addr(0)));
            let socket = udp_client(address);
            match stream.as_ref() {
                Some(mut stream) => stream.write_all(b"hello\n").unwrap(),
                None => drop(socket.send(b"hello").unwrap()),
            }
            asked.recv_timeout(Duration::from_secs(20)).unwrap();
            match within {
                Some(within) => {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build();
                    let drain = server.drain_with_stats(Duration::from_millis(within));
                    let (report, stats) = runtime.unwrap().block_on(drain);
                    assert_eq!((report.cut, stats.closed, stats.failed), (1, 1, 1));
                }
                None => drop(server),
            }
            assert_eq!(seen.next_close(), word(code));
        }
    }
}

#[test]
fn once_takes_one_connection_and_closes_the_doors_behind_it() {
    for _ in 0..20 {
        let server = Server::new(fast(|msg, out| out.send(msg)))
            .once()
            .threads(3)
            .listen("tcp://127.0.0.1:0", Lines::new())
            .listen("tcp://127.0.0.1:0", Lines::new())
            .start()
            .unwrap();
        let mut first = client(server.addr(0));
        assert_eq!(ask(&mut first, "first\n", 1), ["first"]);
        // Refused, or reset because it was in the queue when the door closed.
        for place in [server.addr(0), server.addr(1)] {
            let Ok(mut second) = TcpStream::connect(place.socket_addr().unwrap()) else { continue };
            drop(second.write_all(b"second\n"));
            let mut answer = Vec::new();
            drop(second.read_to_end(&mut answer));
            assert_eq!(answer, b"");
        }
        assert_eq!(ask(&mut first, "again\n", 1), ["again"]);
        assert_eq!(server.stats().conversations, 1);
    }
}

#[test]
fn a_drain_closes_idle_conversations_and_the_port() {
    let server = Server::new(upper())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .listen_datagrams("udp://127.0.0.1:0")
        .start()
        .unwrap();
    let mut idle = client(server.addr(0));
    assert_eq!(ask(&mut idle, "x\n", 1), ["X"]);
    let address = server.addr(0).socket_addr().unwrap();
    assert_eq!(ask_udp(&udp_client(server.addr(1).socket_addr().unwrap()), b"y"), b"Y");
    let drained = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(server.drain(Duration::from_secs(10)))
    });
    assert_eq!(read_to_end(&mut idle), b"");
    drop(idle);
    let report = drained.join().unwrap();
    assert_eq!((report.finished, report.cut), (2, 0));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_ready_socket_is_taken_and_outlives_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..3 {
        let server = Server::new(upper())
            .listen_on(listener.try_clone().unwrap(), Lines::new())
            .start()
            .unwrap();
        let mut stream = client(server.addr(0));
        assert_eq!(ask(&mut stream, "x\n", 1), ["X"]);
        drop((stream, server));
        // Nobody serves, but nobody is refused either.
        drop(TcpStream::connect(address).unwrap());
    }
}

#[test]
fn at_the_limit_newcomers_wait_in_the_kernels_queue() {
    let limits = Limits { conversations: Limit::At(2), ..Limits::default() };
    let (observer, seen) = watch();
    let server = Server::new(upper())
        .observe(observer)
        .limits(limits)
        .listen("tcp://127.0.0.1:0", Lines::new())
        .start()
        .unwrap();
    let mut clients: Vec<_> = (0..3).map(|_| client(server.addr(0))).collect();
    for stream in &mut clients[..2] {
        assert_eq!(ask(stream, "x\n", 1), ["X"]);
    }
    clients[2].write_all(b"waiting\n").unwrap();
    seen.wait_for("limit conversations wait");
    assert_eq!(server.stats().open, 2);
    drop(clients.remove(0));
    assert_eq!(read_lines(&mut clients[1], 1), ["WAITING"]);
}

#[test]
fn a_peer_with_many_small_messages_does_not_hold_up_the_others_of_its_thread() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Endpoint::ip(Transport::Tcp, listener.local_addr().unwrap());
    // Both are in the queue with what they say before the server begins.
    let (mut busy, mut other) = (client(&address), client(&address));
    let mut writer = busy.try_clone().unwrap();
    std::thread::spawn(move || {
        writer.write_all(&b"x\n".repeat(100_000)).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    other.write_all(b"me too\n").unwrap();

    let order = Arc::new(AtomicUsize::new(0));
    let number = fast(move |_, out| out.send(order.fetch_add(1, Relaxed).to_string()));
    let server = Server::new(number).threads(1).listen_on(listener, Lines::new()).start().unwrap();
    let mine: usize = read_lines(&mut other, 1)[0].parse().unwrap();
    let answers = String::from_utf8(read_to_end(&mut busy)).unwrap();
    let last: usize = answers.lines().last().unwrap().parse().unwrap();
    assert_eq!(answers.lines().count(), 100_000);
    assert!(mine < last, "answered as number {mine} of {last}");
    drop(server);
}

#[test]
fn connections_are_spread_evenly() {
    let server =
        Server::new(upper()).threads(4).listen("tcp://127.0.0.1:0", Lines::new()).start().unwrap();
    let mut clients: Vec<_> = (0..400).map(|_| client(server.addr(0))).collect();
    for stream in &mut clients {
        assert_eq!(ask(stream, "x\n", 1), ["X"]);
    }
    let loads = server.loads();
    assert!(loads.iter().all(|load| (70..=130).contains(load)), "{loads:?}");
}

#[test]
fn a_refused_peer_is_closed_and_reported() {
    let (observer, seen) = watch();
    let service = each(|_: &Peer| Err::<Mixed, _>(Refuse::because("not today")));
    let server = Server::new(service)
        .observe(observer)
        .listen("tcp://127.0.0.1:0", Lines::new())
        .start()
        .unwrap();
    assert_eq!(read_to_end(&mut client(server.addr(0))), b"");
    assert_eq!(seen.wait_for("error").1, "error not-allowed not today");
    assert_eq!(seen.next_close(), word(Code::NotAllowed));
}

#[test]
fn a_sender_reaches_the_peer_from_another_thread() {
    struct Give(std::sync::mpsc::SyncSender<adit::Sender>);
    impl Handler for Give {
        fn opened(&mut self, peer: &Peer, _: &mut Out<'_>) {
            self.0.send(peer.sender()).unwrap();
        }
        fn message(&mut self, _: &[u8], _: &mut Out<'_>) -> Answer {
            Answer::Done
        }
        fn finished(&mut self, _: &mut Out<'_>) -> Answer {
            Answer::Done
        }
    }
    let (give, take) = std::sync::mpsc::sync_channel(8);
    let server = Server::new(each(move |_| Give(give.clone())))
        .listen("tcp://127.0.0.1:0", Lines::new())
        .listen_datagrams("udp://127.0.0.1:0")
        .start()
        .unwrap();
    let mut stream = client(server.addr(0));
    let sender = take.recv().unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    sender.try_send("one").unwrap();
    assert_eq!(read_lines(&mut stream, 1), ["one"]);
    let udp = udp_client(server.addr(1).socket_addr().unwrap());
    udp.send(b"hello").unwrap();
    take.recv().unwrap().try_send("two").unwrap();
    let mut answer = [0; 9];
    let bytes = udp.recv(&mut answer).unwrap();
    assert_eq!(&answer[..bytes], b"two");
    drop(server);
    assert!(sender.is_closed());
}

#[test]
fn fifty_datagram_peers_at_once_each_get_their_own_answers() {
    let server = Server::new(upper()).listen_datagrams("udp://127.0.0.1:0").start().unwrap();
    let address = server.addr(0).socket_addr().unwrap();
    let clients: Vec<_> = (0..50).map(|_| udp_client(address)).collect();
    for round in 0..5 {
        for (index, socket) in clients.iter().enumerate() {
            socket.send(format!("c{index} r{round}").as_bytes()).unwrap();
        }
        for (index, socket) in clients.iter().enumerate() {
            let mut answer = [0; 40];
            let bytes = socket.recv(&mut answer).unwrap();
            assert_eq!(&answer[..bytes], format!("C{index} R{round}").as_bytes());
        }
    }
    assert_eq!(server.stats().open, 50);
}

#[test]
fn bad_addresses_are_usage_errors() {
    for (address, says) in [
        ("127.0.0.1:0", "the scheme is missing"),
        ("tpc://127.0.0.1:0", "did you mean tcp?"),
        ("udp://127.0.0.1:0", "use listen_datagrams"),
        ("tcp://127.0.0.1:99999", "out of range"),
    ] {
        let error = Server::new(upper()).listen(address, Lines::new()).start().unwrap_err();
        assert_eq!(error.code(), Code::Usage);
        assert!(error.to_string().contains(says), "{error}");
    }
    let error = Server::new(upper()).listen("tcp://192.0.2.1:0", Lines::new()).start().unwrap_err();
    assert_eq!(error.code(), Code::NoAddress);
}
