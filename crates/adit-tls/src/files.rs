//! Files: certificates, keys and authorities from PEM, each failure with its path and what to do.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use adit_proto::code::Code;
use adit_proto::error::{Blame, Error};
use rustls::RootCertStore;
use rustls::pki_types::pem::{Error as PemError, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::provider::provider;
use crate::secret::Secret;

/// Certificates that are trusted, and what they were made from.
#[derive(Debug)]
pub(crate) struct Roots {
    pub(crate) store: RootCertStore,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

/// A certificate chain and its key, checked to belong together. The key may be in the same file.
pub(crate) fn certified_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, Error> {
    let chain = certificates(certificate)?;
    certified(chain, &read_secret(key)?, (certificate, key))
}

/// The same from what was read already.
pub(crate) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &[u8],
    (of_chain, of_key): (&Path, &Path),
) -> Result<CertifiedKey, Error> {
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| no_key(of_key, key, &error))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => wrong(format!(
            "the key in {} does not belong to the certificate in {}",
            of_key.display(),
            of_chain.display()
        ))
        .with_hint("the certificate of the server itself comes first in its file"),
        rustls::Error::InvalidCertificate(_) => {
            wrong(format!("{}: the first certificate cannot be read", of_chain.display()))
                .with_source(error)
        }
        // The text of the library is about kinds of keys, never about their values.
        error => {
            wrong(format!("{}: not a usable private key", of_key.display())).with_source(error)
        }
    })
}

/// Every certificate of a file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path)?;
    let mut all = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text) {
        let (kind, der) = section.map_err(|error| {
            wrong(format!("{}: damaged PEM", path.display())).with_source(pem_text(&error))
        })?;
        match kind {
            SectionKind::Certificate => all.push(CertificateDer::from(der)),
            // The key may be in the same file.
            _ => drop(Secret::new(der)),
        }
    }
    if all.is_empty() {
        let error = wrong(format!("{}: no certificate in it", path.display()));
        return Err(match text.first() {
            Some(0x30) => error.with_hint("it looks like DER; openssl x509 -inform der makes PEM"),
            _ => error.with_hint("a PEM file has -----BEGIN CERTIFICATE-----"),
        });
    }
    Ok(all)
}

/// The authorities of a file.
pub(crate) fn roots(path: &Path) -> Result<Roots, Error> {
    let certificates = certificates(path)?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|error| {
            wrong(format!("{}: a certificate in it cannot be read", path.display()))
                .with_source(error)
        })?;
    }
    Ok(Roots { store, certificates })
}

/// The authorities of this system, as the distribution's packages keep them.
///
/// Some of a hundred and more may be of a kind that is not understood: they vouch for nobody then.
pub(crate) fn system_roots() -> Result<Roots, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let mut error = Error::new(
            Code::Config,
            Blame::Local,
            "this system has no certificates of authorities, so no server can be trusted",
        )
        .with_hint("install ca-certificates, or name one: --ca FILE");
        if let Some(cause) = found.errors.into_iter().next() {
            error = error.with_source(cause);
        }
        return Err(error);
    }
    Ok(Roots { store, certificates: Vec::new() })
}

/// Reads a file, at most [`FILE_BYTES_MAX`] of it. A key may be among it.
pub(crate) fn read(path: &Path) -> Result<Secret<Vec<u8>>, Error> {
    read_if(path, |_mode| Ok(()))
}

/// The same with a key, which must not be everybody's. A group may have it, as `ssl-cert` does.
fn read_secret(path: &Path) -> Result<Secret<Vec<u8>>, Error> {
    read_if(path, |mode| match mode & 0o007 {
        0 => Ok(()),
        _ => {
            let (path, mode) = (path.display(), mode & 0o777);
            Err(wrong(format!("the key in {path} is open to everybody (mode {mode:03o})"))
                .with_hint(format!("chmod 600 {path}")))
        }
    })
}

fn read_if(
    path: &Path,
    fits: impl FnOnce(u32) -> Result<(), Error>,
) -> Result<Secret<Vec<u8>>, Error> {
    // The sentence says what the system has said.
    let failed =
        |error: io::Error| wrong(format!("cannot read {}: {}", path.display(), plain(&error)));
    let file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    // A pipe or a device has no rights that would mean anything: who opened it has it.
    if found.is_file() {
        fits(found.mode())?;
    }
    Secret::read(file, FILE_BYTES_MAX).map_err(failed)
}

/// An error of the caller's settings.
pub(crate) fn wrong(what: impl Into<String>) -> Error {
    Error::new(Code::Config, Blame::Caller, what)
}

/// What the system says, without its number.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text.get(..end).unwrap_or_default().to_lowercase()
}

fn no_key(path: &Path, text: &[u8], error: &PemError) -> Error {
    let has = |mark: &[u8]| text.windows(mark.len()).any(|part| part == mark);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return wrong(format!("the key in {} is locked with a password", path.display()))
            .with_hint("openssl pkey -in FILE -out OPEN unlocks it; then chmod 600 OPEN");
    }
    match error {
        PemError::NoItemsFound => wrong(format!("{}: no private key in it", path.display())),
        // The text around a damaged line may be the key: only its kind is told.
        error => wrong(format!("{}: damaged PEM", path.display())).with_source(pem_text(error)),
    }
}

/// What is wrong with PEM, without a byte of it.
fn pem_text(error: &PemError) -> &'static str {
    match error {
        PemError::MissingSectionEnd { .. } => "a section that begins does not end",
        PemError::IllegalSectionStart { .. } => "a line that begins a section is not whole",
        PemError::Base64Decode(_) => "a section that is no base64",
        _ => "it cannot be read",
    }
}

/// What is read of a file, in bytes; 16 MiB. All authorities of a system are 0.3 MB.
const FILE_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::{certificates, certified, plain};
    use std::io;
    use std::path::Path;

    #[test]
    fn no_byte_of_a_damaged_key_is_told() {
        let at = Path::new("k.pem");
        for text in [
            "-----BEGIN PRIVATE KEY-----\nSECRET!!!\n-----END PRIVATE KEY-----\n",
            "-----BEGIN PRIVATE KEY-----\nU0VDUkVU\n",
            "-----BEGIN PRIVATE KEY-----\nU0VDUkVU\n-----END PRIVATE KEY-----\n",
            "-----BEGIN SECRET",
        ] {
            let error = certified(Vec::new(), text.as_bytes(), (at, at)).unwrap_err();
            let said = format!("{error:?} {error:#?}");
            assert!(said.contains("k.pem") && said.contains("code=config"), "{said}");
            assert!(!said.contains("SECRET") && !said.contains("U0VDUkVU"), "{said}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = certificates(Path::new("/no/such.pem")).unwrap_err();
        let said = error.to_string();
        assert_eq!(said, "cannot read /no/such.pem: no such file or directory (code=config)");
        assert_eq!(plain(&io::Error::from_raw_os_error(13)), "permission denied");
    }
}
