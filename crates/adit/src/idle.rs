//! Idle: which conversation of all threads has been silent for longest. Kept only where one of them may
//! have to make room.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::observe::now;

/// When a conversation last did something, to be seen from other threads.
#[derive(Clone)]
pub(crate) struct Mark(Arc<AtomicU64>);

/// In place of a time: it owes answers and is not idle at all.
const BUSY: u64 = u64::MAX;

impl Mark {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(microseconds(now()))))
    }

    /// It has been told something, or is about to say something. Not behind that: whoever has heard its
    /// answer must find it told.
    pub(crate) fn touch(&self) {
        self.0.store(microseconds(now()), Relaxed);
    }

    /// It owes answers, or none any more.
    pub(crate) fn owes(&self, owes_any: bool) {
        if owes_any {
            self.0.store(BUSY, Relaxed);
        } else if self.0.load(Relaxed) == BUSY {
            self.touch();
        }
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(BUSY - 1)
}

/// The conversations of a server by their numbers: on which thread each is, and since when it is idle.
#[derive(Default)]
pub(crate) struct IdleBook(Mutex<BTreeMap<u64, (usize, Mark)>>);

impl IdleBook {
    pub(crate) fn enter(&self, number: u64, thread: usize) -> Mark {
        let mark = Mark::new();
        self.lock().insert(number, (thread, mark.clone()));
        mark
    }

    pub(crate) fn leave(&self, number: u64) {
        self.lock().remove(&number);
    }

    /// Takes out the conversation that has been idle for longest: its number and its thread. One look at
    /// each; 10,000 take 0.1 ms.
    pub(crate) fn take_longest_idle(&self) -> Option<(u64, usize)> {
        let mut book = self.lock();
        let since = |(_, (_, mark)): &(&u64, &(usize, Mark))| mark.0.load(Relaxed);
        let (number, (thread, _)) = book
            .iter()
            .filter(|(_, (_, mark))| mark.0.load(Relaxed) != BUSY)
            .min_by_key(since)
            .map(|(number, (thread, mark))| (*number, (*thread, mark.clone())))?;
        book.remove(&number);
        Some((number, thread))
    }

    /// Held for a look or a change, never across an await.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (usize, Mark)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::IdleBook;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn the_one_idle_for_longest_is_taken_and_who_owes_answers_is_not() {
        let book = IdleBook::default();
        let marks: Vec<_> = (0..4).map(|number| book.enter(number, 0)).collect();
        marks[0].owes(true);
        marks[1].0.store(2000, Relaxed);
        marks[2].0.store(1000, Relaxed);
        book.leave(3);
        assert_eq!(book.take_longest_idle(), Some((2, 0)));
        marks[0].0.store(3000, Relaxed);
        assert_eq!(book.take_longest_idle(), Some((1, 0)));
        assert_eq!(book.take_longest_idle(), Some((0, 0)));
        assert_eq!(book.take_longest_idle(), None);
    }
}
