//! Resets: connections that end before they are over, by programs that are killed or in a hurry.

use rustix::process::Signal;

use crate::common::{Program, adit, run, serve};
use crate::peers::{Words, is_here, listening, own_address, tool, wait_for_count};

#[test]
fn a_server_of_theirs_that_is_killed_in_the_middle_is_a_reset() {
    let servers: [Words; 3] = [
        &["nc", "-lnv", "HOST", "PORT"],
        &["ncat", "-lnv", "HOST", "PORT"],
        &["socat", "-d", "-d", "-", "TCP-LISTEN:PORT,bind=HOST,reuseaddr"],
    ];
    for words in servers.into_iter().filter(|words| is_here(words[0])) {
        let address = own_address();
        let mut theirs = listening(words, address);
        let mut client = Program::start(&mut adit(&[&address.to_string(), "--json"]));
        theirs.write(b"part");
        client.out.wait_for("part");
        // It reads nothing any more; its system resets what it closes unread.
        theirs.signal(Signal::STOP);
        client.write(b"more\n");
        client.err.wait_for("\"dir\":\"out\"");
        drop(theirs);
        client.end_input();
        let ran = client.wait();
        assert_eq!((ran.status, ran.text().as_str()), (1, "part"), "{words:?}: {ran:?}");
        assert!(ran.err.contains("\"code\":\"reset\""), "{words:?}: {ran:?}");
    }
}

#[test]
fn a_program_of_tcpserver_that_leaves_with_input_unread_is_a_reset() {
    let words: Words =
        &["tcpserver", "-1HRl0", "HOST", "PORT", "sh", "-c", "read line; printf part"];
    if !is_here(words[0]) {
        return;
    }
    let address = own_address();
    let _theirs = listening(words, address);
    let ran = run(&mut adit(&[&address.to_string()]), b"first line\nsecond line\n");
    ran.assert_failed(1, "reset");
    assert_eq!(ran.text(), "part");
}

#[test]
fn socat_that_closes_by_a_reset_is_never_a_clean_end() {
    let words: Words = &[
        "socat",
        "-d",
        "-d",
        "-u",
        "SYSTEM:printf part",
        "TCP-LISTEN:PORT,bind=HOST,reuseaddr,linger=0",
    ];
    if !is_here(words[0]) {
        return;
    }
    let address = own_address();
    let mut theirs = listening(words, address);
    let mut client = Program::start(&mut adit(&[&address.to_string()]));
    client.out.wait_for("part");
    assert_eq!(theirs.wait().status, 0);
    client.end_input();
    let ran = client.wait();
    ran.assert_failed(1, "reset");
    assert_eq!(ran.text(), "part");
}

#[test]
fn a_client_of_theirs_that_is_killed_in_the_middle_is_a_reset_and_hurts_nobody_else() {
    // It says hello, hears one line, and reads nothing any more.
    const ONE_LINE: &str = "echo hello >&7; read line <&6; echo \"$line\"; read hello; read more";
    let clients: [Words; 4] = [
        &["nc", "-n", "HOST", "PORT"],
        &["ncat", "-n", "HOST", "PORT"],
        &["socat", "-", "TCP:HOST:PORT"],
        &["tcpclient", "-HRl0", "HOST", "PORT", "sh", "-c", ONE_LINE],
    ];
    for words in clients.into_iter().filter(|words| is_here(words[0])) {
        let mut server = serve(&["127.0.0.1:0", "--json"]);
        let mut other = Program::start(&mut adit(&[server.place("tcp")]));
        let mut client = Program::start(&mut tool(words, server.tcp()));
        other.write(b"hello\n");
        client.write(b"hello\n");
        wait_for_count(&server.program.out, "hello\n", 2);
        server.program.write(b"part\n");
        client.out.wait_for("part\n");
        // As above: it is killed with something unread. Most wait in poll; what blocks in
        // read, as cat does, may take what comes right behind the signal.
        client.signal(Signal::STOP);
        server.program.write(b"more\n");
        wait_for_count(&server.program.err, "\"dir\":\"out\"", 4);
        drop(client);
        server.program.err.wait_for("\"code\":\"reset\"");
        server.program.write(b"still here\n");
        other.out.wait_for("part\nmore\nstill here\n");
    }
}
