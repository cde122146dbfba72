//! A relay that splits, joins, holds up and breaks streams, at the bytes a seed says.

mod plan;
mod relay;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use adit::{
    AccessList, Blame, Code, Conn, Dial, Error, Limit, Limits, Network, Observer, Result, Running,
    Server, ToAddress, What,
};

pub use plan::{Decision, Mode, Plan, Way};

/// A relay in the making: from where to where, and what it does to what goes through.
///
/// What is decided depends on the seed, the number of the connection and the byte alone, not on how
/// the bytes come in. What is repeated by a seed are decisions, not moments: what the receiver reads at
/// once is up to the system in between.
///
/// ```
/// use adit::prelude::*;
/// use adit_lab::cut::Cut;
///
/// let echo = Server::new(fast(|msg, out| out.send(msg)));
/// let server = echo.listen("tcp://127.0.0.1:0", Lines::new()).start()?;
/// let cut = Cut::to(server.addr(0))?.listen("tcp://127.0.0.1:0").seed(42).start()?;
///
/// let client = BlockingClient::connect(cut.addr(0))?;
/// assert_eq!(client.call("whole").send()?, "whole");
/// # Ok::<(), adit::Error>(())
/// ```
pub struct Cut {
    addresses: Vec<Result<adit::Address>>,
    route: Route,
    limits: Limits,
    access: Option<AccessList>,
    proxies: Option<Vec<Network>>,
    once: bool,
    observers: Vec<TellEvent>,
}

/// Where a connection goes, and what is done to it.
struct Route {
    target: adit::Address,
    dial: Dial,
    seed: u64,
    mode: Mode,
    at: Option<u64>,
    tell: Option<TellDecided>,
}

/// Somebody who is told of decisions.
type TellDecided = Box<dyn Fn(&Decided) + Send + Sync>;
/// Somebody who is told of events.
type TellEvent = Box<dyn Fn(&adit::Event<'_>) + Send + Sync>;

/// A decision that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decided {
    /// The seed that decided.
    pub seed: u64,
    /// Number of the connection, from 1.
    pub connection: u64,
    /// Which way the bytes go.
    pub way: Way,
    /// How many bytes went that way before.
    pub behind: u64,
    /// What was decided.
    pub decision: Decision,
}

impl Cut {
    /// A relay to this target, a TCP or a Unix stream: gentle, with seed 0, on one thread.
    ///
    /// # Errors
    /// The address is none, or is for datagrams.
    pub fn to(target: impl ToAddress) -> Result<Self> {
        let target = target.to_address()?;
        if target.transport.is_datagram() {
            let what = format!("{target} is for datagrams, and only streams are cut");
            return Err(Error::new(Code::Usage, Blame::Caller, what));
        }
        let usual = Limit::At(Duration::from_secs(300));
        let limits = Limits { idle: usual, stall: usual, ..Limits::default() };
        let route = Route {
            target,
            dial: Dial::new(),
            seed: 0,
            mode: Mode::default(),
            at: None,
            tell: None,
        };
        Ok(Self {
            addresses: Vec::new(),
            route,
            limits,
            access: None,
            proxies: None,
            once: false,
            observers: Vec::new(),
        })
    }

    /// Listens for connections; errors of the address are reported by [`start`](Self::start).
    #[must_use]
    pub fn listen(mut self, address: impl ToAddress) -> Self {
        self.addresses.push(address.to_address());
        self
    }

    /// What decides.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.route.seed = seed;
        self
    }

    /// What may be done.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.route.mode = mode;
        self
    }

    /// Cuts each way behind this byte and nowhere else, instead of where the seed says: a split, or
    /// what the mode ends connections by. 0 is in front of the first byte.
    #[must_use]
    pub fn at(mut self, behind: u64) -> Self {
        self.route.at = Some(behind);
        self
    }

    /// How to connect to the target.
    #[must_use]
    pub fn dial(mut self, dial: Dial) -> Self {
        self.route.dial = dial;
        self
    }

    /// Replaces the limits; 300 s without a byte, or without one being taken, are the default here.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Lets in only those whom the list allows; as [`Server::access`].
    #[must_use]
    pub fn access(mut self, list: AccessList) -> Self {
        self.access = Some(list);
        self
    }

    /// Has every connection begin with a PROXY header from these networks; as [`Server::proxy_from`].
    #[must_use]
    pub fn proxy_from(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.proxies = Some(networks.into_iter().collect());
        self
    }

    /// Takes one connection and closes the doors behind it.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Adds an observer of the connections of clients. One that is cut closes with `reset` or
    /// `truncated`, and is no error: [`on_decision`](Self::on_decision) tells of it.
    #[must_use]
    pub fn observe(mut self, observer: impl Observer) -> Self {
        let is_planned = |what: &What<'_>| matches!(what, What::Error { text, .. } if text.starts_with(relay::PLANNED));
        self.observers.push(Box::new(move |event| {
            if !is_planned(&event.what) {
                observer.event(event);
            }
        }));
        self
    }

    /// Calls a function for every decision, when it is carried out; the last one given is called.
    #[must_use]
    pub fn on_decision(mut self, tell: impl Fn(&Decided) + Send + Sync + 'static) -> Self {
        self.route.tell = Some(Box::new(tell));
        self
    }

    /// Binds, starts the thread and returns; as [`Server::start`].
    ///
    /// # Errors
    /// An address is malformed, for datagrams, taken or not permitted. Whether the target is there is
    /// not asked before a client comes.
    pub fn start(self) -> Result<Running> {
        let Self { addresses, route, limits, access, proxies, once, observers } = self;
        let route = Arc::new(route);
        let relay = adit::stream(async move |client: Conn| relay::carry(client, &route).await);
        // One thread, so that connections are numbered as they come.
        let mut server = Server::streams(relay).limits(limits).threads(1);
        for tell in observers {
            server = server.on_event(tell);
        }
        if let Some(access) = access {
            server = server.access(access);
        }
        if let Some(proxies) = proxies {
            server = server.proxy_from(proxies);
        }
        if once {
            server = server.once();
        }
        for address in addresses {
            server = server.listen(address?);
        }
        server.start()
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cut")
            .field("target", &self.route.target)
            .field("seed", &self.route.seed)
            .field("mode", &self.route.mode)
            .field("at", &self.route.at)
            .finish_non_exhaustive()
    }
}
