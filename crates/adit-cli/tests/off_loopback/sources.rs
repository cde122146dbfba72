//! What one source may have, whichever of its addresses it uses, and that nobody else pays for it.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Instant;

use crate::common::read_line;
use crate::field::{Field, connect, datagrams, far, try_connect, v4, v6};

/// A connection that is served, or none.
fn served(from: IpAddr) -> Option<TcpStream> {
    let mut stream = try_connect(from, 7000).ok()?;
    // Whoever is turned away may find the connection closed already.
    drop(stream.write_all(b"x\n"));
    let bytes = stream.read(&mut [0; 9]).unwrap_or(0);
    (bytes > 0).then_some(stream)
}

fn count(from: impl IntoIterator<Item = IpAddr>) -> Vec<TcpStream> {
    from.into_iter().filter_map(served).collect()
}

#[test]
fn a_source_has_a_hundred_connections_whichever_of_its_addresses_it_uses() {
    let test = "sources::a_source_has_a_hundred_connections_whichever_of_its_addresses_it_uses";
    let Some(field) = Field::of(test) else { return };
    let server = field.serve(&["echo", ":7000", "--conn-rate=off", "--json"]);
    let began = Instant::now();
    // An IPv4 address on a socket of both families, and 110 addresses of one /64.
    let one = count((0..110).map(|_| v4(1, 1)));
    let subscriber = count((1..=110).map(|host| v6(1, host)));
    assert_eq!((one.len(), subscriber.len()), (100, 100));
    // Others are not refused anything.
    assert_eq!(count((1..=60).map(|host| v4(2, host))).len(), 60);
    assert_eq!(count((2..=61).map(|net| v6(net, 1))).len(), 60);
    let told = server.err.wait_for("\"name\":\"per-source\",\"value\":100,\"action\":\"refuse\"");
    // One line in 6 s for all.
    let lines = told.matches("\"name\":\"per-source\"").count() as u64;
    assert!(lines <= 1 + began.elapsed().as_secs() / 6, "{told}");
    // A place that is given back can be taken again.
    drop(subscriber);
    let end = Instant::now() + crate::common::DEADLINE;
    while served(v6(1, 200)).is_none() {
        assert!(Instant::now() < end, "no place was given back");
    }
}

#[test]
fn a_source_comes_fifty_times_a_second_whichever_of_its_addresses_it_uses() {
    let test = "sources::a_source_comes_fifty_times_a_second_whichever_of_its_addresses_it_uses";
    let Some(field) = Field::of(test) else { return };
    let _server = field.serve(&["echo", ":7000", "--per-source=off"]);
    let one: [fn(u16) -> IpAddr; 2] = [|_| v4(1, 1), |host| v6(1, host)];
    for address in one {
        let began = Instant::now();
        let let_in = count((1..=300).map(address)).len();
        let most = 100 + 1 + usize::try_from(began.elapsed().as_millis() / 20).unwrap();
        println!("{let_in} of 300 were let in, at most {most} in that time");
        assert!((100..=most).contains(&let_in), "{let_in} of at most {most}");
        assert!(served(v4(2, 1)).is_some() && served(v6(2, 1)).is_some(), "others are served");
    }
}

#[test]
fn a_full_server_turns_nobody_out_for_a_source_that_is_not_let_in() {
    let test = "sources::a_full_server_turns_nobody_out_for_a_source_that_is_not_let_in";
    let Some(field) = Field::of(test) else { return };
    for when_full in ["refuse", "shed"] {
        let flag = format!("--when-full={when_full}");
        let words = ["echo", ":7000", "--max-conns=20", "--per-source=5", "--deny=10.78.9.0/24"];
        let mut server = field.serve(&[&words[..], &[&flag, "--json"]].concat());
        let mut there = count((1..=20).map(|host| v4(1, host)));
        assert_eq!(there.len(), 20);
        // One that is denied, and one that has what it may have.
        let greedy = count((0..5).map(|_| v4(2, 1)));
        let (refused, taken) = if when_full == "shed" { (0, 5) } else { (5, 0) };
        assert_eq!(greedy.len(), taken, "{when_full}");
        assert_eq!(count((0..50).map(|_| v4(9, 1))).len(), 0);
        assert_eq!(count((0..50).map(|_| v4(2, 1))).len(), 0);
        let stays = |stream: &mut TcpStream| {
            let said = stream.write_all(b"y\n").and_then(|()| stream.read(&mut [0; 9]));
            said.is_ok_and(|bytes| bytes > 0)
        };
        let stay = there.iter_mut().filter_map(|stream| stays(stream).then_some(())).count();
        assert_eq!(stay, 20 - taken, "{when_full}: {refused} refused");
        server.signal(rustix::process::Signal::TERM);
        drop((there, greedy));
        assert_eq!(server.wait().status, 0);
    }
    // Where newcomers wait, who is not let in does not take a place that is free, and who waits gets it.
    let _server = field.serve(&["echo", ":7000", "--max-conns=2", "--deny=10.78.9.0/24"]);
    let first = served(v4(1, 1)).unwrap();
    assert_eq!(count((0..20).map(|_| v4(9, 1))).len(), 0);
    let _second = served(v4(1, 2)).unwrap();
    let mut waits = connect(v4(1, 3), 7000);
    waits.write_all(b"x\n").unwrap();
    drop(first);
    assert_eq!(read_line(&mut waits), "x\n");
}

#[test]
fn a_list_holds_for_every_form_of_an_address_over_tcp_and_udp() {
    let test = "sources::a_list_holds_for_every_form_of_an_address_over_tcp_and_udp";
    let Some(field) = Field::of(test) else { return };
    let rules = [
        "--deny=::ffff:10.78.1.2",
        "--allow=10.78.1.0/24",
        "--deny=fd78:0:0:2::/64",
        "--allow=fd78::/32",
        "--allow=fe80::/10",
    ];
    let words = [&["echo", ":7000", "udp://:7000"], &rules[..]].concat();
    let _server = field.serve(&words);
    let who = [
        (v4(1, 1), true),
        (v4(1, 2), false),
        (v4(2, 1), false),
        (v6(1, 1), true),
        (v6(2, 1), false),
        ("fd78:1::1".parse().unwrap(), false),
        ("10.77.0.1".parse().unwrap(), false),
        ("fd77::1".parse().unwrap(), false),
    ];
    for (from, is_allowed) in who {
        assert_eq!(served(from).is_some(), is_allowed, "{from} over tcp");
        let socket = datagrams(from, 0);
        socket.connect(far(from, 7000)).unwrap();
        socket.send(b"x").unwrap();
        if is_allowed {
            assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 1, "{from} over udp");
        } else {
            // It has been dealt with when the next one is answered by every thread.
            for _ in 0..20 {
                let other = datagrams(v4(1, 1), 0);
                other.connect(far(v4(1, 1), 7000)).unwrap();
                other.send(b"x").unwrap();
                other.recv(&mut [0; 9]).unwrap();
            }
            assert_eq!(crate::field::heard(&socket).0, 0, "{from} over udp");
        }
    }
    // A link-local address comes with its interface.
    let place = format!("[{}]:7000", crate::field::FAR_LINK);
    for words in [&[place.as_str()][..], &["-u", &place]] {
        crate::common::run(&mut crate::common::adit(words), b"hello\n").assert_clean("hello\n");
    }
}
