//! Certificates for the tests: an authority, and what it vouches for.

use std::os::unix::fs::PermissionsExt;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use super::Scratch;

/// An authority, with a folder for its files.
pub(crate) struct Authority {
    pub(crate) scratch: Scratch,
    /// The file of its own certificate.
    pub(crate) ca: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) cert: String,
    pub(crate) key: String,
    /// The SHA-256 of the certificate, in hex.
    pub(crate) sha256: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "Test Authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca = scratch.join("ca.pem");
        std::fs::write(&ca, issuer.pem()).unwrap();
        Self { scratch, ca, issuer }
    }

    /// A certificate for these names; `file` is how its own files begin.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> Files {
        self.issue_with(file, names, |_| {})
    }

    /// One that was valid in 2021.
    pub(crate) fn issue_expired(&self, file: &str, names: &[&str]) -> Files {
        self.issue_with(file, names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 12, 31);
        })
    }

    fn issue_with(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Files {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.scratch.join(&format!("{file}.{end}"));
        let sha256 = format!("{:x}", adit::tls::Pin::of(made.der()));
        let files = Files { cert: path("cert"), key: path("key"), sha256 };
        std::fs::write(&files.cert, made.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&files.key, PermissionsExt::from_mode(0o600)).unwrap();
        files
    }

    /// For this machine, by name and by address.
    pub(crate) fn here(&self) -> Files {
        self.issue("here", &["localhost", "127.0.0.1"])
    }
}
