//! PROXY headers over real sockets: read, wrong, late, sent on, and exchanged with `haproxy`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use adit::prelude::*;
use adit::{AccessList, Network, ProxyVersion, Running, Service};
use common::{DEADLINE, ask, client, read_lines, read_to_end, watch};

/// Answers every line with who asks, through whom.
fn who() -> impl Service {
    each(|peer: &Peer| {
        let via = peer.via().map(ToString::to_string).unwrap_or_else(|| "nobody".to_owned());
        Who(format!("{} via {via}", peer.remote()))
    })
}

struct Who(String);

impl Handler for Who {
    fn message(&mut self, _msg: &[u8], out: &mut Out<'_>) -> Answer {
        out.send(&self.0);
        Answer::Done
    }
}

fn loopback() -> [Network; 1] {
    ["127.0.0.0/8".parse().unwrap()]
}

fn behind_a_proxy(limits: Limits) -> (Running, common::Seen) {
    let (watch, seen) = watch();
    let server = Server::new(who())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .proxy_from(loopback())
        .limits(limits)
        .observe(watch)
        .start()
        .unwrap();
    (server, seen)
}

/// The own address of a connection, as the server prints it.
fn own(stream: &TcpStream) -> String {
    format!("tcp {}", stream.local_addr().unwrap())
}

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.7 4711 443\r\n";

/// A header of version 2: TCP over IPv6, and a value that is passed over.
fn binary() -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x2a".to_vec();
    bytes.extend(b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01");
    bytes.extend(b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02");
    bytes.extend(b"\x12\x67\x01\xbb\x04\0\x03abc");
    bytes
}

#[test]
fn the_client_is_the_one_that_the_header_names() {
    let (server, _seen) = behind_a_proxy(Limits::default());
    let named = [(LINE.to_vec(), "192.0.2.1:4711"), (binary(), "[2001:db8::1]:4711")];
    for (header, name) in named {
        let mut stream = client(server.addr(0));
        let answer = format!("tcp {name} via {}", own(&stream));
        // At once with the first message, and more behind it.
        stream.write_all(&[&header, b"a\nb\nc".as_slice()].concat()).unwrap();
        assert_eq!(read_lines(&mut stream, 2), [answer.as_str(); 2]);
        assert_eq!(ask(&mut stream, "\n", 1), [answer]);
    }
}

#[test]
fn a_proxy_that_speaks_for_itself_keeps_its_address() {
    let (server, _seen) = behind_a_proxy(Limits::default());
    for header in
        ["PROXY UNKNOWN\r\n", "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "\r\n\r\n\0\r\nQUIT\n\x21\x31"]
    {
        let mut stream = client(server.addr(0));
        let answer = format!("{} via nobody", own(&stream));
        stream.write_all(header.as_bytes()).unwrap();
        if header.ends_with('\x31') {
            // Names of Unix sockets: there is no IP address in them.
            stream.write_all(&[0, 216]).unwrap();
            stream.write_all(&[b'x'; 216]).unwrap();
        }
        assert_eq!(ask(&mut stream, "x\n", 1), [answer]);
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let (server, _seen) = behind_a_proxy(Limits::default());
    for header in [LINE.to_vec(), binary()] {
        let mut stream = client(server.addr(0));
        stream.set_nodelay(true).unwrap();
        for byte in header {
            stream.write_all(&[byte]).unwrap();
            // The server has its turn; whether it takes it, every split point is a test of adit-proto.
            std::thread::yield_now();
        }
        let answer = ask(&mut stream, "x\n", 1).remove(0);
        assert!(answer.contains(":4711 via tcp 127.0.0.1:"), "{answer}");
    }
}

#[test]
fn a_wrong_header_closes_the_connection_and_is_told_once() {
    let (server, seen) = behind_a_proxy(Limits::default());
    let mut stream = client(server.addr(0));
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(read_to_end(&mut stream), b"");
    let (number, line) = seen.wait_for("error");
    let refused = "error bad-proxy-header refused: it does not begin with a PROXY header";
    assert_eq!((number, line.as_str()), (None, refused));
    for wrong in ["PROXY TCP4 1 2 3 4\r\n", "PROXY TCP4 1.1.1.1", "\r\n\r\n\0\r\nQUIT\n\x31"] {
        let mut stream = client(server.addr(0));
        stream.write_all(wrong.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut stream), b"");
    }
    // Whoever only looks whether the port is open does nothing wrong.
    let mut look = client(server.addr(0));
    look.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut look), b"");
    assert_eq!(server.stats().refused, 4);
    assert_eq!(server.stats().conversations, 0);
}

#[test]
fn on_a_unix_socket_the_file_says_who_is_a_proxy() {
    let name = format!("adit-proxied-{}", std::process::id());
    let server = Server::new(who())
        .listen(format!("unix:@{name}"), Lines::new())
        .proxy_from(["192.0.2.0/24".parse().unwrap()])
        .start()
        .unwrap();
    use std::os::linux::net::SocketAddrExt;
    let name = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    let mut unix = std::os::unix::net::UnixStream::connect_addr(&name).unwrap();
    unix.set_read_timeout(Some(DEADLINE)).unwrap();
    unix.write_all(&[LINE, b"x\n"].concat()).unwrap();
    unix.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut unix), b"tcp 192.0.2.1:4711 via unix unnamed\n");
    drop(server);
}

#[test]
fn a_header_that_never_ends_meets_its_time_limit() {
    let handshake = Limit::At(Duration::from_millis(100));
    let (server, seen) = behind_a_proxy(Limits { handshake, ..Limits::default() });
    let mut late = [client(server.addr(0)), client(server.addr(0))];
    late[0].write_all(b"PROXY TCP4 192.0.2.1").unwrap();
    for stream in &mut late {
        assert_eq!(read_to_end(stream), b"");
    }
    let (_, line) = seen.wait_for("error handshake-timeout");
    assert_eq!(line, "error handshake-timeout refused: no whole PROXY header within 100ms");
    assert_eq!(server.stats().refused, 2);
}

#[test]
fn who_is_no_proxy_may_not_connect() {
    let (watch, seen) = watch();
    let server = Server::new(who())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .proxy_from(["192.0.2.0/24".parse().unwrap()])
        .observe(watch)
        .start()
        .unwrap();
    let mut stream = client(server.addr(0));
    drop(stream.write_all(LINE));
    assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
    assert_eq!(seen.wait_for("limit proxy-from").1, "limit proxy-from refuse 1");
}

#[test]
fn list_and_limits_are_those_of_the_client_and_not_of_the_proxy() {
    let (watch, seen) = watch();
    let server = Server::new(who())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .proxy_from(loopback())
        .access(AccessList::deny_only(["192.0.2.66".parse().unwrap()]))
        .limits(Limits { per_source: Limit::At(1), ..Limits::default() })
        .observe(watch)
        .start()
        .unwrap();
    let open = |source: &str| {
        let mut stream = client(server.addr(0));
        write!(stream, "PROXY TCP4 {source} 198.51.100.7 4711 443\r\nx\n").unwrap();
        stream
    };
    let mut first = open("192.0.2.1");
    assert!(read_lines(&mut first, 1)[0].starts_with("tcp 192.0.2.1:"));
    assert!(read_lines(&mut open("192.0.2.2"), 1)[0].starts_with("tcp 192.0.2.2:"));
    assert_eq!(read_to_end(&mut open("192.0.2.66")), b"");
    seen.wait_for("limit access refuse");
    assert_eq!(read_to_end(&mut open("192.0.2.1")), b"");
    seen.wait_for("limit per-source refuse");
    // Nobody's health check is counted.
    for _ in 0..3 {
        let mut stream = client(server.addr(0));
        assert_eq!(ask(&mut stream, "PROXY UNKNOWN\r\nx\n", 1).len(), 1);
    }
}

#[test]
fn a_drain_does_not_wait_for_a_header_that_has_not_begun() {
    let (server, seen) = behind_a_proxy(Limits::default());
    let mut silent = client(server.addr(0));
    let mut half = client(server.addr(0));
    half.write_all(&LINE[..20]).unwrap();
    let mut served = client(server.addr(0));
    assert_eq!(ask(&mut served, "PROXY UNKNOWN\r\nx\n", 1).len(), 1);
    drop(served);
    seen.wait_for("close");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let drain = runtime.spawn(server.drain(DEADLINE));
    seen.wait_for("drain");
    assert_eq!(read_to_end(&mut silent), b"");
    // One that has begun is asked no less than a message that has.
    // In one piece: behind the header alone there would be nothing to wait for.
    half.write_all(&[&LINE[20..], b"x\n"].concat()).unwrap();
    assert!(read_lines(&mut half, 1)[0].starts_with("tcp 192.0.2.1:4711 via"));
    drop(half);
    let report = runtime.block_on(drain).unwrap();
    assert_eq!(report.cut, 0);
}

#[test]
fn once_means_the_first_with_a_header() {
    let server = Server::new(who())
        .listen("tcp://127.0.0.1:0", Lines::new())
        .proxy_from(loopback())
        .once()
        .start()
        .unwrap();
    let mut wrong = client(server.addr(0));
    wrong.write_all(b"no header\n").unwrap();
    assert_eq!(read_to_end(&mut wrong), b"");
    let mut right = client(server.addr(0));
    right.write_all(LINE).unwrap();
    assert!(ask(&mut right, "x\n", 1)[0].starts_with("tcp 192.0.2.1:4711"));
}

#[test]
fn proxies_that_are_nowhere_and_datagrams_are_refused_at_the_start() {
    let server = Server::new(who()).listen("tcp://127.0.0.1:0", Lines::new()).proxy_from([]);
    let error = server.start().unwrap_err();
    assert_eq!(error.code(), Code::Usage);
    let server = Server::new(who()).listen_datagrams("udp://127.0.0.1:0").proxy_from(loopback());
    assert!(
        server.start().unwrap_err().to_string().contains("no PROXY header comes with datagrams")
    );
    let forward = Forward::to("udp://127.0.0.1:9").unwrap().listen("udp://127.0.0.1:0");
    let error = forward.proxy_header(ProxyVersion::V1).start().unwrap_err();
    assert!(error.to_string().contains("a PROXY header cannot be sent to"), "{error}");
}

#[test]
fn a_forward_tells_its_target_who_comes_through_a_chain_too() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let (server, _seen) = behind_a_proxy(Limits::default());
        let second = Forward::to(server.addr(0))
            .unwrap()
            .listen("tcp://127.0.0.1:0")
            .proxy_from(loopback())
            .proxy_header(version)
            .start()
            .unwrap();
        let first = Forward::to(second.addr(0))
            .unwrap()
            .listen("tcp://127.0.0.1:0")
            .proxy_header(version)
            .start()
            .unwrap();
        let mut stream = client(first.addr(0));
        let answer = ask(&mut stream, "x\n", 1).remove(0);
        assert!(answer.starts_with(&format!("{} via tcp 127.0.0.1:", own(&stream))), "{answer}");
    }
}

#[test]
fn a_client_without_an_address_is_unknown_to_the_target() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp://{}", listener.local_addr().unwrap());
    let name = format!("adit-proxy-{}", std::process::id());
    let forward = Forward::to(target)
        .unwrap()
        .listen(format!("unix:@{name}"))
        .proxy_header(ProxyVersion::V1)
        .start()
        .unwrap();
    use std::os::linux::net::SocketAddrExt;
    let name = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    let mut unix = std::os::unix::net::UnixStream::connect_addr(&name).unwrap();
    unix.write_all(b"x").unwrap();
    unix.shutdown(Shutdown::Write).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    assert_eq!(read_to_end(&mut accepted), b"PROXY UNKNOWN\r\nx");
    drop(forward);
}

/// A `haproxy` with a configuration of its own, stopped with the test.
struct HaProxy {
    child: Child,
    file: PathBuf,
}

impl HaProxy {
    /// None if it is not here. The ports are free ones that nobody else was given meanwhile.
    fn start(name: &str, sections: &str) -> Option<Self> {
        let file = std::env::temp_dir().join(format!("adit-{name}-{}.cfg", std::process::id()));
        let defaults =
            "defaults\n mode tcp\n timeout connect 10s\n timeout client 30s\n timeout server 30s\n";
        std::fs::write(&file, format!("global\n quiet\n{defaults}{sections}")).unwrap();
        let started = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(child) => Some(Self { child, file }),
            Err(_) => {
                drop(std::fs::remove_file(file));
                // Said even where the output of tests that pass is not shown.
                drop(writeln!(std::io::stderr(), "skipped: haproxy is not here"));
                None
            }
        }
    }

    /// Connects as soon as it listens.
    fn client(&mut self, port: u16) -> TcpStream {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                return stream;
            }
            assert!(Instant::now() < end, "haproxy does not listen");
            assert_eq!(self.child.try_wait().unwrap(), None, "haproxy has ended");
            std::thread::yield_now();
        }
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_file(&self.file));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn haproxy_tells_adit_who_comes_in_both_versions() {
    let (server, _seen) = behind_a_proxy(Limits::default());
    let (target, ports) = (server.addr(0).place_text(), [free_port(), free_port()]);
    let sections = format!(
        "listen one\n bind 127.0.0.1:{}\n server s {target} send-proxy check\n\
         listen two\n bind 127.0.0.1:{}\n server s {target} send-proxy-v2 check proxy-v2-options unique-id\n",
        ports[0], ports[1],
    );
    let Some(mut haproxy) = HaProxy::start("in", &sections) else { return };
    for port in ports {
        let mut stream = haproxy.client(port);
        let answer = ask(&mut stream, "x\n", 1).remove(0);
        assert!(answer.starts_with(&format!("{} via tcp 127.0.0.1:", own(&stream))), "{answer}");
    }
}

#[test]
fn adit_tells_haproxy_who_comes_in_both_versions() {
    let (server, _seen) = behind_a_proxy(Limits::default());
    let (target, port) = (server.addr(0).place_text(), free_port());
    let sections =
        format!("listen one\n bind 127.0.0.1:{port} accept-proxy\n server s {target} send-proxy\n");
    let Some(mut haproxy) = HaProxy::start("out", &sections) else { return };
    drop(haproxy.client(port));
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let forward = Forward::to(format!("tcp://127.0.0.1:{port}"))
            .unwrap()
            .listen("tcp://127.0.0.1:0")
            .proxy_header(version)
            .start()
            .unwrap();
        let mut stream = client(forward.addr(0));
        let answer = ask(&mut stream, "x\n", 1).remove(0);
        assert!(answer.starts_with(&format!("{} via tcp 127.0.0.1:", own(&stream))), "{answer}");
    }
}
