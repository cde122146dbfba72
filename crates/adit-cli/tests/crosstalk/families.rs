//! IPv4, IPv6 and both at once.

use crate::common::{Program, adit, run, serve};
use crate::peers::{
    Words, assert_done, at, is_here, is_measured, listening, own_address_v6, own_port, tool,
};

const NC: Words = &["nc", "-nN", "HOST", "PORT"];
const NCAT: Words = &["ncat", "-n", "HOST", "PORT"];
const SOCAT_4: Words = &["socat", "-t30", "-", "TCP4:HOST:PORT"];
const SOCAT_6: Words = &["socat", "-t30", "-", "TCP6:[HOST]:PORT"];
const MAPPED: &str = "::ffff:127.0.0.1";

#[test]
fn adit_on_all_networks_answers_them_over_both_families() {
    let server = serve(&["upper", ":0"]);
    for (words, host) in [
        (NC, "127.0.0.1"),
        (NC, "::1"),
        (NC, MAPPED),
        (NCAT, "127.0.0.1"),
        (NCAT, "::1"),
        (NCAT, MAPPED),
        (SOCAT_4, "127.0.0.1"),
        (SOCAT_6, "::1"),
        (SOCAT_6, MAPPED),
    ] {
        if is_here(words[0]) {
            let ran = run(&mut tool(words, at(host, server.tcp().port())), b"hello\n");
            assert_done(&ran, "HELLO\n", &[words, &[host]].concat());
        }
    }
}

#[test]
fn adit_on_all_networks_answers_their_datagrams_over_both_families() {
    let nc: Words = &["nc", "-nu", "HOST", "PORT"];
    let ncat: Words = &["ncat", "-nu", "HOST", "PORT"];
    let socat_4: Words = &["socat", "-", "UDP4:HOST:PORT"];
    let socat_6: Words = &["socat", "-", "UDP6:[HOST]:PORT"];
    let server = serve(&["upper", "udp://:0"]);
    // They are connected, so they hear only the address that they ask.
    for (words, host) in [
        (nc, "127.0.0.5"),
        (nc, "::1"),
        (ncat, "127.0.0.5"),
        (ncat, "::1"),
        (socat_4, "127.0.0.5"),
        (socat_6, "::1"),
    ] {
        if is_here(words[0]) {
            let place = at(host, server.udp().port());
            let mut client = Program::start(&mut tool(words, place));
            client.write(b"hello\n");
            client.out.wait_for("HELLO\n");
        }
    }
}

#[test]
fn their_servers_on_ipv6_answer_adit() {
    let servers: [(Words, &str); 3] = [
        (&["nc", "-lnvN", "HOST", "PORT"], "--eof=hold"),
        (&["ncat", "-lnv", "HOST", "PORT"], "--eof=hold"),
        (
            &["socat", "-t30", "-d", "-d", "-", "TCP6-LISTEN:PORT,bind=[HOST],reuseaddr"],
            "--eof=send",
        ),
    ];
    for (words, flag) in servers.into_iter().filter(|(words, _)| is_here(words[0])) {
        let address = own_address_v6();
        let mut theirs = listening(words, address);
        theirs.write(b"answer\n");
        theirs.end_input();
        let ran = run(&mut adit(&[&address.to_string(), flag]), b"question\n");
        ran.assert_clean("answer\n");
        assert_done(&theirs.wait(), "question\n", words);
    }
}

#[test]
fn their_servers_on_both_families_answer_adit_at_every_address() {
    let servers: [Words; 2] = [
        &["ncat", "-lnvk", "PORT", "-c", "read line; echo hello $line"],
        &[
            "socat",
            "-t30",
            "-d",
            "-d",
            "TCP6-LISTEN:PORT,ipv6only=0,fork,reuseaddr",
            "SYSTEM:read line; echo hello $line",
        ],
    ];
    for words in servers.into_iter().filter(|words| is_here(words[0])) {
        let port = own_port();
        let _theirs = listening(words, at("::", port));
        for host in ["127.0.0.1", "::1", MAPPED] {
            let place = at(host, port).to_string();
            run(&mut adit(&[&place, "--eof=hold"]), b"adit\n").assert_clean("hello adit\n");
        }
    }
}

#[test]
fn on_all_addresses_nc_socat_and_tcpserver_are_there_for_ipv4_only() {
    let servers: [Words; 3] = [
        &["nc", "-lnv", "PORT"],
        &["socat", "-d", "-d", "-", "TCP-LISTEN:PORT,reuseaddr"],
        &["tcpserver", "-1HRl0", "0", "PORT", "cat"],
    ];
    for words in servers.into_iter().filter(|words| is_measured(words[0])) {
        let port = own_port();
        let _theirs = listening(words, at("0.0.0.0", port));
        let reach = |host| {
            let place = at(host, port).to_string();
            run(&mut adit(&["wait", &place, "--once"]), b"")
        };
        reach("::1").assert_failed(1, "refused");
        reach("127.0.0.1").assert_clean("");
    }
}
