//! Certificate: what one says of itself, as text for people.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::Pin;
use crate::date::seconds_of;
use crate::der::{Reader, tag};

/// A certificate: its pin, and what it says of itself.
///
/// The texts are the other side's: whoever shows them escapes them. Only a handshake that succeeded says
/// that they can be believed, and under [`ClientTls::insecure`](crate::ClientTls::insecure) and
/// [`pinned`](crate::ClientTls::pinned) nobody has vouched for them.
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("adit-tls-doc-c-{}", std::process::id()));
/// let certificate = adit_tls::ServerTls::auto(&folder)?.certificate();
/// assert_eq!(certificate.names, ["localhost", "127.0.0.1", "::1"]);
/// assert_eq!(certificate.subject, "CN=adit\\, self-signed");
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// The SHA-256 of its DER.
    pub pin: Pin,
    /// Whom it is about: `O=Example, CN=db.example` in the order of the certificate, often empty.
    pub subject: String,
    /// Who has signed it.
    pub issuer: String,
    /// The DNS names and addresses it is for; a star stands for one label.
    pub names: Vec<String>,
    /// Valid from then on, in seconds since 1970.
    pub not_before_s: Option<u64>,
    /// Valid until then, in seconds since 1970.
    pub not_after_s: Option<u64>,
    /// Issuer and subject are one.
    pub self_signed: bool,
}

impl Certificate {
    /// Reads DER. What cannot be read stays empty: a text is no reason to fail.
    pub(crate) fn of(der: &[u8]) -> Self {
        let mut certificate = Self {
            pin: Pin::of(der),
            subject: String::new(),
            issuer: String::new(),
            names: Vec::new(),
            not_before_s: None,
            not_after_s: None,
            self_signed: false,
        };
        let inside =
            Reader::new(der).enter(tag::SEQUENCE).and_then(|mut it| it.enter(tag::SEQUENCE));
        if let Some(fields) = inside {
            // The fields that were read before one that is missing are kept.
            let _all: Option<()> = certificate.read(fields);
        }
        certificate
    }

    /// RFC 5280, section 4.1: version, serial number, algorithm, issuer, validity, subject, key, and
    /// from version 3 on extensions.
    fn read(&mut self, mut fields: Reader<'_>) -> Option<()> {
        fields.take(tag::VERSION);
        fields.take(tag::INTEGER)?;
        fields.take(tag::SEQUENCE)?;
        let issuer = fields.enter(tag::SEQUENCE)?;
        self.issuer = name_text(issuer);
        let mut validity = fields.enter(tag::SEQUENCE)?;
        self.not_before_s = validity.next().and_then(time);
        self.not_after_s = validity.next().and_then(time);
        let subject = fields.enter(tag::SEQUENCE)?;
        self.self_signed = subject.rest() == issuer.rest();
        self.subject = name_text(subject);
        fields.take(tag::SEQUENCE)?;
        while let Some((found, value)) = fields.next() {
            if found == tag::EXTENSIONS {
                let mut extensions = Reader::new(value).enter(tag::SEQUENCE)?;
                while let Some(extension) = extensions.enter(tag::SEQUENCE) {
                    self.names.extend(alternative_names(extension).into_iter().flatten());
                }
            }
        }
        Some(())
    }
}

/// The names of an extension that holds alternative names (RFC 5280, section 4.2.1.6).
fn alternative_names(mut extension: Reader<'_>) -> Option<Vec<String>> {
    if extension.take(tag::OBJECT)? != SUBJECT_ALT_NAME {
        return None;
    }
    let mut value = extension.take(tag::OCTET_STRING);
    if value.is_none() {
        // In front of it says whether the extension is critical.
        extension.next();
        value = extension.take(tag::OCTET_STRING);
    }
    let mut names = Reader::new(value?).enter(tag::SEQUENCE)?;
    let mut found = Vec::new();
    while let Some((kind, name)) = names.next() {
        match kind {
            tag::DNS_NAME => found.push(String::from_utf8_lossy(name).into_owned()),
            tag::IP_ADDRESS => found.extend(ip_text(name)),
            _ => {}
        }
    }
    Some(found)
}

fn ip_text(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
    let v6 = <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).to_string());
    v4.or(v6).ok()
}

/// A distinguished name, as `O=Example, CN=db.example`. What separates is escaped in values (RFC 4514,
/// section 2.4), so that a value cannot look like two.
fn name_text(mut name: Reader<'_>) -> String {
    let mut text = String::new();
    while let Some((found, set)) = name.next() {
        let mut pairs = Reader::new(set);
        while let Some(mut pair) = (found == tag::SET).then(|| pairs.enter(tag::SEQUENCE)).flatten()
        {
            let (Some(kind), Some((tag, value))) = (pair.take(tag::OBJECT), pair.next()) else {
                continue;
            };
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&kind_text(kind));
            text.push('=');
            for char in value_text(tag, value).chars() {
                if matches!(char, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
                    text.push('\\');
                }
                text.push(char);
            }
        }
    }
    text
}

fn value_text(tag: u8, value: &[u8]) -> String {
    if tag != tag::BMP_STRING {
        return String::from_utf8_lossy(value).into_owned();
    }
    let pairs = value.chunks_exact(2).filter_map(|pair| <[u8; 2]>::try_from(pair).ok());
    let units = pairs.map(u16::from_be_bytes);
    char::decode_utf16(units).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// The usual letters of a kind of value (RFC 4514, section 3), else its number.
fn kind_text(object: &[u8]) -> String {
    let known = match object {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 6] => "C",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1] => "emailAddress",
        _ => {
            let hex: String = object.iter().map(|byte| format!("{byte:02x}")).collect();
            return format!("OID.#{hex}");
        }
    };
    known.to_owned()
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280, section 4.1.2.5), in seconds since 1970.
fn time((tag, text): (u8, &[u8])) -> Option<u64> {
    let number = |digits: &[u8]| {
        let text = std::str::from_utf8(digits).ok()?;
        if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse::<u64>().ok() } else { None }
    };
    let (year, rest) = match tag {
        tag::UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year = number(year)?;
            // Two digits stand for 1950 to 2049.
            (year.checked_add(if year < 50 { 2000 } else { 1900 })?, rest)
        }
        tag::GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    let rest = rest.strip_suffix(b"Z")?;
    // Half a pair would pass for a number of one digit.
    if rest.len() != 10 {
        return None;
    }
    let mut parts = rest.chunks(2).map(number);
    let mut part = || parts.next().flatten();
    let (month, day) = (part()?, part()?);
    let (hour, minute, second) = (part()?, part()?, part()?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let of_day =
        hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?.checked_add(second)?;
    seconds_of((year, month, day), of_day)
}

/// 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];

#[cfg(test)]
mod tests {
    use super::{Certificate, tag, time};
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};

    fn made(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let names = ["db.example".to_owned(), "*.db.example".to_owned(), "::1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2051, 3, 1);
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationName, "Ex, ample=\u{1b}[2J");
        params.distinguished_name.push(DnType::CommonName, "dé");
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_says_whom_it_is_for_and_how_long() {
        let read = Certificate::of(&made(|params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }));
        assert_eq!(read.subject, "O=Ex\\, ample\\=\u{1b}[2J, CN=dé");
        assert_eq!(read.issuer, read.subject);
        assert_eq!(read.names, ["db.example", "*.db.example", "::1"]);
        assert_eq!(read.not_before_s, Some(1_767_225_600));
        assert_eq!(read.not_after_s, Some(2_561_241_600));
        assert!(read.self_signed);
    }

    #[test]
    fn times_are_read_in_both_forms_and_no_other() {
        let of = |tag, text: &str| time((tag, text.as_bytes()));
        assert_eq!(of(tag::UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(of(tag::GENERALIZED_TIME, "19700101000001Z"), Some(1));
        for bad in [
            "",
            "Z",
            "700101000000",
            "70010100000Z",
            "7001010000Z",
            "700101000000+",
            "+0010100000Z",
            "é",
        ] {
            assert_eq!(of(tag::UTC_TIME, bad), None, "{bad}");
        }
        assert_eq!(of(tag::UTC_TIME, "70010100000000Z"), None);
        assert_eq!(of(tag::INTEGER, "700101000000Z"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_certificate_that_says_little(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(Certificate::of(&bytes));
        }

        #[test]
        fn a_changed_certificate_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut der = made(|_| {});
            let at = at.index(der.len());
            der[at] = byte;
            drop(Certificate::of(&der));
            drop(Certificate::of(&der[..cut.index(der.len())]));
        }
    }
}
