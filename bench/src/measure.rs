//! Clients with plain sockets, and what becomes of many measurements.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// Longest time a single step may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// A connection whose reads and writes end.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    bounded(TcpStream::connect(address).unwrap())
}

/// A connection from an address of loopback.
pub(crate) fn connect_from(own: IpAddr, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(own, 0).into())?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

/// A connection that does not wait, and whose kernel takes little for it.
pub(crate) fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_send_buffer_size(16 << 10).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A line there, and as many bytes back.
pub(crate) fn ask(stream: &mut TcpStream, line: &[u8]) {
    let mut answer = [0; 64];
    stream.write_all(line).unwrap();
    stream.read_exact(&mut answer[..line.len()]).unwrap();
}

/// Times that were measured.
#[derive(Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn percentile(&mut self, percent: usize) -> Duration {
        self.0.sort();
        self.0.get(self.0.len() * percent / 100).copied().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
