//! Rate: so many a second and no more, with one number to remember for each who is counted.
//!
//! The generic cell rate algorithm (ITU-T I.371, annex A): what is remembered is when the next one would
//! be due if they came evenly. Whoever is ahead of that by more than the burst has to wait. Nothing has
//! to be done while nobody comes. Bytes are counted in the same way as connections, many at a time.

use std::time::Duration;

/// So many a second on average, and so many at once.
///
/// ```
/// use adit_proto::rate::Rate;
/// use std::time::Duration;
/// let (rate, mut due) = (Rate { per_second: 10, burst: 2 }, 0);
/// assert_eq!(rate.take(&mut due, Duration::ZERO), Ok(()));
/// assert_eq!(rate.take(&mut due, Duration::ZERO), Ok(()));
/// assert_eq!(rate.take(&mut due, Duration::ZERO), Err(Duration::from_millis(100)));
/// assert_eq!(rate.take(&mut due, Duration::from_millis(100)), Ok(()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "plain settings")]
pub struct Rate {
    /// On average. With 0 the burst is all there ever is.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

const SECOND_NS: u64 = 1_000_000_000;

impl Rate {
    /// Takes one at the time `now`, of any clock that does not jump; `due` is what is remembered, 0 in the
    /// beginning.
    ///
    /// # Errors
    /// It is too early, by so much. Nothing was taken.
    pub fn take(self, due: &mut u64, now: Duration) -> Result<(), Duration> {
        let now = nanoseconds(now);
        let ahead = due.saturating_sub(now);
        let most =
            self.interval_ns().saturating_mul(u64::from(self.burst.max(1)).saturating_sub(1));
        if ahead > most {
            return Err(Duration::from_nanos(ahead.saturating_sub(most)));
        }
        *due = now.saturating_add(ahead).saturating_add(self.interval_ns());
        Ok(())
    }

    /// From one to the next.
    fn interval_ns(self) -> u64 {
        SECOND_NS.checked_div(u64::from(self.per_second)).unwrap_or(u64::MAX)
    }
}

/// So many bytes a second on average, and so many at once.
///
/// What is remembered is given and given back, so that it can live in an atomic.
///
/// ```
/// use adit_proto::rate::ByteRate;
/// use std::time::Duration;
/// let (rate, now) = (ByteRate::per_second(64_000), Duration::ZERO);
/// let (bytes, due) = rate.take(0, now, 100_000).unwrap();
/// assert_eq!(bytes, 64_000);
/// // A slice that is worth sending comes together in a sixty-fourth of a second.
/// assert_eq!(rate.take(due, now, 100_000), Err(Duration::from_micros(15_625)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "plain settings")]
pub struct ByteRate {
    /// On average; 0 is taken for 1.
    pub bytes_per_second: u64,
    /// At once, after a pause; 0 is taken for 1.
    pub burst_bytes: u64,
}

/// Whoever waits does so until as many bytes may go as make a second in so many slices: with fewer, each
/// would be a system call and a packet.
const SLICES_PER_SECOND: u64 = 64;

impl ByteRate {
    /// So many bytes a second, and one second's worth at once.
    pub const fn per_second(bytes: u64) -> Self {
        Self { bytes_per_second: bytes, burst_bytes: bytes }
    }

    /// Takes up to `want` bytes at the time `now`, of any clock that does not jump; `due` is what is
    /// remembered, 0 in the beginning. Gives how many they are, at least 1 if `want` is, and what is to
    /// be remembered instead.
    ///
    /// # Errors
    /// It is too early for a slice worth taking, by so much.
    pub fn take(self, due: u64, now: Duration, want: u64) -> Result<(u64, u64), Duration> {
        let (now, free_ns) = self.free(due, now);
        let free = scaled(free_ns, self.rate(), SECOND_NS).min(self.burst());
        let slice = (self.rate() / SLICES_PER_SECOND).clamp(1, self.burst()).min(want);
        if free < slice {
            let missing = self.cost_ns(slice).saturating_sub(free_ns).max(1);
            return Err(Duration::from_nanos(missing));
        }
        let taken = want.min(free);
        Ok((taken, due.max(now).saturating_add(self.cost_ns(taken))))
    }

    /// Takes bytes that cannot be divided, if they may pass now; gives what is to be remembered. More
    /// than the burst pass when nothing has gone for long enough, and are paid for behind it.
    pub fn take_whole(self, due: u64, now: Duration, bytes: u64) -> Option<u64> {
        let (now, free_ns) = self.free(due, now);
        let may = free_ns >= self.cost_ns(bytes.min(self.burst()));
        may.then(|| due.max(now).saturating_add(self.cost_ns(bytes)))
    }

    /// Gives bytes back that were taken and have not gone; gives what is to be remembered.
    #[must_use]
    pub fn give_back(self, due: u64, bytes: u64) -> u64 {
        due.saturating_sub(scaled(bytes, SECOND_NS, self.rate()))
    }

    /// The time as a number, and what is left of the burst, in nanoseconds.
    fn free(self, due: u64, now: Duration) -> (u64, u64) {
        let now = nanoseconds(now);
        (now, self.cost_ns(self.burst()).saturating_sub(due.saturating_sub(now)))
    }

    /// What so many bytes take, rounded up: many small pieces never make the rate a higher one.
    fn cost_ns(self, bytes: u64) -> u64 {
        let cost_ns = scaled(bytes, SECOND_NS, self.rate());
        match scaled(cost_ns, self.rate(), SECOND_NS) < bytes {
            true => cost_ns.saturating_add(1),
            false => cost_ns,
        }
    }

    fn rate(self) -> u64 {
        self.bytes_per_second.max(1)
    }

    fn burst(self) -> u64 {
        self.burst_bytes.max(1)
    }
}

/// `value * by / of`, in numbers wide enough.
fn scaled(value: u64, by: u64, of: u64) -> u64 {
    let wide = u128::from(value).saturating_mul(by.into()).checked_div(of.into());
    wide.and_then(|wide| u64::try_from(wide).ok()).unwrap_or(u64::MAX)
}

/// A time as the number that is remembered.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{ByteRate, Rate};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn a_burst_is_taken_and_then_one_at_a_time() {
        let (rate, mut due) = (Rate { per_second: 50, burst: 100 }, 0);
        let now = Duration::from_secs(5);
        let taken = (0..1000).filter(|_| rate.take(&mut due, now).is_ok()).count();
        assert_eq!(taken, 100);
        assert_eq!(rate.take(&mut due, now), Err(Duration::from_millis(20)));
        assert!(rate.take(&mut due, now + Duration::from_millis(20)).is_ok());
        assert!(rate.take(&mut due, now + Duration::from_millis(39)).is_err());
    }

    #[test]
    fn a_rate_of_nothing_gives_its_burst_and_no_more() {
        let (rate, mut due) = (Rate { per_second: 0, burst: 1 }, 0);
        assert!(rate.take(&mut due, Duration::ZERO).is_ok());
        assert!(rate.take(&mut due, Duration::from_secs(1 << 33)).is_err());
    }

    #[test]
    fn a_datagram_above_the_burst_passes_after_a_pause_and_is_paid_for() {
        let rate = ByteRate { bytes_per_second: 1000, burst_bytes: 500 };
        let due = rate.take_whole(0, Duration::ZERO, 2000).unwrap();
        assert_eq!(rate.take_whole(due, Duration::from_millis(1900), 500), None);
        assert!(rate.take_whole(due, Duration::from_secs(2), 500).is_some());
    }

    #[test]
    fn bytes_given_back_can_be_taken_again() {
        let (rate, now) = (ByteRate::per_second(1 << 20), Duration::from_secs(3));
        let (taken, due) = rate.take(0, now, 1 << 30).unwrap();
        assert_eq!(taken, 1 << 20);
        let due = rate.give_back(due, 1 << 19);
        assert_eq!(rate.take(due, now, 1 << 30).unwrap().0, 1 << 19);
    }

    #[test]
    fn the_ends_of_the_scale_neither_panic_nor_let_everything_pass() {
        let never = ByteRate::per_second(0);
        let (taken, due) = never.take(0, Duration::ZERO, u64::MAX).unwrap();
        assert_eq!((taken, never.take(due, Duration::ZERO, 1)), (1, Err(Duration::from_secs(1))));
        let always = ByteRate::per_second(u64::MAX);
        assert!(always.take(0, Duration::MAX, u64::MAX).is_ok());
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_lets_more_bytes_pass_than_the_burst_and_the_rate(
            bytes_per_second in 1u64..1_000_000,
            burst_bytes in 1u64..1_000_000,
            calls in prop::collection::vec((0u64..100, 1u64..100_000), 1..200),
        ) {
            let rate = ByteRate { bytes_per_second, burst_bytes };
            let (mut due, mut now, mut passed) = (0, Duration::ZERO, 0);
            for (wait, want) in calls {
                now += Duration::from_millis(wait);
                match rate.take(due, now, want) {
                    Ok((bytes, next)) => {
                        prop_assert!((1..=want).contains(&bytes));
                        passed += bytes;
                        due = next;
                    }
                    Err(wait) => prop_assert!(rate.take(due, now + wait, want).is_ok()),
                }
                let most = burst_bytes as f64 + now.as_secs_f64() * bytes_per_second as f64;
                prop_assert!(passed as f64 <= most + 1e-3);
            }
        }

        #[test]
        fn no_stretch_of_time_gives_more_than_the_burst_and_the_rate(
            per_second in 1u32..200,
            burst in 1u32..50,
            waits in prop::collection::vec(0u64..100, 1..200),
        ) {
            let (rate, mut due, mut now) = (Rate { per_second, burst }, 0, Duration::ZERO);
            let mut taken: Vec<Duration> = Vec::new();
            for wait in waits {
                now += Duration::from_millis(wait);
                if rate.take(&mut due, now).is_ok() {
                    taken.push(now);
                }
            }
            for (count, first) in taken.iter().enumerate() {
                let span = now - *first;
                let most = f64::from(burst) + span.as_secs_f64() * f64::from(per_second) * 1.000_001;
                prop_assert!(((taken.len() - count) as f64) <= most + 1e-6);
            }
        }
    }
}
