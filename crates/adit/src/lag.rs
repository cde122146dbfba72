//! Lag: how late a thread is for its work, and how many newcomers it takes because of that.
//!
//! A timer of each thread goes off in every beat and takes its turn behind the work that is there: as late
//! as it is, everybody's next byte is too. While that is more than the limit, a beat takes fewer newcomers
//! than the one before, the fewer the later it is, and never less than a few: a server whose work takes long
//! is not closed by it. Below the limit it is one more, and well below it soon as many as come. So nobody
//! has to guess how many conversations a machine can bear. What a thread is late because others have its
//! processor counts only by its own part in the work: no newcomer less would change the rest. A thread
//! without conversations has no beat.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use adit_net::process::{Turns, turns};

use crate::event::{Action, What};
use crate::observe::now;
use crate::worker::{Shared, Worker};

/// From one look at the clock to the next.
const BEAT: Duration = Duration::from_millis(100);
/// Beats that are remembered: 13 s of a thread that is on time.
const REMEMBERED: usize = 128;
/// Newcomers that a beat takes however late it is.
const LEAST: usize = 4;

/// More than come in one beat: as good as no bound.
const PLENTY: usize = 1 << 16;

/// What one thread keeps of its beats.
pub(crate) struct Lag {
    /// None without a bound; then there are no beats either.
    limit: Option<Duration>,
    law: Cell<Law>,
    /// What the thread had had of its processor when the beat began, if the kernel tells.
    begun: Cell<Option<Turns>>,
    recent: RefCell<Recent>,
    /// There is no beat, because nobody is here.
    rests: Cell<bool>,
    /// Pulses when somebody comes to a thread that rests.
    woken: Notify,
}

/// What other threads see of it.
pub(crate) struct Pulse {
    /// When the next beat is due, in microseconds of [`now`]; the end of time while there is none.
    due: AtomicU64,
    /// How late the latest was, and the 99th percentile of those remembered.
    latest: AtomicU64,
    percentile: AtomicU64,
    /// It takes as many newcomers as come.
    is_free: AtomicBool,
}

/// How many newcomers are taken: pure, of what the beats have measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Law {
    /// Newcomers in one beat.
    most: usize,
    /// Those of this beat.
    came: usize,
    /// How late the beat before was.
    was: Duration,
}

impl Law {
    const FREE: Self = Self { most: usize::MAX, came: 0, was: Duration::ZERO };

    /// Are as many taken as come?
    fn is_free(self) -> bool {
        self.most == usize::MAX
    }

    /// The look at the clock is overdue by more than the limit, so no more are taken before it. What was allowed
    /// on a calm day is as good as no bound: without this a flood was let in whole, for a second and more.
    fn overdue(self) -> Self {
        Self { most: self.most.min(self.came), ..self }
    }

    /// After a beat that was so late.
    fn after(self, lag: Duration, limit: Duration) -> Self {
        let most = if lag > limit && lag <= self.was / 4 * 3 {
            // It is late by those of the beats before, and less and less. To take fewer once more for them
            // left it without work when they were done.
            self.most
        } else if lag > limit {
            // Those of a beat were work for the beat and for what it was late, or part of that: as many
            // as make it half as late as it may be. What was merely allowed has no part in it.
            let (aim, was) = (microseconds(BEAT + limit / 2), microseconds(BEAT + lag));
            let came = self.most.min(self.came) as u128;
            usize::try_from(came * u128::from(aim) / u128::from(was))
                .unwrap_or(usize::MAX)
                .max(LEAST)
        } else if lag > limit / 2 {
            self.most.saturating_add(1)
        } else if lag > limit / 8 {
            self.most.saturating_add(self.most / 4 + 1)
        } else {
            self.most.saturating_mul(2)
        };
        let most = if most < PLENTY { most } else { usize::MAX };
        Self { most, came: 0, was: lag }
    }

    /// May another one be taken so long after the beat? They are spread over it: all of them at once would
    /// be late before the next look.
    fn takes_another(self, since: Duration) -> bool {
        if self.came < LEAST || self.is_free() {
            return true;
        }
        let passed = since.min(BEAT).as_millis();
        (self.came as u128) < self.most as u128 * passed / BEAT.as_millis()
    }
}

/// How late the latest beats were, in microseconds, the oldest overwritten first.
struct Recent {
    late: [u64; REMEMBERED],
    next: usize,
}

impl Recent {
    /// Notes a beat, and those that would have come while it was late: each of them one beat less late.
    fn push(&mut self, lag: Duration) {
        let mut late = lag;
        for _ in 0..REMEMBERED {
            self.late[self.next] = microseconds(late);
            self.next = (self.next + 1) % REMEMBERED;
            let Some(less) = late.checked_sub(BEAT) else { break };
            late = less;
        }
    }

    fn percentile(&self) -> u64 {
        let mut late = self.late;
        late.sort_unstable();
        late[REMEMBERED * 99 / 100]
    }
}

impl Lag {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            law: Cell::new(Law::FREE),
            begun: Cell::new(None),
            recent: RefCell::new(Recent { late: [0; REMEMBERED], next: 0 }),
            rests: Cell::new(true),
            woken: Notify::new(),
        }
    }

    /// Notes that somebody has come to this thread.
    pub(crate) fn note_newcomer(&self) {
        let law = self.law.get();
        self.law.set(Law { came: law.came.saturating_add(1), ..law });
        if self.rests.replace(false) {
            self.woken.notify_one();
        }
    }

    /// How late the thread is by its own doing, of how late it is; all of it where the kernel does not tell.
    fn own(&self, late: Duration) -> Duration {
        let had = self.begun.get().zip(turns()).map(|(begun, now)| now.since(begun));
        had.map_or(late, |had| own(late, had))
    }

    /// The limit in milliseconds, for events.
    pub(crate) fn limit_ms(&self) -> u64 {
        self.limit.map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Pulse {
    pub(crate) fn new() -> Self {
        let none = || AtomicU64::new(0);
        let is_free = AtomicBool::new(true);
        Self { due: AtomicU64::new(u64::MAX), latest: none(), percentile: none(), is_free }
    }

    /// Does that thread take as many newcomers as come?
    pub(crate) fn takes_all(&self, limit: Option<Duration>) -> bool {
        self.is_free.load(Relaxed) && !self.is_late(limit)
    }

    /// Is that thread too late to be given a newcomer?
    pub(crate) fn is_late(&self, limit: Option<Duration>) -> bool {
        let late = self.overdue().max(self.latest.load(Relaxed));
        limit.is_some_and(|limit| late > microseconds(limit))
    }

    /// How late that thread is: the 99th percentile of its latest beats, or the one that is overdue.
    fn lag(&self) -> Duration {
        Duration::from_micros(self.percentile.load(Relaxed).max(self.overdue()))
    }

    /// A thread that is held up cannot say so: others see for how long its beat has been missing.
    fn overdue(&self) -> u64 {
        microseconds(now()).saturating_sub(self.due.load(Relaxed))
    }
}

impl Shared {
    /// How late the thread is that is latest.
    pub(crate) fn lag(&self) -> Duration {
        self.pulses.iter().map(Pulse::lag).max().unwrap_or_default()
    }
}

impl Worker {
    /// May this thread take another newcomer in this beat?
    pub(crate) fn takes_another(&self) -> bool {
        let Some(limit) = self.lag.limit else { return true };
        let due = Duration::from_micros(self.shared.pulses[self.index].due.load(Relaxed));
        let (law, now) = (self.lag.law.get(), now());
        let (since, late) = ((now + BEAT).saturating_sub(due), now.saturating_sub(due));
        if !law.takes_another(since) {
            return false;
        }
        if late <= limit || self.lag.own(late) <= limit {
            return true;
        }
        self.lag.law.set(law.overdue());
        law.overdue().takes_another(since)
    }

    /// Measures how late this thread is, for as long as it lives. To be spawned: what is polled in place
    /// takes no turn behind others.
    pub(crate) async fn keep_time(self: Rc<Self>) {
        let (lag, pulse) = (&self.lag, &self.shared.pulses[self.index]);
        let Some(limit) = lag.limit else { return };
        loop {
            // Not before there is no bound: it would be in the way of those who come in an hour.
            if lag.law.get().is_free() && self.shared.loads[self.index].load(Relaxed) == 0 {
                pulse.due.store(u64::MAX, Relaxed);
                pulse.latest.store(0, Relaxed);
                lag.rests.set(true);
                lag.woken.notified().await;
            }
            lag.begun.set(turns());
            let due = now() + BEAT;
            pulse.due.store(microseconds(due), Relaxed);
            sleep(BEAT).await;
            let late = now().saturating_sub(due);
            lag.recent.borrow_mut().push(late);
            pulse.latest.store(microseconds(late), Relaxed);
            pulse.percentile.store(lag.recent.borrow().percentile(), Relaxed);
            let law = lag.law.get().after(lag.own(late), limit);
            lag.law.set(law);
            pulse.is_free.store(law.is_free(), Relaxed);
        }
    }

    /// Waits while this thread is late: newcomers stay in the kernel's queue, or come to other threads.
    /// Not once it drains, since that comes to an end.
    pub(crate) async fn be_in_time(&self) {
        while !self.takes_another() && !self.is_draining() {
            if self.shared.lag_told.is_due() {
                let value = self.lag.limit_ms();
                let what = || What::Limit { name: "lag", value, action: Action::Wait, count: 1 };
                self.context.observers.emit(what);
            }
            sleep(BEAT / 10).await;
        }
    }
}

/// How late a thread is by its own doing, of how late it is: its part of the time in which it wanted to work, and
/// at least whatever others did not have the processor for, as when a handler sleeps.
///
/// Two other measures were tried. To take off all that others had lets the queue of its own work grow to three
/// times the limit where they have half of the processor; to count all that it has worked itself lets it rest,
/// since it is late by others' work whenever it was at work too.
fn own(late: Duration, had: Turns) -> Duration {
    let wanted = microseconds(had.ran.saturating_add(had.waited)).max(1);
    let part =
        u128::from(microseconds(late)) * u128::from(microseconds(had.ran)) / u128::from(wanted);
    let part = Duration::from_micros(u64::try_from(part).unwrap_or(u64::MAX));
    part.max(late.saturating_sub(had.waited))
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{BEAT, Law, Pulse, Recent, microseconds, own};
    use crate::observe::now;
    use adit_net::process::Turns;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_millis(100);
    const LATE: Duration = Duration::from_millis(101);
    const NEARLY: Duration = Duration::from_millis(60);
    const CALM: Duration = Duration::from_millis(10);

    #[test]
    fn the_later_a_thread_is_the_fewer_it_takes_and_never_none() {
        let mut law = Law { came: 40, ..Law::FREE };
        let mut taken = Vec::new();
        for lag_ms in [101, 200, 200, 200, 200, 9000] {
            law = law.after(Duration::from_millis(lag_ms), LIMIT);
            taken.push(law.most);
            law.came = law.most;
        }
        assert_eq!(taken, [29, 14, 7, 4, 4, 4]);
        assert!(!law.takes_another(BEAT));
        assert!(law.after(LATE, LIMIT).takes_another(Duration::ZERO));
    }

    #[test]
    fn what_was_allowed_and_did_not_come_is_not_counted() {
        assert_eq!(Law { came: 8, ..Law::FREE }.after(LATE, LIMIT).most, 5);
        assert_eq!(Law::FREE.after(LATE, LIMIT).most, 4);
    }

    #[test]
    fn a_queue_that_gets_shorter_is_counted_once() {
        let law = Law { came: 500, ..Law::FREE }.after(6 * LIMIT, LIMIT);
        assert_eq!(law.most, 107);
        let late = |law: Law, lag| Law { came: law.most, ..law }.after(lag, LIMIT);
        assert_eq!(late(law, 4 * LIMIT).most, 107);
        assert_eq!(late(late(law, 4 * LIMIT), 3 * LIMIT).most, 107);
        // It stays as long as it is.
        assert_eq!(late(late(law, 4 * LIMIT), 4 * LIMIT).most, 32);
    }

    #[test]
    fn a_beat_that_is_overdue_takes_no_more_before_it_has_come() {
        let law = Law { came: 3, ..Law::FREE };
        assert!(law.takes_another(BEAT + LATE) && law.overdue().takes_another(BEAT + LATE));
        let law = Law { came: 4, ..law };
        assert!(law.takes_another(BEAT + LATE) && !law.overdue().takes_another(BEAT + LATE));
        assert_eq!(law.overdue().after(LATE, LIMIT), law.after(LATE, LIMIT));
        let much = Law { most: super::PLENTY - 1, came: 500, ..law };
        assert!(much.takes_another(BEAT + LATE) && !much.overdue().takes_another(BEAT + LATE));
    }

    #[test]
    fn a_thread_is_late_by_its_own_work_and_by_what_others_do_not_have_the_processor_for() {
        let had = |ran_ms, waited_ms| {
            let mut turns = Turns::default();
            (turns.ran, turns.waited) =
                (Duration::from_millis(ran_ms), Duration::from_millis(waited_ms));
            turns
        };
        let own_ms = |late_ms, had| own(Duration::from_millis(late_ms), had).as_millis();
        assert_eq!(own_ms(300, had(400, 0)), 300, "alone");
        assert_eq!(own_ms(300, had(0, 0)), 300, "a handler sleeps");
        assert_eq!(own_ms(300, had(2, 300)), 1, "nothing to do, and somebody else at work");
        assert_eq!(own_ms(300, had(200, 200)), 150, "each has half of the processor");
        assert_eq!(own_ms(900, had(50, 950)), 45, "others have nearly all of it");
        assert_eq!(own_ms(0, had(90, 10)), 0);
    }

    #[test]
    fn those_of_a_beat_come_one_after_the_other_and_without_a_bound_as_they_like() {
        let law = Law { most: 100, came: 50, ..Law::FREE };
        assert!(!law.takes_another(BEAT / 2));
        assert!(law.takes_another(BEAT / 2 + BEAT / 100));
        assert!(Law { came: 1_000_000, ..Law::FREE }.takes_another(Duration::ZERO));
    }

    #[test]
    fn near_the_limit_it_is_one_more_and_in_calm_there_is_soon_no_bound() {
        let law = Law { most: 10, came: 10, ..Law::FREE };
        assert_eq!(law.after(NEARLY, LIMIT).most, 11);
        assert_eq!(law.after(LIMIT, LIMIT).most, 11);
        assert_eq!(law.after(LIMIT / 3, LIMIT).most, 13);
        assert_eq!(law.after(CALM, LIMIT).most, 20);
        let calm = (0..64).fold(law, |law, _| law.after(CALM, LIMIT));
        assert!(calm.is_free());
        // 1,000 in a beat again after a second.
        assert!(
            (0..10).fold(Law { most: 4, came: 4, ..law }, |law, _| law.after(CALM, LIMIT)).most
                > 1000
        );
    }

    /// A thread whose newcomers are so many microseconds of work, and come every so many; gives the greatest
    /// lag after the first seconds, and in hundredths how much of its time it had work.
    fn simulate(work_us: u64, every_us: u64) -> (Duration, u64) {
        let (mut law, mut late_us, beat_us) = (Law::FREE, 0, microseconds(BEAT));
        let (mut most_us, mut worked_us, mut lasted_us) = (0, 0, 0);
        for round in 0..2000 {
            let lasts_us = beat_us + late_us;
            law.came = law.most.min(usize::try_from(lasts_us / every_us).unwrap());
            let todo_us = late_us + law.came as u64 * work_us;
            late_us = todo_us.saturating_sub(lasts_us);
            if round > 100 {
                most_us = most_us.max(late_us);
                worked_us += todo_us.min(lasts_us);
                lasted_us += lasts_us;
            }
            law = law.after(Duration::from_micros(late_us), LIMIT);
        }
        (Duration::from_micros(most_us), 100 * worked_us / lasted_us)
    }

    #[test]
    fn three_times_what_can_be_done_keeps_the_thread_at_work_and_near_its_limit() {
        for work_us in [30, 900, 21_000] {
            let (most, share) = simulate(work_us, work_us / 3);
            assert!(most <= 2 * LIMIT && share > 90, "{work_us}: {most:?} late, {share} % at work");
        }
        assert_eq!(simulate(900, 1000).0, Duration::ZERO, "late without a reason");
    }

    #[test]
    fn beats_that_were_missed_count_as_late_ones() {
        let mut recent = Recent { late: [0; super::REMEMBERED], next: 0 };
        recent.push(LATE);
        assert_eq!(recent.percentile(), 1000, "the missed one was 1 ms late");
        recent.push(CALM);
        recent.push(Duration::from_secs(1));
        assert_eq!(recent.percentile(), 900_000, "eleven in a row, the second one of them");
        recent.push(Duration::from_secs(3600));
        assert_eq!(recent.percentile(), 3_599_900_000);
    }

    #[test]
    fn a_thread_that_is_held_up_is_seen_by_others() {
        let pulse = Pulse::new();
        assert!(!pulse.is_late(Some(LIMIT)), "who rests is not late");
        pulse.due.store(microseconds(now()), Relaxed);
        assert!(!pulse.is_late(None) && !pulse.is_late(Some(Duration::from_secs(60))));
        while pulse.overdue() == 0 {}
        assert!(pulse.is_late(Some(Duration::ZERO)) && pulse.lag() > Duration::ZERO);
    }
}
