//! What is said over TLS: both ways, to both ends, whole or told to be cut.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use adit::prelude::*;
use adit::tls::{ClientTls, ServerTls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::common::{DEADLINE, watch};
use crate::trust::{Authority, at, raw, wait};

fn upper() -> impl Service {
    fast(|msg, out| out.send(msg.to_ascii_uppercase()))
}

/// Bytes in which nothing repeats soon.
fn bytes(count: u32, modulus: u32) -> Vec<u8> {
    (0..count).map(|n| (n % modulus).to_le_bytes()[0]).collect()
}

#[test]
fn a_handler_is_served_over_tcp_and_unix_to_both_clients() {
    let trust = Authority::new();
    let path = format!("tls+unix:{}", trust.join("socket"));
    let server = Server::new(upper())
        .tls(trust.server())
        .listen("tls://127.0.0.1:0", Lines::new())
        .listen(path.as_str(), Lines::new())
        .start()
        .unwrap();
    for address in [at(server.addr(0)), path] {
        let options = || ClientOptions { dial: trust.dial(), ..ClientOptions::default() };
        let client =
            BlockingClient::connect_with(address.as_str(), Lines::new(), options()).unwrap();
        assert_eq!(client.call("hello").send().unwrap(), "HELLO");
        client.finish().unwrap();
        wait(async {
            let client =
                Client::connect_with(address.as_str(), Lines::new(), options()).await.unwrap();
            for _ in 0..100 {
                assert_eq!(client.call("hello").await.unwrap(), "HELLO");
            }
            client.finish().await.unwrap();
        });
    }
}

#[test]
fn each_direction_has_an_end_of_its_own() {
    let trust = Authority::new();
    let echo = stream(async |conn: Conn| {
        let (mut from_client, mut to_client) = conn.split();
        tokio::io::copy(&mut from_client, &mut to_client).await?;
        Ok(())
    });
    let server = Server::streams(echo).tls(trust.server()).listen("tls://127.0.0.1:0");
    let server = server.start().unwrap();
    let speaks_first = stream(async |conn: Conn| {
        let (mut from_client, mut to_client) = conn.split();
        to_client.write_all(b"hello").await?;
        drop(to_client);
        tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await?;
        Ok(())
    });
    let (observer, seen) = watch();
    let first = Server::streams(speaks_first).observe(observer).tls(trust.server());
    let first = first.listen("tls://127.0.0.1:0").start().unwrap();
    wait(async {
        let (mut read, mut write) = trust.dial().connect(at(server.addr(0))).await.unwrap().split();
        write.write_all(b"question").await.unwrap();
        drop(write);
        let mut answer = Vec::new();
        read.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"question");

        let (mut read, mut write) = trust.dial().connect(at(first.addr(0))).await.unwrap().split();
        let mut hello = Vec::new();
        read.read_to_end(&mut hello).await.unwrap();
        assert_eq!(hello, b"hello");
        write.write_all(&[7; 1000]).await.unwrap();
    });
    assert_eq!(seen.wait_for("close").1, "close ok in 1000 out 5");
}

#[test]
fn ten_megabytes_go_each_way_at_once() {
    let trust = Authority::new();
    let (up, down) = (bytes(10_000_000, 251), bytes(10_000_000, 241));
    let (tell, told) = sync_channel(1);
    let answer = down.clone();
    let both = stream(move |conn: Conn| {
        let (answer, tell) = (answer.clone(), tell.clone());
        async move {
            let (mut read, mut write) = conn.split();
            let send = async {
                write.write_all(&answer).await?;
                write.shutdown().await
            };
            let mut came = Vec::new();
            let (sent, read) = tokio::join!(send, read.read_to_end(&mut came));
            sent.and(read)?;
            tell.send(came)?;
            Ok(())
        }
    });
    let (observer, seen) = watch();
    let server = Server::streams(both).observe(observer).tls(trust.server());
    let server = server.listen("tls://127.0.0.1:0").start().unwrap();
    let came = wait(async {
        let (mut read, mut write) = trust.dial().connect(at(server.addr(0))).await.unwrap().split();
        let send = async {
            write.write_all(&up).await.unwrap();
            drop(write);
        };
        let mut came = Vec::new();
        let ((), read) = tokio::join!(send, read.read_to_end(&mut came));
        read.unwrap();
        came
    });
    assert!(came == down, "{} bytes came down", came.len());
    assert!(told.recv_timeout(DEADLINE).unwrap() == up, "other bytes came up");
    assert_eq!(seen.wait_for("close").1, "close ok in 10000000 out 10000000");
}

/// Answers each message by a megabyte, and says how the conversation ended.
struct Generous(SyncSender<Closed>);

impl Handler for Generous {
    fn message(&mut self, _: &[u8], out: &mut Out<'_>) -> Answer {
        out.send(vec![b'x'; 1 << 20]);
        Answer::Done
    }

    fn closed(&mut self, closed: Closed) {
        self.0.send(closed).unwrap();
    }
}

#[test]
fn a_peer_that_never_reads_is_bounded_and_ends_by_the_limit_on_stalls() {
    const PEERS: usize = 8;
    let trust = Authority::new();
    let (tell, told) = sync_channel(PEERS);
    let limits = Limits {
        stall: Limit::At(Duration::from_millis(500)),
        reply_bytes: 2 << 20,
        ..Limits::default()
    };
    let server = Server::new(each(move |_: &Peer| Generous(tell.clone()))).limits(limits);
    let server = server.tls(trust.server()).listen("tls://127.0.0.1:0", Lines::new());
    let server = server.start().unwrap();
    let other = Server::new(upper()).tls(trust.server()).listen("tls://127.0.0.1:0", Lines::new());
    let other = other.start().unwrap();
    // They stay open, and nobody reads them any more.
    let peers = wait(async {
        let mut peers = Vec::new();
        for _ in 0..PEERS {
            let mut peer = raw(&trust.client(), server.addr(0)).await.unwrap();
            // More than it will get: 64 answers of a megabyte.
            peer.write_all(&b"more\n".repeat(64)).await.unwrap();
            peer.flush().await.unwrap();
            peers.push(peer);
        }
        // Meanwhile others are served.
        let options = ClientOptions { dial: trust.dial(), ..ClientOptions::default() };
        let client = Client::connect_with(at(other.addr(0)), Lines::new(), options).await.unwrap();
        assert_eq!(client.call("hello").await.unwrap(), "HELLO");
        peers
    });
    for _ in 0..PEERS {
        let closed = told.recv_timeout(DEADLINE).unwrap();
        // The kernel, which has the same limit, may be the first to give it up.
        assert!(matches!(closed.code, Code::StallTimeout | Code::DeadPeer), "{closed:?}");
        // One answer beyond high water, and what the sockets hold: never all of them.
        assert!(closed.unsent <= 2 << 20, "{closed:?}");
        assert!(closed.bytes_out < 16 << 20, "{closed:?}");
    }
    drop(peers);
}

#[test]
fn what_is_unsent_when_the_writing_half_is_dropped_still_arrives_and_so_does_the_end() {
    let trust = Authority::new();
    let service = stream(async |conn: Conn| {
        let (mut read, mut write) = conn.split();
        write.write_all(&vec![b'x'; 6_000_000]).await?;
        drop(write);
        read.read_to_end(&mut Vec::new()).await?;
        Ok(())
    });
    let (observer, seen) = watch();
    let server = Server::streams(service).observe(observer).tls(trust.server());
    let server = server.listen("tls://127.0.0.1:0").start().unwrap();
    // The same at a client, whose halves are both gone before anybody reads.
    let (tell, told) = sync_channel(1);
    let (begin, begun) = sync_channel::<()>(1);
    let begun = std::sync::Arc::new(std::sync::Mutex::new(begun));
    let reader = stream(move |mut conn: Conn| {
        let (tell, begun) = (tell.clone(), begun.clone());
        async move {
            let wait = move || begun.lock().unwrap().recv();
            tokio::task::spawn_blocking(wait).await??;
            let mut came = Vec::new();
            conn.read_to_end(&mut came).await?;
            tell.send(came.len())?;
            Ok(())
        }
    });
    let late = Server::streams(reader).tls(trust.server()).listen("tls://127.0.0.1:0");
    let late = late.start().unwrap();
    wait(async {
        let (mut read, write) = trust.dial().connect(at(server.addr(0))).await.unwrap().split();
        drop(write);
        let mut came = Vec::new();
        read.read_to_end(&mut came).await.unwrap();
        assert_eq!(came.len(), 6_000_000);

        let (read, mut write) = trust.dial().connect(at(late.addr(0))).await.unwrap().split();
        // As much as TLS and the sockets take while nobody reads.
        let (piece, pause) = (vec![b'x'; 60_000], Duration::from_millis(200));
        let mut sent = 0;
        while let Ok(written) = tokio::time::timeout(pause, write.write(&piece)).await {
            sent += written.unwrap();
        }
        drop((read, write));
        begin.send(()).unwrap();
        let came = tokio::task::spawn_blocking(move || told.recv_timeout(DEADLINE));
        assert_eq!(came.await.unwrap().unwrap(), sent);
    });
    assert_eq!(seen.wait_for("close").1, "close ok in 0 out 6000000");
}

/// Reads all but some, and after a pause the rest; waits then for longer than the limit, in which a stall
/// that is over would be found.
async fn read_and_wait(dial: Dial, place: String, (bytes, left): (usize, usize)) {
    let mut conn = dial.connect(place).await.unwrap();
    let mut came = vec![0; bytes];
    conn.read_exact(&mut came[left..]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    conn.read_exact(&mut came[..left]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(4500)).await;
    conn.write_all(b".").await.unwrap();
    assert_eq!(conn.read(&mut [0]).await.unwrap(), 0);
}

#[test]
fn a_pause_behind_a_slow_flush_or_end_is_no_stall() {
    const BYTES: usize = 1 << 20;
    let trust = Authority::new();
    for ends in [false, true] {
        let service = stream(async move |conn: Conn| {
            let (mut read, mut write) = conn.split();
            write.write_all(&[b'x'; BYTES]).await?;
            match ends {
                true => write.shutdown().await?,
                false => write.flush().await?,
            }
            // From here on nobody owes anybody anything.
            let mut byte = [0];
            read.read_exact(&mut byte).await?;
            Ok(())
        });
        let limits = Limits { stall: Limit::At(Duration::from_secs(3)), ..Limits::default() };
        let (observer, seen) = watch();
        let server = Server::streams(service).observe(observer).limits(limits).tls(trust.server());
        let server = server.listen("tls://127.0.0.1:0,sndbuf=16384").start().unwrap();
        // Each reads up to another byte and waits: some of them while it is the end that is held up.
        let peers: Vec<_> = (1..=24).map(|part| part * (16 << 10)).collect();
        let (dial, place) = (trust.dial(), format!("{},rcvbuf=16384", at(server.addr(0))));
        wait(async {
            let mut talks = JoinSet::new();
            for left in &peers {
                talks.spawn(read_and_wait(dial.clone(), place.clone(), (BYTES, *left)));
            }
            talks.join_all().await;
        });
        for _ in &peers {
            assert_eq!(seen.next_close(), "ok", "ends: {ends}");
        }
    }
}

#[test]
fn a_stream_that_is_cut_is_told_so_at_both_ends() {
    let trust = Authority::new();
    let (observer, seen) = watch();
    let server = Server::new(upper()).observe(observer).tls(trust.server());
    let server = server.listen("tls://127.0.0.1:0", Lines::new()).start().unwrap();
    wait(async {
        let mut peer = raw(&trust.client(), server.addr(0)).await.unwrap();
        peer.write_all(b"half a mess").await.unwrap();
        peer.flush().await.unwrap();
        // Its end goes out, and no closing message of TLS in front of it.
        drop(peer);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tls://{}", listener.local_addr().unwrap());
        let tls = trust.server();
        let cuts = async {
            let (socket, _) = listener.accept().await.unwrap();
            let mut far = tls.accept(socket, "the client", DEADLINE).await.unwrap();
            far.write_all(b"half an ans").await.unwrap();
            far.flush().await.unwrap();
        };
        let reads = async {
            let mut conn = trust.dial().connect(address).await.unwrap();
            let mut came = Vec::new();
            let error = conn.read_to_end(&mut came).await.unwrap_err();
            assert_eq!(
                (came.as_slice(), adit::code_of(&error)),
                (&b"half an ans"[..], Code::Truncated)
            );
        };
        tokio::join!(cuts, reads);
    });
    assert_eq!(seen.next_close(), "truncated");
}

#[test]
fn a_drain_finishes_what_is_said_and_waits_for_no_mute_peer() {
    let trust = Authority::new();
    let limits = Limits { handshake: Limit::At(Duration::from_secs(3600)), ..Limits::default() };
    let (observer, seen) = watch();
    let server = Server::new(upper()).observe(observer).limits(limits).tls(trust.server());
    let server = server.listen("tls://127.0.0.1:0", Lines::new()).start().unwrap();
    wait(async {
        let _mute = tokio::net::TcpStream::connect(server.addr(0).socket_addr().unwrap()).await;
        let mut conn = trust.dial().connect(at(server.addr(0))).await.unwrap();
        conn.write_all(b"hello\n").await.unwrap();
        let mut answer = [0; 6];
        conn.read_exact(&mut answer).await.unwrap();
        conn.write_all(b"bye\n").await.unwrap();
        conn.flush().await.unwrap();
        let drain = server.drain(Duration::from_secs(3600));
        let mut rest = Vec::new();
        let (report, read) = tokio::join!(drain, conn.read_to_end(&mut rest));
        // A clean end: without the closing message this would be an error.
        read.unwrap();
        assert_eq!((&answer, rest.as_slice(), report.cut), (b"HELLO\n", &b"BYE\n"[..], 0));
    });
    assert_eq!(seen.next_close(), "drained");
}

/// Answers with what the handshake has settled.
fn tells() -> impl Service {
    each(|peer: &Peer| {
        let info = peer.tls().unwrap();
        let alpn = info.alpn.as_deref().map(|name| String::from_utf8_lossy(name).into_owned());
        let client = info
            .peer
            .as_ref()
            .map(|certificate| format!("{} {:?}", certificate.pin.word(), certificate.names));
        let name = &info.server_name;
        let told = format!("{} {name:?} {alpn:?} {client:?}", info.version);
        Tells(told)
    })
}

struct Tells(String);

impl Handler for Tells {
    fn message(&mut self, _: &[u8], out: &mut Out<'_>) -> Answer {
        out.send(&self.0);
        Answer::Done
    }
}

fn ask(tls: ClientTls, address: &str) -> adit::Result<String> {
    let options = ClientOptions { dial: Dial::new().tls(tls), ..ClientOptions::default() };
    let client = BlockingClient::connect_with(address, Lines::new(), options)?;
    let told = client.call("who").send()?;
    Ok(String::from_utf8(told.to_vec()).unwrap())
}

#[test]
fn the_handler_learns_names_protocols_and_who_the_client_is() {
    let trust = Authority::new();
    let tls = trust.server().alpn(["two", "one"]).unwrap().client_ca(trust.ca()).unwrap();
    let (observer, seen) = watch();
    let server = Server::new(tells()).observe(observer).tls(tls);
    let server = server.listen("tls://127.0.0.1:0", Lines::new()).start().unwrap();
    let address = at(server.addr(0));
    let ours = trust.issue("client", &["ann.example"]);
    let client = trust.client().sni("localhost").unwrap().alpn(["one", "two"]).unwrap();
    let told = ask(client.certificate(&ours.cert, &ours.key).unwrap(), &address).unwrap();
    let pin = ours.pin.word();
    let expected =
        format!("1.3 Some(\"localhost\") Some(\"two\") Some(\"{pin} [\\\"ann.example\\\"]\")");
    assert_eq!(told, expected);

    // Whoever has none, or one of somebody else's, is refused, and learns why.
    let error = ask(trust.client(), &address).unwrap_err();
    assert_eq!(error.code(), Code::TlsClientCertificate, "{error}");
    assert!(seen.wait_for("error").1.starts_with("error tls-client-cert 127.0.0.1:"));
    let others = Authority::new();
    let foreign = others.issue("foreign", &["ann.example"]);
    let error = ask(trust.client().certificate(&foreign.cert, &foreign.key).unwrap(), &address);
    assert_eq!(error.unwrap_err().code(), Code::TlsClientCertificate);
    let error = ask(
        trust.client().alpn(["three"]).unwrap().certificate(&ours.cert, &ours.key).unwrap(),
        &address,
    );
    assert_eq!(error.unwrap_err().code(), Code::TlsAlert);
    assert_eq!(server.stats().conversations, 1);
}

#[test]
fn a_new_certificate_is_for_newcomers_and_a_bad_one_for_nobody() {
    let trust = Authority::new();
    let files = trust.issue("server", &["localhost", "127.0.0.1"]);
    let tls = ServerTls::files(&files.cert, &files.key).unwrap();
    let server = Server::new(upper()).tls(tls).listen("tls://127.0.0.1:0", Lines::new());
    let server = server.start().unwrap();
    let address = at(server.addr(0));
    let pin_seen = || {
        wait(async {
            let conn = trust.dial().connect(&*address).await.unwrap();
            conn.tls().unwrap().peer.as_ref().unwrap().pin
        })
    };
    let options = ClientOptions { dial: trust.dial(), ..ClientOptions::default() };
    let old = BlockingClient::connect_with(&*address, Lines::new(), options).unwrap();
    assert_eq!(old.call("old").send().unwrap(), "OLD");
    assert_eq!(pin_seen(), files.pin);

    let new = trust.issue("server", &["localhost", "127.0.0.1"]);
    assert_eq!(server.reload_tls().unwrap(), 1);
    assert_eq!(pin_seen(), new.pin);
    assert_eq!(server.tls(server.addr(0)).unwrap().pin(), new.pin);
    assert_eq!(old.call("still here").send().unwrap(), "STILL HERE");

    std::fs::write(&new.cert, "no certificate").unwrap();
    assert_eq!(server.reload_tls().unwrap_err().code(), Code::Config);
    assert_eq!(pin_seen(), new.pin);
}
