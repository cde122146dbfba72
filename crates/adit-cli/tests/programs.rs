//! Programs behind connections: bytes, ends, statuses, limits, and that nothing of them stays behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::Signal;

use common::{
    DEADLINE, Program, Scratch, Server, adit, ask, client, descendants, finish, guard_of, is_alive,
    noise, read_line, read_to_end, reset, run, serve, signal, timed, udp_socket, wait_until,
};

const MB: usize = 1_000_000;

// Bytes and ends.

#[test]
fn ten_megabytes_go_through_a_program_and_come_back_equal() {
    let server = serve(&["127.0.0.1:0", "--", "cat"]);
    let question = noise(11, 10 * MB);
    let mut stream = client(server.tcp());
    let mut sending = stream.try_clone().unwrap();
    let sent = question.clone();
    let writer = std::thread::spawn(move || {
        sending.write_all(&sent).unwrap();
        sending.shutdown(Shutdown::Write).unwrap();
    });
    let answer = read_to_end(&mut stream);
    writer.join().unwrap();
    assert!(answer == question, "{} bytes came back", answer.len());
    assert_eq!(server.stop().status, 0);
}

#[test]
fn the_answer_goes_on_after_the_end_of_the_question_and_the_question_after_that_of_the_answer() {
    let script = "cat >/dev/null; echo got all; read more; echo \"${more:-nothing more}\"";
    let server = serve(&["127.0.0.1:0", "--", "sh", "-c", script]);
    assert_eq!(ask(&server, b"question\n"), b"got all\nnothing more\n");
    // Its end ends our direction; the client may go on.
    let server = serve(&["127.0.0.1:0", "-v", "--", "echo", "hello"]);
    let mut stream = client(server.tcp());
    assert_eq!(read_to_end(&mut stream), b"hello\n");
    stream.write_all(b"still here\n").unwrap();
    finish(&stream);
    let log = server.program.err.wait_for("\n-1 ");
    assert!(!log.contains("code="), "{log}");
}

#[test]
fn what_a_program_has_written_is_sent_before_its_failure_ends_the_connection() {
    let script = "head -c 3000000 /dev/zero; exit 7";
    let server = serve(&["127.0.0.1:0", "--json", "--", "sh", "-c", script]);
    let mut stream = client(server.tcp());
    let place = stream.local_addr().unwrap();
    assert_eq!(read_to_end(&mut stream).len(), 3_000_000);
    finish(&stream);
    let log = server.program.err.wait_for("\"ev\":\"close\"");
    let error = log.lines().find(|line| line.contains("\"ev\":\"error\"")).unwrap();
    assert!(error.contains(&format!("sh failed for peer {place}: exit 7")), "{error}");
    assert!(error.contains("\"code\":\"handler\"") && error.contains("\"where\":\"program\""));
    let close = log.lines().find(|line| line.contains("\"ev\":\"close\"")).unwrap();
    assert!(close.contains("\"code\":\"handler\"") && close.contains("\"out\":3000000"), "{close}");
}

#[test]
fn a_failure_is_logged_with_its_peer_and_the_server_lives_on() {
    let server = serve(&["127.0.0.1:0", "--", "sh", "-c", "read a; [ \"$a\" = ok ] || kill -9 $$"]);
    let mut stream = client(server.tcp());
    let place = stream.local_addr().unwrap();
    stream.write_all(b"no\n").unwrap();
    assert_eq!(read_to_end(&mut stream), b"");
    let said = format!(
        "adit: sh failed for peer {place}: signal 9 (code=handler); the peer got a closed connection\n"
    );
    server.program.err.wait_for(&said);
    assert_eq!(ask(&server, b"ok\n"), b"");
    let ran = server.stop();
    assert_eq!((ran.status, ran.err.matches("failed").count()), (0, 1), "{ran:?}");
}

#[test]
fn a_program_that_reads_nothing_is_served_like_any_other() {
    let server = serve(&["127.0.0.1:0", "-v", "--", "true"]);
    for _ in 0..20 {
        let mut stream = client(server.tcp());
        // It may be over before that.
        drop(stream.write_all(&noise(1, 10_000)));
        drop(stream.shutdown(Shutdown::Write));
        assert_eq!(read_to_end(&mut stream), b"");
    }
    let log = server.program.err.wait_for("\n-20 ");
    assert!(!log.contains("code="), "{log}");
}

#[test]
fn once_ends_with_the_status_of_the_conversation() {
    let mut server = serve(&["127.0.0.1:0", "--once", "--", "cat"]);
    assert_eq!(ask(&server, b"hello"), b"hello");
    assert_eq!(server.program.wait().status, 0);
    let mut server = serve(&["127.0.0.1:0", "--once", "--", "false"]);
    assert_eq!(ask(&server, b""), b"");
    let ran = server.program.wait();
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.err.contains("false failed for peer"), "{ran:?}");
}

// What a program is given.

#[test]
fn a_program_has_exactly_three_descriptors_the_limit_from_before_and_signals_as_new() {
    // Whoever starts adit ignores some and leaves it a descriptor.
    let script = "ulimit -Sn 200; trap '' HUP PIPE USR1; exec \"$@\" 3>\"$READY\" 7<&0";
    let report =
        "ls /proc/self/fd; ulimit -Sn; grep -E '^(Sig(Ign|Blk)|NoNewPrivs)' /proc/self/status";
    let words = ["127.0.0.1:0", "--", "sh", "-c", report];
    let server = Server::start(script, &words);
    let told = String::from_utf8(ask(&server, b"")).unwrap();
    // The list is open as 3 while it is read.
    assert_eq!(
        told.split_whitespace().collect::<Vec<_>>().join(" "),
        "0 1 2 3 200 SigBlk: 0000000000000000 SigIgn: 0000000000000000 NoNewPrivs: 1"
    );
}

/// The variables that a program sees.
fn environment(told: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8(told.to_vec()).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_environment_is_an_allow_list_and_the_addresses_in_numbers() {
    let script = "SECRET=1 ASKED=2 LC_TIME=C TZ=UTC exec \"$@\" 3>\"$READY\"";
    let server = Server::start(script, &["127.0.0.1:0", "--env", "ASKED", "--", "env"]);
    let mut stream = client(server.tcp());
    let (ours, theirs) = (stream.local_addr().unwrap(), server.tcp());
    let told = environment(&read_to_end(&mut stream));
    assert_eq!(told.get("SECRET"), None);
    for (name, value) in [
        ("ASKED", "2"),
        ("LC_TIME", "C"),
        ("TZ", "UTC"),
        ("PROTO", "TCP"),
        ("TCPLOCALIP", "127.0.0.1"),
        ("TCPLOCALPORT", &theirs.port().to_string()),
        ("TCPREMOTEIP", "127.0.0.1"),
        ("TCPREMOTEPORT", &ours.port().to_string()),
        ("ADIT_SCHEME", "tcp"),
        ("ADIT_CONN", "1"),
        ("ADIT_PEER_ADDR", "127.0.0.1"),
        ("ADIT_PEER_PORT", &ours.port().to_string()),
        ("ADIT_LOCAL_ADDR", "127.0.0.1"),
        ("ADIT_LOCAL_PORT", &theirs.port().to_string()),
    ] {
        assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
    }
    let allowed = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "PROTO"];
    let is_known = |name: &str| {
        allowed.contains(&name)
            || ["LC_", "TCP", "ADIT_"].iter().any(|start| name.starts_with(start))
            || ["ASKED", "TZ"].contains(&name)
    };
    assert!(told.keys().all(|name| is_known(name)), "{told:?}");
}

#[test]
fn over_a_unix_socket_a_program_learns_who_has_connected() {
    let scratch = Scratch::new();
    let path = scratch.join("door");
    let _server = serve(&[&path, "--", "env"]);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let told = environment(&read_to_end(&mut stream));
    for (name, value) in [
        ("PROTO", "UNIX"),
        ("UNIXLOCALPATH", &*path),
        ("UNIXREMOTEPID", &std::process::id().to_string()),
        ("UNIXREMOTEEUID", &rustix::process::geteuid().as_raw().to_string()),
        ("UNIXREMOTEEGID", &rustix::process::getegid().as_raw().to_string()),
    ] {
        assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[test]
fn a_user_is_become_for_good() {
    if !rustix::process::geteuid().is_root() {
        return common::skipped("only root can become somebody else");
    }
    let report = "id -u; id -G; echo $HOME $USER; grep -E '^[UG]id' /proc/self/status";
    let server = serve(&["127.0.0.1:0", "--user", "nobody", "--", "sh", "-c", report]);
    let told = String::from_utf8(ask(&server, b"")).unwrap();
    let of_nobody = |flag| run(std::process::Command::new("id").args([flag, "nobody"]), b"").text();
    let (uid, groups) = (of_nobody("-u"), of_nobody("-G"));
    assert!(told.starts_with(&format!("{uid}{groups}")), "{told}");
    assert!(told.contains(" nobody\n"), "{told}");
    // Real, effective, saved and of the file system.
    let line = format!("Uid:\t{0}\t{0}\t{0}\t{0}\n", uid.trim());
    assert!(told.contains(&line), "{told}");
}

#[test]
fn a_shell_reads_the_command_only_if_it_is_asked_to() {
    let server = serve(&["127.0.0.1:0", "--", "echo", "$HOME; true | cat"]);
    assert_eq!(ask(&server, b""), b"$HOME; true | cat\n");
    let server = serve(&["127.0.0.1:0", "--sh", "--", "tr a-z A-Z | rev; echo $1", "more"]);
    server.program.err.wait_for("a shell reads the command because of --sh");
    assert_eq!(ask(&server, b"abc\n"), b"CBA\nmore\n");
}

// Ends of programs that do not end.

#[test]
fn at_the_end_of_a_conversation_its_program_ends_with_its_group() {
    let script = "trap 'echo told >&2; exit' TERM; sleep 1000 & echo $! $$; wait";
    let server = serve(&["127.0.0.1:0", "--", "sh", "-c", script]);
    let mut stream = client(server.tcp());
    let line = read_line(&mut stream);
    let pids: Vec<u32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    reset(stream);
    server.program.err.wait_for("told\n");
    wait_until("the group ends", || !pids.iter().any(|pid| is_alive(*pid)));
    let log = server.program.err.wait_for("(code=reset)");
    assert!(!log.contains("handler)"), "{log}");
}

#[test]
fn a_program_that_ignores_the_order_to_end_is_killed_after_a_second() {
    let script = "trap '' TERM; echo $$; while :; do sleep 1000; done";
    let server = serve(&["127.0.0.1:0", "--max-time", "300ms", "-v", "--", "sh", "-c", script]);
    let mut stream = client(server.tcp());
    let pid = read_line(&mut stream).trim().parse().unwrap();
    let (_, lasted) = timed(|| wait_until("it is killed", || !is_alive(pid)));
    assert!(lasted > Duration::from_millis(1200), "after {lasted:?}");
    server.program.err.wait_for("(code=max-time)");
}

#[test]
fn whoever_holds_on_to_the_connection_of_a_program_that_has_ended_keeps_nobody_waiting() {
    // One stays in the group, the other leaves it; both keep standard output.
    let script = "sleep 1000 & setsid sh -c 'echo away; exec sleep 1000' & read line; echo done";
    let server = serve(&["127.0.0.1:0", "--", "sh", "-c", script]);
    let mut stream = client(server.tcp());
    assert_eq!(read_line(&mut stream), "away\n");
    stream.write_all(b"go\n").unwrap();
    finish(&stream);
    assert_eq!(read_to_end(&mut stream), b"done\n");
    // The one of its own session stays until the server ends.
    let guard = guard_of(&server);
    wait_until("one is left", || descendants(guard).len() == 1);
    let left = descendants(guard)[0].0;
    assert_eq!(server.stop().status, 0);
    wait_until("it is gone", || !is_alive(left));
}

#[test]
fn nothing_survives_a_server_that_is_killed() {
    // A program, its child, one with a session of its own, one that ignores the order, a stopped one.
    let script = "sleep 1001 & setsid sh -c 'sleep 1002 & sleep 1003' & \
                  (trap '' TERM HUP; sleep 1004) & sh -c 'kill -STOP $$' & echo $$; exec sleep 1005";
    let server = serve(&["127.0.0.1:0", "--", "sh", "-c", script]);
    let mut streams: Vec<TcpStream> = (0..5).map(|_| client(server.tcp())).collect();
    for stream in &mut streams {
        read_line(stream);
    }
    let guard = guard_of(&server);
    wait_until("all run", || descendants(guard).len() == 5 * 7);
    let mut all: Vec<u32> = descendants(guard).into_iter().map(|(pid, _)| pid).collect();
    all.push(guard);
    signal(server.program.id(), Signal::KILL);
    let ((), lasted) =
        timed(|| wait_until("all are gone", || !all.iter().any(|pid| is_alive(*pid))));
    assert!(lasted < Duration::from_secs(10), "after {lasted:?}");
}

#[test]
fn a_guard_that_is_killed_takes_its_programs_with_it_and_a_new_one_takes_over() {
    let server = serve(&["127.0.0.1:0", "--", "cat"]);
    let mut stream = client(server.tcp());
    stream.write_all(b"hello\n").unwrap();
    assert_eq!(read_line(&mut stream), "hello\n");
    let guard = guard_of(&server);
    let program = descendants(guard)[0].0;
    signal(guard, Signal::KILL);
    assert_eq!(read_to_end(&mut stream), b"");
    wait_until("its program is gone", || !is_alive(program));
    server.program.err.wait_for("its guard was killed (code=handler)");
    let answer = ask(&server, b"again");
    assert_eq!(answer, b"again", "{}", server.program.err.text());
    assert_eq!(server.stop().status, 0);
}

/// A server of one program at a time, whose guard is stopped.
fn stopped(kind: &[&str]) -> (Server, u32) {
    let server = serve(&[kind, &["127.0.0.1:0", "--max-children=1", "--", "cat"]].concat());
    assert_eq!(ask(&server, b"before"), b"before");
    let guard = guard_of(&server);
    wait_until("the first is gone", || descendants(guard).is_empty());
    signal(guard, Signal::STOP);
    (server, guard)
}

/// Nobody is served, and nobody waits for good; then it goes on as it was.
fn nobody_waits(server: Server, guard: u32) {
    // The second waits for the place of the first, which nobody gives back.
    for _ in 0..2 {
        assert_eq!(read_to_end(&mut client(server.tcp())), b"");
    }
    let why = format!("its guard, process {guard}, does not answer; was it stopped?");
    server.program.err.wait_for(&format!("cannot run cat: {why}"));
    signal(guard, Signal::CONT);
    assert_eq!(ask(&server, b"after"), b"after", "{}", server.program.err.text());
    wait_until("nothing started late stays", || descendants(guard).is_empty());
    signal(guard, Signal::STOP);
    assert_eq!(server.stop().status, 0);
    wait_until("the guard hears of the end", || !is_alive(guard));
}

#[test]
fn a_guard_that_is_stopped_keeps_nobody_waiting_for_good() {
    let (server, guard) = stopped(&[]);
    nobody_waits(server, guard);
}

#[test]
fn a_guard_that_is_stopped_keeps_no_socket_that_was_given_away() {
    let (server, guard) = stopped(&["--fd"]);
    nobody_waits(server, guard);
}

#[test]
fn a_guard_that_is_stopped_ends_no_program_and_that_keeps_nobody_waiting_either() {
    let (server, guard) = stopped(&[]);
    signal(guard, Signal::CONT);
    let mut stream = client(server.tcp());
    stream.write_all(b"runs\n").unwrap();
    assert_eq!(read_line(&mut stream), "runs\n");
    signal(guard, Signal::STOP);
    reset(stream);
    nobody_waits(server, guard);
}

#[test]
fn a_thousand_short_connections_leave_no_zombie_and_no_descriptor() {
    let server = serve(&["127.0.0.1:0", "--", "echo", "hello"]);
    let open = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert_eq!(ask(&server, b""), b"hello\n");
    let guard = guard_of(&server);
    wait_until("the first is gone", || descendants(guard).is_empty());
    let before = (open(server.program.id()), open(guard));
    let ask_many = |count| (0..count).for_each(|_| assert_eq!(ask(&server, b""), b"hello\n"));
    std::thread::scope(|scope| {
        (0..4).for_each(|_| drop(scope.spawn(|| ask_many(250))));
    });
    wait_until("all are gone", || descendants(server.program.id()) == [(guard, 'S')]);
    wait_until("all is closed", || (open(server.program.id()), open(guard)) <= before);
    let ran = server.stop();
    assert_eq!((ran.status, is_alive(guard)), (0, false), "{ran:?}");
}

#[test]
fn a_drain_waits_for_a_program_and_a_limit_on_it_ends_it() {
    let mut server = serve(&["127.0.0.1:0", "--", "cat"]);
    let mut stream = client(server.tcp());
    stream.write_all(b"one\n").unwrap();
    assert_eq!(read_line(&mut stream), "one\n");
    server.program.signal(Signal::TERM);
    stream.write_all(b"two\n").unwrap();
    assert_eq!(read_line(&mut stream), "two\n");
    finish(&stream);
    assert_eq!(read_to_end(&mut stream), b"");
    assert_eq!(server.program.wait().status, 0);

    let mut server = serve(&["127.0.0.1:0", "--drain", "100ms", "--", "cat"]);
    let mut stream = client(server.tcp());
    stream.write_all(b"one\n").unwrap();
    assert_eq!(read_line(&mut stream), "one\n");
    let program = descendants(guard_of(&server))[0].0;
    server.program.signal(Signal::TERM);
    assert_eq!(server.program.wait().status, 143);
    assert!(!is_alive(program));
}

// Who may, and how many.

#[test]
fn with_one_program_at_a_time_the_second_client_waits_for_the_first() {
    let server = serve(&["127.0.0.1:0", "--max-children", "1", "-v", "--", "cat"]);
    let mut first = client(server.tcp());
    first.write_all(b"first\n").unwrap();
    assert_eq!(read_line(&mut first), "first\n");
    let mut second = client(server.tcp());
    second.write_all(b"second\n").unwrap();
    server.program.err.wait_for("limit conversations 1: wait");
    assert!(!server.program.err.text().contains("\n+2 "));
    finish(&first);
    assert_eq!(read_to_end(&mut first), b"");
    assert_eq!(read_line(&mut second), "second\n");
}

#[test]
fn a_program_is_open_to_others_only_if_that_was_said() {
    let is_root = rustix::process::geteuid().is_root();
    let ran = run(&mut adit(&["serve", "0.0.0.0:0", "--", "cat"]), b"");
    ran.assert_failed(2, "unsafe");
    assert!(ran.err.contains("would be open to everyone"), "{ran:?}");
    let words: &[&str] = if is_root {
        let ran = run(&mut adit(&["serve", "--open", "0.0.0.0:0", "--", "cat"]), b"");
        ran.assert_failed(2, "unsafe");
        assert!(ran.err.contains("would run as root"), "{ran:?}");
        &["0.0.0.0:0", "--open", "--user", "nobody", "--", "cat"]
    } else {
        &["0.0.0.0:0", "--open", "--", "cat"]
    };
    let server = serve(words);
    let mut stream = client((common::own_ip(), server.tcp().port()));
    stream.write_all(b"hello").unwrap();
    finish(&stream);
    assert_eq!(read_to_end(&mut stream), b"hello");
}

#[test]
fn naming_who_may_come_says_that_others_may_have_a_program_run() {
    let is_root = rustix::process::geteuid().is_root();
    let user: &[&str] = if is_root { &["--user", "nobody"] } else { &[] };
    let server = serve(&[&["0.0.0.0:0", "--allow", "127.0.0.1"], user, &["--", "cat"]].concat());
    let mut stream = client(server.tcp());
    stream.write_all(b"hello").unwrap();
    finish(&stream);
    assert_eq!(read_to_end(&mut stream), b"hello");
    let (own, port) = (common::own_ip().to_string(), server.tcp().port().to_string());
    let ran = run(&mut adit(&["-s", &own, "127.0.0.1", &port]), b"");
    assert!(ran.out.is_empty(), "{ran:?}");
    server.program.err.wait_for("not-allowed");
}

#[test]
fn a_program_that_vanishes_is_told_of_now_and_then_and_is_served_when_it_is_back() {
    let scratch = Scratch::new();
    let (path, away) = (scratch.join("answer"), scratch.join("away"));
    fs::write(&path, "#!/bin/sh\necho hello\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let server = serve(&["127.0.0.1:0", "--", &path]);
    assert_eq!(ask(&server, b""), b"hello\n");
    fs::rename(&path, &away).unwrap();
    for _ in 0..20 {
        assert_eq!(ask(&server, b""), b"");
    }
    fs::rename(&away, &path).unwrap();
    assert_eq!(ask(&server, b""), b"hello\n");
    let said =
        format!("adit: cannot run {path}: no such file (code=not-found); the peer got a closed");
    server.program.err.wait_for(&said);
    let ran = server.stop();
    assert!(ran.status == 0 && ran.err.matches("cannot run").count() <= 4, "{ran:?}");
}

#[test]
fn a_program_that_is_not_there_or_does_not_run_is_refused_before_anything_listens() {
    let scratch = Scratch::new();
    let (text, folder) = (scratch.join("text"), scratch.join("folder"));
    fs::write(&text, "no program\n").unwrap();
    fs::create_dir(&folder).unwrap();
    for (program, status, why) in [
        (&*scratch.join("no-such"), 127, "no such file (code=not-found)"),
        ("no-such-program-here", 127, "no such file (code=not-found)"),
        (&*text, 126, "not executable (code=cannot-run)"),
        (&*folder, 126, "it is a directory (code=cannot-run)"),
    ] {
        let ran = run(&mut adit(&["serve", "127.0.0.1:0", "--", program]), b"");
        let said = format!("adit: cannot run {program}: {why}; not listening\n");
        assert_eq!((ran.status, ran.err), (status, said));
        let ran = run(&mut adit(&["127.0.0.1:1", "--", program]), b"");
        let said = format!("adit: cannot run {program}: {why}; not connecting\n");
        assert_eq!((ran.status, ran.err), (status, said));
    }
}

// Datagrams.

#[test]
fn each_datagram_has_a_program_of_its_own_and_many_peers_are_served_at_once() {
    // Each waits for the others: served one after the other, nobody would be answered.
    let scratch = Scratch::new();
    let script = "read name; : >\"$0/$name\"; while [ $(ls \"$0\" | wc -l) -lt 5 ]; do sleep 0.01; done; \
                  echo \"$PROTO $UDPREMOTEPORT $name\"";
    let folder = scratch.path().to_str().unwrap();
    let server = serve(&["udp://127.0.0.1:0", "--", "sh", "-c", script, folder]);
    let sockets: Vec<_> = (0..5).map(|_| udp_socket()).collect();
    for (number, socket) in sockets.iter().enumerate() {
        socket.send_to(format!("peer{number}\n").as_bytes(), server.udp()).unwrap();
    }
    let mut answer = [0; 100];
    for (number, socket) in sockets.iter().enumerate() {
        let port = socket.local_addr().unwrap().port();
        let bytes = socket.recv(&mut answer).unwrap();
        let expected = format!("UDP {port} peer{number}\n");
        assert_eq!(String::from_utf8_lossy(&answer[..bytes]), expected);
    }
}

#[test]
fn a_datagram_is_the_whole_input_and_no_output_is_no_answer() {
    let script = "wc -c | tr -d '\\n'; [ \"$(cat)\" ] ; :";
    let server = serve(&["udp://127.0.0.1:0", "--", "sh", "-c", script]);
    let socket = udp_socket();
    let mut answer = [0; 100];
    for bytes in [0, 1, 1472, 60_000] {
        socket.send_to(&noise(1, bytes), server.udp()).unwrap();
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer[..length]), bytes.to_string());
    }
    let script = "read word; [ $word = silent ] || echo $word";
    let server = serve(&["udp://127.0.0.1:0", "--", "sh", "-c", script]);
    socket.send_to(b"silent\n", server.udp()).unwrap();
    socket.send_to(b"loud\n", server.udp()).unwrap();
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"loud\n");
}

#[test]
fn a_program_that_fails_for_a_datagram_is_told_of_and_the_next_is_served() {
    let script = "read word; echo $word; [ $word = good ]";
    let server = serve(&["udp://127.0.0.1:0", "--", "sh", "-c", script]);
    let socket = udp_socket();
    socket.send_to(b"bad\n", server.udp()).unwrap();
    let place = socket.local_addr().unwrap();
    server.program.err.wait_for(&format!("sh failed for peer {place}: exit 1 (code=handler)"));
    socket.send_to(b"good\n", server.udp()).unwrap();
    let mut answer = [0; 100];
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"good\n");
}

// The client's side.

#[test]
fn a_program_talks_to_a_server_in_the_place_of_the_keyboard() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let scratch = Scratch::new();
    let script = "echo hello $TCPREMOTEPORT; read answer; echo \"$answer\" >\"$0\"; echo bye";
    let file = scratch.join("answer");
    let place = server.tcp().to_string();
    let ran = run(&mut adit(&[&place, "--", "sh", "-c", script, &file]), b"not read");
    ran.assert_clean("");
    let expected = format!("HELLO {}\n", server.tcp().port());
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
}

#[test]
fn ten_megabytes_go_each_way_between_two_programs() {
    let scratch = Scratch::new();
    let (question, answer) = (noise(12, 10 * MB), noise(13, 10 * MB));
    fs::write(scratch.join("question"), &question).unwrap();
    fs::write(scratch.join("answer"), &answer).unwrap();
    // Standard input of what runs in the background is another one unless it is kept.
    let exchange = "exec 3<&0; head -c 10000000 <&3 >\"$1\" & cat \"$0\"; wait";
    let [from, to] = ["answer", "got-question"].map(|name| scratch.join(name));
    let mut server = serve(&["127.0.0.1:0", "--once", "--", "sh", "-c", exchange, &from, &to]);
    let place = server.tcp().to_string();
    let [from, to] = ["question", "got-answer"].map(|name| scratch.join(name));
    run(&mut adit(&[&place, "--", "sh", "-c", exchange, &from, &to]), b"").assert_clean("");
    let ran = server.program.wait();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(fs::read(scratch.join("got-question")).unwrap() == question);
    assert!(fs::read(scratch.join("got-answer")).unwrap() == answer);
}

#[test]
fn the_status_of_a_program_is_that_of_connect() {
    let server = serve(&["discard", "127.0.0.1:0", "-v"]);
    let place = server.tcp().to_string();
    let ran = run(&mut adit(&[&place, "--", "sh", "-c", "echo some; exit 7"]), b"");
    assert_eq!(ran.status, 1, "{ran:?}");
    assert_eq!(ran.err, format!("adit: sh failed for peer {place}: exit 7 (code=handler)\n"));
    // What it had said was sent all the same.
    server.program.err.wait_for("-1 ");
    assert!(server.program.err.text().contains("  in 5 B  "), "{}", server.program.err.text());
}

#[test]
fn the_program_of_a_client_that_is_killed_does_not_live_on() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let place = server.tcp().to_string();
    let script = "setsid sleep 1000 & echo ready; exec sleep 1000";
    let mut client = Program::start(&mut adit(&[&place, "-v", "--", "sh", "-c", script]));
    wait_until("both run", || descendants(client.id()).len() == 3);
    let all: Vec<u32> = descendants(client.id()).into_iter().map(|(pid, _)| pid).collect();
    client.signal(Signal::KILL);
    client.wait();
    wait_until("all are gone", || !all.iter().any(|pid| is_alive(*pid)));
}

// The socket itself.

/// Ports of our end of a connection, by the inode of its socket.
fn port_of_inode(inode: &str) -> Option<u16> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let mut rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(9) == Some(&inode))?;
    u16::from_str_radix(row[1].split_once(':')?.1, 16).ok()
}

#[test]
fn with_fd_a_program_has_the_connection_itself() {
    let script = "readlink /proc/self/fd/0 /proc/self/fd/1; ls /proc/self/fd; read line; echo \"got $line\"; cat";
    let words = ["127.0.0.1:0", "--fd", "-v", "--", "sh", "-c", script];
    let server = Server::start("exec \"$@\" 3>\"$READY\" 7<&0 8<&0", &words);
    let said = "--fd: limits on silence and stalls, counts, and the close are the program's\n";
    server.program.err.wait_for(said);
    let mut stream = client(server.tcp());
    let inode = |line: &str| line.trim_start_matches("socket:[").trim_end_matches("]\n").to_owned();
    let (first, second) = (inode(&read_line(&mut stream)), inode(&read_line(&mut stream)));
    assert_eq!((port_of_inode(&first), first == second), (Some(server.tcp().port()), true));
    // The list is open as 3 while it is read.
    let open: Vec<_> = (0..4).map(|_| read_line(&mut stream)).collect();
    assert_eq!(open.concat(), "0\n1\n2\n3\n");
    // It waits for what comes later, as a descriptor does that blocks.
    stream.write_all(b"late\nand more").unwrap();
    assert_eq!(read_line(&mut stream), "got late\n");
    finish(&stream);
    assert_eq!(read_to_end(&mut stream), b"and more");
    let log = server.program.err.wait_for("\n-1 ");
    assert!(!log.contains("  in ") && !log.contains("code="), "{log}");
}

#[test]
fn with_fd_nobody_counts_and_nothing_says_that_there_were_no_bytes() {
    let scratch = Scratch::new();
    let (trace, path) = (scratch.join("trace.jsonl"), format!("unix:{}", scratch.join("s")));
    let words = ["127.0.0.1:0", &path, "--fd", "--json", "--trace", &trace, "--", "cat"];
    let mut server = serve(&words);
    assert_eq!(ask(&server, b"some bytes"), b"some bytes");
    let mut stream = UnixStream::connect(server.place("unix")).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut stream), b"");
    let closes = || server.program.err.text().matches("\"ev\":\"close\"").count();
    wait_until("both are over", || closes() == 2);
    server.program.signal(Signal::USR1);
    server.program.err.wait_for("\"ev\":\"counts\"");
    server.program.signal(Signal::TERM);
    let said = server.program.wait().err;
    for event in ["close", "counts", "summary"] {
        let is_it = |line: &&str| line.contains(&format!("\"ev\":\"{event}\""));
        let line = said.lines().find(is_it).unwrap();
        assert!(!line.contains("\"in\":") && !line.contains("\"out\":"), "{line}");
        assert_eq!(line.contains("\"lag\":"), event == "counts", "{line}");
    }
    let drawn = run(&mut adit(&["explain", &trace]), b"");
    assert!(drawn.status == 0 && drawn.text().contains("close"), "{drawn:?}");
    assert!(!drawn.text().contains("in 0 B"), "{}", drawn.text());
    // Whoever asks for counts in words is told those there are.
    let server = serve(&["127.0.0.1:0", "--fd", "--", "cat"]);
    assert_eq!(ask(&server, b"some bytes"), b"some bytes");
    server.program.signal(Signal::USR1);
    server.program.err.wait_for(" 0 messages dropped\n");
}

#[test]
fn with_fd_the_close_is_the_programs_and_the_rest_is_ours() {
    // It says goodbye and stays.
    let script = "echo bye; exec >&- <&-; exec sleep 1000";
    let words = ["127.0.0.1:0", "--fd", "--max-children", "1", "--max-time", "1s", "-v", "--"];
    let server = serve(&[&words[..], &["sh", "-c", script]].concat());
    let mut stream = client(server.tcp());
    assert_eq!(read_to_end(&mut stream), b"bye\n");
    let mut next = client(server.tcp());
    server.program.err.wait_for("(code=max-time)");
    assert_eq!(read_to_end(&mut next), b"bye\n");
    // A failure is told, and nothing survives a server that is killed.
    let script = "read word; [ $word = fail ] && exit 7; setsid sleep 1000 & exec sleep 1000";
    let server = serve(&["127.0.0.1:0", "--fd", "--", "sh", "-c", script]);
    let mut stream = client(server.tcp());
    let place = stream.local_addr().unwrap();
    stream.write_all(b"fail\n").unwrap();
    assert_eq!(read_to_end(&mut stream), b"");
    server.program.err.wait_for(&format!("sh failed for peer {place}: exit 7 (code=handler)"));
    let mut stream = client(server.tcp());
    stream.write_all(b"stay\n").unwrap();
    let guard = guard_of(&server);
    wait_until("both run", || descendants(guard).len() == 2);
    let all: Vec<u32> = descendants(guard).into_iter().map(|(pid, _)| pid).collect();
    signal(server.program.id(), Signal::KILL);
    wait_until("all are gone", || !all.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn with_fd_over_a_unix_socket_and_refused_elsewhere() {
    let scratch = Scratch::new();
    let path = scratch.join("door");
    let _server = serve(&[&path, "--fd", "--", "sh", "-c", "cat; echo $UNIXREMOTEPID"]);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"hello\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let expected = format!("hello\n{}\n", std::process::id());
    assert_eq!(String::from_utf8(read_to_end(&mut stream)).unwrap(), expected);
    for words in [
        &["serve", "--fd", "udp://127.0.0.1:0", "--", "cat"][..],
        &["serve", "--fd", "127.0.0.1:0", "--idle", "1s", "--", "cat"],
        &["serve", "--fd", "--worker", "127.0.0.1:0", "--", "cat"],
        &["serve", "--fd", "127.0.0.1:0"],
        &["forward", "--fd", "127.0.0.1:0", "127.0.0.1:1"],
        &["connect", "--fd", "127.0.0.1:1", "--", "cat"],
    ] {
        run(&mut adit(words), b"").assert_failed(2, "usage");
    }
}

#[test]
fn descriptors_that_a_service_manager_leaves_reach_no_program_of_any_kind() {
    // As systemd does: sockets from 3 on, without close-on-exec, and variables that name them.
    let script = "LISTEN_FDS=2 LISTEN_FDNAMES=a:b exec \"$@\" 3>\"$READY\" 4<&0 5<&0 9<&0";
    // In one piece: adit writes to the same descriptor.
    let report = "echo \"[$(ls /proc/self/fd | tr '\\n' ' ')$(env | grep -c LISTEN_)]\" >&2";
    for flags in [
        &["127.0.0.1:0"][..],
        &["127.0.0.1:0", "--fd"],
        &["127.0.0.1:0", "--worker"],
        &["udp://127.0.0.1:0"],
    ] {
        let server = Server::start(script, &[flags, &["--", "sh", "-c", report]].concat());
        let address = server.lines[0].split_once(' ').unwrap().1;
        match server.lines[0].starts_with("udp") {
            true => drop(udp_socket().send_to(b"", address).unwrap()),
            false => drop(client(address.parse::<std::net::SocketAddr>().unwrap())),
        }
        // The list is open as 3 while it is read.
        let said = server.program.err.wait_for("]\n");
        assert!(said.contains("[0 1 2 3 0]\n"), "{flags:?}: {said}");
    }
}

#[test]
fn nothing_that_a_peer_sends_reaches_the_environment() {
    let evil = "() { :;}; echo evil\nLD_PRELOAD=/evil\0IFS=x %s ${HOME} \x1b[2J";
    let scratch = Scratch::new();
    let (path, own) = (scratch.join("door"), scratch.join("() { :;}; echo evil"));
    // Also not the name that a client gives its own socket.
    let server = serve(&["127.0.0.1:0", &path, "udp://127.0.0.1:0", "--", "env"]);
    let mut told = vec![ask(&server, evil.as_bytes())];
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&own).unwrap()).unwrap();
    socket.connect(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    (&socket).write_all(evil.as_bytes()).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    told.push(read_to_end(&mut &socket));
    let (datagrams, mut answer) = (udp_socket(), vec![0; 10_000]);
    datagrams.send_to(evil.as_bytes(), server.udp()).unwrap();
    let bytes = datagrams.recv(&mut answer).unwrap();
    told.push(answer[..bytes].to_vec());
    for told in told {
        let text = String::from_utf8(told).unwrap();
        assert!(text.contains("PROTO="), "{text}");
        for word in ["evil", "LD_PRELOAD", "IFS", "\x1b", "%s"] {
            assert!(!text.contains(word), "{word:?} in {text}");
        }
    }
}

#[test]
fn with_fd_behind_a_proxy_the_header_is_adits_and_what_follows_the_programs() {
    let script = "echo $TCPREMOTEIP $TCPREMOTEPORT; cat";
    let proxied = ["127.0.0.1:0", "--proxy-in", "--proxy-from", "127.0.0.0/8", "--fd", "--"];
    let server = serve(&[&proxied[..], &["sh", "-c", script]].concat());
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\nfirst words";
    assert_eq!(ask(&server, header), b"192.0.2.7 4711\nfirst words");
}
