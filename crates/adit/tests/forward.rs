//! A forward over real sockets: every byte, every edge, and every end as it is.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit::event::{Detail, Payload, Role};
use adit::prelude::*;
use common::{DEADLINE, client, read_to_end, watch};

/// A target on a port of its own, and a forward in front of it.
fn in_front_of(listener: &TcpListener) -> Forward {
    let target = format!("tcp://{}", listener.local_addr().unwrap());
    Forward::to(target).unwrap().listen("tcp://127.0.0.1:0").threads(1)
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// The connection that has come; its reads and writes end.
fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// What is read up to a reset; fails if the end is a clean one.
fn read_to_reset(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    bytes
}

#[test]
fn ten_megabytes_go_each_way_at_once_and_both_ends_are_passed_on() {
    let listener = listener();
    let running = in_front_of(&listener).start().unwrap();
    let (mut near, mut far) = (client(running.addr(0)), accept(&listener));
    let up: Vec<u8> = (0..10_000_000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
    let down: Vec<u8> = (0..10_000_000_u32).map(|n| (n % 241).to_le_bytes()[0]).collect();
    let send = |stream: &TcpStream, bytes: &[u8]| {
        let (mut stream, bytes) = (stream.try_clone().unwrap(), bytes.to_vec());
        std::thread::spawn(move || {
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
    };
    send(&near, &up);
    send(&far, &down);
    let at_target = std::thread::spawn(move || read_to_end(&mut far));
    assert!(read_to_end(&mut near) == down, "other bytes came down");
    assert!(at_target.join().unwrap() == up, "other bytes came up");
}

#[test]
fn after_a_half_close_the_other_side_still_answers() {
    for client_first in [true, false] {
        let listener = listener();
        let running = in_front_of(&listener).start().unwrap();
        let (near, far) = (client(running.addr(0)), accept(&listener));
        let (mut first, mut second) = if client_first { (near, far) } else { (far, near) };
        first.write_all(b"question").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut second), b"question");
        second.write_all(b"a late answer").unwrap();
        drop(second);
        assert_eq!(read_to_end(&mut first), b"a late answer");
    }
}

#[test]
fn a_reset_is_passed_on_and_so_is_what_came_before_it() {
    for by_client in [true, false] {
        let listener = listener();
        let (observer, seen) = watch();
        let running = in_front_of(&listener).observe(observer).start().unwrap();
        let (near, far) = (client(running.addr(0)), accept(&listener));
        let (mut breaks, mut hears) = if by_client { (near, far) } else { (far, near) };
        breaks.write_all(b"part").unwrap();
        let mut part = [0; 4];
        hears.read_exact(&mut part).unwrap();
        assert_eq!(&part, b"part");
        reset(breaks);
        assert_eq!(read_to_reset(&mut hears), b"");
        assert!(seen.wait_for("close").1.starts_with("close reset "), "by_client {by_client}");
    }
}

#[test]
fn an_answer_before_a_reset_still_arrives() {
    let listener = listener();
    let running = in_front_of(&listener).start().unwrap();
    let (mut near, mut far) = (client(running.addr(0)), accept(&listener));
    far.write_all(b"an answer").unwrap();
    near.write_all(b"a question that nobody reads").unwrap();
    // It has come and is not read: the close of the target is a reset.
    far.peek(&mut [0]).unwrap();
    drop(far);
    assert_eq!(read_to_reset(&mut near), b"an answer");
}

#[test]
fn without_a_target_the_client_reads_a_reset_and_the_reason_is_told() {
    let closed = listener().local_addr().unwrap();
    let (observer, seen) = watch();
    let running = Forward::to(format!("tcp://{closed}"))
        .unwrap()
        .listen("tcp://127.0.0.1:0")
        .observe(observer)
        .start()
        .unwrap();
    let mut near = client(running.addr(0));
    assert_eq!(read_to_reset(&mut near), b"");
    assert!(seen.wait_for("close").1.starts_with("close refused "));
}

#[test]
fn a_limit_ends_both_sides_by_a_reset() {
    let listener = listener();
    let limits = Limits { idle: Limit::At(Duration::from_millis(100)), ..Limits::default() };
    let running = in_front_of(&listener).limits(limits).start().unwrap();
    let (mut near, mut far) = (client(running.addr(0)), accept(&listener));
    assert_eq!(read_to_reset(&mut far), b"");
    assert_eq!(read_to_reset(&mut near), b"");
}

#[test]
fn a_drain_waits_for_the_ends_and_cuts_the_rest_by_a_reset() {
    let listener = listener();
    let running = in_front_of(&listener).start().unwrap();
    let (mut near, mut far) = (client(running.addr(0)), accept(&listener));
    let (mut stays, mut waits) = (client(running.addr(0)), accept(&listener));
    let drained = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(running.drain(Duration::from_millis(500)))
    });
    near.write_all(b"after the order").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut far), b"after the order");
    drop(far);
    assert_eq!(read_to_end(&mut near), b"");
    assert_eq!(read_to_reset(&mut stays), b"");
    assert_eq!(read_to_reset(&mut waits), b"");
    assert_eq!(drained.join().unwrap().cut, 1);
}

#[test]
fn unix_sockets_are_forwarded_to_tcp_and_back() {
    let folder = std::env::temp_dir().join(format!("adit-forward-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (door, behind) = (folder.join("door"), folder.join("behind"));
    let target = UnixListener::bind(&behind).unwrap();
    let to_unix = Forward::to(format!("unix:{}", behind.display()))
        .unwrap()
        .listen("tcp://127.0.0.1:0")
        .start()
        .unwrap();
    let to_tcp = Forward::to(to_unix.addr(0)).unwrap().listen(format!("unix:{}", door.display()));
    let running = to_tcp.start().unwrap();
    let mut near = UnixStream::connect(&door).unwrap();
    near.write_all(b"through three sockets").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    let (mut far, _) = target.accept().unwrap();
    assert_eq!(read_to_end(&mut far), b"through three sockets");
    far.write_all(b"and back").unwrap();
    drop(far);
    assert_eq!(read_to_end(&mut near), b"and back");
    drop((running, to_unix));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn datagrams_keep_their_edges_and_answers_find_back_to_their_clients() {
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    target.set_read_timeout(Some(DEADLINE)).unwrap();
    let running = Forward::to(format!("udp://{}", target.local_addr().unwrap()))
        .unwrap()
        .listen("udp://127.0.0.1:0")
        .start()
        .unwrap();
    let door = running.addr(0).socket_addr().unwrap();
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            client
        })
        .collect();
    let mut datagram = vec![0; 65_536];
    for size in [0, 1, 1472, 65_507] {
        for (number, client) in clients.iter().enumerate() {
            let sent = vec![u8::try_from(number).unwrap(); size];
            client.send_to(&sent, door).unwrap();
            let (bytes, from) = target.recv_from(&mut datagram).unwrap();
            assert!(datagram[..bytes] == sent, "{bytes} of {size} came");
            target.send_to(&datagram[..bytes], from).unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            let (bytes, from) = client.recv_from(&mut datagram).unwrap();
            let sent = vec![u8::try_from(number).unwrap(); size];
            assert!(datagram[..bytes] == sent && from == door, "{bytes} of {size} from {from}");
        }
    }
}

#[test]
fn a_datagram_target_that_is_not_there_yet_is_told_and_found_later() {
    let reserved = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    // Bound and deaf to the forward: the system answers for it that nobody is there.
    reserved.connect("127.0.0.1:9").unwrap();
    let (observer, seen) = watch();
    let running = Forward::to(format!("udp://{address}"))
        .unwrap()
        .listen("udp://127.0.0.1:0")
        .observe(observer)
        .start()
        .unwrap();
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    near.set_read_timeout(Some(DEADLINE)).unwrap();
    near.connect(running.addr(0).socket_addr().unwrap()).unwrap();
    near.send(b"anybody?").unwrap();
    assert!(seen.wait_for("error").1.contains("refused"));
    drop(reserved);
    let target = UdpSocket::bind(address).unwrap();
    target.set_read_timeout(Some(DEADLINE)).unwrap();
    near.send(b"now?").unwrap();
    let (_, from) = target.recv_from(&mut [0; 9]).unwrap();
    target.send_to(b"yes", from).unwrap();
    let mut answer = [0; 9];
    assert_eq!(near.recv(&mut answer).unwrap(), 3);
}

#[test]
fn streams_do_not_go_to_datagrams() {
    let forward = Forward::to("udp://127.0.0.1:7000").unwrap().listen("tcp://127.0.0.1:0");
    let error = forward.start().unwrap_err();
    assert_eq!(error.code(), Code::Usage);
    assert!(error.hint().is_some());
    assert_eq!(Forward::to("tcp://127.0.0.1:0").unwrap_err().code(), Code::Usage);
}

#[test]
fn both_sockets_of_a_conversation_are_told_with_their_places_in_the_stream() {
    let listener = listener();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&lines);
    let running = in_front_of(&listener)
        .on_event(move |event| {
            let mut line = String::new();
            event.json(0, Detail::Trace, Payload::Whole, &mut line);
            told.lock().unwrap().push((event.role, event.conversation, line));
        })
        .start()
        .unwrap();
    let (mut near, mut far) = (client(running.addr(0)), accept(&listener));
    near.write_all(b"hello").unwrap();
    far.read_exact(&mut [0; 5]).unwrap();
    drop((near, far));
    // Dropping it waits for its thread, so that all is told.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(running.drain(DEADLINE));
    let lines = lines.lock().unwrap();
    for (role, word) in [
        (Role::Server, r#""ev":"accept""#),
        (Role::Server, r#""ev":"open""#),
        (Role::Client, r#""ev":"socket""#),
        (Role::Client, r#""ev":"connect""#),
        (Role::Client, r#""ev":"open""#),
        (Role::Server, r#""off":[0,5],"dir":"in","seq":0,"len":5,"text":"hello""#),
        (Role::Client, r#""off":[0,5],"dir":"out","seq":0,"len":5,"text":"hello""#),
        (Role::Client, r#""ev":"close""#),
        (Role::Server, r#""ev":"close""#),
    ] {
        let found = lines.iter().any(|(told, conversation, line)| {
            *told == role && *conversation == Some(1) && line.contains(word)
        });
        assert!(found, "no {word} of {role:?} in {lines:#?}");
    }
}
