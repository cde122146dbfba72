//! Budget: what all conversations of a server hold in buffers, and what happens when that is too much.
//!
//! Each bound of a conversation is small, and the sum of ten thousand is not. So what is held is summed
//! up over all threads: one addition when a buffer grows or is dropped, none per message that passes
//! through. Above four fifths of the budget those that hold more than the average are not read for a
//! while, above nine tenths nobody is let in, and above nineteen twentieths somebody is cut; who that is
//! says `relief`. A message to a room is there once, however many wait for it, and is not counted.

use std::collections::BTreeMap;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Limits;
use crate::event::{Action, What};
use crate::observe::{Observers, Seldom, now};
use crate::worker::{Mail, Mailbox};

/// What a conversation costs that holds nothing: its task, its place in the books, its socket.
const CONVERSATION_BYTES: usize = 4 << 10;
/// The same over TLS: measured, 11 KiB while nothing is said.
const SECURED_BYTES: usize = 16 << 10;

/// What one conversation costs that holds nothing.
pub(crate) const fn cost(secured: bool) -> usize {
    if secured { SECURED_BYTES } else { CONVERSATION_BYTES }
}

/// The memory that a server may spend: what its limits say, and never more than a quarter of what the
/// process may take. None without a bound.
pub(crate) fn bytes_of(limits: &Limits) -> Option<usize> {
    let most = limits.memory.at()?;
    let quarter = adit_net::memory::limit().map_or(u64::MAX, |limit| limit / 4);
    Some(most.min(usize::try_from(quarter).unwrap_or(usize::MAX)))
}

/// Conversations that fit into half of the memory; the other half is for what they hold.
pub(crate) fn conversations_of(bytes: usize, cost: usize) -> usize {
    bytes / 2 / cost
}

/// What all threads of a server share about their buffers.
pub(crate) struct Budget {
    /// None without a bound.
    bytes: Option<usize>,
    held: AtomicUsize,
    /// Conversations that hold anything.
    holders: AtomicUsize,
    /// Those that are not read, to be woken when there is room.
    parked: Mutex<Parked>,
    /// Pulses when newcomers may come again.
    pub(crate) eased: Notify,
    /// Pulses when memory gets tight.
    tightened: Notify,
    /// One for each thread.
    posts: Box<[Post]>,
    /// Of each measure.
    told: [Seldom; 3],
    /// Cut since that was last told.
    cut: AtomicU64,
}

/// How a thread is told to shed.
struct Post {
    mailbox: Mailbox,
    /// The order to shed waits there: a second one would say no more, and take the room of other mail.
    is_sent: AtomicBool,
}

/// What is done about memory that is short.
#[derive(Clone, Copy)]
pub(crate) enum Measure {
    /// Those who hold much are not read.
    Slow,
    /// Nobody is let in.
    Wait,
    /// Somebody was cut who held much.
    Cut,
}

#[derive(Default)]
struct Parked {
    /// By the order in which they came.
    wakers: BTreeMap<u64, Waker>,
    next: u64,
    /// How often they were woken.
    round: u64,
}

impl Budget {
    /// A budget for buffers, which is what `limits` leave beside conversations that cost so much in all.
    pub(crate) fn new(limits: &Limits, base: usize, mailboxes: &[Mailbox]) -> Self {
        let bytes = bytes_of(limits).map(|bytes| bytes.saturating_sub(base).max(bytes / 2));
        let post =
            |mailbox: &Mailbox| Post { mailbox: mailbox.clone(), is_sent: AtomicBool::new(false) };
        Self { posts: mailboxes.iter().map(post).collect(), ..Self::of(bytes) }
    }

    fn of(bytes: Option<usize>) -> Self {
        Self {
            bytes,
            held: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            parked: Mutex::default(),
            eased: Notify::new(),
            tightened: Notify::new(),
            posts: Box::default(),
            told: Default::default(),
            cut: AtomicU64::new(0),
        }
    }

    /// What all conversations hold now.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    fn mark(&self, hundredths: usize) -> usize {
        self.bytes.map_or(usize::MAX, |bytes| bytes / 100 * hundredths)
    }

    /// Four fifths are held: whoever holds much is not read.
    pub(crate) fn is_tight(&self) -> bool {
        self.held.load(Relaxed) >= self.mark(80)
    }

    /// Waits until it is.
    pub(crate) async fn tight(&self) {
        loop {
            // Made before the look, so that a pulse in between is not missed.
            let tightened = self.tightened.notified();
            if self.is_tight() {
                return;
            }
            tightened.await;
        }
    }

    /// Bytes that have to be given back until it is not.
    pub(crate) fn excess(&self) -> usize {
        (self.held.load(Relaxed) + 1).saturating_sub(self.mark(80))
    }

    /// Nine tenths are held: nobody is let in.
    pub(crate) fn is_full(&self) -> bool {
        self.held.load(Relaxed) >= self.mark(90)
    }

    /// Nineteen twentieths are held: somebody has to go whose peer does nothing.
    pub(crate) fn is_over(&self) -> bool {
        self.held.load(Relaxed) >= self.mark(95)
    }

    /// There is next to nothing left: somebody has to go, whoever it is.
    pub(crate) fn is_critical(&self) -> bool {
        self.held.load(Relaxed) >= self.mark(97)
    }

    /// Nothing is left.
    fn is_spent(&self) -> bool {
        self.held.load(Relaxed) >= self.mark(100)
    }

    /// Is it more than the average of those who hold anything?
    fn is_heavy(&self, bytes: usize) -> bool {
        bytes > 0 && bytes >= self.average()
    }

    /// What those who hold anything hold, each.
    pub(crate) fn average(&self) -> usize {
        self.held.load(Relaxed) / self.holders.load(Relaxed).max(1)
    }

    /// Tells of a measure, once in a while.
    pub(crate) fn tell(&self, measure: Measure, observers: &Observers) {
        if let Measure::Cut = measure {
            self.cut.fetch_add(1, Relaxed);
        }
        if !self.told[measure as usize].is_due() {
            return;
        }
        let (action, count) = match measure {
            Measure::Slow => (Action::Report, 1),
            Measure::Wait => (Action::Wait, 1),
            Measure::Cut => (Action::Close, self.cut.swap(0, Relaxed)),
        };
        let value = self.bytes.unwrap_or(0) as u64;
        observers.emit(|| What::Limit { name: "memory", value, action, count });
    }

    /// This thread has read the order to shed: the next one may be sent. To be called before it looks what
    /// there is.
    pub(crate) fn take_order(&self, thread: usize) {
        if let Some(post) = self.posts.get(thread) {
            // Whoever has grown and not sent another one is seen by that look.
            let _was_sent = post.is_sent.swap(false, AcqRel);
        }
    }

    fn grow(&self, bytes: usize) {
        let before = self.held.fetch_add(bytes, Relaxed);
        let mark = self.mark(80);
        if before < mark && before.saturating_add(bytes) >= mark {
            self.tightened.notify_waiters();
        }
        if !self.is_over() {
            return;
        }
        for post in &self.posts {
            // A thread whose mailbox is full is asked again by the next one that grows.
            if !post.is_sent.swap(true, AcqRel) && post.mailbox.try_send(Mail::Lighten).is_err() {
                post.is_sent.store(false, Release);
            }
        }
    }

    fn shrink(&self, bytes: usize) {
        let before = self.held.fetch_sub(bytes, Relaxed);
        let falls_below = |mark| before >= mark && before - bytes < mark;
        if falls_below(self.mark(90)) {
            self.eased.notify_waiters();
        }
        if falls_below(self.mark(80)) {
            let mut parked = self.parked();
            parked.round += 1;
            let wakers = std::mem::take(&mut parked.wakers);
            drop(parked);
            wakers.into_values().for_each(Waker::wake);
        }
    }

    /// Held for a look or a change, never across an await, and only while memory is tight.
    fn parked(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(None)
    }
}

/// What one conversation holds, over all its buffers.
pub(crate) struct Account {
    budget: Arc<Budget>,
    held: AtomicUsize,
    /// When that last changed, in milliseconds.
    changed_ms: AtomicU64,
    /// It is the peer's turn: to send the rest of a message, or to take what is written to it.
    waits_for_peer: AtomicBool,
}

impl Account {
    pub(crate) fn new(budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            budget: Arc::clone(budget),
            held: AtomicUsize::new(0),
            changed_ms: AtomicU64::new(0),
            waits_for_peer: AtomicBool::new(false),
        })
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes held now.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Whose turn it is.
    pub(crate) fn note_turn(&self, waits_for_peer: bool) {
        self.waits_for_peer.store(waits_for_peer, Relaxed);
    }

    /// Does it hold what it holds because its peer has neither sent nor taken anything for so long?
    pub(crate) fn is_stuck(&self, patience: Duration) -> bool {
        let still = now_ms().saturating_sub(self.changed_ms.load(Relaxed));
        self.waits_for_peer.load(Relaxed) && u128::from(still) >= patience.as_millis()
    }

    /// Does it hold so much that it has to wait, or to go, while memory is tight?
    pub(crate) fn is_heavy(&self) -> bool {
        self.budget.is_heavy(self.held())
    }
}

/// One buffer, or the buffers of one loop; given back when dropped.
pub(crate) struct Holding {
    account: Arc<Account>,
    bytes: usize,
    /// In which round it was parked, and its place there.
    parked: Option<(u64, u64)>,
    /// Since when it has to wait, and since when it no longer has to.
    waits: Option<(Instant, Option<Instant>)>,
}

fn now_ms() -> u64 {
    u64::try_from(now().as_millis()).unwrap_or(u64::MAX - 1)
}

/// Who had to wait so short a time ago has not stopped waiting: each who goes makes room for a moment,
/// into which all others grow.
pub(crate) const MOMENT: Duration = Duration::from_secs(1);
/// How long a conversation waits for memory, or holds it for a peer that does nothing, before it goes. One
/// that is not read is not seen to end either: without a bound all that hold much could wait for each
/// other.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

impl Holding {
    pub(crate) fn new(account: &Arc<Account>) -> Self {
        Self { account: Arc::clone(account), bytes: 0, parked: None, waits: None }
    }

    /// It holds so many bytes now.
    pub(crate) fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let Account { budget, held, changed_ms, .. } = &*self.account;
        if bytes != before {
            changed_ms.store(now_ms(), Relaxed);
        }
        if bytes > before {
            if held.fetch_add(bytes - before, Relaxed) == 0 {
                budget.holders.fetch_add(1, Relaxed);
            }
            budget.grow(bytes - before);
        } else if bytes < before {
            if held.fetch_sub(before - bytes, Relaxed) == before - bytes {
                budget.holders.fetch_sub(1, Relaxed);
            }
            budget.shrink(before - bytes);
        }
    }

    /// Must the conversation not be read now? It is then woken when there is room.
    pub(crate) fn has_to_wait(&mut self, waker: &Waker) -> bool {
        if self.is_parked(waker) {
            let since = self.waits.map_or_else(Instant::now, |(since, _)| since);
            self.waits = Some((since, None));
            return true;
        }
        if let Some((since, ended)) = self.waits {
            let ended = ended.unwrap_or_else(Instant::now);
            self.waits = (ended.elapsed() < MOMENT).then_some((since, Some(ended)));
        }
        false
    }

    /// Is the conversation not read now?
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.waits, Some((_, None)))
    }

    /// Since when it has waited, if it holds so much that it shall not wait for long.
    pub(crate) fn waits_heavily(&self) -> Option<Instant> {
        self.waits.map(|(since, _)| since).filter(|_| self.account.is_heavy())
    }

    fn is_parked(&mut self, waker: &Waker) -> bool {
        let Account { budget, .. } = &*self.account;
        if !budget.is_tight() || !self.has_too_much() {
            return false;
        }
        let mut parked = budget.parked();
        if self.parked.is_none_or(|(round, _)| round != parked.round) {
            let place = parked.next;
            parked.next += 1;
            parked.wakers.insert(place, waker.clone());
            self.parked = Some((parked.round, place));
        }
        drop(parked);
        // Looked at again, since room may have come before the waker was there.
        budget.is_tight()
    }

    /// Is what it holds too much for the memory there is? While that is tight, more than the average;
    /// near its end anything, and at its end to begin at all.
    fn has_too_much(&self) -> bool {
        let held = self.account.held();
        let budget = &self.account.budget;
        self.account.is_heavy() || (budget.is_over() && held > 0) || budget.is_spent()
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some((_, place)) = self.parked {
            // A waker keeps a task in memory that has ended; a tight time can be long.
            drop(self.account.budget.parked().wakers.remove(&place));
        }
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, Budget, Holding, conversations_of, cost};
    use crate::{Limit, Limits};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::{Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn the_marks_are_met_in_their_order_and_left_again() {
        let budget = Arc::new(Budget::of(Some(1000)));
        let (light, heavy) = (Account::new(&budget), Account::new(&budget));
        let (mut few, mut many) = (Holding::new(&light), Holding::new(&heavy));
        few.set(100);
        many.set(690);
        assert!(!budget.is_tight());
        many.set(700);
        assert!(budget.is_tight() && !budget.is_full());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        assert!(!few.has_to_wait(&waker), "it holds less than the average");
        assert!(many.has_to_wait(&waker) && many.has_to_wait(&waker));
        many.set(800);
        assert!(budget.is_full() && !budget.is_over());
        many.set(850);
        assert!(budget.is_over());
        many.set(700);
        assert_eq!(count.0.load(Relaxed), 0);
        many.set(650);
        assert_eq!(count.0.load(Relaxed), 1, "woken once, however often it was asked");
        assert!(!many.has_to_wait(&waker));
        // Tight again: it is parked anew.
        many.set(900);
        assert!(many.has_to_wait(&waker));
        many.set(650);
        assert_eq!((count.0.load(Relaxed), budget.held.load(Relaxed)), (2, 750));
        drop(many);
        assert_eq!(budget.held.load(Relaxed), 100);
        drop(few);
        assert_eq!((budget.held.load(Relaxed), budget.holders.load(Relaxed)), (0, 0));
    }

    #[test]
    fn who_is_gone_is_not_kept_to_be_woken() {
        let budget = Arc::new(Budget::of(Some(1000)));
        let mut lasting = Holding::new(&Account::new(&budget));
        lasting.set(810);
        for _ in 0..3 {
            let count = Arc::new(Count::default());
            let mut guest = Holding::new(&Account::new(&budget));
            guest.set(810);
            assert!(guest.has_to_wait(&Waker::from(Arc::clone(&count))));
            drop(guest);
            assert_eq!(Arc::strong_count(&count), 1, "its waker is kept");
        }
        assert!(lasting.has_to_wait(Waker::noop()));
    }

    #[test]
    fn each_thread_has_one_order_at_most_in_its_mailbox_whoever_else_reads_his() {
        let (mailboxes, mut letters): (Vec<_>, Vec<_>) =
            (0..2).map(|_| tokio::sync::mpsc::channel(8)).unzip();
        let limits = Limits { memory: Limit::At(1000), ..Limits::default() };
        let budget = Arc::new(Budget::new(&limits, 0, &mailboxes));
        let mut holding = Holding::new(&Account::new(&budget));
        for bytes in 951..1000 {
            holding.set(bytes);
            // The first one reads what it is sent, the second one is held up.
            while letters[0].try_recv().is_ok() {
                budget.take_order(0);
            }
        }
        assert_eq!((letters[0].len(), letters[1].len()), (0, 1));
        budget.take_order(1);
        holding.set(1000);
        assert_eq!((letters[0].len(), letters[1].len()), (1, 2), "the next order is sent");
    }

    #[test]
    fn without_a_bound_nobody_waits() {
        let budget = Arc::new(Budget::default());
        let mut all = Holding::new(&Account::new(&budget));
        all.set(usize::MAX / 2);
        assert!(!all.has_to_wait(Waker::noop()) && !budget.is_full() && !budget.is_over());
    }

    #[test]
    fn conversations_take_half_of_the_memory_at_most() {
        assert_eq!(conversations_of(16 << 20, cost(false)), 2048);
    }
}
