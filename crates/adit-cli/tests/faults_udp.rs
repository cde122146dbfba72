//! The fault catalogue over UDP, as a user of the command meets it. Each test bears the number of its row.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed"
)]

mod common;

#[path = "faults_udp/network.rs"]
mod network;
#[path = "faults_udp/reflection.rs"]
mod reflection;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use rustix::process::Signal;

use common::{
    DEADLINE, Scratch, Server, adit, bounded_udp, noise, run, serve, skipped, udp_socket,
};

/// A client that hears only the address it asks.
fn client(server: SocketAddr) -> UdpSocket {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
    };
    let socket = bounded_udp(UdpSocket::bind(any).unwrap());
    socket.connect(server).unwrap();
    socket
}

fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.send(question).unwrap();
    let mut answer = vec![0; 1 << 16];
    let bytes = socket.recv(&mut answer).unwrap();
    answer.truncate(bytes);
    answer
}

/// Stops a server in the middle of whatever it does, every thread of it.
fn freeze(server: &Server) {
    server.program.signal(Signal::STOP);
    let tasks = format!("/proc/{}/task", server.program.id());
    let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        stat.contains(") T ")
    };
    let deadline = Instant::now() + DEADLINE;
    while !std::fs::read_dir(&tasks).unwrap().all(is_stopped) {
        assert!(Instant::now() < deadline, "it does not stop");
        std::thread::yield_now();
    }
}

/// The number behind a name, in each line that has it.
fn numbers(lines: &str, name: &str) -> Vec<u64> {
    let mark = format!("\"{name}\":");
    let digits = |text: &str| -> String { text.chars().take_while(char::is_ascii_digit).collect() };
    lines.split(&mark).skip(1).map(|rest| digits(rest).parse().unwrap()).collect()
}

/// The lines that hold all of these words.
fn lines_with(text: &str, words: &[&str]) -> String {
    let holds = |line: &&str| words.iter().all(|word| line.contains(word));
    text.lines().filter(holds).flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn row_09_every_answer_leaves_from_the_address_that_was_asked() {
    let has_ipv6 = UdpSocket::bind("[::1]:0").is_ok();
    if !has_ipv6 {
        skipped("answers over IPv6: there is none here");
    }
    let target = serve(&["echo", "-u", "127.0.0.1:0"]);
    let relay = Server::start_as(
        "exec \"$@\" 3>\"$READY\"",
        &["forward", "--ready-fd=3", "udp://:0", &format!("udp://{}", target.place("udp"))],
    );
    let mut servers = vec![serve(&["echo", "udp://0.0.0.0:0"]), relay];
    if has_ipv6 {
        servers.push(serve(&["echo", "udp://[::]:0"]));
    }
    for server in &servers {
        let mut asked: Vec<SocketAddr> = Vec::new();
        let port = server.udp().port();
        asked.extend((1..=100).map(|host| SocketAddr::from(([127, 0, 0, host], port))));
        if server.udp().is_ipv6() {
            asked.push((Ipv6Addr::LOCALHOST, port).into());
        }
        for address in asked {
            assert_eq!(ask(&client(address), b"who answers?"), b"who answers?", "{address}");
        }
    }
}

/// Drops of the kernel at the sockets with this port, as it tells them itself (proc(5), /proc/net/udp).
fn kernel_drops(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let mark = format!(":{port:04X}");
    // Each I/O thread has a socket there.
    let local = |line: &&str| line.split_whitespace().nth(1).is_some_and(|at| at.ends_with(&mark));
    let drops = |line: &str| line.split_whitespace().last()?.parse::<u64>().ok();
    table.lines().filter(local).filter_map(drops).sum()
}

#[test]
fn row_13_what_the_kernel_drops_is_counted_to_the_last_one() {
    const BURST: u64 = 200;
    let server = serve(&["echo", "udp://127.0.0.1:0,rcvbuf=4096", "--json"]);
    let peer = client(server.udp());
    assert_eq!(ask(&peer, b"ready?"), b"ready?");
    freeze(&server);
    for number in 0..BURST {
        peer.send(&[&number.to_be_bytes()[..], &[7; 92]].concat()).unwrap();
    }
    server.program.signal(Signal::CONT);
    // The server says the number by itself, not only when it is over.
    let said = server.program.err.wait_for("\"name\":\"receive-queue\"");
    assert!(said.contains("\"action\":\"drop\""), "{said}");
    let dropped = kernel_drops(server.udp().port());
    peer.set_nonblocking(true).unwrap();
    let mut answered = 0;
    while peer.recv(&mut [0; 128]).is_ok() {
        answered += 1;
    }
    let ran = server.stop();
    let told: u64 =
        numbers(&lines_with(&ran.err, &["\"limit\"", "\"receive-queue\""]), "count").iter().sum();
    let summary = numbers(&lines_with(&ran.err, &["\"summary\""]), "dropped");
    println!("{BURST} sent, {answered} answered, {dropped} dropped, {told} told");
    assert!(dropped > 0, "nothing was dropped");
    assert_eq!((dropped, told, summary), (BURST - answered, dropped, vec![dropped]));
}

#[test]
fn row_25_a_server_outlives_peers_that_are_gone_and_tells_of_each() {
    let server = serve(&["echo", "udp://127.0.0.1:0", "--json"]);
    let stays = client(server.udp());
    assert_eq!(ask(&stays, b"first"), b"first");
    let mut gone = Vec::new();
    for _ in 0..20 {
        let peer = client(server.udp());
        gone.push(peer.local_addr().unwrap().to_string());
        // Frozen meanwhile, so that nobody is there any more when the answer goes out.
        freeze(&server);
        peer.send(b"and gone").unwrap();
        drop(peer);
        server.program.signal(Signal::CONT);
        assert_eq!(ask(&stays, b"still here?"), b"still here?");
    }
    for peer in &gone {
        server.program.err.wait_for(&format!("\"{peer}\",\"code\":\"refused\",\"in\""));
    }
    let ran = server.stop();
    for peer in &gone {
        let errors = lines_with(&ran.err, &["\"error\"", peer, "\"refused\""]);
        let closes = lines_with(&ran.err, &["\"close\"", peer, "\"refused\""]);
        assert_eq!((errors.lines().count(), closes.lines().count()), (1, 1), "{peer}");
    }
    assert_eq!(ran.status, 0);
}

#[test]
fn row_25_a_forward_says_which_target_refused_and_goes_on() {
    let target = udp_socket();
    let address = target.local_addr().unwrap();
    // Bound, so that nobody else gets the port, and deaf to everybody but one.
    target.connect("127.0.0.1:9").unwrap();
    let relay = Server::start_as(
        "exec \"$@\" 3>\"$READY\"",
        &["forward", "--ready-fd=3", "udp://127.0.0.1:0", &format!("udp://{address}")],
    );
    let peer = client(relay.udp());
    peer.send(b"anybody?").unwrap();
    let said = relay.program.err.wait_for("(code=refused)");
    let who = peer.local_addr().unwrap().to_string();
    assert!(said.contains(&address.to_string()) && said.contains(&who), "{said}");
    assert!(said.contains("refused, nothing is listening on"), "{said}");
    drop(target);
    // Somebody is there now: the client's next datagram arrives.
    let target = bounded_udp(UdpSocket::bind(address).unwrap());
    peer.send(b"and now?").unwrap();
    let (bytes, from) = target.recv_from(&mut [0; 99]).unwrap();
    assert_eq!(bytes, 8);
    target.send_to(b"yes", from).unwrap();
    let mut answer = [0; 9];
    assert_eq!(peer.recv(&mut answer).unwrap(), 3);
}

#[test]
fn row_26_datagrams_of_every_size_keep_their_edges() {
    let server = serve(&["echo", "-u", "127.0.0.1:0"]);
    let relay = Server::start_as(
        "exec \"$@\" 3>\"$READY\"",
        &[
            "forward",
            "--ready-fd=3",
            "udp://127.0.0.1:0",
            &format!("udp://{}", server.place("udp")),
        ],
    );
    let sizes = [0, 1, 1_472, 65_507, 0];
    for to in [&server, &relay] {
        let peer = client(to.udp());
        for (seed, size) in (1..).zip(sizes) {
            let message = noise(seed, size);
            assert!(ask(&peer, &message) == message, "{size} B");
        }
        let length = |size: usize| u32::try_from(size).unwrap().to_be_bytes();
        let record = |(seed, size)| [&length(size)[..], &noise(seed, size)].concat();
        let input: Vec<u8> = (1..).zip(sizes).flat_map(record).collect();
        let ran = run(&mut adit(&["-u", to.place("udp"), "--frame=len32"]), &input);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""));
        assert!(ran.out == input, "{} of {} B came back", ran.out.len(), input.len());
    }
    let too_long = [b"\0\0\xff\xe4".to_vec(), noise(9, 65_508)].concat();
    let ran = run(&mut adit(&["-u", server.place("udp"), "--frame=len32"]), &too_long);
    ran.assert_failed(1, "too-big");
}

/// UDP has nothing longer than 65,507 bytes; a Unix socket has.
#[test]
fn row_26_what_is_cut_off_is_said() {
    let scratch = Scratch::new();
    let path = scratch.join("socket");
    let server = serve(&["discard", &format!("unix-dgram:{path}"), "--json"]);
    let peer = UnixDatagram::unbound().unwrap();
    peer.connect(&path).unwrap();
    for size in [65_535, 65_536, 100_000] {
        peer.send(&noise(1, size)).unwrap();
    }
    server.program.err.wait_for("\"truncated\"");
    let ran = server.stop();
    assert_eq!(numbers(&lines_with(&ran.err, &["\"truncated\""]), "len"), [65_535, 65_535]);
}

/// `adit wait` only knocks.
#[test]
fn a_server_for_one_conversation_does_not_take_a_knock_for_it() {
    let mut server = serve(&["echo", "udp://127.0.0.1:0", "--once", "--json"]);
    let place = format!("udp://{}", server.place("udp"));
    run(&mut adit(&["wait", &place]), b"").assert_clean("");
    // The knock is forgotten when its peer is found to be gone.
    let knock = UdpSocket::bind("127.0.0.1:0").unwrap();
    freeze(&server);
    knock.send_to(b"", server.udp()).unwrap();
    drop(knock);
    server.program.signal(Signal::CONT);
    server.program.err.wait_for("\"ev\":\"close\"");
    assert!(server.program.is_running());
    let peer = client(server.udp());
    freeze(&server);
    peer.send(b"a conversation").unwrap();
    drop(peer);
    server.program.signal(Signal::CONT);
    assert_eq!(server.program.wait().status, 1, "the code is that of the conversation");
}
