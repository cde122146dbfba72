//! Rate: so many a second and no more, with one number to remember for each who is counted.
//!
//! The generic cell rate algorithm (ITU-T I.371, annex A): what is remembered is when the next one would
//! be due if they came evenly. Whoever is ahead of that by more than the burst has to wait. Nothing has
//! to be done while nobody comes.

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

/// A time as the number that is remembered.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Rate;
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

    proptest! {
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
