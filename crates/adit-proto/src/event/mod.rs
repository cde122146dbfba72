//! Events: the one vocabulary from which logs, JSON, counters and pictures derive.
//!
//! Schema version 1: the app layer, and the calls behind it. New optional fields and new words keep the
//! version; a removed field or a changed unit raises it. Readers pass over what they do not know.

use std::time::Duration;

use crate::code::Code;
use crate::endpoint::{Endpoint, Reach};

mod line;

pub use line::{Detail, Payload, dropped_line, header_line, trace_header_line};

/// Version of the schema, the field `v` of every line.
pub const SCHEMA: u32 = 1;

/// Which way something went, as seen from the socket it is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two directions")]
pub enum Direction {
    /// From the peer to us.
    In,
    /// From us to the peer.
    Out,
}

impl Direction {
    /// The word in events.
    pub const fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// The part we play on a socket. A relay plays both, on two sockets of one conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a conversation has two sides")]
pub enum Role {
    /// We welcomed the peer.
    #[default]
    Server,
    /// We went to the peer.
    Client,
}

impl Role {
    /// The word in events.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// A call of the socket interface, by its name. Reads and writes are [`What::Data`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Call {
    /// A socket was created.
    Socket,
    /// It was given an address.
    Bind,
    /// It welcomes clients.
    Listen,
    /// A client was let in: a new socket.
    Accept,
    /// A server was gone to.
    Connect,
    /// A socket was closed.
    Close,
}

impl Call {
    /// The word in events.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Bind => "bind",
            Self::Listen => "listen",
            Self::Accept => "accept",
            Self::Connect => "connect",
            Self::Close => "close",
        }
    }
}

/// What a server did about a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Somebody waits until there is room.
    Wait,
    /// A newcomer was turned away, for this reason.
    Refuse(Code),
    /// The conversation was ended.
    Close,
    /// Bytes or datagrams were dropped.
    Drop,
    /// Somebody is served more slowly than he could be.
    Slow,
    /// Only told.
    Report,
}

impl Action {
    /// The word in events.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Refuse(_) => "refuse",
            Self::Close => "close",
            Self::Drop => "drop",
            Self::Slow => "slow",
            Self::Report => "report",
        }
    }
}

/// Something that happened: when, in which conversation, with whom, and what.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "observers take it apart, sources put it together")]
pub struct Event<'a> {
    /// On a clock that never jumps, the same for all events of a process.
    pub at: Duration,
    /// Number of the conversation, from 1; none for what concerns the whole server.
    pub conversation: Option<u64>,
    /// The other end.
    pub peer: Option<&'a Endpoint>,
    /// The part we play in it.
    pub role: Role,
    /// What happened.
    pub what: What<'a>,
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What<'a> {
    /// A socket listens.
    Listen {
        /// Its real address.
        addr: &'a Endpoint,
        /// Who can reach it.
        reach: Reach,
    },
    /// A call of the socket interface has returned; the time of the event is that of its entry, as that
    /// of a write.
    Call {
        /// Which one.
        call: Call,
        /// The descriptor it made or acted on, if it got that far.
        fd: Option<i32>,
        /// Our own address, as far as the call has to do with it.
        local: Option<&'a Endpoint>,
        /// From entry to return, of those that can take a while.
        took: Option<Duration>,
        /// Why it failed, if it did.
        code: Option<Code>,
    },
    /// A conversation began.
    Open {
        /// Our end of it.
        local: Option<&'a Endpoint>,
        /// The proxy that named the peer; none if the peer came by itself.
        via: Option<&'a Endpoint>,
        /// The version of TLS that goes over it, `1.3` or `1.2`; none without.
        tls: Option<&'a str>,
    },
    /// Bytes were read or written, or a datagram received or sent.
    Data {
        /// Which way.
        dir: Direction,
        /// Number of this record in its direction, from 0.
        seq: u64,
        /// Bytes of this direction that went before.
        off: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A whole message was handed to the handler or taken from it.
    Message {
        /// Which way.
        dir: Direction,
        /// Its length without framing.
        len: usize,
    },
    /// A datagram was longer than the buffer it was received into.
    Truncated {
        /// How much of it is there.
        len: usize,
    },
    /// One direction has ended; the other goes on.
    HalfClose {
        /// The direction that ended.
        dir: Direction,
    },
    /// A conversation ended.
    Close {
        /// Why.
        code: Code,
        /// Bytes received; none if a program had the socket itself, and nobody counted.
        bytes_in: Option<u64>,
        /// Bytes written; none as above.
        bytes_out: Option<u64>,
        /// How long it lasted.
        lasted: Duration,
    },
    /// Bytes were handed over and nothing says that they arrived.
    Lost {
        /// Why.
        code: Code,
        /// Bytes received.
        bytes_in: u64,
        /// Bytes written.
        bytes_out: u64,
        /// Bytes of them that were not acknowledged.
        unconfirmed: u64,
    },
    /// A limit was met.
    Limit {
        /// Its name in `Limits` and on the command line.
        name: &'static str,
        /// Its value, in its own unit.
        value: u64,
        /// What was done.
        action: Action,
        /// How often, since it was last told.
        count: u64,
    },
    /// Something failed.
    Error {
        /// Why.
        code: Code,
        /// In words.
        text: &'a str,
        /// In which act.
        place: &'static str,
        /// Does the server end with it?
        fatal: bool,
    },
    /// The server was told to stop and finishes what it has.
    Drain,
    /// Files that say who may come, and the like, were read again.
    Reload,
    /// Counts of the server since its start, because somebody asked.
    Counts {
        /// Conversations that are open.
        open: u64,
        /// Conversations in all.
        conversations: u64,
        /// Those that did not end cleanly.
        errors: u64,
        /// Connections and datagrams turned away.
        refused: u64,
        /// Messages or datagrams dropped on purpose or for want of room.
        dropped: u64,
        /// How late the I/O thread that is latest is for its work: of a hundred looks at it one is later.
        lag: Duration,
        /// Bytes received by conversations that have ended; none if those of some are not known.
        bytes_in: Option<u64>,
        /// Bytes written by them; none as above.
        bytes_out: Option<u64>,
    },
    /// The server or client has ended.
    Summary {
        /// Conversations in all.
        conversations: u64,
        /// Bytes received; none if those of some conversations are not known.
        bytes_in: Option<u64>,
        /// Bytes written; none as above.
        bytes_out: Option<u64>,
        /// Conversations that did not end cleanly.
        errors: u64,
        /// Messages or datagrams dropped on purpose or for want of room.
        dropped: u64,
        /// Exit status of the command.
        exit: u8,
        /// Why it ended.
        code: Code,
    },
}

impl What<'_> {
    /// The word in the field `ev`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Listen { .. } => "listen",
            Self::Call { call, .. } => call.word(),
            Self::Open { .. } => "open",
            Self::Data { .. } => "data",
            Self::Message { .. } => "message",
            Self::Truncated { .. } => "truncated",
            Self::HalfClose { .. } => "half_close",
            Self::Close { .. } => "close",
            Self::Lost { .. } => "lost",
            Self::Limit { .. } => "limit",
            Self::Error { .. } => "error",
            Self::Drain => "drain",
            Self::Reload => "reload",
            Self::Counts { .. } => "counts",
            Self::Summary { .. } => "summary",
        }
    }
}
