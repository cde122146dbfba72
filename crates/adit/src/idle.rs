//! Idle: who of all threads makes room for a newcomer. Kept only where somebody may have to.
//!
//! First those with whom no conversation has begun yet, who owe a PROXY header or a TLS handshake; then
//! conversations; of each the one that has been silent for longest. Whoever owes answers is never chosen.
//! The order goes by a flag and a waker, so none can be lost, and nobody waits for it: who is chosen has
//! left the book, and goes as soon as its thread lets it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    number: u64,
    stage: Stage,
    /// Since when it is silent, or [`BUSY`].
    since: AtomicU64,
    /// Where it stands in the book; changed only under the book's lock.
    place: AtomicU64,
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
        } else if self.0.since.load(Relaxed) == BUSY {
            self.touch();
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
            number,
            stage,
            since: AtomicU64::new(since),
            place: AtomicU64::new(since),
            is_chosen: AtomicBool::new(false),
            waker: Mutex::new(Waker::noop().clone()),
        }));
        self.lines().insert((since, number), mark.clone());
        Entry { book: Arc::clone(self), mark }
    }

    /// Has somebody go; false if nobody can.
    ///
    /// A line may have moved on since it was written. Whoever is met in front and has is put to where it
    /// belongs now, so that one look at each is the most, and a few are the rule.
    pub(crate) fn make_room(&self) -> bool {
        let mut lines = self.lines();
        let mut busy = Vec::new();
        let mut moves_left = lines.len();
        let chosen = loop {
            let Some(((place, number), mark)) = lines.pop_first() else { break None };
            let since = mark.0.since.load(Relaxed);
            if since == BUSY {
                busy.push(mark);
            } else if since > place && moves_left > 0 {
                moves_left -= 1;
                mark.0.place.store(since, Relaxed);
                lines.insert((since, number), mark);
            } else {
                break Some(mark);
            }
        };
        for mark in busy {
            // It will have been silent since some later time.
            let place = mark.0.stage.now();
            mark.0.place.store(place, Relaxed);
            lines.insert((place, mark.0.number), mark);
        }
        drop(lines);
        let Some(mark) = chosen else { return false };
        mark.0.is_chosen.store(true, Release);
        mark.0.waker().wake_by_ref();
        true
    }

    /// Held for a look or a change, never across an await.
    fn lines(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Mark>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
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
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut lines = self.book.lines();
        let line = &self.mark.0;
        lines.remove(&(line.place.load(Relaxed), line.number));
    }
}

#[cfg(test)]
mod tests {
    use super::{IdleBook, Stage};
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    /// The number of the one that goes.
    fn next(book: &IdleBook) -> Option<u64> {
        let before: Vec<_> = book.lines().values().cloned().collect();
        let is_one = book.make_room();
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
