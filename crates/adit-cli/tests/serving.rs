//! A server as its users meet it: the services, by hand, addresses of every spelling, the start.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use common::{
    DEADLINE, Program, Scratch, Server, adit, bounded, client, own_ip, read_line, read_to_end,
    reset, run, serve, skipped,
};

/// Addresses to listen on, one for each transport, in a folder of the test's own.
fn everywhere(scratch: &Scratch) -> Vec<String> {
    let unix = scratch.join("stream");
    let datagram = format!("unix-dgram:{}", scratch.join("datagram"));
    ["tcp://127.0.0.1:0".to_owned(), "udp://127.0.0.1:0".to_owned(), unix, datagram].into()
}

/// The addresses to connect to, once the server has chosen its ports.
fn targets(server: &Server) -> Vec<String> {
    let target = |line: &String| match line.split_once(' ').unwrap() {
        (scheme @ ("tcp" | "udp"), place) => format!("{scheme}://{place}"),
        (scheme, place) => format!("{scheme}:{place}"),
    };
    server.lines.iter().map(target).collect()
}

/// Serves a service everywhere and gives what a client hears there, in parallel.
fn ask_everywhere(service: &str, flags: &[&str], input: &[u8], check: impl Fn(&[u8]) + Sync) {
    let scratch = Scratch::new();
    let places = everywhere(&scratch);
    let words: Vec<&str> =
        std::iter::once(service).chain(places.iter().map(String::as_str)).collect();
    let server = serve(&words);
    let targets = targets(&server);
    assert_eq!(targets.len(), 4, "{targets:?}");
    std::thread::scope(|scope| {
        for target in targets {
            scope.spawn(|| {
                let target = target;
                let ran = run(adit(&[&target]).args(flags), input);
                assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{service} {target}");
                check(&ran.out);
            });
        }
    });
    let ran = server.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
}

// Services.

#[test]
fn echo_and_upper_answer_over_every_transport() {
    ask_everywhere("echo", &[], b"Hello\n", |answer| assert_eq!(answer, b"Hello\n"));
    ask_everywhere("upper", &[], b"Hello\n", |answer| assert_eq!(answer, b"HELLO\n"));
}

#[test]
fn discard_takes_everything_and_says_nothing() {
    ask_everywhere("discard", &["--send-only"], &b"x".repeat(60_000), |answer| {
        assert_eq!(answer, b"");
    });
}

#[test]
fn daytime_and_time_tell_the_time_over_every_transport() {
    ask_everywhere("daytime", &[], b"\n", |answer| {
        let text = String::from_utf8(answer.to_vec()).unwrap();
        // `Wednesday, November 25, 2026 08:15:00-UTC`
        assert!(text.ends_with("-UTC\r\n") && text.matches(',').count() == 2, "{text:?}");
    });
    // Seconds from 1900 to 1970 (RFC 868).
    let since_1900 = |answer: &[u8]| {
        let seconds = u32::from_be_bytes(answer[..4].try_into().unwrap());
        u64::from(seconds.wrapping_sub(2_208_988_800))
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    ask_everywhere("time", &[], b"\n", |answer| {
        assert!(since_1900(answer).abs_diff(now) < 300, "{answer:?}");
    });
}

#[test]
fn chargen_sends_the_rotating_pattern_until_the_client_has_enough() {
    let scratch = Scratch::new();
    let server = serve(&["chargen", "127.0.0.1:0", &scratch.join("stream")]);
    for target in targets(&server) {
        let mut program = Program::start(&mut adit(&[&target]));
        let text = program.out.wait_for_bytes(100 * 74);
        for (number, line) in text.chunks_exact(74).take(100).enumerate() {
            let expected: Vec<u8> =
                (0..72).map(|at| b' ' + u8::try_from((number + at) % 95).unwrap()).collect();
            assert_eq!(line, [&expected[..], b"\r\n"].concat(), "line {number}");
        }
        // Its end of input says so.
        program.end_input();
        assert_eq!(program.wait().status, 0);
    }
}

#[test]
fn what_multiplies_is_not_served_over_datagrams() {
    let scratch = Scratch::new();
    let unix = format!("unix-dgram:{}", scratch.join("socket"));
    for service in ["chargen", "chat"] {
        for address in ["udp://127.0.0.1:0", "udp://:0", &unix] {
            let ran = run(&mut adit(&["serve", service, address]), b"");
            ran.assert_failed(2, "unsafe");
            assert_eq!(ran.text(), "");
            assert!(ran.err.contains("adit serve"), "{}", ran.err);
        }
        run(&mut adit(&["serve", service, "-u", "0"]), b"").assert_failed(2, "unsafe");
    }
}

// Chat.

#[test]
fn a_line_of_a_chat_goes_to_all_others_with_the_number_of_who_said_it() {
    let scratch = Scratch::new();
    let server = serve(&["chat", "127.0.0.1:0", &scratch.join("stream")]);
    let targets = targets(&server);
    // Each is known to the server before the next one comes.
    let mut members: Vec<Program> = Vec::new();
    for (number, target) in [&targets[0], &targets[1], &targets[0]].into_iter().enumerate() {
        let mut member = Program::start(&mut adit(&[target]));
        member.write(format!("member {number} is here\n").as_bytes());
        for other in &members {
            other.out.wait_for(&format!("{}: member {number} is here\n", number + 1));
        }
        members.push(member);
        if number == 0 {
            // Nobody hears the first one: its arrival is seen in the log.
            server.program.signal(Signal::USR1);
            wait_for_open(&server, 1);
        }
    }
    members[1].write(b"hello\n");
    for number in [0, 2] {
        members[number].out.wait_for("2: hello\n");
    }
    assert!(!members[1].out.text().contains("hello"), "nobody hears himself");
}

/// Asks for the counts until so many conversations are open.
fn wait_for_open(server: &Server, count: usize) {
    let end = Instant::now() + DEADLINE;
    while !server.program.err.text().contains(&format!("{count} open")) {
        assert!(Instant::now() < end, "{}", server.program.err.text());
        server.program.signal(Signal::USR1);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_page_pasted_into_a_chat_reaches_every_member() {
    let server = serve(&["chat", "127.0.0.1:0"]);
    let readers: Vec<_> =
        (0..3).map(|_| Program::start(&mut adit(&[server.place("tcp")]))).collect();
    wait_for_open(&server, 3);
    let page: String = (0..2000).map(|number| format!("line {number}\n")).collect();
    let mut writer = Program::start(&mut adit(&[server.place("tcp")]));
    writer.write(page.as_bytes());
    let heard: String = (0..2000).map(|number| format!("4: line {number}\n")).collect();
    for reader in &readers {
        reader.out.wait_for("4: line 1999\n");
        assert_eq!(reader.out.text(), heard);
    }
}

#[test]
fn a_member_of_a_chat_that_stalls_holds_up_nobody_and_its_loss_is_counted() {
    let server = serve(&["chat", "127.0.0.1:0", "--json"]);
    let mut members: Vec<_> = (0..4).map(|_| client(server.tcp())).collect();
    let [speaker, first, second, stalled] = members.as_mut_slice() else { unreachable!() };
    for member in [&mut *first, second, stalled] {
        wait_until_heard(speaker, member);
    }
    speaker.write_all(b"begin\n").unwrap();
    // Who let in whom first is the threads' matter: the number of the speaker is what they hear.
    let [name, same] = [&mut *first, &mut *second].map(|member| {
        loop {
            let line = read_line(member);
            if let Some(name) = line.strip_suffix("begin\n") {
                break name.to_owned();
            }
        }
    });
    assert_eq!(name, same);
    // 20 MB, and every line waits until both quick readers have it.
    let body = "b".repeat(100_000);
    let mut heard = vec![0; body.len() + 64];
    for number in 0..200 {
        let line = format!("{number} {body}\n");
        speaker.write_all(line.as_bytes()).unwrap();
        let expected = format!("{name}{line}");
        for member in [&mut *first, second] {
            let heard = &mut heard[..expected.len()];
            member.read_exact(heard).unwrap();
            assert!(heard == expected.as_bytes(), "line {number}");
        }
    }
    let slow = stalled.local_addr().unwrap().to_string();
    // It leaves without having read anything; only then its account is closed.
    reset(members.pop().unwrap());
    server.program.err.wait_for("\"inbox\"");
    let report = events_of(server);
    let dropped = report.iter().find(|event| event["name"] == "inbox").unwrap();
    assert_eq!((&dropped["action"], &dropped["peer"]), (&"drop".into(), &slow.into()));
    assert!(dropped["count"].as_u64().unwrap() > 50, "{dropped}");
    let summary = report.iter().find(|event| event["ev"] == "summary").unwrap();
    assert_eq!(summary["dropped"], dropped["count"]);
}

/// Ends a server that talks JSON; gives its events.
fn events_of(server: Server) -> Vec<serde_json::Value> {
    server.program.signal(Signal::INT);
    let mut program = server.program;
    let ran = program.wait();
    ran.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

// By hand.

#[test]
fn two_clients_at_once_are_heard_each_with_its_label() {
    let mut server = serve(&["127.0.0.1:0", "--label=number"]);
    let (mut first, mut second) = (client(server.tcp()), client(server.tcp()));
    first.write_all(b"I am ").unwrap();
    second.write_all(b"hello from the second\n").unwrap();
    server.program.out.wait_for("[2] hello from the second\n");
    first.write_all(b"the first\n").unwrap();
    // Perhaps the beginning was shown already because it waited for too long.
    server.program.out.wait_for("the first\n");
    let text = server.program.out.text();
    assert!(text.contains("[1] I am "), "{text:?}");
    // What is typed goes to both.
    server.program.write(b"hello both\n");
    assert_eq!(
        (read_line(&mut first), read_line(&mut second)),
        ("hello both\n".into(), "hello both\n".into())
    );
    // The end of the keyboard is a half-close: they read it, and are still heard.
    server.program.end_input();
    assert_eq!(read_to_end(&mut first), b"");
    first.write_all(b"bye\n").unwrap();
    server.program.out.wait_for("[1] bye\n");
    drop((first, second));
    assert_eq!(server.stop().status, 0);
}

#[test]
fn labels_say_what_is_asked_for() {
    for (label, expected) in [("number", "[1] hello\n"), ("none", "hello\n"), ("auto", "hello\n")] {
        let server = serve(&["127.0.0.1:0", "--label", label]);
        let mut peer = client(server.tcp());
        peer.write_all(b"hello\n").unwrap();
        server.program.out.wait_for("hello\n");
        assert_eq!(server.program.out.text(), expected, "{label}");
    }
    let server = serve(&["127.0.0.1:0", "--label=addr"]);
    let mut peer = client(server.tcp());
    peer.write_all(b"hello\n").unwrap();
    let expected = format!("[{}] hello\n", peer.local_addr().unwrap());
    assert_eq!(server.program.out.wait_for("hello\n"), expected);
}

#[test]
fn piped_input_waits_for_the_first_client() {
    let mut server = serve(&["127.0.0.1:0"]);
    server.program.write(b"welcome\n");
    server.program.end_input();
    let mut peer = client(server.tcp());
    assert_eq!(read_to_end(&mut peer), b"welcome\n");
    peer.write_all(b"thanks\n").unwrap();
    drop(peer);
    server.program.out.wait_for("thanks\n");
}

#[test]
fn a_server_by_hand_hears_streams_and_datagrams_at_once() {
    let scratch = Scratch::new();
    let places = everywhere(&scratch);
    let words: Vec<&str> = places.iter().map(String::as_str).collect();
    let server = serve(&words);
    for (number, target) in targets(&server).iter().enumerate() {
        let text = format!("message {number}\n");
        let ran = run(&mut adit(&[target, "--send-only"]), text.as_bytes());
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{target}");
        server.program.out.wait_for(&text);
    }
}

#[test]
fn a_server_by_hand_prints_bytes_as_they_are() {
    let server = serve(&["127.0.0.1:0"]);
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut peer = client(server.tcp());
    peer.write_all(&bytes).unwrap();
    drop(peer);
    assert!(server.program.out.wait_for_bytes(bytes.len()) == bytes, "other bytes were printed");
}

// The start.

#[test]
fn print_addr_tells_the_real_address_of_every_socket() {
    let mut program =
        Program::start(&mut adit(&["serve", "upper", "0", "udp://0", "--print-addr"]));
    let text = program.out.wait_for("udp [::1]");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    for line in lines {
        let (scheme, place) = line.split_once(' ').unwrap();
        let ran = run(&mut adit(&[&format!("{scheme}://{place}")]), b"hello\n");
        ran.assert_clean("HELLO\n");
    }
    program.signal(Signal::TERM);
    assert_eq!(program.wait().status, 0);
}

#[test]
fn print_addr_and_a_server_by_hand_do_not_go_together() {
    let ran = run(&mut adit(&["serve", "127.0.0.1:0", "--print-addr"]), b"");
    ran.assert_failed(2, "usage");
    assert!(ran.err.contains("--ready-fd"), "{}", ran.err);
    assert_eq!(ran.text(), "");
}

#[test]
fn a_descriptor_that_nobody_opened_is_refused_whatever_its_number() {
    for number in 3..16 {
        let flag = format!("--ready-fd={number}");
        // No descriptor but the standard three is inherited.
        let script = format!(
            "for n in 3 4 5 6 7 8 9; do eval \"exec $n>&-\"; done; exec \"$0\" serve echo 127.0.0.1:0 {flag}"
        );
        let mut command = Command::new("sh");
        let ran = run(command.args(["-c", &script, env!("CARGO_BIN_EXE_adit")]), b"");
        ran.assert_failed(2, "usage");
        assert!(ran.err.contains(&format!("descriptor {number}")), "{}", ran.err);
    }
}

#[test]
fn who_waits_for_a_server_of_this_host_is_no_client_of_it() {
    if adit::system::diag::listeners(1).is_err() {
        return skipped("the kernel does not tell who listens");
    }
    let mut server = serve(&["127.0.0.1:0", "--once"]);
    let place = server.place("tcp").to_owned();
    for words in [&["wait", &place][..], &["wait", "--once", &place], &["-z", &place]] {
        run(&mut adit(words), b"").assert_clean("");
    }
    let open = run(&mut adit(&["wait", &place, "--until=closed", "--for=150ms"]), b"");
    open.assert_failed(124, "wait-timeout");
    // Its first client is the one who is meant, and is told everything.
    server.program.feed(b"all of it\n".to_vec());
    run(&mut adit(&[&place]), b"").assert_clean("all of it\n");
    assert_eq!(server.program.wait().status, 0);
}

#[test]
fn wait_returns_when_the_server_is_there_and_connect_finds_it() {
    let address = format!("{}:7000", own_ip());
    let mut waiting = Program::start(&mut adit(&["wait", &address, "--for=30s"]));
    // It has looked at least once when it is still there after another program's whole life.
    run(&mut adit(&["wait", &address, "--once"]), b"").assert_failed(1, "refused");
    assert!(waiting.is_running());
    let server = serve(&["upper", &address]);
    waiting.wait().assert_clean("");
    run(&mut adit(&[&address]), b"hello\n").assert_clean("HELLO\n");
    drop(server);
    run(&mut adit(&["wait", &address, "--until=closed"]), b"").assert_clean("");
}

#[test]
fn wait_sends_datagrams_until_a_server_answers() {
    let address = format!("udp://{}:7000", own_ip());
    let ran = run(&mut adit(&["wait", &address, "--for=300ms"]), b"");
    ran.assert_failed(124, "wait-timeout");
    let mut waiting = Program::start(&mut adit(&["wait", &address, "--send=ping"]));
    let server = serve(&["echo", &address]);
    waiting.wait().assert_clean("");
    drop(server);
}

#[test]
fn a_server_restarts_while_its_old_connections_wait_out_their_time() {
    let ip = own_ip();
    let server = serve(&["daytime", &format!("{ip}:0")]);
    let address = server.tcp();
    // The server ends first, so it is the server's side that waits.
    let mut peer = client(address);
    assert!(read_to_end(&mut peer).ends_with(b"-UTC\r\n"));
    drop(peer);
    assert_eq!(server.stop().status, 0);
    let server = serve(&["echo", &address.to_string()]);
    run(&mut adit(&[&address.to_string()]), b"again\n").assert_clean("again\n");
    assert_eq!(server.stop().status, 0);
}

#[test]
fn a_unix_socket_that_nobody_answers_is_replaced_and_a_live_one_is_not() {
    let scratch = Scratch::new();
    let path = scratch.join("socket");
    drop(UnixListener::bind(&path).unwrap());
    let server = serve(&["upper", &path]);
    run(&mut adit(&[&path]), b"hello\n").assert_clean("HELLO\n");
    let ran = run(&mut adit(&["serve", "echo", &path]), b"");
    ran.assert_failed(1, "in-use");
    run(&mut adit(&[&path]), b"still\n").assert_clean("STILL\n");
    // Killed, it leaves its socket behind.
    drop(server);
    assert!(std::fs::exists(&path).unwrap());
    let server = serve(&["echo", &path]);
    run(&mut adit(&[&path]), b"hello\n").assert_clean("hello\n");
    assert_eq!(server.stop().status, 0);
    assert!(!std::fs::exists(&path).unwrap(), "the socket is left behind");
}

#[test]
fn what_is_no_socket_is_never_replaced() {
    let scratch = Scratch::new();
    let path = scratch.join("letter");
    std::fs::write(&path, "dear reader").unwrap();
    let ran = run(&mut adit(&["serve", "echo", &path]), b"");
    ran.assert_failed(1, "in-use");
    assert_eq!(std::fs::read(&path).unwrap(), b"dear reader");
}

// Addresses.

#[test]
fn a_port_alone_is_this_machine_and_a_colon_in_front_is_every_network() {
    for (word, reach) in [("0", "this machine only"), (":0", "reachable from every network")] {
        let server = serve(&["upper", word]);
        let port = server.tcp().port();
        for host in ["127.0.0.1", "[::1]"] {
            let mut peer = client(format!("{host}:{port}"));
            peer.write_all(b"hello\n").unwrap();
            assert_eq!(read_line(&mut peer), "HELLO\n", "{word} {host}");
        }
        let said = server.program.err.text();
        assert!(said.contains(reach), "{said}");
    }
}

#[test]
fn every_spelling_of_an_address_connects() {
    let server = serve(&["upper", ":0"]);
    let port = server.tcp().port().to_string();
    let with = |text: &str| text.replace('P', &port);
    for words in [
        "P",
        ":P",
        "*:P",
        "127.0.0.1:P",
        "127.0.0.1 P",
        "localhost:P",
        "localhost P",
        "[::1]:P",
        "::1 P",
        "tcp://127.0.0.1:P",
        "tcp:127.0.0.1:P",
        "tcp://[::1]:P",
        "-4 localhost P",
        "-6 ::1 P",
        "-n 127.0.0.1 P",
        "connect 127.0.0.1 P",
        "-s 127.0.0.1 127.0.0.1 P",
        "127.0.0.1:P -w 5s",
    ] {
        let words = with(words);
        let words: Vec<&str> = words.split(' ').collect();
        let ran = run(&mut adit(&words), b"hello\n");
        assert_eq!((ran.status, ran.text().as_str()), (0, "HELLO\n"), "{words:?} {ran:?}");
    }
}

#[test]
fn every_spelling_of_a_unix_socket_connects() {
    let scratch = Scratch::new();
    let name = format!("adit-test-{}", std::process::id());
    let server = serve(&["upper", &scratch.join("socket"), &format!("@{name}")]);
    let path = scratch.join("socket");
    for words in [
        vec![path.clone()],
        vec!["./socket".to_owned()],
        vec![format!("unix:{path}")],
        vec!["-U".to_owned(), "socket".to_owned()],
        vec![format!("@{name}")],
        vec![format!("unix:@{name}")],
    ] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = run(adit(&words).current_dir(scratch.path()), b"hello\n");
        assert_eq!((ran.status, ran.text().as_str()), (0, "HELLO\n"), "{words:?} {ran:?}");
    }
    drop(server);
}

#[test]
fn a_unix_socket_is_for_its_owner_unless_a_mode_says_otherwise() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    for (key, mode) in [("", 0o600), (",mode=660", 0o660)] {
        let path = scratch.join("socket");
        let server = serve(&["echo", &format!("{path}{key}")]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        assert_eq!(server.stop().status, 0);
    }
}

// Limits.

#[test]
fn once_serves_one_conversation_and_ends_with_its_code() {
    let server = serve(&["upper", "127.0.0.1:0", "--once"]);
    let mut program = server.program;
    run(&mut adit(&[&server.lines[0].replace(' ', "://")]), b"hello\n").assert_clean("HELLO\n");
    assert_eq!(program.wait().status, 0);

    let server = serve(&["chargen", "127.0.0.1:0", "--once"]);
    let mut peer = client(server.tcp());
    peer.read_exact(&mut [0; 74]).unwrap();
    reset(peer);
    let mut program = server.program;
    let ran = program.wait();
    ran.assert_failed(1, "reset");
}

#[test]
fn once_ends_with_124_when_a_limit_of_the_users_own_has_expired() {
    std::thread::scope(|scope| {
        for (flag, code) in [("--idle=200ms", "idle-timeout"), ("--max-time=200ms", "max-time")] {
            scope.spawn(move || {
                let server = serve(&["discard", "127.0.0.1:0", "--once", flag]);
                let peer = client(server.tcp());
                let mut program = server.program;
                program.wait().assert_failed(124, code);
                drop(peer);
            });
        }
    });
}

#[test]
fn once_by_hand_ends_with_its_client() {
    let mut server = serve(&["127.0.0.1:0", "--once"]);
    server.program.write(b"hello\n");
    server.program.end_input();
    run(&mut adit(&[server.place("tcp")]), b"hi\n").assert_clean("hello\n");
    let ran = server.program.wait();
    assert_eq!((ran.status, ran.text().as_str()), (0, "hi\n"), "{ran:?}");
}

#[test]
fn once_does_not_serve_the_second_in_the_queue() {
    for _ in 0..10 {
        let server = serve(&["upper", "127.0.0.1:0", "--once", "--json"]);
        let mut first = client(server.tcp());
        first.write_all(b"first\n").unwrap();
        assert_eq!(read_line(&mut first), "FIRST\n");
        // Refused, or reset because it was in the queue when the door closed; answered never.
        let mut answer = Vec::new();
        if let Ok(mut second) = TcpStream::connect(server.tcp()) {
            drop(second.write_all(b"second\n"));
            drop(bounded(second).read_to_end(&mut answer));
        }
        assert_eq!(String::from_utf8_lossy(&answer), "");
        drop(first);
        let mut program = server.program;
        let ran = program.wait();
        assert_eq!(ran.status, 0, "{ran:?}");
        assert_eq!(ran.err.matches("\"ev\":\"open\"").count(), 1, "{}", ran.err);
    }
}

#[test]
fn beyond_max_conns_newcomers_wait_until_somebody_leaves() {
    let server = serve(&["upper", "127.0.0.1:0", "--max-conns=2"]);
    let mut clients: Vec<_> = (0..3).map(|_| client(server.tcp())).collect();
    for (number, peer) in clients.iter_mut().enumerate() {
        peer.write_all(format!("client {number}\n").as_bytes()).unwrap();
    }
    assert_eq!(read_line(&mut clients[0]), "CLIENT 0\n");
    assert_eq!(read_line(&mut clients[1]), "CLIENT 1\n");
    clients[2].set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(clients[2].peek(&mut [0]).is_err(), "there is no room for the third one");
    clients[2].set_read_timeout(Some(DEADLINE)).unwrap();
    clients[0].shutdown(Shutdown::Both).unwrap();
    assert_eq!(read_line(&mut clients[2]), "CLIENT 2\n");
}

#[test]
fn clients_that_are_too_slow_are_shown_the_door_and_the_reason_is_logged() {
    let rows: [(&[&str], &[u8], &str); 4] = [
        (&["echo", "--first-message=200ms"], b"", "message-timeout"),
        (&["chat", "--message-timeout=200ms"], b"half a line", "message-timeout"),
        (&["echo", "--idle=200ms"], b"hello\n", "idle-timeout"),
        (&["discard", "--max-time=200ms"], b"hello\n", "max-time"),
    ];
    std::thread::scope(|scope| {
        for (words, sent, code) in rows {
            scope.spawn(move || {
                let words = [words, &["127.0.0.1:0", "-v"]].concat();
                let server = serve(&words);
                let mut peer = client(server.tcp());
                peer.write_all(sent).unwrap();
                read_to_end(&mut peer);
                server.program.err.wait_for(&format!("(code={code})"));
                // The server itself is well.
                assert_eq!(server.stop().status, 0);
            });
        }
    });
}

#[test]
fn a_message_longer_than_the_limit_ends_its_conversation_only() {
    let server = serve(&["chat", "127.0.0.1:0", "-v"]);
    let mut peer = client(server.tcp());
    // The server ends as soon as it knows.
    drop(peer.write_all(&vec![b'x'; 3 << 20]));
    server.program.err.wait_for("(code=too-big)");
    let (mut first, second) = (client(server.tcp()), client(server.tcp()));
    wait_until_heard(&mut first, &second);
}

/// Speaks until the other one hears it: it may not be a member yet.
fn wait_until_heard(speaker: &mut TcpStream, hearer: &TcpStream) {
    hearer.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let end = Instant::now() + DEADLINE;
    while hearer.peek(&mut [0]).is_err() {
        assert!(Instant::now() < end, "nobody hears");
        speaker.write_all(b"anybody?\n").unwrap();
    }
    hearer.set_read_timeout(Some(DEADLINE)).unwrap();
}

#[test]
fn quiet_says_only_what_goes_wrong() {
    let server = serve(&["upper", "127.0.0.1:0", "--quiet"]);
    run(&mut adit(&[server.place("tcp"), "--quiet"]), b"hello\n").assert_clean("HELLO\n");
    let ran = server.stop();
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    run(&mut adit(&["serve", "upper", "127.0.0.1:99999", "--quiet"]), b"")
        .assert_failed(2, "usage");
}
