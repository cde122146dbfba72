//! Ends: late answers, cuts, mute peers.

use std::net::TcpListener;
use std::time::Duration;

use adit::tls::{ClientTls, ServerTls};
use tokio::io::AsyncWriteExt as _;

use crate::common::{Authority, DEADLINE, Host, Program, adit, host, noise, run, tcp_host, timed};
use crate::serve_tls;

/// A server of TLS that says half an answer and is gone, without the closing message.
fn cuts(trust: &Authority) -> Host<()> {
    let here = trust.here();
    let tls = ServerTls::files(here.cert, here.key).unwrap();
    host(move |listener: TcpListener| {
        in_runtime(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let mut stream = tls.accept(socket, "the client", DEADLINE).await.unwrap();
            stream.write_all(b"half an ans").await.unwrap();
            stream.flush().await.unwrap();
        });
    })
}

fn in_runtime<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, what).await.unwrap() })
}

/// A2 of the acceptance list.
#[test]
fn an_answer_long_after_the_end_of_the_question_is_printed() {
    let trust = Authority::new();
    for late in ["0.4", "1.5"] {
        let script = format!("cat; sleep {late}; echo late");
        let server = serve_tls(&trust.here(), &["127.0.0.1:0", "--", "sh", "-c", &script]);
        let place = format!("tls://localhost:{}", server.tcp().port());
        let ran = run(&mut adit(&[&place, "--ca", &trust.ca]), b"question\n");
        ran.assert_clean("question\nlate\n");
    }
}

#[test]
fn ten_megabytes_come_back() {
    let trust = Authority::new();
    let question = noise(31, 10_000_000);
    let server = serve_tls(&trust.here(), &["echo", "127.0.0.1:0"]);
    let place = format!("tls://localhost:{}", server.tcp().port());
    let ran = run(&mut adit(&[&place, "--ca", &trust.ca]), &question);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(ran.out == question, "{} bytes", ran.out.len());
}

/// A5.
#[test]
fn an_answer_that_is_cut_is_printed_and_is_no_success() {
    let trust = Authority::new();
    let host = cuts(&trust);
    let place = format!("tls://localhost:{}", host.address.port());
    let mut client = Program::start(&mut adit(&[&place, "--ca", &trust.ca]));
    client.out.wait_for("half an ans");
    let ran = client.wait();
    ran.assert_failed(1, "truncated");
    assert_eq!(ran.text(), "half an ans");
    let said = format!(
        "adit: answer cut short: TLS stream from tcp {} ended without its closing message after 11 B in",
        host.address
    );
    assert!(ran.err.starts_with(&said), "{}", ran.err);
    host.finish();
}

#[test]
fn a_client_that_cuts_is_told_and_with_once_is_the_status() {
    let trust = Authority::new();
    let mut server = serve_tls(&trust.here(), &["discard", "127.0.0.1:0", "--once"]);
    in_runtime(async {
        let socket = tokio::net::TcpStream::connect(server.tcp()).await.unwrap();
        let tls = ClientTls::ca(&trust.ca).unwrap();
        let mut stream = tls.connect(socket, "localhost", "the server", DEADLINE).await.unwrap();
        stream.write_all(b"half a quest").await.unwrap();
        stream.flush().await.unwrap();
    });
    server.program.wait().assert_failed(1, "truncated");
}

/// A cut stream on one side of a relay is a reset on the other: the exit status says so.
#[test]
fn a_relay_makes_no_clean_end_of_a_cut() {
    let trust = Authority::new();
    let host = cuts(&trust);
    let target = format!("tls://localhost:{}", host.address.port());
    let words = ["forward", "--ready-fd=3", "127.0.0.1:0", &target, "--ca", &trust.ca];
    let relay = crate::common::Server::start_as("exec \"$@\" 3>\"$READY\"", &words);
    let mut client = Program::start(&mut adit(&[relay.place("tcp")]));
    client.out.wait_for("half an ans");
    client.wait().assert_failed(1, "reset");
    relay.program.err.wait_for("ended without its closing message (code=truncated)");
    host.finish();
}

/// A peer that has ended and closed is not there any more when our end comes, which it answers by a reset.
/// Nothing is missing then.
#[test]
fn our_end_may_come_after_the_peer_has_closed() {
    let trust = Authority::new();
    let mut server = serve_tls(&trust.here(), &["daytime", "127.0.0.1:0", "--once"]);
    let place = format!("tls://localhost:{}", server.tcp().port());
    let mut client = Program::start(&mut adit(&[&place, "--ca", &trust.ca]));
    client.out.wait_for("-UTC");
    // It has waited for our end for as long as it does.
    let ran = server.program.wait();
    assert_eq!(ran.status, 0, "{ran:?}");
    client.end_input();
    let ran = client.wait();
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{ran:?}");
}

/// A7.
#[test]
fn a_mute_peer_is_given_up_at_each_limit_of_the_user() {
    for (flag, code) in [
        ("--handshake-timeout=300ms", "handshake-timeout"),
        ("--connect-timeout=300ms", "connect-timeout"),
        ("--idle=300ms", "idle-timeout"),
        ("--max-time=300ms", "max-time"),
    ] {
        // It reads until we are gone.
        let mute = tcp_host(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())));
        let place = format!("tls://{}", mute.address);
        let words = [&*place, "--tls=insecure", flag];
        let (ran, took) = timed(|| run(&mut adit(&words), b"hello\n"));
        ran.assert_failed(124, code);
        assert!(
            ran.err.contains(&format!("no TLS answer from {} within 300ms", mute.address)),
            "{}",
            ran.err
        );
        // The built-in limit is 10 s.
        assert!(took < Duration::from_secs(9), "{flag}: {took:?}");
        mute.finish();
    }
}
