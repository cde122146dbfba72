//! Programs that end before others of their group have written all: what these write arrives, and nobody
//! waits for those who write nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::io::Read;
use std::process::Command;
use std::time::Duration;

use common::{
    Scratch, Server, adit, client, descendants, find, finish, guard_of, is_alive, read_line,
    read_to_end, reset, run, serve, skipped, tcp_host, udp_socket, wait_until,
};

/// A script for `sh`: it says its process and ends, and another one of its group goes on. That one says
/// something in each tenth of a second until the file of its first argument is there, and a last word.
const HEIR: &str =
    "echo $$; (while [ ! -e \"$0\" ]; do printf .; sleep 0.1; done; echo last) & exit 0";

/// Reads what the program says, and lets the other one end when the program has.
fn hear(stream: &mut impl Read, file: &str) -> String {
    let program = read_line(stream).trim().parse().unwrap();
    wait_until("the program has ended", || !is_alive(program));
    fs::write(file, "").unwrap();
    String::from_utf8(read_to_end(stream)).unwrap()
}

fn nothing_is_left(server: &Server) {
    wait_until("nothing is left", || descendants(guard_of(server)).is_empty());
}

#[test]
fn what_others_of_the_group_write_after_the_program_has_ended_arrives() {
    let scratch = Scratch::new();
    let file = scratch.join("serve");
    let server = serve(&["127.0.0.1:0", "--", "sh", "-c", HEIR, &file]);
    let said = hear(&mut client(server.tcp()), &file);
    assert!(said.ends_with("last\n"), "{said}");
    nothing_is_left(&server);
    let file = scratch.join("connect");
    let waited = file.clone();
    let host = tcp_host(move |mut stream| hear(&mut stream, &waited));
    run(&mut adit(&[&host.place(), "--", "sh", "-c", HEIR, &file]), b"").assert_clean("");
    let said = host.finish();
    assert!(said.ends_with("last\n"), "{said}");
}

#[test]
fn a_peer_that_takes_its_time_gets_all_that_they_write() {
    // More than the buffers between them hold.
    const BYTES: usize = 20_000_000;
    // Longer than they may be silent: it is the peer that holds them up.
    let late = Duration::from_millis(2500);
    let script = "head -c 20000000 /dev/zero & exit 0";
    let server = serve(&["127.0.0.1:0", "--", "sh", "-c", script]);
    let mut stream = client(server.tcp());
    let host = tcp_host(move |mut stream| {
        std::thread::sleep(late);
        read_to_end(&mut stream).len()
    });
    run(&mut adit(&[&host.place(), "--", "sh", "-c", script]), b"").assert_clean("");
    assert_eq!((host.finish(), read_to_end(&mut stream).len()), (BYTES, BYTES));
    nothing_is_left(&server);
    // TLS takes what is written and holds it.
    let server = serve(&["127.0.0.1:0", "--tls=auto", "--", "sh", "-c", script]);
    let command = format!(
        "'{}' {} --tls=insecure --recv-only --quiet | (sleep 2.5; wc -c)",
        env!("CARGO_BIN_EXE_adit"),
        server.tcp()
    );
    let ran = run(Command::new("sh").args(["-c", &command]), b"");
    assert_eq!(ran.text().trim(), BYTES.to_string(), "{ran:?}");
    nothing_is_left(&server);
}

#[test]
fn what_others_of_the_group_add_to_a_datagram_is_in_the_answer() {
    let script = "(for i in 1 2 3; do sleep 0.1; printf .; done; echo late) & echo now";
    let server = serve(&["udp://127.0.0.1:0", "--", "sh", "-c", script]);
    let socket = udp_socket();
    socket.send_to(b"?", server.udp()).unwrap();
    let mut answer = [0; 100];
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer[..length]), "now\n...late\n");
    nothing_is_left(&server);
}

#[test]
fn with_fd_others_of_the_group_have_a_second() {
    // It writes when the program is gone.
    let script = "(while kill -0 $$ 2>/dev/null; do sleep 0.01; done; echo late) & echo now";
    let server = serve(&["127.0.0.1:0", "--fd", "--", "sh", "-c", script]);
    let mut stream = client(server.tcp());
    finish(&stream);
    assert_eq!(read_to_end(&mut stream), b"now\nlate\n");
    let server = serve(&["127.0.0.1:0", "--fd", "--", "sh", "-c", "sleep 1000 & echo now"]);
    assert_eq!(read_to_end(&mut client(server.tcp())), b"now\n");
    nothing_is_left(&server);
}

#[test]
fn a_program_has_its_place_until_its_group_is_gone() {
    // The one that stays is deaf to the order to end, so that it takes a second more.
    let script = "(trap '' TERM; exec >/dev/null; exec sleep 1000) & echo $$";
    let server = serve(&["127.0.0.1:0", "--max-children", "1", "--", "sh", "-c", script]);
    for _ in 0..2 {
        let mut stream = client(server.tcp());
        assert!(read_to_end(&mut stream).ends_with(b"\n"));
        assert!(descendants(guard_of(&server)).len() <= 1);
    }
    nothing_is_left(&server);
}

#[test]
fn a_program_that_has_left_its_group_ends_with_its_conversation_all_the_same() {
    // It goes into the group of its parent, the guard.
    let script = "import os, signal; os.setpgid(0, os.getpgid(os.getppid())); \
                  print(os.getpid(), flush=True); signal.pause()";
    if find("python3").is_none() {
        return skipped("python3 is not here");
    }
    let server = serve(&["127.0.0.1:0", "--", "python3", "-c", script]);
    let mut stream = client(server.tcp());
    let program: u32 = read_line(&mut stream).trim().parse().unwrap();
    assert!(is_alive(program));
    reset(stream);
    nothing_is_left(&server);
}
