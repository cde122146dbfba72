//! The fault catalogue over UDP, as far as a program that uses the library meets it: floods of peers that
//! do not exist, floods of those who may not come, answers that others pay for.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use adit::prelude::*;
use adit::{AccessList, Forward, Running};
use common::{DEADLINE, ask_udp, watch};

/// Limits under which loopback counts like any other network, where addresses can be forged.
fn limits() -> Limits {
    Limits { exempt_loopback: false, ..Limits::default() }
}

/// Answers only those who ask for it, with how many times they have.
#[derive(Default)]
struct Counter(u32);

impl Handler for Counter {
    fn message(&mut self, msg: &[u8], out: &mut Out<'_>) -> Answer {
        if msg == b"count" {
            self.0 += 1;
            out.send(self.0.to_be_bytes());
        }
        Answer::Done
    }
}

fn counter(limits: Limits) -> Running {
    let service = each(|_| Counter::default());
    Server::new(service)
        .listen_datagrams("udp://127.0.0.1:0")
        .limits(limits)
        .threads(1)
        .start()
        .unwrap()
}

fn address(server: &Running) -> SocketAddr {
    server.addr(0).socket_addr().unwrap()
}

/// A client of its own address: the number, in 127.0.0.0/8.
fn source(number: u32, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::from_bits(0x7f00_0000 | number), 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Addresses that come once, numbered from here on.
const STRANGERS: u32 = 0x0a_0000;
/// So many small datagrams fit in the receive queue; after them comes one that is answered, which says
/// that the server has seen everything before it.
const QUEUED: u32 = 100;

fn count(socket: &UdpSocket) -> u32 {
    u32::from_be_bytes(ask_udp(socket, b"count").try_into().unwrap())
}

/// Tests that measure the process run alone, the others beside each other.
static PROCESS: RwLock<()> = RwLock::new(());

fn alone() -> RwLockWriteGuard<'static, ()> {
    PROCESS.write().unwrap_or_else(PoisonError::into_inner)
}

fn beside_others() -> RwLockReadGuard<'static, ()> {
    PROCESS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Descriptors that this process has open, and kilobytes of memory that are its own.
fn costs() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let memory = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    (descriptors, memory.split_whitespace().nth(1).unwrap().parse().unwrap())
}

/// Datagrams of so many sources that are never heard of again, ten peers that stay among them.
fn flood(sources: u32, peers_max: usize) {
    const LIVE: u32 = 10;
    let _alone = alone();
    let server = counter(Limits {
        datagram_peers: peers_max,
        // On a slow machine, too, strangers go because others come.
        datagram_peer_new: Duration::from_secs(300),
        datagram_peer: Duration::from_secs(600),
        // The peers that stay ask more often than they would be answered.
        amplification: Limit::Off,
        ..limits()
    });
    let live: Vec<_> = (2..2 + LIVE).map(|number| source(number, address(&server))).collect();
    let mut costs_when_full = None;
    for (number, round) in (0..sources).step_by(QUEUED as usize).zip(1..) {
        for number in number..number + QUEUED {
            source(STRANGERS + number, address(&server)).send(b"a stranger").unwrap();
        }
        for (who, peer) in live.iter().enumerate() {
            assert_eq!(count(peer), round, "peer {who} was forgotten after {number} others");
        }
        let open = server.stats().open;
        assert!(open <= peers_max as u64, "{open} peers remembered");
        if open == peers_max as u64 {
            costs_when_full.get_or_insert_with(costs);
        }
    }
    let (before, after) = (costs_when_full.unwrap(), costs());
    println!("{sources} strangers: {before:?} descriptors and kB when full, {after:?} at the end");
    assert_eq!(server.stats().conversations, u64::from(sources + LIVE), "nobody was lost");
    assert!(after.0 <= before.0, "descriptors: {before:?}, then {after:?}");
    assert!(after.1 <= before.1 + 8_192, "kilobytes: {before:?}, then {after:?}");
}

/// 20,000 sources against a table of 4,000.
#[test]
fn row_11_strangers_do_not_drive_out_peers_that_are_alive() {
    flood(20_000, 4_000);
}

/// The whole of it, with the table as large as it is by default.
#[test]
#[ignore = "takes 15 s; ./check --nightly runs it"]
fn row_11_strangers_in_full() {
    flood(200_000, Limits::default().datagram_peers);
}

#[test]
fn row_11_one_source_has_so_many_ports_and_others_have_theirs() {
    let _beside_others = beside_others();
    let (watch, seen) = watch();
    let server = Server::new(each(|_| Counter::default()))
        .listen_datagrams("udp://127.0.0.1:0")
        .limits(limits())
        .threads(1)
        .observe(watch)
        .start()
        .unwrap();
    let same: Vec<_> = (0..300).map(|_| source(11, address(&server))).collect();
    for socket in &same {
        socket.send(b"a port").unwrap();
    }
    let first = &same[0];
    assert_eq!(count(first), 1, "it was there before its source had too many");
    assert_eq!(count(&source(12, address(&server))), 1, "another source has its own count");
    assert_eq!(seen.wait_for("limit per-source").1, "limit per-source refuse 1");
    let stats = server.stats();
    assert_eq!((stats.conversations, stats.refused), (101, 200));
}

#[test]
fn row_20_a_source_is_sent_three_times_what_it_sends_and_not_more() {
    const QUESTION: usize = 10;
    const ANSWER: usize = 30;
    const HEADERS: usize = 28;
    let _beside_others = beside_others();
    let chatty = fast(|_, out| {
        for _ in 0..10 {
            out.send([7; ANSWER]);
        }
    });
    let server = Server::new(chatty)
        .listen_datagrams("udp://127.0.0.1:0")
        .limits(limits())
        .threads(1)
        .start()
        .unwrap();
    let (mut asked, mut answered) = (0, 0);
    for _ in 0..20 {
        // Another port is no other source.
        let socket = source(11, address(&server));
        socket.send(&[1; QUESTION]).unwrap();
        asked += QUESTION + HEADERS;
        // What is answered at all is answered before a later question, from another source.
        let other = source(12, address(&server));
        ask_udp(&other, &[2; 100]);
        socket.set_nonblocking(true).unwrap();
        while socket.recv(&mut [0; 64]).is_ok() {
            answered += ANSWER + HEADERS;
        }
    }
    println!("{answered} B out for {asked} B in");
    assert!(answered <= 3 * asked, "{answered} B for {asked} B");
    assert!(answered + ANSWER + HEADERS > 3 * asked, "{answered} B for {asked} B: too few");
    assert!(server.stats().dropped > 0);
}

#[test]
fn row_20_a_source_is_sent_two_hundred_answers_at_once_from_all_its_ports() {
    let _beside_others = beside_others();
    let (watch, seen) = watch();
    let server = Server::new(fast(|msg, out| out.send(msg)))
        .listen_datagrams("udp://127.0.0.1:0")
        .limits(limits())
        .threads(1)
        .observe(watch)
        .start()
        .unwrap();
    let began = Instant::now();
    let sockets: Vec<_> = (0..50).map(|_| source(11, address(&server))).collect();
    for number in 0_u32..20 {
        for socket in &sockets {
            socket.send(&number.to_be_bytes()).unwrap();
        }
        ask_udp(&source(STRANGERS + number, address(&server)), b"behind them");
    }
    let mut answered = 0;
    for socket in &sockets {
        socket.set_nonblocking(true).unwrap();
        while socket.recv(&mut [0; 64]).is_ok() {
            answered += 1;
        }
    }
    let most = 200 + 1 + began.elapsed().as_millis() / 10;
    println!("{answered} answers to 1,000 questions, at most {most} in this time");
    assert!((200..=most).contains(&answered), "{answered} of at most {most}");
    seen.wait_for("limit amplification drop");
}

/// A greeting is an answer to the first datagram, and it is paid for.
#[test]
fn row_20_a_greeting_is_paid_for_by_the_first_datagram() {
    struct Greets;
    impl Handler for Greets {
        fn opened(&mut self, _peer: &Peer, out: &mut Out<'_>) {
            out.send("welcome");
        }
        fn message(&mut self, _msg: &[u8], _out: &mut Out<'_>) -> Answer {
            Answer::Done
        }
    }
    let _beside_others = beside_others();
    let server = Server::new(each(|_| Greets))
        .listen_datagrams("udp://127.0.0.1:0")
        .limits(limits())
        .start()
        .unwrap();
    assert_eq!(ask_udp(&source(11, address(&server)), b"hello"), b"welcome");
}

/// Nobody says that a datagram conversation is over: its end by quiet is a clean one.
#[test]
fn row_11_a_peer_that_says_nothing_more_ends_cleanly() {
    let _beside_others = beside_others();
    let (watch, seen) = watch();
    let life = Duration::from_millis(50);
    let limits = Limits { datagram_peer: life, datagram_peer_new: life, ..Limits::default() };
    let server = Server::new(fast(|msg, out| out.send(msg)))
        .listen_datagrams("udp://127.0.0.1:0")
        .limits(limits)
        .observe(watch)
        .start()
        .unwrap();
    assert_eq!(ask_udp(&source(11, address(&server)), b"hello"), b"hello");
    assert_eq!(seen.next_close(), "ok");
}

#[test]
fn row_11_a_peer_that_is_owed_an_answer_is_not_forgotten_before_it() {
    let _beside_others = beside_others();
    let life = Duration::from_millis(10);
    let limits = Limits { datagram_peer: life, datagram_peer_new: life, ..Limits::default() };
    let slow = task(async move |msg: Bytes| {
        tokio::time::sleep(20 * life).await;
        Ok(msg)
    });
    let server =
        Server::new(slow).listen_datagrams("udp://127.0.0.1:0").limits(limits).start().unwrap();
    assert_eq!(ask_udp(&source(11, address(&server)), b"slowly"), b"slowly");
}

/// A forward never turns a bad end into a clean one.
#[test]
fn row_25_a_forward_ends_a_conversation_with_nobody_as_refused() {
    let _beside_others = beside_others();
    // Bound, so that nobody else gets the port, and deaf to everybody but one.
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    target.connect("127.0.0.1:9").unwrap();
    let (watch, seen) = watch();
    let forward = Forward::to(format!("udp://{}", target.local_addr().unwrap()))
        .unwrap()
        .listen("udp://127.0.0.1:0")
        .observe(watch)
        .start()
        .unwrap();
    let client = source(11, address(&forward));
    for _ in 0..3 {
        client.send(b"anybody?").unwrap();
        assert!(seen.wait_for("error refused").1.contains("nothing is listening"));
        assert_eq!(seen.next_close(), "refused");
    }
}

#[test]
fn refusing_datagrams_leaves_nothing_behind() {
    const COUNT: u32 = 50_000;
    let _alone = alone();
    let (watch, seen) = watch();
    let list = AccessList::deny_only(["127.0.0.12".parse().unwrap()]);
    let server = Server::new(fast(|msg, out| out.send(msg)))
        .listen_datagrams("udp://127.0.0.1:0")
        .access(list)
        .limits(limits())
        .threads(1)
        .observe(watch)
        .start()
        .unwrap();
    let (denied, allowed) = (source(12, address(&server)), source(13, address(&server)));
    let turned_away = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            denied.send(b"denied").unwrap();
            if number % QUEUED == QUEUED - 1 {
                // A source of its own, for there are only so many answers a second.
                let peer = source(STRANGERS + number, address(&server));
                assert_eq!(ask_udp(&peer, b"served"), b"served");
            }
        }
    };
    turned_away(0..2_000);
    let before = costs();
    turned_away(2_000..COUNT);
    let after = costs();
    assert_eq!(ask_udp(&allowed, b"still served"), b"still served");
    assert_eq!(server.stats().refused, u64::from(COUNT));
    denied.set_nonblocking(true).unwrap();
    assert_eq!(denied.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
    println!("descriptors and kB {before:?}, {after:?} after {COUNT} refusals");
    assert!(after.0 <= before.0, "descriptors: {before:?} before, {after:?} after");
    assert!(after.1 <= before.1 + 8_192, "kilobytes: {before:?} before, {after:?} after");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.drain(DEADLINE));
    let (mut events, mut count) = (0, 0);
    while count < u64::from(COUNT) {
        let (_, line) = seen.wait_for("limit access refuse");
        count += line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        events += 1;
    }
    assert!(events <= 20, "{events} events about {count} refusals");
}
