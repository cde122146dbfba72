//! Servers written by hand, in threads: what peers do that no good program does.

use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::DEADLINE;

/// A server in a thread, and what it makes of its clients.
pub(crate) struct Host<T> {
    pub(crate) address: SocketAddr,
    result: Receiver<T>,
}

impl<T> Host<T> {
    /// Waits until the server has done its part; its panic is the test's.
    pub(crate) fn finish(self) -> T {
        match self.result.recv_timeout(DEADLINE) {
            Ok(result) => result,
            Err(error) => panic!("the test's own server did not finish: {error}"),
        }
    }

    pub(crate) fn place(&self) -> String {
        self.address.to_string()
    }
}

/// Serves on a thread with a listener on a port of its own.
pub(crate) fn host<T: Send + 'static>(
    serve: impl FnOnce(TcpListener) -> T + Send + 'static,
) -> Host<T> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, result) = sync_channel(1);
    std::thread::spawn(move || {
        let result = serve(listener);
        // The test may have ended without asking.
        drop(sender.send(result));
    });
    Host { address, result }
}

/// Serves one connection on a thread.
pub(crate) fn tcp_host<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> Host<T> {
    host(|listener| {
        let stream = accept(&listener);
        drop(listener);
        serve(stream)
    })
}

/// The next connection, in time.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    assert!(is_readable(listener), "nobody connected in time");
    bounded(listener.accept().unwrap().0)
}

/// A stream whose reads and writes end.
pub(crate) fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A connection to a server, whose reads and writes end.
pub(crate) fn client(address: impl ToSocketAddrs) -> TcpStream {
    bounded(TcpStream::connect(address).unwrap())
}

/// The next line with its end, and nothing behind it; less if the stream ends.
pub(crate) fn read_line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') && stream.read(&mut byte).unwrap() > 0 {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// Everything up to the end of the stream.
pub(crate) fn read_to_end(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Ends a connection by a reset.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// A loopback address of the test's own, where no other test's ports are in the way.
pub(crate) fn own_ip() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [high, low] = u16::try_from(std::process::id() & 0x7fff).unwrap().to_be_bytes();
    Ipv4Addr::new(127, high + 1, low, COUNT.fetch_add(1, Relaxed))
}

/// Waits until there is something to read, or to accept.
pub(crate) fn is_readable(descriptor: &impl AsFd) -> bool {
    let mut wanted = [PollFd::new(descriptor, PollFlags::IN)];
    let limit = Timespec::try_from(DEADLINE).unwrap();
    poll(&mut wanted, Some(&limit)).unwrap() > 0
}

/// A UDP socket on loopback whose reads end.
pub(crate) fn udp_socket() -> UdpSocket {
    bounded_udp(UdpSocket::bind("127.0.0.1:0").unwrap())
}

/// A datagram socket whose reads end.
pub(crate) fn bounded_udp(socket: UdpSocket) -> UdpSocket {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// A port on which nobody listens, and nobody will while the value lives: it is bound, not open.
pub(crate) fn no_port() -> (socket2::Socket, SocketAddr) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// Ends our direction of a connection.
pub(crate) fn finish(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}
