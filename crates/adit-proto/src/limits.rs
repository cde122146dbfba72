//! Limits: what a server spends on its peers, each with a unit, a default and a reason.

use std::time::Duration;

use bytes::Bytes;

use crate::rate::{ByteRate, Rate};

/// A bound that is on unless `Off` is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a bound is there or it is not")]
pub enum Limit<T> {
    /// This much and no more.
    At(T),
    /// No bound.
    Off,
}

impl<T: Copy> Limit<T> {
    /// The bound as an option.
    pub fn at(self) -> Option<T> {
        match self {
            Self::At(value) => Some(value),
            Self::Off => None,
        }
    }
}

/// What to do with a message longer than [`Limits::message_bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlong {
    /// End the conversation with `too-big`.
    Close,
    /// Send this message, then end the conversation with `too-big`.
    Answer(Bytes),
    /// Pass over the message and go on; close if the codec has no way to.
    Skip,
}

/// What to do with a newcomer when there are as many conversations as may be, when a thread is late for
/// its work by more than [`Limits::lag`], or when nine tenths of the descriptors are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits in the kernel's queue, where it costs nothing.
    #[default]
    Wait,
    /// It is let in, and closed at once: whoever balances over several servers knows where it stands.
    Refuse,
    /// Somebody makes room, with the code `shed`: whoever still owes a PROXY header or a TLS handshake, if
    /// there is one, else the conversation that has been idle for longest. One that owes answers is not
    /// idle, nor is one whose socket was given away; where nobody is, or nobody goes within a second, the
    /// newcomer is refused.
    Shed,
}

/// What a server spends on its peers. Everything is on by default.
///
/// ```
/// use adit_proto::limits::{Limit, Limits};
/// use std::time::Duration;
/// let limits = Limits {
///     idle: Limit::At(Duration::from_secs(20)),
///     conversations: Limit::Off, // as far as file descriptors reach
///     ..Limits::default()
/// };
/// assert_eq!(limits.in_flight, 32);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain settings, built with ..Limits::default()")]
pub struct Limits {
    /// Connections at once, over all threads; 10,000. Newcomers wait in the kernel's queue. Never
    /// above the descriptor limit less a reserve of a quarter, 64 at most.
    pub conversations: Limit<usize>,
    /// What happens to newcomers then; they wait.
    pub when_full: WhenFull,
    /// Connections at once of one source, which is an IPv4 address or a /64 of IPv6; 100. One more is
    /// refused, and nobody else is. Of its datagram peers, one for each port, as many for each thread.
    pub per_source: Limit<usize>,
    /// New connections of one source; 50 a second, 100 at once. One more is refused, and nobody else is.
    pub conn_rate: Limit<Rate>,
    /// Are `per_source`, `conn_rate` and `amplification` off for sources on loopback? They are: whoever
    /// is on this host has one address for all its programs, and does not forge others.
    pub exempt_loopback: bool,
    /// Bytes of one source, each way, over all its conversations; off. It is slowed, never refused:
    /// connections are read and written later, datagrams above it are dropped. A conversation over a
    /// Unix socket, which has no source, is counted alone.
    pub byte_rate: Limit<ByteRate>,
    /// Refused connections that are being closed so that the peer reads an end, 0.2 s each; 16. Above
    /// that they are closed at once, which the peer may read as a reset.
    pub turn_away: usize,
    /// Time for what comes before a conversation, a PROXY header; 10 s.
    pub handshake: Limit<Duration>,
    /// Longest message from a peer, framing not counted; 1 MiB.
    pub message_bytes: usize,
    /// Longest message a handler may send at once; 1 MiB. Larger answers belong in a stream.
    pub reply_bytes: usize,
    /// Unsent bytes of a conversation above which it is not read any more; 128 KiB. One
    /// read, and what it is answered by, may come on top.
    pub unsent_bytes: usize,
    /// Memory for conversations and what they hold in buffers, over all threads; 1 GiB, and never more
    /// than a quarter of what the host, the control group or `RLIMIT_AS` allows. Half of it at most is
    /// for conversations, of 4 KiB each, 16 KiB over TLS. Above 80 % of the rest those that hold more than
    /// the average are not read for now, and cut after 3 s with the code `shed`, as are those whose peer does
    /// nothing for as long; above 90 % newcomers wait in the kernel's queue; above 95 % nobody who holds
    /// anything is read, and one is cut whose peer does nothing; above 97 % the one that holds most is. What
    /// handlers keep is theirs, and not counted.
    pub memory: Limit<usize>,
    /// How late an I/O thread may be for its work before it takes fewer newcomers, down to four in a tenth
    /// of a second; 100 ms. The others wait in the kernel's queue or come to other threads; where newcomers do not
    /// wait, they are turned away.
    pub lag: Limit<Duration>,
    /// Asynchronous answers at work per conversation before reading stops; 32, up to where polling
    /// them all is fastest.
    pub in_flight: usize,
    /// Messages from outside (a room, a sender) that wait for one conversation; 64. Of a room more
    /// while they are small: up to `unsent_bytes`.
    pub inbox: usize,
    /// Time for the first byte of the first message; off, idle watches.
    pub first_message: Limit<Duration>,
    /// Time from the first byte of a message to its last; 30 s.
    pub message: Limit<Duration>,
    /// Time without a byte in either direction; 300 s. Does not run while the server owes answers.
    pub idle: Limit<Duration>,
    /// Time during which the peer takes nothing of what it is owed; 30 s. On TCP the kernel watches
    /// with it too (`TCP_USER_TIMEOUT`, RFC 5482) and probes a silent peer.
    pub stall: Limit<Duration>,
    /// Time of a conversation as a whole; off.
    pub max_time: Limit<Duration>,
    /// Time a closing connection may stay silent before it is closed for good; 2 s.
    pub linger_idle: Duration,
    /// Time the close of a connection may take; 10 s.
    pub linger: Duration,
    /// Bytes read and thrown away while closing; 1 MiB.
    pub linger_bytes: usize,
    /// Datagram peers remembered by each socket, of which a thread has one for each address; 65,536.
    /// The one that would be forgotten first makes room. Of a forward, whose peers have a socket each to
    /// the target, never more than there are descriptors.
    pub datagram_peers: usize,
    /// How long a datagram peer is remembered after its only datagram; 10 s.
    pub datagram_peer_new: Duration,
    /// How long a datagram peer is remembered after its latest datagram; 60 s.
    pub datagram_peer: Duration,
    /// Bytes answered per byte received from a source of datagrams that is not on loopback, headers
    /// included; 3, and 100 answers a second, 200 at once, for each thread. The sender's address is a
    /// claim: without the bound a server floods whoever is named in it.
    pub amplification: Limit<u32>,
    /// Threads for `blocking` handlers, over all I/O threads; 64.
    pub blocking_threads: usize,
    /// What happens to a message longer than `message_bytes`.
    pub overlong: Overlong,
    /// A handler that keeps its thread for longer is reported; 10 ms. `Off` saves two clock readings
    /// per batch of messages.
    pub watchdog: Limit<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            conversations: Limit::At(10_000),
            when_full: WhenFull::Wait,
            per_source: Limit::At(100),
            conn_rate: Limit::At(Rate { per_second: 50, burst: 100 }),
            byte_rate: Limit::Off,
            exempt_loopback: true,
            turn_away: 16,
            handshake: Limit::At(Duration::from_secs(10)),
            message_bytes: 1 << 20,
            reply_bytes: 1 << 20,
            unsent_bytes: 128 << 10,
            memory: Limit::At(1 << 30),
            lag: Limit::At(Duration::from_millis(100)),
            in_flight: 32,
            inbox: 64,
            first_message: Limit::Off,
            message: Limit::At(Duration::from_secs(30)),
            idle: Limit::At(Duration::from_secs(300)),
            stall: Limit::At(Duration::from_secs(30)),
            max_time: Limit::Off,
            linger_idle: Duration::from_secs(2),
            linger: Duration::from_secs(10),
            linger_bytes: 1 << 20,
            datagram_peers: 65_536,
            datagram_peer_new: Duration::from_secs(10),
            datagram_peer: Duration::from_secs(60),
            amplification: Limit::At(3),
            blocking_threads: 64,
            overlong: Overlong::Close,
            watchdog: Limit::At(Duration::from_millis(10)),
        }
    }
}
