//! One line of a trace, as it is written: schema version 1, fields that are unknown here passed over.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

use std::borrow::Cow;

use serde::Deserialize;

/// A line. Which fields stand in it depends on its word, `ev`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Line<'a> {
    pub(crate) v: u32,
    pub(crate) n: u64,
    /// Microseconds since the start, up to three decimals.
    pub(crate) t: f64,
    #[serde(borrow)]
    pub(crate) ev: Cow<'a, str>,
    pub(crate) conn: Option<u64>,
    #[serde(borrow)]
    pub(crate) peer: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) local: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) scheme: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) role: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) by: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) addr: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) reach: Option<Cow<'a, str>>,
    pub(crate) fd: Option<i32>,
    /// Who saw it, where the role does not say that.
    #[serde(borrow)]
    pub(crate) seen: Option<Cow<'a, str>>,
    /// The relay's own two addresses.
    #[serde(borrow)]
    pub(crate) relay: Option<(Cow<'a, str>, Cow<'a, str>)>,
    /// The number of the event in the trace that it was first told in, where that was another.
    pub(crate) orig: Option<u64>,
    #[serde(borrow)]
    pub(crate) way: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) flags: Option<Cow<'a, str>>,
    pub(crate) win: Option<u64>,
    pub(crate) again: Option<bool>,
    pub(crate) until: Option<f64>,
    pub(crate) noted: Option<bool>,
    #[serde(borrow)]
    pub(crate) dir: Option<Cow<'a, str>>,
    pub(crate) off: Option<(u64, u64)>,
    pub(crate) msg: Option<u64>,
    pub(crate) len: Option<u64>,
    #[serde(borrow)]
    pub(crate) text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) b64: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) code: Option<Cow<'a, str>>,
    #[serde(rename = "in")]
    pub(crate) bytes_in: Option<u64>,
    #[serde(rename = "out")]
    pub(crate) bytes_out: Option<u64>,
    /// Microseconds, as `t`.
    pub(crate) dt: Option<f64>,
    pub(crate) unconfirmed: Option<u64>,
    #[serde(borrow)]
    pub(crate) name: Option<Cow<'a, str>>,
    pub(crate) value: Option<u64>,
    #[serde(borrow)]
    pub(crate) action: Option<Cow<'a, str>>,
    pub(crate) count: Option<u64>,
    #[serde(rename = "where", borrow)]
    pub(crate) place: Option<Cow<'a, str>>,
    // The first line.
    #[serde(borrow)]
    pub(crate) adit: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) start: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) prog: Option<Cow<'a, str>>,
    pub(crate) pid: Option<u32>,
    #[serde(borrow)]
    pub(crate) calls: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) wire: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) clock: Option<Cow<'a, str>>,
}

/// Nanoseconds of a time in microseconds; what is no time is the start.
pub(crate) fn nanos(micros: f64) -> u64 {
    let nanos = (micros * 1000.0).round();
    if nanos.is_finite() && nanos > 0.0 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::as_conversions,
            reason = "positive, and a float saturates"
        )]
        return nanos as u64;
    }
    0
}

/// The payload in a line: text, or base64 where it is no UTF-8.
pub(crate) fn payload(line: &Line<'_>) -> Box<[u8]> {
    match (&line.text, &line.b64) {
        (Some(text), _) => text.as_bytes().into(),
        (None, Some(digits)) => base64(digits),
        (None, None) => Box::default(),
    }
}

fn base64(digits: &str) -> Box<[u8]> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte.checked_sub(b'A'),
        b'a'..=b'z' => byte.checked_sub(b'a' - 26),
        b'0'..=b'9' => byte.checked_add(52 - b'0'),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut held, mut bits) = (0_u32, 0_u32);
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(4).saturating_mul(3));
    for six in digits.bytes().filter_map(value) {
        held = (held << 6 | u32::from(six)) & 0xffff;
        bits = match bits.checked_sub(2) {
            // A byte is whole: the 6 bits are 8 less 2.
            Some(left) => {
                bytes.extend((held >> left).to_be_bytes().last());
                left
            }
            None => 6,
        };
    }
    bytes.into()
}
