//! The time limits of a conversation: one timer, moved only when it has to be.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::Conversation;
use crate::budget::{Measure, PATIENCE};
use crate::event::{Action, What};
use crate::handler::Handler;
use crate::transport::Transport;
use crate::{Code, Codec, Limit};

/// The moments from which the time limits count.
pub(super) struct Clock {
    pub(super) began: Instant,
    pub(super) last_byte: Instant,
    /// When the message that is only partly here began.
    pub(super) message_began: Option<Instant>,
    /// Since when the peer takes nothing of what it is owed.
    pub(super) stalled: Option<Instant>,
    /// Since when it is not read because memory is short.
    pub(super) parked: Option<Instant>,
    /// A whole message has come.
    pub(super) heard: bool,
    /// What the timer is set to.
    armed: Option<Instant>,
}

impl Clock {
    pub(super) fn start(now: Instant) -> Self {
        Self {
            began: now,
            last_byte: now,
            message_began: None,
            stalled: None,
            parked: None,
            heard: false,
            armed: None,
        }
    }
}

const MEMORY: &str = "memory";

/// A limit that will expire unless something happens.
struct Deadline {
    at: Instant,
    code: Code,
    name: &'static str,
}

impl<T: Transport, C: Codec, H: Handler> Conversation<'_, T, C, H> {
    /// Ends the conversation when one of its limits expires.
    ///
    /// The timer is moved only when it fires or when a nearer deadline appears, never per message:
    /// what was later than expected is seen when it fires. Whether it has fired is asked at every
    /// poll, else a timer that fired during other work would be lost.
    pub(super) fn poll_limits(
        &mut self,
        mut timer: Pin<&mut Sleep>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Code> {
        loop {
            let Some(next) = self.next_deadline() else {
                return Poll::Pending;
            };
            let armed_in_time = self.clock.armed.is_some_and(|armed| armed <= next.at);
            if armed_in_time && !timer.is_elapsed() {
                return Poll::Pending;
            }
            if self.clock.armed != Some(next.at) {
                timer.as_mut().reset(next.at);
                self.clock.armed = Some(next.at);
            }
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= next.at {
                self.tell(&next);
                return Poll::Ready(next.code);
            }
            self.clock.armed = None;
        }
    }

    /// It is not idle, for who looks from another thread.
    pub(super) fn touch(&self) {
        if let Some(mark) = self.peer.desk().mark() {
            mark.touch();
        }
    }

    /// The nearest of the deadlines that run now.
    fn next_deadline(&self) -> Option<Deadline> {
        let (limits, clock) = (&self.context.limits, &self.clock);
        let deadline = |from: Option<Instant>, limit: Limit<Duration>, code, name| {
            let at = from?.checked_add(limit.at()?)?;
            Some(Deadline { at, code, name })
        };
        // While the server owes answers, it is not the peer that is late.
        let owing = !self.answers.is_empty() || !self.unsent.is_empty();
        let unless_owing = |from: Instant| (!owing).then_some(from);
        let silent_from = (!clock.heard && self.rest.is_empty() && !owing).then_some(clock.began);
        let began = clock.message_began.filter(|_| !owing);
        [
            deadline(clock.stalled, limits.stall, Code::StallTimeout, "stall"),
            deadline(clock.parked, Limit::At(PATIENCE), Code::Shed, MEMORY),
            deadline(Some(clock.began), limits.max_time, Code::MaxTime, "max-time"),
            deadline(began, limits.message, Code::MessageTimeout, "message-timeout"),
            deadline(silent_from, limits.first_message, Code::MessageTimeout, "first-message"),
            deadline(unless_owing(clock.last_byte), limits.idle, Code::IdleTimeout, "idle"),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|deadline| deadline.at)
    }

    fn tell(&self, expired: &Deadline) {
        if expired.name == MEMORY {
            // What it owes is part of what is given up.
            self.peer.desk().shed();
            let budget = self.peer.desk().account().budget();
            return budget.tell(Measure::Cut, &self.context.observers);
        }
        let limits = &self.context.limits;
        let limit = match expired.name {
            "stall" => limits.stall,
            "max-time" => limits.max_time,
            "message-timeout" => limits.message,
            "first-message" => limits.first_message,
            _ => limits.idle,
        };
        let value = limit.at().map_or(0, |limit| limit.as_millis());
        let value = u64::try_from(value).unwrap_or(u64::MAX);
        self.emit(|| What::Limit { name: expired.name, value, action: Action::Close, count: 1 });
    }
}
