//! The calls of both programs, and pictures of what they did: `--steps`, `--trace`, `adit explain`.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Scratch, Server, adit, client, finish, read_to_end, run, serve};
use crate::look::{events, number, of_kind, until};

/// A server and a client that have talked, and what each of them wrote down about it.
struct Talk {
    _scratch: Scratch,
    traces: [String; 2],
    /// The server, then the client.
    pids: [u64; 2],
    /// The server's address by TCP, and by UDP.
    places: [String; 2],
}

impl Talk {
    /// One line by this transport, from a client to `adit serve upper`, then the server is stopped.
    fn over(transport: &str) -> Self {
        let scratch = Scratch::new();
        let traces = ["S", "C"].map(|name| scratch.join(name));
        let server = ["upper", "127.0.0.1:0", "udp://127.0.0.1:0", "--trace", &traces[0]];
        let server = serve(&[&server[..], &["--payload=64"]].concat());
        let places = ["tcp", "udp"].map(|transport| server.place(transport).to_owned());
        let target = format!("{transport}://{}", server.place(transport));
        let words = ["connect", &target, "--trace", &traces[1], "--payload=64"];
        run(&mut adit(&words), b"hello\n").assert_clean("HELLO\n");
        assert_eq!(server.stop().status, 0);
        let pids = [0, 1].map(|end: usize| number(&trace(&traces[end])[0], "pid"));
        Self { _scratch: scratch, traces, pids, places }
    }

    /// What `adit explain` draws of both traces.
    fn drawn(&self, view: &str) -> String {
        draw(&[&self.traces[0], &self.traces[1], "--view", view])
    }
}

pub(crate) fn draw(words: &[&str]) -> String {
    let ran = run(adit(&["explain"]).args(words), b"");
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{words:?}");
    ran.text()
}

pub(crate) fn trace(path: &str) -> Vec<Value> {
    events(&fs::read_to_string(path).unwrap())
}

/// What one side does in the drawn steps: the columns are where the heading has them.
fn acts(drawn: &str, side: &str) -> Vec<String> {
    let mut lines = drawn.lines().skip_while(|line| !line.starts_with("SERVER"));
    let at = lines.next().unwrap().find("CLIENT").unwrap();
    let lines = lines.take_while(|line| !line.is_empty());
    let column = lines.filter_map(|line| match side {
        "CLIENT" => line.get(at..),
        // Between the columns is an arrow, which begins and ends at the same place in every line.
        _ => Some(&line[..line.len().min(at - 13)]),
    });
    column.map(str::trim).filter(|act| !act.is_empty()).map(str::to_owned).collect()
}

/// All of them are there, in this order.
#[track_caller]
pub(crate) fn assert_in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part);
        assert!(at.is_some(), "no {part:?} next in\n{text}");
        rest = &rest[at.unwrap() + part.len()..];
    }
}

/// How many bytes each read of the server had, from its trace.
pub(crate) fn reads(path: &str) -> Vec<u64> {
    let trace = trace(path);
    let data = of_kind(&trace, "data").filter(|data| data["dir"] == "in");
    data.map(|data| number(data, "len")).collect()
}

#[test]
fn lecture_s04_the_hosts_are_drawn_with_both_programs_and_their_sockets() {
    let talk = Talk::over("tcp");
    let drawn = talk.drawn("hosts");
    let [server, client] = talk.pids;
    let [tcp, udp] = &talk.places;
    assert_ne!(server, client);
    for says in [
        format!("pid {server}: welcomeSocket tcp {tcp}"),
        format!("pid {server}: serverSocket udp {udp}"),
        format!("pid {client}: clientSocket x 1"),
        "tcp 6 B up 6 B down".to_owned(),
    ] {
        assert!(drawn.contains(&says), "no {says:?} in\n{drawn}");
    }
}

#[test]
fn lecture_s10_the_server_says_its_calls_socket_bind_listen_and_accept_in_this_order() {
    let server = serve(&["upper", "127.0.0.1:0", "--steps"]);
    let peer = client(server.tcp());
    let said = server.program.err.wait_for(&peer.local_addr().unwrap().to_string());
    let tcp = format!("tcp {}", server.tcp());
    let parts =
        ["welcomeSocket = socket()", "bind(fd ", &tcp, "listen(fd ", "connectionSocket = accept()"];
    assert_in_order(&said, &parts);
}

#[test]
fn lecture_s18_the_steps_of_the_client_show_its_socket_and_the_local_port() {
    let server = serve(&["upper", "127.0.0.1:0", "--json"]);
    let ran = run(&mut adit(&["connect", "--steps", server.place("tcp")]), b"hello\n");
    assert_eq!((ran.status, ran.text().as_str()), (0, "HELLO\n"));
    let place = server.place("tcp").to_owned();
    let told = events(&server.stop().err);
    let from = of_kind(&told, "open").next().unwrap()["peer"].as_str().unwrap().to_owned();
    let (connect, from) = (format!("tcp {place}) = 0"), format!("from {from}"));
    assert_in_order(&ran.err, &["clientSocket = socket()", "connect(fd ", &connect, &from]);
}

#[test]
fn lecture_s21_the_door_for_welcome_and_the_door_for_the_client_are_two_descriptors() {
    let talk = Talk::over("tcp");
    let told = trace(&talk.traces[0]);
    let call = |word| of_kind(&told, word).find(|event| event["layer"] == "call").unwrap();
    let (welcome, connection) = (number(call("listen"), "fd"), number(call("accept"), "fd"));
    assert_ne!(welcome, connection);
    let drawn = talk.drawn("streams");
    assert!(drawn.contains(&format!("welcomeSocket fd{welcome} ")), "{drawn}");
    assert!(drawn.contains(&format!("connectionSocket fd{connection} ")), "{drawn}");
}

#[test]
fn lecture_s25_the_diagram_of_tcp_is_drawn_from_what_both_programs_did() {
    let drawn = Talk::over("tcp").drawn("steps");
    assert!(drawn.contains("seen by the client and the server"), "{drawn}");
    // The end of the client's stream may come before the reply or after it.
    let without = |side, end| {
        let mut acts = acts(&drawn, side);
        let at = acts.iter().position(|act| act == end);
        assert!(at.is_some(), "no {end:?} in\n{drawn}");
        acts.remove(at.unwrap());
        acts
    };
    let server = [
        "create welcomeSocket, port=x",
        "wait for a connection request",
        "connectionSocket = accept",
        r#"read 6 B "hello\n""#,
        r#"write 6 B "HELLO\n""#,
        "close connectionSocket",
    ];
    let client = [
        "clientSocket = connect",
        r#"write 6 B "hello\n""#,
        r#"read 6 B "HELLO\n""#,
        "read the end",
        "close clientSocket",
    ];
    assert_eq!(without("SERVER", "read the end"), server, "{drawn}");
    assert_eq!(without("CLIENT", "finish sending"), client, "{drawn}");
    assert_in_order(
        &drawn,
        &["connectionSocket = accept", "<= setup =>", "clientSocket = connect"],
    );
}

#[test]
fn lecture_s34_the_diagram_of_udp_is_drawn_from_what_both_programs_did() {
    let drawn = Talk::over("udp").drawn("steps");
    let server = [
        "create serverSocket, port=x",
        r#"receive 5 B "hello""#,
        r#"send 5 B "HELLO""#,
        "forget this peer",
    ];
    let client = [
        "create clientSocket",
        r#"send 5 B "hello""#,
        r#"receive 5 B "HELLO""#,
        "close clientSocket",
    ];
    assert_eq!(acts(&drawn, "SERVER"), server, "{drawn}");
    assert_eq!(acts(&drawn, "CLIENT"), client, "{drawn}");
    assert!(!drawn.contains("setup") && !drawn.contains("FIN"), "{drawn}");
}

#[test]
fn lecture_s28_the_streams_are_drawn_by_their_names_with_what_flowed_in_each() {
    let drawn = Talk::over("tcp").drawn("streams");
    let parts = [
        "keyboard",
        "monitor",
        "inFromUser       6 B",
        "outToServer      6 B in 1 write",
        "inFromClient     6 B in 1 read",
        "inFromServer     6 B in 1 read",
        "outToClient      6 B in 1 write",
        "to the monitor   6 B",
        "clientSocket",
    ];
    assert_in_order(&drawn, &parts);
}

#[test]
fn lecture_s35_the_packets_are_drawn_one_by_one_with_their_sizes() {
    let drawn = Talk::over("udp").drawn("streams");
    let parts = [
        "[sendPacket #1 5 B]",
        "[receivePacket #1 5 B]",
        "[receivePacket #1 5 B]",
        "[sendPacket #1 5 B]",
        "up    sent 5 B in 1 datagram, received 5 B in 1 datagram",
        "down  sent 5 B in 1 datagram, received 5 B in 1 datagram",
    ];
    assert_in_order(&drawn, &parts);
}

/// Stops a process and waits until none of its threads runs any more (proc(5), the state).
pub(crate) fn hold_still(server: &Server) {
    server.program.signal(Signal::STOP);
    let tasks = format!("/proc/{}/task", server.program.id());
    until("every thread is stopped", || {
        fs::read_dir(&tasks).unwrap().all(|task| {
            let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            stat.rsplit_once(')').unwrap().1.starts_with(" T")
        })
    });
}

/// Has the other side's system acknowledged all that this socket wrote (proc(5), `tx_queue`)?
pub(crate) fn is_acknowledged(local: SocketAddr) -> bool {
    let port = format!(":{:04X}", local.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|row| {
        let words: Vec<_> = row.split_ascii_whitespace().collect();
        words[1].ends_with(&port) && words[4].starts_with("00000000:")
    })
}

#[test]
fn lecture_s38_ten_small_writes_are_read_in_one() {
    let scratch = Scratch::new();
    let path = scratch.join("S");
    let server = serve(&["upper", "127.0.0.1:0", "--trace", &path]);
    hold_still(&server);
    // The server's system welcomes and stores while the process is held.
    let mut peer = client(server.tcp());
    peer.set_nodelay(true).unwrap();
    for number in 0..10 {
        assert_eq!(peer.write(format!("line {number:4}\n").as_bytes()).unwrap(), 10);
    }
    let local = peer.local_addr().unwrap();
    until("all of it is on the server's side", || is_acknowledged(local));
    server.program.signal(Signal::CONT);
    finish(&peer);
    assert_eq!(read_to_end(&mut peer).len(), 100);
    assert_eq!(server.stop().status, 0);
    assert_eq!(reads(&path), [100]);
    let drawn = draw(&[&path, "--view=steps"]);
    assert!(drawn.contains("read 100 B "), "{drawn}");
}

#[test]
fn lecture_s39_one_big_write_needs_several_reads() {
    let scratch = Scratch::new();
    let path = scratch.join("S");
    let server = serve(&["discard", "127.0.0.1:0", "--trace", &path]);
    let mut peer = client(server.tcp());
    peer.write_all(&vec![b'x'; 1_000_000]).unwrap();
    finish(&peer);
    assert_eq!(read_to_end(&mut peer), b"");
    assert_eq!(server.stop().status, 0);
    let reads = reads(&path);
    assert!(reads.len() > 10, "{reads:?}");
    assert_eq!(reads.iter().sum::<u64>(), 1_000_000);
    let drawn = draw(&[&path, "--view=ruler"]);
    assert!(drawn.contains(&format!("read x{}", reads.len())), "{drawn}");
}
