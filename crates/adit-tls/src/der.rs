//! DER: as much of it as the texts of a certificate need (ITU-T X.690, RFC 5280).
//!
//! Nothing here decides whom to trust: that is webpki's, which reads the certificate on its own.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

/// A place in a row of values.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

/// Tags, as their one byte (X.690, section 8.1.2).
pub(crate) mod tag {
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OBJECT: u8 = 0x06;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const BMP_STRING: u8 = 0x1e;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    /// `[0]` of a certificate: its version.
    pub(crate) const VERSION: u8 = 0xa0;
    /// `[3]` of a certificate: its extensions.
    pub(crate) const EXTENSIONS: u8 = 0xa3;
    /// `[2]` and `[7]` of an alternative name (RFC 5280, section 4.2.1.6).
    pub(crate) const DNS_NAME: u8 = 0x82;
    pub(crate) const IP_ADDRESS: u8 = 0x87;
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next value with its tag; nothing at the end, and nothing more behind what is no DER.
    pub(crate) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, value, rest) = split(self.0).or_else(|| {
            self.0 = &[];
            None
        })?;
        self.0 = rest;
        Some((tag, value))
    }

    /// The next value, if it has this tag; else the place stays.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, value, rest) = split(self.0)?;
        if found != tag {
            return None;
        }
        self.0 = rest;
        Some(value)
    }

    /// What is inside the next value, if it has this tag.
    pub(crate) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(Self)
    }

    /// The bytes that are left.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// Tag, value and what is behind it. Long tags are not used in certificates, long lengths are.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let mut length = 0_usize;
            for digit in digits {
                length = length.checked_mul(256)?.checked_add(usize::from(*digit))?;
            }
            (length, rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

#[cfg(test)]
mod tests {
    use super::{Reader, split};
    use proptest::prelude::*;

    #[test]
    fn short_and_long_lengths_are_read_and_false_ones_are_not() {
        assert_eq!(split(&[2, 1, 7, 9]), Some((2, &[7][..], &[9][..])));
        assert_eq!(split(&[4, 0x81, 1, 7]), Some((4, &[7][..], &[][..])));
        assert_eq!(split(&[4, 0x82, 0, 1, 7]), Some((4, &[7][..], &[][..])));
        for bad in [&[][..], &[2], &[2, 1], &[2, 0x80, 0], &[2, 0x84, 255, 255, 255, 255, 0]] {
            assert_eq!(split(bad), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            // Each value takes two bytes at least.
            for _ in &bytes {
                reader.next();
            }
            prop_assert!(reader.next().is_none());
            prop_assert!(reader.rest().is_empty());
        }
    }
}
