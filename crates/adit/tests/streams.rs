//! Stream services and rooms over real sockets.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use adit::Code;
use adit::prelude::*;
use common::{ask, client, read_lines, read_to_end, watch, word};
use tokio::io::AsyncWriteExt as _;

#[test]
fn a_raw_stream_has_a_half_close_in_both_directions() {
    let echo = stream(async |conn: Conn| {
        let (mut from_client, mut to_client) = conn.split();
        tokio::io::copy(&mut from_client, &mut to_client).await?;
        Ok(())
    });
    let server = Server::streams(echo).listen("tcp://127.0.0.1:0").start().unwrap();
    let mut first = client(server.addr(0));
    first.write_all(b"abc").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut first), b"abc");

    let speaks_first = stream(async |conn: Conn| {
        let (mut from_client, mut to_client) = conn.split();
        to_client.write_all(b"hello").await?;
        drop(to_client);
        let mut rest = tokio::io::sink();
        tokio::io::copy(&mut from_client, &mut rest).await?;
        Ok(())
    });
    let (observer, seen) = watch();
    let server = Server::streams(speaks_first)
        .observe(observer)
        .listen("tcp://127.0.0.1:0")
        .start()
        .unwrap();
    let mut second = client(server.addr(0));
    assert_eq!(read_to_end(&mut second), b"hello");
    second.write_all(&[7; 1000]).unwrap();
    drop(second);
    assert_eq!(seen.wait_for("close").1, "close ok in 1000 out 5");
}

#[test]
fn a_stream_that_fails_panics_or_stalls_ends_alone_with_its_word() {
    let service = stream(async |mut conn: Conn| {
        let mut first = [0];
        tokio::io::AsyncReadExt::read_exact(&mut conn, &mut first).await?;
        match first[0] {
            b'e' => Err("on purpose".into()),
            b'p' => panic!("on purpose"),
            b's' => {
                conn.write_all(&vec![0; 50 << 20]).await?;
                Ok(())
            }
            _ => std::future::pending().await,
        }
    });
    let limits = Limits {
        idle: Limit::At(Duration::from_millis(600)),
        stall: Limit::At(Duration::from_millis(300)),
        linger: Duration::from_millis(100),
        linger_idle: Duration::from_millis(100),
        ..Limits::default()
    };
    let (observer, seen) = watch();
    let server = Server::streams(service)
        .observe(observer)
        .limits(limits)
        .listen("tcp://127.0.0.1:0")
        .start()
        .unwrap();
    for (act, code) in [
        ("e", Code::Handler),
        ("p", Code::Panic),
        ("s", Code::StallTimeout),
        ("i", Code::IdleTimeout),
    ] {
        let mut stream = client(server.addr(0));
        stream.write_all(act.as_bytes()).unwrap();
        assert_eq!(seen.next_close(), word(code), "{act}");
    }
}

#[test]
fn a_drain_lets_streams_end_once_nothing_is_left_to_read() {
    let echo = stream(async |conn: Conn| {
        let (mut from_client, mut to_client) = conn.split();
        tokio::io::copy(&mut from_client, &mut to_client).await?;
        Ok(())
    });
    let (observer, seen) = watch();
    let server =
        Server::streams(echo).observe(observer).listen("tcp://127.0.0.1:0").start().unwrap();
    let mut open = client(server.addr(0));
    assert_eq!(ask(&mut open, "x\n", 1), ["x"]);
    let drained = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(server.drain(Duration::from_secs(10)))
    });
    assert_eq!(read_to_end(&mut open), b"");
    drop(open);
    assert_eq!(seen.next_close(), word(Code::Drained));
    assert_eq!(drained.join().unwrap().cut, 0);
}

struct Chat {
    seat: Seat,
}

impl Handler for Chat {
    fn opened(&mut self, _: &Peer, out: &mut Out<'_>) {
        out.send("welcome");
    }
    fn message(&mut self, msg: &[u8], _: &mut Out<'_>) -> Answer {
        self.seat.publish(msg);
        Answer::Done
    }
}

#[test]
fn a_room_reaches_every_other_member_once_across_threads() {
    let room = Room::new();
    let inside = room.clone();
    let server = Server::new(each(move |peer| Chat { seat: inside.join(peer) }))
        .threads(3)
        .listen("tcp://127.0.0.1:0", Lines::new())
        .start()
        .unwrap();
    let mut clients: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = client(server.addr(0));
            assert_eq!(read_lines(&mut stream, 1), ["welcome"]);
            stream
        })
        .collect();
    assert!(server.loads().iter().all(|load| *load > 2), "{:?}", server.loads());
    clients[0].write_all(b"hi all\n").unwrap();
    for stream in &mut clients[1..] {
        assert_eq!(read_lines(stream, 1), ["hi all"]);
    }
    room.publish("from outside");
    for stream in &mut clients {
        assert_eq!(read_lines(stream, 1), ["from outside"], "the sender did not hear itself");
    }
}

#[test]
fn a_burst_of_messages_reaches_every_member_that_reads() {
    for line in ["x\n", "a line of common length, as it is in a page that is pasted\n"] {
        let room = Room::new();
        let inside = room.clone();
        let server = Server::new(each(move |peer| Chat { seat: inside.join(peer) }))
            .threads(2)
            .listen("tcp://127.0.0.1:0", Lines::new())
            .start()
            .unwrap();
        let mut clients: Vec<_> = (0..10).map(|_| client(server.addr(0))).collect();
        for stream in &mut clients {
            assert_eq!(read_lines(stream, 1), ["welcome"]);
        }
        let burst = line.repeat(3_000);
        clients[0].write_all(burst.as_bytes()).unwrap();
        for stream in &mut clients[1..] {
            let mut heard = vec![0; burst.len()];
            stream.read_exact(&mut heard).unwrap();
            assert!(heard == burst.as_bytes(), "other bytes came");
        }
        assert_eq!(room.dropped(), 0);
    }
}

#[test]
fn a_member_that_reads_too_slowly_loses_the_oldest_and_nobody_else_notices() {
    let room = Room::new();
    let inside = room.clone();
    let server = Server::new(each(move |peer| Chat { seat: inside.join(peer) }))
        .threads(2)
        .listen("tcp://127.0.0.1:0", Lines::new())
        .start()
        .unwrap();
    let (mut quick, mut slow) = (client(server.addr(0)), client(server.addr(0)));
    for stream in [&mut quick, &mut slow] {
        assert_eq!(read_lines(stream, 1), ["welcome"]);
    }
    // Each message waits until the quick reader has it; the slow one reads nothing at all.
    let body = "b".repeat(100_000);
    for number in 0..400 {
        room.publish(format!("{number} {body}"));
        let line = read_lines(&mut quick, 1).remove(0);
        assert!(line.starts_with(&format!("{number} ")), "in order and complete");
    }
    assert!(room.dropped() > 100, "dropped {}", room.dropped());
    room.publish("end");
    let mut numbers = Vec::new();
    loop {
        let line = read_lines(&mut slow, 1).remove(0);
        let Some((number, rest)) = line.split_once(' ') else {
            assert_eq!(line, "end");
            break;
        };
        assert_eq!(rest.len(), body.len(), "messages are dropped whole");
        numbers.push(number.parse::<u32>().unwrap());
    }
    assert!(numbers.is_sorted());
    assert_eq!(numbers.last(), Some(&399), "the oldest went, not the newest");
}
