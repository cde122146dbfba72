//! What happened, as it is drawn: doors that listened, conversations, and what each side did.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

mod tell;

pub use tell::Teller;

use std::fmt;
use std::ops::Range;

/// Everything a trace tells.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Story {
    /// What is exact about it.
    pub badge: Badge,
    /// Wall clock time of its beginning, RFC 3339; empty if unknown.
    pub start: String,
    /// The programs that wrote it, as their first lines say: `adit serve upper 7000`.
    pub programs: Vec<Program>,
    /// The sockets that listened, in order.
    pub doors: Vec<Door>,
    /// The conversations, in the order of their beginnings.
    pub talks: Vec<Talk>,
    /// What belongs to no conversation: limits, errors, the drain.
    pub general: Vec<Act>,
    /// What could not be read, or is missing: shown under every picture.
    pub notes: Vec<String>,
    /// Events that were dropped where the trace was written.
    pub dropped: u64,
}

/// A program that wrote a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Program {
    /// Its command line; empty if unknown.
    pub name: String,
    /// Its process number; 0 if unknown.
    pub pid: u32,
    /// Which part it played.
    pub seen: Seen,
}

/// What is exact about a story, in the words of the first line of its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Badge {
    /// `exact`, `relay` or `none`: are reads and writes those of the programs themselves?
    pub calls: String,
    /// `exact`, `relay` or `none`: are segments and datagrams those on the wire?
    pub wire: String,
    /// `one clock`, or how well two clocks were brought together.
    pub clock: String,
}

impl Default for Badge {
    fn default() -> Self {
        Self { calls: "none".into(), wire: "none".into(), clock: "one clock".into() }
    }
}

impl fmt::Display for Badge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "calls {} | wire {} | {}", self.calls, self.wire, self.clock)
    }
}

/// Who saw an act: the side that did it, the relay in the middle, or somebody on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "every picture has a place for each")]
pub enum Seen {
    /// The client.
    Client,
    /// The server.
    #[default]
    Server,
    /// A relay between them, on its socket that faces the client.
    RelayToClient,
    /// A relay between them, on its socket that faces the server.
    RelayToServer,
    /// Somebody who captured packets.
    Wire,
}

impl Seen {
    /// Every observer there is.
    pub const ALL: [Self; 5] =
        [Self::Client, Self::Server, Self::RelayToClient, Self::RelayToServer, Self::Wire];

    /// The word in traces: `client`, `server`, `relay-to-client`, `relay-to-server`, `wire`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::RelayToClient => "relay-to-client",
            Self::RelayToServer => "relay-to-server",
            Self::Wire => "wire",
        }
    }

    /// Who is meant by a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|seen| seen.word() == word)
    }
}

/// Which way bytes go, the same for every observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "there are two ways")]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a new transport needs a new picture")]
pub enum Scheme {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// A Unix stream socket.
    Unix,
    /// A Unix datagram socket.
    UnixDatagram,
}

impl Scheme {
    /// Does it keep the edges of messages?
    pub const fn is_datagram(self) -> bool {
        matches!(self, Self::Udp | Self::UnixDatagram)
    }

    /// The word in addresses: `tcp`, `udp`, `unix`, `unix-dgram`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::UnixDatagram => "unix-dgram",
        }
    }

    /// The scheme of a word.
    pub fn of(word: &str) -> Option<Self> {
        let all = [Self::Tcp, Self::Udp, Self::Unix, Self::UnixDatagram];
        all.into_iter().find(|scheme| scheme.word() == word)
    }
}

/// A socket that listens: the lecture's welcomeSocket, or the serverSocket of UDP.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Door {
    /// How bytes travel.
    pub scheme: Scheme,
    /// Where it listens: `127.0.0.1:7000`.
    pub addr: String,
    /// Who can reach it: `loopback`, `host`, `lan`, `all`; empty if unknown.
    pub reach: String,
    /// Its descriptor.
    pub fd: Option<i32>,
    /// Nanoseconds since the start at which it was created, bound, listening.
    pub since: u64,
    /// When it was closed.
    pub until: Option<u64>,
    /// Number of the event that told of it.
    pub n: u64,
}

/// One conversation: a connection, or a peer's datagrams.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Talk {
    /// Its number, from 1, unique in the story.
    pub number: u64,
    /// How bytes travel.
    pub scheme: Scheme,
    /// The client's address; empty if unknown.
    pub client: String,
    /// The server's address; empty if unknown.
    pub server: String,
    /// The relay's own two addresses, if one stood between: towards the client, towards the server.
    pub relay: Option<(String, String)>,
    /// What was done, in order of time.
    pub acts: Vec<Act>,
}

/// One thing that was done, or that happened.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "pictures take it apart, readers put it together")]
pub struct Act {
    /// Nanoseconds since the start of the story.
    pub at: u64,
    /// Number of the event in its trace: where to look for more.
    pub n: u64,
    /// Who saw it.
    pub seen: Seen,
    /// What it was.
    pub did: Did,
}

/// What was done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Did {
    /// The server's `accept` gave a connectionSocket.
    Accept {
        /// Its descriptor.
        fd: Option<i32>,
    },
    /// The client's `connect`: how long it took, and why it failed, if it did.
    Connect {
        /// Its descriptor.
        fd: Option<i32>,
        /// The address that was tried.
        addr: Box<str>,
        /// Nanoseconds from call to return.
        took: Option<u64>,
        /// The word for why it failed.
        code: Option<Box<str>>,
    },
    /// The conversation stands; over datagrams: the first one of this peer.
    Open,
    /// Bytes were written: where in the stream they stand, and the first of them.
    Write {
        /// Which way they go.
        way: Way,
        /// First and one past the last byte in this way of the stream.
        off: Range<u64>,
        /// The first of them, as far as the trace has them.
        bytes: Box<[u8]>,
    },
    /// Bytes were read.
    Read {
        /// Which way they go.
        way: Way,
        /// First and one past the last byte in this way of the stream.
        off: Range<u64>,
        /// The first of them, as far as the trace has them.
        bytes: Box<[u8]>,
    },
    /// A datagram was sent.
    Send {
        /// Which way it goes.
        way: Way,
        /// Its number in this way, from 0.
        msg: u64,
        /// Its length.
        len: u64,
        /// Its first bytes.
        bytes: Box<[u8]>,
    },
    /// A datagram was received.
    Receive {
        /// Which way it goes.
        way: Way,
        /// Its number in this way, from 0, in order of arrival.
        msg: u64,
        /// Its length.
        len: u64,
        /// Its first bytes.
        bytes: Box<[u8]>,
    },
    /// A datagram was longer than the buffer for it.
    Truncated {
        /// What is left of it.
        len: u64,
    },
    /// A read returned 0: the writer of this way has finished.
    ReadEnd {
        /// The way that has ended.
        way: Way,
    },
    /// The writer of this way has finished: `shutdown`, a half-close.
    WriteEnd {
        /// The way that has ended.
        way: Way,
    },
    /// A socket was closed.
    Close {
        /// Its descriptor.
        fd: Option<i32>,
    },
    /// The conversation is over, as the one who saw it understands it.
    Over {
        /// The word for why.
        code: Box<str>,
        /// Bytes received, if anybody counted.
        bytes_in: Option<u64>,
        /// Bytes sent, if anybody counted.
        bytes_out: Option<u64>,
        /// Nanoseconds it lasted.
        took: u64,
    },
    /// Bytes that nobody acknowledged.
    Lost {
        /// The word for why.
        code: Box<str>,
        /// How many.
        unconfirmed: u64,
    },
    /// A limit was met.
    Limit {
        /// Its name.
        name: Box<str>,
        /// What was done: `wait`, `close`, `drop`, `report`.
        action: Box<str>,
        /// How often.
        count: u64,
    },
    /// Something failed.
    Error {
        /// The word for why.
        code: Box<str>,
        /// In words.
        text: Box<str>,
        /// In which act.
        place: Box<str>,
    },
    /// The server was told to stop.
    Drain,
    /// A packet of a stream on the wire.
    Segment {
        /// Which way it goes.
        way: Way,
        /// `S` SYN, `F` FIN, `R` RST, `A` acknowledgement, `P` push; in this order.
        flags: Box<str>,
        /// The payload's place in this way of the stream.
        off: Range<u64>,
        /// The first payload bytes.
        bytes: Box<[u8]>,
        /// The receive window it tells of, in bytes.
        window: u64,
        /// These bytes went by before: TCP sent them again.
        again: bool,
    },
    /// A datagram on the wire.
    Packet {
        /// Which way it goes.
        way: Way,
        /// Its number in this way, from 0.
        msg: u64,
        /// Its length.
        len: u64,
        /// Its first bytes.
        bytes: Box<[u8]>,
    },
    /// The network says that nobody listens there (ICMP port unreachable).
    Unreachable {
        /// Which way the datagram was going that met nobody.
        way: Way,
    },
}

impl Did {
    /// Is the conversation over with it, as the one who saw it understands it?
    pub const fn is_end(&self) -> bool {
        matches!(self, Self::Over { .. } | Self::Connect { code: Some(_), .. })
    }
}
