//! Pictures in full: what is drawn of both ends, held against the slides, the kernel and the wire.

use std::fs;
use std::path::Path;
use std::process::Command;

use adit_trace::capture;
use adit_trace::story::{Did, Story};
use rustix::process::Signal;

use crate::common::{Program, Scratch, Server, adit, find, run, serve, skipped};
use crate::look::{sockets_of, until};
use crate::seen::{assert_in_order, draw, hold_still, is_acknowledged, reads, trace};

/// Starts `adit serve upper` with a trace.
fn traced(place: &str, path: &str) -> Server {
    serve(&["upper", place, "--trace", path, "--payload=64"])
}

/// A client with a trace has asked and heard the answer; its input is still open.
fn asking(command: &mut Command) -> Program {
    let mut client = Program::start(command);
    client.write(b"hello\n");
    client.out.wait_for("HELLO\n");
    client
}

/// The same words as a slide: five steps of the server and four of the client, and how each end is read.
const TCP_STEPS: &str = r#"
adit   calls exact | wire none

conversation 1  tcp  seen by the client and the server
SERVER                                         CLIENT
create welcomeSocket, port=x
wait for a connection request
connectionSocket = accept         <= setup =>  clientSocket = connect
read 6 B "hello\n"                <----------  write 6 B "hello\n"
write 6 B "HELLO\n"               ---------->  read 6 B "HELLO\n"
read the end                      <---FIN----  finish sending
close connectionSocket
                                  ---FIN---->  read the end
                                               close clientSocket
"#;

const UDP_STEPS: &str = r#"
adit   calls exact | wire none

conversation 1  udp  seen by the client and the server
SERVER                                         CLIENT
create serverSocket, port=x
                                               create clientSocket
receive 5 B "hello"               <----------  send 5 B "hello"
send 5 B "HELLO"                  ---------->  receive 5 B "HELLO"
forget this peer                               close clientSocket
"#;

const WIRE_STEPS: &str = r#"
adit   calls exact | wire exact

conversation 1  tcp  seen by the client and the wire
SERVER                                         CLIENT
create welcomeSocket, port=x
wait for a connection request
                                  <---SYN----  clientSocket = connect
                                  -SYN,ACK-->
                                  <---ACK----
                                  <----------  write 6 B "hello\n"
                                  ---------->  read 6 B "HELLO\n"
                                  <---FIN----  finish sending
                                  ---FIN---->  read the end
                                               close clientSocket
"#;

/// Draws the steps of one line, asked and answered by this transport; twice the same.
fn steps_of(place: &str, transport: &str) -> String {
    let scratch = Scratch::new();
    let [at_server, at_client] = ["S", "C"].map(|name| scratch.join(name));
    let server = traced(place, &at_server);
    let target = format!("{transport}://{}", server.place(transport));
    let words = ["connect", &target, "--trace", &at_client, "--payload=64"];
    let mut client = asking(&mut adit(&words));
    client.end_input();
    client.wait().assert_clean("HELLO\n");
    assert_eq!(server.stop().status, 0);
    let drawn = draw(&[&at_server, &at_client, "--view=steps"]);
    assert_eq!(drawn, draw(&[&at_client, &at_server, "--view=steps"]), "in whatever order");
    drawn
}

#[test]
fn lecture_s25_the_steps_of_tcp_are_line_by_line_those_of_the_slide() {
    assert_eq!(steps_of("127.0.0.1:0", "tcp").trim_end(), TCP_STEPS.trim());
}

#[test]
fn lecture_s34_the_steps_of_udp_are_line_by_line_those_of_the_slide() {
    assert_eq!(steps_of("udp://127.0.0.1:0", "udp").trim_end(), UDP_STEPS.trim());
}

#[test]
fn lecture_s04_what_is_drawn_is_what_the_kernel_lists_of_both_processes() {
    let scratch = Scratch::new();
    let [at_server, at_client] = ["S", "C"].map(|name| scratch.join(name));
    let server = traced("127.0.0.1:0", &at_server);
    let words = ["connect", server.place("tcp"), "--trace", &at_client];
    let mut client = asking(&mut adit(&words));
    let [s, c] = [server.program.id(), client.id()];
    let (welcome, connections): (Vec<_>, Vec<_>) =
        sockets_of(s, "tcp").into_iter().partition(|socket| socket.listens());
    let clients = sockets_of(c, "tcp");
    client.end_input();
    client.wait();
    assert_eq!(server.stop().status, 0);

    assert_eq!((welcome.len(), connections.len(), clients.len()), (1, 1, 1));
    let (door, ours) = (welcome[0].local, clients[0]);
    assert_eq!((connections[0].local, connections[0].remote), (ours.remote, ours.local));
    let drawn = draw(&[&at_server, &at_client, "--view=hosts"]);
    assert!(drawn.contains(&format!("pid {s}: welcomeSocket tcp {door}")), "{drawn}");
    assert!(drawn.contains(&format!("pid {c}: clientSocket x 1")), "{drawn}");
    let (from, to) = (format!("  1  {} -", ours.local), format!("> {}\n", ours.remote));
    let arrow = drawn.split_inclusive('\n').find(|line| line.contains(&from));
    assert!(arrow.is_some_and(|line| line.ends_with(&to)), "{drawn}");
}

#[test]
fn lecture_s21_the_welcome_socket_still_listens_when_the_connection_socket_is_closed() {
    let server = serve(&["upper", "127.0.0.1:0", "--steps"]);
    let descriptor = |said: &str, step: &str| -> Option<u32> {
        let after = said.split(step).nth(1)?.split("fd ").nth(1)?;
        after.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
    };
    run(&mut adit(&["connect", server.place("tcp")]), b"hello\n").assert_clean("HELLO\n");
    let said = server.program.err.wait_for("close(fd ");
    let welcome = descriptor(&said, "welcomeSocket = socket()").unwrap();
    let connection = descriptor(&said, "connectionSocket = accept()").unwrap();
    assert_ne!(welcome, connection, "{said}");
    assert!(said.contains(&format!("close(fd {connection})")), "{said}");
    assert!(!said.contains(&format!("close(fd {welcome})")), "{said}");
    until("the welcome socket alone is open", || {
        let open = sockets_of(server.program.id(), "tcp");
        open.len() == 1 && open[0].listens()
    });
    // It welcomes the next one, too.
    run(&mut adit(&["connect", server.place("tcp")]), b"hello\n").assert_clean("HELLO\n");
}

#[test]
fn lecture_s38_the_ruler_of_both_ends_shows_ten_writes_that_are_one_read() {
    let scratch = Scratch::new();
    let [at_server, at_client] = ["S", "C"].map(|name| scratch.join(name));
    let server = traced("127.0.0.1:0", &at_server);
    // Held, it reads nothing before all is there: its system welcomes and stores meanwhile.
    hold_still(&server);
    let words = ["connect", server.place("tcp"), "--trace", &at_client, "--steps"];
    let mut client = Program::start(&mut adit(&words));
    for number in 0..10 {
        let line = format!("line {number:4}");
        client.write(format!("{line}\n").as_bytes());
        client.err.wait_for(&line);
    }
    let ours = sockets_of(client.id(), "tcp")[0];
    until("all of it is on the server's side", || is_acknowledged(ours.local));
    server.program.signal(Signal::CONT);
    client.end_input();
    assert_eq!(client.wait().out.len(), 100);
    assert_eq!(server.stop().status, 0);
    let drawn = draw(&[&at_server, &at_client, "--view=ruler"]);
    let parts = [
        "client to server  100 bytes",
        "write x10 ",
        "|0----|10---|20---|30---|40---|50---|60---|70---|80---|90---|",
        "read x1 ",
        "|0----------------------------------------------------------|",
        "R01 NOTE 10 writes arrived as one read. TCP has no message edges",
    ];
    assert_in_order(&drawn, &parts);
}

#[test]
fn lecture_s39_the_ruler_of_both_ends_shows_one_write_that_takes_many_reads() {
    const WRITTEN: usize = 100_000;
    let scratch = Scratch::new();
    let [at_server, at_client, input] = ["S", "C", "in"].map(|name| scratch.join(name));
    fs::write(&input, vec![b'x'; WRITTEN]).unwrap();
    let server = serve(&["discard", "127.0.0.1:0", "--trace", &at_server]);
    // With room for all of it, or the kernel would take a part and the rest be a second write.
    let place = format!("{},sndbuf=400kB", server.place("tcp"));
    let mut command = adit(&["connect", &place, "--trace", &at_client]);
    let client = command.stdin(fs::File::open(&input).unwrap());
    Program::start_with_input(client).wait().assert_clean("");
    assert_eq!(server.stop().status, 0);
    // The client takes all of the file in one read, the server has a smaller buffer.
    let reads = reads(&at_server);
    assert!(reads.len() >= 2 && reads.iter().sum::<u64>() == WRITTEN as u64, "{reads:?}");
    let drawn = draw(&[&at_server, &at_client, "--view=ruler"]);
    let count = reads.len();
    let parts = [
        "client to server  100,000 bytes",
        "write x1 ",
        &format!("read x{count} "),
        &format!("R02 NOTE One write of {WRITTEN} bytes took {count} reads."),
    ];
    assert_in_order(&drawn, &parts);
}

/// A network of its own with a capture running in it, without any right: only loopback is there.
struct Network {
    capturing: Program,
    capture: String,
}

impl Network {
    /// Nothing where the system allows no such network, or a program for it is missing.
    fn start(scratch: &Scratch) -> Option<Self> {
        for program in ["unshare", "nsenter", "ip", "dumpcap"] {
            find(program)?;
        }
        if run(Command::new("unshare").args(["-Urn", "true"]), b"").status != 0 {
            skipped("the packets of the handshake: no user namespaces here");
            return None;
        }
        let capture = scratch.join("wire.pcapng");
        let mut command = Command::new("unshare");
        let script = "ip link set lo up && exec dumpcap -q -i lo -w \"$0\"";
        command.args(["-Urn", "sh", "-c", script, &capture]);
        let capturing = Program::start(&mut command);
        // It captures from here on.
        capturing.err.wait_for("File: ");
        Some(Self { capturing, capture })
    }

    /// Words in front of a command that is to run there.
    fn enter(&self) -> [String; 6] {
        let pid = self.capturing.id().to_string();
        ["nsenter", "-t", &pid, "-U", "-n", "--preserve-credentials"].map(str::to_owned)
    }

    /// The packets so far; a file that is being written may end anywhere.
    fn packets(&self) -> Story {
        let bytes = fs::read(&self.capture).unwrap();
        capture::read(&bytes[..]).unwrap_or_default()
    }
}

fn ends(story: &Story) -> usize {
    let acts = story.talks.iter().flat_map(|talk| &talk.acts);
    acts.filter(|act| matches!(&act.did, Did::Segment { flags, .. } if flags.contains('F'))).count()
}

#[test]
fn lecture_s20_the_packets_of_the_handshake_stand_between_the_call_of_connect_and_its_return() {
    let scratch = Scratch::new();
    let Some(network) = Network::start(&scratch) else { return };
    let enter = network.enter();
    let script = format!("exec {} \"$@\" 3>\"$READY\"", enter.join(" "));
    let server = Server::start(&script, &["upper", "127.0.0.1:0"]);
    let at_client = scratch.join("C");
    let mut command = Command::new(&enter[0]);
    command.args(&enter[1..]).arg(Path::new(env!("CARGO_BIN_EXE_adit")));
    let words = ["connect", server.place("tcp"), "--trace", &at_client, "--payload=64"];
    let mut client = asking(command.args(words));
    client.end_input();
    client.wait().assert_clean("HELLO\n");
    until("both ends of the stream are captured", || ends(&network.packets()) == 2);
    let drawn = draw(&[&at_client, &network.capture, "--view=steps"]);
    assert_eq!(drawn.trim_end(), WIRE_STEPS.trim());
    // And with times: the call's begin and return are those of the client's trace.
    let told = trace(&at_client);
    assert!(told.iter().any(|event| event["ev"] == "connect" && event["dt"].is_number()));
    let drawn = draw(&[&at_client, &network.capture]);
    assert_in_order(&drawn, &["SYN ---", "connect", "SYN,ACK", "ACK ---", "connected ("]);
}
