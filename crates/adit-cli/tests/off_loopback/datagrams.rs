//! Datagrams in the name of others: what is answered, how much of it, and from which address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Instant;

use rustix::process::Signal;

use crate::common::{DEADLINE, Program, adit, skipped};
use crate::field::{
    FAR, FAR_LINK, FAR_V6, Field, Forger, ask_behind, cable, datagrams, has_users, heard, v4, v6,
};

const PORT: u16 = 7000;

/// Answers that one source may be sent in this time, by each thread.
fn most(began: Instant) -> u64 {
    200 + 1 + u64::try_from(began.elapsed().as_millis() / 10).unwrap()
}

#[test]
fn whoever_is_not_there_is_sent_no_more_for_saying_so() {
    let test = "datagrams::whoever_is_not_there_is_sent_no_more_for_saying_so";
    let Some(field) = Field::of(test) else { return };
    let server = field.serve(&["echo", "udp://:7000", "--json"]);
    // As many messages that nobody is there as a host sends, not one a second.
    std::fs::write("/proc/sys/net/ipv4/icmp_ratelimit", "0").unwrap();
    let forger = Forger::new();
    let (began, before) = (Instant::now(), field.sent());
    for number in 0_u32..4_000 {
        forger.send((v4(1, 1), 4000), (FAR.into(), PORT), &number.to_be_bytes());
        if number % 50 == 0 {
            // Behind each it is heard that nobody is there.
            let socket = datagrams(v4(2, u8::try_from(number / 50 + 1).unwrap()), 0);
            socket.connect((FAR, PORT)).unwrap();
            socket.send(&number.to_be_bytes()).unwrap();
            socket.recv(&mut [0; 9]).unwrap();
        }
    }
    ask_behind(PORT);
    // Beside the answers there are those to the others, and a few of the cable's own.
    let (sent, most) = (field.sent() - before, most(began) + 80 + 40 + 60);
    let said = server.err.wait_for("\"code\":\"refused\",\"in\"");
    let ends = said.matches("\"code\":\"refused\",\"in\"").count();
    println!("{sent} packets for 4,000 in {:?}, at most {most}, {ends} ends", began.elapsed());
    assert!(sent <= most, "{sent} of at most {most}");
}

#[test]
fn a_source_is_sent_a_hundred_answers_a_second_whichever_of_its_addresses_it_uses() {
    let test =
        "datagrams::a_source_is_sent_a_hundred_answers_a_second_whichever_of_its_addresses_it_uses";
    let Some(field) = Field::of(test) else { return };
    let _server = field.serve(&["echo", "udp://:7000"]);
    let threads = u64::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    let forger = Forger::new();
    let sockets: Vec<_> = (1..=90).map(|host| datagrams(v6(1, host), 4000)).collect();
    let began = Instant::now();
    for number in 0_u16..2_000 {
        let from = v6(1, 1 + number % 90);
        forger.send((from, 4000), (FAR_V6.into(), PORT), &number.to_be_bytes());
    }
    ask_behind(PORT);
    let answers = sockets.iter().map(|socket| heard(socket).0 as u64).sum::<u64>();
    let most = most(began) * threads;
    println!("{answers} answers for 2,000 in {:?}, at most {most}", began.elapsed());
    assert!((200..=most).contains(&answers), "{answers} of at most {most}");
}

#[test]
fn three_bytes_leave_for_each_that_came_whatever_answers() {
    let test = "datagrams::three_bytes_leave_for_each_that_came_whatever_answers";
    let Some(field) = Field::of(test) else { return };
    let program = |script| vec!["udp://:7000", "--open", "--user=root", "--", "sh", "-c", script];
    let mut served = vec![(vec!["daytime", "udp://:7000"], true)];
    if has_users() {
        served.push((program("cat; echo and more"), true));
        served.push((program("head -c 60000 /dev/zero"), false));
    } else {
        skipped("only root can run a program as somebody");
    }
    for (words, answers) in served {
        let mut server = field.serve(&words);
        let forger = Forger::new();
        let victims: Vec<_> = (1..=4).map(|host| datagrams(v4(1, host), 4000)).collect();
        for number in 0_u8..20 {
            let from = v4(1, 1 + number % 4);
            forger.send((from, 4000), (FAR.into(), PORT), &[number]);
        }
        // What has come before the order to end is dealt with.
        server.signal(Signal::TERM);
        server.wait();
        for victim in &victims {
            let (count, bytes) = heard(victim);
            assert_eq!(count > 0, answers, "{words:?}");
            assert!(bytes <= 3 * 5 * 29, "{words:?}: {bytes} B for {} B", 5 * 29);
        }
    }
}

#[test]
fn services_that_answer_by_themselves_and_impossible_senders_are_not_answered() {
    let test =
        "datagrams::services_that_answer_by_themselves_and_impossible_senders_are_not_answered";
    let Some(field) = Field::of(test) else { return };
    let mut server = field.serve(&[
        "echo",
        "udp://:7000",
        "--allow=127.0.0.1",
        "--allow=10.78.0.0/16",
        "--allow=fd78::/16",
        "--allow=10.77.0.0/16",
        "--json",
    ]);
    let forger = Forger::new();
    let ports = [7, 17, 19, 53, 111, 123, 137, 138, 161, 389, 500];
    let hears: Vec<_> = ports
        .iter()
        .flat_map(|port| [datagrams(v4(1, 1), *port), datagrams(v6(1, 1), *port)])
        .collect();
    for port in ports.into_iter().chain([0]) {
        forger.send((v4(1, 1), port), (FAR.into(), PORT), b"x");
        forger.send((v6(1, 1), port), (FAR_V6.into(), PORT), b"x");
    }
    // Itself, and IPv4 in the clothes of IPv6, of which the list allows that in it.
    let mapped = |address: Ipv4Addr| IpAddr::from(address.to_ipv6_mapped());
    forger.send((FAR.into(), PORT), (FAR.into(), PORT), b"x");
    forger.send((FAR_V6.into(), PORT), (FAR_V6.into(), PORT), b"x");
    for from in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 78, 1, 1), FAR] {
        forger.send((mapped(from), 4000), (FAR_V6.into(), PORT), b"x");
    }
    ask_behind(PORT);
    server.signal(Signal::TERM);
    let said = server.wait().err;
    assert_eq!(hears.iter().map(|socket| heard(socket).0).sum::<usize>(), 0);
    // Those of 12 ports over both families have come; of impossible senders what the kernel lets through.
    let dropped = said.rsplit("\"dropped\":").next().unwrap();
    let dropped: u64 = dropped.split(',').next().unwrap().parse().unwrap();
    println!("{dropped} dropped of {}", 24 + 5);
    assert!((24..=29).contains(&dropped), "{said}");
    let strangers = |line: &&str| line.contains("\"ev\":\"open\"") && !line.contains("10.78.250.");
    assert_eq!(said.lines().filter(strangers).collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn what_is_sent_to_everybody_is_answered_once() {
    let test = "datagrams::what_is_sent_to_everybody_is_answered_once";
    let Some(field) = Field::of(test) else { return };
    let _server = field.serve(&["echo", "udp://:7000"]);
    let socket = datagrams("10.77.0.1".parse().unwrap(), 0);
    socket.set_broadcast(true).unwrap();
    let on_cable = UdpSocket::bind("[fd77::1]:0").unwrap();
    let all = SocketAddrV6::new("ff02::1".parse().unwrap(), PORT, 0, cable());
    for number in 0_u8..5 {
        socket.send_to(&[number], ("10.77.0.255", PORT)).unwrap();
        on_cable.send_to(&[number], all).unwrap();
    }
    on_cable.set_read_timeout(Some(DEADLINE)).unwrap();
    for socket in [&socket, &on_cable] {
        for _ in 0..5 {
            assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 1);
        }
    }
    // Nothing more comes, from whichever thread.
    ask_behind(PORT);
    assert_eq!((heard(&socket).0, heard(&on_cable).0), (0, 0));
}

#[test]
fn echo_servers_on_two_hosts_that_are_set_on_each_other_stop() {
    let test = "datagrams::echo_servers_on_two_hosts_that_are_set_on_each_other_stop";
    let Some(field) = Field::of(test) else { return };
    let other = field.serve(&["echo", "udp://:7000", "--json"]);
    let here =
        Program::start(&mut adit(&["serve", "echo", "udp://:7001", "--print-addr", "--json"]));
    here.out.first_line().unwrap();
    let before = field.sent();
    let near = IpAddr::from([10, 77, 0, 1]);
    Forger::new().send((near, 7001), (FAR.into(), PORT), b"hello");
    let has_seen = |server: &Program| server.err.text().contains("\"name\":\"loop\"");
    crate::common::wait_until("one has had enough", || has_seen(&other) || has_seen(&here));
    ask_behind(PORT);
    let sent = field.sent() - before;
    println!("the far one sent {sent} packets, 40 of them to others");
    assert!(sent <= 40 + 100 + 20, "{sent}");
}

#[test]
fn every_answer_leaves_from_the_address_that_was_asked() {
    let test = "datagrams::every_answer_leaves_from_the_address_that_was_asked";
    let Some(field) = Field::of(test) else { return };
    let script = "for host in 3 4 5; do ip address add 10.77.0.$host/24 dev c0; \
         ip -6 address add fd77::$host/64 dev c0 nodad; ip -6 address add fe80::$host/64 dev c0 nodad; done";
    field.there(&["sh", "-ec", script]);
    let _server = field.serve(&["echo", "udp://:7000"]);
    let _relay = field.serve_relay("udp://:7001", &format!("udp://[{FAR_LINK}]:7000"));
    for port in [PORT, 7001] {
        for host in 2..=5 {
            let link: Ipv6Addr = format!("fe80::{host}").parse().unwrap();
            let asked: [SocketAddr; 3] = [
                format!("10.77.0.{host}:{port}").parse().unwrap(),
                format!("[fd77::{host}]:{port}").parse().unwrap(),
                SocketAddrV6::new(link, port, 0, cable()).into(),
            ];
            for asked in asked {
                let from = if asked.is_ipv4() { v4(1, 1) } else { Ipv6Addr::UNSPECIFIED.into() };
                // One that is connected hears the address it asks, and no other.
                let socket = datagrams(from, 0);
                socket.connect(asked).unwrap();
                socket.send(b"who answers?").unwrap();
                assert_eq!(socket.recv(&mut [0; 99]).unwrap(), 12, "{asked}");
            }
        }
    }
}
