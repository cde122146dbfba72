//! Auto: a certificate of one's own making, for servers whose clients know its pin.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use adit_proto::code::Code;
use adit_proto::error::{Blame, Error};
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;

use crate::Certificate;
use crate::date::days_after;
use crate::files;
use crate::secret::Secret;

/// The certificate of this folder, or a new one where there is none that is valid for another day.
pub(crate) fn certified_key(folder: &Path) -> Result<CertifiedKey, Error> {
    let path = folder.join(FILE);
    if let Some(own) = usable(&path)? {
        return Ok(own);
    }
    make(folder, &path)?;
    usable(&path)?.ok_or_else(|| {
        let what = format!("{} was made and is not valid; is the clock right?", path.display());
        Error::new(Code::Config, Blame::Local, what)
    })
}

/// What the file holds, if there is one and it is still valid for a while.
fn usable(path: &Path) -> Result<Option<CertifiedKey>, Error> {
    let mode = match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => found.mode(),
        Ok(_) => return Err(files::wrong(format!("{} is no regular file", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path, &error)),
    };
    if mode & 0o077 != 0 {
        let what =
            format!("the key in {} is open to others (mode {:03o})", path.display(), mode & 0o777);
        return Err(Error::new(Code::Unsafe, Blame::Caller, what)
            .with_hint("remove the file and a new one is made, with another pin"));
    }
    let own = files::certified_key(path, path)?;
    let certificate = Certificate::of(own.cert.first().map_or(&[], |der| &**der));
    let until = certificate.not_after_s.unwrap_or(0);
    Ok((until > UnixTime::now().as_secs().saturating_add(SPARE_S)).then_some(own))
}

/// Makes a new one. Two servers that start at once agree: the second takes the file of the first.
fn make(folder: &Path, path: &Path) -> Result<(), Error> {
    let text = self_signed()?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| failed("make", folder, &error))?;
    let number = adit_net::random_u64().map_err(|error| failed("write", path, &error))?;
    // Whole or not at all: whoever reads meanwhile sees the old one or the new one.
    let new = folder.join(format!("{FILE}.{number:016x}"));
    let written =
        write_private(&new, text.as_bytes()).and_then(|()| match fs::hard_link(&new, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) => Ok(()),
            // It has expired, unless somebody was faster.
            Err(_) if matches!(usable(path), Ok(Some(_))) => Ok(()),
            Err(_) => fs::rename(&new, path),
        });
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            written.and(Err(error)).map_err(|error| failed("write", path, &error))
        }
        _ => written.map_err(|error| failed("write", path, &error)),
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = adit_net::files::create_private(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A certificate and its key, both as PEM, in this order.
fn self_signed() -> Result<Secret<String>, Error> {
    let cannot = |error: rcgen::Error| {
        Error::new(Code::Internal, Blame::Local, "cannot make a certificate").with_source(error)
    };
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new(names).map_err(cannot)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, "adit, self-signed");
    let now = UnixTime::now().as_secs();
    let date = |(year, month, day)| date_time_ymd(i32::try_from(year).unwrap_or(9999), month, day);
    // From the day before, for peers whose clock is behind.
    params.not_before = date(days_after(now.saturating_sub(SPARE_S), 0));
    params.not_after = date(days_after(now, DAYS));
    // ECDSA on P-256: what every peer can verify.
    let key = Secret::new(KeyPair::generate().map_err(cannot)?);
    let certificate = params.self_signed(&*key).map_err(cannot)?;
    let parts = [("CERTIFICATE", &**certificate.der()), ("PRIVATE KEY", key.serialized_der())];
    let bytes = parts.iter().map(|(label, der)| pem_bytes_max(label, der)).sum();
    let mut text = Secret::with_room(bytes);
    for (label, der) in parts {
        pem(label, der, |part| text.push_str(part));
    }
    Ok(text)
}

/// More than its PEM has: four letters for three bytes, the ends of lines, and two lines around it.
fn pem_bytes_max(label: &str, der: &[u8]) -> usize {
    let (label, der) = (label.len(), der.len());
    der.saturating_mul(2).saturating_add(label.saturating_mul(2)).saturating_add(64)
}

/// RFC 7468, section 2: base64 in lines of 64. Gives it away piece by piece, and keeps nothing of it.
fn pem(label: &str, der: &[u8], mut push: impl FnMut(&str)) {
    ["-----BEGIN ", label, "-----\n"].into_iter().for_each(&mut push);
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let mut bits = [0; 4];
            bits.iter_mut().skip(1).zip(group).for_each(|(to, from)| *to = *from);
            let bits = u32::from_be_bytes(bits);
            for (digit, shift) in [18, 12, 6, 0].into_iter().enumerate() {
                let value = usize::try_from((bits >> shift) & 63).unwrap_or(0);
                let letter = BASE64.get(value..=value).filter(|_| digit <= group.len());
                push(letter.unwrap_or("="));
            }
        }
        push("\n");
    }
    ["-----END ", label, "-----\n"].into_iter().for_each(push);
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    files::wrong(format!("cannot {what} {}: {}", path.display(), files::plain(error)))
}

/// Certificate and key in one file, so that no crash leaves one without the other.
const FILE: &str = "tls-auto.pem";

/// Validity of a new one, in days.
const DAYS: u64 = 90;

/// One that is valid for less is made anew, in seconds; a day.
const SPARE_S: u64 = 86_400;

const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::{pem_bytes_max, self_signed};
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    fn pem(label: &str, der: &[u8]) -> String {
        let mut text = String::new();
        super::pem(label, der, |part| text.push_str(part));
        text
    }

    #[test]
    fn the_text_of_a_key_is_written_once() {
        // Else `push_str` would have left a copy behind, which it asserts.
        let text = self_signed().unwrap();
        assert!(text.contains("-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n"));
    }

    #[test]
    fn pem_is_as_openssl_writes_it() {
        assert_eq!(pem("X", b"a"), "-----BEGIN X-----\nYQ==\n-----END X-----\n");
        assert_eq!(pem("X", b"ab"), "-----BEGIN X-----\nYWI=\n-----END X-----\n");
        let text = pem("X", &[0xff; 49]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1..3], ["/".repeat(64), "/w==".to_owned()]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = pem("CERTIFICATE", &bytes);
            let back = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
            prop_assert_eq!(&*back, &*bytes);
            prop_assert!(text.len() <= pem_bytes_max("CERTIFICATE", &bytes));
        }
    }
}
