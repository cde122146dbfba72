//! `adit lab cut`: what it decides it says, the same seed decides the same, and no loss passes for success.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Program, Server, adit, client, noise, run, serve};
use rustix::process::Signal;

/// Starts a relay to a server and waits until it says that it is ready.
fn cut(target: &str, words: &[&str]) -> Server {
    let words = [&["lab", "cut", "--ready-fd=3", "127.0.0.1:0", target], words].concat();
    Server::start_as("exec \"$@\" 3>\"$READY\"", &words)
}

/// The decisions among lines of JSON, without their times and in the order of each way.
fn decisions(lines: &str) -> Vec<String> {
    let cuts = lines.lines().filter(|line| line.contains("\"ev\":\"cut\""));
    let mut cuts: Vec<_> =
        cuts.map(|line| line[line.find("\"conn\"").unwrap()..].to_owned()).collect();
    cuts.sort_by_key(|line| line.contains("\"dir\":\"down\""));
    cuts
}

#[test]
fn everything_goes_through_a_gentle_relay_and_the_same_seed_decides_the_same() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let input = noise(1, 100_000);
    let decided = |seed: &str| {
        let relay = cut(server.place("tcp"), &["--json", "--seed", seed]);
        let ran = run(&mut adit(&[relay.place("tcp")]), &input);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""));
        assert!(ran.out == input, "seed {seed}: {} bytes came back", ran.out.len());
        let ended = relay.stop();
        assert_eq!(ended.status, 0);
        let seen = ended.text();
        assert!(seen.contains(&format!("\"ev\":\"seed\",\"seed\":{seed}}}")), "{seen}");
        decisions(&seen)
    };
    let first = decided("42");
    assert_eq!(first, decided("42"));
    assert_ne!(first, decided("43"));
    assert!(first.len() > 10 && first.iter().all(|line| line.ends_with(",\"seed\":42}")));
    assert!(first[0].starts_with("\"conn\":1,\"dir\":\"up\",\"off\":"), "{first:?}");
}

#[test]
fn what_is_decided_is_said_and_the_seed_first() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let relay = cut(server.place("tcp"), &["--at=3"]);
    run(&mut adit(&[relay.place("tcp")]), b"hello\n").assert_clean("hello\n");
    let said = relay.program.err.wait_for("cut 1 down 3 B: split\n");
    let expected = "cuts       behind byte 3 of each way\ncut 1 up 3 B: split\ncut 1 down";
    assert!(said.starts_with("listening  tcp 127.0.0.1:") && said.contains(expected), "{said}");
    assert_eq!(relay.stop().status, 0);
    // One that is not given is drawn, said, and can be given.
    let relay = cut(server.place("tcp"), &[]);
    let said = relay.program.err.wait_for("again: --seed ");
    let seed: u64 = said.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(said.contains(&format!("cuts       as seed {seed} says; again: --seed {seed}\n")));
    // Nobody is there: nothing has to be finished.
    relay.program.signal(Signal::INT);
    let Server { mut program, .. } = relay;
    assert_eq!(program.wait().status, 130);
    let relay = cut(server.place("tcp"), &["--quiet"]);
    assert_eq!(relay.stop().err, "");
}

#[test]
fn a_connect_through_a_relay_that_resets_is_whole_or_fails() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let input = noise(2, 200);
    let (mut whole, mut broken) = (0, 0);
    for seed in 0..24 {
        let relay =
            cut(server.place("tcp"), &["--mode=reset", "--once", "--seed", &seed.to_string()]);
        let ran = run(&mut adit(&[relay.place("tcp")]), &input);
        let Server { mut program, .. } = relay;
        let ended = program.wait();
        if ran.status == 0 {
            assert!(ran.out == input, "seed {seed}: {} bytes and exit 0", ran.out.len());
            whole += 1;
        } else {
            ran.assert_failed(1, "reset");
            assert!(input.starts_with(&ran.out), "seed {seed}");
            ended.assert_failed(1, "reset");
            broken += 1;
        }
        assert_eq!(ended.err.contains(": reset\n"), ended.status == 1, "seed {seed}: {ended:?}");
    }
    assert!(whole > 2 && broken > 2, "{whole} whole, {broken} broken");
}

#[test]
fn who_receives_what_is_cut_short_reads_a_clean_end_and_who_sends_it_a_reset() {
    // What is typed goes to the client, what the client says to standard output: bytes, as they come.
    let server = serve(&["127.0.0.1:0", "--json"]);
    let relay = cut(server.place("tcp"), &["--mode=truncate", "--at=4", "--json"]);
    let mut client = client(relay.tcp());
    std::io::Write::write_all(&mut client, b"half of it\n").unwrap();
    let error = std::io::Read::read_to_end(&mut client, &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    server.program.out.wait_for("half");
    server.program.err.wait_for("\"ev\":\"half_close\"");
    relay.program.out.wait_for("\"do\":\"truncate\",\"seed\"");
    relay.program.out.wait_for("\"code\":\"truncated\"");
    assert!(!relay.program.out.text().contains("\"ev\":\"error\""));
    assert_eq!(server.program.out.text().trim_end(), "half");
}

#[test]
fn a_relay_that_is_told_to_stop_lets_its_conversations_finish() {
    let mut server = serve(&["127.0.0.1:0", "--json"]);
    let relay = cut(server.place("tcp"), &["--seed=1", "--json"]);
    let mut asking = Program::start(&mut adit(&[relay.place("tcp")]));
    asking.write(b"question\n");
    server.program.out.wait_for("question\n");
    relay.program.signal(Signal::TERM);
    relay.program.out.wait_for("\"ev\":\"drain\"");
    server.program.write(b"answer\n");
    asking.out.wait_for("answer\n");
    asking.write(b"more\n");
    server.program.out.wait_for("more\n");
    asking.end_input();
    server.program.end_input();
    let Server { mut program, .. } = relay;
    let (asked, ended) = (asking.wait(), program.wait());
    asked.assert_clean("answer\n");
    assert_eq!(ended.status, 0);
    assert!(ended.text().contains("\"code\":\"drained\""), "{}", ended.text());
}

#[test]
fn unix_streams_are_cut_too() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let name = format!("@adit-lab-{}", std::process::id());
    let words = ["lab", "cut", "--ready-fd=3", &name, server.place("tcp"), "--seed=7"];
    let relay = Server::start_as("exec \"$@\" 3>\"$READY\"", &words);
    assert_eq!(relay.place("unix"), name);
    let input = noise(3, 5_000);
    let ran = run(&mut adit(&[&name]), &input);
    assert!(ran.status == 0 && ran.out == input, "{} {}", ran.status, ran.err);
    assert!(relay.program.err.text().contains("\ncut 1 up "));
}

#[test]
fn who_is_not_allowed_is_not_carried() {
    let server = serve(&["echo", "127.0.0.1:0"]);
    let relay = cut(server.place("tcp"), &["--deny=127.0.0.0/8"]);
    let mut client = client(relay.tcp());
    drop(std::io::Write::write_all(&mut client, b"hello\n"));
    let mut turned_away = Vec::new();
    // A close or a reset: either way nothing comes back.
    drop(std::io::Read::read_to_end(&mut client, &mut turned_away));
    assert!(turned_away.is_empty());
    assert!(!relay.program.err.text().contains("\ncut "));
}
