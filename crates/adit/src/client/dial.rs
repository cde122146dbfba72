//! Dial: from an address to a connection; all addresses of a name are raced.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use adit_net::connect::{self, Source};
use adit_net::datagram::DatagramSocket;
use adit_net::stream::Options;
use adit_proto::address::{Place, Role as AddressRole};
use adit_proto::race::ATTEMPT_DELAY;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::datagrams::Datagrams;
use super::lookup::{Target, cannot_connect, is_without_port, lookup};
use super::time_wait::TimeWait;
use crate::conn::{Io, Wire};
use crate::endpoint::{Endpoint, Place as EndpointPlace, Transport};
use crate::event::{Call, Role, What};
use crate::listen::{ToAddress, bad_address, socket_options, unix_name, unix_place, usage};
use crate::observe::{self, Observer, Observers};
use crate::tls::Handshakes;
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
    /// Are addresses of this host's own link left out where a name leads to them?
    pub(super) shuns_link: bool,
    /// Is it looked up who listens nearby when nobody listens there?
    explains: bool,
    pub(super) stall: Limit<Duration>,
    handshakes: Handshakes,
    handshake: Limit<Duration>,
    observers: Observers,
    /// Number of the last connection; clones count together.
    numbers: Arc<AtomicU64>,
    time_wait: Arc<TimeWait>,
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
            shuns_link: false,
            explains: true,
            stall: Limit::At(Duration::from_secs(120)),
            handshakes: Handshakes::default(),
            handshake: Limit::At(Duration::from_secs(10)),
            observers: Observers::default(),
            numbers: Arc::default(),
            time_wait: Arc::default(),
        }
    }

    /// Whom to trust at `tls://` addresses that do not say it themselves; without it the authorities of
    /// this system.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: crate::tls::ClientTls) -> Self {
        self.handshakes = Handshakes::of(tls);
        self
    }

    /// Time for the TLS handshake, after [`timeout`](Self::timeout); 10 s unless said.
    #[must_use]
    pub fn handshake(mut self, limit: Limit<Duration>) -> Self {
        self.handshake = limit;
        self
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

    /// Tells an observer what happens: the calls, the bytes, the ends of each direction. The
    /// connections of this dial and its clones are numbered from 1.
    ///
    /// Why a conversation as a whole began or ended is known to the caller alone: there are no
    /// [`Open`](crate::What::Open) and [`Close`](crate::What::Close) among the events.
    #[must_use]
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = Observers::new(vec![Box::new(observer)], Role::Client);
        self
    }

    /// Tells the observers of a server instead: the connections belong to its conversation.
    pub(crate) fn for_conversation(mut self, number: u64, observers: &Observers) -> Self {
        self.observers = observers.as_client();
        self.numbers = Arc::new(AtomicU64::new(number - 1));
        self.unexplained()
    }

    /// Follows no name to this host's own link: for connections that others ask for.
    pub(crate) fn shunning_link(self) -> Self {
        Self { shuns_link: true, ..self }
    }

    /// Does without hints. To find who listens nearby every socket of the host is looked at, which takes
    /// its thread tens of milliseconds where there are ten thousand: too much for whoever tries again and
    /// again, or for one conversation after the other, and nobody reads it there.
    pub(crate) fn unexplained(mut self) -> Self {
        self.explains = false;
        self
    }

    pub(crate) fn stall_limit(&self) -> Limit<Duration> {
        self.stall
    }

    /// What its clones shake hands with, too.
    #[cfg(feature = "tls")]
    pub(crate) fn handshakes(&self) -> Handshakes {
        self.handshakes.clone()
    }

    /// Whether what an address needs of us is there: certificates, authorities.
    pub(crate) fn ready(&self, address: &Address) -> Result<()> {
        self.handshakes.ready(address)
    }

    pub(crate) fn tap(&self) -> (Observers, u64) {
        (self.observers.clone(), self.next_number())
    }

    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed) + 1
    }

    /// Connects to a stream: TCP or Unix.
    ///
    /// The addresses of a name are tried in turn, each 250 ms after the one before unless that has
    /// failed earlier, and the first to answer wins (RFC 8305).
    ///
    /// # Errors
    /// `name`, `refused`, `unreachable`, `connect-timeout` and their like, at a `tls://` address those of
    /// TLS; `usage` for an address that is none or is for datagrams. Nothing has been sent.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    #[doc(alias = "clientSocket")]
    pub async fn connect(&self, address: impl ToAddress) -> Result<Conn> {
        let address = to_connect(&address)?;
        if address.transport.is_datagram() {
            return Err(usage(&format!("{address} is for datagrams: use Dial::datagrams")));
        }
        self.ready(&address)?;
        let (io, ends) = self.in_time(&address, self.open_stream(&address)).await?;
        let io = match address.tls {
            true => self.handshakes.shake(&address, io, self.handshake).await?,
            false => io,
        };
        Ok(Conn::new(Wire::tapped(io, ends, &self.observers)))
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

    async fn open_stream(&self, address: &Address) -> Result<(Io, Ends)> {
        if let Place::Path(_) | Place::Abstract(_) = address.place {
            return self.open_unix(address).await;
        }
        let options = options(address)?;
        let candidates = lookup(address, self).await?;
        let number = self.next_number();
        let won = self.race(&candidates, options, number).await;
        let (stream, peer) = match won {
            Ok(won) => won,
            Err((peer, error)) => return Err(self.not_connected(peer, &error).await),
        };
        // A connection that is broken already refuses options; using it says so.
        drop(adit_net::stream::configure(&stream, self.stall.at()));
        let local = stream.local_addr().ok().map(|local| Endpoint::ip(Transport::Tcp, local));
        let ends = (Endpoint::ip(Transport::Tcp, peer), local, number);
        Ok((Io::tcp(stream), ends))
    }

    async fn not_connected(&self, peer: SocketAddr, error: &io::Error) -> Error {
        let waiting = if is_without_port(error) { self.time_wait.to(peer).await } else { None };
        let spoken = Endpoint::ip(Transport::Tcp, peer).to_string();
        let target = Target::ip(&spoken, Transport::Tcp, peer, self.source);
        cannot_connect(target.explained(self.explains).waiting(waiting), error)
    }

    async fn open_unix(&self, address: &Address) -> Result<(Io, Ends)> {
        let name = unix_name(&address.place);
        let remote = Endpoint::named(Transport::Unix, unix_place(&name));
        let attempt = Attempt::new(self, self.next_number(), remote.clone());
        let connected = connect::unix(&name).await;
        let fd = connected.as_ref().ok().map(AsRawFd::as_raw_fd);
        attempt.made(fd);
        attempt.returned(fd, connected.as_ref().err(), None);
        let spoken = address.spoken();
        let target = Target::unix(&spoken, Transport::Unix, &name);
        let stream = connected.map_err(|error| cannot_connect(target, &error))?;
        let local = Endpoint::named(Transport::Unix, EndpointPlace::Unnamed);
        let ends = (remote, Some(local), attempt.number);
        Ok((Io::unix(stream), ends))
    }

    /// Tries the candidates; an error is that of the first one, which is the one the user means.
    async fn race(
        &self,
        candidates: &[SocketAddr],
        options: Options,
        number: u64,
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
                        let attempt = Attempt::new(self, number, Endpoint::ip(Transport::Tcp, peer));
                        attempts.spawn(async move {
                            (peer, attempt.connect(peer, source, &options).await)
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
            return Ok(Datagrams::new(socket, remote, self.tap()));
        }
        let options = options(address)?;
        let mut failure = None;
        for peer in lookup(address, self).await? {
            let source = self.source.bind_address(peer);
            match DatagramSocket::connected(peer, source, &options) {
                Ok(socket) => {
                    let remote = Endpoint::ip(Transport::Udp, peer);
                    return Ok(Datagrams::new(socket, remote, self.tap()));
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

/// The peer's address, our own, and the number of the connection.
type Ends = (Endpoint, Option<Endpoint>, u64);

/// One try to connect, told to observers.
struct Attempt {
    observers: Observers,
    number: u64,
    peer: Endpoint,
    began: Duration,
}

impl Attempt {
    fn new(dial: &Dial, number: u64, peer: Endpoint) -> Self {
        Self { observers: dial.observers.clone(), number, peer, began: observe::now() }
    }

    async fn connect(
        mut self,
        peer: SocketAddr,
        source: Source,
        options: &Options,
    ) -> io::Result<TcpStream> {
        let socket = connect::socket(peer, source, options)?;
        let fd = Some(socket.as_raw_fd());
        self.made(fd);
        self.began = observe::now();
        let connected = connect::tcp(socket, peer).await;
        let local = connected.as_ref().ok().and_then(|stream| stream.local_addr().ok());
        let local = local.map(|local| Endpoint::ip(Transport::Tcp, local));
        self.returned(fd, connected.as_ref().err(), local.as_ref());
        connected
    }

    fn made(&self, fd: Option<i32>) {
        self.observers.call(Some((self.number, &self.peer)), (Call::Socket, fd), None);
    }

    fn returned(&self, fd: Option<i32>, error: Option<&io::Error>, local: Option<&Endpoint>) {
        let took = Some(observe::now().saturating_sub(self.began));
        self.observers.emit_at(Some(self.began), (self.number, &self.peer), || What::Call {
            call: Call::Connect,
            fd,
            local,
            took,
            code: error.map(crate::code_of),
        });
    }
}

fn to_connect(address: &impl ToAddress) -> Result<Address> {
    let address = address.to_address()?;
    address.check(AddressRole::Connect).map_err(|error| bad_address(&error))?;
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
