//! What a conversation takes of its server: memory for its buffers, and a place that somebody may need.

use std::task::Context as TaskContext;

use super::Conversation;
use crate::Codec;
use crate::budget::Measure;
use crate::handler::Handler;
use crate::transport::Transport;

impl<T: Transport, C: Codec, H: Handler> Conversation<'_, T, C, H> {
    /// Counts what is held now.
    pub(super) fn hold(&mut self) {
        self.holding.set(self.rest.len() + self.unsent.len() + self.answers.bytes());
        // What has come while it is not read is the peer's doing, and waits for us.
        let is_read = !self.holding.is_waiting() || self.io.unread() == 0;
        let account = self.peer.desk().account();
        account.note_turn(self.answers.is_empty() && !self.held && is_read);
    }

    /// Is memory so short that this one has to wait, for all that it holds?
    pub(super) fn has_to_wait(&mut self, cx: &TaskContext<'_>) -> bool {
        let waits = self.holding.has_to_wait(cx.waker());
        if waits {
            self.clock.parked = self.holding.waits_heavily();
            let budget = self.peer.desk().account().budget();
            budget.tell(Measure::Slow, &self.context.observers);
        }
        waits
    }

    /// Does it go now, since somebody needs its place? It was idle when it was chosen; what has begun
    /// meanwhile is not given up, nor is what has come and was not read.
    pub(super) fn makes_room(&self) -> bool {
        let desk = self.peer.desk();
        let Some(mark) = desk.mark() else { return false };
        let owes_any = !self.answers.is_empty() || !self.unsent.is_empty() || self.flushing;
        mark.owes(owes_any);
        if !desk.is_chosen() || owes_any || self.held {
            return false;
        }
        self.holding.is_waiting() || self.io.unread() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Conversation, Protocol};
    use crate::budget::Budget;
    use crate::buffers::CHUNK;
    use crate::context::{Context, Totals};
    use crate::endpoint::{Endpoint, Place, Transport};
    use crate::handler::{Open as _, Service as _};
    use crate::observe::Observers;
    use crate::peer::{Desk, Peer};
    use crate::prelude::{Lines, fast};
    use crate::{Limit, Limits};
    use std::rc::Rc;
    use std::sync::Arc;
    use std::task::Waker;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt as _;
    use tokio::time::{Instant, sleep_until};

    /// One that is not read for want of memory, when so many bytes of a message have come: does it wait for
    /// its peer?
    async fn waits_for_peer(bytes: usize) -> bool {
        let limits = Limits { memory: Limit::At(CHUNK), ..Limits::default() };
        let budget = Arc::new(Budget::new(&limits, 0, &[]));
        let desk = Desk::bounded((&limits, &budget), None, None);
        let here = Endpoint::named(Transport::Memory, Place::Unnamed);
        let peer = Peer::new((here, None), None, 1, None, Rc::clone(&desk));
        let context = Context::new(limits, Observers::default(), Arc::new(Totals::default()));
        let handler = fast(|msg, out| out.send(msg)).thread().open(&peer).unwrap();
        let (mut client, mut io) = tokio::net::UnixStream::pair().unwrap();
        client.write_all(&vec![b'x'; bytes]).await.unwrap();
        io.readable().await.unwrap();
        let protocol = Protocol { codec: Lines::new(), handler };
        let mut talk = Conversation::new(&mut io, protocol, peer, Rc::new(context));
        let mut timer = std::pin::pin!(sleep_until(Instant::now()));
        let mut cx = std::task::Context::from_waker(Waker::noop());
        assert!(talk.poll(&mut cx, timer.as_mut()).is_pending());
        assert!(talk.holding.is_waiting() && desk.account().held() == CHUNK);
        desk.account().is_stuck(Duration::ZERO)
    }

    #[tokio::test]
    async fn whose_bytes_wait_for_us_is_not_taken_for_silent() {
        assert!(waits_for_peer(CHUNK).await);
        assert!(!waits_for_peer(CHUNK + 1).await);
    }
}
