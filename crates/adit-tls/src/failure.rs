//! Failure: from what rustls says to a word, a sentence and a next step.

use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::pin::Pin as Pinned;
use std::task::Poll;
use std::time::Duration;

use adit_proto::code::Code;
use adit_proto::error::{Blame, Error, code_of};
use adit_proto::escape::escape_line;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, Error as TlsError, HandshakeType, PeerIncompatible,
};
use tokio::io::AsyncWrite;

use crate::Certificate;
use crate::date::text_of;
use crate::files::{plain, wrong};
use crate::wire::First;

/// A handshake that failed: with whom, and how the peer began.
pub(crate) struct Failed<'a> {
    pub(crate) peer: &'a dyn Display,
    pub(crate) first: &'a First,
}

/// Was a client asked for a certificate, and did it have one?
pub(crate) type Asked = Option<bool>;

impl Failed<'_> {
    /// What a client says. `seen` is the DER of the server's certificate.
    pub(crate) fn at_client(
        &self,
        error: &io::Error,
        name: &ServerName<'_>,
        seen: Option<&[u8]>,
        asked: Asked,
    ) -> Error {
        if self.first.is_plain() {
            return self.plain_server(&format!("first bytes {}", self.first_bytes()));
        }
        let what = match tls_error(error) {
            None => self.lost(error).with_hint(HINT_PLAIN),
            // A server that echoes sends our own greeting back.
            Some(TlsError::InappropriateHandshakeMessage {
                got_type: HandshakeType::ClientHello,
                ..
            }) => self.plain_server("it sends back what it gets"),
            Some(TlsError::InvalidCertificate(cause)) => {
                let certificate = Certificate::of(seen.unwrap_or_default());
                self.certificate(cause, name, &certificate)
            }
            Some(TlsError::AlertReceived(alert)) => {
                alert_at_client(*alert, &self.peer.to_string(), name, asked)
            }
            Some(cause) => self.broken(cause),
        };
        what.with_peer(self.peer)
    }

    /// What a server says.
    pub(crate) fn at_server(&self, error: &io::Error) -> Error {
        let peer = self.peer;
        if self.first.is_plain() {
            let what = format!("{peer} is not speaking TLS (first bytes {})", self.first_bytes());
            return Error::new(Code::TlsPlainPeer, Blame::Peer, what).with_peer(peer);
        }
        let what = match tls_error(error) {
            None => self.lost(error),
            Some(TlsError::NoCertificatesPresented) => {
                let what = format!("{peer} has shown no client certificate");
                Error::new(Code::TlsClientCertificate, Blame::Peer, what)
            }
            Some(TlsError::InvalidCertificate(cause)) => {
                let why = match cause {
                    CertificateError::ExpiredContext { time, not_after } => {
                        expired(*time, *not_after)
                    }
                    CertificateError::NotValidYetContext { not_before, .. } => {
                        too_early(*not_before)
                    }
                    cause => untrusted(cause, None),
                };
                let what = format!("client certificate of {peer} not accepted: {why}");
                Error::new(Code::TlsClientCertificate, Blame::Peer, what)
            }
            Some(TlsError::AlertReceived(alert)) => {
                let (alert, hint) = (alert_name(*alert), alert_hint(*alert));
                let what = format!("{peer} broke the TLS handshake off: alert {alert}");
                let error = Error::new(Code::TlsAlert, Blame::Peer, what);
                if hint.is_empty() { error } else { error.with_hint(hint) }
            }
            Some(cause) => self.broken(cause),
        };
        what.with_peer(peer)
    }

    /// The limit of a client expired.
    pub(crate) fn no_answer_within(&self, limit: Duration) -> Error {
        if self.first.is_plain() {
            return self.plain_server(&format!("first bytes {}", self.first_bytes()));
        }
        let what = format!("no TLS answer from {} within {limit:?}", self.peer);
        self.expired_limit(what).with_hint(HINT_PLAIN)
    }

    /// The limit of a server expired.
    pub(crate) fn no_handshake_within(&self, limit: Duration) -> Error {
        if self.first.is_plain() {
            return self.at_server(&io::ErrorKind::TimedOut.into());
        }
        self.expired_limit(format!("no TLS handshake from {} within {limit:?}", self.peer))
    }

    fn expired_limit(&self, what: String) -> Error {
        Error::new(Code::HandshakeTimeout, Blame::Peer, what)
            .with_limit("handshake-timeout")
            .with_peer(self.peer)
    }

    fn first_bytes(&self) -> String {
        format!("\"{}\"", escape_line(&self.first.bytes(), FIRST_CHARS_MAX))
    }

    fn plain_server(&self, how: &str) -> Error {
        let what = format!("{} is not speaking TLS ({how}); did you mean tcp://?", self.peer);
        Error::new(Code::TlsPlainPeer, Blame::Caller, what).with_peer(self.peer)
    }

    /// The connection ended beneath the handshake.
    fn lost(&self, error: &io::Error) -> Error {
        let peer = self.peer;
        if error.kind() != io::ErrorKind::UnexpectedEof {
            let what = format!("TLS handshake with {peer} failed: {}", plain(error));
            return Error::new(code_of(error), Blame::Peer, what);
        }
        let where_it_ended = match *self.first.bytes() {
            [] => "before",
            _ => "in the middle of",
        };
        let what = format!("{peer} closed the connection {where_it_ended} the TLS handshake");
        Error::new(Code::Truncated, Blame::Peer, what)
    }

    /// Neither a certificate nor an alert of the peer's.
    fn broken(&self, cause: &TlsError) -> Error {
        broken(cause, &self.peer.to_string())
    }

    /// A server's certificate was not believed.
    fn certificate(
        &self,
        cause: &CertificateError,
        name: &ServerName<'_>,
        certificate: &Certificate,
    ) -> Error {
        use CertificateError as Cause;
        let peer = self.peer;
        match cause {
            Cause::NotValidForName | Cause::NotValidForNameContext { .. } => {
                let names = listed(&certificate.names);
                let wanted = escape_line(name.to_str().as_bytes(), NAME_CHARS_MAX);
                let what = format!("certificate of {peer} is not for \"{wanted}\" but for {names}");
                Error::new(Code::TlsName, Blame::Peer, what)
                    .with_hint("if that is the server you mean: --sni with a name it has")
            }
            Cause::ExpiredContext { time, not_after } => {
                let what = format!("certificate of {peer} {}", expired(*time, *not_after));
                Error::new(Code::TlsExpired, Blame::Peer, what)
            }
            Cause::NotValidYetContext { not_before, .. } => {
                let what = format!("certificate of {peer} {}", too_early(*not_before));
                Error::new(Code::TlsExpired, Blame::Peer, what).with_hint("is the clock right?")
            }
            // The only reason of our own.
            Cause::ApplicationVerificationFailure => {
                let pin = certificate.pin;
                let what =
                    format!("certificate of {peer} is not the pinned one, it has {}", pin.word());
                Error::new(Code::TlsUntrusted, Blame::Peer, what)
            }
            cause => {
                let why = untrusted(cause, Some(certificate));
                let what = format!("certificate of {peer} not trusted: {why}");
                let pin = certificate.pin;
                Error::new(Code::TlsUntrusted, Blame::Peer, what)
                    .with_hint(format!("pin it: --tls=pin:{}   or --ca FILE", pin.word()))
            }
        }
    }
}

/// What a failure of a stream means that has its handshake behind it, for readers of `io::Error`.
pub(crate) fn of_stream(error: io::Error, asked: Asked) -> io::Error {
    let peer = "the peer";
    let explained = match tls_error(&error) {
        Some(TlsError::AlertReceived(alert)) => alert_of_stream(*alert, peer, asked),
        Some(cause) => broken(cause, peer),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Error::new(Code::Truncated, Blame::Peer, "TLS stream ended without its closing message")
        }
        None => return error,
    };
    io::Error::new(error.kind(), explained)
}

/// The peer broke the rules, and it is not known how.
pub(crate) fn of_broken_stream() -> io::Error {
    let what = "the peer broke the rules of TLS, so we broke off";
    let error = Error::new(Code::TlsAlert, Blame::Peer, what);
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Tells a client of HTTP that this is the wrong port. One try, without waiting: the socket has nothing
/// else to send, and nobody depends on it.
pub(crate) async fn answer_http<IO: AsyncWrite + Unpin>(io: &mut IO) {
    poll_fn(|cx| {
        let _written: Poll<io::Result<usize>> = Pinned::new(&mut *io).poll_write(cx, HTTP_ANSWER);
        Poll::Ready(())
    })
    .await;
}

/// Settings that rustls does not take, of which none is known.
pub(crate) fn settings(error: TlsError) -> Error {
    wrong("TLS cannot be set up").with_source(error)
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

fn broken(cause: &TlsError, peer: &str) -> Error {
    let (code, what) = match cause {
        TlsError::PeerIncompatible(how) => (Code::TlsVersion, incompatible(how, peer)),
        TlsError::NoApplicationProtocol => {
            (Code::TlsAlert, format!("{peer} and we have no protocol of ALPN in common"))
        }
        TlsError::NoCertificatesPresented => {
            (Code::TlsUntrusted, format!("{peer} has shown no certificate"))
        }
        TlsError::General(_)
        | TlsError::FailedToGetCurrentTime
        | TlsError::FailedToGetRandomBytes
        | TlsError::Other(_) => (Code::Internal, format!("TLS with {peer} failed")),
        _ => (Code::TlsAlert, format!("{peer} broke the rules of TLS, so we broke off")),
    };
    let blame = if code == Code::Internal { Blame::Local } else { Blame::Peer };
    Error::new(code, blame, what).with_source(cause.clone())
}

fn incompatible(how: &PeerIncompatible, peer: &str) -> String {
    use PeerIncompatible as How;
    match how {
        How::ExtendedMasterSecretExtensionRequired => {
            format!("{peer} speaks TLS 1.2 without the extended master secret (RFC 7627)")
        }
        How::ServerDoesNotSupportTls12Or13
        | How::ServerTlsVersionIsDisabledByOurConfig
        | How::SupportedVersionsExtensionRequired
        // Which a client that knows 1.2 sends (RFC 5246, section 7.4.1.4.1).
        | How::SignatureAlgorithmsExtensionRequired
        | How::Tls12NotOffered
        | How::Tls12NotOfferedOrEnabled => format!("{peer} speaks neither TLS 1.3 nor 1.2"),
        How::NoCipherSuitesInCommon => format!("{peer} and we have no cipher suite in common"),
        How::NoKxGroupsInCommon | How::NamedGroupsExtensionRequired => {
            format!("{peer} and we have no key exchange in common")
        }
        How::NoSignatureSchemesInCommon
        | How::NoCertificateRequestSignatureSchemesInCommon => {
            format!("{peer} and we have no kind of signature in common")
        }
        _ => format!("{peer} lacks something that we need for TLS"),
    }
}

/// An alert that a client gets during its handshake.
fn alert_at_client(
    alert: AlertDescription,
    peer: &str,
    name: &ServerName<'_>,
    asked: Asked,
) -> Error {
    let alert_name = alert_name(alert);
    match alert {
        AlertDescription::ProtocolVersion => {
            let what = format!("{peer} speaks neither TLS 1.3 nor 1.2: alert {alert_name}");
            Error::new(Code::TlsVersion, Blame::Peer, what)
        }
        AlertDescription::UnrecognisedName => {
            let wanted = escape_line(name.to_str().as_bytes(), NAME_CHARS_MAX);
            let what = format!("{peer} has no certificate for \"{wanted}\": alert {alert_name}");
            Error::new(Code::TlsName, Blame::Peer, what)
        }
        alert => alert_of_stream(alert, peer, asked),
    }
}

/// An alert at any time. One about certificates is about ours, if we were asked for one.
fn alert_of_stream(alert: AlertDescription, peer: &str, asked: Asked) -> Error {
    use AlertDescription as Alert;
    let about_ours = match alert {
        Alert::CertificateRequired | Alert::NoCertificate => true,
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => asked.is_some(),
        // It may also be about our signature.
        Alert::DecryptError => asked == Some(true),
        // What servers of TLS 1.2 say to a client without one.
        Alert::HandshakeFailure => asked == Some(false),
        _ => false,
    };
    let name = alert_name(alert);
    if !about_ours {
        let what = format!("{peer} broke TLS off: alert {name}");
        return Error::new(Code::TlsAlert, Blame::Peer, what);
    }
    if asked == Some(true) {
        let what = format!("{peer} does not accept our certificate: alert {name}");
        return Error::new(Code::TlsClientCertificate, Blame::Caller, what);
    }
    let what = format!("{peer} wants a client certificate: alert {name}");
    Error::new(Code::TlsClientCertificate, Blame::Caller, what)
        .with_hint("give it one: --cert FILE --key FILE")
}

/// What a client means that breaks off.
fn alert_hint(alert: AlertDescription) -> &'static str {
    use AlertDescription as Alert;
    match alert {
        Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown => {
            "it does not trust our certificate: it needs our pin or our authority"
        }
        Alert::CertificateExpired => "our certificate has expired",
        _ => "",
    }
}

/// The registered name of an alert (RFC 8446, section 6): `unknown_ca`.
fn alert_name(alert: AlertDescription) -> String {
    if alert == AlertDescription::UnrecognisedName {
        return "unrecognized_name".to_owned();
    }
    let Some(camel) = alert.as_str() else { return format!("{}", u8::from(alert)) };
    let mut name = String::new();
    let mut chars = camel.chars().peekable();
    let mut before = '_';
    while let Some(char) = chars.next() {
        // UnknownCA, UnknownPSKIdentity: a new word also begins at the last capital of several.
        let next_is_small = chars.peek().is_some_and(char::is_ascii_lowercase);
        let begins = before.is_ascii_lowercase() || (before.is_ascii_uppercase() && next_is_small);
        if char.is_ascii_uppercase() && begins {
            name.push('_');
        }
        name.push(char.to_ascii_lowercase());
        before = char;
    }
    name
}

/// Why nobody vouches for a certificate.
fn untrusted(cause: &CertificateError, certificate: Option<&Certificate>) -> String {
    use CertificateError as Cause;
    match (cause, certificate) {
        (_, Some(certificate)) if certificate.self_signed => "self-signed".to_owned(),
        (Cause::UnknownIssuer, Some(certificate)) if !certificate.issuer.is_empty() => {
            let issuer = escape_line(certificate.issuer.as_bytes(), NAME_CHARS_MAX);
            format!("its issuer \"{issuer}\" is not known here")
        }
        (Cause::UnknownIssuer, _) => "its issuer is not known here".to_owned(),
        (Cause::BadEncoding, _) => "it cannot be read".to_owned(),
        (Cause::BadSignature, Some(certificate)) => {
            let issuer = escape_line(certificate.issuer.as_bytes(), NAME_CHARS_MAX);
            format!("not signed by the \"{issuer}\" that is known here")
        }
        (Cause::BadSignature, None) => "it has a false signature".to_owned(),
        (Cause::Revoked, _) => "it is revoked".to_owned(),
        (Cause::InvalidPurpose | Cause::InvalidPurposeContext { .. }, _) => {
            "it is for other purposes".to_owned()
        }
        // The names of variants and numbers: nothing that the peer could write.
        (Cause::Other(inner), _) => format!("it is not usable ({:?})", inner.0),
        _ => "it is not usable".to_owned(),
    }
}

fn expired(now: UnixTime, not_after: UnixTime) -> String {
    let days = now.as_secs().saturating_sub(not_after.as_secs()) / 86_400;
    let ago = match days {
        0 => "today".to_owned(),
        1 => "1 day ago".to_owned(),
        days => format!("{days} days ago"),
    };
    format!("expired {ago}, {}", text_of(not_after.as_secs()))
}

fn too_early(not_before: UnixTime) -> String {
    format!("is not valid before {}", text_of(not_before.as_secs()))
}

/// The first few of the names of a certificate, which are the peer's text.
fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "no name at all".to_owned();
    }
    let shown = names.iter().take(NAMES_SHOWN);
    let shown: Vec<_> = shown.map(|name| escape_line(name.as_bytes(), NAME_CHARS_MAX)).collect();
    let more = match names.len().saturating_sub(NAMES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.join(", ") + &more
}

/// Names of a certificate that a message lists.
const NAMES_SHOWN: usize = 4;

/// Longest name that a message quotes, in characters.
const NAME_CHARS_MAX: usize = 80;

/// Longest form of the first bytes: eight of four characters each.
const FIRST_CHARS_MAX: usize = 32;

const HINT_PLAIN: &str = "is it a port for TLS? if not: tcp://";

const HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
Content-Length: 38\r\nConnection: close\r\n\r\nThis port speaks TLS. Is it https://?\n";

#[cfg(test)]
mod tests {
    use super::{HTTP_ANSWER, alert_name, broken, listed};
    use rustls::{AlertDescription, Error as TlsError, PeerMisbehaved};

    #[test]
    fn alerts_have_their_registered_names() {
        for (number, name) in [
            (40, "handshake_failure"),
            (48, "unknown_ca"),
            (70, "protocol_version"),
            (112, "unrecognized_name"),
            (115, "unknown_psk_identity"),
            (116, "certificate_required"),
            (200, "200"),
        ] {
            assert_eq!(alert_name(AlertDescription::from(number)), name);
        }
    }

    #[test]
    fn names_in_a_message_are_few_and_harmless() {
        assert_eq!(listed(&[]), "no name at all");
        let names: Vec<_> = (0..6).map(|n| format!("{n}\u{1b}\n")).collect();
        assert_eq!(listed(&names), "0\\x1b\\n, 1\\x1b\\n, 2\\x1b\\n, 3\\x1b\\n and 2 more");
    }

    #[test]
    fn what_nobody_can_act_on_is_one_sentence_with_its_cause() {
        let error = broken(&TlsError::PeerMisbehaved(PeerMisbehaved::IncorrectBinder), "h:1");
        let said = error.to_string();
        assert_eq!(said, "h:1 broke the rules of TLS, so we broke off (code=tls-alert)");
        assert!(format!("{error:?}").contains("IncorrectBinder"));
    }

    #[test]
    fn the_answer_to_http_has_the_length_it_says() {
        let text = std::str::from_utf8(HTTP_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
