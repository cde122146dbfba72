//! What the tests over real sockets share: short ways to talk, always with a deadline.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses its own part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use adit::{Code, Event, Observer, What};

/// Longest time any single step of a test may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A TCP client that gives up after [`DEADLINE`].
pub(crate) fn client(address: &adit::Endpoint) -> TcpStream {
    let stream = TcpStream::connect(address.socket_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends `text` and reads so many lines.
pub(crate) fn ask(stream: &mut TcpStream, text: &str, lines: usize) -> Vec<String> {
    stream.write_all(text.as_bytes()).unwrap();
    read_lines(stream, lines)
}

/// Reads so many lines and nothing behind them; fewer if the stream ends.
pub(crate) fn read_lines(stream: &mut TcpStream, lines: usize) -> Vec<String> {
    let mut read = Vec::new();
    let mut line = Vec::new();
    let mut piece = vec![0; 65_536];
    while read.len() < lines {
        let seen = stream.peek(&mut piece).unwrap();
        let end = piece[..seen].iter().position(|byte| *byte == b'\n');
        let take = end.map_or(seen, |end| end + 1);
        stream.read_exact(&mut piece[..take]).unwrap();
        line.extend_from_slice(&piece[..end.unwrap_or(take)]);
        if end.is_some() || seen == 0 {
            read.push(String::from_utf8(std::mem::take(&mut line)).unwrap());
        }
    }
    read
}

/// Everything up to the end of the stream.
pub(crate) fn read_to_end(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A UDP client that hears only the address it asks.
pub(crate) fn udp_client(address: SocketAddr) -> UdpSocket {
    let any = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Sends a datagram and waits for the answer.
pub(crate) fn ask_udp(socket: &UdpSocket, data: &[u8]) -> Vec<u8> {
    socket.send(data).unwrap();
    let mut answer = vec![0; 65_536];
    let bytes = socket.recv(&mut answer).unwrap();
    answer.truncate(bytes);
    answer
}

/// A line of what happened, as [`Watch`] tells it.
pub(crate) type Told = (Option<u64>, String);

/// An observer that hands events to the test as short lines.
pub(crate) struct Watch(SyncSender<Told>);

/// The test's end of a [`Watch`].
pub(crate) struct Seen(Receiver<Told>);

/// An observer and where its events arrive.
pub(crate) fn watch() -> (Watch, Seen) {
    let (sender, receiver) = sync_channel(100_000);
    (Watch(sender), Seen(receiver))
}

impl Observer for Watch {
    fn event(&self, event: &Event<'_>) {
        let line = match &event.what {
            What::Close { code, bytes_in, bytes_out, .. } => {
                let word =
                    |bytes: &Option<u64>| bytes.map_or("?".into(), |bytes| bytes.to_string());
                format!("close {code} in {} out {}", word(bytes_in), word(bytes_out))
            }
            What::Error { code, text, .. } => format!("error {code} {text}"),
            What::Limit { name, action, count, .. } => {
                format!("limit {name} {} {count}", action.word())
            }
            What::Data { .. } | What::Message { .. } | What::Call { .. } => return,
            what => what.word().to_owned(),
        };
        // A test that has ended does not listen any more.
        drop(self.0.try_send((event.conversation, line)));
    }
}

impl Seen {
    /// Waits for an event whose line starts so.
    pub(crate) fn wait_for(&self, start: &str) -> Told {
        let end = Instant::now() + DEADLINE;
        let mut others = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.0.recv_timeout(left) {
                Ok(told) if told.1.starts_with(start) => return told,
                Ok(told) => others.push(told.1),
                Err(error) => panic!("no \"{start}\" came ({error}), only {others:?}"),
            }
        }
    }

    /// The code with which the next conversation ends.
    pub(crate) fn next_close(&self) -> String {
        let (_, line) = self.wait_for("close");
        line.split(' ').nth(1).unwrap().to_owned()
    }
}

/// The word of a code, for comparison with [`Seen::next_close`].
pub(crate) fn word(code: Code) -> &'static str {
    code.word()
}
