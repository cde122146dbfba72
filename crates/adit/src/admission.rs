//! Admission: who is let in, and what becomes of who is not. Decided before a conversation begins.
//!
//! Turning somebody away is what a server does most when it is under attack, so it has to cost less than
//! coming: no conversation, no number, no handler, no line of a log for each. It is counted, and told
//! once per interval. The connection is closed so that the peer reads an end, for a few at a time; the
//! others are closed at once.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adit_net::accept::Accepted;
use adit_proto::access::{AccessList, Network};
use adit_proto::sources::{Excess, Fault, Source, Sources};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::conn::Socket;
use crate::event::{Action, What};
use crate::linger::{self, LingerLimits};
use crate::observe::{self, Observers};
use crate::transport::Transport;
use crate::worker::{Shared, Worker};
use crate::{Code, Endpoint, Limit, Limits};

/// Shortest time between two events about the same reason.
pub(crate) const TELL_EVERY: Duration = Duration::from_secs(6);

/// Who may come, by address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Invited {
    pub(crate) access: Option<Arc<AccessList>>,
    /// Where proxies are; everybody has to come through one of them.
    pub(crate) proxies: Option<Vec<Network>>,
}

/// Decides for all threads of a server.
pub(crate) struct Admission {
    /// What threads begin with; each has its own, so that nobody who comes waits for a lock.
    pub(crate) access: Option<Arc<AccessList>>,
    proxies: Option<AccessList>,
    /// None if sources are not counted at all.
    sources: Option<Mutex<Sources>>,
    exempt_loopback: bool,
    turn_away: Arc<Semaphore>,
    tallies: Mutex<[Tally; Refusal::KINDS]>,
}

/// Why somebody is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The access list says no.
    Access,
    /// It comes from no proxy that is trusted.
    Direct,
    /// There are as many conversations as may be.
    Full(usize),
    /// There are as many conversations as may be, and it had not begun one when somebody else came.
    Shed(usize),
    /// The thread is late for its work by more than so many milliseconds.
    Busy(u64),
    /// So many descriptors are in use.
    Descriptors(u64),
    /// Its source has too much.
    Source(Excess),
    /// It does not begin with a PROXY header.
    Header,
    /// Its PROXY header took too long, of this many milliseconds.
    Late(u64),
    /// The TLS handshake has failed.
    Handshake(Code),
}

impl Refusal {
    const KINDS: usize = 15;

    /// Name and value of the limit, as events tell them, and the place among the tallies.
    fn limit(self) -> (&'static str, u64, usize) {
        match self {
            Self::Access => ("access", 0, 0),
            Self::Direct => ("proxy-from", 0, 1),
            Self::Full(most) => ("conversations", most as u64, 2),
            Self::Source(Excess::Open(most)) => ("per-source", most as u64, 3),
            Self::Source(Excess::Rate(rate)) => ("conn-rate", rate.per_second.into(), 4),
            Self::Source(_) => ("penalty", 0, 5),
            Self::Header => ("proxy-header", 0, 6),
            Self::Late(limit_ms) => ("handshake-timeout", limit_ms, 7),
            // What people look for has a place of its own.
            Self::Handshake(Code::TlsPlainPeer) => ("tls-handshake", 0, 8),
            Self::Handshake(Code::TlsClientCertificate) => ("tls-handshake", 0, 9),
            Self::Handshake(Code::HandshakeTimeout) => ("tls-handshake", 0, 10),
            Self::Handshake(_) => ("tls-handshake", 0, 11),
            Self::Shed(most) => ("conversations", most as u64, 12),
            Self::Busy(limit_ms) => ("lag", limit_ms, 13),
            Self::Descriptors(most) => ("descriptors", most, 14),
        }
    }

    pub(crate) fn code(self) -> Code {
        match self {
            Self::Access | Self::Direct => Code::NotAllowed,
            Self::Shed(_) => Code::Shed,
            Self::Full(_) | Self::Busy(_) | Self::Descriptors(_) => Code::Full,
            Self::Source(_) => Code::RateLimited,
            Self::Header => Code::BadProxyHeader,
            Self::Late(_) => Code::HandshakeTimeout,
            Self::Handshake(code) => code,
        }
    }
}

/// Who was turned away for one reason and has not been told of yet.
#[derive(Default)]
struct Tally {
    count: u64,
    latest: Option<(Refusal, Endpoint)>,
    told: Option<Instant>,
    /// Somebody will tell at the end of the interval.
    is_due: bool,
}

/// The place that a connection takes among those of its source; given back when it is dropped.
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    source: Source,
}

impl Ticket {
    /// Notes what the peer did that is not done.
    pub(crate) fn fault(&self, fault: Fault) {
        if let Some(mut sources) = self.shared.admission.sources() {
            sources.fault(self.source, fault, observe::now());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(mut sources) = self.shared.admission.sources() {
            sources.leave(self.source, observe::now());
        }
    }
}

impl Admission {
    pub(crate) fn new(limits: &Limits, invited: Invited) -> Self {
        let counts = limits.per_source != Limit::Off || limits.conn_rate != Limit::Off;
        let sources = || Mutex::new(Sources::new(limits.per_source, limits.conn_rate));
        Self {
            access: invited.access,
            proxies: invited.proxies.map(AccessList::allow_only),
            sources: counts.then(sources),
            exempt_loopback: limits.exempt_loopback,
            turn_away: Arc::new(Semaphore::new(limits.turn_away.min(Semaphore::MAX_PERMITS))),
            tallies: Mutex::default(),
        }
    }

    /// Does every connection begin with a PROXY header?
    pub(crate) fn wants_header(&self) -> bool {
        self.proxies.is_some()
    }

    /// May this address send a PROXY header? A Unix socket has none: its file says who may.
    pub(crate) fn trusts(&self, remote: &Endpoint) -> Result<(), Refusal> {
        match (&self.proxies, remote.socket_addr()) {
            (Some(proxies), Some(address)) if !proxies.allows(address.ip()) => Err(Refusal::Direct),
            _ => Ok(()),
        }
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt_loopback && address.to_canonical().is_loopback()
    }

    /// Held for a look and a change, never across an await.
    fn sources(&self) -> Option<MutexGuard<'_, Sources>> {
        let sources = self.sources.as_ref()?;
        Some(sources.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tallies(&self) -> MutexGuard<'_, [Tally; Refusal::KINDS]> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of everybody who has not been told of.
    pub(crate) fn tell_rest(&self, observers: &Observers) {
        for kind in 0..Refusal::KINDS {
            self.tell(kind, observers, Duration::ZERO);
        }
    }

    /// Tells what there is to tell for one reason, unless that was done within `every`.
    fn tell(&self, kind: usize, observers: &Observers, every: Duration) {
        let told = {
            let tally = &mut self.tallies()[kind];
            if tally.told.is_some_and(|told| told.elapsed() < every) {
                return;
            }
            tally.is_due = false;
            let count = std::mem::take(&mut tally.count);
            tally.latest.take().filter(|_| count > 0).map(|latest| {
                tally.told = Some(Instant::now());
                (latest, count)
            })
        };
        let Some(((refusal, remote), count)) = told else { return };
        let (name, value, _) = refusal.limit();
        let action = Action::Refuse(refusal.code());
        observers.emit_about(&remote, || What::Limit { name, value, action, count });
    }
}

impl Worker {
    /// May this address come, whatever it has open?
    pub(crate) fn invites(&self, remote: &Endpoint) -> Result<(), Refusal> {
        match (&*self.access.borrow(), remote.socket_addr()) {
            (Some(access), Some(address)) if !access.allows(address.ip()) => Err(Refusal::Access),
            _ => Ok(()),
        }
    }

    /// Lets a connection in; the ticket, if its source is counted, is kept until it is closed.
    pub(crate) fn admit(&self, remote: &Endpoint) -> Result<Option<Ticket>, Refusal> {
        self.admit_through(remote, remote)
    }

    /// The same for a client that a proxy names. Loopback there is that of the proxy's host: it is ours
    /// only if the proxy is here.
    pub(crate) fn admit_through(
        &self,
        client: &Endpoint,
        proxy: &Endpoint,
    ) -> Result<Option<Ticket>, Refusal> {
        self.invites(client)?;
        let admission = &self.shared.admission;
        let address = |end: &Endpoint| end.socket_addr().map(|address| address.ip());
        let is_exempt = |end| address(end).is_none_or(|address| admission.is_exempt(address));
        let Some(address) = address(client) else { return Ok(None) };
        // Whoever is exempt does not wait for the lock either.
        if is_exempt(client) && is_exempt(proxy) {
            return Ok(None);
        }
        let Some(mut sources) = admission.sources() else { return Ok(None) };
        let source = Source::of(address);
        sources.arrive(source, observe::now()).map_err(Refusal::Source)?;
        Ok(Some(Ticket { shared: Arc::clone(&self.shared), source }))
    }

    /// Counts somebody who is turned away, and tells of it: now, or at the end of the interval.
    pub(crate) fn refuse(self: &Rc<Self>, refusal: Refusal, remote: &Endpoint) {
        self.refuse_saying(refusal, remote, None);
    }

    /// The same with a sentence and where it happened; that is told alone, where it is told now.
    pub(crate) fn refuse_saying(
        self: &Rc<Self>,
        refusal: Refusal,
        remote: &Endpoint,
        said: Option<(&str, &'static str)>,
    ) {
        self.context.totals.refuse();
        if !self.context.observers.is_watched() {
            return;
        }
        let (_, _, kind) = refusal.limit();
        let wait_until = {
            let tally = &mut self.shared.admission.tallies()[kind];
            tally.count += 1;
            tally.latest = Some((refusal, remote.clone()));
            let next = tally.told.map(|told| told + TELL_EVERY);
            let next = next.filter(|next| *next > Instant::now());
            if next.is_none() && said.is_some() {
                (tally.count, tally.latest, tally.told) =
                    (tally.count - 1, None, Some(Instant::now()));
            }
            if next.is_some() && std::mem::replace(&mut tally.is_due, true) {
                return;
            }
            next
        };
        let Some(at) = wait_until else {
            if let Some((text, place)) = said {
                let what = || What::Error { code: refusal.code(), text, place, fatal: false };
                self.context.observers.emit_about(remote, what);
            } else {
                self.shared.admission.tell(kind, &self.context.observers, TELL_EVERY);
            }
            return;
        };
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            sleep_until(at).await;
            worker.shared.admission.tell(kind, &worker.context.observers, TELL_EVERY);
        });
    }

    /// Closes a connection that is not let in, by the same close path, with next to no budget; at once if
    /// as many are being closed as may.
    pub(crate) fn turn_away(self: &Rc<Self>, accepted: Accepted) {
        // Without a place nothing is made of it.
        if self.shared.admission.turn_away.available_permits() > 0
            && let Ok(socket) = Socket::watch(accepted)
        {
            self.turn_away_socket(socket);
        }
    }

    /// The same for one that is watched already.
    pub(crate) fn turn_away_socket(self: &Rc<Self>, mut socket: Socket) {
        let turn_away = Arc::clone(&self.shared.admission.turn_away);
        let Ok(permit) = turn_away.try_acquire_owned() else {
            return;
        };
        let unclosed = Unclosed::new(&self.shared);
        tokio::task::spawn_local(async move {
            close_refused(&mut socket).await;
            drop((permit, unclosed));
        });
    }
}

/// The close path of a connection that nobody wants.
pub(crate) async fn close_refused<T: Transport>(io: &mut T) {
    let limits = LingerLimits::for_refusal();
    if linger::finish(io, limits).await.is_ok() {
        linger::linger(io, limits).await;
    }
}

/// A socket that is no conversation, and for whose close a drain waits all the same.
pub(crate) struct Unclosed(Arc<Shared>);

impl Unclosed {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.unclosed.fetch_add(1, Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Unclosed {
    fn drop(&mut self) {
        if self.0.unclosed.fetch_sub(1, Release) == 1 {
            self.0.idle.notify_waiters();
        }
        self.0.descriptors.notify_waiters();
    }
}
