//! Places: where to serve, by address or by a socket that was passed.

use std::cell::RefCell;

use adit::tls::ServerTls;
use adit::{
    Address, Bytestreams, Codec, Endpoint, Forward, Messages, Server, Service, StreamService,
};

use super::passed::{Ready, Socket};
use crate::complaint::usage;

/// Addresses to bind, and sockets that are bound already.
#[derive(Default)]
pub(crate) struct Places {
    pub(crate) addresses: Vec<Address>,
    /// A socket is served once: whoever opens the places takes them.
    passed: RefCell<Vec<Socket>>,
}

impl Places {
    pub(crate) fn new(addresses: Vec<Address>, passed: Vec<Socket>) -> Self {
        Self { addresses, passed: RefCell::new(passed) }
    }

    /// Has TLS filled in where an address is bound here. A socket that was passed is served as it comes,
    /// and never in the plain where `--tls` asks for TLS.
    pub(crate) fn secured(
        &mut self,
        asks: bool,
        fill: impl FnOnce(&mut [Address]) -> adit::Result<Option<ServerTls>>,
    ) -> adit::Result<Option<ServerTls>> {
        if asks && !self.passed.borrow().is_empty() {
            let what = "--tls: a socket that was passed is served without TLS";
            return Err(usage(what, "put a relay in front: adit forward tls://:443 HOST:PORT"));
        }
        fill(&mut self.addresses)
    }

    /// Those of connections, and those of datagrams.
    pub(crate) fn by_kind(self) -> (Self, Self) {
        let (datagrams, streams) =
            self.addresses.into_iter().partition(|address| address.transport.is_datagram());
        let passed = self.passed.into_inner();
        let (datagrams_passed, streams_passed) = passed.into_iter().partition(Socket::is_datagram);
        (Self::new(streams, streams_passed), Self::new(datagrams, datagrams_passed))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.passed.borrow().is_empty()
    }

    /// The first place as it is spoken of.
    pub(crate) fn first(&self) -> Option<String> {
        let passed = || self.passed.borrow().first().map(|socket| socket.endpoint.to_string());
        self.addresses.first().map(Address::spoken).or_else(passed)
    }

    /// The passed socket that others than users of this machine can reach, as it is spoken of.
    pub(crate) fn open_to_others(&self) -> Option<String> {
        let passed = self.passed.borrow();
        passed.iter().find(|socket| socket.is_open()).map(|socket| socket.endpoint.to_string())
    }

    /// The first passed socket of datagrams, as it is spoken of.
    pub(crate) fn passed_datagrams(&self) -> Option<String> {
        let passed = self.passed.borrow();
        passed.iter().find(|socket| socket.is_datagram()).map(|socket| socket.endpoint.to_string())
    }

    /// Where passed sockets are, and their names.
    pub(crate) fn names(&self) -> Vec<(Endpoint, String)> {
        let passed = self.passed.borrow();
        passed.iter().map(|socket| (socket.endpoint.clone(), socket.name.clone())).collect()
    }

    /// Has a server of messages listen there.
    pub(crate) fn messages<V: Service, C: Codec + Clone + Send>(
        &self,
        mut server: Server<Messages<V>>,
        codec: &C,
    ) -> Server<Messages<V>> {
        for address in &self.addresses {
            server = server.listen(address, codec.clone());
        }
        for socket in self.passed.take() {
            server = match socket.ready {
                Ready::Streams(listener) => server.listen_on(listener, codec.clone()),
                Ready::Datagrams(socket) => server.listen_datagrams_on(socket),
            };
        }
        server
    }

    /// Has a server of raw streams listen there.
    pub(crate) fn streams<S: StreamService>(
        &self,
        mut server: Server<Bytestreams<S>>,
    ) -> Server<Bytestreams<S>> {
        for address in &self.addresses {
            server = server.listen(address);
        }
        for socket in self.passed.take() {
            server = match socket.ready {
                Ready::Streams(listener) => server.listen_on(listener),
                // They were sorted out before.
                Ready::Datagrams(_) => server,
            };
        }
        server
    }

    /// Has a server of datagrams listen there.
    pub(crate) fn datagrams<V: Service>(
        &self,
        mut server: Server<Messages<V>>,
    ) -> Server<Messages<V>> {
        for address in &self.addresses {
            server = server.listen_datagrams(address);
        }
        for socket in self.passed.take() {
            server = match socket.ready {
                Ready::Datagrams(socket) => server.listen_datagrams_on(socket),
                // They were sorted out before.
                Ready::Streams(_) => server,
            };
        }
        server
    }

    /// Has a relay listen there, which looks itself whether they fit to its target.
    pub(crate) fn relay(&self, mut forward: Forward) -> Forward {
        for address in &self.addresses {
            forward = forward.listen(address);
        }
        for socket in self.passed.take() {
            forward = match socket.ready {
                Ready::Streams(listener) => forward.listen_on(listener),
                Ready::Datagrams(socket) => forward.listen_datagrams_on(socket),
            };
        }
        forward
    }
}
