//! Rows: what every picture of a sequence draws, one horizontal line each, in order of time.
//!
//! Programs write and read in pieces, packets cut them differently, and two programs and a relay all
//! tell of the same bytes. A [`Row`] joins what belongs together, so that a text, an SVG and a Mermaid
//! picture of one talk show the same arrows.

mod join;
mod label;

pub use join::Joiner;
pub(crate) use join::stage;
pub use label::{clean, cut, duration, size, width};
pub(crate) use label::{counted, plural, thousands};

use std::ops::Range;

use crate::story::{Act, Seen, Talk, Way};

/// Silence longer than this is folded into one row, and ends a message: 50 ms, in nanoseconds.
pub const GAP_NS: u64 = 50_000_000;

/// A row that is still growing is ended after this: a long transfer shows how it goes on. In nanoseconds.
pub const ROW_NS_MAX: u64 = 1_000_000_000;

/// This many bytes of a message are kept for its label.
pub const HEAD_BYTES_MAX: usize = 64;

/// This many sizes of single writes or reads are kept.
pub const SIZES_MAX: usize = 8;

/// The rows of a talk, in order of time.
///
/// A message is what went one way without a byte the other way and without a silence of more than
/// [`GAP_NS`]. Datagrams are never joined. Linear in the number of acts.
pub fn rows(talk: &Talk) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut joiner = Joiner::new(Observers::of(&talk.acts));
    for (index, act) in talk.acts.iter().enumerate() {
        joiner.push(index, act, &mut rows);
    }
    joiner.finish(&mut rows);
    rows
}

/// One horizontal line of a sequence.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Row {
    /// Nanoseconds since the start of the story at which it began.
    pub at: u64,
    /// When its last act was.
    pub until: u64,
    /// Its acts: places in the talk's list of acts.
    pub acts: Vec<usize>,
    /// What it is.
    pub kind: Kind,
}

/// What a row is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// The connection is set up; over datagrams: the first sign of this peer.
    Setup(Setup),
    /// Bytes of a stream went one way.
    Message(Message),
    /// One datagram.
    Datagram(Datagram),
    /// The writer of one way has finished: FIN.
    End(End),
    /// A reset was seen on the wire.
    Reset {
        /// Which way it went.
        way: Way,
    },
    /// A program closed its socket, or says that the conversation is over.
    Close(Close),
    /// Something went wrong, or met a limit.
    Trouble(Trouble),
    /// Nothing happened for more than [`GAP_NS`].
    Gap,
}

/// How a connection came to be.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Setup {
    /// The client's call `connect`, or the relay's, was seen.
    pub connect: Option<Seen>,
    /// The call `accept` was seen.
    pub accept: Option<Seen>,
    /// The client's descriptor.
    pub connect_fd: Option<i32>,
    /// The server's descriptor of the new socket.
    pub accept_fd: Option<i32>,
    /// Nanoseconds that `connect` took.
    pub took: Option<u64>,
    /// The address that was tried.
    pub addr: Box<str>,
    /// Why it failed, if it did.
    pub code: Option<Box<str>>,
    /// Packets seen: SYN, SYN+ACK, the ACK that ends the handshake, and what repeats them.
    pub packets: u64,
    /// The first of each of them: when, in nanoseconds, which way, and `SYN`, `SYN,ACK` or `ACK`.
    pub handshake: Vec<(u64, Way, &'static str)>,
    /// Some side says that the conversation stands.
    pub is_open: bool,
}

impl Setup {
    /// Packets ask for a connection, and nothing tells that anybody answered.
    pub fn is_unanswered(&self) -> bool {
        let is_asked = self.handshake.iter().any(|(_, _, name)| *name == "SYN");
        let is_told = self.connect.is_some() || self.accept.is_some() || self.is_open;
        is_asked && !is_told && !self.handshake.iter().any(|(_, _, name)| *name == "SYN,ACK")
    }
}

/// Where in its way from program to program bytes were seen, in the order in which they pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every picture has a place for each")]
pub enum Stage {
    /// The sender wrote them.
    Written,
    /// They came to the relay.
    Came,
    /// They went by on the wire.
    Wire,
    /// The relay passed them on.
    Passed,
    /// The receiver read them.
    Read,
}

/// What was seen of a message at one stage.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pieces {
    /// Where.
    pub stage: Stage,
    /// In how many writes, reads or segments. 0: all of it came with a piece of the row before.
    pub count: u64,
    /// How many bytes.
    pub bytes: u64,
    /// From the first byte to one past the last, in this way of the stream.
    pub off: Range<u64>,
    /// When the first was, in nanoseconds.
    pub first: u64,
    /// When the last was, in nanoseconds.
    pub last: u64,
    /// The first sizes, at most [`SIZES_MAX`]; empty if there is one piece.
    sizes: Vec<u64>,
}

impl Pieces {
    /// The sizes of the first pieces, at most [`SIZES_MAX`].
    pub fn sizes(&self) -> &[u64] {
        if self.sizes.is_empty() { std::slice::from_ref(&self.bytes) } else { &self.sizes }
    }
}

/// Bytes of a stream that went one way.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Message {
    /// Which way.
    pub way: Way,
    /// From the first byte to one past the last, in this way of the stream.
    pub off: Range<u64>,
    /// What was seen of it at each stage, in the order of [`Stage`]; unknown stages are missing.
    pub stages: Vec<Pieces>,
    /// The first bytes, at most [`HEAD_BYTES_MAX`], as far as the trace has them.
    pub head: Vec<u8>,
    /// Segments on the wire that TCP sent again.
    pub again: u64,
    /// Bytes that were written in an earlier row and are read only now.
    pub is_late: bool,
}

impl Message {
    /// What was seen of it at a stage.
    pub fn at(&self, stage: Stage) -> Option<&Pieces> {
        self.stages.iter().find(|pieces| pieces.stage == stage)
    }
}

/// One datagram.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Datagram {
    /// Which way.
    pub way: Way,
    /// Its number in this way, from 0.
    pub msg: u64,
    /// Its length.
    pub len: u64,
    /// Its first bytes, at most [`HEAD_BYTES_MAX`].
    pub head: Vec<u8>,
    /// Where it was seen, and when, in nanoseconds; in the order of [`Stage`].
    pub stages: Vec<(Stage, u64)>,
    /// A datagram with this greater number came in before it.
    pub overtaken_by: Option<u64>,
    /// What became of it.
    pub fate: Fate,
}

impl Datagram {
    /// When it was seen at a stage, in nanoseconds.
    pub fn at(&self, stage: Stage) -> Option<u64> {
        self.stages.iter().find(|(seen, _)| *seen == stage).map(|(_, at)| *at)
    }
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every picture draws each")]
pub enum Fate {
    /// It was sent and received, or passed on.
    Arrived,
    /// Only one side tells of it: nobody looked at the other.
    Unknown,
    /// It was sent, and the other side, which was looked at, did not see it within [`GAP_NS`].
    Missing,
    /// It was received, long after it was sent or without being seen to be sent.
    Late,
}

/// The end of one way of a stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct End {
    /// Which way has ended.
    pub way: Way,
    /// Where that was seen, in the order of [`Stage`].
    pub stages: Vec<Stage>,
    /// The other way had ended before: the stream is over in both.
    pub is_last: bool,
}

/// The end of a conversation, as one program sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Close {
    /// Whose it is; a relay tells of both its sockets in one row.
    pub seen: Seen,
    /// The descriptor that was closed.
    pub fd: Option<i32>,
    /// Why it is over, if the program says so.
    pub code: Option<Box<str>>,
    /// Bytes received and bytes sent, if the program says so.
    pub bytes: (Option<u64>, Option<u64>),
    /// Nanoseconds it lasted, if the program says so.
    pub took: Option<u64>,
}

impl Close {
    const fn of(seen: Seen) -> Self {
        Self { seen, fd: None, code: None, bytes: (None, None), took: None }
    }

    /// What a program says of it; the first word counts.
    fn count(&mut self, bytes: (Option<u64>, Option<u64>), took: u64) {
        if self.took.is_none() {
            (self.bytes, self.took) = (bytes, Some(took));
        }
    }

    /// Did it end as it should?
    pub fn is_clean(&self) -> bool {
        self.code.as_deref().is_none_or(|code| matches!(code, "ok" | "drained"))
    }
}

/// Something that went wrong, or met a limit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Trouble {
    /// Who tells of it.
    pub seen: Seen,
    /// The stable word for it: `reset`, `too-big`, `limit`, `unreachable`.
    pub code: Box<str>,
    /// In words, without control characters.
    pub text: String,
}

/// Who tells of a talk: without the other side nobody can know that a datagram is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observers {
    /// The client's program.
    pub client: bool,
    /// The server's program.
    pub server: bool,
    /// A relay between them.
    pub relay: bool,
    /// Somebody on the wire.
    pub wire: bool,
}

impl Observers {
    /// Those of some acts.
    pub fn of(acts: &[Act]) -> Self {
        let mut observers = Self::default();
        for act in acts {
            observers.add(act.seen);
        }
        observers
    }

    /// One more.
    pub fn add(&mut self, seen: Seen) {
        match seen {
            Seen::Client => self.client = true,
            Seen::Server => self.server = true,
            Seen::RelayToClient | Seen::RelayToServer => self.relay = true,
            Seen::Wire => self.wire = true,
        }
    }

    /// Were both programs looked at?
    pub const fn both_ends(self) -> bool {
        self.client && self.server
    }
}

#[cfg(test)]
mod tests;
