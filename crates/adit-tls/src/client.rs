//! `ClientTls`: whom a client trusts, and how it introduces itself.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use adit_proto::code::Code;
use adit_proto::error::{Blame, Error};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::failure::{self, Failed};
use crate::files;
use crate::provider::{VERSIONS, provider};
use crate::stream::Side;
use crate::trust::{Own, Trust, Watch};
use crate::wire::{First, Wire};
use crate::{HandshakeError, Pin, TlsStream};

/// The settings of a client: whom it trusts, and how it introduces itself. Cheap to clone.
///
/// ```
/// use adit_tls::{ClientTls, Pin};
/// let pin: Pin = "9f".repeat(32).parse()?;
/// let tls = ClientTls::pinned(pin)?.alpn(["h2", "http/1.1"])?.sni("db.example")?;
/// # Ok::<(), adit_proto::error::Error>(())
/// ```
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    trust: Arc<Trust>,
    certificate: Option<Arc<CertifiedKey>>,
    sni: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Trusts the authorities of this system. They are read here, once; `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` name others, as for other programs.
    ///
    /// # Errors
    /// There are none, or they cannot be read.
    pub fn system() -> Result<Self, Error> {
        Self::new(Trust::in_roots(files::system_roots()?)?)
    }

    /// Trusts the authorities of a PEM file and no others. A certificate that stands in it is trusted
    /// itself, too, self-signed or not, for its names and within its dates.
    ///
    /// # Errors
    /// The file cannot be read, or has no certificate.
    pub fn ca(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::new(Trust::in_roots(files::roots(path.as_ref())?)?)
    }

    /// Trusts the holder of one certificate, whatever its names and dates are: the pin says it all.
    ///
    /// # Errors
    /// None is known.
    pub fn pinned(pin: Pin) -> Result<Self, Error> {
        Self::new(Trust::Pin(pin))
    }

    /// Trusts anybody. Who can change what is on the way can read and write everything; a
    /// [`pin`](Self::pinned) costs no more.
    ///
    /// # Errors
    /// None is known.
    pub fn insecure() -> Result<Self, Error> {
        Self::new(Trust::Anybody)
    }

    fn new(trust: Trust) -> Result<Self, Error> {
        let trust = Arc::new(trust);
        let own = Arc::new(Own { key: None, asked: AtomicBool::new(false) });
        let watch = Arc::new(Watch { trust: trust.clone(), seen: OnceLock::new() });
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(failure::settings)?
            .dangerous()
            .with_custom_certificate_verifier(watch)
            .with_client_cert_resolver(own);
        config.resumption = Resumption::disabled();
        config.require_ems = true;
        Ok(Self { config: Arc::new(config), trust, certificate: None, sni: None })
    }

    /// Shows this certificate to a server that asks for one. Both are PEM, and may be one file.
    ///
    /// # Errors
    /// A file cannot be read, everybody can read the key, or it does not belong to the certificate.
    pub fn certificate(
        mut self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, Error> {
        let own = files::certified_key(certificate.as_ref(), key.as_ref())?;
        self.certificate = Some(Arc::new(own));
        Ok(self)
    }

    /// Offers these protocols, the preferred first (RFC 7301).
    ///
    /// # Errors
    /// A name is empty or longer than 255 bytes.
    pub fn alpn(
        mut self,
        protocols: impl IntoIterator<Item = impl Into<Vec<u8>>>,
    ) -> Result<Self, Error> {
        Arc::make_mut(&mut self.config).alpn_protocols = checked_alpn(protocols)?;
        Ok(self)
    }

    /// Asks for this name and wants a certificate for it, instead of for the host that is connected to.
    ///
    /// # Errors
    /// It is no DNS name and no address.
    pub fn sni(mut self, name: &str) -> Result<Self, Error> {
        self.sni = Some(server_name(name)?);
        Ok(self)
    }

    /// The pin of the certificate it shows, if it has one.
    pub fn pin(&self) -> Option<Pin> {
        self.certificate.as_ref().and_then(|own| own.cert.first()).map(|der| Pin::of(der))
    }

    /// Shakes hands as the client, within a limit of time.
    ///
    /// `host` is the name or address that was connected to: the certificate has to be for it, unless
    /// [`sni`](Self::sni) names another. `peer` is what messages call the server.
    ///
    /// A client learns only after this whether its own certificate was accepted (RFC 8446, section
    /// 4.4.2): the refusal is the error of a later read.
    ///
    /// # Errors
    /// As the codes of TLS say; `handshake-timeout`; `truncated` or `reset` if the peer leaves. Dropped
    /// halfway, the stream is gone with the handshake.
    pub async fn connect<IO>(
        &self,
        io: IO,
        host: &str,
        peer: impl fmt::Display,
        within: Duration,
    ) -> Result<TlsStream<IO>, HandshakeError<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = match self.sni.clone().map_or_else(|| server_name(host), Ok) {
            Ok(name) => name,
            Err(error) => return Err(HandshakeError::new(error.with_peer(peer), Some(io))),
        };
        let own = Arc::new(Own { key: self.certificate.clone(), asked: AtomicBool::new(false) });
        let watch = Arc::new(Watch { trust: self.trust.clone(), seen: OnceLock::new() });
        // Who refuses a certificate knows best what was wrong with it: each connection has its own.
        let mut config = ClientConfig::clone(&self.config);
        config.dangerous().set_certificate_verifier(watch.clone());
        config.client_auth_cert_resolver = own.clone();

        let first = Arc::new(First::default());
        let wire = Wire { io, first: Some(first.clone()) };
        let connector = TlsConnector::from(Arc::new(config));
        let handshake = Box::pin(connector.connect(name.clone(), wire).into_fallible());
        let ended = timeout(within, handshake).await;
        let failed = Failed { peer: &peer, first: &first };
        match ended {
            Ok(Ok(stream)) => {
                let asked = own.asked.load(Relaxed).then(|| self.certificate.is_some());
                let sni = match &name {
                    ServerName::DnsName(name) => Some(name.as_ref().into()),
                    _ => None,
                };
                Ok(TlsStream::new(stream.into(), Side::Client { asked, sni }))
            }
            Ok(Err((error, wire))) => {
                let asked = own.asked.load(Relaxed).then(|| self.certificate.is_some());
                let seen = watch.seen.get().map(|der| &**der);
                let error = failed.at_client(&error, &name, seen, asked);
                Err(HandshakeError::new(error, Some(wire.io)))
            }
            Err(_) => Err(HandshakeError::new(failed.no_answer_within(within), None)),
        }
    }
}

/// Says nothing of a key.
impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trust = match &*self.trust {
            Trust::Roots { .. } => "authorities".to_owned(),
            Trust::Pin(pin) => format!("{pin:?}"),
            Trust::Anybody => "anybody".to_owned(),
        };
        f.debug_struct("ClientTls")
            .field("trust", &trust)
            .field("certificate", &self.certificate.is_some())
            .field("sni", &self.sni)
            .finish_non_exhaustive()
    }
}

/// A name as certificates have it. A zone is a matter of this host alone.
fn server_name(host: &str) -> Result<ServerName<'static>, Error> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let bare = match bare.split_once('%') {
        Some((address, _zone)) if address.contains(':') => address,
        _ => bare,
    };
    ServerName::try_from(bare.to_owned()).map_err(|error| {
        let name = adit_proto::escape::escape_line(host.as_bytes(), NAME_CHARS_MAX);
        let error = usage(format!("no certificate can be for \"{name}\"")).with_source(error);
        if host.is_ascii() { error } else { error.with_hint("write it in its xn-- form") }
    })
}

/// Names as RFC 7301, section 3.1 has them.
pub(crate) fn checked_alpn(
    protocols: impl IntoIterator<Item = impl Into<Vec<u8>>>,
) -> Result<Vec<Vec<u8>>, Error> {
    let protocols: Vec<Vec<u8>> = protocols.into_iter().map(Into::into).collect();
    match protocols.iter().find(|name| name.is_empty() || name.len() > 255) {
        Some(name) => {
            let bytes = name.len();
            Err(usage(format!("a protocol of ALPN has 1 to 255 bytes, this one {bytes}")))
        }
        None => Ok(protocols),
    }
}

/// Longest name that a message quotes, in characters.
const NAME_CHARS_MAX: usize = 80;

fn usage(what: impl Into<String>) -> Error {
    Error::new(Code::Usage, Blame::Caller, what)
}

#[cfg(test)]
mod tests {
    use super::{ClientTls, server_name};
    use crate::Pin;

    #[test]
    fn hosts_become_names_and_what_cannot_be_one_is_said() {
        let text = |host| server_name(host).unwrap().to_str().into_owned();
        assert_eq!(text("db.example"), "db.example");
        assert_eq!(text("[::1]"), "::1");
        assert_eq!(text("fe80::1%eth0"), "fe80::1");
        let error = server_name("bücher.example").unwrap_err();
        assert!(error.hint().unwrap().contains("xn--"));
        let error = server_name("a b\n").unwrap_err();
        assert_eq!(error.to_string(), "no certificate can be for \"a b\\n\" (code=usage)");
    }

    #[test]
    fn what_is_shown_holds_no_key() {
        let tls = ClientTls::pinned(Pin::of(b"")).unwrap().sni("a.example").unwrap();
        let shown = format!("{tls:?}");
        assert!(
            shown.contains("Pin(sha256:e3b0") && shown.contains("certificate: false"),
            "{shown}"
        );
        let long = "x".repeat(256);
        assert!(tls.alpn([long]).is_err());
    }
}
