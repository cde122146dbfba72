//! Many clients at once, and some that mean no good: what a server costs, and whom it serves.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{
    Program, Server, client, no_port, noise, read_line, read_to_end, reset, serve, wait_until,
};

/// A field of a process that grows with its work: clock ticks of both kinds, a hundredth of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold anything; utime and stime are the 14th and 15th field.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Memory of a process that is not shared with files, in bytes.
fn anonymous_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn is_served(address: SocketAddr, text: &str) {
    let mut peer = client(address);
    peer.write_all(format!("{text}\n").as_bytes()).unwrap();
    assert_eq!(read_line(&mut peer), format!("{}\n", text.to_uppercase()));
}

/// Row 2 of docs/reliability.md: what waiting for descriptors may cost, of one core.
const WAITING_SHARE: u32 = 20;
/// Row 2: lines of the log in a minute.
const WAITING_LINES: usize = 10;

/// 200 clients come to a server that cannot take them all, which says so by this word.
#[track_caller]
fn assert_waits_quietly(server: Server, word: &str) {
    const CLIENTS: usize = 200;
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| client(server.tcp())).collect();
    for (number, peer) in clients.iter_mut().enumerate() {
        peer.write_all(format!("client {number}\n").as_bytes()).unwrap();
    }
    server.program.err.wait_for(word);
    // No room and idle: what it costs to wait.
    let (ticks, start) = (cpu_ticks(server.program.id()), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let spent = Duration::from_millis(10 * (cpu_ticks(server.program.id()) - ticks));
    let waited = start.elapsed();
    assert!(spent <= waited / WAITING_SHARE, "{spent:?} of {waited:?}");
    // One leaves, one comes in.
    for (number, peer) in clients.drain(..).enumerate() {
        let mut peer = peer;
        assert_eq!(read_line(&mut peer), format!("CLIENT {number}\n"));
    }
    let said = server.program.err.text();
    assert!(said.matches(word).count() <= WAITING_LINES, "{said}");
    // Nothing else has gone wrong: only the first line and these. A machine that is busy makes it late, and
    // two threads that take somebody in the same moment may meet the very end.
    let ends = |line: &&str| ["(lag)", "(code=no-fds)"].iter().any(|end| line.ends_with(end));
    let is_meant = |line: &&str| line.contains(word) || ends(line);
    assert!(said.matches("(code=no-fds)").count() <= WAITING_LINES, "{said}");
    let others = said.lines().filter(|line| line.starts_with("adit:") && !is_meant(line));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new());
    let ran = server.stop();
    assert_eq!(ran.status, 0, "{}", ran.err);
}

#[test]
fn near_the_end_of_descriptors_a_server_waits_quietly_and_serves_everybody_in_the_end() {
    let script = "ulimit -n 64; exec \"$@\" 3>\"$READY\"";
    let server = Server::start(script, &["upper", "127.0.0.1:0", "--max-conns=off"]);
    assert_waits_quietly(server, "57 descriptors are in use, nine tenths: newcomers wait");
}

#[test]
fn without_descriptors_a_server_waits_quietly_and_serves_everybody_in_the_end() {
    let server = serve(&["upper", "127.0.0.1:0", "--max-conns=off"]);
    // As if others had taken the rest: it knows of the limit from before.
    let pid = server.program.id();
    let used = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap());
    let limit = rustix::process::Rlimit { current: Some(used + 20), maximum: Some(used + 20) };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).unwrap();
    assert_waits_quietly(server, "(code=no-fds)");
}

/// A server of few descriptors that turns newcomers away, and where it is.
fn refusing(limit: &str) -> (Program, SocketAddr) {
    let script = format!("ulimit -n {limit}; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_adit"), "serve", "upper"]);
    let server =
        Program::start(command.args(["127.0.0.1:0", "--print-addr", "--when-full=refuse"]));
    let said = server.out.wait_for("\n");
    let address = said.trim().strip_prefix("tcp ").unwrap().parse().unwrap();
    (server, address)
}

#[test]
fn where_others_have_the_descriptors_one_conversation_at_a_time_is_served_all_the_same() {
    let (idle, _) = refusing("1024");
    let is_free = |number: &usize| {
        std::fs::symlink_metadata(format!("/proc/{}/fd/{number}", idle.id())).is_err()
    };
    let next = (3..).find(is_free).unwrap();
    // The first newcomer has one of the last tenth already.
    let (server, address) = refusing(&(next + 3).to_string());
    for _ in 0..3 {
        let mut first = None;
        // Whoever was here before has not closed its socket yet.
        wait_until("one is served", || {
            let mut peer = client(address);
            let asked = peer.write_all(b"first\n").and_then(|()| peer.read_exact(&mut [0; 6]));
            first = asked.is_ok().then_some(peer);
            first.is_some()
        });
        let mut second = client(address);
        let said = second.write_all(b"second\n").and_then(|()| second.read_exact(&mut [0; 7]));
        assert!(said.is_err(), "two are served");
        let mut first = first.unwrap();
        first.write_all(b"still here\n").unwrap();
        assert_eq!(read_line(&mut first), "STILL HERE\n");
    }
    server.err.wait_for("descriptors");
}

#[test]
fn a_server_that_is_to_end_closes_its_door_though_the_descriptors_are_short() {
    let script = "ulimit -n 64; exec \"$@\" 3>\"$READY\"";
    let words = ["chargen", "127.0.0.1:0", "--max-conns=off", "--drain=300s"];
    let mut server = Server::start(script, &words);
    // Nobody reads what there is, so nobody comes to an end.
    let clients: Vec<_> = (0..60).map(|_| client(server.tcp())).collect();
    server.program.err.wait_for("57 descriptors are in use, nine tenths: newcomers wait");
    server.program.signal(rustix::process::Signal::TERM);
    wait_until("the door is closed", || TcpStream::connect(server.tcp()).is_err());
    assert!(server.program.is_running(), "nobody is left");
    drop(clients);
    server.program.wait();
}

#[test]
fn at_the_limit_of_descriptors_the_cap_leaves_a_reserve() {
    let script = "ulimit -n 256; exec \"$@\" 3>\"$READY\"";
    let server = Server::start(script, &["upper", "127.0.0.1:0", "--max-conns=1000", "--json"]);
    let mut clients: Vec<_> = (0..250).map(|_| client(server.tcp())).collect();
    for peer in &mut clients {
        peer.write_all(b"hello\n").unwrap();
    }
    // Nobody leaves before the server has said that it is full.
    server.program.err.wait_for("\"name\":\"conversations\",\"value\":192,\"action\":\"wait\"");
    for mut peer in clients {
        assert_eq!(read_line(&mut peer), "HELLO\n");
    }
    let ran = server.stop();
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(!ran.err.contains("no-fds"), "{}", ran.err);
}

/// Clients that mean no good; each is kept until the end.
fn misbehave(address: SocketAddr) -> Vec<TcpStream> {
    let mut kept = Vec::new();
    for kind in 0..10 {
        let mut peer = client(address);
        peer.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        match kind % 5 {
            // Garbage.
            0 => drop(peer.write_all(&noise(kind, 1 << 20))),
            // Takes nothing of what it asks for.
            1 => while peer.write_all(&[b'x'; 1 << 16]).is_ok() {},
            2 => {
                peer.write_all(b"a line that is cut off by a reset").unwrap();
                reset(peer);
                continue;
            }
            // Half a line, and silence.
            3 => peer.write_all(b"half a li").unwrap(),
            // Nothing at all.
            _ => {}
        }
        kept.push(peer);
    }
    kept
}

#[test]
fn a_thousand_clients_of_which_ten_misbehave_are_served_by_one_process() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    let address = server.tcp();
    let kept = misbehave(address);
    let threads: Vec<_> = (0..10)
        .map(|thread| {
            std::thread::spawn(move || {
                for number in 0..99 {
                    is_served(address, &format!("client {thread} {number}"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let mut program = server.program;
    assert!(program.is_running());
    drop(kept);
    program.signal(rustix::process::Signal::INT);
    assert_eq!(program.wait().status, 130);
}

#[test]
fn clients_that_send_and_never_read_cost_bounded_memory_and_hold_up_nobody() {
    const STALLED: u64 = 60;
    let server = serve(&["upper", "127.0.0.1:0"]);
    let (address, pid) = (server.tcp(), server.program.id());
    let before = anonymous_bytes(pid);
    let piece = noise(1, 1 << 18);
    let mut stalled: Vec<_> = (0..STALLED).map(|_| client(address)).collect();
    for peer in &mut stalled {
        peer.set_write_timeout(Some(Duration::from_millis(5))).unwrap();
        while peer.write_all(&piece).is_ok() {}
    }
    is_served(address, "and the others?");
    let grown = anonymous_bytes(pid).saturating_sub(before);
    // 128 KiB of unsent answers each, and what one read adds to it.
    assert!(grown < STALLED * (256 << 10), "{grown} bytes for {STALLED} clients");
}

#[test]
fn a_crowd_that_comes_and_goes_leaves_no_descriptor_behind() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let open = || std::fs::read_dir(format!("/proc/{}/fd", server.program.id())).unwrap().count();
    let before = open();
    for _ in 0..5 {
        let clients: Vec<_> = (0..100).map(|_| client(server.tcp())).collect();
        for (number, mut peer) in clients.into_iter().enumerate() {
            peer.write_all(b"hello\n").unwrap();
            match number % 3 {
                0 => assert_eq!(read_line(&mut peer), "hello\n"),
                1 => reset(peer),
                _ => {}
            }
        }
    }
    // The last close may still be on its way.
    let end = Instant::now() + common::DEADLINE;
    while open() > before {
        assert!(Instant::now() < end, "{} descriptors, {before} before", open());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_flood_of_connections_is_no_flood_of_the_log() {
    let server = serve(&["echo", "127.0.0.1:0", "-v"]);
    let start = Instant::now();
    for _ in 0..1000 {
        let mut peer = client(server.tcp());
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut peer), b"");
    }
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 2;
    let ran = server.stop();
    let lines = ran.err.lines().count();
    assert!(lines <= 100 * seconds + 10, "{lines} lines in {seconds} s");
    assert_eq!(ran.status, 0);
}

#[test]
fn many_datagram_peers_are_answered() {
    let server = serve(&["upper", "-u", "127.0.0.1:0"]);
    let peers: Vec<_> = (0..300).map(|_| common::udp_socket()).collect();
    let mut answer = [0; 99];
    for round in 0..3 {
        for (number, peer) in peers.iter().enumerate() {
            peer.send_to(format!("peer {number} {round}").as_bytes(), server.udp()).unwrap();
            let bytes = peer.recv(&mut answer).unwrap();
            assert_eq!(&answer[..bytes], format!("PEER {number} {round}").as_bytes());
        }
    }
    let ran = server.stop();
    assert_eq!(ran.status, 0);
}

#[test]
fn an_idle_server_costs_nothing() {
    let mut server = serve(&["upper", "127.0.0.1:0", "udp://127.0.0.1:0"]);
    let peers: Vec<_> = (0..50).map(|_| client(server.tcp())).collect();
    is_served(server.tcp(), "ready");
    let ticks = cpu_ticks(server.program.id());
    std::thread::sleep(Duration::from_secs(1));
    let spent = cpu_ticks(server.program.id()) - ticks;
    assert!(spent <= 3, "{spent} hundredths of a second in one second");
    drop(peers);
    assert!(server.program.is_running());
    // The deadline of a read is far: nothing was sent.
    let mut late = client(server.tcp());
    late.write_all(b"late\n").unwrap();
    late.read_exact(&mut [0; 5]).unwrap();
}

#[test]
fn without_descriptors_every_command_ends_with_a_sentence() {
    let (_held, place) = no_port();
    let place = place.to_string();
    let commands: [&[&str]; 5] = [
        &["connect", &place],
        &["wait", &place, "--once"],
        &["serve", "echo", "127.0.0.1:0"],
        &["forward", "127.0.0.1:0", &place],
        &["explain", "127.0.0.1:0", &place],
    ];
    let limited = |most: u32, words: &[&str]| {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {most} && exec \"$@\"");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_adit")]).args(words);
        command.stdin(Stdio::null());
        let mut program = Program::start_with_input(&mut command);
        let is_up = |program: &mut Program| program.err.text().contains("listening  tcp");
        wait_until("it ends or listens", || !program.is_running() || is_up(&mut program));
        if program.is_running() {
            return None;
        }
        Some(program.wait())
    };
    // With three the loader of the program cannot open its libraries; with more it is its own to say.
    for most in 4..=24 {
        for words in commands {
            let Some(ran) = limited(most, words) else { continue };
            let said = ["no-fds", "refused"].map(|code| format!("(code={code})"));
            let is_said = said.iter().any(|code| ran.err.contains(code));
            assert!(ran.status == 1 && is_said, "{most} {words:?}: {ran:?}");
            assert_eq!(ran.err.lines().count(), 1, "{most} {words:?}: {ran:?}");
        }
    }
    let few = limited(5, commands[2]).unwrap();
    let said = "adit: cannot start: Too many open files (code=no-fds); a larger limit on open files: \
                ulimit -n 1024\n";
    assert_eq!(few.err, said);
}
