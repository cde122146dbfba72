//! `TimeWait`: how many local ports wait to be free again, counted where nobody is held up by it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adit_net::owner;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// The number is part of a sentence. Whoever is told that there is no port is not told it later than that.
const PATIENCE: Duration = Duration::from_millis(500);
/// So long a number is good enough: ports wait for a minute.
const FRESH: Duration = Duration::from_secs(1);

/// What clones of a dial have counted. The kernel has every socket of the host in one text, which takes a
/// quarter of a second to read where there are thirty thousand: that is done on a thread for what may block,
/// once at a time, since whoever asks comes by the thousand when ports run out.
#[derive(Debug)]
pub(super) struct TimeWait {
    /// One counts, the others say what is known.
    turn: Arc<Semaphore>,
    /// To whom, when, how many.
    last: Mutex<Option<(SocketAddr, Instant, usize)>>,
}

impl Default for TimeWait {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), last: Mutex::new(None) }
    }
}

impl TimeWait {
    /// Connections to `peer` that were closed here first; none if that is not known in time.
    ///
    /// Dropped halfway, the thread counts to its end, for who asks next.
    pub(super) async fn to(self: &Arc<Self>, peer: SocketAddr) -> Option<usize> {
        self.counted_by(peer, owner::time_wait_to).await
    }

    async fn counted_by(
        self: &Arc<Self>,
        peer: SocketAddr,
        count: impl FnOnce(SocketAddr) -> usize + Send + 'static,
    ) -> Option<usize> {
        if let Some(known) = self.known(peer) {
            return Some(known);
        }
        let turn = Arc::clone(&self.turn).try_acquire_owned().ok()?;
        let this = Arc::clone(self);
        let counting = tokio::task::spawn_blocking(move || {
            let counted = count(peer);
            *this.last.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((peer, Instant::now(), counted));
            drop(turn);
            counted
        });
        timeout(PATIENCE, counting).await.ok()?.ok()
    }

    fn known(&self, peer: SocketAddr) -> Option<usize> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = last.filter(|(to, at, _)| *to == peer && at.elapsed() < FRESH);
        fresh.map(|(_, _, counted)| counted)
    }
}

#[cfg(test)]
mod tests {
    use super::{FRESH, TimeWait};
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    // While the clock stands still nothing is too late.
    #[tokio::test(start_paused = true)]
    async fn one_counts_at_a_time_and_nobody_waits_for_it() {
        let (one, other) =
            (SocketAddr::from(([10, 0, 0, 1], 7)), SocketAddr::from(([10, 0, 0, 2], 7)));
        let ports = Arc::<TimeWait>::default();
        let (go_on, told) = sync_channel(0);
        // Only if it counts elsewhere does the thread of the test come to tell it to go on.
        let slow = ports.counted_by(one, move |_| told.recv().unwrap());
        let others = async {
            tokio::task::yield_now().await;
            for peer in [one, other] {
                assert_eq!(ports.counted_by(peer, |_| unreachable!()).await, None);
            }
            go_on.send(28_000).unwrap();
        };
        let (slow, ()) = tokio::join!(slow, others);
        assert_eq!(slow, Some(28_000));
        // What is known is not counted again, and is that of this peer.
        assert_eq!(ports.counted_by(one, |_| unreachable!()).await, Some(28_000));
        assert_eq!(ports.counted_by(other, |_| 3).await, Some(3));
        assert_eq!(ports.counted_by(one, |_| 5).await, Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_grows_old() {
        let peer = SocketAddr::from(([10, 0, 0, 1], 7));
        let ports = Arc::<TimeWait>::default();
        assert_eq!(ports.counted_by(peer, |_| 1).await, Some(1));
        tokio::time::advance(FRESH - Duration::from_millis(1)).await;
        assert_eq!(ports.counted_by(peer, |_| 2).await, Some(1));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(ports.counted_by(peer, |_| 2).await, Some(2));
    }
}
