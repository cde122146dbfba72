//! TLS handshakes that stop half-way, and the box for those who let them fail.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::{Authority, DEADLINE, Program, adit, run, wait_until};
use crate::field::{FAR, Field, SHORT, connect, memory, v4};

/// An echo server with TLS at port 7000; the authority, which its files belong to.
fn serve(field: &Field, words: &[&str]) -> (Program, Authority) {
    let authority = Authority::new();
    let files = authority.issue("far", &[&FAR.to_string()]);
    let tls = ["echo", "tls://:7000", "--cert", &files.cert, "--key", &files.key, "--json"];
    (field.serve(&[&tls[..], words].concat()), authority)
}

/// Does a client at this address get an answer?
fn is_served(from: IpAddr, authority: &Authority) -> bool {
    let place = format!("tls://{FAR}:7000");
    let words = [&place, "--ca", &authority.ca, "-s", &from.to_string(), "-w", "30s"];
    let ran = run(&mut adit(&words), b"hello\n");
    ran.status == 0 && ran.text() == "hello\n"
}

/// The beginning of a handshake: the head of a record of 512 bytes, and little of it (RFC 8446, section 5.1).
fn begin(host: u8) -> TcpStream {
    let mut stream = connect(v4(1, host), 7000);
    let record = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 40]].concat();
    drop(stream.write_all(&record));
    stream
}

#[test]
fn five_hundred_half_handshakes_of_one_source_and_of_many_keep_nobody_waiting() {
    let test =
        "handshakes::five_hundred_half_handshakes_of_one_source_and_of_many_keep_nobody_waiting";
    let Some(field) = Field::of(test) else { return };
    let (server, authority) = serve(&field, &[]);
    assert!(is_served(v4(2, 1), &authority));
    let before = memory(&server);
    // Of one source a hundred are let in, and the rest is refused.
    let one: Vec<_> = (0..150).map(|_| begin(1)).collect();
    let many: Vec<_> =
        (0..400).map(|number| begin(u8::try_from(2 + number % 200).unwrap())).collect();
    let grown = memory(&server).saturating_sub(before);
    println!("500 half handshakes: +{grown} kB");
    assert!(grown < 500 * 64, "+{grown} kB");
    for host in 1..=5 {
        assert!(is_served(v4(2, host), &authority));
    }
    server.err.wait_for("\"name\":\"per-source\"");
    drop((one, many));
}

#[test]
fn who_does_not_get_beyond_the_handshake_makes_room_where_it_shall() {
    let test = "handshakes::who_does_not_get_beyond_the_handshake_makes_room_where_it_shall";
    let Some(field) = Field::of(test) else { return };
    let words = ["--max-conns=30", "--when-full=shed", "--handshake-timeout=300s"];
    let (server, authority) = serve(&field, &words);
    let half: Vec<_> = (0..60).map(|number| begin(1 + number % 20)).collect();
    // Whoever has had time enough goes, one for each who comes.
    wait_until("room is made", || is_served(v4(2, 1), &authority));
    for host in 2..=5 {
        assert!(is_served(v4(2, host), &authority));
    }
    server.err.wait_for("\"name\":\"conversations\",\"value\":30,\"action\":\"refuse\"");
    drop(half);
}

#[test]
fn who_lets_handshakes_fail_is_held_off_for_longer_each_time_and_nobody_else_is() {
    let test =
        "handshakes::who_lets_handshakes_fail_is_held_off_for_longer_each_time_and_nobody_else_is";
    let Some(field) = Field::of(test) else { return };
    let (server, authority) = serve(&field, &[]);
    let bad = v4(1, 1);
    // Newcomers are held off; who is there stays.
    let mut there = Program::start(&mut adit(&[
        &format!("tls://{FAR}:7000"),
        "--ca",
        &authority.ca,
        "-s",
        &bad.to_string(),
    ]));
    there.write(b"first\n");
    there.out.wait_for("first\n");
    for hold in [5, 10] {
        let mut before_last = Instant::now();
        for _ in 0..5 {
            before_last = Instant::now();
            let mut stream = connect(bad, 7000);
            stream.write_all(b"this is no handshake\n").unwrap();
            // It is counted before it is closed.
            drop(stream.read_to_end(&mut Vec::new()));
        }
        assert!(is_refused(bad), "held off after five");
        assert!(is_served(v4(1, 2), &authority), "nobody else is");
        while is_refused(bad) || !is_served(bad, &authority) {
            assert!(before_last.elapsed() < Duration::from_secs(hold) + DEADLINE, "never let in");
        }
        println!("held off for {:?}", before_last.elapsed());
        assert!(before_last.elapsed() >= Duration::from_secs(hold), "{:?}", before_last.elapsed());
    }
    server.err.wait_for("\"name\":\"penalty\"");
    there.write(b"second\n");
    there.out.wait_for("second\n");
}

/// Is a connection closed before it has said anything? One that is let in is waited for.
fn is_refused(from: IpAddr) -> bool {
    let mut stream = connect(from, 7000);
    stream.set_read_timeout(Some(SHORT)).unwrap();
    let ended = match stream.read(&mut [0; 9]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    if ended {
        std::thread::sleep(SHORT);
    }
    ended
}
