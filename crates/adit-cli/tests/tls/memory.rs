//! What peers of a TLS server cost it, in each state in which they can stay.
#![expect(clippy::print_stdout, reason = "docs/reliability.md has what it measures")]

use std::fs;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use adit::tls::ClientTls;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::common::{Authority, DEADLINE, Server, client};
use crate::serve_tls;

/// What is set aside for each, whatever it does.
const SHARE_KIB: usize = 16;
/// What one may cost beyond that, uncounted: a record that has not come whole.
const RECORD_KIB: usize = 20;
/// What is counted, of one that takes nothing: 128 KiB, a read on top of it, and what TLS holds.
const UNREAD_KIB: usize = UNSENT_KIB + 64 + 64;
/// The default of `Limits::unsent_bytes`.
const UNSENT_KIB: usize = 128;
/// Takes next to nothing of what a peer does not read.
const BUFFER_BYTES: u32 = 4096;

fn rss_kib(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Waits until it has grown so far, which a busy server does late, and then until it does not grow any more.
async fn settled(server: &Server, least: usize) -> usize {
    let end = Instant::now() + DEADLINE;
    let (mut before, mut same) = (0, 0);
    while same < 3 {
        let now = rss_kib(server);
        same = if now == before && now >= least { same + 1 } else { 0 };
        before = now;
        assert!(Instant::now() < end, "{now} KiB after {DEADLINE:?}, at least {least} is right");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    before
}

/// KiB for each of so many peers, which are made so.
async fn cost<T>(trust: &Authority, count: usize, state: &str, make: impl AsyncFn(&Server) -> T) {
    // What all cost at least, since less than that has not been measured; and what one costs at most.
    let (least, limit) = match state {
        "unread answers" => (UNSENT_KIB * count, UNREAD_KIB + SHARE_KIB + RECORD_KIB),
        "half a record" | "half a greeting" => (RECORD_KIB * count / 2, SHARE_KIB + RECORD_KIB),
        "idle" => (SHARE_KIB * count / 4, SHARE_KIB),
        _ => (count / 4, SHARE_KIB),
    };
    let arguments = ["echo", "127.0.0.1:0,rcvbuf=4096,sndbuf=4096", "--handshake-timeout=1h"];
    let server = serve_tls(&trust.here(), &arguments);
    // What it needs once, it has after the first.
    drop(shaken(trust, &server).await);
    let before = settled(&server, 0).await;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(make(&server).await);
    }
    let each = (settled(&server, before + least).await - before) / count;
    println!("{count} x {state}: {each} KiB each");
    assert!(each <= limit, "{state}: {each} KiB each");
}

type Stream = Pin<Box<dyn Both>>;
trait Both: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Both for T {}

/// A conversation that has begun; the flag has it keep the last byte of each record to itself.
async fn shaken(trust: &Authority, server: &Server) -> (Stream, Arc<AtomicBool>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(BUFFER_BYTES).unwrap();
    let socket = socket.connect(server.tcp()).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let tls = ClientTls::ca(&trust.ca).unwrap();
    let is_short = Arc::new(AtomicBool::new(false));
    let short = Short { socket, is_short: Arc::clone(&is_short) };
    let stream = tls.connect(short, "localhost", "the server", DEADLINE).await.unwrap();
    let mut stream: Stream = Box::pin(stream);
    stream.write_all(b"hello\n").await.unwrap();
    stream.flush().await.unwrap();
    stream.read_exact(&mut [0; 6]).await.unwrap();
    (stream, is_short)
}

/// A socket that may keep the last byte of each write to itself.
struct Short {
    socket: TcpStream,
    is_short: Arc<AtomicBool>,
}

impl AsyncRead for Short {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Short {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let kept = usize::from(self.is_short.load(Relaxed));
        let written = Pin::new(&mut self.socket).poll_write(cx, &buf[..buf.len() - kept]);
        written.map_ok(|bytes| bytes + kept)
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[test]
fn no_peer_costs_more_memory_than_is_said_in_whatever_state_it_stays() {
    let trust = Authority::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mute = async |server: &Server| client(server.tcp());
        cost(&trust, 400, "nothing said", mute).await;
        let greeting = async |server: &Server| {
            let mut peer = client(server.tcp());
            // A record of 16 KiB with a client's greeting of as much, which does not come whole.
            peer.write_all(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03").unwrap();
            peer.write_all(&[b'x'; 16_000]).unwrap();
            peer
        };
        cost(&trust, 400, "half a greeting", greeting).await;
        let idle = async |server: &Server| shaken(&trust, server).await;
        cost(&trust, 200, "idle", idle).await;
        let record = async |server: &Server| {
            let (mut stream, is_short) = shaken(&trust, server).await;
            is_short.store(true, Relaxed);
            stream.write_all(&vec![b'x'; 16_000]).await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        cost(&trust, 200, "half a record", record).await;
        let unread = async |server: &Server| {
            let (mut stream, _) = shaken(&trust, server).await;
            let piece = vec![b'x'; 16_000];
            // So much is taken, however late: with less the server goes on reading.
            stream.write_all(&vec![b'x'; UNSENT_KIB << 10]).await.unwrap();
            // Then until nothing is taken any more.
            let soon = Duration::from_millis(20);
            while tokio::time::timeout(soon, stream.write_all(&piece)).await.is_ok() {}
            stream
        };
        cost(&trust, 100, "unread answers", unread).await;
    });
}
