//! What the others make of a bad end, of a mistake and of a second client, and what adit makes of it:
//! the comparisons that documents draw, run again.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::mpsc::sync_channel;

use crate::common::{
    Heard, Program, Scratch, adit, client, finish, no_port, own_ip, read_to_end, reset, run, serve,
    tcp_host, terminal, udp_socket,
};
use crate::peers::{Words, is_measured, listening, own_address, tool};

const NC: Words = &["nc", "-n", "HOST", "PORT"];
const NCAT: Words = &["ncat", "-n", "HOST", "PORT"];
const SOCAT: Words = &["socat", "-", "TCP:HOST:PORT"];
const CLIENTS: [Words; 3] = [NC, NCAT, SOCAT];

/// The rows whose tool is here, and as it was when it was measured.
fn measured<T, const N: usize>(rows: [(Words, T); N]) -> impl Iterator<Item = (Words, T)> {
    rows.into_iter().filter(|(words, _)| is_measured(words[0]))
}

#[test]
fn a_reset_is_a_success_to_nc_and_socat() {
    // `ends` shows that it is exit 1 to adit.
    for (words, status) in measured([(NC, 0), (SOCAT, 0), (NCAT, 1)]) {
        let (sender, said) = sync_channel::<()>(0);
        let host = tcp_host(move |mut stream| {
            stream.write_all(b"part").unwrap();
            said.recv().unwrap();
            reset(stream);
        });
        let mut theirs = Program::start(&mut tool(words, host.address));
        theirs.out.wait_for("part");
        sender.send(()).unwrap();
        assert_eq!(theirs.wait().status, status, "{words:?}");
    }
}

#[test]
fn silence_is_a_success_to_nc_and_socat() {
    let nc: Words = &["nc", "-nw1", "HOST", "PORT"];
    let socat: Words = &["socat", "-T1", "-", "TCP:HOST:PORT"];
    for (words, status) in measured([(nc, 0), (socat, 0)]) {
        let server = serve(&["echo", "127.0.0.1:0"]);
        let mut theirs = Program::start(&mut tool(words, server.tcp()));
        assert_eq!(theirs.wait().status, status, "{words:?}");
        let mut ours = Program::start(&mut adit(&[server.place("tcp"), "--idle=1s"]));
        ours.wait().assert_failed(124, "idle-timeout");
    }
}

#[test]
fn a_refusal_is_told_without_a_word_or_without_the_address() {
    let (_socket, address) = no_port();
    for (words, says_address) in measured([(NC, false), (NCAT, false), (SOCAT, true)]) {
        let ran = run(&mut tool(words, address), b"hello\n");
        let told = ran.err.contains(&address.to_string());
        assert_eq!((ran.status, told), (1, says_address), "{ran:?}");
        assert_eq!(ran.err.is_empty(), words[0] == "nc", "{ran:?}");
    }
    let ran = run(&mut adit(&[&address.to_string()]), b"hello\n");
    ran.assert_failed(1, "refused");
    assert!(ran.err.contains(&address.to_string()), "{}", ran.err);
}

#[test]
fn a_datagram_to_a_closed_port_is_a_success_to_nc() {
    let nc: Words = &["nc", "-nu", "HOST", "PORT"];
    for (words, status) in measured([(nc, 0)]) {
        // Bound, so that nobody else gets the port, and deaf to everybody but one.
        let socket = udp_socket();
        socket.connect("127.0.0.1:9").unwrap();
        let address = socket.local_addr().unwrap();
        let ran = run(&mut tool(words, address), b"hello\n");
        assert_eq!((ran.status, ran.err.as_str()), (status, ""), "{ran:?}");
        run(&mut adit(&["-u", &address.to_string()]), b"hello\n").assert_failed(1, "refused");
    }
}

#[test]
fn socat_without_input_stops_receiving_after_the_first_line() {
    let (sender, said) = sync_channel::<()>(1);
    if !is_measured("socat") {
        return;
    }
    let host = tcp_host(move |mut stream| {
        stream.write_all(b"one\n").unwrap();
        said.recv().unwrap();
        // It is gone: this is not for it any more.
        drop(stream.write_all(b"two\nthree\n"));
    });
    let mut command = tool(SOCAT, host.address);
    let ran = Program::start_with_input(command.stdin(Stdio::null())).wait();
    sender.send(()).unwrap();
    assert_eq!((ran.status, ran.text().as_str()), (0, "one\n"), "{ran:?}");
}

#[test]
fn a_reader_that_leaves_is_an_error_to_ncat_and_socat() {
    let server = serve(&["chargen", "127.0.0.1:0"]);
    let rows = [(NCAT, (2, "Broken pipe")), (SOCAT, (1, "Broken pipe"))];
    for (words, (status, text)) in measured(rows) {
        let mut command = tool(words, server.tcp());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        drop(lines);
        let ran = Program::of(child).wait();
        assert_eq!((ran.status, ran.err.contains(text)), (status, true), "{ran:?}");
    }
}

#[test]
fn a_port_out_of_range_is_another_port_to_nc_and_socat() {
    let nc: Words = &["nc", "-lnv", "HOST", "99999"];
    let socat: Words = &["socat", "-d", "-d", "-", "TCP-LISTEN:99999,bind=HOST"];
    for (words, ()) in measured([(nc, ()), (socat, ())]) {
        // What is left of it in 16 bits.
        let address = SocketAddr::from((own_ip(), 34_463));
        let _theirs = listening(words, address);
        run(&mut adit(&["wait", &address.to_string(), "--once"]), b"").assert_clean("");
        let place = format!("{}:99999", address.ip());
        run(&mut adit(&["serve", "echo", &place]), b"").assert_failed(2, "usage");
    }
}

#[test]
fn any_free_port_of_ncat_is_not_told() {
    let ncat: Words = &["ncat", "-lnv", "HOST", "0"];
    for (words, text) in measured([(ncat, ":0\n")]) {
        let theirs = listening(words, own_address());
        theirs.err.wait_for(text);
    }
}

#[test]
fn socat_does_not_restart_while_its_old_connection_waits_out_its_time() {
    let socat: Words = &["socat", "-d", "-d", "-", "TCP-LISTEN:PORT,bind=HOST"];
    for (words, status) in measured([(socat, 1)]) {
        let address = own_address();
        let mut theirs = listening(words, address);
        // It ends first, so it is its side that waits.
        theirs.end_input();
        run(&mut adit(&[&address.to_string(), "--recv-only"]), b"").assert_clean("");
        theirs.wait();
        let again = run(&mut tool(words, address), b"");
        assert_eq!(again.status, status, "{again:?}");
        assert!(again.err.contains("Address already in use"), "{again:?}");
    }
}

#[test]
fn a_second_client_waits_for_nc_and_is_mixed_with_the_first_by_ncat() {
    let nc: Words = &["nc", "-lnvk", "HOST", "PORT"];
    let ncat: Words = &["ncat", "-lnvk", "HOST", "PORT"];
    for (words, hears_both) in measured([(nc, false), (ncat, true)]) {
        let address = own_address();
        let theirs = listening(words, address);
        let (mut first, mut second) = (client(address), client(address));
        second.write_all(b"second\n").unwrap();
        first.write_all(b"first\n").unwrap();
        if hears_both {
            theirs.out.wait_for("second\n");
            theirs.out.wait_for("first\n");
            // Who said what is not told.
            assert_eq!(theirs.out.bytes().len(), 13, "{}", theirs.out.text());
        } else {
            assert_eq!(theirs.out.wait_for("first\n"), "first\n");
            drop(first);
            assert_eq!(theirs.out.wait_for("second\n"), "first\nsecond\n");
        }
    }
}

#[test]
fn control_characters_reach_a_terminal_of_theirs_as_they_are() {
    const ATTACK: &[u8] = b"\x1b]52;c;aGk=\x07\x1b[2J";
    for words in CLIENTS.into_iter().filter(|words| is_measured(words[0])) {
        let host = tcp_host(|mut stream| {
            stream.write_all(ATTACK).unwrap();
            finish(&stream);
            read_to_end(&mut stream)
        });
        let (ours, theirs) = terminal();
        let mut command = tool(words, host.address);
        command.stdin(Stdio::null()).stdout(theirs);
        let mut program = Program::start_with_output(&mut command);
        drop(command);
        let shown = Heard::of(ours);
        assert_eq!(shown.wait_for_bytes(ATTACK.len()), ATTACK, "{words:?}");
        program.wait();
    }
}

#[test]
fn a_datagram_that_is_too_long_is_a_system_call_to_socat() {
    if !is_measured("socat") {
        return;
    }
    let socket = udp_socket();
    let words = ["socat", "-b70000", "-u", "-", "UDP:HOST:PORT"];
    let mut command = tool(&words, socket.local_addr().unwrap());
    // From a file: a pipe would give it in pieces.
    let scratch = Scratch::new();
    std::fs::write(scratch.join("input"), [b'x'; 70_000]).unwrap();
    let file = std::fs::File::open(scratch.join("input")).unwrap();
    let ran = Program::start_with_input(command.stdin(file)).wait();
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.err.contains("write(") && ran.err.contains("Message too long"), "{ran:?}");
}
