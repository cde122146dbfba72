//! Drain: how a server ends. It takes what is queued, closes its doors, and finishes what it has.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::context::Totals;
use crate::worker::{Mail, Order, Shared};

/// What a drain came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Conversations that were open, or still queued, and were finished.
    pub finished: u64,
    /// Conversations that were not finished in time and were cut.
    pub cut: u64,
}

/// Orders every thread to drain and waits until no conversation is left, at most `within`.
pub(crate) async fn drain(shared: &Shared, totals: &Totals, within: Duration) -> Report {
    let deadline = Instant::now() + within;
    let before = shared.over.load(Relaxed);
    for mailbox in &shared.mailboxes {
        // A thread that is gone has nothing left to finish.
        let sent = timeout_at(deadline, mailbox.send(Mail::Order(Order::Drain))).await;
        drop(sent);
    }
    loop {
        // Made before the look, so that a pulse in between is not missed.
        let idle = shared.idle.notified();
        if shared.is_deserted() || timeout_at(deadline, idle).await.is_err() {
            break;
        }
    }
    let cut = shared.live() as u64;
    totals.is_late.store(true, Relaxed);
    totals.cut.fetch_add(cut, Relaxed);
    Report { finished: shared.over.load(Relaxed) - before, cut }
}
