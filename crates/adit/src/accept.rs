//! The welcome socket: lets clients in, one connection socket each.
//!
//! Every I/O thread accepts from the same listening socket and gives a connection away when it is
//! clearly busier than another thread. A permit is taken first, then a connection: at the limit
//! newcomers wait in the kernel's queue, where they cost nothing. Where they shall not wait, whoever is
//! not let in at all is turned away before a permit is asked for: nobody makes room for him.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use adit_net::accept::{AcceptError, Accepted, Listener, Watched, classify};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use crate::admission::{Refusal, TELL_EVERY};
use crate::budget::Measure;
use crate::event::{Action, What};
use crate::introduction::greet;
use crate::listening::remote_of;
use crate::lobby::{self, Newcomer};
use crate::worker::{Arrival, Mail, Order, Welcome, Worker};
use crate::{Code, Endpoint, WhenFull, listen};

/// Connections taken before other work of the thread has its turn.
const BURST: usize = 16;
/// The same where newcomers do not wait: whoever is not let in shall hear it before the next turn.
const BURST_AT_ONCE: usize = 1024;
/// First and longest pause of a listener when descriptors or memory have run out.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Welcomes clients on one thread until the order to drain, then takes what is queued and returns. Of a
/// socket that outlives the server the queue is left to who serves it next: whoever has only just come
/// would be told that this one ends. The listening socket closes when the last thread has dropped it.
#[doc(alias = "welcomeSocket")]
pub(crate) async fn accept(
    (listener, outlives_us): (Listener, bool),
    index: usize,
    welcome: Rc<dyn Welcome>,
    worker: Rc<Worker>,
) -> io::Result<()> {
    let local = listen::endpoint_of(&listener);
    let listener = listener.watch()?;
    let mut orders = worker.orders();
    let (pause, told) = (Cell::new(PAUSE), Told::default());
    let door = Rc::new(Door { index, local, welcome, worker, pause, told });
    while *orders.borrow_and_update() == Order::Serve {
        let mut ready = tokio::select! {
            biased;
            _ = orders.changed() => continue,
            () = door.worker.shared.shut() => return Ok(()),
            ready = listener.readable() => ready?,
        };
        for _ in 0..door.burst() {
            let Some(permit) = door.permit_first().await else { return Ok(()) };
            match ready.accept().transpose() {
                Some(accepted) => door.take(accepted, permit).await?,
                None => break,
            }
        }
        door.tell_overflow(&listener, TELL_EVERY);
        tokio::task::yield_now().await;
    }
    door.tell_overflow(&listener, Duration::ZERO);
    if outlives_us {
        return Ok(());
    }
    loop {
        let Some(permit) = door.permit_first().await else { return Ok(()) };
        match listener.accept().transpose() {
            Some(accepted) => door.take(accepted, permit).await?,
            None => return Ok(()),
        }
    }
}

/// What has to be known to let a client in.
pub(crate) struct Door {
    index: usize,
    local: Endpoint,
    welcome: Rc<dyn Welcome>,
    pub(crate) worker: Rc<Worker>,
    pause: Cell<Duration>,
    told: Told,
}

/// What observers were told already.
#[derive(Default)]
struct Told {
    full: Cell<bool>,
    /// Who found no room in the kernel's queue, up to when it was last looked at.
    overflow: Cell<(u32, Option<Instant>)>,
    shortage: Cell<Option<Instant>>,
    broken: Cell<Option<Instant>>,
}

impl Door {
    /// Takes the connection in, or deals with the error that accept gave instead.
    async fn take(
        self: &Rc<Self>,
        accepted: io::Result<Accepted>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> io::Result<()> {
        let error = match accepted {
            Ok(accepted) => {
                self.pause.set(PAUSE);
                self.decide(accepted, permit);
                return Ok(());
            }
            Err(error) => error,
        };
        drop(permit);
        match classify(&error) {
            AcceptError::Retry => {}
            AcceptError::ThatConnection => {
                self.tell_now_and_then(&self.told.broken, Code::Reset, &error);
            }
            AcceptError::OutOfDescriptors => self.shortage(Code::NoDescriptors, &error).await,
            AcceptError::OutOfMemory => self.shortage(Code::NoMemory, &error).await,
            _ => {
                self.tell(Code::Internal, &error, true);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Lets the connection in or turns it away.
    fn decide(self: &Rc<Self>, accepted: Accepted, permit: Option<OwnedSemaphorePermit>) {
        let (shared, remote) = (&self.worker.shared, remote_of(&accepted));
        // Behind a proxy it is the header that says who comes.
        let admitted = match shared.admission.wants_header() {
            true => shared.admission.trusts(&remote).map(|()| None),
            false => self.worker.admit(&remote),
        };
        let ticket = match admitted.and_then(|ticket| self.bears(&accepted).map(|()| ticket)) {
            Ok(ticket) => ticket,
            Err(refusal) => return self.turn_away(accepted, &remote, refusal),
        };
        let newcomer = Newcomer { accepted, remote, ticket };
        match permit.or_else(|| Arc::clone(&shared.permits).try_acquire_owned().ok()) {
            Some(permit) => self.let_in(newcomer, permit),
            None => lobby::make_room(self, newcomer),
        }
    }

    /// Lets in who has a place.
    pub(crate) fn let_in(&self, newcomer: Newcomer, permit: OwnedSemaphorePermit) {
        let Newcomer { accepted, ticket, .. } = newcomer;
        let shared = &self.worker.shared;
        if !shared.admission.wants_header() && !self.welcome.is_secured() {
            shared.let_in();
        }
        let (listener, local) = (self.index, self.local.clone());
        self.place(Arrival { listener, accepted, local, permit, ticket, client: None });
    }

    /// Can the server bear one more? Where newcomers wait, that was settled before this one was taken.
    fn bears(&self, accepted: &Accepted) -> Result<(), Refusal> {
        let shared = &self.worker.shared;
        let is_touched = shared.reserve.is_touched(accepted.descriptor());
        if self.waits() {
            return Ok(());
        }
        // Where nobody is here it is others who have them, and they may keep them.
        if is_touched && !shared.is_empty() {
            return Err(Refusal::Descriptors(shared.reserve.mark()));
        }
        let busy = Refusal::Busy(self.worker.lag.limit_ms());
        let is_borne = self.worker.takes_another() || self.idler().is_some();
        is_borne.then_some(()).ok_or(busy)
    }

    pub(crate) fn turn_away(&self, accepted: Accepted, remote: &Endpoint, refusal: Refusal) {
        self.worker.refuse(refusal, remote);
        // The close path takes a turn behind the work that is late already: the end would come later.
        if !matches!(refusal, Refusal::Busy(_)) {
            self.worker.turn_away(accepted);
        }
    }

    /// What has to be there before a connection is taken: a permit where newcomers wait, nothing where
    /// they do not. None if nobody is let in any more.
    async fn permit_first(&self) -> Option<Option<OwnedSemaphorePermit>> {
        self.room().await;
        if !self.waits() {
            return (!self.worker.shared.permits.is_closed()).then_some(None);
        }
        self.worker.be_in_time().await;
        self.worker.spare_descriptors().await;
        self.permit().await.map(Some)
    }

    /// Do newcomers wait where there is no room?
    fn waits(&self) -> bool {
        self.worker.context.limits.when_full == WhenFull::Wait
    }

    fn burst(&self) -> usize {
        if self.waits() { BURST } else { BURST_AT_ONCE }
    }

    /// Waits while the memory of the server is taken: newcomers stay in the kernel's queue.
    async fn room(&self) {
        let budget = &self.worker.shared.budget;
        while budget.is_full() {
            // Made before the look, so that a pulse in between is not missed.
            let eased = budget.eased.notified();
            budget.tell(Measure::Wait, &self.worker.context.observers);
            if budget.is_full() {
                eased.await;
            }
        }
    }

    /// A permit for one more connection; waits at the limit. None if nobody is let in any more.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let permits = &self.worker.shared.permits;
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            self.told.full.set(false);
            return Some(permit);
        }
        if !permits.is_closed() && !self.told.full.replace(true) {
            let value = self.worker.shared.permits_max as u64;
            let name = "conversations";
            let what = || What::Limit { name, value, action: Action::Wait, count: 1 };
            self.worker.context.observers.emit(what);
        }
        Arc::clone(permits).acquire_owned().await.ok()
    }

    /// Gives the connection to this thread, or to the least busy one if this is clearly busier or late.
    fn place(&self, arrival: Arrival) {
        let Some(other) = self.idler() else { return self.keep(arrival) };
        let (shared, mail) = (&self.worker.shared, Mail::Connection(Box::new(arrival)));
        let load = &shared.loads[other];
        load.fetch_add(1, Relaxed);
        let Err(TrySendError::Full(mail) | TrySendError::Closed(mail)) =
            shared.mailboxes[other].try_send(mail)
        else {
            return;
        };
        // That thread is overwhelmed: the connection stays here.
        load.fetch_sub(1, Relaxed);
        if let Mail::Connection(arrival) = mail {
            self.keep(*arrival);
        }
    }

    /// The thread that shall have the next newcomer, if not this one.
    fn idler(&self) -> Option<usize> {
        let shared = &self.worker.shared;
        let limit = self.worker.context.limits.lag.at();
        let threads = shared.pulses.iter().zip(&shared.loads).map(|(pulse, load)| Candidate {
            load: load.load(Relaxed),
            is_on_time: !pulse.is_late(limit),
            takes_all: pulse.takes_all(limit),
        });
        idler(threads, self.worker.index, self.worker.takes_another())
    }

    fn keep(&self, arrival: Arrival) {
        self.worker.arrive();
        greet(&self.worker, &self.welcome, arrival);
    }

    /// Tells how many attempts to connect found no room in the kernel's queue, at most once in `every`.
    /// The threads share the queue: the first one looks.
    fn tell_overflow(&self, listener: &Watched, every: Duration) {
        let (before, looked) = self.told.overflow.get();
        let is_due = looked.is_none_or(|looked| looked.elapsed() >= every);
        if self.worker.index != 0 || !is_due {
            return;
        }
        // A Unix socket lets the client wait, and tells nothing.
        let Ok(overflow) = listener.overflow() else { return };
        self.told.overflow.set((overflow.dropped, Some(Instant::now())));
        let count = u64::from(overflow.dropped.wrapping_sub(before));
        if count > 0 {
            let (name, value) = ("accept-queue", u64::from(overflow.waiting_max));
            let what = || What::Limit { name, value, action: Action::Drop, count };
            self.worker.context.observers.emit(what);
            self.worker.context.totals.overflowed.fetch_add(count, Relaxed);
        }
    }

    /// Descriptors or memory have run out: newcomers stay in the kernel's queue for a moment, or
    /// until a connection of ours has ended. Told only now and then, else it would flood the log.
    async fn shortage(&self, code: Code, error: &io::Error) {
        self.tell_now_and_then(&self.told.shortage, code, error);
        let pause = self.pause.get();
        tokio::select! {
            () = self.worker.shared.descriptors.notified() => self.pause.set(PAUSE),
            () = tokio::time::sleep(pause) => self.pause.set((pause * 2).min(PAUSE_MAX)),
        }
    }

    fn tell_now_and_then(&self, told: &Cell<Option<Instant>>, code: Code, error: &io::Error) {
        if told.get().is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            told.set(Some(Instant::now()));
            self.tell(code, error, false);
        }
    }

    fn tell(&self, code: Code, error: &io::Error, fatal: bool) {
        let text = error.to_string();
        let what = || What::Error { code, text: &text, place: "accept", fatal };
        self.worker.context.observers.emit(what);
    }
}

/// A thread that may be given a newcomer.
struct Candidate {
    load: usize,
    is_on_time: bool,
    takes_all: bool,
}

/// Which of the threads shall have a newcomer in place of this one: the least busy of those that are on time,
/// if this is clearly busier; where this one takes no more, the least busy of those that take as many as come.
fn idler(
    threads: impl Iterator<Item = Candidate>,
    this: usize,
    takes_another: bool,
) -> Option<usize> {
    let mut own = usize::MAX;
    let look = |(number, thread): &(usize, Candidate)| {
        if *number == this {
            own = thread.load;
        }
        *number != this && if takes_another { thread.is_on_time } else { thread.takes_all }
    };
    let others = threads.enumerate().filter(look);
    let (other, Candidate { load, .. }) = others.min_by_key(|(_, thread)| thread.load)?;
    (!takes_another || own > load + 4 + load / 8).then_some(other)
}

#[cfg(test)]
mod tests {
    use super::{Candidate, idler};

    fn of(threads: [(usize, bool, bool); 3], takes_another: bool) -> Option<usize> {
        let candidate = |(load, is_on_time, takes_all)| Candidate { load, is_on_time, takes_all };
        idler(threads.into_iter().map(candidate), 0, takes_another)
    }

    #[test]
    fn a_newcomer_goes_to_the_least_busy_thread_on_time_if_this_one_is_clearly_busier() {
        assert_eq!(of([(5, true, true), (0, true, true), (9, true, true)], true), Some(1));
        assert_eq!(of([(4, true, true), (0, true, true), (9, true, true)], true), None);
        assert_eq!(of([(99, true, true), (0, false, true), (9, true, false)], true), Some(2));
        assert_eq!(of([(99, true, true), (0, false, true), (9, false, true)], true), None);
    }

    #[test]
    fn what_a_late_thread_does_not_take_goes_to_one_that_takes_as_many_as_come() {
        assert_eq!(of([(1, false, false), (7, true, true), (6, true, true)], false), Some(2));
        assert_eq!(of([(1, false, false), (7, true, true), (6, true, false)], false), Some(1));
        assert_eq!(of([(9, false, false), (0, true, false), (0, false, false)], false), None);
    }
}
