//! A relay between a client and a server, written for the tests: it keeps count, cuts connections, and
//! shows the client to the server under one address after the other.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::common::{accept, bounded};

/// How a connection through the relay is to end.
pub(crate) enum Cut {
    /// Everything is passed on, both ways, until both ends have ended.
    Never,
    /// After so many bytes of the client, in the middle of its sending.
    After(u64),
    /// When the test says so, by an end of stream.
    End(Receiver<()>),
    /// When the test says so, by a reset.
    Reset(Receiver<()>),
}

/// What the relay knows of a connection.
#[derive(Debug)]
pub(crate) struct Passage {
    /// Bytes of the client that have come to the relay.
    pub(crate) came: u64,
    /// Bytes of them that it gave to the server.
    pub(crate) passed: u64,
}

/// A relay in a thread: one connection after the other, each with its own cut.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    thread: JoinHandle<Vec<Passage>>,
    /// The number of each connection, once it is open on both sides.
    pub(crate) opened: Receiver<usize>,
}

/// The address under which the server sees a connection: 127.0.0.2, .3 and .4 in turn.
pub(crate) fn shown_as(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2 + u8::try_from(number % 3).unwrap())
}

impl Relay {
    pub(crate) fn start(server: SocketAddr, cuts: Vec<Cut>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // A small window: at a cut much is still on its way.
        SockRef::from(&listener).set_recv_buffer_size(8192).unwrap();
        let address = listener.local_addr().unwrap();
        let (open, opened) = sync_channel(cuts.len());
        let thread = std::thread::spawn(move || {
            let mut passages = Vec::new();
            for (number, cut) in cuts.into_iter().enumerate() {
                let client = accept(&listener);
                let server = connect_from(shown_as(number), server);
                open.send(number).unwrap();
                passages.push(carry(&client, &server, cut));
            }
            passages
        });
        Self { address, thread, opened }
    }

    /// What it has carried, once the last connection is over.
    pub(crate) fn finish(self) -> Vec<Passage> {
        self.thread.join().unwrap()
    }
}

fn connect_from(source: Ipv4Addr, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    bounded(socket.into())
}

fn carry(client: &TcpStream, server: &TcpStream, cut: Cut) -> Passage {
    std::thread::scope(|scope| {
        let answers = scope.spawn(|| pass_on(server, client, u64::MAX));
        let passage = match cut {
            Cut::Never => whole(client, server),
            Cut::After(bytes) => in_the_middle(client, server, bytes),
            Cut::End(told) => {
                let asked = scope.spawn(|| pass_on(client, server, u64::MAX));
                told.recv().unwrap();
                // Nothing is on its way: the end is all that the client hears.
                client.shutdown(Shutdown::Both).unwrap();
                let bytes = asked.join().unwrap();
                Passage { came: bytes, passed: bytes }
            }
            Cut::Reset(told) => {
                let asked = scope.spawn(|| pass_on(client, server, u64::MAX));
                told.recv().unwrap();
                reset(client);
                let bytes = asked.join().unwrap();
                Passage { came: bytes, passed: bytes }
            }
        };
        // The server has everything that was passed on, in order, and then the end.
        server.shutdown(Shutdown::Write).unwrap();
        answers.join().unwrap();
        passage
    })
}

fn whole(client: &TcpStream, server: &TcpStream) -> Passage {
    let bytes = pass_on(client, server, u64::MAX);
    Passage { came: bytes, passed: bytes }
}

/// Cuts while the client is sending, and counts exactly.
///
/// After `shutdown` in both directions the kernel takes no further byte of the client: it answers data
/// with a reset (`tcp_rcv_state_process`, "BSD 4.4 also does reset"). What it has taken, and perhaps
/// acknowledged, before can still be read; it is counted, and thrown away.
fn in_the_middle(client: &TcpStream, server: &TcpStream, bytes: u64) -> Passage {
    let passed = pass_on(client, server, bytes);
    assert_eq!(passed, bytes, "the client has ended too early");
    client.shutdown(Shutdown::Both).unwrap();
    let thrown_away = pass_on(client, std::io::sink(), u64::MAX);
    Passage { came: passed + thrown_away, passed }
}

/// Passes on up to so many bytes, or up to the end of the source, whichever way that comes.
fn pass_on(mut source: impl Read, mut target: impl Write, bytes: u64) -> u64 {
    let mut passed = 0;
    let mut piece = [0; 4096];
    while passed < bytes {
        let most = usize::try_from(bytes - passed).unwrap_or(usize::MAX).min(piece.len());
        match source.read(&mut piece[..most]) {
            Ok(read @ 1..) if target.write_all(&piece[..read]).is_ok() => passed += read as u64,
            _ => break,
        }
    }
    passed
}

/// Ends a connection by a reset although other threads still use it: it is disconnected, which a close
/// would be only once the last of them has let go (connect(2), `AF_UNSPEC`).
fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    rustix::net::connect_unspec(stream).unwrap();
}
