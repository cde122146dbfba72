//! Forward: what comes to one address goes on to another, with every end as it is.

mod datagrams;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use crate::admission::Invited;
use crate::event::{Role, What};
use crate::listen::{ToAddress, bad_address, usage};
use crate::listening::Kind;
use crate::observe::{Observer, Observers, Told};
use crate::ready::{ReadyDatagrams, ReadyListener};
use crate::running::Signals;
use crate::service::each;
use crate::stream::stream;
#[cfg(feature = "tls")]
use crate::tls::Handshakes;
use crate::tls::ServerTls;
use crate::worker::descriptors_for_conversations;
use crate::{
    AccessList, Address, Conn, Dial, Endpoint, Event, Limit, Limits, Network, Peer, ProxyVersion,
    Result, Running, Server,
};

/// Descriptors for what is neither a connection nor an I/O thread: standard streams, the runtime of the
/// program, a trace, a name that is looked up.
const DESCRIPTORS_KEPT: usize = 24;

/// Forwards connections, or datagrams, from where it listens to a target.
///
/// Both directions go on by themselves: the half-close of one side is passed on and the other may
/// still answer. A bad end is never turned into a clean one: if one side resets, is silent for too long
/// or cannot be reached, the other side reads a reset (over a Unix socket, which knows none, an end).
/// Bytes that had come before it are passed on first.
///
/// Over datagrams every client has a socket of its own to the target, so that answers find back; the
/// edges of messages are kept, empty ones too. Streams are forwarded to streams, datagrams to
/// datagrams.
///
/// A name is not followed to a link-local address, nor to one where a cloud tells a host its secrets: a
/// target there is written as an address.
///
/// In a drain, connections go on until their ends or the limit: nothing in a stream of bytes says where
/// it would be whole.
///
/// ```
/// # async fn f() -> adit::Result {
/// use adit::prelude::*;
/// let echo = Server::new(fast(|msg, out| out.send(msg)))
///     .listen("tcp://127.0.0.1:0", Lines::new())
///     .start()?;
/// let forward = Forward::to(echo.addr(0))?.listen("tcp://127.0.0.1:0").start()?;
/// let client = Client::connect(forward.addr(0)).await?;
/// assert_eq!(client.call("hello").await?, "hello");
/// # Ok(()) }
/// # tokio::runtime::Runtime::new().unwrap().block_on(f()).unwrap();
/// ```
#[derive(Debug)]
pub struct Forward {
    target: Address,
    dial: Dial,
    addresses: Vec<Result<Address>>,
    listeners: Vec<ReadyListener>,
    sockets: Vec<ReadyDatagrams>,
    limits: Limits,
    invited: Invited,
    tls: Option<ServerTls>,
    proxy_header: Option<ProxyVersion>,
    threads: Option<usize>,
    once: bool,
    observers: Vec<Observing>,
}

/// An observer among the settings.
struct Observing(Box<dyn Observer>);

impl std::fmt::Debug for Observing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

impl Forward {
    /// To this target.
    ///
    /// # Errors
    /// The address is malformed, or nothing can be connected to.
    pub fn to(target: impl ToAddress) -> Result<Self> {
        let target = target.to_address()?;
        target.check(adit_proto::address::Role::Connect).map_err(|error| bad_address(&error))?;
        let stall = Limit::At(Duration::from_secs(300));
        Ok(Self {
            target,
            dial: Dial::new().stall(stall),
            addresses: Vec::new(),
            listeners: Vec::new(),
            sockets: Vec::new(),
            limits: Limits { stall, ..Limits::default() },
            invited: Invited::default(),
            tls: None,
            proxy_header: None,
            threads: None,
            once: false,
            observers: Vec::new(),
        })
    }

    /// Listens here; with several calls, at several places.
    #[must_use]
    pub fn listen(mut self, address: impl ToAddress) -> Self {
        let address = address.to_address().and_then(|address| self.fits(address));
        self.addresses.push(address);
        self
    }

    /// Takes a ready listening socket, whose connections go on to a target of connections.
    #[must_use]
    pub fn listen_on(mut self, listener: impl Into<ReadyListener>) -> Self {
        self.listeners.push(listener.into());
        self
    }

    /// Takes a ready datagram socket, whose datagrams go on to a target of datagrams.
    #[must_use]
    pub fn listen_datagrams_on(mut self, socket: impl Into<ReadyDatagrams>) -> Self {
        self.sockets.push(socket.into());
        self
    }

    fn fits(&self, address: Address) -> Result<Address> {
        if address.transport.is_datagram() == self.target.transport.is_datagram() {
            return Ok(address);
        }
        let what = format!("{address} cannot be forwarded to {}", self.target);
        Err(usage(&what).with_hint("streams go to streams, datagrams to datagrams"))
    }

    /// How to connect to the target.
    #[must_use]
    pub fn dial(mut self, dial: Dial) -> Self {
        self.dial = dial;
        self
    }

    /// Replaces the limits; 300 s without a byte, or without one being taken, are the default here.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The certificate of the addresses that speak TLS; as [`Server::tls`]. Whom to trust at the target says
    /// [`Dial::tls`].
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Lets in only those whom the list allows; as [`Server::access`].
    #[must_use]
    pub fn access(mut self, list: AccessList) -> Self {
        self.invited.access = Some(Arc::new(list));
        self
    }

    /// Has every connection begin with a PROXY header from these networks; as [`Server::proxy_from`].
    #[must_use]
    pub fn proxy_from(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.invited.proxies = Some(networks.into_iter().collect());
        self
    }

    /// Tells the target who the client is: every connection to it begins with a PROXY header. The client
    /// is the one that a header read here has named, if there was one; of a client on a Unix socket the
    /// header says that it is unknown.
    #[must_use]
    pub fn proxy_header(mut self, version: ProxyVersion) -> Self {
        self.proxy_header = Some(version);
        self
    }

    /// Forwards on so many I/O threads, at least 1; the default is one per core.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Takes one connection and closes the doors behind it.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Adds an observer. A conversation has two sockets and one number: events with the role
    /// [`Server`](Role::Server) are those of the socket that faces the client, events with the role
    /// [`Client`](Role::Client) those of the socket that faces the target.
    #[must_use]
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers.push(Observing(Box::new(observer)));
        self
    }

    /// Calls a function for everything that happens; as [`observe`](Self::observe).
    #[must_use]
    pub fn on_event(self, tell: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.observe(Told(tell))
    }

    /// Binds, starts the threads and returns; as [`Server::start`].
    ///
    /// # Errors
    /// An address is malformed, taken or not permitted, or the two do not fit together. Whether the
    /// target is there is not asked before a client comes.
    pub fn start(self) -> Result<Running> {
        self.ready_sockets_fit()?;
        let Self { target, dial, addresses, listeners, sockets, mut limits, .. } = self;
        let Self { invited, tls, proxy_header, threads, once, observers, .. } = self;
        if proxy_header.is_some() && target.transport.is_datagram() {
            return Err(usage(&format!("a PROXY header cannot be sent to {target}"))
                .with_hint("only connections begin with one; leave proxy_header out"));
        }
        dial.ready(&target)?;
        let addresses = addresses.into_iter().collect::<Result<Vec<_>>>()?;
        let list = observers.into_iter().map(|observing| observing.0).collect();
        let observers = Observers::new(list, Role::Server);
        if target.transport.is_datagram() {
            // The target is fixed and asked for nothing of its own: nobody is reached by it who does
            // not answer to the client anyway.
            limits.amplification = Limit::Off;
            // Each peer has a socket of its own to the target: all tables together keep to the descriptors.
            let threads_used = threads.unwrap_or_else(crate::server::threads).max(1);
            let tables = 2 * threads_used * addresses.len().max(1);
            let most = 2 * pairs_of_descriptors(threads_used, addresses.len()) / tables;
            limits.datagram_peers = limits.datagram_peers.min(most.max(1));
            let route = Route { target, dial, proxy_header, observers: observers.clone() };
            let service = each(move |peer: &Peer| datagrams::Flow::new(route.clone(), peer));
            let server = Server::new(service).limits(limits).invited(invited);
            let mut server = settings(server, threads, once, observers);
            for address in addresses {
                server = server.listen_datagrams(address);
            }
            for socket in sockets {
                server = server.listen_datagrams_on(socket);
            }
            return server.start();
        }
        let threads_used = threads.unwrap_or_else(crate::server::threads);
        let most = pairs_of_descriptors(threads_used, addresses.len() + listeners.len());
        let asked = limits.conversations.at();
        limits.conversations = Limit::At(asked.map_or(most, |asked| asked.min(most)));
        #[cfg(feature = "tls")]
        let secured = target.tls.then(|| (target.clone(), dial.handshakes()));
        let route = Arc::new(Route { target, dial, proxy_header, observers: observers.clone() });
        let service = stream(async move |client: Conn| streams::carry(client, &route).await);
        let server = Server::streams(service).limits(limits).invited(invited).secured(tls);
        let mut server = settings(server, threads, once, observers);
        for address in addresses {
            server = server.listen(address);
        }
        for listener in listeners {
            server = server.listen_on(listener);
        }
        let running = server.start()?;
        #[cfg(feature = "tls")]
        let running = running.towards(secured);
        Ok(running)
    }

    fn ready_sockets_fit(&self) -> Result<()> {
        let (fits, kind) = match self.target.transport.is_datagram() {
            true => (self.listeners.is_empty(), "a listening socket of streams"),
            false => (self.sockets.is_empty(), "a socket of datagrams"),
        };
        if fits {
            return Ok(());
        }
        let what = format!("{kind} cannot be forwarded to {}", self.target);
        Err(usage(&what).with_hint("streams go to streams, datagrams to datagrams"))
    }

    /// Starts and runs until a signal; as [`Server::run`].
    ///
    /// # Errors
    /// As [`start`](Self::start), and when a listening socket breaks.
    pub fn run(self) -> Result<()> {
        // With the old limit it forwards fewer, that is all.
        drop(adit_net::descriptors::raise_limit());
        let signals = Signals::hear()?;
        self.start()?.until(signals)
    }
}

#[cfg(feature = "tls")]
impl Running {
    /// Of a [`Forward`]: reads what its target's address names for TLS again, for connections to come: whom to
    /// trust (`ca=`, or the authorities of this system) and our own certificate. Gives the new settings; none
    /// if there was nothing to read: [`Dial::tls`] has read for itself, and a pin needs no file.
    ///
    /// What clients of the forward see is another matter: [`reload_tls`](Self::reload_tls).
    ///
    /// # Errors
    /// A file cannot be read or used. Everything stays as it was.
    pub fn reload_target_tls(&self) -> Result<Option<crate::tls::ClientTls>> {
        self.target.as_ref().map_or(Ok(None), |(target, shake)| shake.reload(target))
    }

    fn towards(mut self, target: Option<(Address, Handshakes)>) -> Self {
        self.target = target;
        self
    }
}

/// Connections that descriptors allow if each takes two. A client that cannot be carried on is reset, so
/// what the threads and the listening sockets take is left out: newcomers wait in the kernel's queue.
fn pairs_of_descriptors(threads: usize, addresses: usize) -> usize {
    // A thread has its poll instances, its waker and its signals; it shares every listening socket, of
    // which an address may have one for each family.
    let own = DESCRIPTORS_KEPT + threads * (4 + 2 * addresses);
    let limit = adit_net::descriptors::limit().map_or(u64::MAX, |limit| limit.soft);
    let left = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(own);
    (left.min(descriptors_for_conversations()) / 2).max(1)
}

fn settings<K: Kind>(
    server: Server<K>,
    threads: Option<usize>,
    once: bool,
    observers: Observers,
) -> Server<K> {
    let server = server.told_by(observers);
    let server = if once { server.once() } else { server };
    match threads {
        Some(threads) => server.threads(threads),
        None => server,
    }
}

/// From a client on to the target.
#[derive(Clone, Debug)]
struct Route {
    target: Address,
    dial: Dial,
    proxy_header: Option<ProxyVersion>,
    observers: Observers,
}

impl Route {
    /// How to connect for a conversation.
    fn dial(&self, number: u64) -> Dial {
        self.dial.clone().shunning_link().for_conversation(number, &self.observers)
    }

    /// Tells what happens on the socket that faces the target.
    fn tell<'a>(&self, number: u64, target: &Endpoint, what: impl FnOnce() -> What<'a>) {
        self.observers.as_client().emit_of(number, target, what);
    }
}
