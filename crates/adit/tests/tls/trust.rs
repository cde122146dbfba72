//! Certificates for the tests, and ends of TLS that do what no good program does.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use adit::Endpoint;
use adit::prelude::*;
use adit::tls::{ClientTls, Pin, ServerTls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::common::DEADLINE;

/// An authority with a folder for what it makes, removed when dropped.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) pin: Pin,
}

impl Authority {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("adit-trust-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "Test Authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    /// A certificate under a name of its own among the files; it may replace an older one.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> Files {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.folder.join(format!("{file}.{end}"));
        let files = Files { cert: path("cert"), key: path("key"), pin: Pin::of(made.der()) };
        std::fs::write(&files.cert, made.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&files.key, PermissionsExt::from_mode(0o600)).unwrap();
        files
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A path in its folder.
    pub(crate) fn join(&self, name: &str) -> String {
        self.folder.join(name).into_os_string().into_string().unwrap()
    }

    pub(crate) fn server(&self) -> ServerTls {
        let files = self.issue("server", &["localhost", "127.0.0.1"]);
        ServerTls::files(files.cert, files.key).unwrap()
    }

    pub(crate) fn client(&self) -> ClientTls {
        ClientTls::ca(self.ca()).unwrap()
    }

    pub(crate) fn dial(&self) -> Dial {
        Dial::new().tls(self.client())
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning of temporary files.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// The address of a TLS server.
pub(crate) fn at(endpoint: &Endpoint) -> String {
    format!("tls://{}", endpoint.socket_addr().unwrap())
}

/// A client's end by itself: what is done with it is not what adit does.
pub(crate) async fn raw(
    tls: &ClientTls,
    endpoint: &Endpoint,
) -> adit::Result<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    let socket = TcpStream::connect(endpoint.socket_addr().unwrap()).await.unwrap();
    Ok(tls.connect(socket, "localhost", "the server", DEADLINE).await?)
}

/// Runs a test that waits, within the deadline.
pub(crate) fn wait<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let what = async { tokio::time::timeout(DEADLINE, Box::pin(what)).await };
    runtime.block_on(what).expect("the test took too long")
}
