//! What the command says to whoever gets something wrong: what, where, why, a code, and the next step,
//! byte for byte. And that nothing is lost and nobody disturbed by it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use std::ffi::OsString;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{
    Program, Ran, Scratch, Server, adit, bounded_udp, find, no_port, own_ip, run, serve, skipped,
    udp_socket,
};

// Mistakes that need nothing but the command line.

/// The words of a command line, what stands on standard error, and the exit status; in sections.
const TEXTS: &str = include_str!("badinput/texts.txt");

/// Runs every row of a section; all that are not as they should be are told at once.
#[track_caller]
fn check(section: &str) {
    let start = format!("\n# {section}\n\n");
    let (_, rows) = TEXTS.split_once(&start).unwrap();
    let rows = rows.split("\n# ").next().unwrap();
    let mut wrong = String::new();
    for row in rows.trim_end().split("\n\n") {
        let (line, expected) = row.strip_prefix("$ adit ").unwrap().split_once('\n').unwrap();
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = run(&mut adit(&words), b"");
        let said = format!("{}exit {}", ran.err, ran.status);
        if said != expected {
            wrong.push_str(&format!("$ adit {line}\n{said}\n\n"));
        }
        assert_eq!(ran.text(), "", "a mistake wrote to standard output: {words:?}");
        assert_form(&ran);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The words of a line, as the head of the texts says.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(inside) => inside.split_once('"').unwrap(),
            None => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
        };
        words.push(word.replace("\\e", "\x1b").replace("\\n", "\n"));
        rest = after.trim_start();
    }
    words
}

/// Every text says what, then a code that is known, and nothing that only a programmer reads.
#[track_caller]
fn assert_form(ran: &Ran) {
    let last = ran.err.lines().last().unwrap_or_default();
    let code = last.split_once("(code=").and_then(|(_, rest)| rest.split_once(')'));
    let (code, rest) = code.unwrap_or_else(|| panic!("no code: {ran:?}"));
    assert!(!code.is_empty() && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
    assert!(rest.is_empty() || rest.starts_with("; "), "{ran:?}");
    assert!(ran.err.lines().all(|line| line.starts_with("adit: ")), "{ran:?}");
    for leaked in ["os error", "0x7f", "Usage:", "--help'", "tip:", "panicked", "Some(", "{ "] {
        assert!(!ran.err.contains(leaked), "{leaked} in {ran:?}");
    }
    assert!(!ran.err.chars().any(|char| char.is_control() && char != '\n'), "{ran:?}");
}

#[test]
fn an_address_that_is_none_is_explained() {
    check("addresses");
}

#[test]
fn habits_of_other_tools_that_mean_something_else_are_refused_with_the_words_that_work() {
    check("habits");
}

#[test]
fn unknown_words_are_answered_with_those_there_are() {
    check("words");
}

#[test]
fn values_that_do_not_fit_are_answered_with_some_that_do() {
    check("values");
}

#[test]
fn flags_that_contradict_each_other_or_do_nothing_are_refused() {
    check("conflicts");
}

#[test]
fn a_program_that_cannot_be_meant_is_refused_before_anything_listens() {
    check("programs");
}

#[test]
fn whoever_asks_for_nothing_is_told_what_there_is() {
    let ran = run(&mut adit(&[]), b"");
    assert_eq!((ran.status, ran.text().as_str()), (2, ""));
    assert!(ran.err.starts_with("Client/server programs over TCP, UDP and Unix sockets\n"));
    assert!(
        ran.err.ends_with("adit help addresses|eof|udp|tls|programs|service|exit-codes|json\n"),
        "{}",
        ran.err
    );
}

#[test]
fn a_path_that_is_too_long_is_measured() {
    let long = "x".repeat(120);
    let hint = "use a shorter one, as ./NAME from within its folder";
    for (words, bytes) in [
        (vec![format!("./{long}")], 122),
        (vec!["serve".to_owned(), format!("@{long}")], 120),
        (vec!["wait".to_owned(), format!("unix-dgram:{long}")], 120),
    ] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let address = words.last().unwrap();
        let expected = format!(
            "adit: Unix socket paths end at 107 bytes, this one has {bytes}: \"{address}\" \
             (code=usage); {hint}\n"
        );
        assert_failed(&run(&mut adit(&words), b""), 2, &expected);
    }
}

#[test]
fn words_that_are_no_utf8_are_a_usage_error_wherever_they_stand() {
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let expected = |shown: &str| {
        format!(
            "adit: \"{shown}\" is not valid UTF-8, and words of the command line are (code=usage); \
             bytes of any kind go through standard input\n"
        )
    };
    let alone = run(adit(&[]).arg(bytes(b"h\xff:80")), b"");
    assert_failed(&alone, 2, &expected("h\\xff:80"));
    for words in [
        &["connect"][..],
        &["connect", "h:80"],
        &["connect", "-w"],
        &["serve", "echo"],
        &["wait", "--send"],
        &["help"],
        &["completions"],
        &["demo"],
    ] {
        for (word, shown) in [(&b"./\xff"[..], "./\\xff"), (b"--\xc3\x28", "--\\xc3(")] {
            assert_failed(&run(adit(words).arg(bytes(word)), b""), 2, &expected(shown));
        }
    }
}

/// It failed with this status, and this is all it said.
#[track_caller]
fn assert_failed(ran: &Ran, status: i32, err: &str) {
    assert_eq!((ran.status, ran.err.as_str(), ran.text().as_str()), (status, err, ""));
    assert_form(ran);
}

#[test]
fn a_name_that_is_not_found_says_which() {
    let bounded = |words: &[&str]| {
        let mut command = adit(words);
        // No network is needed, and none that is slow is waited for (resolv.conf(5)).
        command.env("RES_OPTIONS", "timeout:1 attempts:1");
        run(&mut command, b"")
    };
    for words in [&["no.such.invalid:80"][..], &["wait", "--once", "udp://no.such.invalid:80"]] {
        let ran = bounded(words);
        let expected = "adit: the name \"no.such.invalid\" is not found: REASON (code=name); \
                        check the spelling, or write the IP address\n";
        let (before, after) = expected.split_once("REASON").unwrap();
        assert!(ran.err.starts_with(before) && ran.err.ends_with(after), "{ran:?}");
        assert_eq!(ran.status, 1);
        assert_form(&ran);
    }
    let expected = "adit: cannot listen on tcp no.such.invalid:80: the name is not found \
                    (code=name); check the spelling, or use :PORT for all addresses of this host\n";
    assert_failed(&bounded(&["serve", "echo", "no.such.invalid:80"]), 1, expected);
}

// Nobody is there.

#[test]
fn a_refused_connection_says_what_listens_there_instead() {
    let (here, there) = (own_ip(), own_ip());
    let listener = TcpListener::bind((there, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let place = format!("{here}:{port}");
    // Only addresses with the port on loopback are compared; the test's own program holds it.
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let expected = format!(
        "adit: connection refused, nothing is listening on tcp {place} (code=refused); same port \
         on this host: tcp {there}:{port} \"{}\"; wait for it: adit wait {place}\n",
        name.trim_end()
    );
    for words in [&[place.as_str()][..], &["-z", &place], &["wait", "--once", &place]] {
        assert_failed(&run(&mut adit(words), b"hello\n"), 1, &expected);
    }
}

#[test]
fn a_refused_connection_where_nobody_else_is_says_how_to_wait() {
    let (_socket, address) = no_port();
    let expected = format!(
        "adit: connection refused, nothing is listening on tcp {address} (code=refused); wait for \
         it: adit wait {address}\n"
    );
    let place = address.to_string();
    let ran = run(&mut adit(&[&place]), b"hello\n");
    assert_failed(&ran, 1, &expected);
    let note = "adit: -k is not needed: a server serves many clients, one after the other and at \
                once\nadit: -N is not needed: the end of input is always passed on\n";
    let noted = run(&mut adit(&["-kN", &place]), b"hello\n");
    assert_failed(&noted, 1, &format!("{note}{expected}"));
    let (port, over) = (address.port(), "not open in 100ms: refused");
    let expected =
        format!("adit: tcp 127.0.0.1:{port} {over} (code=wait-timeout); more time: --for TIME\n");
    assert_failed(&run(&mut adit(&["wait", &place, "--for=100ms"]), b""), 124, &expected);
}

#[test]
fn a_refused_datagram_says_what_listens_there_instead() {
    let (here, there) = (own_ip(), own_ip());
    let socket = UdpSocket::bind((there, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let address = format!("udp://{here}:{port}");
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let expected = format!(
        "adit: refused, nothing is listening on udp {here}:{port} (code=refused); same port on \
         this host: udp {there}:{port} \"{}\"; wait for it: adit wait {address}\n",
        name.trim_end()
    );
    assert_failed(&run(&mut adit(&[&address]), b"hello\n"), 1, &expected);
    assert_failed(&run(&mut adit(&["wait", "--once", &address]), b""), 1, &expected);
}

#[test]
fn an_empty_input_is_no_datagram_and_no_answer_comes() {
    let socket = udp_socket();
    let place = socket.local_addr().unwrap();
    let ran = run(&mut adit(&[&format!("udp://{place}"), "--linger=50ms"]), b"");
    let expected = format!(
        "adit: udp {place}: sent 0 datagrams, no answer in 50ms (code=no-answer); the input was \
         empty; an empty line is an empty datagram\n"
    );
    assert_failed(&ran, 1, &expected);
}

/// Runs in a folder, so that the texts have no name of it.
fn within(folder: &Scratch, words: &[&str]) -> Ran {
    run(adit(words).current_dir(folder.path()), b"")
}

#[test]
fn a_unix_socket_that_is_not_there_or_something_else_is_named() {
    let folder = Scratch::new();
    let path = |name: &str| folder.path().join(name);
    drop(UnixListener::bind(path("stale")).unwrap());
    let _datagram = UnixDatagram::bind(path("datagram")).unwrap();
    let _stream = UnixListener::bind(path("stream")).unwrap();
    std::fs::write(path("file"), "").unwrap();
    for (address, expected) in [
        (
            "./none",
            "cannot connect to unix ./none: no such file (code=refused); wait for it: adit wait \
             unix:./none",
        ),
        (
            "unix-dgram:./none",
            "cannot connect to unix-dgram ./none: no such file (code=refused); wait for it: adit \
             wait unix-dgram:./none",
        ),
        (
            "./file/none",
            "cannot connect to unix ./file/none: no such file (code=refused); wait for it: adit \
             wait unix:./file/none",
        ),
        (
            "./stale",
            "connection refused, nothing is listening on unix ./stale (code=refused); wait for \
             it: adit wait unix:./stale",
        ),
        (
            "@adit-no-such-name",
            "connection refused, nothing is listening on unix @adit-no-such-name (code=refused); \
             wait for it: adit wait unix:@adit-no-such-name",
        ),
        (
            "./file",
            "cannot connect to unix ./file: the file is no socket (code=refused); a server makes \
             its socket itself: look up its path",
        ),
        (
            "./datagram",
            "cannot connect to unix ./datagram: it is a datagram socket (code=refused); write \
             unix-dgram:./datagram",
        ),
        (
            "unix-dgram:./stream",
            "cannot connect to unix-dgram ./stream: it is a stream socket (code=refused); write \
             unix:./stream",
        ),
        (
            "./\x1b[2J\n",
            "cannot connect to unix ./\\x1b[2J\\n: no such file (code=refused); wait for it: adit \
             wait unix:./\\x1b[2J\\n",
        ),
    ] {
        assert_failed(&within(&folder, &[address]), 1, &format!("adit: {expected}\n"));
    }
}

// Somebody is there already.

/// With the number of the process replaced.
fn without_pid(mut ran: Ran, pid: u32) -> Ran {
    ran.err = ran.err.replace(&format!("pid {pid} "), "pid PID ");
    ran
}

#[test]
fn an_address_in_use_says_who_holds_it() {
    let (folder, ip) = (Scratch::new(), own_ip());
    let (free, udp_free) = (format!("{ip}:0"), format!("udp://{ip}:0"));
    let script = format!("cd '{}' && exec \"$@\" 3>\"$READY\"", folder.path().display());
    let addresses = ["echo", &free, &udp_free, "./stream", "unix-dgram:./datagram"];
    let server = Server::start(&script, &addresses);
    let pid = server.program.id();
    let abstract_name = format!("@adit-bad-{pid}");
    let (tcp, udp) = (server.tcp(), server.udp());
    let by_name = serve(&["echo", &abstract_name]);
    let another = "choose another name, or stop the program that listens there";
    let port_0 = "any free port: use port 0";
    for (address, spoken, hint, pid) in [
        (tcp.to_string(), format!("tcp {tcp}"), port_0, pid),
        (format!("udp://{udp}"), format!("udp {udp}"), port_0, pid),
        ("./stream".to_owned(), "unix ./stream".to_owned(), another, pid),
        (folder.join("stream"), format!("unix {}", folder.join("stream")), another, pid),
        ("unix-dgram:./datagram".to_owned(), "unix-dgram ./datagram".to_owned(), another, pid),
        ("./datagram".to_owned(), "unix ./datagram".to_owned(), another, pid),
        (abstract_name.clone(), format!("unix {abstract_name}"), another, by_name.program.id()),
    ] {
        for service in [&["serve", "upper"][..], &["serve"]] {
            let ran = within(&folder, &[service, &[&address]].concat());
            let expected = format!(
                "adit: cannot listen on {spoken}: address in use; held by pid PID \"adit\" \
                 (code=in-use); {hint}\n"
            );
            assert_failed(&without_pid(ran, pid), 1, &expected);
        }
    }
    // The server has not noticed.
    run(&mut adit(&[&tcp.to_string()]), b"hello\n").assert_clean("hello\n");
    run(&mut adit(&[&folder.join("stream")]), b"hello\n").assert_clean("hello\n");
    run(&mut adit(&["-u", &udp.to_string()]), b"hello\n").assert_clean("hello\n");
}

#[test]
fn a_file_that_is_no_socket_is_neither_replaced_nor_called_a_server() {
    let folder = Scratch::new();
    std::fs::write(folder.join("file"), "precious").unwrap();
    std::fs::create_dir(folder.join("folder")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.join("link")).unwrap();
    for name in ["./file", "./folder", "./link"] {
        for scheme in ["unix", "unix-dgram"] {
            let expected = format!(
                "adit: cannot listen on {scheme} {name}: there is a file that is no socket \
                 (code=in-use); choose another name\n"
            );
            let ran = within(&folder, &["serve", "echo", &format!("{scheme}:{name}")]);
            assert_failed(&ran, 1, &expected);
        }
    }
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "precious");
    for path in ["./none/socket", "./file/socket"] {
        let expected = format!(
            "adit: cannot listen on unix {path}: no such directory (code=no-address); make the \
             directory first\n"
        );
        assert_failed(&within(&folder, &["serve", "echo", path]), 1, &expected);
    }
}

#[test]
fn our_own_port_that_is_in_use_is_not_blamed_on_the_peer() {
    let server = serve(&["echo", &format!("{}:0", own_ip())]);
    let (place, own) = (server.tcp(), own_ip());
    let held = TcpListener::bind((own, 0)).unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    let ran = run(&mut adit(&["-s", &own.to_string(), "-p", &port, &place.to_string()]), b"");
    let expected = format!(
        "adit: cannot connect to tcp {place}: our port {port} is in use (code=in-use); choose \
         another own port, or none\n"
    );
    assert_failed(&ran, 1, &expected);
}

// Not permitted.

/// The command as a user without rights; none if that cannot be had here.
fn unprivileged(words: &[&str]) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        return Some(adit(words));
    }
    let mut command = Command::new(find("setpriv")?);
    command.args(["--reuid", "65534", "--clear-groups", "--bounding-set=-all", "--"]);
    command.arg(env!("CARGO_BIN_EXE_adit")).args(words);
    let mut probe = Command::new(command.get_program());
    probe.args(command.get_args().take(5)).arg(env!("CARGO_BIN_EXE_adit")).arg("--version");
    let can = probe.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success();
    if !can {
        skipped("another user cannot run the command here");
    }
    can.then_some(command)
}

#[test]
fn a_privileged_port_says_which_ports_are_not() {
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if start.ok().and_then(|start| start.trim().parse::<u16>().ok()).is_some_and(|it| it < 1000) {
        return skipped("every user may listen on low ports here");
    }
    for (address, spoken) in [
        ("127.0.0.1:999", "tcp 127.0.0.1:999"),
        ("udp://127.0.0.1:999", "udp 127.0.0.1:999"),
        (":999", "tcp [::]:999"),
        ("999", "tcp localhost:999"),
    ] {
        let Some(mut command) = unprivileged(&["serve", "echo", address]) else { return };
        let expected = format!(
            "adit: cannot listen on {spoken}: permission denied (code=denied); use a port from \
             1024 on, or the right CAP_NET_BIND_SERVICE\n"
        );
        assert_failed(&run(&mut command, b""), 1, &expected);
    }
    let server = serve(&["echo", "127.0.0.1:0"]);
    let place = server.tcp().to_string();
    let Some(mut command) = unprivileged(&["-p", "999", &place]) else { return };
    let expected = format!(
        "adit: not permitted to connect to tcp {place} (code=denied); own ports below 1024 need \
         the right CAP_NET_BIND_SERVICE\n"
    );
    assert_failed(&run(&mut command, b""), 1, &expected);
}

#[test]
fn a_unix_socket_without_permission_says_what_is_needed() {
    let folder = Scratch::new();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let shut = folder.path().join("shut");
    std::fs::create_dir(&shut).unwrap();
    let _inside = UnixListener::bind(shut.join("socket")).unwrap();
    let _beside = UnixListener::bind(folder.path().join("socket")).unwrap();
    mode(&folder.path().join("socket"), 0o000);
    mode(&shut, 0o000);
    mode(folder.path(), 0o755);
    let need = "this user must be able to write to its file and to enter its folder";
    for name in ["./socket", "./shut/socket"] {
        let Some(mut command) = unprivileged(&[name]) else { return };
        let expected =
            format!("adit: not permitted to connect to unix {name} (code=denied); {need}\n");
        assert_failed(&run(command.current_dir(folder.path()), b""), 1, &expected);
    }
    for scheme in ["unix", "unix-dgram"] {
        let address = format!("{scheme}:./shut/new");
        let Some(mut command) = unprivileged(&["serve", "echo", &address]) else { return };
        let expected = format!(
            "adit: cannot listen on {scheme} ./shut/new: permission denied (code=denied); its \
             folder must be writable for this user: choose another one\n"
        );
        assert_failed(&run(command.current_dir(folder.path()), b""), 1, &expected);
    }
    mode(&shut, 0o755);
}

// Bad data.

#[test]
fn a_message_that_no_datagram_carries_is_refused_and_what_was_whole_is_sent() {
    let socket = bounded_udp(UdpSocket::bind("127.0.0.1:0").unwrap());
    let place = socket.local_addr().unwrap();
    let address = format!("udp://{place}");
    let long = [&b"whole\n"[..], &[b'x'; 70_000]].concat();
    let record = [&b"\0\0\0\x05whole"[..], &70_000_u32.to_be_bytes(), &[b'x'; 9]].concat();
    let rest = "what was whole is sent, this is not: adit help udp";
    let split = "split it: --frame chunk:1200";
    for (frame, input, expected) in [
        ("line", &long[..], format!("datagram exceeds the UDP limit 65507 B (code=too-big); {split}")),
        (
            "len32",
            &record,
            format!("datagram of 70000 B exceeds the UDP limit 65507 B (code=too-big); {split}"),
        ),
        (
            "len32",
            b"\0\0\0\x05whole\0\0\0\x09short",
            format!(
                "standard input: the stream ended inside a message, after 9 B of it \
                 (code=truncated); {rest}"
            ),
        ),
        (
            "fixed:5",
            b"wholexx",
            format!(
                "standard input: the stream ended inside a message, after 2 B of it \
                 (code=truncated); {rest}"
            ),
        ),
        (
            "hex",
            b"77686f6c65\n\x1b[2J\n",
            "standard input: \"\\x1b[2J\" is no line of hexadecimal digits (code=bad-frame); write \
             two for each byte"
                .to_owned(),
        ),
    ] {
        let ran = run(&mut adit(&[&address, "--frame", frame]), input);
        assert_failed(&ran, 1, &format!("adit: {expected}\n"));
        let mut datagram = [0; 99];
        assert_eq!(socket.recv(&mut datagram).unwrap(), 5, "{frame}");
        assert_eq!(&datagram[..5], b"whole");
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut datagram).is_err(), "{frame}: part of it was sent");
        socket.set_nonblocking(false).unwrap();
    }
}

#[test]
fn bytes_that_are_no_text_pass_through_unchanged() {
    let server = serve(&["echo", "127.0.0.1:0", "udp://127.0.0.1:0"]);
    let bytes: Vec<u8> = (0..=255).chain(*b"\xc3\x28\xff\xfe\xed\xa0\x80\xf5").collect();
    let ran = run(&mut adit(&[&server.tcp().to_string()]), &bytes);
    assert_eq!((ran.status, ran.out, ran.err.as_str()), (0, bytes.clone(), ""));
    let whole = ["-u", &server.udp().to_string(), "--frame=whole"];
    let ran = run(&mut adit(&whole), &bytes);
    assert_eq!((ran.status, ran.out, ran.err.as_str()), (0, bytes, ""));
}

#[test]
fn a_server_of_one_conversation_says_why_its_status_is_not_0() {
    let mut server = serve(&["discard", "127.0.0.1:0", "--once", "--idle=100ms", "--quiet"]);
    let peer = std::net::TcpStream::connect(server.tcp()).unwrap();
    let ran = server.program.wait();
    let expected = format!(
        "adit: conversation with tcp {} ended (code=idle-timeout); what happened: -v or --json\n",
        peer.local_addr().unwrap()
    );
    assert_failed(&ran, 124, &expected);
}

// Nothing is left behind.

#[test]
fn an_address_that_fails_takes_those_before_it_along() {
    let folder = Scratch::new();
    let held = TcpListener::bind((own_ip(), 0)).unwrap();
    let taken = held.local_addr().unwrap().to_string();
    let free = TcpListener::bind((own_ip(), 0)).unwrap().local_addr().unwrap();
    let udp_taken = UdpSocket::bind((own_ip(), 0)).unwrap();
    let udp = format!("udp://{}", udp_taken.local_addr().unwrap());
    for (service, last) in [
        (&["serve", "upper"][..], taken.as_str()),
        (&["serve"], &taken),
        (&["serve"], &udp),
        (&["serve"], "./none/socket"),
        (&["serve", "upper"], "127.0.0.1:99999"),
    ] {
        let words = ["./first", "unix-dgram:./second", &free.to_string()];
        let ran = within(&folder, &[service, &words, &[last]].concat());
        assert!(matches!(ran.status, 1 | 2) && ran.text().is_empty(), "{ran:?}");
        assert!(!ran.err.contains("listening  "), "it said to be ready: {ran:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{last}");
        drop(TcpListener::bind(free).unwrap());
    }
}

#[test]
fn a_mistake_does_not_take_the_input_of_the_next_command() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let mut command = Command::new("sh");
    let script = "\"$0\" --bogus; \"$0\" 127.0.0.1:99999; \"$0\" \"$1\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_adit"), &server.tcp().to_string()]);
    let ran = run(&mut command, b"hello\n");
    assert_eq!((ran.status, ran.text().as_str()), (0, "HELLO\n"), "{ran:?}");
}

#[test]
fn serving_on_one_family_leaves_the_other_alone() {
    for (flag, ip) in [("-4", "127.0.0.1"), ("-6", "[::1]")] {
        if flag == "-6" && TcpListener::bind("[::1]:0").is_err() {
            return skipped("no IPv6 here");
        }
        let server = serve(&["echo", flag, "0"]);
        assert_eq!(server.lines.len(), 1, "{:?}", server.lines);
        assert!(server.lines[0].starts_with(&format!("tcp {ip}:")), "{:?}", server.lines);
        let server = serve(&["echo", flag, ":0", "-u"]);
        assert_eq!(server.lines.len(), 1, "{:?}", server.lines);
        let everywhere = if flag == "-4" { "udp 0.0.0.0:" } else { "udp [::]:" };
        assert!(server.lines[0].starts_with(everywhere), "{:?}", server.lines);
    }
}

// Completions.

#[test]
fn completions_load_in_the_shells_that_are_here() {
    for (shell, flags) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let script = run(&mut adit(&["completions", shell]), b"");
        assert_eq!((script.status, script.err.as_str()), (0, ""));
        let Some(program) = find(shell) else { continue };
        let folder = Scratch::new();
        let path = folder.join("script");
        std::fs::write(&path, &script.out).unwrap();
        let mut command = Command::new(program);
        let ran = run(command.args(flags).arg(&path), b"");
        assert_eq!((ran.status, ran.err.as_str(), ran.text().as_str()), (0, "", ""), "{shell}");
    }
}

#[test]
fn bash_completes_commands_flags_and_their_values() {
    let Some(bash) = find("bash") else { return };
    let complete = |words: &[&str]| {
        let script = "source <(\"$0\" completions bash) && COMP_WORDS=(\"$@\") && \
                      COMP_CWORD=$(($# - 1)) && _adit adit \"${@: -1}\" \"${@: -2:1}\" && \
                      printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut command = Command::new(&bash);
        command.args(["--norc", "-c", script, env!("CARGO_BIN_EXE_adit")]).args(words);
        let ran = run(&mut command, b"");
        assert_eq!((ran.status, ran.err.as_str()), (0, ""));
        ran.text()
    };
    assert_eq!(complete(&["adit", "conn"]), "connect\n");
    assert_eq!(complete(&["adit", "connect", "--ret"]), "--retry\n");
    assert_eq!(complete(&["adit", "serve", "--max-co"]), "--max-conns\n");
    assert_eq!(complete(&["adit", "connect", "--eof", "h"]), "hold\n");
    assert_eq!(complete(&["adit", "completions", "z"]), "zsh\n");
}

#[test]
fn a_retry_ends_at_once_where_trying_again_is_of_no_use() {
    let folder = Scratch::new();
    let mut program = Program::start(
        adit(&["--retry=forever", "--frame=line", "./none"]).current_dir(folder.path()),
    );
    let expected = "adit: --frame line is for datagrams: a stream has no messages (code=usage); \
                    leave it out, or use UDP: -u\n";
    assert_failed(&program.wait(), 2, expected);
}
