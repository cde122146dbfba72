//! Who speaks TLS where nobody does, or the other way round, learns it.

use std::io::Write as _;

use crate::common::{Authority, adit, client, finish, read_to_end, run, serve, tcp_host};
use crate::serve_tls;

#[test]
fn a_plain_client_of_a_tls_port_has_not_succeeded() {
    let trust = Authority::new();
    let server = serve_tls(&trust.here(), &["upper", "127.0.0.1:0"]);
    let ran = run(&mut adit(&[server.place("tcp")]), b"hello\n");
    ran.assert_failed(1, "reset");
    let said = " is not speaking TLS (first bytes \"hello\\n\") (code=tls-plain-peer)\n";
    server.program.err.wait_for(said);
    // Who speaks HTTP shows somebody what comes back.
    let mut http = client(server.tcp());
    http.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    finish(&http);
    let answer = String::from_utf8(read_to_end(&mut http)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nThis port speaks TLS. Is it https://?\n"), "{answer}");
    // Who only looks is told to nobody; the first sentence was said once.
    run(&mut adit(&["-z", server.place("tcp")]), b"").assert_clean("");
    let ran = server.stop();
    assert_eq!(ran.err.matches(" is not speaking TLS ").count(), 1, "{}", ran.err);
}

#[test]
fn a_tls_client_of_a_plain_port_is_told_at_both_ends() {
    let trust = Authority::new();
    for (service, why) in [("echo", "it sends back what it gets"), ("daytime", "first bytes \"")] {
        let server = serve(&[service, "127.0.0.1:0"]);
        let place = format!("tls://{}", server.place("tcp"));
        let ran = run(&mut adit(&[&place, "--ca", &trust.ca]), b"hello\n");
        ran.assert_failed(1, "tls-plain-peer");
        let said = format!("is not speaking TLS ({why}");
        assert!(ran.err.contains(&said) && ran.err.contains("did you mean tcp://?"), "{}", ran.err);
        // The one does not listen to what it is told.
        if service == "echo" {
            server.program.err.wait_for(" speaks TLS, and nothing here does");
        }
    }
    let ssh = tcp_host(|mut stream| {
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        read_to_end(&mut stream)
    });
    let place = format!("tls://{}", ssh.address);
    let ran = run(&mut adit(&[&place, "--ca", &trust.ca]), b"hello\n");
    let said = format!(
        "adit: {} is not speaking TLS (first bytes \"SSH-2.0-\"); did you mean tcp://? (code=tls-plain-peer)\n",
        ssh.address
    );
    assert_eq!((ran.status, ran.err.as_str()), (1, said.as_str()));
    ssh.finish();
}

#[test]
fn tls_that_only_passes_is_nobodys_mistake() {
    let trust = Authority::new();
    let server = serve_tls(&trust.here(), &["upper", "127.0.0.1:0"]);
    let words = ["forward", "--ready-fd=3", "127.0.0.1:0", server.place("tcp")];
    let relay = crate::common::Server::start_as("exec \"$@\" 3>\"$READY\"", &words);
    let place = format!("tls://localhost:{}", relay.tcp().port());
    run(&mut adit(&[&place, "--ca", &trust.ca]), b"hello\n").assert_clean("HELLO\n");
    let ran = relay.stop();
    assert!(!ran.err.contains("TLS"), "{}", ran.err);
}
