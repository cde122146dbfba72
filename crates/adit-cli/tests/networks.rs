//! Faults that take a network of the test's own: peers that are gone without a word, ports that run out.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use adit_lab::net::{Host, Link, Net, Side};
use rustix::process::Signal;

use common::{Heard, Program, Ran, adit, noise, run, skipped};

/// The limit for a peer that does not answer or takes nothing, in all these tests.
const LIMIT: Duration = Duration::from_secs(2);
/// How much later it is found, as promised.
const DELAY: Duration = Duration::from_millis(1500);
/// What a machine that does ten other things may add.
const BUSY: Duration = Duration::from_secs(10);

/// A place for hosts; where there is none, the test says so and is skipped.
fn net() -> Option<Net> {
    Net::new().map_err(|absent| skipped(&absent.to_string())).ok()
}

/// The command on a host.
fn adit_on(host: &Host, words: &[&str]) -> Command {
    let command = adit(words);
    let mut there = host.command(command.get_program());
    there.args(command.get_args());
    there
}

/// Two hosts with a cable, a server on the far one, and a client on the near one.
struct Far {
    server: Program,
    link: Link,
    near: Host,
    _far: Host,
    _net: Net,
}

impl Far {
    /// Serves at the far end, and waits until it can be connected to.
    fn serve(service: &str) -> Option<Self> {
        let net = net()?;
        let (near, far) = (net.host().unwrap(), net.host().unwrap());
        let link = net.link(&near, &far).unwrap();
        let place = format!("{}:7000", link.address(Side::Far));
        let words = ["serve", service, &place, "--stall=2s", "--print-addr", "--json"];
        let server = Program::start(&mut adit_on(&far, &words));
        server.out.wait_for(&place);
        Some(Self { server, link, near, _far: far, _net: net })
    }

    /// A client that is connected, with its input open.
    fn connect(&self, words: &[&str]) -> Program {
        let place = format!("{}:7000", self.link.address(Side::Far));
        let words = [&["connect", &place, "--stall=2s", "--json"], words].concat();
        let client = Program::start(&mut adit_on(&self.near, &words));
        client.err.wait_for("\"ev\":\"open\"");
        self.server.err.wait_for("\"ev\":\"open\"");
        client
    }

    /// Neither end hears anything of the other any more, and nobody tells them.
    fn cut(&self) -> Instant {
        for side in [Side::Near, Side::Far] {
            self.link.cut(side).unwrap();
        }
        Instant::now()
    }
}

/// Ended by the limit that was set, with one of these words, neither before it nor long after.
#[track_caller]
fn assert_found(ran: &Ran, words: &[&str], since: Instant) {
    let took = since.elapsed();
    let word = words.iter().find(|word| ran.err.contains(&format!("\"code\":\"{word}\"")));
    assert!(word.is_some() && ran.status == 124, "not {words:?} and 124: {ran:?}");
    assert!(took < LIMIT + DELAY + BUSY, "found after {took:?}");
    report("client", word.unwrap(), took);
}

/// The server has closed the conversation with this word.
#[track_caller]
fn assert_closed(server: &Heard, words: &[&str], since: Instant) {
    let said = server.wait_for("\"ev\":\"close\"");
    let close = said.lines().find(|line| line.contains("\"ev\":\"close\"")).unwrap();
    let word = words.iter().find(|word| close.contains(&format!("\"code\":\"{word}\"")));
    assert!(word.is_some(), "not {words:?}: {close}");
    assert!(since.elapsed() < LIMIT + DELAY + BUSY, "found after {:?}", since.elapsed());
    report("server", word.unwrap(), since.elapsed());
}

/// The figures of a run, for who asks for them: `cargo test -- --nocapture`.
#[expect(clippy::print_stdout, reason = "shown when asked for")]
fn report(who: &str, word: &str, took: Duration) {
    println!("{who}: {word} after {took:?}");
}

#[test]
fn a_dead_peer_is_found_while_nothing_is_said() {
    let Some(far) = Far::serve("echo") else { return };
    let mut client = far.connect(&[]);
    client.write(b"hello\n");
    client.out.wait_for("hello\n");
    let since = far.cut();
    assert_found(&client.wait(), &["dead-peer"], since);
    assert_closed(&far.server.err, &["dead-peer"], since);
}

#[test]
fn a_dead_peer_is_found_while_it_is_talked_to() {
    // Both ends have something on the way: the server echoes what comes in the moment of the cut.
    let Some(far) = Far::serve("echo") else { return };
    let mut client = far.connect(&[]);
    client.write(b"hello\n");
    client.out.wait_for("hello\n");
    // What the server says is lost first, then the other way too.
    far.link.cut(Side::Far).unwrap();
    client.write(b"is anybody there\n");
    far.server.err.wait_for("\"out\",\"seq\":1");
    let since = far.cut();
    assert_found(&client.wait(), &["dead-peer"], since);
    assert_closed(&far.server.err, &["dead-peer"], since);
}

/// More than anybody takes, which the command sees; and little enough to be in the hands of the kernel,
/// which alone sees that it stays there.
const UNTAKEN: [(usize, &[&str]); 2] = [(32 << 20, &[]), (150_000, &["--send-only"])];

#[test]
fn a_dead_peer_is_found_behind_a_closed_window() {
    for (bytes, words) in UNTAKEN {
        let Some(far) = Far::serve("discard") else { return };
        let mut client = far.connect(words);
        far.server.hold();
        client.feed(noise(1, bytes));
        wait_for_closed_window(&far.near, &mut client);
        let since = far.cut();
        // The limit began when it took nothing any more: at its end both are true.
        assert_found(&client.wait(), &["dead-peer", "stall-timeout"], since);
    }
}

#[test]
fn a_peer_that_lives_and_takes_nothing_is_no_dead_one() {
    let Some(far) = Far::serve("discard") else { return };
    for (bytes, words) in UNTAKEN {
        let mut client = far.connect(words);
        far.server.hold();
        let since = Instant::now();
        client.feed(noise(1, bytes));
        assert_found(&client.wait(), &["stall-timeout"], since);
        far.server.signal(Signal::CONT);
    }
}

/// Waits until a connection of this host probes a window that is closed (proc(5), `/proc/net/tcp`: timer
/// 4), of which nobody is told; or until the client has noticed.
#[track_caller]
fn wait_for_closed_window(host: &Host, client: &mut Program) {
    let end = Instant::now() + common::DEADLINE;
    while client.is_running() {
        let table = host.run(&["cat", "/proc/net/tcp"]).unwrap();
        let timers = table.lines().skip(1).filter_map(|row| row.split_whitespace().nth(5));
        if timers.into_iter().any(|timer| timer.starts_with("04:")) {
            return;
        }
        assert!(Instant::now() < end, "no window closed: {table}");
    }
}

/// A host with 32 ports for its clients, and an echo server.
fn with_few_ports() -> Option<(Program, Host, Net)> {
    let net = net()?;
    let host = net.host().unwrap();
    host.set("net.ipv4.ip_local_port_range", "40000 40031").unwrap();
    // A port that waits is not taken again, as between two machines (loopback is an exception).
    host.set("net.ipv4.tcp_tw_reuse", "0").unwrap();
    let words = ["serve", "echo", "127.0.0.1:7000", "--print-addr"];
    let server = Program::start(&mut adit_on(&host, &words));
    server.out.wait_for("7000");
    Some((server, host, net))
}

/// Clients that are connected and stay.
fn clients(host: &Host, count: usize) -> Vec<Program> {
    let connect = |_| {
        let mut client = Program::start(&mut adit_on(host, &["127.0.0.1:7000"]));
        client.write(b"hello\n");
        client
    };
    let clients: Vec<_> = (0..count).map(connect).collect();
    clients.iter().for_each(|client| drop(client.out.wait_for("hello\n")));
    clients
}

#[test]
fn ports_that_run_out_are_named_and_come_back() {
    let Some((_server, host, _net)) = with_few_ports() else { return };
    let mut held = clients(&host, 32);
    let one_more = |words: &[&str]| run(&mut adit_on(&host, words), b"hello\n");
    let ran = one_more(&["127.0.0.1:7000"]);
    let hint = "(code=no-ports); reuse connections, or let the peer close first\n";
    let why = "adit: no free local port to tcp 127.0.0.1:7000";
    assert_eq!((ran.status, ran.err), (1, format!("{why} {hint}")));

    // Who closes first keeps the port for a while.
    held.iter_mut().for_each(Program::end_input);
    for client in &mut held {
        client.wait().assert_clean("hello\n");
    }
    let ran = one_more(&["127.0.0.1:7000"]);
    assert_eq!((ran.status, ran.err), (1, format!("{why}; 32 in TIME_WAIT {hint}")));

    // It tries again without a spin, and goes on as soon as there is a port.
    let words = ["127.0.0.1:7000", "--retry=forever", "--backoff=10ms..100ms", "-v"];
    let mut waiting = Program::start(&mut adit_on(&host, &words));
    waiting.feed(b"hello\n".to_vec());
    waiting.err.wait_for("no-ports");
    host.set("net.ipv4.ip_local_port_range", "40000 40063").unwrap();
    let ran = waiting.wait();
    assert_eq!((ran.status, ran.text().as_str()), (0, "hello\n"), "{ran:?}");
    assert!(ran.err.lines().count() < 1000, "{} lines", ran.err.lines().count());
}

#[test]
fn a_relay_without_a_port_names_it_and_goes_on() {
    let Some((_server, host, _net)) = with_few_ports() else { return };
    let words = ["forward", "127.0.0.1:9000", "127.0.0.1:7000", "--print-addr"];
    let relay = Program::start(&mut adit_on(&host, &words));
    relay.out.wait_for("9000");
    let mut held = clients(&host, 32);
    let through = || run(&mut adit_on(&host, &["127.0.0.1:9000"]), b"hello\n");
    through().assert_failed(1, "reset");
    relay.err.wait_for("no free local port to tcp 127.0.0.1:7000 (code=no-ports)");
    // The ports of those that are gone wait; there are others.
    held.iter().for_each(|client| client.signal(Signal::KILL));
    held.iter_mut().for_each(|client| drop(client.wait()));
    host.set("net.ipv4.ip_local_port_range", "40000 40063").unwrap();
    through().assert_clean("hello\n");
}

/// Row 22 of docs/reliability.md. On loopback nobody is counted: it takes a network.
#[test]
fn row_22_a_source_that_floods_is_turned_away_and_twenty_others_are_refused_nothing() {
    let Some(net) = net() else { return };
    let (flooding, asking, far) = (net.host().unwrap(), net.host().unwrap(), net.host().unwrap());
    let links = [net.link(&flooding, &far).unwrap(), net.link(&asking, &far).unwrap()];
    let words = ["serve", "upper", "0.0.0.0:7000", "--allow=0.0.0.0/0", "--print-addr", "--json"];
    let server = Program::start(&mut adit_on(&far, &words));
    server.out.wait_for("7000");
    let [flooded, asked] = links.each_ref().map(|link| link.address(Side::Far));
    let [flooder, asker] = links.each_ref().map(|link| link.address(Side::Near));
    // Each of the others has an address of its own, and the server a way back.
    let others = (1..=20).map(|last| Ipv4Addr::new(10, 99, 0, last)).collect::<Vec<_>>();
    others.iter().for_each(|other| asking.add_address(*other).unwrap());
    far.run(&["ip", "route", "add", "10.99.0.0/24", "via", &asker.to_string()]).unwrap();

    let mut flood = flooding.command("bash");
    let come = format!("while :; do exec 3<>/dev/tcp/{flooded}/7000; done 2>/dev/null");
    flood.args(["-c", &come]);
    let flood = Program::start(&mut flood);
    let refused = "\"name\":\"conn-rate\"";
    server.err.wait_for(refused);
    for other in &others {
        let (place, source) = (format!("{asked}:7000"), other.to_string());
        let mut client = adit_on(&asking, &[&place, "-s", &source]);
        run(&mut client, b"hello\n").assert_clean("HELLO\n");
    }
    flood.signal(Signal::KILL);
    let mut server = server;
    server.signal(Signal::TERM);
    let ran = server.wait();
    // A machine that is busy makes the server late, which has no source.
    let is_meant =
        |line: &&str| line.contains("\"ev\":\"limit\"") && !line.contains("\"name\":\"lag\"");
    let limits = ran.err.lines().filter(is_meant);
    let limits: Vec<_> = limits.collect();
    let of_flooder = format!("\"peer\":\"{flooder}:");
    assert!(limits.iter().all(|line| line.contains(&of_flooder)), "{limits:?}");
    assert!(limits.iter().any(|line| line.contains(refused)), "{limits:?}");
}
