//! Who is let in: `--allow`, `--deny`, `--when-full`, and PROXY headers, made by hand and by a forward.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use common::{Scratch, Server, client, find, read_line, run, serve, skipped};
use socket2::{Domain, Socket, Type};

/// A client at 127.0.0.HOST.
fn from(host: u8, server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
    let to: SocketAddr = server.place("tcp").parse().unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(common::DEADLINE)).unwrap();
    stream
}

fn is_served(mut stream: TcpStream) -> bool {
    // Whoever is turned away may find the connection closed already.
    drop(stream.write_all(b"hello\n"));
    stream.read(&mut [0; 16]).is_ok_and(|bytes| bytes == 6)
}

#[test]
fn the_first_rule_that_fits_decides_in_the_order_written() {
    let scratch = Scratch::new();
    let file = scratch.join("networks");
    std::fs::write(&file, "# the lab\n127.0.0.8/30   # four of them\n\n::1\n").unwrap();
    let file = format!("--allow=@{file}");
    let words = ["--deny=127.0.0.9", &file, "--allow=127.0.0.2", "--deny", "127.0.0.0/8"];
    let server = serve(&[&["echo", "127.0.0.1:0"], words.as_slice()].concat());
    let said = server.program.err.wait_for("listening");
    let rules = "allowed: not 127.0.0.9, 127.0.0.8/30, ::1, 127.0.0.2 and 1 more";
    assert!(said.contains(rules), "{said}");
    let hosts = [(9, false), (8, true), (11, true), (12, false), (2, true), (3, false)];
    for (host, is_allowed) in hosts {
        assert_eq!(is_served(from(host, &server)), is_allowed, "127.0.0.{host}");
    }
    server.program.err.wait_for("adit: refused a connection, from 127.0.0.9:");
    server.program.err.wait_for(": access (code=not-allowed)");
    assert_eq!(server.stop().status, 0);
}

#[test]
fn a_full_server_refuses_or_sheds_where_it_is_told_to() {
    let server = serve(&["echo", "127.0.0.1:0", "--max-conns=1", "--when-full=refuse"]);
    let mut first = client(server.place("tcp"));
    first.write_all(b"a\n").unwrap();
    assert_eq!(read_line(&mut first), "a\n");
    assert!(!is_served(client(server.place("tcp"))));
    server.program.err.wait_for("conversations 1 (code=full)");
    let server = serve(&["-v", "echo", "127.0.0.1:0", "--max-conns=1", "--when-full=shed"]);
    let mut first = client(server.place("tcp"));
    first.write_all(b"a\n").unwrap();
    assert_eq!(read_line(&mut first), "a\n");
    assert!(is_served(client(server.place("tcp"))));
    assert_eq!(first.read(&mut [0; 16]).unwrap(), 0);
    server.program.err.wait_for("(code=shed)");
}

#[test]
fn the_client_behind_a_forward_is_known_to_the_server_behind_it() {
    let flags = ["-v", "--proxy-in", "--proxy-from=127.0.0.0/8", "--deny=127.0.0.3"];
    let server = serve(&[&["echo", "127.0.0.1:0"], flags.as_slice()].concat());
    let allowed = "allowed: all but 127.0.0.3, through proxies at 127.0.0.0/8";
    server.program.err.wait_for(allowed);
    for version in ["v1", "v2"] {
        let words = ["forward", "--ready-fd=3", "--proxy-out", version, "127.0.0.1:0"];
        let words = [words.as_slice(), &[server.place("tcp")]].concat();
        let forward = Server::start_as("exec \"$@\" 3>\"$READY\"", &words);
        let stream = from(2, &forward);
        let name = stream.local_addr().unwrap().to_string();
        assert!(is_served(stream));
        server.program.err.wait_for(&name);
        // The same list, of the client and not of the forward in between.
        assert!(!is_served(from(3, &forward)));
        assert_eq!(forward.stop().status, 0);
    }
    server.program.err.wait_for("from 127.0.0.3:");
}

#[test]
fn a_header_made_by_hand_and_sent_by_nc_is_read() {
    if find("nc").is_none() {
        return skipped("nc is not here");
    }
    let flags = ["-v", "--proxy-in", "--proxy-from=127.0.0.1"];
    let server = serve(&[&["upper", "127.0.0.1:0"], flags.as_slice()].concat());
    let place: SocketAddr = server.place("tcp").parse().unwrap();
    let nc = |input: &[u8]| {
        let mut command = Command::new("nc");
        command.args(["-N", "127.0.0.1", &place.port().to_string()]);
        run(&mut command, input).text()
    };
    assert_eq!(nc(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\nhello"), "HELLO");
    server.program.err.wait_for("192.0.2.1:4711");
    assert_eq!(nc(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0check"), "CHECK");
    assert_eq!(nc(b"hello"), "");
    server.program.err.wait_for("it does not begin with a PROXY header (code=bad-proxy-header)");
}

#[test]
fn events_say_who_was_refused_and_through_whom_somebody_came() {
    let flags = ["--json", "--proxy-in", "--proxy-from=127.0.0.0/8", "--deny=192.0.2.66"];
    let server = serve(&[&["echo", "127.0.0.1:0"], flags.as_slice()].concat());
    for source in ["192.0.2.1", "192.0.2.66"] {
        let mut stream = client(server.place("tcp"));
        write!(stream, "PROXY TCP4 {source} 192.0.2.2 4711 80\r\nhello\n").unwrap();
        drop(stream.read(&mut [0; 16]));
    }
    server.program.err.wait_for("\"via\":\"127.0.0.1:");
    let refused = "\"name\":\"access\",\"value\":0,\"action\":\"refuse\",\"code\":\"not-allowed\"";
    server.program.err.wait_for(refused);
    // Somebody who only looks whether the port is open is no fault, and no end of the server.
    drop(client(server.place("tcp")));
    let ran = server.stop();
    assert_eq!(ran.status, 0);
    let line = |word: &str| ran.err.lines().find(|line| line.contains(word)).unwrap().to_owned();
    assert!(line("\"ev\":\"open\"").contains("\"peer\":\"192.0.2.1:4711\""), "{}", ran.err);
    assert!(line(refused).contains("\"peer\":\"192.0.2.66:4711\""), "{}", ran.err);
    assert_eq!(ran.err.matches("\"ev\":\"open\"").count(), 1, "{}", ran.err);
}
