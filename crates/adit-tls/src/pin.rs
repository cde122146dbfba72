//! Pin: a certificate known by its fingerprint, for those who have no authority in common.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

use std::fmt;
use std::str::FromStr;

use adit_proto::code::Code;
use adit_proto::error::{Blame, Error};
use adit_proto::escape::escape_line;
use aws_lc_rs::digest::{SHA256, digest};

/// The SHA-256 of a certificate's DER, which names this very certificate and no other.
///
/// It prints as `openssl x509 -fingerprint -sha256` does, with `{:x}` as one word. It is read in either
/// form, in any case, with or without `sha256:` in front.
///
/// ```
/// use adit_tls::Pin;
/// let pin: Pin = format!("sha256:{}", "9f".repeat(32)).parse()?;
/// assert!(pin.to_string().starts_with("9F:9F:9F:"));
/// assert_eq!(pin.to_string().parse::<Pin>()?, pin);
/// assert_eq!(format!("{pin:x}"), "9f".repeat(32));
/// # Ok::<(), adit_proto::error::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; Self::BYTES]);

impl Pin {
    const BYTES: usize = 32;

    /// The pin of a certificate, given as DER.
    pub fn of(certificate: &[u8]) -> Self {
        let mut pin = [0; Self::BYTES];
        // A SHA-256 has 32 bytes; zip rather than a copy that could panic.
        pin.iter_mut()
            .zip(digest(&SHA256, certificate).as_ref())
            .for_each(|(to, from)| *to = *from);
        Self(pin)
    }

    /// As addresses and flags have it: `sha256:` and 64 digits.
    pub fn word(&self) -> String {
        format!("sha256:{self:x}")
    }

    /// The 32 bytes.
    pub const fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl FromStr for Pin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let shown = escape_line(text.as_bytes(), SHOWN_CHARS_MAX);
            let what = format!("no SHA-256 fingerprint: \"{shown}\" is not 64 hexadecimal digits");
            Error::new(Code::Usage, Blame::Caller, what)
                .with_hint("openssl x509 -noout -fingerprint -sha256 -in FILE prints one")
        };
        let hex = match text.split_at_checked(7) {
            Some((prefix, hex)) if prefix.eq_ignore_ascii_case("sha256:") => hex,
            _ => text,
        };
        // Colons stand between all bytes or nowhere.
        let digits = if hex.len() == 3 * Self::BYTES - 1 {
            let mut pairs = hex.split(':');
            if !pairs.all(|pair| pair.len() == 2) {
                return Err(wrong());
            }
            hex.replace(':', "")
        } else {
            hex.to_owned()
        };
        if digits.len() != 2 * Self::BYTES || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut pin = [0; Self::BYTES];
        for (to, pair) in pin.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).unwrap_or_default();
            *to = u8::from_str_radix(pair, 16).unwrap_or_default();
        }
        Ok(Self(pin))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::LowerHex for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin(sha256:{self:x})")
    }
}

/// Of text that is no pin, in characters: more than the longest form of one, to show what is too much.
const SHOWN_CHARS_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use super::Pin;
    use proptest::prelude::*;

    #[test]
    fn the_pin_of_nothing_is_the_sha_256_of_nothing() {
        // FIPS 180-4 with an empty message.
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(format!("{:x}", Pin::of(b"")), expected);
        assert_eq!(format!("{:?}", Pin::of(b"")), format!("Pin(sha256:{expected})"));
    }

    #[test]
    fn what_is_no_fingerprint_is_refused_with_the_way_to_one() {
        let colons = format!("{}9f", "9f:".repeat(31));
        for good in [&colons, &colons.to_uppercase(), &format!("SHA256:{colons}")] {
            assert_eq!(*good.parse::<Pin>().unwrap().bytes(), [0x9f; 32]);
        }
        let moved = format!("9:f{}", &colons[3..]);
        let short = "9f".repeat(31);
        for bad in ["", "sha256:", "9f", &short, &moved, &format!("{short}+1"), &"é".repeat(32)] {
            let error = bad.parse::<Pin>().unwrap_err();
            assert!(error.to_string().ends_with("(code=usage)"), "{error}");
            assert!(error.hint().unwrap().contains("openssl"));
        }
        // A whole file in its place is not printed.
        let said = "9f\u{202e}".repeat(10_000).parse::<Pin>().unwrap_err().to_string();
        assert!(said.len() < 300 && said.contains("\"9f\\u{202e}9f"), "{said}");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(bytes in any::<[u8; 32]>()) {
            let pin = Pin(bytes);
            prop_assert_eq!(pin.to_string().parse::<Pin>().unwrap(), pin);
            prop_assert_eq!(format!("{pin:x}").parse::<Pin>().unwrap(), pin);
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            drop(text.parse::<Pin>());
        }
    }
}
