//! Answers in the order of their messages, synchronous and asynchronous ones mixed.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::BoxError;
use crate::handler::Later;

/// The answers from the first pending one on; empty as long as every answer was given at once.
///
/// A plain queue in which every pending future is polled: up to `limits.in_flight` of them that is
/// faster than a set that knows who was woken.
#[derive(Default)]
pub(crate) struct Answers {
    queue: VecDeque<Slot>,
}

enum Slot {
    /// Framed bytes that wait for an earlier answer.
    Framed(Vec<u8>),
    /// A message that waits for an earlier answer and is framed when its turn comes.
    Ready(Result<Bytes, BoxError>),
    Pending(Later),
}

/// What [`Answers::poll`] hands out, in order.
pub(crate) enum Due {
    Framed(Vec<u8>),
    Message(Result<Bytes, BoxError>),
}

impl Answers {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of answers that wait for an earlier one.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |slot: &Slot| match slot {
            Slot::Framed(bytes) => bytes.len(),
            Slot::Ready(Ok(msg)) => msg.len(),
            Slot::Ready(Err(_)) | Slot::Pending(_) => 0,
        };
        self.queue.iter().map(bytes).sum()
    }

    /// Queues framed bytes behind a pending answer.
    pub(crate) fn push_framed(&mut self, bytes: Vec<u8>) {
        debug_assert!(!self.queue.is_empty(), "nothing to wait for");
        self.queue.push_back(Slot::Framed(bytes));
    }

    /// Queues a message behind a pending answer.
    pub(crate) fn push_message(&mut self, msg: Bytes) {
        debug_assert!(!self.queue.is_empty(), "nothing to wait for");
        self.queue.push_back(Slot::Ready(Ok(msg)));
    }

    /// Takes an asynchronous answer. It is polled once: what is ready and waits for nobody comes
    /// straight back.
    pub(crate) fn push_later(
        &mut self,
        mut later: Later,
        cx: &mut Context<'_>,
    ) -> Option<Result<Bytes, BoxError>> {
        match later.as_mut().poll(cx) {
            Poll::Ready(answer) if self.queue.is_empty() => return Some(answer),
            Poll::Ready(answer) => self.queue.push_back(Slot::Ready(answer)),
            Poll::Pending => self.queue.push_back(Slot::Pending(later)),
        }
        None
    }

    /// Polls every pending answer and returns the first in order if it is there.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        for slot in &mut self.queue {
            if let Slot::Pending(later) = slot
                && let Poll::Ready(answer) = later.as_mut().poll(cx)
            {
                *slot = Slot::Ready(answer);
            }
        }
    }

    /// The answer whose turn it is, if it is there. Call [`poll`](Self::poll) first.
    pub(crate) fn next(&mut self) -> Option<Due> {
        if matches!(self.queue.front(), None | Some(Slot::Pending(_))) {
            return None;
        }
        self.queue.pop_front().and_then(|slot| match slot {
            Slot::Framed(bytes) => Some(Due::Framed(bytes)),
            Slot::Ready(answer) => Some(Due::Message(answer)),
            Slot::Pending(_) => None,
        })
    }
}
