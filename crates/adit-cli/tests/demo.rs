//! The demo as its users run it: what it prints, what it really does, how it ends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ADIT: &str = env!("CARGO_BIN_EXE_adit");
const DEADLINE: Duration = Duration::from_secs(60);

/// Ends the process whatever ends the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

fn start(stdin: Stdio) -> Guard {
    let mut command = Command::new(ADIT);
    command.arg("demo").stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    Guard(command.spawn().unwrap())
}

fn read_all(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    })
}

fn finish(mut demo: Guard) -> Ran {
    let stdout = read_all(demo.0.stdout.take().unwrap());
    let stderr = read_all(demo.0.stderr.take().unwrap());
    let began = Instant::now();
    let status = loop {
        if let Some(status) = demo.0.try_wait().unwrap() {
            break status.code();
        }
        assert!(began.elapsed() < DEADLINE, "the demo hangs");
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |bytes: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8(bytes.join().unwrap()).expect("the demo prints text only")
    };
    Ran { status, stdout: text(stdout), stderr: text(stderr) }
}

fn demo_on(input: &[u8]) -> Ran {
    let mut demo = start(Stdio::piped());
    let mut stdin = demo.0.stdin.take().unwrap();
    let input = input.to_vec();
    let typing = std::thread::spawn(move || stdin.write_all(&input));
    let ran = finish(demo);
    typing.join().unwrap().unwrap();
    ran
}

/// Replaces what changes from run to run, process numbers and ports, and the width of the columns
/// that follow them.
fn mask(text: &str) -> String {
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let mask_word = |word: &str, behind_pid: bool| match word.rsplit_once(':') {
        Some((host, port)) if is_number(port) && port != "0" => format!("{host}:N"),
        None if is_number(word) && (behind_pid || word.len() == 5) => "N".to_owned(),
        _ => word.to_owned(),
    };
    let mask_line = |line: &str| {
        let mut behind_pid = false;
        let words = line.split_whitespace().map(|word| {
            behind_pid |= word == "pid";
            mask_word(word, behind_pid)
        });
        words.collect::<Vec<_>>().join(" ") + "\n"
    };
    text.lines().map(mask_line).collect()
}

#[test]
fn three_lines_print_the_story_within_80_columns() {
    let ran = demo_on(b"hello world\nsecond line\nsockets are doors\n");
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    for line in ran.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let masked = mask(&ran.stdout);
    let expected = "\
adit demo: one server, five clients, TCP and UDP, each its own process
input: 3 lines, 42 bytes from standard input; nothing leaves 127.0.0.1

1. The server process must first be running
$ adit serve upper tcp://127.0.0.1:0 udp://127.0.0.1:0 --json pid N
welcomeSocket tcp 127.0.0.1:N waiting for clients
serverSocket udp 127.0.0.1:N one socket for all clients

2. TCP: connect first; one new connectionSocket per client, all at once
$ adit connect 127.0.0.1:N clients A, B, C pid N N N
connectionSocket 1 client A source port N stays silent on purpose
connectionSocket 2 client B source port N
connectionSocket 3 client C source port N
B, C hello world -> HELLO WORLD
B, C second line -> SECOND LINE
B, C sockets are doors -> SOCKETS ARE DOORS
B and C are served while A waits: 3 connections open at once

3. UDP: no handshake; every datagram carries its sender's address
$ adit connect udp://127.0.0.1:N clients D, E pid N N
D from port N hello world -> HELLO WORLD
D from port N second line -> SECOND LINE
D from port N sockets are doors -> SOCKETS ARE DOORS
E from port N 3 more of the same, all right

4. TCP and UDP, measured now TCP byte stream UDP datagrams
your 3 lines, sent one by one 3 write() 3 sendto()
read late, with a big buffer 1 read() of 42 B 3 recvfrom() 11+11+17
";
    let (head, tail) = masked.split_at(expected.len().min(masked.len()));
    assert_eq!(head, expected, "\n{}", ran.stdout);
    for fact in [
        "refused, limit 65,507",
        "100,000 B, in order",
        "server told to stop: finished 5 conversations, cut 0, exit 0",
        "ok: 12 of 12 answers right; TCP lost 0 bytes; UDP lost",
        "Do it yourself, in two terminals: adit serve upper 7000 adit 7000",
    ] {
        assert!(tail.contains(fact), "{fact}\n{}", ran.stdout);
    }
}

#[test]
fn without_lines_of_the_user_a_built_in_text_is_used_and_that_is_said() {
    let ran = finish(start(Stdio::null()));
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("3 built-in lines (standard input is empty)"), "{}", ran.stdout);
    // Open and silent: the writing end stays open until the demo has ended.
    let mut demo = start(Stdio::piped());
    let stdin = demo.0.stdin.take();
    let ran = finish(demo);
    drop(stdin);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("3 built-in lines (standard input is silent)"), "{}", ran.stdout);
}

#[test]
fn many_lines_are_summed_up_and_all_checked() {
    let input: String = (1..=1000).map(|number| format!("line {number}\n")).collect();
    let ran = demo_on(input.as_bytes());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("... 994 more, all right"), "{}", ran.stdout);
    assert!(ran.stdout.contains("ok: 4,000 of 4,000 answers right"), "{}", ran.stdout);
}

#[test]
fn a_line_too_long_for_a_datagram_goes_over_tcp_only_and_says_why() {
    let ran = demo_on(&[&vec![b'x'; 70_000][..], b"\nshort\n"].concat());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(
        ran.stdout.contains("line 1 has 70,000 B: over TCP only, a datagram ends at 65,507 B"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("ok: 6 of 6 answers right"), "{}", ran.stdout);
}

#[test]
fn control_bytes_are_shown_and_other_bytes_pass_through() {
    let ran = demo_on(b"\x1b[2Jclear\xff\xfe\r\n\n\0nul\nlast without newline");
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("\\x1b[2J"), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\x1b') && !ran.stdout.contains('\0'));
    assert!(ran.stdout.contains("ok: 16 of 16 answers right"), "{}", ran.stdout);
}

/// Processes whose parent is this one, or was: found by their command line.
fn left_behind(port_marker: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(port_marker) && command.contains("adit") {
            found.push(command);
        }
    }
    found
}

#[test]
fn nothing_is_left_running_even_if_the_demo_is_killed() {
    use std::io::BufRead;
    let mut demo = start(Stdio::null());
    let stdout = std::io::BufReader::new(demo.0.stdout.take().unwrap());
    // Killed while its clients are connected.
    let address = stdout
        .lines()
        .map(Result::unwrap)
        .find_map(|line| {
            Some(line.trim().strip_prefix("$ adit connect ")?.split(' ').next()?.to_owned())
        })
        .unwrap();
    demo.0.kill().unwrap();
    demo.0.wait().unwrap();
    let began = Instant::now();
    while !left_behind(&address).is_empty() {
        assert!(began.elapsed() < DEADLINE, "{:?}", left_behind(&address));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_demo_really_starts_processes_that_really_accept() {
    let trace = std::env::temp_dir().join(format!("adit-demo-strace-{}", std::process::id()));
    let ran = Command::new("strace")
        .args(["-f", "-e", "trace=execve,accept4,recvmmsg", "-o"])
        .arg(&trace)
        .args([ADIT, "demo"])
        .stdin(Stdio::null())
        .output();
    let Ok(ran) = ran else {
        eprintln!("skipped: strace is not here");
        return;
    };
    let calls = std::fs::read_to_string(&trace).unwrap_or_default();
    drop(std::fs::remove_file(&trace));
    if !ran.status.success() && calls.is_empty() {
        eprintln!("skipped: strace may not trace here");
        return;
    }
    let count = |call| succeeded(&calls, call).count();
    assert_eq!(count("execve"), 7, "the demo, its server and five clients");
    // The demo's own measurements accept too, with plain sockets of its own process.
    let demo = calls.split(' ').next().unwrap();
    let accepted = succeeded(&calls, "accept4").filter(|line| !line.starts_with(demo));
    assert_eq!(accepted.count(), 3, "three connections");
    assert!(count("recvmmsg") >= 6, "six datagrams");
}

/// The calls of this name that gave a number from 0, also those that were interrupted in the trace.
fn succeeded<'a>(calls: &'a str, call: &'a str) -> impl Iterator<Item = &'a str> {
    let gave_a_number = |line: &&str| {
        line.rsplit_once(" = ")
            .is_some_and(|(_, result)| result.starts_with(|c: char| c.is_ascii_digit()))
    };
    calls.lines().filter(move |line| line.contains(call)).filter(gave_a_number)
}
