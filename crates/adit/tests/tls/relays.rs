//! Relays between TLS and plain: every end as it is, and no clean one made of a bad one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use adit::event::{Detail, Payload};
use adit::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{DEADLINE, client, read_to_end, watch};
use crate::trust::{Authority, at, raw, wait};

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

#[test]
fn streams_go_from_tls_to_plain_to_tls_and_each_end_is_passed_on() {
    let trust = Authority::new();
    let late = stream(async |conn: Conn| {
        let (mut read, mut write) = conn.split();
        let mut question = Vec::new();
        read.read_to_end(&mut question).await?;
        write.write_all(&question).await?;
        write.write_all(b" and a late answer").await?;
        Ok(())
    });
    let server = Server::streams(late).tls(trust.server()).listen("tls://127.0.0.1:0");
    let server = server.start().unwrap();
    let encrypts = Forward::to(at(server.addr(0))).unwrap().dial(trust.dial());
    let encrypts = encrypts.listen("tcp://127.0.0.1:0").start().unwrap();
    let decrypts = Forward::to(encrypts.addr(0)).unwrap().tls(trust.server());
    let decrypts = decrypts.listen("tls://127.0.0.1:0").start().unwrap();
    // From TLS to TLS, with both sides encrypted anew.
    let again = Forward::to(at(decrypts.addr(0))).unwrap().dial(trust.dial()).tls(trust.server());
    let (observer, seen) = watch();
    let again = again.observe(observer).listen("tls://127.0.0.1:0").start().unwrap();
    wait(async {
        let (mut read, mut write) = trust.dial().connect(at(again.addr(0))).await.unwrap().split();
        let question = vec![b'q'; 3_000_000];
        let send = async {
            write.write_all(&question).await.unwrap();
            drop(write);
        };
        let mut answer = Vec::new();
        let ((), read) = tokio::join!(send, read.read_to_end(&mut answer));
        read.unwrap();
        assert!(answer.starts_with(&question) && answer.ends_with(b" and a late answer"));
    });
    assert!(seen.wait_for("close").1.starts_with("close ok "));
}

#[test]
fn a_cut_stream_of_either_side_is_a_reset_on_the_other() {
    let trust = Authority::new();
    // The client cuts.
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let forward = Forward::to(format!("tcp://{}", target.local_addr().unwrap())).unwrap();
    let (observer, seen) = watch();
    let forward = forward.observe(observer).tls(trust.server()).listen("tls://127.0.0.1:0");
    let forward = forward.start().unwrap();
    wait(async {
        let mut peer = raw(&trust.client(), forward.addr(0)).await.unwrap();
        peer.write_all(b"half a quest").await.unwrap();
        peer.flush().await.unwrap();
    });
    let mut far = accept(&target);
    let mut came = Vec::new();
    let error = far.read_to_end(&mut came).unwrap_err();
    assert_eq!((came.as_slice(), error.kind()), (&b"half a quest"[..], ErrorKind::ConnectionReset));
    let (_, line) = seen.wait_for("error");
    assert!(
        line.starts_with("error truncated the connection to the client tcp 127.0.0.1:"),
        "{line}"
    );
    assert!(line.ends_with(" broke: TLS stream ended without its closing message"), "{line}");
    assert_eq!(seen.next_close(), "truncated");

    // The target cuts.
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let forward =
        Forward::to(format!("tls://{}", target.local_addr().unwrap())).unwrap().dial(trust.dial());
    let (observer, seen) = watch();
    let forward = forward.observe(observer).listen("tcp://127.0.0.1:0").start().unwrap();
    let mut near = client(forward.addr(0));
    let tls = trust.server();
    wait(async {
        let socket = accept(&target);
        socket.set_nonblocking(true).unwrap();
        let socket = tokio::net::TcpStream::from_std(socket).unwrap();
        let mut far = tls.accept(socket, "the relay", DEADLINE).await.unwrap();
        far.write_all(b"half an ans").await.unwrap();
        far.flush().await.unwrap();
    });
    let mut came = Vec::new();
    let error = near.read_to_end(&mut came).unwrap_err();
    assert_eq!((came.as_slice(), error.kind()), (&b"half an ans"[..], ErrorKind::ConnectionReset));
    assert_eq!(seen.next_close(), "truncated");
}

#[test]
fn a_reset_of_the_plain_side_cuts_the_encrypted_one() {
    let trust = Authority::new();
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let forward = Forward::to(format!("tcp://{}", target.local_addr().unwrap())).unwrap();
    let forward = forward.tls(trust.server()).listen("tls://127.0.0.1:0").start().unwrap();
    wait(async {
        let mut conn = trust.dial().connect(at(forward.addr(0))).await.unwrap();
        let mut far = accept(&target);
        far.write_all(b"part").unwrap();
        let mut part = [0; 4];
        conn.read_exact(&mut part).await.unwrap();
        socket2::SockRef::from(&far).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(far);
        let error = conn.read(&mut [0]).await.unwrap_err();
        assert!(matches!(adit::code_of(&error), Code::Reset | Code::Truncated), "{error}");
    });
}

#[test]
fn a_relay_that_could_trust_nobody_does_not_start() {
    let trust = Authority::new();
    let target = format!("tls://127.0.0.1:1,ca={}", trust.join("missing.pem"));
    let error = Forward::to(&*target).unwrap().listen("tcp://127.0.0.1:0").start().unwrap_err();
    assert_eq!(error.code(), Code::Config, "{error}");
    // Nor is anybody called by a client.
    let error = wait(async { Dial::new().connect(&*target).await.unwrap_err() });
    assert_eq!(error.code(), Code::Config, "{error}");
}

#[test]
fn observers_of_a_relay_see_what_was_said_and_that_it_was_over_tls() {
    let trust = Authority::new();
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let forward = Forward::to(format!("tcp://{}", target.local_addr().unwrap())).unwrap();
    let lines = Arc::new(Mutex::new(String::new()));
    let told = lines.clone();
    let forward = forward.tls(trust.server()).listen("tls://127.0.0.1:0").on_event(move |event| {
        let mut lines = told.lock().unwrap();
        event.json(0, Detail::Trace, Payload::Whole, &mut lines);
    });
    let forward = forward.start().unwrap();
    wait(async {
        let mut conn = trust.dial().connect(at(forward.addr(0))).await.unwrap();
        conn.write_all(b"a plain question").await.unwrap();
        conn.shutdown().await.unwrap();
        let mut far = accept(&target);
        assert_eq!(read_to_end(&mut far), b"a plain question");
        far.write_all(b"a plain answer").unwrap();
        far.shutdown(Shutdown::Both).unwrap();
        let mut answer = Vec::new();
        conn.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"a plain answer");
    });
    let lines = lines.lock().unwrap();
    assert!(lines.contains("a plain question") && lines.contains("a plain answer"), "{lines}");
    assert!(lines.contains("\"tls\":\"1.3\""), "{lines}");
}

/// Tells a client which certificate it has shown.
struct Shows(String);

impl Handler for Shows {
    fn message(&mut self, _: &[u8], out: &mut Out<'_>) -> Answer {
        out.send(&self.0);
        Answer::Done
    }
}

#[test]
fn the_files_of_a_target_are_read_again_for_connections_to_come() {
    let trust = Authority::new();
    let shown = each(|peer: &Peer| {
        let seen = peer.tls().and_then(|tls| tls.peer.as_ref());
        Shows(seen.map_or_else(|| "nobody".to_owned(), |seen| seen.pin.to_string()))
    });
    let tls = trust.server().client_ca(trust.ca()).unwrap();
    let server = Server::new(shown).tls(tls).listen("tls://127.0.0.1:0", Lines::new());
    let server = server.start().unwrap();
    let own = trust.issue("own", &["own"]);
    let ca = trust.join("trusted.pem");
    std::fs::copy(trust.ca(), &ca).unwrap();
    let (cert, key) = (own.cert.display(), own.key.display());
    let target = format!("{},ca={ca},cert={cert},key={key}", at(server.addr(0)));
    let relay = Forward::to(target).unwrap().listen("tcp://127.0.0.1:0").start().unwrap();
    let seen = || {
        let client = BlockingClient::connect(relay.addr(0)).unwrap();
        client.call("who am I?").send()
    };
    assert_eq!(seen().unwrap(), own.pin.to_string());

    let new = trust.issue("own", &["own"]);
    assert_eq!(seen().unwrap(), own.pin.to_string());
    let tls = relay.reload_target_tls().unwrap().unwrap();
    assert_eq!(tls.pin(), Some(new.pin));
    assert_eq!(seen().unwrap(), new.pin.to_string());

    std::fs::write(&new.key, "no key").unwrap();
    assert_eq!(relay.reload_target_tls().unwrap_err().code(), Code::Config);
    assert_eq!(seen().unwrap(), new.pin.to_string());

    let own = trust.issue("own", &["own"]);
    std::fs::copy(&own.cert, &ca).unwrap();
    relay.reload_target_tls().unwrap();
    // Nobody vouches for the server any more: its peer reads a reset.
    assert!(seen().is_err());
}

#[test]
fn a_relay_without_files_for_its_target_reads_none_again() {
    let trust = Authority::new();
    let server = Server::new(fast(|msg, out| out.send(msg))).tls(trust.server());
    let server = server.listen("tls://127.0.0.1:0", Lines::new()).start().unwrap();
    let pin = server.tls(server.addr(0)).unwrap().pin();
    let target = at(server.addr(0));
    let by_dial = Forward::to(&*target).unwrap().dial(trust.dial());
    let by_pin = Forward::to(format!("{target},pin={}", pin.word())).unwrap();
    let plain = Forward::to("tcp://127.0.0.1:9").unwrap();
    for relay in [by_dial, by_pin, plain] {
        let relay = relay.listen("tcp://127.0.0.1:0").start().unwrap();
        assert!(relay.reload_target_tls().unwrap().is_none());
    }
    assert!(server.reload_target_tls().unwrap().is_none());
}
