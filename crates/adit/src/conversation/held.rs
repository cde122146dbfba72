//! What a conversation holds in buffers, against the memory of its server.

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
}
