//! Error: the one error at the face of the library, and the questions every caller has.

use std::fmt;
use std::io;

use crate::code::Code;
use crate::codec::BoxError;

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blame {
    /// The peer, or the network between.
    Peer,
    /// This host: descriptors, memory, ports, permissions, a handler.
    Local,
    /// The caller: a wrong argument, a deadline that was too short.
    Caller,
}

/// What went wrong, where, and what may have happened all the same.
///
/// `Display` prints its own level in one line; [`source`](std::error::Error::source) has the rest.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    blame: Blame,
    what: String,
    peer: Option<String>,
    limit: Option<&'static str>,
    hint: Option<String>,
    maybe_executed: bool,
    source: Option<BoxError>,
}

impl Error {
    /// An error with its code, who is to blame, and one line that says what happened and where.
    pub fn new(code: Code, blame: Blame, what: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            blame,
            what: what.into(),
            peer: None,
            limit: None,
            hint: None,
            maybe_executed: false,
            source: None,
        }))
    }

    /// Adds the peer it happened with, as in `tcp 127.0.0.1:7000`.
    #[must_use]
    pub fn with_peer(mut self, peer: impl fmt::Display) -> Self {
        self.0.peer = Some(peer.to_string());
        self
    }

    /// Adds the name of the limit that expired or was passed, as in `idle`.
    #[must_use]
    pub fn with_limit(mut self, limit: &'static str) -> Self {
        self.0.limit = Some(limit);
        self
    }

    /// Adds what the user can do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the cause beneath.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says that the request may have reached the peer's program.
    #[must_use]
    pub fn after_sending(mut self) -> Self {
        self.0.maybe_executed = true;
        self
    }

    /// Why, as a stable word.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Who has to change something.
    pub fn blame(&self) -> Blame {
        self.0.blame
    }

    /// May the peer have carried out the request although no answer came?
    pub fn maybe_executed(&self) -> bool {
        self.0.maybe_executed
    }

    /// Is trying again certain not to do the work twice, and of any use?
    ///
    /// False whenever the peer may have executed the request: only the caller knows whether doing it
    /// twice is harmless.
    pub fn safe_to_retry(&self) -> bool {
        !self.0.maybe_executed && self.0.blame != Blame::Caller
    }

    /// The limit that expired or was passed, by its name in `Limits` or on the command line.
    pub fn limit(&self) -> Option<&'static str> {
        self.0.limit
    }

    /// The peer it happened with.
    pub fn peer(&self) -> Option<&str> {
        self.0.peer.as_deref()
    }

    /// What to do next.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code={})", self.0.what, self.0.code)
    }
}

/// For people, since `main` prints it: the sentence, the next step, and the causes beneath. `{:#?}`
/// shows the fields.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return f
                .debug_struct("Error")
                .field("code", &self.0.code)
                .field("blame", &self.0.blame)
                .field("what", &self.0.what)
                .field("peer", &self.0.peer)
                .field("limit", &self.0.limit)
                .field("hint", &self.0.hint)
                .field("maybe_executed", &self.0.maybe_executed)
                .field("source", &self.0.source)
                .finish();
        }
        fmt::Display::fmt(self, f)?;
        if let Some(hint) = &self.0.hint {
            write!(f, "; {hint}")?;
        }
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            write!(f, "\n  caused by: {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

/// An error of standard input, of a file, or of anything else that is no conversation.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::new(code_of(&error), Blame::Local, error.to_string())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

/// What an operating system's error means on an open connection. An [`Error`] within, as a stream of TLS
/// gives it, has said so already.
///
/// `ETIMEDOUT` is the kernel giving up on a peer that does not acknowledge (RFC 9293, section 3.8.3).
pub fn code_of(error: &io::Error) -> Code {
    use io::ErrorKind as Kind;
    if let Some(within) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return within.code();
    }
    match error.kind() {
        Kind::ConnectionRefused | Kind::NotFound => Code::Refused,
        Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted => Code::Reset,
        Kind::TimedOut => Code::DeadPeer,
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => Code::Unreachable,
        Kind::AddrInUse => Code::InUse,
        Kind::AddrNotAvailable => Code::NoAddress,
        Kind::PermissionDenied => Code::Denied,
        Kind::UnexpectedEof => Code::Truncated,
        Kind::OutOfMemory => Code::NoMemory,
        Kind::InvalidInput | Kind::InvalidFilename => Code::Usage,
        Kind::InvalidData => Code::BadFrame,
        // The standard library has no names for them yet.
        _ => match error.raw_os_error() {
            Some(EMSGSIZE) => Code::TooBig,
            Some(EMFILE | ENFILE) => Code::NoDescriptors,
            _ => Code::Internal,
        },
    }
}

/// "Message too long": a datagram longer than the transport takes (errno(3); asm-generic/errno.h).
const EMSGSIZE: i32 = 90;
/// "Too many open files", in this process or on the whole host.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

#[cfg(test)]
mod tests {
    use super::{Blame, Code, Error, code_of};
    use std::error::Error as _;
    use std::io;

    #[test]
    fn what_the_system_says_has_its_word() {
        let of = |number| code_of(&io::Error::from_raw_os_error(number));
        // ECONNREFUSED, ECONNRESET, ETIMEDOUT, EMSGSIZE and one that says nothing about a peer.
        let words = [Code::Refused, Code::Reset, Code::DeadPeer, Code::TooBig, Code::Internal];
        assert_eq!([111, 104, 110, 90, 77].map(of), words);
        // EMFILE and ENFILE.
        assert_eq!([24, 23].map(of), [Code::NoDescriptors; 2]);
    }

    #[test]
    fn an_error_within_has_said_what_it_is() {
        let alert = Error::new(Code::TlsAlert, Blame::Peer, "the peer broke TLS off");
        assert_eq!(code_of(&io::Error::new(io::ErrorKind::InvalidData, alert)), Code::TlsAlert);
    }

    #[test]
    fn display_prints_its_own_level_and_the_source_has_the_rest() {
        let error = Error::new(Code::Reset, Blame::Peer, "connection to h:1 reset by the peer")
            .with_source("os says no")
            .with_hint("try again");
        assert_eq!(error.to_string(), "connection to h:1 reset by the peer (code=reset)");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("os says no"));
        assert_eq!(error.hint(), Some("try again"));
    }

    #[test]
    fn what_main_prints_is_for_people() {
        let error = Error::new(Code::InUse, Blame::Local, "cannot listen on tcp 127.0.0.1:80")
            .with_hint("any free port: use port 0")
            .with_source("os says no");
        assert_eq!(
            format!("{error:?}"),
            "cannot listen on tcp 127.0.0.1:80 (code=in-use); any free port: use port 0\n  \
             caused by: os says no"
        );
        assert!(format!("{error:#?}").contains("blame: Local"));
    }

    #[test]
    fn a_request_that_may_have_been_executed_is_not_safe_to_retry() {
        let error = Error::new(Code::Deadline, Blame::Peer, "no answer");
        assert!(error.safe_to_retry());
        assert!(!error.after_sending().safe_to_retry());
        assert!(!Error::new(Code::Usage, Blame::Caller, "bad argument").safe_to_retry());
    }
}
