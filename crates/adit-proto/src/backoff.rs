//! Backoff: how long to wait before the next try, with full jitter.

use std::time::Duration;

/// The span from which waits before retries are drawn: full jitter between nothing and a ceiling that
/// doubles from `first` to `max`.
///
/// Full jitter spreads the clients of a restarted server over the whole span, where a fixed or merely
/// shaken wait brings them all back in the same instant.
///
/// ```
/// use adit_proto::backoff::Backoff;
/// let backoff = Backoff::default(); // 100 ms to 30 s
/// assert!(backoff.wait(0, u64::MAX).as_millis() <= 100);
/// assert!(backoff.wait(60, u64::MAX).as_secs() <= 30);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain settings, built with ..Default::default()")]
pub struct Backoff {
    /// Ceiling of the first wait.
    pub first: Duration,
    /// Ceiling of every later wait.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), max: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The wait before try number `tries` + 1, drawn with `random`, 64 even bits.
    pub fn wait(&self, tries: u32, random: u64) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(tries).unwrap_or(u32::MAX));
        draw(doubled.min(self.max), random)
    }
}

/// Over how long clients spread their first try after they have lost their server.
const SPREAD: Duration = Duration::from_millis(2500);

/// The wait of a client that has just lost its server, before its first try to connect again; drawn with
/// `random`, 64 even bits, from up to 2.5 s, and from no more than half of the time that its calls have
/// `left`.
///
/// All clients lose a server in the same moment. 5,000 that came back within 100 ms would find its queue
/// full, and the next ones full again.
///
/// ```
/// use adit_proto::backoff::first_try;
/// use std::time::Duration;
/// assert!(first_try(Duration::from_secs(10), u64::MAX) <= Duration::from_millis(2500));
/// assert!(first_try(Duration::from_millis(300), u64::MAX) <= Duration::from_millis(150));
/// ```
pub fn first_try(left: Duration, random: u64) -> Duration {
    draw(SPREAD.min(left.checked_div(2).unwrap_or_default()), random)
}

/// Where the doubling of [`Backoff::wait`] goes on behind [`first_try`], which has taken its place so far:
/// at 3.2 s with the default. From the first ceiling on, those who were early would crowd into the moment
/// in which the server is back.
pub const TRIES_BEFORE: u32 = 5;

/// A time from nothing to a ceiling, drawn evenly.
fn draw(ceiling: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    // The high half of a 64 x 64 bit product maps `random` evenly onto 0..=nanos.
    let drawn = (u128::from(random).saturating_mul(u128::from(nanos).saturating_add(1))) >> 64;
    Duration::from_nanos(u64::try_from(drawn).unwrap_or(u64::MAX))
}

/// How many retries may be made: a tenth of the calls, and a reserve.
///
/// Retries multiply the load of a server exactly while it has too little to give. With a budget they add
/// a tenth at most, however long the trouble lasts; the reserve lets single failures pass unnoticed.
///
/// ```
/// use adit_proto::backoff::RetryBudget;
/// let mut budget = RetryBudget::default();
/// assert!(budget.retry());
/// ```
#[derive(Clone, Debug)]
pub struct RetryBudget {
    tenths: u32,
}

/// What a retry takes, where a call gives one.
const RETRY: u32 = 10;
/// Retries that can be saved up.
const RESERVE: u32 = 100;

impl Default for RetryBudget {
    fn default() -> Self {
        Self { tenths: RETRY.saturating_mul(RESERVE) }
    }
}

impl RetryBudget {
    /// A call is made for the first time.
    pub fn call(&mut self) {
        self.tenths = self.tenths.saturating_add(1).min(RETRY.saturating_mul(RESERVE));
    }

    /// May one be made again? Takes it from the budget.
    #[must_use]
    pub fn retry(&mut self) -> bool {
        match self.tenths.checked_sub(RETRY) {
            Some(left) => {
                self.tenths = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, RESERVE, RetryBudget, TRIES_BEFORE, first_try};
    use std::time::Duration;

    #[test]
    fn waits_reach_from_nothing_to_a_ceiling_that_doubles_and_stops() {
        let backoff = Backoff::default();
        let longest: Vec<_> = (0..12).map(|tries| backoff.wait(tries, u64::MAX)).collect();
        assert_eq!(longest[0], Duration::from_millis(100));
        assert_eq!(longest[3], Duration::from_millis(800));
        assert_eq!(longest[11], Duration::from_secs(30));
        assert_eq!(backoff.wait(9, 0), Duration::ZERO);
        assert_eq!(backoff.wait(u32::MAX, u64::MAX), Duration::from_secs(30));
    }

    /// Fault 3 of docs/reliability.md: of 5,000 clients that lose their server at once no 100 ms hold more
    /// than 5 % of the tries, and all are back within 60 s, however long it was away.
    #[test]
    fn row_03_clients_that_lose_their_server_do_not_come_back_in_the_same_moment() {
        const CLIENTS: u64 = 5000;
        const SHARE_MAX: f64 = 0.05;
        const BACK_WITHIN: Duration = Duration::from_secs(60);
        let left = Duration::from_secs(600);
        let bucket = |at: Duration| usize::try_from(at.as_millis() / 100).unwrap();
        for away_s in [0, 1, 2, 5, 10, 20, 30] {
            let (away, mut random) = (Duration::from_secs(away_s), 1_u64);
            let mut draw = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            };
            let (mut buckets, mut last) = (vec![0_u32; 1000], Duration::ZERO);
            for _ in 0..CLIENTS {
                let (mut at, mut tries) = (first_try(left, draw()), TRIES_BEFORE);
                buckets[bucket(at)] += 1;
                while at < away {
                    at += Backoff::default().wait(tries, draw());
                    tries += 1;
                    buckets[bucket(at)] += 1;
                }
                last = last.max(at);
            }
            let (all, most) = (buckets.iter().sum::<u32>(), buckets.iter().max().unwrap());
            let share = f64::from(*most) / f64::from(all);
            assert!(share <= SHARE_MAX, "{share} of {all} tries, away for {away:?}");
            assert!(last <= BACK_WITHIN, "{last:?}, away for {away:?}");
        }
    }

    #[test]
    fn retries_are_a_tenth_of_the_calls_and_the_reserve() {
        const CALLS: u32 = 100_000;
        let mut budget = RetryBudget::default();
        let mut retries = 0;
        for _ in 0..CALLS {
            budget.call();
            // Every try fails: as many as may are made again.
            while budget.retry() {
                retries += 1;
            }
        }
        // The first call finds the reserve full.
        assert_eq!(retries, RESERVE + (CALLS - 1) / 10);
    }
}
