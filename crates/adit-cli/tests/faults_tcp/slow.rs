//! Peers that are slow: that do not read, or never finish what they say.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use adit::prelude::*;
use socket2::{Domain, Socket, Type};

use super::{SLACK, anonymous_bytes, descriptors, press, wait_until};
use crate::common::{bounded, client, read_line, serve};

/// A client whose kernel takes little for it.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_send_buffer_size(16 << 10).unwrap();
    socket.connect(&address.into()).unwrap();
    bounded(socket.into())
}

/// Row 1: user memory for a client that sends and never reads.
const STALLED_BYTES_MAX: u64 = 256 << 10;
/// Row 1: how long it may stall, and within how many times that it is closed.
const STALL: Duration = Duration::from_secs(4);
const CLOSED_WITHIN: u32 = 2;

#[test]
fn row_01_a_client_that_never_reads_costs_bounded_memory_and_is_closed() {
    const STALLED: usize = 200;
    let server = serve(&["upper", "127.0.0.1:0,rcvbuf=8192", "--stall=4s"]);
    let (address, pid) = (server.tcp(), server.program.id());
    let mut good = client(address);
    good.write_all(b"before\n").unwrap();
    assert_eq!(read_line(&mut good), "BEFORE\n");
    let (before, open) = (anonymous_bytes(pid), descriptors(pid));
    let piece = vec![b'x'; 64 << 10];
    let mut stalled: Vec<_> = (0..STALLED).map(|_| narrow(address)).collect();
    let mut grown = 0;
    press(&mut stalled, &piece, || {
        grown = anonymous_bytes(pid).saturating_sub(before).max(grown);
    });
    assert_eq!(descriptors(pid), open + STALLED, "all at once");
    good.write_all(b"meanwhile\n").unwrap();
    assert_eq!(read_line(&mut good), "MEANWHILE\n");
    let each = grown / STALLED as u64;
    assert!(each <= STALLED_BYTES_MAX, "{each} B for each of {STALLED}");
    let took = wait_until("the close of all", || descriptors(pid) <= open);
    assert!(took <= STALL * CLOSED_WITHIN * SLACK, "{took:?}");
    good.write_all(b"after\n").unwrap();
    assert_eq!(read_line(&mut good), "AFTER\n");
}

/// Row 12: how long after the deadline of their message 99 % are gone.
const LATE: Duration = Duration::from_secs(2);
/// Row 12: how long a good client waits meanwhile.
const GOOD_WITHIN: Duration = Duration::from_secs(1);

#[test]
fn row_12_messages_that_come_byte_by_byte_end_at_their_deadline_and_hold_up_nobody() {
    const SLOW: usize = 500;
    const MESSAGE: Duration = Duration::from_secs(2);
    static GONE: Mutex<Vec<Duration>> = Mutex::new(Vec::new());
    let start = Instant::now();
    let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
    let limits = Limits { message: Limit::At(MESSAGE), ..Limits::default() };
    let server = Server::new(upper)
        .limits(limits)
        .on_event(move |event| {
            if let What::Close { code: Code::MessageTimeout, .. } = event.what {
                GONE.lock().unwrap().push(start.elapsed());
            }
        })
        .listen("tcp://127.0.0.1:0", Lines::new())
        .start()
        .unwrap();
    let address = server.addr(0).socket_addr().unwrap();
    let mut slow: Vec<_> = (0..SLOW).map(|_| client(address)).collect();
    while GONE.lock().unwrap().len() < SLOW {
        for peer in &mut slow {
            // Who is closed already takes nothing more.
            drop(peer.write(b"x"));
        }
        let asked = Instant::now();
        let mut good = client(address);
        good.write_all(b"good\n").unwrap();
        assert_eq!(read_line(&mut good), "GOOD\n");
        let took = asked.elapsed();
        assert!(took <= GOOD_WITHIN * SLACK, "{took:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut gone = GONE.lock().unwrap().clone();
    gone.sort();
    let most = gone[SLOW * 99 / 100 - 1];
    assert!(most >= MESSAGE && most <= MESSAGE + LATE * SLACK, "{most:?}");
}

/// Row 19: what 1,000 lengths that are only declared may cost.
const DECLARED_BYTES_MAX: u64 = 20_000_000;

#[test]
fn row_19_a_declared_length_takes_no_memory_and_ends_the_conversation() {
    use crate::common::Program;
    // In a process of its own, so that nobody else's memory is measured.
    let Some(address) = std::env::var_os("ADIT_TEST_LENGTHS") else {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let name = "slow::row_19_a_declared_length_takes_no_memory_and_ends_the_conversation";
        command.args(["--exact", name, "--nocapture"]).env("ADIT_TEST_LENGTHS", "1");
        let ran = Program::start(&mut command).wait();
        assert_eq!(ran.status, 0, "{} {}", ran.text(), ran.err);
        return;
    };
    drop(address);
    let echo = fast(|msg, out| out.send(msg));
    let server = Server::new(echo).listen("tcp://127.0.0.1:0", Length32).start().unwrap();
    let address = server.addr(0).socket_addr().unwrap();
    let ask = |length: u32| {
        let mut peer = client(address);
        peer.write_all(&length.to_be_bytes()).unwrap();
        // Reset or ended: no answer, and no wait for the rest.
        let mut answer = Vec::new();
        match peer.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        assert_eq!(answer, b"");
    };
    ask(u32::MAX);
    let before = anonymous_bytes(std::process::id());
    let mut grown = 0;
    for number in 0..1000 {
        ask([1 << 31, u32::MAX, (1 << 20) + 1, 1 << 30][number % 4]);
        grown = anonymous_bytes(std::process::id()).saturating_sub(before).max(grown);
    }
    assert!(grown <= DECLARED_BYTES_MAX, "{grown} B");
    wait_until("the close of the last one", || server.stats().failed == 1001);
}
