//! Slides 3 to 8, sockets with TCP: who has to be there first, what connecting makes, and a pipe.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use crate::common::{
    Program, Scratch, Server, accept, adit, bounded, no_port, noise, own_ip, run, serve, skipped,
    terminal,
};
use crate::look::{events, number, of_kind, sockets_of, until};

#[test]
fn lecture_s12_a_door_that_is_taken_names_the_process_that_owns_it() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let ran = run(&mut adit(&["serve", "upper", server.place("tcp")]), b"");
    ran.assert_failed(1, "in-use");
    let owner = format!("held by pid {} \"adit\"", server.program.id());
    assert!(ran.err.contains(&owner), "{}", ran.err);
}

#[test]
fn lecture_s16_without_a_server_connecting_says_what_is_missing_and_what_to_do() {
    let (_closed, address) = no_port();
    let ran = run(&mut adit(&["connect", &address.to_string()]), b"hello\n");
    ran.assert_failed(1, "refused");
    let says = format!("nothing is listening on tcp {address}");
    assert!(ran.err.contains(&says) && ran.err.contains("adit wait "), "{}", ran.err);
    // A server on the same port, on another address of this host: what was meant, perhaps.
    let _other = TcpListener::bind(("127.0.0.2", address.port())).unwrap();
    let ran = run(&mut adit(&["connect", &address.to_string()]), b"hello\n");
    let other = format!("same port on this host: tcp 127.0.0.2:{}", address.port());
    assert!(ran.status == 1 && ran.err.contains(&other), "{}", ran.err);
}

#[test]
fn lecture_s16_wait_gives_up_in_time_and_ends_as_soon_as_the_server_is_there() {
    // An address of the test's own: no other one can take the port meanwhile.
    let address = format!("{}:7000", own_ip());
    let ran = run(&mut adit(&["wait", &address, "--for=300ms"]), b"");
    ran.assert_failed(124, "wait-timeout");
    let mut command = Command::new("sh");
    command.args(["-c", "\"$0\" wait \"$1\" --for=30s && \"$0\" connect \"$1\""]);
    command.args([env!("CARGO_BIN_EXE_adit"), &address]);
    let mut waiting = Program::start(&mut command);
    waiting.write(b"hello\n");
    waiting.end_input();
    assert!(waiting.is_running());
    let server = serve(&["upper", &address]);
    waiting.wait().assert_clean("HELLO\n");
    drop(server);
}

#[test]
fn lecture_s17_who_is_told_that_the_server_is_ready_can_connect() {
    for _ in 0..20 {
        let server = serve(&["upper", "tcp://127.0.0.1:0", "udp://127.0.0.1:0", "--json"]);
        let client = TcpStream::connect(server.tcp()).unwrap();
        assert_eq!(server.lines.len(), 2, "{:?}", server.lines);
        assert_ne!(server.udp().port(), 0);
        let told = server.program.err.wait_for("\"ev\":\"open\"");
        let told = events(&told);
        // The first thing to happen after the heading of the trace.
        assert_eq!((&told[0]["ev"], &told[1]["ev"]), (&"trace".into(), &"listen".into()));
        assert_eq!(told[1]["addr"], format!("tcp {}", server.tcp()));
        drop(client);
    }
}

#[test]
fn lecture_s18_the_client_socket_gets_a_local_port_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = Program::start(&mut adit(&["connect", "-v", &address.to_string()]));
    let connection = accept(&listener);
    let says = format!("connected to tcp {address} from {}\n", connection.peer_addr().unwrap());
    client.err.wait_for(&says);
    // Nobody has asked for a port: the kernel chose one.
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let ends: Vec<u16> = range.split_whitespace().map(|end| end.parse().unwrap()).collect();
    assert!((ends[0]..=ends[1]).contains(&connection.peer_addr().unwrap().port()));
    drop(connection);
    client.end_input();
    client.wait();
}

#[test]
fn lecture_s19_host_and_port_name_a_server_whatever_family_it_listens_on() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let port = server.tcp().port();
    // A name stands for every address it has; the one that answers is named.
    let (port_alone, together) = (port.to_string(), format!("localhost:{port}"));
    for words in [&["localhost", &port_alone][..], &[&together], &[&port_alone]] {
        let ran = run(&mut adit(&[&["connect", "-v"], words].concat()), b"hello\n");
        assert_eq!((ran.status, ran.text().as_str()), (0, "HELLO\n"), "{}", ran.err);
        assert!(
            ran.err.contains(&format!("connected to tcp 127.0.0.1:{port} from")),
            "{}",
            ran.err
        );
    }
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return skipped("this host has no IPv6");
    }
    let server = serve(&["upper", "[::1]:0"]);
    let port = server.tcp().port();
    for place in [port.to_string(), format!("[::1]:{port}"), format!("localhost:{port}")] {
        // Where the name has no IPv6 address, nothing can be found by it.
        let ran = run(&mut adit(&["connect", "-v", &place]), b"hello\n");
        let won = format!("connected to tcp [::1]:{port} from");
        let is_named = ran.status == 0 && ran.err.contains(&won);
        assert!(is_named || place.starts_with("localhost"), "{place}: {}", ran.err);
    }
}

#[test]
fn lecture_s20_the_connection_stands_before_the_server_process_has_accepted_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = Program::start(&mut adit(&["connect", "-v", &address.to_string()]));
    client.err.wait_for(&format!("connected to tcp {address} from"));
    // Even the request is on the server's side already, in the kernel's hands.
    client.write(b"hello\n");
    let mut request = [0; 6];
    accept(&listener).read_exact(&mut request).unwrap();
    assert_eq!(&request, b"hello\n");
}

#[test]
fn lecture_s21_every_client_gets_a_new_socket_and_the_first_one_goes_on_listening() {
    let server = serve(&["echo", "127.0.0.1:0", "--json"]);
    let welcome = server.tcp();
    let doors = |connected: usize| {
        until(&format!("{connected} connection sockets"), || {
            let sockets = sockets_of(server.program.id(), "tcp");
            let listening = sockets.iter().filter(|socket| socket.listens()).count();
            // All have the server's address: what tells them apart is the client's.
            let ours = sockets.iter().all(|socket| socket.local == welcome);
            let remotes: BTreeSet<_> = sockets.iter().map(|socket| socket.remote).collect();
            ours && listening == 1
                && sockets.len() == 1 + connected
                && remotes.len() == 1 + connected
        });
    };
    doors(0);
    let mut clients = Vec::new();
    for count in 1..=3 {
        clients.push(TcpStream::connect(welcome).unwrap());
        doors(count);
    }
    drop(clients);
    doors(0);
}

#[test]
fn lecture_s22_one_client_that_stalls_holds_up_none_of_199_others() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let mut stalled = bounded(TcpStream::connect(server.tcp()).unwrap());
    // It sends and never reads, until not even the kernel takes more.
    stalled.set_write_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let full = loop {
        if let Err(error) = stalled.write(&[b'x'; 65_536]) {
            break error.kind();
        }
    };
    assert_eq!(full, ErrorKind::WouldBlock);
    let mut others: Vec<_> =
        (0..199).map(|_| bounded(TcpStream::connect(server.tcp()).unwrap())).collect();
    for (number, other) in others.iter_mut().enumerate() {
        writeln!(other, "{number}").unwrap();
    }
    for (number, mut other) in others.into_iter().enumerate() {
        other.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        other.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, format!("{number}\n"));
    }
    // It has not been thrown out for that.
    stalled.read_exact(&mut [0; 1000]).unwrap();
}

#[test]
fn lecture_s23_source_ports_keep_the_answers_of_50_clients_apart() {
    let server = serve(&["echo", "127.0.0.1:0", "--json"]);
    let mut clients: Vec<_> =
        (0..50).map(|_| bounded(TcpStream::connect(server.tcp()).unwrap())).collect();
    for client in &mut clients {
        let token = client.local_addr().unwrap().to_string();
        client.write_all(token.as_bytes()).unwrap();
    }
    for client in clients.iter_mut().rev() {
        let token = client.local_addr().unwrap().to_string();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, token);
    }
    drop(clients);
    let told = events(&server.stop().err);
    let peers: BTreeSet<_> = of_kind(&told, "open").map(|open| open["peer"].to_string()).collect();
    assert_eq!(peers.len(), 50);
    assert!(peers.iter().all(|peer| peer.starts_with("\"127.0.0.1:")), "one address, 50 ports");
}

#[test]
fn lecture_s24_a_million_lines_come_back_in_order_and_the_pipe_ends_by_itself() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let lines: String = (1..=1_000_000).map(|number| format!("{number}\n")).collect();
    let ran = run(&mut adit(&["connect", server.place("tcp")]), lines.as_bytes());
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(ran.out == lines.as_bytes(), "{} of {} bytes", ran.out.len(), lines.len());
}

#[test]
fn lecture_s27_a_stream_begins_in_a_file_a_pipe_or_a_keyboard_and_ends_in_one() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let scratch = Scratch::new();
    let (input, output) = (scratch.join("in"), scratch.join("out"));
    let content = noise(27, 3_000_000);
    fs::write(&input, &content).unwrap();
    for script in ["\"$0\" \"$1\" <in >out", "cat in | \"$0\" \"$1\" | cat >out"] {
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_adit"), server.place("tcp")]);
        run(command.current_dir(scratch.path()), b"").assert_clean("");
        assert!(fs::read(&output).unwrap() == content, "{script}");
        fs::remove_file(&output).unwrap();
    }
    // The keyboard and the screen: a terminal.
    let (mut ours, theirs): (File, File) = terminal();
    let mut command = adit(&[server.place("tcp")]);
    command.stdin(theirs.try_clone().unwrap()).stdout(theirs).stderr(Stdio::null());
    let mut typed = Program::start_with_output(&mut command);
    ours.write_all(b"hello\n").unwrap();
    let mut shown = [0; 6];
    ours.read_exact(&mut shown).unwrap();
    assert_eq!(&shown, b"hello\n");
    assert!(typed.is_running());
}

#[test]
fn lecture_s29_nine_clients_are_served_while_the_tenth_keeps_silent() {
    let server = serve(&["upper", "127.0.0.1:0", "--json"]);
    let clients: Vec<_> =
        (0..10).map(|_| Program::start(&mut adit(&["connect", server.place("tcp")]))).collect();
    let mut clients = clients.into_iter();
    let mut silent = clients.next().unwrap();
    for mut client in clients {
        client.write(b"hello\n");
        client.end_input();
        client.wait().assert_clean("HELLO\n");
    }
    silent.end_input();
    silent.wait().assert_clean("");
    let told = events(&server.stop().err);
    let summary = of_kind(&told, "summary").next().unwrap();
    assert_eq!((number(summary, "conns"), number(summary, "errors")), (10, 0));
}

#[test]
fn lecture_s17_a_server_says_no_address_if_it_cannot_have_it() {
    let taken = serve(&["upper", "127.0.0.1:0"]);
    let scratch = Scratch::new();
    let script = format!("\"$0\" serve upper {} --ready-fd=3 3>ready", taken.place("tcp"));
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_adit")]).current_dir(scratch.path());
    run(&mut command, b"").assert_failed(1, "in-use");
    assert_eq!(fs::read(scratch.join("ready")).unwrap(), b"");
    drop::<Server>(taken);
}
