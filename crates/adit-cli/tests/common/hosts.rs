//! Servers written by hand, in threads: what peers do that no good program does.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, sync_channel};

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

/// Waits until there is something to read, or to accept.
pub(crate) fn is_readable(descriptor: &impl AsFd) -> bool {
    let mut wanted = [PollFd::new(descriptor, PollFlags::IN)];
    let limit = Timespec::try_from(DEADLINE).unwrap();
    poll(&mut wanted, Some(&limit)).unwrap() > 0
}

/// A UDP socket on loopback whose reads end.
pub(crate) fn udp_socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
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
