//! What stands between one conversation and the worker: orders one way, what it says the other.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::budget::{self, Holding};

/// Bytes that a worker may be ahead of one peer.
pub(super) const AHEAD_BYTES_MAX: usize = 1 << 20;
/// Frames of it, which count when they are small.
const AHEAD_FRAMES_MAX: usize = 4096;
/// How often the worker hears what a peer has taken.
const TAKEN_BYTES: usize = 64 << 10;

/// What the worker is to be told, with the number of the conversation.
pub(super) enum Order {
    Open(u64, Bytes, Mouth),
    Data(u64, Bytes),
    End(u64),
    Close(u64),
    Taken(u64, usize),
}

/// What the worker has said to one conversation.
pub(super) enum Said {
    Data(Bytes),
    End,
    /// It says nothing more, and why.
    Failed(Arc<str>),
}

/// The conversation's side.
pub(super) struct Talk {
    pub(super) line: Line,
    pub(super) said: mpsc::Receiver<Said>,
}

/// Where the conversation speaks. Dropping it tells the worker that it is over.
pub(super) struct Line {
    pub(super) number: u64,
    orders: mpsc::Sender<Order>,
    account: Arc<Account>,
    /// What waits to be sent, of the server's memory.
    waiting: RefCell<Option<Holding>>,
}

/// Where the worker speaks to the conversation.
pub(super) struct Mouth {
    /// None once it has said too much.
    said: Option<mpsc::Sender<Said>>,
    account: Arc<Account>,
}

/// How far the worker is ahead of the peer.
#[derive(Default)]
struct Account {
    ahead_bytes: AtomicUsize,
    untold_bytes: AtomicUsize,
    is_overrun: AtomicBool,
    /// What that takes of the server's memory; none once the conversation is over.
    holding: Mutex<Option<Holding>>,
}

impl Account {
    fn of(peer: Option<&Arc<budget::Account>>) -> Arc<Self> {
        Arc::new(Self { holding: Mutex::new(peer.map(Holding::new)), ..Self::default() })
    }

    /// Counts what waits now. Looked at behind the lock: whoever is last there counts what is left.
    fn hold(&self) {
        let mut holding = self.holding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holding) = holding.as_mut() {
            holding.set(self.ahead_bytes.load(Relaxed));
        }
    }

    /// Nothing of it waits any more.
    fn give_back(&self) {
        *self.holding.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Talk {
    /// Begins; nothing if nobody takes orders any more.
    ///
    /// What the worker says and the peer has not taken counts as held by `peer`.
    ///
    /// Cancel safe: one that is dropped before has told nobody of a conversation.
    pub(super) async fn open(
        number: u64,
        variables: Bytes,
        orders: mpsc::Sender<Order>,
        peer: Option<&Arc<budget::Account>>,
    ) -> Option<Self> {
        let (mouth, said) = mpsc::channel(AHEAD_FRAMES_MAX);
        let account = Account::of(peer);
        let mouth = Mouth { said: Some(mouth), account: Arc::clone(&account) };
        orders.send(Order::Open(number, variables, mouth)).await.ok()?;
        let waiting = RefCell::new(peer.map(Holding::new));
        Some(Self { line: Line { number, orders, account, waiting }, said })
    }
}

impl Line {
    /// Gives an order as soon as there is room; nothing if nobody takes it any more.
    pub(super) async fn send(&self, order: Order) -> Option<()> {
        self.orders.send(order).await.ok()
    }

    /// The same with bytes of the peer, which count as long as there is no room.
    pub(super) async fn send_data(&self, bytes: Bytes) -> Option<()> {
        let order = match self.orders.try_send(Order::Data(self.number, bytes)) {
            Ok(()) => return Some(()),
            Err(TrySendError::Closed(_)) => return None,
            Err(TrySendError::Full(order)) => order,
        };
        if let Order::Data(_, bytes) = &order {
            self.wait_with(bytes.len());
        }
        let sent = self.send(order).await;
        self.wait_with(0);
        sent
    }

    fn wait_with(&self, bytes: usize) {
        if let Some(waiting) = &mut *self.waiting.borrow_mut() {
            waiting.set(bytes);
        }
    }

    /// The peer has taken so much: the worker is told now and then.
    pub(super) async fn taken(&self, bytes: usize) -> Option<()> {
        self.account.ahead_bytes.fetch_sub(bytes, Relaxed);
        self.account.hold();
        let untold = self.account.untold_bytes.fetch_add(bytes, Relaxed) + bytes;
        if untold < TAKEN_BYTES {
            return Some(());
        }
        self.account.untold_bytes.fetch_sub(untold, Relaxed);
        self.send(Order::Taken(self.number, untold)).await
    }

    /// Has the worker said more than the peer takes?
    pub(super) fn is_overrun(&self) -> bool {
        self.account.is_overrun.load(Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Before the worker hears of it: one that does not read hears it late.
        self.account.give_back();
        let Err(TrySendError::Full(order)) = self.orders.try_send(Order::Close(self.number)) else {
            return;
        };
        // One at most waits for each conversation that the worker has been told of.
        if let Ok(runtime) = Handle::try_current() {
            let orders = self.orders.clone();
            runtime.spawn(async move { orders.send(order).await.is_ok() });
        }
    }
}

impl Mouth {
    /// Says it, if the conversation is still there. Where too much waits already, it is not said, and
    /// nothing after it: the conversation ends once it has taken the rest.
    pub(super) fn say(&mut self, said: Said) {
        let Some(mouth) = &self.said else { return };
        if let Said::Data(bytes) = &said {
            let ahead = self.account.ahead_bytes.fetch_add(bytes.len(), Relaxed) + bytes.len();
            if ahead > AHEAD_BYTES_MAX {
                self.account.is_overrun.store(true, Relaxed);
                self.said = None;
                return;
            }
            self.account.hold();
        }
        if let Err(TrySendError::Full(_)) = mouth.try_send(said) {
            self.account.is_overrun.store(true, Relaxed);
            self.said = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Order, Said, Talk};
    use crate::budget::{Account, Budget};
    use bytes::Bytes;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn what_a_worker_is_ahead_counts_until_the_peer_has_taken_it_or_is_gone() {
        let budget = Arc::new(Budget::default());
        let peer = Account::new(&budget);
        let (orders, mut taken) = mpsc::channel(4);
        let talk = Talk::open(1, Bytes::new(), orders, Some(&peer)).await.unwrap();
        let Some(Order::Open(_, _, mut mouth)) = taken.recv().await else { unreachable!() };
        let thousand = || Said::Data(Bytes::from_static(&[0; 1000]));
        mouth.say(thousand());
        mouth.say(thousand());
        assert_eq!(budget.held(), 2000);
        talk.line.taken(600).await.unwrap();
        assert_eq!((budget.held(), peer.held()), (1400, 1400));
        drop(talk);
        assert_eq!((budget.held(), peer.held()), (0, 0));
        // The worker has not heard of the end.
        mouth.say(thousand());
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn what_waits_for_a_worker_that_does_not_read_counts_until_it_does() {
        let budget = Arc::new(Budget::default());
        let (orders, mut taken) = mpsc::channel(1);
        let peer = Account::new(&budget);
        let Talk { line, .. } = Talk::open(1, Bytes::new(), orders, Some(&peer)).await.unwrap();
        let thousand = || Bytes::from_static(&[0; 1000]);
        {
            let mut sending = Box::pin(line.send_data(thousand()));
            assert!(tokio::time::timeout(Duration::ZERO, &mut sending).await.is_err());
            assert_eq!((budget.held(), peer.held()), (1000, 1000));
            taken.recv().await.unwrap();
            sending.await.unwrap();
        }
        assert_eq!(budget.held(), 0, "it is in the queue, which has room for so many");
        assert!(tokio::time::timeout(Duration::ZERO, line.send_data(thousand())).await.is_err());
        drop(line);
        assert_eq!(budget.held(), 0);
    }
}
