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
        self.peer.desk().account().note_turn(self.answers.is_empty() && !self.held);
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
