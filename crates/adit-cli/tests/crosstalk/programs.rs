//! A program behind adit, with their clients; and behind theirs, to compare what it is told.

use std::collections::BTreeSet;

use crate::common::{Program, Ran, Server, adit, noise, run, serve};
use crate::peers::{Words, assert_done, is_here, listening, own_address, tool};

/// Clients that pass the end of their input on, with the options they need for it.
const CLIENTS: [Words; 3] = [
    &["nc", "-nN", "HOST", "PORT"],
    &["ncat", "-n", "HOST", "PORT"],
    &["socat", "-t30", "-", "TCP:HOST:PORT"],
];

#[test]
fn their_clients_talk_to_a_program_behind_adit() {
    let script = "cat; sleep 1.5; echo late";
    for words in CLIENTS.iter().filter(|words| is_here(words[0])) {
        let server = serve(&["127.0.0.1:0", "--", "sh", "-c", script]);
        let ran = run(&mut tool(words, server.tcp()), b"question\n");
        assert_done(&ran, "question\nlate\n", words);
        assert_eq!(server.stop().err.matches("code=").count(), 0, "{words:?}");
    }
}

#[test]
fn two_megabytes_of_theirs_come_back_from_a_program_behind_adit() {
    let question = noise(21, 2_000_000);
    for words in CLIENTS.iter().filter(|words| is_here(words[0])) {
        let server = serve(&["127.0.0.1:0", "--", "cat"]);
        let ran = run(&mut tool(words, server.tcp()), &question);
        assert!(ran.status == 0 && ran.out == question, "{words:?}: {} bytes", ran.out.len());
    }
}

#[test]
fn a_program_behind_tcpclient_talks_to_one_behind_adit() {
    let words: Words = &[
        "tcpclient",
        "-HRl0",
        "HOST",
        "PORT",
        "sh",
        "-c",
        "echo question >&7; read answer <&6; echo \"$answer\"",
    ];
    if is_here(words[0]) {
        let script = "read line; echo \"$PROTO got $line\"";
        let server = serve(&["127.0.0.1:0", "--", "sh", "-c", script]);
        assert_done(&run(&mut tool(words, server.tcp()), b""), "TCP got question\n", words);
    }
}

#[test]
fn their_datagrams_are_answered_by_programs_behind_adit() {
    let rows: [Words; 3] = [
        &["nc", "-nu", "HOST", "PORT"],
        &["ncat", "-nu", "HOST", "PORT"],
        &["socat", "-", "UDP:HOST:PORT"],
    ];
    let server = serve(&["udp://127.0.0.1:0", "--", "tr", "a-z", "A-Z"]);
    for words in rows.into_iter().filter(|words| is_here(words[0])) {
        // Some end with their input, without waiting.
        let mut client = Program::start(&mut tool(words, server.udp()));
        client.write(b"hello\n");
        client.out.wait_for("HELLO\n");
    }
}

/// The names of the variables that tell of the connection.
fn names(ran: &Ran) -> BTreeSet<String> {
    let names = ran.text();
    let names = names.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
    names.filter(|name| name.starts_with("TCP") || *name == "PROTO").map(str::to_owned).collect()
}

#[test]
fn the_environment_has_the_names_of_tcpserver_but_for_those_that_ask_others() {
    let words: Words = &["tcpserver", "-1HRl0", "HOST", "PORT", "env"];
    if !is_here(words[0]) {
        return;
    }
    let address = own_address();
    let _theirs = listening(words, address);
    let theirs = names(&run(&mut adit(&[&address.to_string()]), b""));
    let server = serve(&["127.0.0.1:0", "--", "env"]);
    let ours = names(&run(&mut adit(&[&server.tcp().to_string()]), b""));
    // A host name from the DNS, and what the peer's own host says of its user.
    let asked = ["TCPLOCALHOST", "TCPREMOTEHOST", "TCPREMOTEINFO"];
    let theirs = theirs.into_iter().filter(|name| !asked.contains(&name.as_str())).collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 5);
}

#[test]
fn programs_made_for_tcpserver_run_unchanged() {
    // Line ends both ways, a record of what was said, and a mail server's guard: they read 0, write 1 and
    // take the peer from the environment.
    if ["addcr", "fixcrio", "recordio", "rblsmtpd"].into_iter().all(is_here) {
        let asked = |words: &[&str], question: &[u8]| {
            let server = serve(&[&["127.0.0.1:0", "--env", "RBLSMTPD", "--"], words].concat());
            let ran = run(&mut adit(&[&server.tcp().to_string()]), question);
            (ran.text(), server)
        };
        assert_eq!(asked(&["addcr"], b"hello\n").0, "hello\r\n");
        // These are two processes, and the one that writes to the peer is not the program that ends.
        assert_eq!(asked(&["fixcrio", "cat"], b"hello\n").0, "hello\r\n");
        let (answer, server) = asked(&["recordio", "cat"], b"hello\n");
        assert_eq!(answer, "hello\n");
        server.program.err.wait_for(" < hello");
        server.program.err.wait_for(" > hello");
        for flags in [&[][..], &["--fd"]] {
            let script = "RBLSMTPD='-come back never' exec \"$@\" 3>\"$READY\"";
            let words = ["127.0.0.1:0", "--env", "RBLSMTPD", "--", "rblsmtpd", "cat"];
            let server = Server::start(script, &[flags, &words].concat());
            let ran =
                run(&mut adit(&[&server.tcp().to_string()]), b"HELO me\r\nRCPT TO:<a>\r\nQUIT\r\n");
            let said = ran.text();
            assert!(said.starts_with("220 rblsmtpd.local\r\n"), "{said}");
            assert!(said.contains("\n553 come back never\r\n"), "{said}");
            let (place, log) = ("rblsmtpd: 127.0.0.1 pid ", &server.program.err);
            log.wait_for(place);
        }
    }
}
