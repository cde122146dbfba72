//! One way of a TCP stream: from sequence numbers to places in the stream, and what went by before.

use std::ops::Range;

use super::layers::{FIN, RST, SYN, Tcp};

/// Holes that are remembered at once. A stream with more has lost order altogether.
const GAPS_MAX: usize = 64;

/// What is known of one way of a stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The sequence number of its SYN.
    syn: Option<u32>,
    /// The sequence number of its first payload byte.
    base: Option<u32>,
    /// One past the last byte that went by.
    next: u64,
    /// What did not go by yet, below `next`.
    gaps: Vec<Range<u64>>,
    /// Where it ends, once a FIN said so.
    end: Option<u64>,
    /// The scale of its windows as its SYN tells: `None` within is none at all.
    shift: Option<Option<u8>>,
}

/// Where a segment stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) off: Range<u64>,
    /// Its first byte, its SYN or its FIN went by before; or it only asks whether the peer is there.
    pub(super) again: bool,
    /// Payload bytes that stand before the first byte that was seen; `off` is without them.
    pub(super) before: u64,
}

impl Stream {
    /// Places a segment and takes its bytes as seen.
    pub(super) fn place(&mut self, tcp: &Tcp<'_>) -> Placed {
        let is_syn = tcp.flags & SYN != 0;
        let was_opened = is_syn && self.syn == Some(tcp.seq);
        if is_syn && !was_opened {
            let base = tcp.seq.wrapping_add(1);
            let shift = Some(tcp.shift);
            *self = Self { syn: Some(tcp.seq), base: Some(base), shift, ..Self::default() };
        }
        // A reset may stand anywhere, and carries nothing.
        if tcp.flags & RST != 0 {
            return Placed { off: self.next..self.next, again: false, before: 0 };
        }
        let first = tcp.seq.wrapping_add(u32::from(is_syn));
        let base = *self.base.get_or_insert(first);
        let (from, before) = self.offset(first, base);
        let before = before.min(tcp.len);
        let len = tcp.len.saturating_sub(before);
        let to = from.saturating_add(len);
        let mut placed = Placed { off: from..to, again: was_opened, before };
        if len > 0 {
            placed.again |= self.add(&placed.off);
        } else if tcp.flags & (SYN | FIN) == 0 {
            // One below what comes next: a keepalive (RFC 9293, section 3.8.4).
            let is_past_end = self.end.is_some_and(|end| from > end);
            placed.again |= !is_past_end && from.checked_add(1) == Some(self.next);
            // The FIN has a sequence number, but no place in the stream.
            let at = self.end.map_or(from, |end| from.min(end));
            placed.off = at..at;
        }
        if tcp.flags & FIN != 0 {
            placed.again |= self.end.is_some();
            self.end.get_or_insert(to);
        }
        placed
    }

    /// Learns from an acknowledgement where this way begins, if that is not known better.
    pub(super) fn acknowledged(&mut self, ack: u32) {
        self.base.get_or_insert(ack);
    }

    /// The place of a sequence number: the one closest to what comes next (RFC 9293, section 3.4).
    /// The second number is how far it is before the first byte.
    fn offset(&self, seq: u32, base: u32) -> (u64, u64) {
        let [.., a, b, c, d] = self.next.to_be_bytes();
        let expected = base.wrapping_add(u32::from_be_bytes([a, b, c, d]));
        let distance = i64::from(seq.wrapping_sub(expected).cast_signed());
        match self.next.checked_add_signed(distance) {
            Some(place) => (place, 0),
            None => (0, distance.unsigned_abs().saturating_sub(self.next)),
        }
    }

    /// Takes bytes as seen; did the first of them go by before?
    fn add(&mut self, off: &Range<u64>) -> bool {
        if off.start > self.next && self.gaps.len() < GAPS_MAX {
            self.gaps.push(self.next..off.start);
        }
        let is_new = off.start >= self.next || self.gaps.iter().any(|gap| gap.contains(&off.start));
        let mut left = Vec::with_capacity(self.gaps.len());
        for gap in self.gaps.drain(..) {
            let parts = [gap.start..gap.end.min(off.start), gap.start.max(off.end)..gap.end];
            left.extend(parts.into_iter().filter(|part| !part.is_empty()));
        }
        left.truncate(GAPS_MAX);
        self.gaps = left;
        self.next = self.next.max(off.end);
        !is_new
    }

    /// Bytes that must have gone by, and were not captured.
    pub(super) fn missing(&self) -> u64 {
        let sizes = self.gaps.iter().map(|gap| gap.end.saturating_sub(gap.start));
        sizes.fold(0, u64::saturating_add)
    }

    pub(super) const fn syn(&self) -> Option<u32> {
        self.syn
    }

    /// Was anything of it seen?
    pub(super) const fn is_begun(&self) -> bool {
        self.base.is_some()
    }

    pub(super) const fn is_ended(&self) -> bool {
        self.end.is_some()
    }

    pub(super) const fn shift(&self) -> Option<Option<u8>> {
        self.shift
    }
}
