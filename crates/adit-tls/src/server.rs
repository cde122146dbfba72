//! `ServerTls`: the certificate of a server, whom it lets in, and both anew while it runs.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use adit_proto::error::Error;
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::client::checked_alpn;
use crate::failure::{self, Failed};
use crate::provider::{VERSIONS, provider};
use crate::stream::Side;
use crate::trust::Clients;
use crate::wire::{First, Wire};
use crate::{Certificate, HandshakeError, Pin, TlsStream, auto, files};

/// The settings of a server: its certificate, and whom it lets in. Clones share them, a
/// [`reload`](Self::reload) too.
///
/// What is read of a key is erased once it is in use. Whether other processes of the user may look into this one
/// is for the program to say: `PR_SET_DUMPABLE` of prctl(2), which the command `adit` clears.
///
/// A server has one certificate, which may be for many names. Choosing between several by the name that
/// a client asks for is left out: it would be a second way to say which certificate a peer saw.
///
/// ```no_run
/// use adit_tls::ServerTls;
/// let tls = ServerTls::files("cert.pem", "key.pem")?.client_ca("clients.pem")?;
/// println!("{}", tls.pin());
/// # Ok::<(), adit_proto::error::Error>(())
/// ```
#[derive(Clone)]
pub struct ServerTls {
    shared: Arc<Shared>,
}

struct Shared {
    source: Source,
    /// Locked to take or to change the pointer, never across an await.
    current: RwLock<Arc<Loaded>>,
}

/// Where it all comes from, for the next time it is read.
#[derive(Clone, Debug)]
struct Source {
    own: OwnFiles,
    client_ca: Option<PathBuf>,
    alpn: Vec<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum OwnFiles {
    Files { certificate: PathBuf, key: PathBuf },
    Auto { folder: PathBuf },
}

/// What was read.
struct Loaded {
    config: Arc<ServerConfig>,
    certificate: Certificate,
}

impl ServerTls {
    /// The certificate chain and key of these PEM files, the server's own certificate first; both may
    /// be one file.
    ///
    /// # Errors
    /// A file cannot be read, everybody can read the key, or it does not belong to the certificate.
    pub fn files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, Error> {
        let own = OwnFiles::Files { certificate: certificate.into(), key: key.into() };
        Self::of(Source { own, client_ca: None, alpn: Vec::new() })
    }

    /// A self-signed certificate, made here, for clients that know its [`pin`](Self::pin).
    ///
    /// It is for `localhost` and the loopback addresses, valid 90 days, and kept with its key in the
    /// file `tls-auto.pem` of the folder, which only its owner can read. Made once, it is used again
    /// while it is valid for another day. A folder that is missing is made.
    ///
    /// # Errors
    /// The file cannot be read or written, or others can read it.
    pub fn auto(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let own = OwnFiles::Auto { folder: folder.into() };
        Self::of(Source { own, client_ca: None, alpn: Vec::new() })
    }

    /// Lets only clients in whose certificate these authorities vouch for, or stands in this PEM file
    /// itself.
    ///
    /// # Errors
    /// As [`files`](Self::files).
    pub fn client_ca(self, path: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::of(Source { client_ca: Some(path.into()), ..self.shared.source.clone() })
    }

    /// Speaks these protocols, the preferred first (RFC 7301). A client that offers others only is
    /// refused; one that offers none is not.
    ///
    /// # Errors
    /// A name is empty or longer than 255 bytes.
    pub fn alpn(
        self,
        protocols: impl IntoIterator<Item = impl Into<Vec<u8>>>,
    ) -> Result<Self, Error> {
        Self::of(Source { alpn: checked_alpn(protocols)?, ..self.shared.source.clone() })
    }

    fn of(source: Source) -> Result<Self, Error> {
        let current = RwLock::new(Arc::new(source.load()?));
        Ok(Self { shared: Arc::new(Shared { source, current }) })
    }

    /// Reads all files again, for the connections to come; those there are keep what they have.
    ///
    /// # Errors
    /// As when they were read first. What was read before stays in use then, whole.
    pub fn reload(&self) -> Result<(), Error> {
        let loaded = Arc::new(self.shared.source.load()?);
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// The certificate that newcomers see.
    pub fn certificate(&self) -> Certificate {
        self.current().certificate.clone()
    }

    /// Its pin.
    pub fn pin(&self) -> Pin {
        self.current().certificate.pin
    }

    /// Whether clients need a certificate.
    pub fn wants_client_certificates(&self) -> bool {
        self.shared.source.client_ca.is_some()
    }

    /// Shakes hands as the server, within a limit of time. `peer` is what messages call the client.
    ///
    /// A client that speaks plain HTTP is answered in its language that this is the wrong port, any
    /// other that speaks no TLS is answered nothing.
    ///
    /// # Errors
    /// As the codes of TLS say; `handshake-timeout`; `truncated` or `reset` if the peer leaves. Dropped
    /// halfway, the stream is gone with the handshake.
    pub async fn accept<IO>(
        &self,
        io: IO,
        peer: impl fmt::Display,
        within: Duration,
    ) -> Result<TlsStream<IO>, HandshakeError<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.current().config.clone());
        let first = Arc::new(First::default());
        let wire = Wire { io, first: Some(first.clone()) };
        let handshake = Box::pin(acceptor.accept(wire).into_fallible());
        // Nothing large is kept over the last await: it would be part of every conversation.
        let (error, mut wire) = match timeout(within, handshake).await {
            Ok(Ok(stream)) => return Ok(TlsStream::new(stream.into(), Side::Server)),
            Ok(Err(failed)) => failed,
            Err(_) => {
                let failed = Failed { peer: &peer, first: &first };
                return Err(HandshakeError::new(failed.no_handshake_within(within), None));
            }
        };
        let silent = error.kind() == io::ErrorKind::UnexpectedEof && first.bytes().is_empty();
        let error = Failed { peer: &peer, first: &first }.at_server(&error);
        let answered = first.is_http();
        if answered {
            failure::answer_http(&mut wire.io).await;
        }
        Err(HandshakeError::new(error, Some(wire.io)).silent(silent).answered(answered))
    }

    fn current(&self) -> Arc<Loaded> {
        self.shared.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Says nothing of a key.
impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("source", &self.shared.source)
            .field("pin", &self.pin())
            .finish()
    }
}

impl Source {
    fn load(&self) -> Result<Loaded, Error> {
        let own = match &self.own {
            OwnFiles::Files { certificate, key } => files::certified_key(certificate, key)?,
            OwnFiles::Auto { folder } => auto::certified_key(folder)?,
        };
        let certificate = Certificate::of(own.cert.first().map_or(&[], |der| &**der));
        let config = Arc::new(config(own, self.client_ca.as_deref(), self.alpn.clone())?);
        Ok(Loaded { config, certificate })
    }
}

fn config(
    own: CertifiedKey,
    client_ca: Option<&Path>,
    alpn: Vec<Vec<u8>>,
) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(failure::settings)?;
    let builder = match client_ca {
        Some(path) => {
            let clients = Clients::in_roots(files::roots(path)?)?;
            builder.with_client_cert_verifier(Arc::new(clients))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = alpn;
    config.require_ems = true;
    // No tickets, no sessions: see the documentation of the crate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
