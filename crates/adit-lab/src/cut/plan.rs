//! What is done to one way of a connection, and behind which byte: a pure function of the seed.

use std::fmt;
use std::time::Duration;

use crate::random::Random;

/// What is done behind a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// A write ends here, and the next one comes a moment later: two reads for the receiver, unless
    /// it sleeps.
    Split,
    /// What follows, up to the next decision, is one write, however it comes in.
    Merge,
    /// Nothing goes on for so long.
    Stall(Duration),
    /// The end of this way is passed on, so much later than it came.
    Late(Duration),
    /// Both connections are reset. What went before arrives first.
    Reset,
    /// The receiver reads a clean end, the sender a reset.
    Truncate,
}

impl Decision {
    /// The word in the log: `split`, `merge`, `stall`, `late`, `reset`, `truncate`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Merge => "merge",
            Self::Stall(_) => "stall",
            Self::Late(_) => "late",
            Self::Reset => "reset",
            Self::Truncate => "truncate",
        }
    }

    /// How long it holds things up.
    pub const fn time(self) -> Option<Duration> {
        match self {
            Self::Stall(time) | Self::Late(time) => Some(time),
            _ => None,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time() {
            Some(time) => write!(f, "{} {time:?}", self.word()),
            None => f.write_str(self.word()),
        }
    }
}

/// What may be done to a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "nothing is lost, or there are two ways to lose it")]
pub enum Mode {
    /// Writes are split, joined and held up, ends come late. Nothing is lost: what comes out is the
    /// same for every seed.
    #[default]
    Gentle,
    /// That, and a reset behind a byte of each way, if so many come.
    Reset,
    /// That, and a cut behind a byte of each way, if so many come: the receiver reads a clean end. On
    /// a stream without frames nobody can tell it from a whole one.
    Truncate,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Way {
    /// From the client to the target.
    Up,
    /// From the target to the client.
    Down,
}

impl Way {
    /// The word in the log: `up` or `down`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The decisions of one way of a connection, in the order of their bytes.
///
/// ```
/// use adit_lab::cut::{Mode, Plan, Way};
/// let decisions = |seed| Plan::new(Mode::Gentle, seed, 1, Way::Up).take(100).collect::<Vec<_>>();
/// assert_eq!(decisions(42), decisions(42));
/// assert_ne!(decisions(42), decisions(43));
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    random: Random,
    /// Behind which byte the connection ends, and how.
    fatal: Option<(u64, Decision)>,
    /// Drawn first, so that the end of a stream does not depend on its length.
    late: Option<Decision>,
    /// Bytes that the last decision stood behind; none when there are no more.
    behind: Option<u64>,
    /// The only byte to cut behind.
    only: Option<(u64, Decision)>,
}

/// Decisions are at most 2^14 bytes apart: small ones are met within a line, and a transfer of
/// megabytes still ends.
const STEP_BITS: u64 = 14;
/// A connection breaks within its first 64 KiB, or not.
const FATAL_BITS: u64 = 16;
/// One decision in so many holds things up, by at most so many milliseconds.
const STALLS_ONE_IN: u64 = 16;
const STALL_MS_MAX: u64 = 20;
/// Out of as many, so many join writes.
const MERGES: u64 = 5;
/// One end in so many comes late, by at most so many milliseconds.
const LATE_ONE_IN: u64 = 4;
const LATE_MS_MAX: u64 = 50;

impl Plan {
    /// The decisions for a way of the connection with this number, from 1.
    pub fn new(mode: Mode, seed: u64, connection: u64, way: Way) -> Self {
        let mut random = Random::of(seed, connection, u64::from(way == Way::Down));
        let late = (random.below(LATE_ONE_IN) == 0)
            .then(|| Decision::Late(Duration::from_millis(1 + random.below(LATE_MS_MAX))));
        // Drawn in every mode: with the same seed, modes differ by the fatal decision alone.
        let end = random.of_any_size(FATAL_BITS);
        let fatal = fatal(mode).map(|decision| (end, decision));
        Self { random, fatal, late, behind: Some(0), only: None }
    }

    /// One decision, behind this byte: a split, or what the mode ends connections by.
    pub fn at(mode: Mode, behind: u64) -> Self {
        let decision = fatal(mode).unwrap_or(Decision::Split);
        let only = Some((behind, decision));
        Self { random: Random::of(0, 0, 0), fatal: None, late: None, behind: None, only }
    }

    /// What is done when the end of the stream comes.
    pub fn end(&self) -> Option<Decision> {
        self.late
    }
}

fn fatal(mode: Mode) -> Option<Decision> {
    match mode {
        Mode::Gentle => None,
        Mode::Reset => Some(Decision::Reset),
        Mode::Truncate => Some(Decision::Truncate),
    }
}

impl Iterator for Plan {
    /// Behind how many bytes, and what. The numbers never go down, and after a reset or a truncation
    /// there are no more.
    type Item = (u64, Decision);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(only) = self.only.take() {
            return Some(only);
        }
        let behind = self.behind? + 1 + self.random.of_any_size(STEP_BITS);
        let decision = match self.random.below(STALLS_ONE_IN) {
            0 => Decision::Stall(Duration::from_millis(1 + self.random.below(STALL_MS_MAX))),
            1..=MERGES => Decision::Merge,
            _ => Decision::Split,
        };
        if let Some((end, decision)) = self.fatal
            && end <= behind
        {
            self.behind = None;
            return Some((end, decision));
        }
        self.behind = Some(behind);
        Some((behind, decision))
    }
}

#[cfg(test)]
mod tests {
    use super::{Decision, Mode, Plan, Way};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decisions_rise_and_modes_differ_by_the_last_one(seed: u64, connection in 1..9_u64) {
            let plan = |mode| Plan::new(mode, seed, connection, Way::Down);
            let gentle: Vec<_> = plan(Mode::Gentle).take(2000).collect();
            prop_assert!(gentle.windows(2).all(|two| two[0].0 < two[1].0));
            prop_assert!(gentle[0].0 > 0);
            for (mode, last) in [(Mode::Reset, Decision::Reset), (Mode::Truncate, Decision::Truncate)] {
                let decisions: Vec<_> = plan(mode).collect();
                let (end, before) = decisions.split_last().unwrap();
                prop_assert_eq!(end.1, last);
                prop_assert!(end.0 < 1 << 16);
                prop_assert_eq!(before, &gentle[..before.len()]);
                prop_assert!(before.iter().all(|(behind, _)| *behind < end.0));
            }
        }
    }

    #[test]
    fn each_kind_of_decision_is_made() {
        let all: Vec<_> = Plan::new(Mode::Gentle, 1, 1, Way::Up).take(200).collect();
        for word in ["split", "merge", "stall"] {
            assert!(all.iter().any(|(_, decision)| decision.word() == word), "{word}: {all:?}");
        }
        let late = |seed| Plan::new(Mode::Gentle, seed, 1, Way::Up).end().is_some();
        assert!((0..40).any(late) && !(0..40).all(late));
    }

    #[test]
    fn a_cut_at_a_byte_is_the_only_one() {
        let all = |mode| Plan::at(mode, 7).collect::<Vec<_>>();
        assert_eq!(all(Mode::Gentle), [(7, Decision::Split)]);
        assert_eq!(all(Mode::Reset), [(7, Decision::Reset)]);
        assert_eq!(all(Mode::Truncate), [(7, Decision::Truncate)]);
        assert_eq!(Plan::at(Mode::Gentle, 7).end(), None);
    }
}
