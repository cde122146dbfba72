//! What was dropped, and telling of it: at once, and then once a second however much it is.

use std::time::Duration;

use tokio::time::Instant;

use crate::Endpoint;
use crate::context::Context;
use crate::event::{Action, What};

/// Shortest time between two events about the same reason.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(1);

/// Why a datagram, a flow or an answer was dropped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reason {
    /// The receive queue was full.
    Queue,
    /// Nobody answers to where it is from.
    Reflection,
    /// Two servers answer each other.
    Loop,
    /// More than its source may be sent.
    Amplification,
    /// So many answers are at work already.
    InFlight(usize),
    /// So many peers are remembered already; the oldest went.
    Peers(usize),
    /// More bytes a second than its source may send, or be sent.
    ByteRate(u64),
}

impl Reason {
    const KINDS: usize = 7;

    /// Name and value, as events tell them, and the place among the counts.
    fn limit(self) -> (&'static str, u64, usize) {
        match self {
            Self::Queue => ("receive-queue", 0, 0),
            Self::Reflection => ("reflection", 0, 1),
            Self::Loop => ("loop", 0, 2),
            Self::Amplification => ("amplification", 0, 3),
            Self::InFlight(most) => ("in-flight", most as u64, 4),
            Self::Peers(most) => ("datagram-peers", most as u64, 5),
            Self::ByteRate(per_second) => ("byte-rate", per_second, 6),
        }
    }
}

/// What has been dropped and not been told of.
#[derive(Default)]
pub(super) struct Drops {
    tallies: [Tally; Reason::KINDS],
}

/// A conversation, if there is one, and its peer.
type Of = (Option<u64>, Endpoint);

#[derive(Default)]
struct Tally {
    count: u64,
    /// One of them: the reason with its value, the conversation, the peer.
    one: Option<(Reason, Option<Of>)>,
    told: Option<Instant>,
}

impl Drops {
    /// Counts what was dropped of a peer, which may have no conversation.
    pub(super) fn add(&mut self, context: &Context, reason: Reason, of: (Option<u64>, &Endpoint)) {
        self.count(context, reason, 1, Some(of));
    }

    /// Counts what nobody knows more about.
    pub(super) fn add_unknown(&mut self, context: &Context, reason: Reason, count: u64) {
        self.count(context, reason, count, None);
    }

    fn count(
        &mut self,
        context: &Context,
        reason: Reason,
        count: u64,
        of: Option<(Option<u64>, &Endpoint)>,
    ) {
        // A peer that is forgotten is no message that is lost.
        if !matches!(reason, Reason::Peers(_)) {
            context.totals.drop_messages(count);
        }
        if !context.observers.is_watched() {
            return;
        }
        let tally = &mut self.tallies[reason.limit().2];
        tally.count += count;
        if tally.one.is_none() {
            tally.one = Some((reason, of.map(|(number, remote)| (number, remote.clone()))));
        }
        if tally.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            tally.tell(context);
        }
    }

    /// When there is something to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        let waiting = self.tallies.iter().filter(|tally| tally.count > 0);
        waiting.filter_map(|tally| Some(tally.told? + TELL_EVERY)).min()
    }

    /// Tells what has waited for so long.
    pub(super) fn tell(&mut self, context: &Context, after: Duration) {
        for tally in &mut self.tallies {
            if tally.told.is_some_and(|told| told.elapsed() >= after) {
                tally.tell(context);
            }
        }
    }
}

impl Tally {
    fn tell(&mut self, context: &Context) {
        let count = std::mem::take(&mut self.count);
        let Some((reason, of)) = self.one.take().filter(|_| count > 0) else { return };
        self.told = Some(Instant::now());
        let (name, value, _) = reason.limit();
        let what = || What::Limit { name, value, action: Action::Drop, count };
        match of {
            Some((None, remote)) => context.observers.emit_about(&remote, what),
            Some((Some(number), remote)) => context.observers.emit_of(number, &remote, what),
            None => context.observers.emit(what),
        }
    }
}
