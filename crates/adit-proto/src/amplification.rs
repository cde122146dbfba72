//! Amplification: how much a datagram server may send to an address that is only claimed.
//!
//! The source of a datagram can be forged. Whoever answers with more than he was sent is a weapon
//! against the owner of the address (RFC 9000, section 8, has the same factor of 3). Everything here
//! counts whole packets, headers included.

use std::time::Duration;

/// IPv4 and UDP headers; an IPv6 header is 20 bytes longer, which favours the other side.
const HEADER_BYTES: u64 = 28;
/// Answers per second to one unproven address, and how many may come at once.
const ANSWER_EVERY: Duration = Duration::from_millis(10);
const BURST: u32 = 200;

/// Ports of services that answer by themselves: an answer to one of them is a loop, or an attack on
/// it (CVE-2024-2169).
const NEVER_ANSWERED: [u16; 12] = [0, 7, 17, 19, 53, 111, 123, 137, 138, 161, 389, 500];

/// May a datagram from this port be answered?
pub fn may_answer_port(port: u16) -> bool {
    !NEVER_ANSWERED.contains(&port)
}

/// What one address has sent and been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    factor: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// When the next answer would be due if they came evenly (GCRA, ITU-T I.371).
    due: Duration,
}

impl Credit {
    /// An address that has sent nothing yet and may be sent `factor` times what it sends.
    pub fn new(factor: u32) -> Self {
        Self { factor: u64::from(factor), bytes_in: 0, bytes_out: 0, due: Duration::ZERO }
    }

    /// Counts a datagram that came.
    pub fn received(&mut self, bytes: usize) {
        self.bytes_in = self.bytes_in.saturating_add(packet(bytes));
    }

    /// May an answer of so many bytes be sent `now`, a time on any clock that does not jump? Counts
    /// it if so.
    pub fn may_send(&mut self, now: Duration, bytes: usize) -> bool {
        let after = self.bytes_out.saturating_add(packet(bytes));
        let tolerance = ANSWER_EVERY.saturating_mul(BURST.saturating_sub(1));
        let due = self.due.max(now);
        if after > self.bytes_in.saturating_mul(self.factor) || due.saturating_sub(now) > tolerance
        {
            return false;
        }
        self.bytes_out = after;
        self.due = due.saturating_add(ANSWER_EVERY);
        true
    }
}

fn packet(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(HEADER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::{Credit, may_answer_port};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn a_short_question_earns_a_line_of_answer_and_not_two() {
        let mut credit = Credit::new(3);
        credit.received(0);
        assert!(credit.may_send(Duration::ZERO, 26), "daytime fits");
        assert!(!credit.may_send(Duration::ZERO, 26));
    }

    #[test]
    fn a_burst_is_answered_and_then_one_answer_every_10_ms() {
        let mut credit = Credit::new(3);
        for _ in 0..1000 {
            credit.received(100);
        }
        let burst = (0..1000).filter(|_| credit.may_send(Duration::ZERO, 1)).count();
        assert_eq!(burst, 200);
        assert!(!credit.may_send(Duration::from_millis(9), 1));
        assert!(credit.may_send(Duration::from_millis(10), 1));
    }

    #[test]
    fn services_that_answer_by_themselves_are_not_answered() {
        assert!(!may_answer_port(19) && !may_answer_port(53) && may_answer_port(40_000));
    }

    proptest! {
        #[test]
        fn never_more_than_the_factor_goes_out(
            acts in prop::collection::vec((any::<bool>(), 0usize..2000, 0u64..50), 0..200),
        ) {
            let (mut credit, mut now) = (Credit::new(3), Duration::ZERO);
            let (mut came, mut went) = (0, 0);
            for (is_in, bytes, wait) in acts {
                now += Duration::from_millis(wait);
                if is_in {
                    credit.received(bytes);
                    came += bytes + 28;
                } else if credit.may_send(now, bytes) {
                    went += bytes + 28;
                }
                prop_assert!(went <= 3 * came);
            }
        }
    }
}
