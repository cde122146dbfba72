//! What TLS holds for peers counts, and is given back when memory is short.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use adit::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use crate::common::{DEADLINE, watch};
use crate::trust::{Authority, raw, wait};

#[test]
fn what_tls_holds_for_a_peer_that_does_not_read_counts_against_the_memory() {
    let trust = Authority::new();
    let (stall, is_stalled) = sync_channel(1);
    // Holds nothing itself: what does not go out is held by TLS.
    let flood = stream(async move |mut conn: Conn| {
        loop {
            let written = conn.write_all(&[b'x'; 30_000]);
            match tokio::time::timeout(Duration::from_millis(100), written).await {
                Ok(written) => written?,
                Err(_late) => drop(stall.try_send("stalled")),
            }
        }
    });
    let server = Server::streams(flood).tls(trust.server()).listen("tls://127.0.0.1:0");
    let server = server.start().unwrap();
    wait(async {
        let peer = raw(&trust.client(), server.addr(0)).await.unwrap();
        is_stalled.recv_timeout(DEADLINE).unwrap();
        let held = server.stats().held;
        assert!((1..=64 << 10).contains(&held), "{held} B");
        drop(peer);
        while server.stats().held > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn what_tls_holds_of_one_that_lingers_is_cut_when_memory_is_short() {
    let trust = Authority::new();
    let (observer, seen) = watch();
    let large = fast(|_, out| out.send(vec![b'x'; 256 << 10]));
    // Half of it is for what they hold.
    let limits = Limits {
        memory: Limit::At(1 << 20),
        unsent_bytes: 1 << 20,
        message: Limit::Off,
        stall: Limit::Off,
        linger: Duration::from_secs(3600),
        linger_idle: Duration::from_secs(3600),
        ..Limits::default()
    };
    let server = Server::new(large).limits(limits).observe(observer).threads(1);
    let server = server.tls(trust.server()).listen("tls://127.0.0.1:0,sndbuf=4096", Lines::new());
    let server = server.start().unwrap();
    let address = server.addr(0).socket_addr().unwrap();
    wait(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let socket = socket.connect(address).await.unwrap();
        let mut lingers =
            trust.client().connect(socket, "localhost", "the server", DEADLINE).await.unwrap();
        lingers.write_all(b"large\n").await.unwrap();
        // More than the kernel takes: TLS keeps some of it when the conversation is over.
        while server.stats().held < 100 << 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // No record of TLS: the conversation ends at once, and its close waits for who does not read.
        lingers.get_ref().try_write(&[0; 64]).unwrap();
        // Others who hold less each, until there is no more.
        let mut others = Vec::new();
        for _ in 0..12 {
            let mut other = raw(&trust.client(), server.addr(0)).await.unwrap();
            other.write_all(&[b'x'; 36 << 10]).await.unwrap();
            other.flush().await.unwrap();
            others.push(other);
        }
        let code = seen.next_close();
        assert_ne!(code, "shed", "the one that lingers goes first, and not in an hour");
    });
}
