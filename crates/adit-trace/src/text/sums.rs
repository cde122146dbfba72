//! Sums of a talk: how many bytes and datagrams each side wrote and read.

use crate::rows::{Observers, Stage, stage};
use crate::story::{Act, Did, Talk, Way};

/// What was counted at one stage of one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) bytes: u64,
    pub(super) pieces: u64,
}

/// Everything that was counted in a talk.
#[derive(Debug, Default)]
pub(super) struct Sums {
    counts: Vec<((Way, Stage), Count)>,
    pub(super) observers: Observers,
    pub(super) client_fd: Option<i32>,
    pub(super) server_fd: Option<i32>,
    /// The last word about the end, of each side.
    pub(super) client_over: Option<Box<str>>,
    pub(super) server_over: Option<Box<str>>,
    /// Bytes nobody confirmed.
    pub(super) unconfirmed: u64,
}

impl Sums {
    pub(super) fn of(talk: &Talk) -> Self {
        let mut sums = Self { observers: Observers::of(&talk.acts), ..Self::default() };
        for act in &talk.acts {
            sums.add(act);
        }
        sums
    }

    fn add(&mut self, act: &Act) {
        use crate::story::Seen;
        match &act.did {
            Did::Write { way, off, .. } | Did::Read { way, off, .. } => {
                self.count(*way, stage(act), off.end.saturating_sub(off.start));
            }
            Did::Segment { way, off, again: false, .. } if !off.is_empty() => {
                self.count(*way, stage(act), off.end.saturating_sub(off.start));
            }
            Did::Send { way, len, .. }
            | Did::Receive { way, len, .. }
            | Did::Packet { way, len, .. } => self.count(*way, stage(act), *len),
            Did::Accept { fd } if act.seen == Seen::Server => {
                self.server_fd = fd.or(self.server_fd);
            }
            Did::Connect { fd, .. } if act.seen == Seen::Client => {
                self.client_fd = fd.or(self.client_fd);
            }
            Did::Over { code, .. } if act.seen == Seen::Client => {
                self.client_over = Some(code.clone());
            }
            Did::Over { code, .. } if act.seen == Seen::Server => {
                self.server_over = Some(code.clone());
            }
            Did::Lost { unconfirmed, .. } => {
                self.unconfirmed = self.unconfirmed.saturating_add(*unconfirmed);
            }
            _ => {}
        }
    }

    fn count(&mut self, way: Way, stage: Stage, bytes: u64) {
        let known = self.counts.iter_mut().find(|(key, _)| *key == (way, stage));
        match known {
            Some((_, count)) => {
                count.bytes = count.bytes.saturating_add(bytes);
                count.pieces += 1;
            }
            None => self.counts.push(((way, stage), Count { bytes, pieces: 1 })),
        }
    }

    /// What was counted; nothing counted where somebody looked is 0, where nobody looked it is unknown.
    pub(super) fn at(&self, way: Way, stage: Stage) -> Option<Count> {
        let is_seen = match (way, stage) {
            (Way::Up, Stage::Written) | (Way::Down, Stage::Read) => self.observers.client,
            (Way::Down, Stage::Written) | (Way::Up, Stage::Read) => self.observers.server,
            (_, Stage::Came | Stage::Passed) => self.observers.relay,
            (_, Stage::Wire) => self.observers.wire,
        };
        let found = self.counts.iter().find(|(key, _)| *key == (way, stage));
        is_seen.then(|| found.map(|(_, count)| *count).unwrap_or_default())
    }
}
