//! TCP: questions, ends and answers, and much of everything at once.

use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::common::{Program, Scratch, adit, noise, run, serve};
use crate::peers::{
    Words, assert_done, assert_served, is_here, is_measured, listening, own_address, tool,
};

const MB: usize = 1_000_000;

/// Clients that pass the end of their input on, with the options they need for it.
const CLIENTS: [Words; 3] = [
    &["nc", "-nN", "HOST", "PORT"],
    &["ncat", "-n", "HOST", "PORT"],
    &["socat", "-t30", "-", "TCP:HOST:PORT"],
];

/// Servers that are standard input and output, as adit's client has to speak to them: nc and ncat take
/// its end for a hang-up.
const SERVERS: [(Words, &str); 3] = [
    (&["nc", "-lnvN", "HOST", "PORT"], "--eof=hold"),
    (&["ncat", "-lnv", "HOST", "PORT"], "--eof=hold"),
    (&["socat", "-t30", "-d", "-d", "-", "TCP-LISTEN:PORT,bind=HOST,reuseaddr"], "--eof=send"),
];

#[test]
fn what_they_ask_adit_answers() {
    for words in CLIENTS.iter().filter(|words| is_here(words[0])) {
        let mut server = serve(&["upper", "127.0.0.1:0", "--once"]);
        let ran = run(&mut tool(words, server.tcp()), b"question\nlast");
        assert_done(&ran, "QUESTION\nLAST", words);
        assert_served(&mut server, "", words);
    }
}

#[test]
fn what_adit_asks_they_answer() {
    for (words, flag) in SERVERS.iter().filter(|(words, _)| is_here(words[0])) {
        let address = own_address();
        let mut theirs = listening(words, address);
        let mut client = Program::start(&mut adit(&[&address.to_string(), flag]));
        client.write(b"question\n");
        client.end_input();
        theirs.out.wait_for("question\n");
        theirs.write(b"answer\n");
        theirs.end_input();
        client.wait().assert_clean("answer\n");
        assert_done(&theirs.wait(), "question\n", words);
    }
}

#[test]
fn their_answer_1_5_s_after_the_end_of_the_question_is_printed() {
    const ANSWER: &str = "cat; sleep 1.5; echo late";
    let socat: Words = &[
        "socat",
        "-t30",
        "-d",
        "-d",
        "TCP-LISTEN:PORT,bind=HOST,reuseaddr",
        "SYSTEM:cat; sleep 1.5; echo late",
    ];
    let tcpserver: Words = &["tcpserver", "-1HRl0", "HOST", "PORT", "sh", "-c", ANSWER];
    for words in [socat, tcpserver].into_iter().filter(|words| is_here(words[0])) {
        let address = own_address();
        let mut theirs = listening(words, address);
        run(&mut adit(&[&address.to_string()]), b"question\n").assert_clean("question\nlate\n");
        // tcpserver goes on.
        if words[0] == "socat" {
            assert_done(&theirs.wait(), "", words);
        }
    }
}

#[test]
fn an_answer_of_adit_1_5_s_after_the_end_of_the_question_reaches_them() {
    for words in CLIENTS.iter().filter(|words| is_here(words[0])) {
        let mut server = serve(&["127.0.0.1:0", "--once", "--json"]);
        let mut client = Program::start(&mut tool(words, server.tcp()));
        client.write(b"question\n");
        client.end_input();
        server.program.err.wait_for("\"half_close\"");
        sleep(Duration::from_millis(1500));
        server.program.write(b"late\n");
        server.program.end_input();
        assert_done(&client.wait(), "late\n", words);
        assert_served(&mut server, "question\n", words);
    }
}

#[test]
fn who_speaks_first_and_closes_is_heard() {
    // Without an input: nc and ncat would take its end for a hang-up, and perhaps before they speak.
    for (words, _) in SERVERS.iter().filter(|(words, _)| is_here(words[0])) {
        let address = own_address();
        let mut theirs = listening(words, address);
        theirs.write(b"welcome\n");
        theirs.end_input();
        run(&mut adit(&[&address.to_string(), "--recv-only"]), b"").assert_clean("welcome\n");
        assert_done(&theirs.wait(), "", words);
    }
    for words in CLIENTS.iter().filter(|words| is_here(words[0])) {
        let mut server = serve(&["daytime", "127.0.0.1:0", "--once"]);
        let mut command = tool(words, server.tcp());
        let ran = Program::start_with_input(command.stdin(Stdio::null())).wait();
        assert_eq!(ran.status, 0, "{ran:?}");
        assert!(ran.text().ends_with("-UTC\r\n"), "{ran:?}");
        assert_served(&mut server, "", words);
    }
}

#[test]
fn ten_megabytes_go_each_way_at_once_to_their_servers() {
    for (words, flag) in SERVERS.iter().filter(|(words, _)| is_here(words[0])) {
        let (ours, answer) = (noise(1, 10 * MB), noise(2, 10 * MB));
        let address = own_address();
        let mut theirs = listening(words, address);
        theirs.feed(answer.clone());
        let ran = run(&mut adit(&[&address.to_string(), flag]), &ours);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{words:?}");
        assert!(ran.out == answer, "{} bytes of {words:?}", ran.out.len());
        let ran = theirs.wait();
        assert_eq!(ran.status, 0, "{words:?}: {}", ran.err);
        assert!(ran.out == ours, "{} bytes to {words:?}", ran.out.len());
    }
}

#[test]
fn ten_megabytes_go_each_way_at_once_to_their_clients() {
    let tcpclient: Words = &[
        "tcpclient",
        "-HRl0",
        "HOST",
        "PORT",
        "sh",
        "-c",
        "exec 3<&0; cat <&3 >&7 & cat <&6; wait",
    ];
    for words in CLIENTS.into_iter().chain([tcpclient]).filter(|words| is_here(words[0])) {
        let (ours, question) = (noise(3, 10 * MB), noise(4, 10 * MB));
        let mut server = serve(&["127.0.0.1:0", "--once"]);
        let mut client = Program::start(&mut tool(words, server.tcp()));
        client.feed(question.clone());
        server.program.feed(ours.clone());
        let ran = client.wait();
        assert_eq!(ran.status, 0, "{words:?}: {}", ran.err);
        assert!(ran.out == ours, "{} bytes to {words:?}", ran.out.len());
        let ran = server.program.wait();
        assert_eq!(ran.status, 0, "{words:?}: {}", ran.err);
        assert!(ran.out == question, "{} bytes of {words:?}", ran.out.len());
    }
}

#[test]
fn tcpserver_gives_adit_to_a_program_and_exchanges_ten_megabytes() {
    if !is_here("tcpserver") {
        return;
    }
    let (ours, answer) = (noise(5, 10 * MB), noise(6, 10 * MB));
    let scratch = Scratch::new();
    std::fs::write(scratch.join("answer"), &answer).unwrap();
    let script = "cd \"$FOLDER\" && cat answer & cat >\"$FOLDER/question\"; wait";
    let words = ["tcpserver", "-1HRl0", "HOST", "PORT", "env", "FOLDER=", "sh", "-c", script];
    let folder = format!("FOLDER={}", scratch.path().display());
    let words = words.map(|word| if word == "FOLDER=" { folder.as_str() } else { word });
    let address = own_address();
    let _theirs = listening(&words, address);
    let ran = run(&mut adit(&[&address.to_string()]), &ours);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(ran.out == answer, "{} bytes came", ran.out.len());
    // It closes only once it has read, and written, everything.
    assert!(std::fs::read(scratch.join("question")).unwrap() == ours);
}

#[test]
fn a_program_behind_tcpclient_talks_to_adit_on_its_descriptors_6_and_7() {
    let words: Words = &[
        "tcpclient",
        "-HRl0",
        "HOST",
        "PORT",
        "sh",
        "-c",
        "read line; echo \"$line\" >&7; read answer <&6; echo \"$answer\"",
    ];
    if !is_here(words[0]) {
        return;
    }
    let mut server = serve(&["upper", "127.0.0.1:0", "--once"]);
    assert_done(&run(&mut tool(words, server.tcp()), b"question\n"), "QUESTION\n", words);
    assert_served(&mut server, "", words);

    let mut server = serve(&["127.0.0.1:0", "--once"]);
    let mut client = Program::start(&mut tool(words, server.tcp()));
    client.write(b"question\n");
    server.program.out.wait_for("question\n");
    sleep(Duration::from_millis(1500));
    server.program.write(b"late\n");
    assert_done(&client.wait(), "late\n", words);
    server.program.end_input();
    assert_served(&mut server, "question\n", words);
}

// What they cannot do.

#[test]
fn nc_and_ncat_hang_up_at_the_end_of_a_question() {
    for (words, _) in SERVERS.iter().filter(|(words, _)| words[0] != "socat") {
        if !is_measured(words[0]) {
            continue;
        }
        let address = own_address();
        let mut theirs = listening(words, address);
        run(&mut adit(&[&address.to_string()]), b"question\n").assert_clean("");
        // Nobody has ended its input.
        assert_done(&theirs.wait(), "question\n", words);
    }
}

#[test]
fn nc_without_its_option_and_tcpclient_never_end_a_question() {
    let nc: Words = &["nc", "-n", "HOST", "PORT"];
    // Both descriptors are the same socket: closing one says nothing to the peer.
    let tcpclient: Words =
        &["tcpclient", "-HRl0", "HOST", "PORT", "sh", "-c", "cat >&7; exec 7>&-; cat <&6"];
    for words in [nc, tcpclient].into_iter().filter(|words| is_measured(words[0])) {
        let server = serve(&["discard", "127.0.0.1:0", "--idle=300ms", "-v"]);
        let ran = run(&mut tool(words, server.tcp()), b"question\n");
        assert_done(&ran, "", words);
        server.program.err.wait_for("(code=idle-timeout)");
    }
}

#[test]
fn socat_without_its_option_does_not_wait_for_an_answer() {
    if !is_measured("socat") {
        return;
    }
    let words: Words = &["socat", "-", "TCP:HOST:PORT"];
    let mut server = serve(&["127.0.0.1:0", "--once"]);
    assert_done(&run(&mut tool(words, server.tcp()), b"question\n"), "", words);
    server.program.write(b"late\n");
    server.program.end_input();
    let ran = server.program.wait();
    assert_eq!(ran.text(), "question\n", "{ran:?}");
}
