//! What stands between one conversation and the worker: orders one way, what it says the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TrySendError};

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
}

impl Talk {
    /// Begins; nothing if nobody takes orders any more.
    ///
    /// Cancel safe: one that is dropped before has told nobody of a conversation.
    pub(super) async fn open(
        number: u64,
        variables: Bytes,
        orders: mpsc::Sender<Order>,
    ) -> Option<Self> {
        let (mouth, said) = mpsc::channel(AHEAD_FRAMES_MAX);
        let account = Arc::<Account>::default();
        let mouth = Mouth { said: Some(mouth), account: Arc::clone(&account) };
        orders.send(Order::Open(number, variables, mouth)).await.ok()?;
        Some(Self { line: Line { number, orders, account }, said })
    }
}

impl Line {
    /// Gives an order as soon as there is room; nothing if nobody takes it any more.
    pub(super) async fn send(&self, order: Order) -> Option<()> {
        self.orders.send(order).await.ok()
    }

    /// The peer has taken so much: the worker is told now and then.
    pub(super) async fn taken(&self, bytes: usize) -> Option<()> {
        self.account.ahead_bytes.fetch_sub(bytes, Relaxed);
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
        }
        if let Err(TrySendError::Full(_)) = mouth.try_send(said) {
            self.account.is_overrun.store(true, Relaxed);
            self.said = None;
        }
    }
}
