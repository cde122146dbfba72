//! Idle: who of all threads makes room for a newcomer. Kept only where somebody may have to.
//!
//! First those with whom no conversation has begun yet, who owe a PROXY header or a TLS handshake, in the
//! order in which they came, whatever they have sent of it; then conversations, the one that has been silent
//! for longest before the others. Whoever owes answers is never chosen. The order goes by a flag and a waker,
//! so none can be lost, and nobody waits for it: who is chosen has left the book, and goes as soon as its
//! thread lets it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::observe::now;

/// How much would be lost with somebody who goes; the least goes first.
#[derive(Clone, Copy)]
pub(crate) enum Stage {
    /// It owes what comes before a conversation.
    Newcomer,
    Conversation,
}

/// When somebody last did something, to be seen from other threads; and the order to go.
#[derive(Clone)]
pub(crate) struct Mark(Arc<Line>);

struct Line {
    book: Weak<IdleBook>,
    number: u64,
    stage: Stage,
    /// Since when it is silent, or [`BUSY`].
    since: AtomicU64,
    /// Where it stands in the book; changed only under the book's lock.
    place: AtomicU64,
    /// It was met busy and was taken out until it is not; changed only under the book's lock.
    is_aside: AtomicBool,
    is_chosen: AtomicBool,
    /// Locked to set it, once, and to wake it.
    waker: Mutex<Waker>,
}

/// In place of a time: it owes answers and is not idle at all.
const BUSY: u64 = u64::MAX;
/// Conversations stand behind all newcomers: no clock of microseconds comes so far.
const CONVERSATIONS: u64 = 1 << 62;

impl Stage {
    /// The place of who is silent since now.
    fn now(self) -> u64 {
        self.at(now())
    }

    fn at(self, time: Duration) -> u64 {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(CONVERSATIONS - 1);
        match self {
            Self::Newcomer => time,
            Self::Conversation => CONVERSATIONS | time,
        }
    }
}

impl Mark {
    /// It has been told something, or is about to say something. Not behind that: whoever has heard its
    /// answer must find it told.
    pub(crate) fn touch(&self) {
        self.0.since.store(self.0.stage.now(), Relaxed);
    }

    /// It owes answers, or none any more.
    pub(crate) fn owes(&self, owes_any: bool) {
        if owes_any {
            self.0.since.store(BUSY, Relaxed);
            return;
        }
        if self.0.since.load(Relaxed) == BUSY {
            self.touch();
        }
        // It changes nothing, and is a write all the same: of the two, this one and that of who puts it aside,
        // the later one sees what was before the other.
        if self.0.is_aside.fetch_or(false, AcqRel)
            && let Some(book) = self.0.book.upgrade()
        {
            book.put_back(self);
        }
    }

    /// Whom to wake when it is chosen; asked for [`is_chosen`](Self::is_chosen) behind that.
    pub(crate) fn attend(&self, waker: &Waker) {
        self.0.waker().clone_from(waker);
    }

    /// Does it have to make room?
    pub(crate) fn is_chosen(&self) -> bool {
        self.0.is_chosen.load(Acquire)
    }
}

impl Line {
    fn waker(&self) -> MutexGuard<'_, Waker> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who may have to make room: by silence, as it was when somebody last looked.
#[derive(Default)]
pub(crate) struct IdleBook {
    lines: Mutex<BTreeMap<(u64, u64), Mark>>,
    numbers: AtomicU64,
}

/// A line of the book; taken out when it is dropped.
pub(crate) struct Entry {
    book: Arc<IdleBook>,
    mark: Mark,
}

impl IdleBook {
    pub(crate) fn enter(self: &Arc<Self>, stage: Stage) -> Entry {
        let (number, since) = (self.numbers.fetch_add(1, Relaxed), stage.now());
        let mark = Mark(Arc::new(Line {
            book: Arc::downgrade(self),
            number,
            stage,
            since: AtomicU64::new(since),
            place: AtomicU64::new(since),
            is_aside: AtomicBool::new(false),
            is_chosen: AtomicBool::new(false),
            waker: Mutex::new(Waker::noop().clone()),
        }));
        self.lines().insert((since, number), mark.clone());
        Entry { book: Arc::clone(self), mark }
    }

    /// Has somebody go; false if nobody can, or somebody is not wanted to any more.
    ///
    /// `is_wanted` is asked behind the lock: whoever is met has entered before that.
    ///
    /// A line may have moved on since it was written. Whoever is met in front and has is put to where it
    /// belongs now, so that one look at each is the most, and a few are the rule. Whoever is busy is put aside
    /// until it is not: a book in which all are is looked through once, not once for each newcomer.
    pub(crate) fn make_room(&self, is_wanted: impl FnOnce() -> bool) -> bool {
        let mut lines = self.lines();
        if !is_wanted() {
            return false;
        }
        let mut moves_left = lines.len();
        let chosen = loop {
            let Some(((place, number), mark)) = lines.pop_first() else { break None };
            let mut since = mark.0.since.load(Relaxed);
            if since == BUSY {
                let _was_not = mark.0.is_aside.swap(true, AcqRel);
                since = mark.0.since.load(Relaxed);
                if since == BUSY {
                    continue;
                }
                // It has stopped just now, and may not have seen that it was put aside.
                mark.0.is_aside.store(false, Relaxed);
            }
            if since > place && moves_left > 0 {
                moves_left -= 1;
                mark.0.place.store(since, Relaxed);
                lines.insert((since, number), mark);
            } else {
                break Some(mark);
            }
        };
        drop(lines);
        let Some(mark) = chosen else { return false };
        mark.0.is_chosen.store(true, Release);
        mark.0.waker().wake_by_ref();
        true
    }

    /// Writes a line again that was put aside, unless that was done. The only lock on the way of a message, once
    /// for each time that a newcomer has met it busy.
    fn put_back(&self, mark: &Mark) {
        let mut lines = self.lines();
        if mark.0.is_aside.swap(false, AcqRel) {
            // It may owe something again by now.
            let since = mark.0.since.load(Relaxed);
            let place = if since == BUSY { mark.0.stage.now() } else { since };
            mark.0.place.store(place, Relaxed);
            lines.insert((place, mark.0.number), mark.clone());
        }
    }

    /// Held for a look or a change, never across an await.
    fn lines(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Mark>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Leaves the book. Was it chosen, seen or not? Then somebody waits for a place.
    pub(crate) fn leave(self) -> bool {
        self.take_out()
    }

    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Returns when it has to make room.
    pub(crate) async fn chosen(&self) {
        poll_fn(|cx| {
            self.mark.attend(cx.waker());
            if self.mark.is_chosen() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// True if it was chosen, which is what takes a line out besides. Under the lock, since the flag is set
    /// behind it.
    fn take_out(&self) -> bool {
        let line = &self.mark.0;
        let mut lines = self.book.lines();
        let was_aside = line.is_aside.swap(false, AcqRel);
        let was_there = lines.remove(&(line.place.load(Relaxed), line.number)).is_some();
        !was_there && !was_aside
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let _was_chosen = self.take_out();
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, IdleBook, Stage};
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    /// The number of the one that goes.
    fn next(book: &IdleBook) -> Option<u64> {
        let before: Vec<_> = book.lines().values().cloned().collect();
        let is_one = book.make_room(|| true);
        let chosen = before.iter().find(|mark| mark.is_chosen());
        assert_eq!(chosen.is_some(), is_one);
        chosen.map(|mark| mark.0.number)
    }

    #[test]
    fn the_one_idle_for_longest_goes_and_who_owes_answers_does_not() {
        let book = Arc::new(IdleBook::default());
        let mut entries: Vec<_> = (0..5).map(|_| book.enter(Stage::Conversation)).collect();
        let at = |second| Stage::Conversation.at(Duration::from_secs(second));
        entries[0].mark().owes(true);
        entries[1].mark().0.since.store(at(3000), Relaxed);
        entries[2].mark().0.since.store(at(2000), Relaxed);
        entries[3].mark().0.since.store(at(4000), Relaxed);
        drop(entries.remove(4));
        assert_eq!(next(&book), Some(2));
        entries[0].mark().0.since.store(at(5000), Relaxed);
        assert_eq!((next(&book), next(&book)), (Some(1), Some(3)));
        entries[0].mark().owes(true);
        assert_eq!(next(&book), None);
        assert_eq!(next(&book), None, "who is busy is still there");
        entries[0].mark().owes(false);
        assert_eq!((next(&book), next(&book)), (Some(0), None));
        drop(entries);
        assert!(book.lines().is_empty());
    }

    #[test]
    fn who_has_not_begun_goes_before_any_conversation() {
        let book = Arc::new(IdleBook::default());
        let old = book.enter(Stage::Conversation);
        let new = [book.enter(Stage::Newcomer), book.enter(Stage::Newcomer)];
        old.mark().0.since.store(Stage::Conversation.at(Duration::ZERO), Relaxed);
        assert_eq!((next(&book), next(&book), next(&book)), (Some(1), Some(2), Some(0)));
        drop((old, new));
        assert!(book.lines().is_empty());
    }

    #[test]
    fn who_is_busy_is_looked_at_once_and_is_back_when_it_is_not() {
        let book = Arc::new(IdleBook::default());
        let mut entries: Vec<_> = (0..1000).map(|_| book.enter(Stage::Conversation)).collect();
        entries.iter().for_each(|entry| entry.mark().owes(true));
        assert_eq!((next(&book), book.lines().len()), (None, 0));
        let (gone, left) = (entries.pop().unwrap(), entries.pop().unwrap());
        let mark = gone.mark().clone();
        drop(gone);
        mark.owes(false);
        assert!(book.lines().is_empty(), "who has gone is not put back");
        assert!(!left.leave(), "it was put aside, and not chosen");
        // As when a message comes and is answered.
        entries[7].mark().touch();
        entries[7].mark().owes(true);
        entries[7].mark().touch();
        assert_eq!(next(&book), None, "it has not said that it owes nothing");
        entries[7].mark().owes(false);
        entries[7].mark().owes(false);
        assert_eq!((next(&book), next(&book)), (Some(7), None));
    }

    #[test]
    fn who_stops_being_busy_while_somebody_looks_is_not_lost() {
        let book = Arc::new(IdleBook::default());
        let entries: Vec<_> = (0..200).map(|_| book.enter(Stage::Conversation)).collect();
        let mut gone = 0;
        std::thread::scope(|scope| {
            let work = |part: &[Entry]| {
                for round in 0..100 {
                    part.iter().for_each(|entry| entry.mark().owes(round % 2 == 0));
                }
            };
            let parts: Vec<_> =
                entries.chunks(100).map(|part| scope.spawn(move || work(part))).collect();
            while parts.iter().any(|part| !part.is_finished()) && gone < 150 {
                gone += usize::from(book.make_room(|| true));
            }
        });
        while book.make_room(|| true) {
            gone += 1;
        }
        assert_eq!(gone, entries.len());
    }

    #[test]
    fn who_leaves_learns_whether_somebody_counts_on_its_place() {
        let book = Arc::new(IdleBook::default());
        let [chosen, other] = [(); 2].map(|()| book.enter(Stage::Newcomer));
        assert!(!book.make_room(|| false), "nobody goes for a newcomer who is not let in");
        assert!(book.make_room(|| true));
        assert_eq!((chosen.leave(), other.leave()), (true, false));
    }

    #[test]
    fn a_line_that_moves_on_and_on_is_looked_at_once() {
        let book = Arc::new(IdleBook::default());
        let entries: Vec<_> = (0..1000).map(|_| book.enter(Stage::Conversation)).collect();
        for (second, entry) in (1_u64..).zip(&entries) {
            let since = Stage::Conversation.at(Duration::from_secs(10_000 - second));
            entry.mark().0.since.store(since, Relaxed);
        }
        assert_eq!((next(&book), next(&book)), (Some(999), Some(998)));
        // One that has left in between is not met.
        drop(entries);
        assert_eq!((next(&book), book.lines().len()), (None, 0));
    }
}
