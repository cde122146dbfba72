//! Observers: who is told what happens. Costs nothing when nobody is.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::admission::TELL_EVERY;
use crate::endpoint::Endpoint;
use crate::event::{Call, Event, Role, What};

/// Is told everything that happens in a server or client.
///
/// It is called on the I/O threads, in the middle of the work: it must be quick, and it must not
/// block. Events of one conversation come in order; those of different threads interleave.
///
/// ```
/// use adit::{Event, Observer, What, prelude::*};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// #[derive(Default)]
/// struct CountOpen(AtomicU64);
/// impl Observer for CountOpen {
///     fn event(&self, event: &Event<'_>) {
///         if let What::Open { .. } = event.what {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
/// let server = Server::new(fast(|msg, out| out.send(msg))).observe(CountOpen::default());
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn event(&self, event: &Event<'_>);
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn event(&self, event: &Event<'_>) {
        (**self).event(event);
    }
}

/// A function as an observer.
pub(crate) struct Told<F>(pub(crate) F);

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Observer for Told<F> {
    fn event(&self, event: &Event<'_>) {
        (self.0)(event);
    }
}

/// The clock of all events of this process: whatever its servers and clients tell can be compared.
pub(crate) fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// What is told by several threads, and by all of them together at most every 6 s.
#[derive(Default)]
pub(crate) struct Seldom {
    /// When it was told last, in milliseconds, plus one.
    told: AtomicU64,
}

impl Seldom {
    /// May it be told now? Then it counts as told.
    pub(crate) fn is_due(&self) -> bool {
        let now_ms = u64::try_from(now().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let last = self.told.load(Relaxed);
        let is_due = last == 0 || u128::from(now_ms.saturating_sub(last)) >= TELL_EVERY.as_millis();
        is_due && self.told.compare_exchange(last, now_ms, Relaxed, Relaxed).is_ok()
    }
}

/// The observers of one server or client.
#[derive(Clone)]
pub(crate) struct Observers {
    /// None as long as nobody observes: the whole price is then one test of a pointer.
    list: Option<Arc<[Box<dyn Observer>]>>,
    role: Role,
}

impl Default for Observers {
    fn default() -> Self {
        Self::new(Vec::new(), Role::Server)
    }
}

impl Observers {
    pub(crate) fn new(list: Vec<Box<dyn Observer>>, role: Role) -> Self {
        Self { list: (!list.is_empty()).then(|| list.into()), role }
    }

    /// The same observers, told of the other part of a relay.
    pub(crate) fn as_client(&self) -> Self {
        Self { role: Role::Client, ..self.clone() }
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.list.is_some()
    }

    /// The time, if anybody wants to know: of a call that is about to be made.
    pub(crate) fn time(&self) -> Option<Duration> {
        self.is_watched().then(now)
    }

    /// Tells what concerns the whole server.
    pub(crate) fn emit<'a>(&self, what: impl FnOnce() -> What<'a>) {
        if let Some(list) = &self.list {
            self.tell(list, now(), (None, None), what());
        }
    }

    /// Tells what concerns somebody who is in no conversation.
    pub(crate) fn emit_about<'a>(&self, peer: &Endpoint, what: impl FnOnce() -> What<'a>) {
        if let Some(list) = &self.list {
            self.tell(list, now(), (None, Some(peer)), what());
        }
    }

    /// Tells what concerns one conversation.
    #[inline]
    pub(crate) fn emit_of<'a>(
        &self,
        number: u64,
        peer: &Endpoint,
        what: impl FnOnce() -> What<'a>,
    ) {
        if let Some(list) = &self.list {
            self.tell(list, now(), (Some(number), Some(peer)), what());
        }
    }

    /// Tells what a conversation did at a [`time`](Self::time), which is none if nobody observes.
    #[inline]
    pub(crate) fn emit_at<'a>(
        &self,
        at: Option<Duration>,
        (number, peer): (u64, &Endpoint),
        what: impl FnOnce() -> What<'a>,
    ) {
        if let (Some(list), Some(at)) = (&self.list, at) {
            self.tell(list, at, (Some(number), Some(peer)), what());
        }
    }

    /// Tells of a call that has just returned; nothing if the socket has no descriptor.
    pub(crate) fn call(
        &self,
        of: Option<(u64, &Endpoint)>,
        (call, fd): (Call, Option<i32>),
        local: Option<&Endpoint>,
    ) {
        if let Some(list) = &self.list
            && fd.is_some()
        {
            self.tell(
                list,
                now(),
                of.unzip(),
                What::Call { call, fd, local, took: None, code: None },
            );
        }
    }

    #[cold]
    #[inline(never)]
    fn tell(
        &self,
        list: &[Box<dyn Observer>],
        at: Duration,
        (conversation, peer): (Option<u64>, Option<&Endpoint>),
        what: What<'_>,
    ) {
        let event = Event { at, conversation, peer, role: self.role, what };
        for observer in list {
            observer.event(&event);
        }
    }
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.list.as_ref().map_or(0, |list| list.len());
        f.debug_struct("Observers").field("count", &count).finish_non_exhaustive()
    }
}

/// Numbers the records of one direction.
#[derive(Default)]
pub(crate) struct Sequence(Cell<u64>);

impl Sequence {
    pub(crate) fn next(&self) -> u64 {
        self.0.replace(self.0.get() + 1)
    }
}
