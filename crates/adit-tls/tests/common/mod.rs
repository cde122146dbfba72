//! What the tests share: certificates of every kind, streams that are shaken hands on, other programs.
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses its part")]

use std::future::Future;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use adit_proto::error::Error;
use adit_tls::{ClientTls, HandshakeError, ServerTls, TlsStream};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A test that takes longer has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The limit of a handshake that is to succeed.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A new folder, removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("adit-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.into_os_string().into_string().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning of temporary files.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A certificate and its key, as files.
pub(crate) struct Files {
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) der: Vec<u8>,
}

/// An authority, with the folder that all its certificates are in.
pub(crate) struct Authority {
    pub(crate) scratch: Scratch,
    pub(crate) ca: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
    count: AtomicU32,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("Test Authority")
    }

    pub(crate) fn named(name: &str) -> Self {
        let scratch = Scratch::new();
        let mut params = params(&[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let ca = scratch.write("ca.pem", &issuer.pem());
        Self { scratch, ca, issuer, count: AtomicU32::new(0) }
    }

    /// One for these names.
    pub(crate) fn issue(&self, names: &[&str]) -> Files {
        self.issue_with(names, |_| {})
    }

    /// One that is changed before it is signed.
    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Files {
        let mut params = params(names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        self.files(&made, &key)
    }

    /// One that nobody has signed but itself.
    pub(crate) fn self_signed(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Files {
        let mut params = params(names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        self.files(&made, &key)
    }

    fn files(&self, made: &rcgen::Certificate, key: &KeyPair) -> Files {
        let number = self.count.fetch_add(1, Relaxed);
        Files {
            cert: self.scratch.write(&format!("{number}.cert.pem"), &made.pem()),
            key: self.scratch.write(&format!("{number}.key.pem"), &key.serialize_pem()),
            der: made.der().to_vec(),
        }
    }

    /// A server that this authority vouches for as `localhost` and 127.0.0.1.
    pub(crate) fn server(&self) -> ServerTls {
        let files = self.issue(&["localhost", "127.0.0.1"]);
        ServerTls::files(files.cert, files.key).unwrap()
    }

    pub(crate) fn client(&self) -> ClientTls {
        ClientTls::ca(&self.ca).unwrap()
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
}

/// It was valid in 2021.
pub(crate) fn expired(params: &mut CertificateParams) {
    params.not_after = date_time_ymd(2021, 12, 31);
}

/// Two ends of a TCP connection.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (one, other) = (one.unwrap(), other.unwrap().0);
    for end in [&one, &other] {
        end.set_nodelay(true).unwrap();
    }
    (one, other)
}

/// How a handshake ends on both sides.
pub(crate) type Ends<IO> = (Result<TlsStream<IO>, Error>, Result<TlsStream<IO>, Error>);

/// Shakes hands over a TCP connection; the client's end comes first. Who fails closes at once.
pub(crate) async fn shake(client: &ClientTls, server: &ServerTls, host: &str) -> Ends<TcpStream> {
    let (near, far) = pair().await;
    Box::pin(shake_over((near, far), client, server, host)).await
}

pub(crate) async fn shake_over<IO: AsyncRead + AsyncWrite + Unpin>(
    (near, far): (IO, IO),
    client: &ClientTls,
    server: &ServerTls,
    host: &str,
) -> Ends<IO> {
    let connect =
        async { client.connect(near, host, "server:1", SOON).await.map_err(HandshakeError::into) };
    let accept = async { server.accept(far, "client:1", SOON).await.map_err(HandshakeError::into) };
    within(Box::pin(async { tokio::join!(connect, accept) })).await
}

/// Shakes hands that have to succeed.
pub(crate) async fn shaken(
    client: &ClientTls,
    server: &ServerTls,
) -> (TlsStream<TcpStream>, TlsStream<TcpStream>) {
    let (near, far) = shake(client, server, "localhost").await;
    (near.unwrap(), far.unwrap())
}

/// Bounds a test.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("the test took too long")
}

/// Where a program is, if it is here; if not, the test says so and is skipped.
pub(crate) fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        skipped(&format!("{program} is not here"));
    }
    found
}

/// Says that a test, or a part of it, is skipped. Not by `eprintln!`, which a passing test swallows.
pub(crate) fn skipped(why: &str) {
    // A report that cannot be written must not fail the test.
    drop(writeln!(std::io::stderr(), "skipped: {why}"));
}
