//! What every conversation of a server shares: limits, observers and totals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::handler::OutLimits;
use crate::observe::Observers;
use crate::peer::Closed;
use crate::{Code, Limits};

/// One per I/O thread; the totals are the whole server's.
pub(crate) struct Context {
    pub(crate) limits: Limits,
    pub(crate) out: OutLimits,
    pub(crate) observers: Observers,
    pub(crate) totals: Arc<Totals>,
}

impl Context {
    pub(crate) fn new(limits: Limits, observers: Observers, totals: Arc<Totals>) -> Self {
        let out = OutLimits { reply_bytes: limits.reply_bytes };
        Self { limits, out, observers, totals }
    }

    /// What cuts a conversation in the middle: the server does not wait for it any more.
    pub(crate) fn cut_code(&self) -> Code {
        match self.totals.is_late.load(Relaxed) {
            true => Code::DrainTimeout,
            false => Code::Stopped,
        }
    }
}

/// Counts of a whole server since its start. Touched when conversations begin and end, never per
/// message.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) opened: AtomicU64,
    pub(crate) closed: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cut: AtomicU64,
    /// The time to drain is over: what still goes on is cut.
    pub(crate) is_late: AtomicBool,
    pub(crate) refused: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) overflowed: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Connections were given away: what is counted is not all.
    is_partial: AtomicBool,
}

impl Totals {
    pub(crate) fn open(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub(crate) fn close(&self, closed: &Closed) {
        self.closed.fetch_add(1, Relaxed);
        if !closed.code.is_clean() {
            self.failed.fetch_add(1, Relaxed);
        }
        self.bytes_in.fetch_add(closed.bytes_in, Relaxed);
        self.bytes_out.fetch_add(closed.bytes_out, Relaxed);
    }

    /// A connection is given away, whose bytes nobody will count.
    pub(crate) fn count_no_bytes(&self) {
        self.is_partial.store(true, Relaxed);
    }

    /// Bytes received and written; none if they are not known.
    pub(crate) fn bytes(&self) -> Option<(u64, u64)> {
        let counted = || (self.bytes_in.load(Relaxed), self.bytes_out.load(Relaxed));
        (!self.is_partial.load(Relaxed)).then(counted)
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn drop_messages(&self, count: u64) {
        if count > 0 {
            self.dropped.fetch_add(count, Relaxed);
        }
    }
}
