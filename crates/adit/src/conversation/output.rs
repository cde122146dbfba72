//! From rooms, senders and answers that come later to bytes that wait to be written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Context as TaskContext;

use super::{Conversation, panic_text};
use crate::answers::{Answers, Due};
use crate::event::{Direction, What};
use crate::handler::Handler;
use crate::transport::Transport;
use crate::{Code, Codec};

impl<T: Transport, C: Codec, H: Handler> Conversation<'_, T, C, H> {
    /// Messages from rooms and senders, only below high water: else the bound of a slow reader would
    /// be void. True if it stopped there, so that more may wait and nobody would wake us for it.
    pub(super) fn take_mail(&mut self, cx: &mut TaskContext<'_>) -> bool {
        while self.ended.is_none() {
            if self.unsent.len() >= self.context.limits.unsent_bytes {
                return true;
            }
            let Some(msg) = self.peer.desk().poll_mail(cx) else {
                return false;
            };
            self.encode(&msg);
        }
        false
    }

    /// Asynchronous answers whose turn it is.
    pub(super) fn take_answers(&mut self, cx: &mut TaskContext<'_>) {
        if self.answers.is_empty() {
            return;
        }
        let polled = catch_unwind(AssertUnwindSafe(|| self.answers.poll(cx)));
        if let Err(panic) = polled {
            // What was ready in front of it is lost with it: which answer panicked is not known.
            self.answers = Answers::default();
            self.fail(Code::Panic, &panic_text(&*panic), "handler");
            return;
        }
        while let Some(due) = self.answers.next() {
            match due {
                Due::Framed(bytes) => self.unsent.extend_from_slice(&bytes),
                Due::Message(Ok(msg)) => self.encode(&msg),
                Due::Message(Err(failure)) => {
                    // What is behind it would be taken for its answer.
                    self.answers = Answers::default();
                    self.fail(Code::Handler, &failure.to_string(), "handler");
                }
            }
        }
    }

    fn encode(&mut self, msg: &[u8]) {
        let mut framed = Vec::new();
        match self.codec.encode(msg, &mut framed) {
            Ok(()) => {
                self.emit(|| What::Message { dir: Direction::Out, len: msg.len() });
                self.unsent.extend_from_slice(&framed);
            }
            Err(failure) => self.fail(Code::BadFrame, &failure.to_string(), "answer"),
        }
    }
}
