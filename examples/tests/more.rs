//! The other programs as real processes: chat, lookup, file stream, inside tokio.

mod common;

use std::io::Write as _;
use std::net::Shutdown;

use adit::{BlockingClient, Server};

use common::{Program, ask, read_line, read_to_end, root, tcp_client};

#[test]
fn what_one_says_in_the_chat_reaches_every_other_one_once() {
    let server = Program::serve("adit_chat");
    let address = server.address("tcp");
    let mut clients = [(); 4].map(|()| tcp_client(address));
    let names = clients.each_ref().map(|client| client.local_addr().unwrap());
    for (client, name) in clients.iter_mut().zip(names) {
        assert_eq!(read_line(client), format!("welcome, {name}"));
    }
    for speaker in 0..clients.len() {
        writeln!(clients[speaker], "hello from {speaker}").unwrap();
        for listener in (0..clients.len()).filter(|listener| *listener != speaker) {
            let heard = read_line(&mut clients[listener]);
            assert_eq!(heard, format!("{}: hello from {speaker}", names[speaker]));
        }
    }
    for client in &mut clients {
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(client), b"", "nobody has heard anything twice, or itself");
    }
}

#[test]
fn a_lookup_is_remembered_and_answers_keep_their_order() {
    let server = Program::serve("adit_lookup");
    let mut client = tcp_client(server.address("tcp"));
    assert_eq!(ask(&mut client, "127.0.0.9\n", 1), ["127.0.0.9"]);
    assert_eq!(ask(&mut client, "127.0.0.9\n", 1), ["127.0.0.9 (remembered)"]);
    let mixed = "127.0.0.1\n127.0.0.9\nno name\n127.0.0.9\n";
    let expected = ["127.0.0.1", "127.0.0.9 (remembered)", "unknown", "127.0.0.9 (remembered)"];
    assert_eq!(ask(&mut client, mixed, 4), expected);
}

#[test]
fn a_server_with_a_trace_writes_down_what_happens_on_its_sockets() {
    let path = std::env::temp_dir().join(format!("adit-traced-{}.jsonl", std::process::id()));
    let server = Program::start("adit_traced", &["127.0.0.1:0", path.to_str().unwrap()]);
    let mut client = tcp_client(server.address("tcp"));
    assert_eq!(ask(&mut client, "hello\n", 1), ["HELLO"]);
    drop(client);
    server.terminate();
    let last = server.line();
    assert!(last.ends_with(" lines, 0 events dropped"), "{last}");
    let trace = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    for part in
        ["\"ev\":\"accept\"", "\"text\":\"hello\\n\"", "\"text\":\"HELLO\\n\"", "\"ev\":\"close\""]
    {
        assert!(trace.contains(part), "no {part} in\n{trace}");
    }
}

#[test]
fn a_file_is_sent_whole_to_everybody_who_connects() {
    let path = root().join("Cargo.lock");
    let server = Program::start("adit_file_stream", &["127.0.0.1:0", path.to_str().unwrap()]);
    let address = server.address("tcp");
    let file = std::fs::read(&path).unwrap();
    let mut clients = [(); 3].map(|()| tcp_client(address));
    clients[1].shutdown(Shutdown::Write).unwrap();
    clients[2].write_all(&[b'x'; 10_000]).unwrap();
    for client in &mut clients {
        assert!(read_to_end(client) == file);
    }
}

#[test]
fn a_server_and_its_client_run_inside_a_tokio_program() {
    let mut program = Program::serve("adit_in_tokio");
    program.address("tcp");
    let lines = ["HELLO WORLD", "cut 0"].map(str::to_owned).to_vec();
    assert_eq!(program.end(), (lines, true));
}

#[test]
fn a_program_that_cannot_listen_says_why_and_fails() {
    let server = Program::serve("adit_server");
    let taken = server.address("tcp").to_string();
    for name in ["std_tcp_server", "std_tcp_server_concurrent", "adit_server", "adit_chat"] {
        let mut second = Program::start(name, &[&taken]);
        assert!(second.complaint().contains("in use"), "{name}");
        assert!(!second.end().1, "{name}");
    }
}

#[test]
fn a_worker_serves_all_clients_and_remembers_what_all_have_said() {
    let worker = adit::Program::new(env!("CARGO_BIN_EXE_std_worker")).worker();
    let datagrams = Server::new(worker.datagrams()).listen_datagrams("udp://127.0.0.1:0");
    let datagrams = datagrams.start().unwrap();
    let streams = Server::streams(worker).listen("tcp://127.0.0.1:0").start().unwrap();
    let address = streams.addr(0).socket_addr().unwrap();
    let [mut first, mut second] = [(); 2].map(|()| tcp_client(address));
    assert_eq!(ask(&mut first, "hello\n", 1), ["6 bytes from all of you"]);
    assert_eq!(ask(&mut second, "hello\n", 1), ["12 bytes from all of you"]);
    let client = BlockingClient::connect(datagrams.addr(0)).unwrap();
    assert_eq!(client.call("hi").send().unwrap(), "14 bytes from all of you\n");
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut first), b"");
}
