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
        let ceiling = doubled.min(self.max);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        // The high half of a 64 x 64 bit product maps `random` evenly onto 0..=nanos.
        let drawn = (u128::from(random).saturating_mul(u128::from(nanos).saturating_add(1))) >> 64;
        Duration::from_nanos(u64::try_from(drawn).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;
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
}
