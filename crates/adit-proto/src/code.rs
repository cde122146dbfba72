//! Codes: the stable words that say why something ended, in text, JSON and exit status alike.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// Why a conversation, a call or a command ended. A word is never renamed or reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $variant,)+ }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word, as it stands behind `code=` and in JSON.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

codes! {
    /// Both directions ended cleanly and nothing is missing.
    Ok = "ok",
    /// The server was told to stop and the conversation was finished first.
    Drained = "drained",
    // Connecting.
    /// Nothing listens there.
    Refused = "refused",
    /// No route, host or network down.
    Unreachable = "unreachable",
    /// The name could not be resolved.
    Name = "name",
    /// No answer to a datagram.
    NoAnswer = "no-answer",
    /// A TCP connection that turned out to be with itself.
    SelfConnect = "self-connect",
    /// No local port is free for this destination.
    NoPorts = "no-ports",
    // Listening.
    /// Somebody else has the address.
    InUse = "in-use",
    /// This host has no such address.
    NoAddress = "no-address",
    /// The system does not permit it.
    Denied = "denied",
    // Ending.
    /// The peer, or something on the way, reset the connection.
    Reset = "reset",
    /// The stream ended inside a message.
    Truncated = "truncated",
    /// The peer does not answer any more.
    DeadPeer = "dead-peer",
    /// Bytes were handed over and never acknowledged.
    Lost = "lost",
    /// The server has as many conversations as it may.
    Full = "full",
    /// It made room: for a newcomer, since it had been idle for longest or owed a handshake still, or because
    /// memory was short and it held much.
    Shed = "shed",
    /// The access list, or the handler's factory, did not want this peer.
    NotAllowed = "not-allowed",
    /// The peer's address has too much open, comes too fast, or is held off for what it did.
    RateLimited = "rate-limited",
    // TLS.
    /// The peer does not speak TLS.
    TlsPlainPeer = "tls-plain-peer",
    /// The peer's certificate is issued by nobody who is trusted, or is not the one that was pinned.
    TlsUntrusted = "tls-untrusted",
    /// The peer's certificate is for other names.
    TlsName = "tls-name",
    /// The peer's certificate is not valid any more, or not yet.
    TlsExpired = "tls-expired",
    /// The two sides have no version of TLS in common, or nothing else that they need for one.
    TlsVersion = "tls-version",
    /// A client without the certificate that its server wants.
    TlsClientCertificate = "tls-client-cert",
    /// TLS was broken off by an alert, the peer's or ours.
    TlsAlert = "tls-alert",
    // Data.
    /// A message longer than the limit or than the transport takes.
    TooBig = "too-big",
    /// Bytes that are no message, or a message that cannot be framed.
    BadFrame = "bad-frame",
    /// The connection did not begin with the PROXY header that it must have.
    BadProxyHeader = "bad-proxy-header",
    // Here.
    /// No file descriptor left.
    NoDescriptors = "no-fds",
    /// No memory left.
    NoMemory = "no-memory",
    /// The handler failed.
    Handler = "handler",
    /// A program is there and cannot be run.
    CannotRun = "cannot-run",
    /// A program is not there.
    NotFound = "not-found",
    /// The handler panicked.
    Panic = "panic",
    /// A bug in adit.
    Internal = "internal",
    // Usage.
    /// A word of the command line or an argument is wrong.
    Usage = "usage",
    /// A file that settings are in, a certificate or a list, cannot be used.
    Config = "config",
    /// What was asked for would be dangerous.
    Unsafe = "unsafe",
    // Limits.
    /// Names, addresses and connecting took too long.
    ConnectTimeout = "connect-timeout",
    /// The TLS handshake, or the PROXY header, took too long.
    HandshakeTimeout = "handshake-timeout",
    /// A started message was not finished in time, or the first one never began.
    MessageTimeout = "message-timeout",
    /// No byte in either direction for too long.
    IdleTimeout = "idle-timeout",
    /// The peer took nothing of what it is owed for too long.
    StallTimeout = "stall-timeout",
    /// The answer after the end of our input took too long.
    LingerTimeout = "linger-timeout",
    /// The conversation as a whole took too long.
    MaxTime = "max-time",
    /// The server was told to stop, and the conversation was not finished in time.
    DrainTimeout = "drain-timeout",
    /// What was waited for did not happen in time.
    WaitTimeout = "wait-timeout",
    /// A call was not answered before its deadline.
    Deadline = "deadline",
    /// The server was stopped at once, in the middle of the conversation.
    Stopped = "stopped",
    // The command's own end.
    /// Ended by a signal.
    Signal = "signal",
    /// The reader of standard output left.
    StdoutClosed = "stdout-closed",
}

impl Code {
    /// Did everything end as it should?
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::Ok | Self::Drained)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::Code;
    use std::collections::BTreeSet;

    #[test]
    fn every_word_is_its_own_and_fits_a_shell_pattern() {
        let words: BTreeSet<_> = Code::ALL.iter().map(|code| code.word()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(words.iter().all(|w| w.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    }
}
