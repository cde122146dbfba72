//! Sources: what each address has open, how fast it comes, and whether it is held off.
//!
//! A source is an IPv4 address or a /64 of IPv6, which is what one subscriber gets. Only sources that have
//! something open, or came so lately that it still counts, are remembered: the table is as long as what
//! is open and at most [`ENTRIES_MAX`] more, however many sources there are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::limits::Limit;
use crate::rate::{Rate, nanoseconds};

/// Sources remembered that have nothing open; the one heard of longest ago makes room.
pub const ENTRIES_MAX: usize = 65_536;

/// How long a source is held off the first time; it doubles each time up to the longest.
const HELD_MIN: Duration = Duration::from_secs(5);
const HELD_MAX: Duration = Duration::from_secs(600);
/// Faults count for so long, and so many of a kind are one too many.
const FAULTS_WITHIN: Duration = Duration::from_secs(60);
const HANDSHAKES_FAILED_MAX: u8 = 5;
const MESSAGES_LATE_MAX: u8 = 10;

/// Whose connections are counted together: an IPv4 address, or a /64 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(u128);

impl Source {
    /// The source of an address.
    pub fn of(address: IpAddr) -> Self {
        let bits = match address.to_canonical() {
            IpAddr::V4(address) => return Self(address.to_ipv6_mapped().to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        Self(bits & !u128::from(u64::MAX))
    }
}

/// Why a source has to stay outside for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Excess {
    /// It has as many open as it may.
    Open(usize),
    /// It comes faster than it may.
    Rate(Rate),
    /// It is held off for its faults.
    Held,
}

/// What a source did that is not done. A few of a kind within a minute and it is held off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A handshake failed; 5 are too many.
    Handshake,
    /// A message that was begun did not come in time; 10 are too many.
    Message,
}

/// What is known of a source.
#[derive(Clone, Copy, Default)]
struct Entry {
    open: usize,
    /// When its next connection is due; see [`Rate`].
    due: u64,
    /// Its place among those that have nothing open.
    turn: u64,
    handshakes_failed: u8,
    messages_late: u8,
    faults_since: Duration,
    held_until: Duration,
    times_held: u8,
}

impl Entry {
    /// Says it nothing any more that would change an answer?
    fn is_stale(&self, now: Duration) -> bool {
        let has_faults = self.handshakes_failed > 0 || self.messages_late > 0;
        self.open == 0
            && self.due <= nanoseconds(now)
            && !(has_faults && now < self.faults_since.saturating_add(FAULTS_WITHIN))
            && !self.remembers_hold(now)
    }

    /// Whoever was held off lately is held off for longer the next time.
    fn remembers_hold(&self, now: Duration) -> bool {
        self.times_held > 0 && now < self.held_until.saturating_add(HELD_MAX)
    }
}

/// What all sources have open, and how fast they come.
///
/// ```
/// use adit_proto::limits::Limit;
/// use adit_proto::sources::{Excess, Source, Sources};
/// use std::time::Duration;
/// let mut sources = Sources::new(Limit::At(1), Limit::Off);
/// let (greedy, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
/// let now = Duration::ZERO;
/// assert_eq!(sources.arrive(Source::of(greedy), now), Ok(()));
/// assert_eq!(sources.arrive(Source::of(greedy), now), Err(Excess::Open(1)));
/// assert_eq!(sources.arrive(Source::of(other), now), Ok(()));
/// ```
#[derive(Clone)]
pub struct Sources {
    open_max: Limit<usize>,
    rate: Limit<Rate>,
    entries: BTreeMap<Source, Entry>,
    /// Those that have nothing open, the one heard of longest ago first.
    turns: BTreeMap<u64, Source>,
    next_turn: u64,
}

impl Sources {
    /// So many open for each source, and so fast.
    pub fn new(open_max: Limit<usize>, rate: Limit<Rate>) -> Self {
        Self { open_max, rate, entries: BTreeMap::new(), turns: BTreeMap::new(), next_turn: 0 }
    }

    /// A source wants to open one more, `now`, on any clock that does not jump. If it may, it has; tell
    /// with [`leave`](Self::leave) when that is closed.
    ///
    /// # Errors
    /// Why not. Nothing has changed for it: who is refused is not refused for longer by asking.
    pub fn arrive(&mut self, source: Source, now: Duration) -> Result<(), Excess> {
        let mut entry = self.take(source);
        let answer = self.judge(&mut entry, now);
        if answer.is_ok() {
            entry.open = entry.open.saturating_add(1);
        }
        self.keep(source, entry, now);
        answer
    }

    /// A source has closed one.
    pub fn leave(&mut self, source: Source, now: Duration) {
        let mut entry = self.take(source);
        entry.open = entry.open.saturating_sub(1);
        self.keep(source, entry, now);
    }

    /// A source did what is not done. True if it is held off from now on.
    pub fn fault(&mut self, source: Source, fault: Fault, now: Duration) -> bool {
        let mut entry = self.take(source);
        if now >= entry.faults_since.saturating_add(FAULTS_WITHIN) {
            (entry.handshakes_failed, entry.messages_late) = (0, 0);
        }
        if entry.handshakes_failed == 0 && entry.messages_late == 0 {
            entry.faults_since = now;
        }
        let (count, most) = match fault {
            Fault::Handshake => (&mut entry.handshakes_failed, HANDSHAKES_FAILED_MAX),
            Fault::Message => (&mut entry.messages_late, MESSAGES_LATE_MAX),
        };
        *count = count.saturating_add(1);
        let is_held = *count >= most;
        if is_held {
            if !entry.remembers_hold(now) {
                entry.times_held = 0;
            }
            let factor = 1_u32.checked_shl(entry.times_held.into()).unwrap_or(u32::MAX);
            entry.held_until = now.saturating_add(HELD_MIN.saturating_mul(factor).min(HELD_MAX));
            entry.times_held = entry.times_held.saturating_add(1);
            (entry.handshakes_failed, entry.messages_late) = (0, 0);
        }
        self.keep(source, entry, now);
        is_held
    }

    /// Sources that are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is none remembered?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn judge(&self, entry: &mut Entry, now: Duration) -> Result<(), Excess> {
        if now < entry.held_until {
            return Err(Excess::Held);
        }
        if let Some(most) = self.open_max.at()
            && entry.open >= most
        {
            return Err(Excess::Open(most));
        }
        match self.rate.at() {
            Some(rate) => rate.take(&mut entry.due, now).map_err(|_too_early| Excess::Rate(rate)),
            None => Ok(()),
        }
    }

    /// What is known of a source; it is not in the table meanwhile.
    fn take(&mut self, source: Source) -> Entry {
        let entry = self.entries.remove(&source).unwrap_or_default();
        if entry.open == 0 {
            self.turns.remove(&entry.turn);
        }
        entry
    }

    fn keep(&mut self, source: Source, mut entry: Entry, now: Duration) {
        if entry.open == 0 {
            if entry.is_stale(now) {
                return;
            }
            self.next_turn = self.next_turn.saturating_add(1);
            entry.turn = self.next_turn;
            self.turns.insert(entry.turn, source);
            self.sweep(now);
        }
        self.entries.insert(source, entry);
    }

    /// Forgets whom there is nothing to remember of, and the oldest if there are too many. Each call that
    /// adds one looks at two, so that the table is never swept as a whole.
    fn sweep(&mut self, now: Duration) {
        for _ in 0..2 {
            let Some((turn, source)) = self.turns.first_key_value() else { return };
            let (turn, source) = (*turn, *source);
            let entry = self.entries.get(&source);
            // The newest of all is on its way into the table.
            let Some(entry) = entry else { return };
            if self.turns.len() <= ENTRIES_MAX && !entry.is_stale(now) {
                return;
            }
            self.turns.remove(&turn);
            self.entries.remove(&source);
        }
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{ENTRIES_MAX, Excess, Fault, Source, Sources};
    use crate::limits::Limit;
    use crate::rate::Rate;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    const RATE: Rate = Rate { per_second: 50, burst: 100 };

    fn source(number: u32) -> Source {
        Source::of(Ipv4Addr::from_bits(number).into())
    }

    fn second(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn an_ipv6_source_is_its_64_and_a_mapped_one_its_ipv4_address() {
        let of = |text: &str| Source::of(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.2"), of("192.0.2.1"));
        assert_ne!(of("::1"), of("0.0.0.1"));
    }

    #[test]
    fn one_source_comes_too_fast_and_no_other_is_refused() {
        let mut sources = Sources::new(Limit::Off, Limit::At(RATE));
        let now = second(1);
        let let_in = (0..10_000).filter(|_| sources.arrive(source(1), now).is_ok()).count();
        assert_eq!(let_in, 100);
        assert_eq!(sources.arrive(source(1), now), Err(Excess::Rate(RATE)));
        for other in 2..1000 {
            assert_eq!(sources.arrive(source(other), now), Ok(()));
        }
    }

    #[test]
    fn what_is_closed_may_be_opened_again() {
        let mut sources = Sources::new(Limit::At(2), Limit::Off);
        let now = second(1);
        assert!(sources.arrive(source(1), now).is_ok() && sources.arrive(source(1), now).is_ok());
        assert_eq!(sources.arrive(source(1), now), Err(Excess::Open(2)));
        sources.leave(source(1), now);
        assert!(sources.arrive(source(1), now).is_ok());
        sources.leave(source(1), now);
        sources.leave(source(1), now);
        assert!(sources.is_empty(), "nothing is remembered of who has nothing open");
    }

    #[test]
    fn two_hundred_thousand_sources_leave_a_table_of_its_bound() {
        let mut sources = Sources::new(Limit::At(100), Limit::At(RATE));
        let now = second(1);
        for number in 0..200_000 {
            assert!(sources.arrive(source(number), now).is_ok());
            sources.leave(source(number), now);
            assert!(sources.len() <= ENTRIES_MAX + 1);
        }
        assert_eq!(sources.len(), ENTRIES_MAX);
        assert_eq!(sources.turns.len(), ENTRIES_MAX);
        // A moment later the rate has nothing to say of them: who comes takes two of them along.
        for number in 0..ENTRIES_MAX {
            let number = 1_000_000 + u32::try_from(number).unwrap();
            assert!(sources.arrive(source(number), second(60)).is_ok());
            sources.leave(source(number), second(60));
        }
        assert!(sources.len() <= ENTRIES_MAX);
    }

    #[test]
    fn faults_hold_a_source_off_for_longer_each_time() {
        let mut sources = Sources::new(Limit::Off, Limit::Off);
        let mut now = second(100);
        let mut held = Vec::new();
        for _ in 0..9 {
            for fault in 1..=5 {
                assert_eq!(sources.fault(source(1), Fault::Handshake, now), fault == 5);
            }
            let begin = now;
            while sources.arrive(source(1), now) == Err(Excess::Held) {
                now += second(1);
            }
            sources.leave(source(1), now);
            held.push((now - begin).as_secs());
            assert!(sources.arrive(source(2), begin).is_ok(), "nobody else is held off");
            sources.leave(source(2), begin);
        }
        assert_eq!(held, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        // After a long time it is as if nothing had been.
        now += second(1201);
        for _ in 0..5 {
            sources.fault(source(1), Fault::Handshake, now);
        }
        assert_eq!(sources.arrive(source(1), now + second(4)), Err(Excess::Held));
        assert!(sources.arrive(source(1), now + second(5)).is_ok());
    }

    #[test]
    fn faults_far_apart_do_not_add_up() {
        let mut sources = Sources::new(Limit::Off, Limit::Off);
        for minute in 0..100 {
            assert!(!sources.fault(source(1), Fault::Message, second(minute * 61)));
        }
    }

    #[test]
    fn the_one_held_off_longest_ago_makes_room() {
        let mut sources = Sources::new(Limit::Off, Limit::Off);
        let now = second(1);
        for number in 0..=u32::try_from(ENTRIES_MAX).unwrap() {
            for _ in 0..5 {
                sources.fault(source(number), Fault::Handshake, now);
            }
        }
        assert_eq!(sources.len(), ENTRIES_MAX);
        assert!(sources.arrive(source(0), now).is_ok(), "forgotten");
        assert_eq!(sources.arrive(source(1), now), Err(Excess::Held));
    }

    proptest! {
        /// Against a plain count of what is open.
        #[test]
        fn nobody_is_ever_counted_wrong(
            acts in prop::collection::vec((0u32..5, any::<bool>(), 0u64..2000), 0..300),
        ) {
            let mut sources = Sources::new(Limit::At(3), Limit::Off);
            let mut open: BTreeMap<u32, usize> = BTreeMap::new();
            let mut now = Duration::ZERO;
            for (number, is_arrival, wait) in acts {
                now += Duration::from_millis(wait);
                let count = open.entry(number).or_default();
                if is_arrival {
                    let may = sources.arrive(source(number), now).is_ok();
                    prop_assert_eq!(may, *count < 3);
                    *count += usize::from(may);
                } else if *count > 0 {
                    *count -= 1;
                    sources.leave(source(number), now);
                }
            }
            prop_assert_eq!(sources.len(), open.values().filter(|count| **count > 0).count());
            prop_assert!(sources.turns.is_empty());
        }
    }
}
