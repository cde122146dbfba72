//! How the end of a conversation is told, whatever ends it.

use super::Conversation;
use crate::context::Context;
use crate::event::{Action, Call, What};
use crate::handler::Handler;
use crate::peer::{Closed, Peer};
use crate::transport::Transport;
use crate::{Code, Codec};

/// The report of a conversation that is over, while its close goes on. The end of the server may cut
/// that too; then nobody knows whether everything arrived.
pub(super) struct Owed<'a> {
    pub(super) closed: Option<Closed>,
    pub(super) peer: &'a Peer,
    pub(super) context: &'a Context,
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if let Some(closed) = self.closed.take() {
            let code = if closed.code.is_clean() { self.context.cut_code() } else { closed.code };
            report(self.context, self.peer, Closed { code, ..closed }, 0);
        }
    }
}

/// Tells how it ended; bytes that nobody acknowledged are never passed over in silence.
pub(crate) fn report(context: &Context, peer: &Peer, closed: Closed, unconfirmed: usize) -> Closed {
    let mut closed = closed;
    let unconfirmed = unconfirmed as u64 + closed.unsent;
    let emit = |what| {
        context.observers.emit_of(peer.number(), peer.remote(), || what);
    };
    let Closed { bytes_in, bytes_out, lasted, .. } = closed;
    let count = peer.desk().dropped();
    if count > 0 {
        let value = context.limits.inbox as u64;
        emit(What::Limit { name: "inbox", value, action: Action::Drop, count });
    }
    if unconfirmed > 0 {
        if closed.code.is_clean() {
            closed.code = Code::Lost;
        }
        emit(What::Lost { code: closed.code, bytes_in, bytes_out, unconfirmed });
    }
    let (bytes_in, bytes_out) = (Some(bytes_in), Some(bytes_out));
    emit(What::Close { code: closed.code, bytes_in, bytes_out, lasted });
    context.totals.drop_messages(peer.desk().dropped());
    context.totals.close(&closed);
    closed
}

/// After these nothing can be sent any more, not even an end.
pub(crate) fn is_broken(code: Code) -> bool {
    matches!(code, Code::Reset | Code::DeadPeer | Code::StallTimeout | Code::Unreachable)
}

impl<T: Transport, C: Codec, H: Handler> Drop for Conversation<'_, T, C, H> {
    /// Cut in the middle, by the end of the server: it is told all the same, and so is the handler.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let closed = self.say_goodbye(self.context.cut_code());
        let close = (Call::Close, self.io.descriptor());
        self.context.observers.call(Some((self.peer.number(), self.peer.remote())), close, None);
        report(&self.context, &self.peer, closed, self.io.unacknowledged());
    }
}
