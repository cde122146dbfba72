//! Reserve: the last tenth of the descriptors, which newcomers may not have.
//!
//! Conversations are capped by what each kind takes, but a program has other files, other servers and
//! children, and whatever meets the end of the descriptors fails in the middle of something. The kernel
//! gives the lowest number that is free (accept(2)), so the number of a connection says at no cost that so
//! many were in use once; from then on the next number is asked for, with two calls for each newcomer.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::sleep;

use crate::event::{Action, What};
use crate::observe::Seldom;
use crate::worker::Worker;

/// From here on newcomers wait.
const HUNDREDTHS: u64 = 90;
/// Others than conversations give descriptors back too, and tell nobody.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the threads of a server share about descriptors.
pub(crate) struct Reserve {
    /// The first number that newcomers may not have.
    mark: i32,
    /// A newcomer has come so far.
    is_reached: AtomicBool,
    told: Seldom,
}

impl Reserve {
    pub(crate) fn new() -> Self {
        // Not knowing the limit is no reason to serve nobody; accept meets it then.
        Self::of(adit_net::descriptors::limit().map_or(u64::MAX, |limit| limit.soft))
    }

    fn of(limit: u64) -> Self {
        let mark = i32::try_from(limit / 100 * HUNDREDTHS + limit % 100 * HUNDREDTHS / 100);
        Self {
            mark: mark.unwrap_or(i32::MAX),
            is_reached: AtomicBool::new(false),
            told: Seldom::default(),
        }
    }

    /// How many may be in use.
    pub(crate) fn mark(&self) -> u64 {
        u64::try_from(self.mark).unwrap_or(0)
    }

    /// Notes the number of a newcomer's descriptor; is it one of the reserve?
    pub(crate) fn is_touched(&self, number: i32) -> bool {
        let is_touched = number >= self.mark;
        if is_touched {
            self.is_reached.store(true, Relaxed);
        }
        is_touched
    }

    /// Is so much in use now? Looks only if it has been once, and from then on for each newcomer: a number
    /// that has become free lower down lets in one, and says nothing of the next.
    fn is_short(&self) -> bool {
        // There is none at all: so it is.
        let looks = || adit_net::descriptors::next().map_or(true, |number| number >= self.mark);
        self.is_reached.load(Relaxed) && looks()
    }
}

impl Worker {
    /// Waits while only the reserve is left: newcomers stay in the kernel's queue. Not where nobody is
    /// here: it is others who have the descriptors, and they may keep them. Not once it drains: the door
    /// closes behind those who are in the queue, and one conversation could keep it open to the last.
    pub(crate) async fn spare_descriptors(&self) {
        let reserve = &self.shared.reserve;
        while reserve.is_short() && !self.shared.is_empty() && !self.is_draining() {
            if reserve.told.is_due() {
                let (name, value) = ("descriptors", reserve.mark());
                let what = || What::Limit { name, value, action: Action::Wait, count: 1 };
                self.context.observers.emit(what);
            }
            tokio::select! {
                () = self.shared.descriptors.notified() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reserve;

    #[test]
    fn nine_tenths_are_for_newcomers_whatever_the_limit() {
        let marks = [64, 256, 1024, 20_000, 1 << 20].map(|limit| Reserve::of(limit).mark());
        assert_eq!(marks, [57, 230, 921, 18_000, 943_718]);
        assert_eq!(Reserve::of(u64::MAX).mark(), i32::MAX as u64);
    }

    #[test]
    fn it_is_looked_at_when_it_has_been_touched_and_then_as_it_is_for_each() {
        let reserve = Reserve::of(1 << 20);
        assert!(!reserve.is_touched(943_717) && !reserve.is_short());
        // This process has far fewer.
        assert!(reserve.is_touched(943_718) && !reserve.is_short());
        let none = Reserve::of(0);
        assert!(!none.is_short() && none.is_touched(0));
        assert!(none.is_short() && none.is_short());
    }
}
