//! Server: what it serves, where it listens, what it may spend.

use std::sync::Arc;

use crate::admission::Invited;
use crate::event::Role;
use crate::handler::Service;
use crate::listen::{Doors, ToAddress};
use crate::listening::{Bytestreams, Conversations, Datagrams, Kind, Listening, Messages, Streams};
use crate::observe::{Observer, Observers};
use crate::ready::{ReadyDatagrams, ReadyListener};
use crate::running::{Bound, Running, Signals};
use crate::stream::StreamService;
use crate::tls::ServerTls;
use crate::{AccessList, Codec, Event, Limit, Limits, Network, Result};

/// A server in the making: what it serves, where it listens, what it may spend.
///
/// ```
/// use adit::prelude::*;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
/// let running = Server::new(upper)
///     .listen("tcp://127.0.0.1:0", Lines::new())
///     .listen_datagrams("udp://127.0.0.1:0")
///     .start()?;
/// println!("listening on {}", running.addr(0));
/// let report = running.drain(std::time::Duration::from_secs(5)).await;
/// assert_eq!(report.cut, 0);
/// # Ok::<(), adit::Error>(()) }).unwrap();
/// ```
pub struct Server<K: Kind> {
    kind: K,
    listeners: Vec<Result<Box<dyn Listening<K::Thread>>>>,
    threads: usize,
    once: bool,
    limits: Limits,
    invited: Invited,
    tls: Option<ServerTls>,
    observers: Vec<Box<dyn Observer>>,
    /// Instead of those: a forward tells of both its sockets through the same ones.
    told: Option<Observers>,
}

impl<V: Service> Server<Messages<V>> {
    /// A server of messages.
    pub fn new(service: V) -> Self {
        Self::of(Messages(service))
    }

    /// Listens for connections: `tcp://127.0.0.1:7000`, `tcp://[::]:7000`, `tcp://:7000` (both
    /// families), `unix:/run/my.sock`. `codec` says where messages begin and end.
    ///
    /// Errors of the address are reported by [`start`](Self::start).
    #[must_use]
    #[doc(alias = "welcomeSocket")]
    #[doc(alias = "bind")]
    #[doc(alias = "accept")]
    pub fn listen<C: Codec + Clone + Send>(mut self, address: impl ToAddress, codec: C) -> Self {
        self.push(Doors::streams(&address), codec);
        self
    }

    /// Takes a ready listening socket, for a port that outlives the process. In a drain, whoever waits in
    /// its queue is left there for the next one.
    #[must_use]
    pub fn listen_on<C: Codec + Clone + Send>(
        mut self,
        listener: impl Into<ReadyListener>,
        codec: C,
    ) -> Self {
        self.push(Ok(Doors::ready(listener.into())), codec);
        self
    }

    /// Receives datagrams: `udp://127.0.0.1:7000`, `unix-dgram:/run/my.sock`. Each datagram is one
    /// message.
    #[must_use]
    #[doc(alias = "serverSocket")]
    pub fn listen_datagrams(mut self, address: impl ToAddress) -> Self {
        self.push_datagrams(Doors::datagrams(&address));
        self
    }

    /// Takes a ready datagram socket, for one that outlives the process. It is served on one I/O thread.
    #[must_use]
    pub fn listen_datagrams_on(mut self, socket: impl Into<ReadyDatagrams>) -> Self {
        self.push_datagrams(Ok(Doors::ready_datagrams(socket.into())));
        self
    }

    fn push_datagrams(&mut self, doors: Result<Doors>) {
        self.listeners.push(doors.map(|doors| {
            let listening: Box<dyn Listening<V::Open>> = Box::new(Datagrams { doors });
            listening
        }));
    }

    fn push<C: Codec + Clone + Send>(&mut self, doors: Result<Doors>, codec: C) {
        self.listeners.push(doors.map(|doors| {
            let listening: Box<dyn Listening<V::Open>> = Box::new(Conversations { doors, codec });
            listening
        }));
    }
}

impl<S: StreamService> Server<Bytestreams<S>> {
    /// A server of raw streams: of a function over them ([`stream()`](crate::stream())), or of a
    /// [`Program`](crate::Program).
    pub fn streams(service: S) -> Self {
        Self::of(Bytestreams(service))
    }

    /// Listens for connections, as [`Server::listen`] of a server of messages does.
    #[must_use]
    pub fn listen(mut self, address: impl ToAddress) -> Self {
        self.push(Doors::streams(&address));
        self
    }

    /// Takes a ready listening socket, as [`Server::listen_on`] of a server of messages does.
    #[must_use]
    pub fn listen_on(mut self, listener: impl Into<ReadyListener>) -> Self {
        self.push(Ok(Doors::ready(listener.into())));
        self
    }

    fn push(&mut self, doors: Result<Doors>) {
        self.listeners.push(doors.map(|doors| {
            let listening: Box<dyn Listening<S>> = Box::new(Streams { doors });
            listening
        }));
    }
}

impl<K: Kind> Server<K> {
    fn of(kind: K) -> Self {
        let (listeners, observers) = (Vec::new(), Vec::new());
        let (threads, limits) = (threads(), Limits::default());
        let invited = Invited::default();
        let (tls, told) = (None, None);
        Self { kind, listeners, threads, once: false, limits, invited, tls, observers, told }
    }

    /// Serves on so many I/O threads, at least 1; the default is one per core.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Takes one connection and closes the doors behind it: whoever comes next is refused. Datagram
    /// sockets go on.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Replaces the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Lets in only those whom the list allows; the others are turned away with `not-allowed`, before a
    /// conversation begins, and of a datagram nothing is answered. Unix sockets are not asked for: who
    /// may connect to one, its file says.
    ///
    /// ```
    /// use adit::{AccessList, prelude::*};
    /// let office = AccessList::allow_only(["10.0.0.0/8".parse().unwrap()]);
    /// let server = Server::new(fast(|msg, out| out.send(msg))).access(office);
    /// ```
    #[must_use]
    pub fn access(mut self, list: AccessList) -> Self {
        self.invited.access = Some(Arc::new(list));
        self
    }

    /// Has every connection begin with a PROXY header (version 1 or 2), as balancers send it, from these
    /// networks; nobody else may connect, but through a Unix socket. [`Peer::remote`](crate::Peer) is
    /// then the client that the header names, for the access list and the limits of a source too, and
    /// [`Peer::via`](crate::Peer::via) the proxy. A connection of the proxy itself (LOCAL), as it makes them
    /// to see whether the server is there, keeps its own address and is let in: neither the access list nor
    /// the limits of a source are asked about it. Somebody whom the header does not name (UNKNOWN, of which
    /// version 1 makes no difference to LOCAL) has the proxy's address too, but they are asked.
    ///
    /// The header has `limits.handshake` to come; without a right one the connection is closed with
    /// `bad-proxy-header`.
    ///
    /// ```
    /// use adit::prelude::*;
    /// let balancers = ["10.0.0.0/24".parse().unwrap()];
    /// let server = Server::new(fast(|msg, out| out.send(msg))).proxy_from(balancers);
    /// ```
    #[must_use]
    pub fn proxy_from(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.invited.proxies = Some(networks.into_iter().collect());
        self
    }

    /// The certificate of the addresses that speak TLS, and whom they let in; an address with settings of
    /// its own, as `tls://:443,cert=FILE`, keeps those.
    ///
    /// The handshake is no part of a conversation: it has `limits.handshake`, with a PROXY header before
    /// it in total, and takes one of `limits.conversations`. One that fails is told as an error and counts
    /// against its source; who leaves without a byte has only looked whether the port is open. A peer that
    /// speaks no TLS is reset, as nobody has taken what it said; over HTTP it is answered.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    pub(crate) fn secured(mut self, tls: Option<ServerTls>) -> Self {
        self.tls = tls;
        self
    }

    pub(crate) fn invited(mut self, invited: Invited) -> Self {
        self.invited = invited;
        self
    }

    /// Calls a function for everything that happens; as [`observe`](Self::observe).
    ///
    /// ```
    /// use adit::prelude::*;
    /// let echo = fast(|msg, out| out.send(msg));
    /// let server = Server::new(echo).on_event(|event| {
    ///     if let What::Listen { addr, .. } = event.what {
    ///         println!("listening on {addr}");
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn on_event(self, tell: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.observe(crate::observe::Told(tell))
    }

    pub(crate) fn told_by(mut self, observers: Observers) -> Self {
        self.told = Some(observers);
        self
    }

    /// Adds an observer.
    #[must_use]
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Binds every address, starts the threads and returns; the server then runs beside the caller.
    ///
    /// It owns its threads: it can be started inside a tokio program, and outside of one.
    ///
    /// # Errors
    /// An address is malformed, taken or not permitted, or a thread cannot be started.
    pub fn start(self) -> Result<Running> {
        self.bind()?.start()
    }

    /// Starts the server and runs it until a signal: SIGTERM and SIGHUP drain for up to 30 s, SIGINT
    /// for up to 2 s, a second signal stops at once.
    ///
    /// This is the one function of the library that touches signals. It also raises the soft limit
    /// of file descriptors to the hard one.
    ///
    /// # Errors
    /// As [`start`](Self::start), and when a listening socket breaks.
    pub fn run(self) -> Result<()> {
        // With the old limit the server serves fewer, that is all.
        drop(adit_net::descriptors::raise_limit());
        let bound = self.bind()?;
        // Before the first answer: whoever sees the server at work may tell it to stop.
        let signals = Signals::hear()?;
        bound.start()?.until(signals)
    }

    fn bind(self) -> Result<Bound<K>> {
        let listeners = self.listeners.into_iter().collect::<Result<Vec<_>>>()?;
        self.kind.ready()?;
        let mut limits = self.limits;
        if let Some(max) = self.kind.conversations_max() {
            let max = limits.conversations.at().map_or(max, |conversations| conversations.min(max));
            limits.conversations = Limit::At(max);
        }
        let mut bound = Bound {
            kind: self.kind,
            listeners,
            endpoints: Vec::new(),
            threads: self.threads,
            once: self.once,
            limits: Arc::new(limits),
            invited: self.invited,
            tls: self.tls,
            observers: self.told.unwrap_or_else(|| Observers::new(self.observers, Role::Server)),
        };
        bound.bind()?;
        Ok(bound)
    }
}

/// I/O threads if nothing else was said: one per core.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl<K: Kind> std::fmt::Debug for Server<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("listeners", &self.listeners.len())
            .field("threads", &self.threads)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
