//! Amplification: how much a datagram server may send to an address that is only claimed.
//!
//! The source of a datagram can be forged. Whoever answers with more than he was sent is a weapon
//! against the owner of the address (RFC 9000, section 8, has the same factor of 3). Everything here
//! counts whole packets, headers included.
//!
//! And two servers that answer each other never stop, once a forged datagram has introduced them
//! (CVE-2024-2169). That cannot be excluded for a service like echo (RFC 862), only be ended: see
//! [`Returns`].

use std::time::Duration;

use crate::rate::{Rate, nanoseconds};

/// IPv4 and UDP headers; an IPv6 header is 20 bytes longer, which favours the other side.
const HEADER_BYTES: u64 = 28;
/// Answers per second to one unproven address, and how many may come at once.
const ANSWERS: Rate = Rate { per_second: 100, burst: 200 };
/// Answers to the ports of services that are attacked by answers.
const ANSWERS_SLOW: Rate = Rate { per_second: 10, burst: 10 };

/// Ports of services that answer by themselves: an answer to one of them is a loop, or an attack on
/// it (CVE-2024-2169).
const NEVER_ANSWERED: [u16; 10] = [0, 7, 17, 19, 111, 137, 138, 161, 389, 500];
/// Two more, from which a server asks too: DNS and NTP.
const SERVERS_THAT_ASK: [u16; 2] = [53, 123];
/// SSDP, mDNS and memcached: their clients may have the port of the service.
const SLOWLY_ANSWERED: [u16; 3] = [1900, 5353, 11_211];

/// What a datagram from a port earns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "never, at a rate, or always")]
pub enum Answering {
    /// No answer, ever.
    Never,
    /// Answers up to this rate.
    At(Rate),
    /// Answers.
    Always,
}

impl Answering {
    /// May a datagram from this port be answered? `trusts_servers` lets DNS and NTP servers ask: for
    /// whoever says what he answers to whom.
    pub fn of_port(port: u16, trusts_servers: bool) -> Self {
        if NEVER_ANSWERED.contains(&port) || SERVERS_THAT_ASK.contains(&port) && !trusts_servers {
            Self::Never
        } else if SLOWLY_ANSWERED.contains(&port) {
            Self::At(ANSWERS_SLOW)
        } else {
            Self::Always
        }
    }
}

/// What one source has sent and been sent, from whichever of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    factor: u64,
    bytes_in: u64,
    bytes_out: u64,
    due: u64,
}

impl Credit {
    /// A source that has sent nothing yet and may be sent `factor` times what it sends.
    pub fn new(factor: u32) -> Self {
        Self { factor: u64::from(factor), bytes_in: 0, bytes_out: 0, due: 0 }
    }

    /// Counts a datagram that came.
    pub fn received(&mut self, bytes: usize) {
        self.bytes_in = self.bytes_in.saturating_add(packet(bytes));
    }

    /// May an answer of so many bytes be sent `now`, a time on any clock that does not jump? Counts
    /// it if so.
    pub fn may_send(&mut self, now: Duration, bytes: usize) -> bool {
        let after = self.bytes_out.saturating_add(packet(bytes));
        if after > self.bytes_in.saturating_mul(self.factor)
            || ANSWERS.take(&mut self.due, now).is_err()
        {
            return false;
        }
        self.bytes_out = after;
        true
    }

    /// Would a new source be sent answers sooner than this one, `now`? So long it has to be remembered.
    pub fn is_behind(&self, now: Duration) -> bool {
        self.due > nanoseconds(now)
    }
}

/// Watches for a conversation of two servers: each datagram brings back what the last answer was.
///
/// A client that asks an echo server the same thing again and again looks exactly like one, until an
/// answer is missing: a client asks again, a loop is over. So one answer in so many is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returns {
    most: u32,
    in_a_row: u32,
    sent: Option<(usize, u64)>,
}

impl Returns {
    /// How many returns in a row are answered depends on what the port says of who is there: a
    /// service of the system (below 1024), any server, or a client. `is_here` tells that it is a port of
    /// this host, where the kernel gives clients those from 32,768 on.
    pub fn new(port: u16, is_here: bool) -> Self {
        let most = match port {
            0..1024 => 1,
            CLIENTS.. if is_here => 9_999,
            _ => 99,
        };
        Self { most, in_a_row: 0, sent: None }
    }

    /// Notes what was answered.
    pub fn sent(&mut self, msg: &[u8]) {
        self.sent = Some((msg.len(), mark(msg)));
    }

    /// Looks at what came. True if it may well be an answer to the last answer, and is to be left
    /// without one.
    pub fn is_loop(&mut self, msg: &[u8]) -> bool {
        // Each answer comes back once; what comes before the next answer tells nothing.
        let Some((bytes, sent)) = self.sent.take() else { return false };
        let is_return = bytes == msg.len() && sent == mark(msg);
        self.in_a_row = if is_return { self.in_a_row.saturating_add(1) } else { 0 };
        let is_loop = self.in_a_row > self.most;
        if is_loop {
            self.in_a_row = 0;
        }
        is_loop
    }
}

/// First port that Linux gives to clients (ip(7), `ip_local_port_range`).
const CLIENTS: u16 = 32_768;

/// By what a message is known again: a word at a time, as this is done for every datagram. Not made to
/// withstand somebody who looks for two of the same mark; they would only be left without an answer.
fn mark(msg: &[u8]) -> u64 {
    let (words, rest) = msg.as_chunks::<8>();
    let last = rest.iter().fold(1_u64, |word, byte| (word << 8) | u64::from(*byte));
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    words
        .chain([last])
        .fold(0, |mark, word| (mark.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95))
}

fn packet(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(HEADER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::{Answering, Credit, Returns};
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
        assert!(credit.is_behind(Duration::from_millis(2_009)));
        assert!(!credit.is_behind(Duration::from_millis(2_010)));
    }

    #[test]
    fn services_that_answer_by_themselves_are_not_answered() {
        for port in [0, 7, 17, 19, 111, 137, 138, 161, 389, 500] {
            assert_eq!(Answering::of_port(port, true), Answering::Never, "{port}");
        }
        for port in [53, 123] {
            assert_eq!(Answering::of_port(port, false), Answering::Never, "{port}");
            assert_eq!(Answering::of_port(port, true), Answering::Always, "{port}");
        }
        for port in [1900, 5353, 11_211] {
            let Answering::At(rate) = Answering::of_port(port, true) else { panic!("{port}") };
            assert_eq!(rate.per_second, 10);
        }
        assert_eq!(Answering::of_port(40_000, false), Answering::Always);
    }

    /// How many datagrams two servers at these ports exchange once one of them has been sent one in
    /// the other's name.
    fn exchanged(ports: [u16; 2], is_here: bool) -> usize {
        let mut ends = [Returns::new(ports[1], is_here), Returns::new(ports[0], is_here)];
        let mut count = 0;
        loop {
            for end in &mut ends {
                if end.is_loop(b"hello") {
                    return count;
                }
                end.sent(b"hello");
                count += 1;
            }
        }
    }

    #[test]
    fn two_servers_that_answer_each_other_stop() {
        assert!(exchanged([9, 9], false) <= 4);
        assert!(exchanged([7000, 7001], true) <= 200);
        assert!(exchanged([40_000, 40_001], false) <= 200);
        assert!(exchanged([40_000, 40_001], true) <= 20_000);
    }

    #[test]
    fn only_what_comes_back_unchanged_is_a_return() {
        let mut returns = Returns::new(7000, false);
        for number in 0_u32..1000 {
            let msg = number.to_be_bytes();
            assert!(!returns.is_loop(&msg));
            returns.sent(&msg);
        }
        for _ in 0..1000 {
            assert!(!returns.is_loop(b"what time is it?"));
            returns.sent(b"noon");
        }
        let lost = (0..1000).filter(|_| {
            let is_loop = returns.is_loop(b"the same");
            if !is_loop {
                returns.sent(b"the same");
            }
            is_loop
        });
        assert_eq!(lost.count(), 9, "one of a hundred");
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
