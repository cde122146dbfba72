//! Dial: from an address to a connection; all addresses of a name are raced.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use adit_net::connect::{self, Source};
use adit_net::datagram::DatagramSocket;
use adit_net::stream::Options;
use adit_proto::address::{Place, Role};
use adit_proto::race::ATTEMPT_DELAY;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::datagrams::Datagrams;
use super::lookup::{Target, cannot_connect, lookup};
use crate::conn::{Io, Wire};
use crate::endpoint::{Endpoint, Place as EndpointPlace, Transport};
use crate::listen::{ToAddress, bad_address, socket_options, unix_name, unix_place, usage};
use crate::{Address, Blame, Code, Conn, Error, Limit, Result};

/// Which IP addresses may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two families")]
pub enum Family {
    /// Either.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// How to connect.
///
/// ```no_run
/// # async fn f() -> adit::Result {
/// use adit::Dial;
/// use std::time::Duration;
/// let dial = Dial::new().timeout(Duration::from_secs(3));
/// let conn = dial.connect("tcp://localhost:7000").await?;
/// println!("connected to {}", conn.remote());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Dial {
    pub(super) timeout: Duration,
    pub(super) family: Family,
    pub(super) source: Source,
    pub(super) numeric_only: bool,
    pub(super) stall: Limit<Duration>,
}

impl Default for Dial {
    fn default() -> Self {
        Self::new()
    }
}

impl Dial {
    /// 10 s for names, addresses and connecting in total; either family; a peer that takes nothing
    /// for 120 s is given up.
    pub fn new() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            family: Family::Any,
            source: Source::default(),
            numeric_only: false,
            stall: Limit::At(Duration::from_secs(120)),
        }
    }

    /// Time for looking up the name and trying all its addresses, in total.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Which addresses may be used.
    #[must_use]
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// Our own address.
    #[must_use]
    pub fn source(mut self, address: IpAddr) -> Self {
        self.source.address = Some(address);
        self
    }

    /// Our own port.
    #[must_use]
    pub fn source_port(mut self, port: u16) -> Self {
        self.source.port = Some(port);
        self
    }

    /// Looks up no names.
    #[must_use]
    pub fn numeric_only(mut self) -> Self {
        self.numeric_only = true;
        self
    }

    /// How long a peer may take nothing, or be silent to the kernel's probes, before the connection
    /// is given up.
    #[must_use]
    pub fn stall(mut self, stall: Limit<Duration>) -> Self {
        self.stall = stall;
        self
    }

    /// Connects to a stream: TCP or Unix.
    ///
    /// The addresses of a name are tried in turn, each 250 ms after the one before unless that has
    /// failed earlier, and the first to answer wins (RFC 8305).
    ///
    /// # Errors
    /// `name`, `refused`, `unreachable`, `connect-timeout` and their like; `usage` for an address
    /// that is none or is for datagrams. Nothing has been sent.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    #[doc(alias = "clientSocket")]
    pub async fn connect(&self, address: impl ToAddress) -> Result<Conn> {
        let address = to_connect(&address)?;
        if address.transport.is_datagram() {
            return Err(usage(&format!("{address} is for datagrams: use Dial::datagrams")));
        }
        self.in_time(&address, self.open_stream(&address)).await
    }

    /// Opens a datagram socket that talks to one peer: UDP or Unix. Nothing is sent by it.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); over UDP nobody is asked yet whether the peer is there.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    pub async fn datagrams(&self, address: impl ToAddress) -> Result<Datagrams> {
        let address = to_connect(&address)?;
        if !address.transport.is_datagram() {
            return Err(usage(&format!("{address} is for connections: use Dial::connect")));
        }
        self.in_time(&address, self.open_datagrams(&address)).await
    }

    async fn in_time<T>(
        &self,
        address: &Address,
        open: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Ok(opened) = timeout_at(deadline(self.timeout), open).await else {
            let what = format!("no answer from {} within {:?}", address.spoken(), self.timeout);
            return Err(Error::new(Code::ConnectTimeout, Blame::Peer, what)
                .with_peer(address.spoken())
                .with_limit("connect-timeout"));
        };
        opened
    }

    async fn open_stream(&self, address: &Address) -> Result<Conn> {
        if let Place::Path(_) | Place::Abstract(_) = address.place {
            let name = unix_name(&address.place);
            let spoken = address.spoken();
            let target = Target::unix(&spoken, Transport::Unix, &name);
            let failed = |error| cannot_connect(target, &error);
            let stream = connect::unix(&name).await.map_err(failed)?;
            let remote = Endpoint::named(Transport::Unix, unix_place(&name));
            let local = Endpoint::named(Transport::Unix, EndpointPlace::Unnamed);
            return Ok(Conn::new(Wire::new(Io::Unix(stream), remote, Some(local))));
        }
        let options = options(address)?;
        let candidates = lookup(address, self).await?;
        let (stream, peer) = self.race(&candidates, options).await.map_err(|(peer, error)| {
            let spoken = Endpoint::ip(Transport::Tcp, peer).to_string();
            cannot_connect(Target::ip(&spoken, Transport::Tcp, peer, self.source), &error)
        })?;
        // A connection that is broken already refuses options; using it says so.
        drop(adit_net::stream::configure(&stream, self.stall.at()));
        let local = stream.local_addr().ok().map(|local| Endpoint::ip(Transport::Tcp, local));
        let remote = Endpoint::ip(Transport::Tcp, peer);
        Ok(Conn::new(Wire::new(Io::Tcp(stream), remote, local)))
    }

    /// Tries the candidates; an error is that of the first one, which is the one the user means.
    async fn race(
        &self,
        candidates: &[SocketAddr],
        options: Options,
    ) -> Result<(TcpStream, SocketAddr), (SocketAddr, io::Error)> {
        let source = self.source;
        let mut attempts = JoinSet::new();
        let mut waiting = candidates.iter().copied();
        let mut failures: Vec<(SocketAddr, io::Error)> = Vec::new();
        let mut next_at = Instant::now();
        loop {
            let is_turn = waiting.len() > 0;
            tokio::select! {
                biased;
                Some(attempt) = attempts.join_next() => {
                    // An attempt neither panics nor is it aborted while the race goes on.
                    let Ok((peer, result)) = attempt else { continue };
                    match result {
                        Ok(stream) => return Ok((stream, peer)),
                        // The next one need not wait for its turn.
                        Err(error) => {
                            failures.push((peer, error));
                            next_at = Instant::now();
                        }
                    }
                }
                () = tokio::time::sleep_until(next_at), if is_turn => {
                    if let Some(peer) = waiting.next() {
                        attempts.spawn(async move {
                            (peer, connect::tcp(peer, source, &options).await)
                        });
                    }
                    next_at = Instant::now() + ATTEMPT_DELAY;
                }
                else => return Err(first_failure(candidates, failures)),
            }
        }
    }

    async fn open_datagrams(&self, address: &Address) -> Result<Datagrams> {
        let spoken = address.spoken();
        if let Place::Path(_) | Place::Abstract(_) = address.place {
            let name = unix_name(&address.place);
            let target = Target::unix(&spoken, Transport::UnixDatagram, &name);
            let failed = |error| cannot_connect(target, &error);
            let socket = DatagramSocket::connected_unix(&name).map_err(failed)?;
            let remote = Endpoint::named(Transport::UnixDatagram, unix_place(&name));
            return Ok(Datagrams::new(socket, remote));
        }
        let options = options(address)?;
        let mut failure = None;
        for peer in lookup(address, self).await? {
            let source = self.source.bind_address(peer);
            match DatagramSocket::connected(peer, source, &options) {
                Ok(socket) => {
                    return Ok(Datagrams::new(socket, Endpoint::ip(Transport::Udp, peer)));
                }
                Err(error) => {
                    let spoken = Endpoint::ip(Transport::Udp, peer).to_string();
                    let target = Target::ip(&spoken, Transport::Udp, peer, self.source);
                    failure.get_or_insert_with(|| cannot_connect(target, &error));
                }
            }
        }
        Err(failure.unwrap_or_else(|| usage(&format!("{spoken} names no address"))))
    }
}

fn to_connect(address: &impl ToAddress) -> Result<Address> {
    let address = address.to_address()?;
    address.check(Role::Connect).map_err(|error| bad_address(&error))?;
    Ok(address)
}

fn options(address: &Address) -> Result<Options> {
    address.keys.options().map(|keys| socket_options(&keys)).map_err(|error| bad_address(&error))
}

fn first_failure(
    candidates: &[SocketAddr],
    mut failures: Vec<(SocketAddr, io::Error)>,
) -> (SocketAddr, io::Error) {
    let order = |peer: &SocketAddr| candidates.iter().position(|candidate| candidate == peer);
    failures.sort_by_key(|(peer, _)| order(peer));
    let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
    failures.into_iter().next().unwrap_or_else(|| (nobody, io::ErrorKind::NotFound.into()))
}

/// A moment in the future, however far.
pub(super) fn deadline(after: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    Instant::now() + after.min(FAR)
}
