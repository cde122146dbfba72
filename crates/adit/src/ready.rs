//! Ready: sockets that somebody else has opened, for ports that outlive a server.

use std::net::UdpSocket;

use adit_net::accept::Listener;

use crate::endpoint::{Endpoint, Place, Transport};
use crate::listen::{DatagramDoor, endpoint_of};

/// A listening socket that somebody else has opened: a TCP or a Unix listener of the standard library.
#[derive(Debug)]
pub struct ReadyListener(pub(crate) Listener);

impl From<std::net::TcpListener> for ReadyListener {
    fn from(listener: std::net::TcpListener) -> Self {
        Self(listener.into())
    }
}

impl From<std::os::unix::net::UnixListener> for ReadyListener {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        Self(listener.into())
    }
}

impl ReadyListener {
    /// Where it listens.
    pub fn endpoint(&self) -> Endpoint {
        endpoint_of(&self.0)
    }
}

/// A bound datagram socket that somebody else has opened: a UDP or a Unix socket of the standard library.
#[derive(Debug)]
pub struct ReadyDatagrams(pub(crate) DatagramDoor);

impl ReadyDatagrams {
    /// Where it receives; without a place if it is bound nowhere.
    pub fn endpoint(&self) -> Endpoint {
        let transport = match self.0 {
            DatagramDoor::Udp(_) => Transport::Udp,
            DatagramDoor::Unix(_) => Transport::UnixDatagram,
        };
        let unnamed = || Endpoint::named(transport, Place::Unnamed);
        self.0.socket().map_or_else(unnamed, |(endpoint, _)| endpoint)
    }
}

impl From<UdpSocket> for ReadyDatagrams {
    fn from(socket: UdpSocket) -> Self {
        Self(DatagramDoor::Udp(socket))
    }
}

impl From<std::os::unix::net::UnixDatagram> for ReadyDatagrams {
    fn from(socket: std::os::unix::net::UnixDatagram) -> Self {
        Self(DatagramDoor::Unix(socket))
    }
}
