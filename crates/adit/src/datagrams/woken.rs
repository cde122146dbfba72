//! Which flows have something to say: their wakers lead here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use tokio::sync::Notify;

/// Numbers of flows that were woken, each at most once.
#[derive(Default)]
pub(super) struct Woken {
    queue: Mutex<VecDeque<Arc<FlowWaker>>>,
    notify: Notify,
}

struct FlowWaker {
    number: u64,
    queued: AtomicBool,
    woken: Arc<Woken>,
}

impl Woken {
    /// A waker for a flow.
    pub(super) fn waker(self: &Arc<Self>, number: u64) -> Waker {
        let woken = Arc::clone(self);
        Arc::new(FlowWaker { number, queued: AtomicBool::new(false), woken }).into()
    }

    /// Waits until a flow is woken. Cancel safe: a wake-up is kept until it is waited for.
    pub(super) async fn wait(&self) {
        self.notify.notified().await;
    }

    /// The flows woken so far; they can be woken again from here on.
    pub(super) fn take(&self) -> Vec<u64> {
        let queue = std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner));
        let number = |flow: Arc<FlowWaker>| {
            flow.queued.store(false, Ordering::Release);
            flow.number
        };
        queue.into_iter().map(number).collect()
    }
}

impl Wake for FlowWaker {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let woken = Arc::clone(&self.woken);
            woken.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(self);
            woken.notify.notify_one();
        }
    }
}
