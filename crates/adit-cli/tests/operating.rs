//! What stands around a server: sockets that are passed to it, the service manager that is told, files
//! that are read again, counts, and what it says it lays open.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use common::{
    DEADLINE, Program, Scratch, Server, adit, client, find, read_line, read_to_end, run, serve,
    timed, udp_socket, wait_until,
};

/// Starts `adit` with sockets as descriptors from 3 on, as `sd_listen_fds(3)` has it, and waits until it
/// listens.
fn passed(sockets: &[OwnedFd], names: &str, words: &[&str]) -> Program {
    let program = passed_at_once(sockets, names, words);
    program.err.wait_for("listening");
    program
}

/// A shell hands them on: it knows descriptors of one digit, which two sockets in the place of input and
/// output become.
fn passed_at_once(sockets: &[OwnedFd], names: &str, words: &[&str]) -> Program {
    let moved = ["exec 3<&0", "exec 3<&0 4<&1"][sockets.len() - 1];
    let script = format!(
        "{moved} </dev/null >/dev/null; export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={names}; \
         exec \"$@\"",
        sockets.len()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_adit")]).args(words);
    command.stdin(Stdio::from(sockets[0].try_clone().unwrap()));
    let output = sockets.get(1).map(|socket| Stdio::from(socket.try_clone().unwrap()));
    command.stdout(output.unwrap_or_else(Stdio::null));
    Program::start_with_output(&mut command)
}

fn tcp() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

fn udp() -> (OwnedFd, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket.into(), address)
}

fn is_served(address: SocketAddr) -> bool {
    let mut stream = client(address);
    stream.write_all(b"hello\n").unwrap();
    read_line(&mut stream) == "HELLO\n"
}

fn is_served_datagrams(address: SocketAddr) -> bool {
    let socket = udp_socket();
    socket.connect(address).unwrap();
    socket.send(b"hello").unwrap();
    let mut answer = [0; 64];
    let bytes = socket.recv(&mut answer).unwrap();
    &answer[..bytes] == b"HELLO"
}

#[test]
fn sockets_that_are_passed_are_served_without_an_address() {
    let ((streams, tcp), (datagrams, udp)) = (tcp(), udp());
    let mut program = passed(&[streams, datagrams], "web:asks", &["serve", "upper"]);
    assert!(is_served(tcp) && is_served_datagrams(udp));
    program.err.wait_for(&format!("listening  udp {udp}, this machine only, passed as asks\n"));
    program.err.wait_for(&format!("listening  tcp {tcp}, this machine only, passed as web\n"));
    program.signal(Signal::TERM);
    assert_eq!(program.wait().status, 0);
}

#[test]
fn unix_sockets_that_are_passed_are_served_and_their_files_stay() {
    let scratch = Scratch::new();
    let (streams, datagrams) = (scratch.join("streams"), scratch.join("datagrams"));
    let sockets = [
        UnixListener::bind(&streams).unwrap().into(),
        UnixDatagram::bind(&datagrams).unwrap().into(),
    ];
    let mut program = passed(&sockets, "a:b", &["serve", "upper"]);
    let mut stream = UnixStream::connect(&streams).unwrap();
    stream.write_all(b"hello\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut stream), b"HELLO\n");
    let asker = UnixDatagram::bind(scratch.join("asker")).unwrap();
    asker.set_read_timeout(Some(DEADLINE)).unwrap();
    asker.send_to(b"hello", &datagrams).unwrap();
    let mut answer = [0; 5];
    asker.recv(&mut answer).unwrap();
    assert_eq!(&answer, b"HELLO");
    program.signal(Signal::TERM);
    assert_eq!(program.wait().status, 0);
    assert!(scratch.path().join("streams").exists(), "it is not the server's to remove");
}

#[test]
fn whoever_comes_while_nobody_serves_waits_for_the_next_one() {
    let (socket, address) = tcp();
    let (sockets, words) = ([socket], ["serve", "upper"]);
    let mut program = passed(&sockets, "web", &words);
    for _ in 0..3 {
        assert!(is_served(address));
        // They are in the queue when the order to stop comes; one process or the other answers.
        program.signal(Signal::STOP);
        let mut early: Vec<_> = (0..20).map(|_| client(address)).collect();
        for stream in &mut early {
            stream.write_all(b"early\n").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
        program.signal(Signal::TERM);
        program.signal(Signal::CONT);
        assert_eq!(program.wait().status, 0);
        // Nobody is there: they have something to say already, or not yet.
        let mut waiting: Vec<_> = (0..20).map(|_| client(address)).collect();
        waiting.iter_mut().step_by(2).for_each(|stream| stream.write_all(b"waiting\n").unwrap());
        program = passed(&sockets, "web", &words);
        waiting.iter_mut().skip(1).step_by(2).for_each(|it| it.write_all(b"waiting\n").unwrap());
        assert!(early.iter_mut().all(|stream| read_line(stream) == "EARLY\n"));
        assert!(waiting.iter_mut().all(|stream| read_line(stream) == "WAITING\n"));
    }
}

#[test]
fn an_address_names_a_passed_socket_and_the_others_are_told_of() {
    let ((first, first_at), (second, second_at)) = (tcp(), tcp());
    let sockets = [first, second];
    for (word, served) in [("systemd:admin", second_at), ("fd:3", first_at)] {
        let program = passed(&sockets, "web:admin", &["serve", "upper", word]);
        assert!(is_served(served));
        let said = program.err.text();
        assert_eq!(said.matches("listening").count(), 1, "{said}");
        assert!(said.contains("was passed and no address names it"), "{said}");
    }
    let program = passed(&sockets, "web:admin", &["serve", "upper", "systemd:web", "127.0.0.1:0"]);
    let second = program.err.wait_for("listening  tcp 127.0.0.1");
    assert!(is_served(first_at), "{second}");
}

#[test]
fn a_relay_takes_passed_sockets_and_one_target() {
    let target = serve(&["upper", "127.0.0.1:0"]);
    let (socket, address) = tcp();
    for words in [["forward", target.place("tcp"), ""], ["forward", "fd:3", target.place("tcp")]] {
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let program = passed(&[socket.try_clone().unwrap()], "web", &words);
        assert!(is_served(address), "{words:?}");
        drop(program);
    }
    let (datagrams, _) = udp();
    let mut program = passed_at_once(&[datagrams], "x", &["forward", target.place("tcp")]);
    program.wait().assert_failed(2, "usage");
}

#[test]
fn what_cannot_be_served_is_refused_in_words() {
    let (listener, address) = tcp();
    let connection = client(address);
    let cases: [(OwnedFd, &str); 3] = [
        (connection.into(), "it is a connection"),
        (std::fs::File::open("/dev/null").unwrap().into(), "it is no socket"),
        (UnixDatagram::unbound().unwrap().into(), "it has no address"),
    ];
    for (descriptor, why) in cases {
        let mut program = passed_at_once(&[descriptor], "x", &["serve", "echo"]);
        let ran = program.wait();
        ran.assert_failed(2, "usage");
        assert!(ran.err.contains(why), "{}", ran.err);
    }
    drop(listener);
    let (listener, _) = tcp();
    for (words, why) in [
        (&["serve", "echo", "systemd:y"][..], "there are x"),
        (&["serve", "echo", "fd:3", "fd:3"], "named twice"),
        (&["serve", "echo", "--ready-fd=3"], "is a socket that was passed"),
    ] {
        let mut program = passed_at_once(&[listener.try_clone().unwrap()], "x", words);
        let ran = program.wait();
        ran.assert_failed(2, "usage");
        assert!(ran.err.contains(why), "{}", ran.err);
    }
    let (datagrams, _) = udp();
    let ran = passed_at_once(&[datagrams], "x", &["serve", "--fd", "--", "cat"]).wait();
    ran.assert_failed(2, "usage");
    assert!(ran.err.contains("--fd gives away plain connections, and udp 127.0.0.1:"), "{ran:?}");
    // For another process: as if there were none.
    let mut command = adit(&["serve", "echo"]);
    let ran = run(command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1"), b"");
    ran.assert_failed(2, "usage");
    assert!(ran.err.contains("start adit by exec"), "{}", ran.err);
}

#[test]
fn a_program_does_not_get_the_socket_that_was_passed() {
    let (socket, address) = tcp();
    let words = ["serve", "--", "sh", "-c", "ls /proc/self/fd"];
    let program = passed(&[socket], "web", &words);
    // The list is open as 3 while it is read.
    assert_eq!(read_to_end(&mut client(address)), b"0\n1\n2\n3\n");
    drop(program);
}

#[test]
fn a_program_may_be_the_target_of_a_relay_on_passed_sockets() {
    let (socket, address) = tcp();
    let exec = format!("exec:{}", find("cat").unwrap().display());
    let program = passed(&[socket], "web", &["forward", &exec]);
    program.err.wait_for(", passed as web\n");
    assert!(program.err.text().contains("this machine only, runs "));
    let mut stream = client(address);
    stream.write_all(b"hello\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut stream), b"hello\n");
}

#[test]
fn a_program_on_a_passed_socket_that_is_open_needs_consent() {
    let socket: OwnedFd = TcpListener::bind("0.0.0.0:0").unwrap().into();
    let sockets = [socket];
    let mut program = passed_at_once(&sockets, "web", &["serve", "--", "cat"]);
    program.wait().assert_failed(2, "unsafe");
    let me = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    let user = if rustix::process::geteuid().is_root() { vec!["--user", &me] } else { Vec::new() };
    let words = [&["serve", "--open"][..], &user, &["--", "cat"]].concat();
    let program = passed(&sockets, "web", &words);
    program.err.wait_for("for everyone (--open), passed as web\n");
}

/// A service manager that hears what it is told.
fn manager(address: &UnixAddr) -> UnixDatagram {
    let manager = UnixDatagram::bind_addr(address).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    manager
}

fn told(manager: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let bytes = manager.recv(&mut message).unwrap();
    String::from_utf8(message[..bytes].to_vec()).unwrap()
}

fn supervised(notify_socket: &str, words: &[&str]) -> Program {
    let mut command = Command::new("setsid");
    command.arg(env!("CARGO_BIN_EXE_adit")).args(words).env("NOTIFY_SOCKET", notify_socket);
    Program::start(&mut command)
}

#[test]
fn a_service_manager_is_told_that_it_is_ready_reloads_and_stops() {
    let scratch = Scratch::new();
    let name = format!("adit-operating-{}", std::process::id());
    let path = scratch.join("notify");
    for (address, socket) in [
        (UnixAddr::from_pathname(&path).unwrap(), path),
        (UnixAddr::from_abstract_name(&name).unwrap(), format!("@{name}")),
    ] {
        let manager = manager(&address);
        let mut program = supervised(&socket, &["serve", "upper", "127.0.0.1:0"]);
        let ready = told(&manager);
        let place = ready.strip_prefix("READY=1\nSTATUS=listening on tcp ").unwrap().trim_end();
        assert!(is_served(place.parse().unwrap()), "it listens when it says so");
        program.signal(Signal::HUP);
        let reloading = told(&manager);
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(told(&manager), ready);
        program.signal(Signal::TERM);
        assert!(told(&manager).starts_with("STOPPING=1\n"));
        assert_eq!(program.wait().status, 0);
    }
}

#[test]
fn a_watchdog_is_fed_while_it_serves_and_while_it_stops() {
    let name = format!("adit-watchdog-{}", std::process::id());
    let manager = manager(&UnixAddr::from_abstract_name(&name).unwrap());
    let mut command = Command::new("setsid");
    command.arg(env!("CARGO_BIN_EXE_adit")).args(["serve", "upper", "127.0.0.1:0", "--drain=1h"]);
    command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "20000");
    let mut program = Program::start(&mut command);
    let ready = told(&manager);
    let place = ready.trim_end().rsplit(' ').next().unwrap();
    for _ in 0..5 {
        assert_eq!(told(&manager), "WATCHDOG=1\n");
    }
    // A message that is never whole: the drain waits for it.
    let mut held: std::net::TcpStream = client(place.parse::<SocketAddr>().unwrap());
    held.write_all(b"hello\n").unwrap();
    assert_eq!(read_line(&mut held), "HELLO\n");
    program.signal(Signal::TERM);
    while !told(&manager).starts_with("STOPPING=1") {}
    drop(held);
    assert_eq!(program.wait().status, 0);
}

#[test]
fn the_access_list_is_read_again_and_a_bad_one_leaves_the_old_one() {
    let scratch = Scratch::new();
    let file = scratch.join("allowed");
    std::fs::write(&file, "127.0.0.0/8\n").unwrap();
    let rule = format!("--allow=@{file}");
    for (script, words) in [
        ("exec setsid \"$@\" 3>\"$READY\"", vec!["upper", "127.0.0.1:0", &rule]),
        ("exec \"$@\" 3>\"$READY\"", vec!["upper", "127.0.0.1:0", &rule, "--reload"]),
    ] {
        std::fs::write(&file, "127.0.0.0/8\n").unwrap();
        let server = Server::start(script, &words);
        let mut there = client(server.tcp());
        there.write_all(b"hello\n").unwrap();
        assert_eq!(read_line(&mut there), "HELLO\n");

        std::fs::write(&file, "127.0.0.0/99\n").unwrap();
        server.program.signal(Signal::HUP);
        let said = server.program.err.wait_for("not reloaded, the old one stays");
        assert_eq!(said.matches("not reloaded").count(), 1, "{said}");
        server.program.err.wait_for("line 1");
        assert!(is_served(server.tcp()));

        std::fs::write(&file, "192.0.2.0/24\n").unwrap();
        server.program.signal(Signal::HUP);
        server.program.err.wait_for("reloaded  allowed: 192.0.2.0/24\n");
        assert_eq!(read_to_end(&mut client(server.tcp())), b"");
        there.write_all(b"still there\n").unwrap();
        assert_eq!(read_line(&mut there), "STILL THERE\n");
        drop(there);
        assert_eq!(server.stop().status, 0);
    }
}

/// A certificate with its key, as the command makes one, and its pin.
fn certificate(scratch: &Scratch, name: &str) -> (String, String) {
    let folder = scratch.join(name);
    let script = format!("export XDG_DATA_HOME='{folder}'; exec \"$@\" 3>\"$READY\"");
    let server = Server::start(&script, &["echo", "127.0.0.1:0", "--tls=auto"]);
    let said = server.program.err.wait_for("\n");
    let pin = said.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
    (format!("{folder}/adit/tls-auto.pem"), pin.to_owned())
}

#[test]
fn a_certificate_is_read_again_and_a_bad_one_leaves_the_old_one() {
    let scratch = Scratch::new();
    let (old, old_pin) = certificate(&scratch, "old");
    let (new, new_pin) = certificate(&scratch, "new");
    assert_ne!(old_pin, new_pin);
    let (cert, key) = (scratch.join("cert.pem"), scratch.join("key.pem"));
    let put = |from: &str, to: &str| assert!(std::fs::copy(from, to).unwrap() > 0);
    put(&old, &cert);
    put(&old, &key);
    let files = [format!("--cert={cert}"), format!("--key={key}")];
    let words = ["upper", "tls://127.0.0.1:0", "--reload", &files[0], &files[1]];
    let server = Server::start("exec \"$@\" 3>\"$READY\"", &words);
    let place = |pin: &str| format!("tls://{},pin={pin}", server.tcp());
    let is_shown = |pin: &str| {
        let ran = run(&mut adit(&[&place(pin)]), b"hello\n");
        match ran.status {
            0 => ran.assert_clean("HELLO\n"),
            _ => assert!(ran.err.contains("pin"), "{ran:?}"),
        }
        ran.status == 0
    };
    let mut there = Program::start(&mut adit(&[&place(&old_pin)]));
    there.write(b"hello\n");
    there.out.wait_for("HELLO\n");
    assert!(is_shown(&old_pin) && !is_shown(&new_pin));

    let kept = "not reloaded, the old one stays: ";
    std::fs::write(&cert, "no certificate\n").unwrap();
    server.program.signal(Signal::HUP);
    server.program.err.wait_for(&format!("{kept}{cert}: no certificate in it"));
    assert!(is_shown(&old_pin) && !is_shown(&new_pin));
    put(&new, &cert);
    server.program.signal(Signal::HUP);
    server.program.err.wait_for(&format!("{kept}the key in {key} does not belong to"));
    assert!(is_shown(&old_pin) && !is_shown(&new_pin));

    put(&new, &key);
    server.program.signal(Signal::HUP);
    let said = server.program.err.wait_for(&format!("reloaded  certificate with pin {new_pin}\n"));
    assert_eq!(said.matches("not reloaded").count(), 2, "{said}");
    assert!(is_shown(&new_pin) && !is_shown(&old_pin));
    there.write(b"still there\n");
    there.out.wait_for("STILL THERE\n");
    there.end_input();
    assert_eq!(there.wait().status, 0);
    assert_eq!(server.stop().status, 0);
}

#[test]
fn what_a_relay_trusts_and_shows_at_its_target_is_read_again_and_a_bad_file_leaves_the_old() {
    let scratch = Scratch::new();
    let (one, _) = certificate(&scratch, "one");
    let (other, other_pin) = certificate(&scratch, "other");
    let files = [format!("--cert={one}"), format!("--key={one}")];
    let target = ["upper", "tls://127.0.0.1:0", &files[0], &files[1]];
    let target = Server::start("exec \"$@\" 3>\"$READY\"", &target);
    let (ca, own) = (scratch.join("ca.pem"), scratch.join("own.pem"));
    let put = |from: &str, to: &str| assert!(std::fs::copy(from, to).unwrap() > 0);
    put(&one, &ca);
    put(&one, &own);
    let onward = format!("tls://{},cert={own}", target.tcp());
    let words = ["forward", "--ready-fd=3", "--reload", "127.0.0.1:0", &onward, "--ca", &ca];
    let relay = Server::start_as("exec \"$@\" 3>\"$READY\"", &words);
    let ask = || run(&mut adit(&[&relay.tcp().to_string()]), b"hello\n");
    ask().assert_clean("HELLO\n");
    let mut there = Program::start(&mut adit(&[&relay.tcp().to_string()]));
    there.write(b"hello\n");
    there.out.wait_for("HELLO\n");

    let kept = "not reloaded, the old one stays: ";
    std::fs::write(&ca, "no certificate\n").unwrap();
    relay.program.signal(Signal::HUP);
    relay.program.err.wait_for(&format!("{kept}{ca}: no certificate in it"));
    ask().assert_clean("HELLO\n");

    put(&other, &ca);
    put(&other, &own);
    relay.program.signal(Signal::HUP);
    let now = format!("reloaded  TLS to the target, our certificate with pin {other_pin}\n");
    relay.program.err.wait_for(&now);
    ask().assert_failed(1, "reset");
    relay.program.err.wait_for("(code=tls-untrusted)");
    there.write(b"still there\n");
    there.out.wait_for("STILL THERE\n");

    put(&one, &ca);
    relay.program.signal(Signal::HUP);
    wait_until("both are read", || relay.program.err.text().matches(&now).count() == 2);
    ask().assert_clean("HELLO\n");
}

#[test]
fn a_signal_that_means_a_reload_does_not_cut_a_drain_short() {
    let scratch = Scratch::new();
    let gate = scratch.join("gate");
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let script = format!("echo here; read line <'{gate}'; echo done");
    let words = ["127.0.0.1:0", "--reload", "--drain=1h", "--json", "--", "sh", "-c", &script];
    let server = Server::start("exec \"$@\" 3>\"$READY\"", &words);
    let mut held = client(server.tcp());
    assert_eq!(read_line(&mut held), "here\n");
    let mut program = server.program;
    program.signal(Signal::TERM);
    program.err.wait_for("\"ev\":\"drain\"");
    program.signal(Signal::HUP);
    program.signal(Signal::USR1);
    std::fs::write(&gate, "open\n").unwrap();
    assert_eq!(read_to_end(&mut held), b"done\n");
    drop(held);
    assert_eq!(program.wait().status, 0);
}

#[test]
fn counts_and_a_reload_are_events_too() {
    let server = Server::start(
        "exec setsid \"$@\" 3>\"$READY\"",
        &["upper", "127.0.0.1:0", "udp://127.0.0.1:0", "--json"],
    );
    assert!(is_served(server.tcp()));
    server.program.signal(Signal::USR1);
    let said = server.program.err.wait_for("\"ev\":\"counts\"");
    assert_eq!(said.matches("\"ev\":\"counts\"").count(), 1);
    server.program.err.wait_for("\"conns\":1,\"errors\":0,\"refused\":0,\"dropped\":0");
    server.program.signal(Signal::HUP);
    server.program.err.wait_for("\"ev\":\"reload\"");
}

#[test]
fn a_rate_of_bytes_slows_its_source() {
    let server = serve(&["echo", "127.0.0.1:0", "--byte-rate=64kB/s"]);
    server.program.err.wait_for("this machine only, 64.0 kB/s for each source\n");
    let sent = vec![b'x'; 96_000];
    let (ran, took) = timed(|| run(&mut adit(&[server.place("tcp")]), &sent));
    assert_eq!((ran.status, ran.out.len(), ran.err.as_str()), (0, sent.len(), ""));
    // Half a second above the one that is there at once.
    assert!(took >= Duration::from_millis(490), "{took:?}");
}

#[test]
fn the_first_lines_say_what_is_laid_open() {
    let lines = |words: &[&str]| {
        let server = serve(words);
        server.program.signal(Signal::TERM);
        let mut program = server.program;
        program.wait().err
    };
    let udp = "udp://:0";
    let capped = lines(&["echo", udp, &format!("{udp},amplify=10")]);
    assert!(capped.contains("replies capped at 3x\n"), "{capped}");
    assert!(capped.contains("replies capped at 10x\n"), "{capped}");
    let limits = lines(&["echo", "127.0.0.1:0", "-v", "--per-source=off", "--max-conns=7"]);
    assert!(limits.contains("limits  7 conversations at once, 50 new a second"), "{limits}");
    let program = lines(&["127.0.0.1:0", "--", "cat"]);
    assert!(program.contains("this machine only, runs cat as "), "{program}");
    let relay =
        Server::start_as("exec \"$@\" 3>\"$READY\"", &["forward", "--ready-fd=3", udp, "udp://9"]);
    relay.program.err.wait_for("replies not capped\n");
    if UdpSocket::bind("[::1]:0").is_ok() {
        let alone = lines(&["echo", "-6", ":0"]);
        assert!(alone.contains(" (IPv6 only), reachable"), "{alone}");
    }
}

/// The units of the documents, with the command where the test has it.
#[test]
fn the_units_of_the_documents_are_accepted_by_systemd() {
    if find("systemd-analyze").is_none() {
        return;
    }
    let scratch = Scratch::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/systemd");
    let mut units = Vec::new();
    for kind in ["socket", "service"] {
        let unit = std::fs::read_to_string(folder.join(format!("adit@.{kind}"))).unwrap();
        let unit = unit.replace("/usr/bin/adit", env!("CARGO_BIN_EXE_adit"));
        std::fs::write(scratch.join(&format!("adit@.{kind}")), unit).unwrap();
        units.push(scratch.join(&format!("adit@7000.{kind}")));
    }
    let mut verify = Command::new("systemd-analyze");
    let ran = run(verify.args(["verify", "--man=no"]).args(&units), b"");
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    // The command of the unit is one that the parser takes: with its socket it begins to serve.
    let service = std::fs::read_to_string(folder.join("adit@.service")).unwrap();
    let start = service.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/adit "));
    let words: Vec<_> = start.unwrap().split(' ').collect();
    let (socket, address) = tcp();
    let program = passed_at_once(&[socket], "web", &words);
    program.err.wait_for("\"ev\":\"listen\"");
    assert!(is_served(address));
}
