//! The welcome socket under stress: its queue full, its clients gone, its calls failing.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use super::raise_descriptors;
use crate::common::{DEADLINE, client, read_line, reset, serve, skipped};

/// A connection on its way.
fn begin(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) => assert_eq!(error.raw_os_error(), Some(115), "EINPROGRESS"),
    }
    socket.into()
}

/// Waits until it is connected, for as long as given; true if it is.
fn is_connected(stream: &TcpStream, within: Duration) -> bool {
    let limit = Timespec::try_from(within).unwrap();
    poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&limit)).unwrap() > 0
}

/// Row 23: connections to a server that is stopped.
const QUEUED: usize = 5000;

#[test]
fn row_23_no_byte_is_lost_in_a_queue_that_overflows_and_the_overflow_is_told() {
    // Each end of a connection takes a descriptor; another few are for everything else.
    let count = QUEUED.min(raise_descriptors().saturating_sub(200));
    let server = serve(&["upper", "127.0.0.1:0", "--max-conns=off", "--json"]);
    server.program.signal(Signal::STOP);
    let mut peers: Vec<_> = (0..count).map(|_| begin(server.tcp())).collect();
    let mut said = vec![false; count];
    let mut say = |number: usize, peer: &mut TcpStream| {
        // A client in the queue can write already.
        if !std::mem::replace(&mut said[number], true) {
            writeln!(peer, "client {number}").unwrap();
        }
    };
    for (number, peer) in peers.iter_mut().enumerate() {
        if is_connected(peer, Duration::ZERO) {
            say(number, peer);
        }
    }
    server.program.signal(Signal::CONT);
    for (number, mut peer) in peers.into_iter().enumerate() {
        assert!(is_connected(&peer, DEADLINE), "client {number} of {count}");
        say(number, &mut peer);
        peer.set_nonblocking(false).unwrap();
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(read_line(&mut peer), format!("CLIENT {number}\n"));
    }
    let ran = server.stop();
    assert_eq!(ran.status, 0, "{}", ran.err.lines().last().unwrap_or_default());
    let backlog = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let backlog = backlog.trim().parse::<usize>().unwrap().min(4096);
    if count > backlog + 1 {
        let told = format!("\"name\":\"accept-queue\",\"value\":{backlog},\"action\":\"drop\"");
        assert!(ran.err.contains(&told), "not told");
    } else {
        skipped("too few descriptors to overflow the queue");
    }
}

#[test]
fn row_24_clients_that_reset_before_they_are_accepted_hurt_nobody() {
    let server = serve(&["upper", "127.0.0.1:0"]);
    server.program.signal(Signal::STOP);
    for number in 0..50 {
        let mut peer = client(server.tcp());
        if number % 2 == 0 {
            peer.write_all(b"never read\n").unwrap();
        }
        reset(peer);
    }
    let mut next = client(server.tcp());
    next.write_all(b"and the next?\n").unwrap();
    server.program.signal(Signal::CONT);
    assert_eq!(read_line(&mut next), "AND THE NEXT?\n");
    drop(next);
    let ran = server.stop();
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(!ran.err.contains("panic"), "{}", ran.err);
}
