//! Handshake: its end where it fails, with the stream to close.

use std::fmt;

use adit_proto::error::Error;

/// A handshake that failed: why, and the stream beneath, where there is still one.
///
/// What the peer has sent may be unread there: close it as every connection is closed, by ending our
/// direction and reading on for a while, else a reset may overtake the alert that says why.
///
/// `?` turns it into an [`Error`].
///
/// ```
/// use adit_tls::{ClientTls, Pin};
/// use std::time::Duration;
/// use tokio::io::AsyncWriteExt as _;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let (near, mut far) = tokio::io::duplex(10_000);
/// far.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await?;
/// let client = ClientTls::pinned(Pin::of(b"a certificate"))?;
/// let failed = client.connect(near, "db", "db:22", Duration::from_secs(10)).await.unwrap_err();
/// let (error, stream) = failed.into_parts();
/// assert_eq!(
///     error.to_string(),
///     "db:22 is not speaking TLS (first bytes \"SSH-2.0-\"); did you mean tcp://? (code=tls-plain-peer)"
/// );
/// assert!(stream.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HandshakeError<IO> {
    error: Error,
    io: Option<IO>,
    silent: bool,
    answered: bool,
}

impl<IO> HandshakeError<IO> {
    pub(crate) const fn new(error: Error, io: Option<IO>) -> Self {
        Self { error, io, silent: false, answered: false }
    }

    pub(crate) const fn silent(mut self, silent: bool) -> Self {
        self.silent = silent;
        self
    }

    pub(crate) const fn answered(mut self, answered: bool) -> Self {
        self.answered = answered;
        self
    }

    /// The peer speaks plain HTTP, and was told in its language that this is a port for TLS.
    pub const fn was_answered(&self) -> bool {
        self.answered
    }

    /// The peer has left without a byte, as somebody does who only looks whether a port is open.
    pub const fn was_silent(&self) -> bool {
        self.silent
    }

    /// Why.
    pub const fn error(&self) -> &Error {
        &self.error
    }

    /// Why, and the stream; none if a limit of time has ended the handshake.
    pub fn into_parts(self) -> (Error, Option<IO>) {
        (self.error, self.io)
    }
}

impl<IO> From<HandshakeError<IO>> for Error {
    fn from(failed: HandshakeError<IO>) -> Self {
        failed.error
    }
}

impl<IO> fmt::Display for HandshakeError<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<IO> fmt::Debug for HandshakeError<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl<IO> std::error::Error for HandshakeError<IO> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}
