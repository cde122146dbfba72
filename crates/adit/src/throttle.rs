//! Throttle: the bytes of a source, each way, no faster than they may go.
//!
//! Only whoever is too fast waits: it is read and written later, which its system notices as a slow
//! peer, and nobody else of the thread does. All conversations of a source have one meter, so that a
//! second connection brings nothing; a meter outlives them until it has nothing to say any more, so that
//! a new connection brings nothing either.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_proto::rate::ByteRate;
use adit_proto::sources::Source;
use tokio::time::{Instant, Sleep, sleep};

use crate::Endpoint;
use crate::event::{Action, Direction, What};
use crate::observe::Observers;

/// What a source has used of its rate, each way.
struct Meter {
    rate: ByteRate,
    began: Instant,
    due: [AtomicU64; 2],
}

impl Meter {
    fn new(rate: ByteRate, began: Instant) -> Self {
        Self { rate, began, due: Default::default() }
    }

    fn due(&self, dir: Direction) -> &AtomicU64 {
        let [input, output] = &self.due;
        match dir {
            Direction::In => input,
            Direction::Out => output,
        }
    }

    fn take(&self, dir: Direction, want: u64) -> Result<u64, Duration> {
        let (now, due) = (self.began.elapsed(), self.due(dir));
        let mut seen = due.load(Relaxed);
        loop {
            let (taken, next) = self.rate.take(seen, now, want)?;
            match due.compare_exchange_weak(seen, next, AcqRel, Relaxed) {
                Ok(_) => return Ok(taken),
                Err(other) => seen = other,
            }
        }
    }

    fn take_whole(&self, dir: Direction, bytes: u64) -> bool {
        let now = self.began.elapsed();
        let next = |due| self.rate.take_whole(due, now, bytes);
        self.due(dir).fetch_update(AcqRel, Relaxed, next).is_ok()
    }

    fn give_back(&self, dir: Direction, bytes: u64) {
        let less = |due| Some(self.rate.give_back(due, bytes));
        // It always has a new value.
        let _given: Result<u64, u64> = self.due(dir).fetch_update(AcqRel, Relaxed, less);
    }

    /// Would a new one say the same?
    fn is_as_new(&self) -> bool {
        let now_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.due.iter().all(|due| due.load(Relaxed) <= now_ns)
    }
}

/// The meters of a server: one for each source that has a conversation, or had one just now.
pub(crate) struct Meters {
    rate: ByteRate,
    began: Instant,
    table: Mutex<Table>,
}

struct Table {
    meters: BTreeMap<Source, Arc<Meter>>,
    /// At so many those that are not needed any more are looked for.
    sweep_at: usize,
}

/// Meters that are never worth a look through all of them.
const SWEEP_MIN: usize = 64;

impl Meters {
    pub(crate) fn new(rate: ByteRate) -> Self {
        let table = Table { meters: BTreeMap::new(), sweep_at: SWEEP_MIN };
        Self { rate, began: Instant::now(), table: Mutex::new(table) }
    }

    /// What a conversation with this peer is slowed by.
    pub(crate) fn throttle(
        &self,
        number: u64,
        remote: &Endpoint,
        observers: &Observers,
    ) -> Throttle {
        let meter = match remote.socket_addr() {
            Some(address) => self.meter(Source::of(address.ip())),
            None => Arc::new(Meter::new(self.rate, self.began)),
        };
        Throttle {
            meter,
            waits: Default::default(),
            is_lifted: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            of: (number, remote.clone(), observers.clone()),
        }
    }

    fn meter(&self, source: Source) -> Arc<Meter> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.meters.len() >= table.sweep_at {
            // Twice as many as are left have to come before the next look: each pays for two.
            table.meters.retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_as_new());
            table.sweep_at = table.meters.len().saturating_mul(2).max(SWEEP_MIN);
        }
        let new = || Arc::new(Meter::new(self.rate, self.began));
        Arc::clone(table.meters.entry(source).or_insert_with(new))
    }
}

/// What one conversation is slowed by: the meter of its source, and its own waits.
pub(crate) struct Throttle {
    meter: Arc<Meter>,
    /// For reading and for writing, which two tasks may do.
    waits: [Mutex<Option<Pin<Box<Sleep>>>>; 2],
    is_lifted: AtomicBool,
    is_told: AtomicBool,
    of: (u64, Endpoint, Observers),
}

impl Throttle {
    /// Takes leave to move up to `want` bytes; gives for how many. What does not go is to be
    /// [given back](Self::give_back).
    pub(crate) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        dir: Direction,
        want: usize,
    ) -> Poll<usize> {
        if self.is_lifted.load(Relaxed) || want == 0 {
            return Poll::Ready(want);
        }
        let [input, output] = &self.waits;
        let wait = match dir {
            Direction::In => input,
            Direction::Out => output,
        };
        let mut wait = wait.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(sleep) = wait.as_mut() {
                ready!(sleep.as_mut().poll(cx));
                *wait = None;
            }
            match self.meter.take(dir, want as u64) {
                Ok(taken) => return Poll::Ready(usize::try_from(taken).unwrap_or(want)),
                Err(early) => {
                    self.tell_once(Action::Slow, 1);
                    *wait = Some(Box::pin(sleep(early)));
                }
            }
        }
    }

    /// Takes leave to move a datagram as a whole.
    pub(crate) fn may_pass(&self, dir: Direction, bytes: usize) -> bool {
        self.meter.take_whole(dir, bytes as u64)
    }

    pub(crate) fn give_back(&self, dir: Direction, bytes: usize) {
        if bytes > 0 && !self.is_lifted.load(Relaxed) {
            self.meter.give_back(dir, bytes as u64);
        }
    }

    /// From now on nothing waits: a close has its own bounds, and must not be cut off by this one.
    pub(crate) fn lift(&self) {
        self.is_lifted.store(true, Relaxed);
    }

    /// The value of the limit, as events tell it.
    pub(crate) fn bytes_per_second(&self) -> u64 {
        self.meter.rate.bytes_per_second
    }

    /// Tells that the limit was met; of each conversation once.
    fn tell_once(&self, action: Action, count: u64) {
        if !self.is_told.swap(true, Relaxed) {
            let (number, remote, observers) = &self.of;
            let (name, value) = ("byte-rate", self.bytes_per_second());
            observers.emit_of(*number, remote, || What::Limit { name, value, action, count });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Meters, SWEEP_MIN};
    use crate::Endpoint;
    use crate::endpoint::Transport;
    use crate::event::Direction;
    use crate::observe::Observers;
    use adit_proto::rate::ByteRate;
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::time::Instant;

    fn from(address: &str) -> Endpoint {
        Endpoint::ip(Transport::Tcp, address.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_waits_for_its_own_bytes_and_for_nobody_elses() {
        let meters = Meters::new(ByteRate::per_second(64_000));
        let of = |address| meters.throttle(1, &from(address), &Observers::default());
        let (first, second) = (of("192.0.2.1:1"), of("192.0.2.1:2"));
        let other = of("192.0.2.2:1");
        let began = Instant::now();
        let mut left: usize = 96_000;
        while left > 0 {
            let taker = if left.is_multiple_of(2_000) { &first } else { &second };
            left -= poll_fn(|cx| taker.poll_take(cx, Direction::Out, left.min(1_000))).await;
        }
        // Half of the second's worth that is there at once, over both connections.
        assert!(began.elapsed() >= Duration::from_millis(499), "{:?}", began.elapsed());
        let began = Instant::now();
        assert_eq!(poll_fn(|cx| other.poll_take(cx, Direction::Out, 64_000)).await, 64_000);
        assert_eq!(poll_fn(|cx| first.poll_take(cx, Direction::In, 64_000)).await, 64_000);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_did_not_go_is_given_back_and_a_close_waits_for_nothing() {
        let meters = Meters::new(ByteRate::per_second(1_000));
        let throttle = meters.throttle(1, &from("[2001:db8::1]:1"), &Observers::default());
        let began = Instant::now();
        for _ in 0..100 {
            let taken = poll_fn(|cx| throttle.poll_take(cx, Direction::In, 1_000)).await;
            throttle.give_back(Direction::In, taken);
        }
        throttle.lift();
        for _ in 0..100 {
            poll_fn(|cx| throttle.poll_take(cx, Direction::In, 1_000)).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_brings_nothing_and_old_meters_are_forgotten() {
        let meters = Meters::new(ByteRate::per_second(1_000));
        let of = |address: &str| meters.throttle(1, &from(address), &Observers::default());
        assert!(of("192.0.2.1:1").may_pass(Direction::In, 1_000));
        assert!(!of("192.0.2.1:2").may_pass(Direction::In, 1));
        tokio::time::sleep(Duration::from_millis(1_001)).await;
        for host in 0..10 * SWEEP_MIN {
            drop(of(&format!("198.51.{}.{}:1", host / 256, host % 256)));
        }
        assert!(meters.table.lock().unwrap().meters.len() <= SWEEP_MIN);
    }
}
