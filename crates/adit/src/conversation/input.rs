//! From bytes to the handler: frames, overlong messages, the end of the peer's direction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Context as TaskContext;
use std::time::Instant;

use super::{Conversation, Input, MESSAGES_PER_TURN, panic_text};
use crate::codec::{CutShort, Frame, Skip};
use crate::event::{Action, Direction, What};
use crate::handler::{Answer, Handler, Out};
use crate::transport::Transport;
use crate::{Code, Codec, Overlong};

/// Framing that may stand around a message of the greatest length.
const FRAMING_BYTES: usize = 1 << 10;

/// What is being passed over of a message that is too long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Skipping {
    No,
    Bytes(u64),
    NextFrame,
}

impl<T: Transport, C: Codec, H: Handler> Conversation<'_, T, C, H> {
    /// The handler's first call.
    pub(super) fn greet(&mut self) {
        let (peer, mut output) = (self.peer.clone(), Vec::new());
        let greeted = self.call(&mut output, |handler, out| {
            handler.opened(&peer, out);
            Answer::Done
        });
        debug_assert!(matches!(greeted, Answer::Done));
        self.unsent.extend_from_slice(&output);
    }

    /// Hands every whole message at the start of `buf` to the handler; gives how much was used.
    ///
    /// Bounded by the number of messages in `buf`; every turn uses at least one byte or is the last.
    pub(super) fn digest(
        &mut self,
        buf: &[u8],
        output: &mut Vec<u8>,
        cx: &mut TaskContext<'_>,
    ) -> usize {
        let watch = self.context.observers.is_watched().then(Instant::now);
        let mut at = 0;
        while self.ended.is_none() {
            let left = &buf[at..];
            let is_full = self.answers.len() >= self.context.limits.in_flight
                || self.unsent.len() + output.len() > self.context.limits.unsent_bytes;
            if is_full || self.handled >= MESSAGES_PER_TURN {
                self.held = !left.is_empty() || self.input == Input::Ended;
                break;
            }
            if let Some(skipped) = self.skip(left) {
                at += skipped;
                continue;
            }
            match self.next_frame(left) {
                Some(frame) if self.skipping == Skipping::NextFrame => {
                    self.skipping = Skipping::No;
                    at += frame.used;
                }
                Some(frame) if frame.body.len() > self.context.limits.message_bytes => {
                    at += self.overlong(left, Some(frame.used), output);
                }
                Some(frame) => {
                    at += frame.used;
                    self.message(&left[frame.body], output, cx);
                }
                None if self.ended.is_none() && self.is_overlong(left) => {
                    at += self.overlong(left, None, output);
                }
                None => break,
            }
            self.clock.message_began = None;
        }
        if self.input == Input::Ended && !self.held && self.ended.is_none() {
            self.finished(output, cx);
        }
        self.watch(watch);
        if self.ended.is_some() { buf.len() } else { at }
    }

    /// The message in front; notes why there can be none.
    fn next_frame(&mut self, left: &[u8]) -> Option<Frame> {
        let mut frame = self.codec.decode(left);
        if matches!(frame, Ok(None)) && self.input == Input::Ended {
            frame = self.codec.decode_end(left);
        }
        match frame {
            Ok(frame) => {
                debug_assert!(frame.as_ref().is_none_or(|frame| frame.used <= left.len()));
                frame
            }
            Err(failure) => {
                let cut_short = failure.downcast_ref::<CutShort>().is_some();
                let code = if cut_short { Code::Truncated } else { Code::BadFrame };
                self.fail(code, &failure.to_string(), "decode");
                None
            }
        }
    }

    /// One whole message.
    fn message(&mut self, msg: &[u8], output: &mut Vec<u8>, cx: &mut TaskContext<'_>) {
        self.emit(|| What::Message { dir: Direction::In, len: msg.len() });
        self.clock.heard = true;
        self.handled += 1;
        let answer = self.call(output, |handler, out| handler.message(msg, out));
        self.take(answer, output, cx);
    }

    /// The peer's direction has ended and every message of it was handled.
    fn finished(&mut self, output: &mut Vec<u8>, cx: &mut TaskContext<'_>) {
        self.input = Input::Over;
        let answer = self.call(output, Handler::finished);
        let goes_on = matches!(answer, Answer::Done);
        self.take(answer, output, cx);
        if !goes_on {
            self.ended.get_or_insert(Code::Ok);
        }
    }

    /// Calls the handler with an `Out` that keeps the order: straight into `output`, or behind the
    /// answers that are pending.
    fn call(
        &mut self,
        output: &mut Vec<u8>,
        act: impl FnOnce(&mut H, &mut Out<'_>) -> Answer,
    ) -> Answer {
        let mut behind = Vec::new();
        let buffer = if self.answers.is_empty() { output } else { &mut behind };
        // Caught here and not further out, so that what was answered before is still sent.
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let mut out = Out {
                codec: &mut self.codec,
                buffer,
                desk: self.peer.desk(),
                limits: &self.context.out,
            };
            act(&mut self.handler, &mut out)
        }));
        if !behind.is_empty() {
            self.answers.push_framed(behind);
        }
        if self.peer.desk().has_failed()
            && let Some((code, text)) = self.peer.desk().take_failure()
        {
            self.fail(code, &text, "answer");
        }
        answer.unwrap_or_else(|panic| {
            self.fail(Code::Panic, &panic_text(&*panic), "handler");
            Answer::Done
        })
    }

    fn take(&mut self, answer: Answer, output: &mut Vec<u8>, cx: &mut TaskContext<'_>) {
        match answer {
            Answer::Done => {}
            Answer::Close => {
                self.ended.get_or_insert(Code::Ok);
            }
            Answer::Later(later) => match self.answers.push_later(later, cx) {
                None => {}
                Some(Ok(msg)) => {
                    if let Err(failure) = self.codec.encode(&msg, output) {
                        self.fail(Code::BadFrame, &failure.to_string(), "answer");
                    }
                }
                Some(Err(failure)) => self.fail(Code::Handler, &failure.to_string(), "handler"),
            },
        }
    }

    fn is_overlong(&self, left: &[u8]) -> bool {
        let most = self.context.limits.message_bytes;
        let announced = self.codec.announced(left).is_some_and(|bytes| bytes > most as u64);
        announced || left.len() > most.saturating_add(FRAMING_BYTES)
    }

    /// Deals with a message that is too long; gives how much of `left` is done with.
    fn overlong(&mut self, left: &[u8], whole: Option<usize>, output: &mut Vec<u8>) -> usize {
        let skip = match (&self.context.limits.overlong, whole) {
            (Overlong::Skip, Some(used)) => Some((used, Skipping::No)),
            (Overlong::Skip, None) => self.codec.skip(left).map(|skip| match skip {
                Skip::Bytes(bytes) => (0, Skipping::Bytes(bytes)),
                Skip::ToNextFrame => (left.len(), Skipping::NextFrame),
            }),
            _ => None,
        };
        let action = if skip.is_some() { Action::Drop } else { Action::Close };
        if self.skipping == Skipping::No {
            let value = self.context.limits.message_bytes as u64;
            self.emit(|| What::Limit { name: "message", value, action, count: 1 });
        }
        if let Some((used, skipping)) = skip {
            self.skipping = skipping;
            return used;
        }
        if let Overlong::Answer(answer) = &self.context.limits.overlong
            && self.answers.is_empty()
            && let Err(failure) = self.codec.encode(answer, output)
        {
            let text = failure.to_string();
            self.emit(|| What::Error {
                code: Code::BadFrame,
                text: &text,
                place: "answer",
                fatal: false,
            });
        }
        self.ended.get_or_insert(Code::TooBig);
        left.len()
    }

    /// Passes over bytes of a message that is too long.
    fn skip(&mut self, left: &[u8]) -> Option<usize> {
        let Skipping::Bytes(bytes) = self.skipping else {
            return None;
        };
        if left.is_empty() {
            return None;
        }
        let skipped = usize::try_from(bytes).unwrap_or(usize::MAX).min(left.len());
        let still = bytes - skipped as u64;
        self.skipping = if still == 0 { Skipping::No } else { Skipping::Bytes(still) };
        Some(skipped)
    }

    /// Reports a handler that kept its thread for too long.
    fn watch(&self, started: Option<Instant>) {
        let (Some(started), Some(most)) = (started, self.context.limits.watchdog.at()) else {
            return;
        };
        let took = started.elapsed();
        if took > most {
            let value = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            self.emit(|| What::Limit { name: "watchdog", value, action: Action::Report, count: 1 });
        }
    }
}
