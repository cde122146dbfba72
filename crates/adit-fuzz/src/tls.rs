//! TLS: what a certificate says cannot be forged by what stands in it, and how a peer begins is seen
//! however its bytes come.

use std::net::IpAddr;

use adit_proto::escape::is_unsafe;
use adit_tls::{Pin, fuzzing};

use crate::pieces::cut;

pub(crate) fn der(data: &[u8]) {
    let values = fuzzing::values(data);
    let (mut rest, mut again) = (data, Vec::new());
    for &(tag, value) in &values {
        let (none, stayed) = fuzzing::take(rest, tag ^ 1);
        assert_eq!((none, stayed), (None, rest), "taken with another tag");
        let (taken, after) = fuzzing::take(rest, tag);
        assert_eq!(taken, Some(value));
        // A value ends where the rest begins, and has a head of two to six bytes.
        let used = rest.len() - after.len();
        assert!(rest[..used].ends_with(value) && (2..=6).contains(&(used - value.len())));
        rest = after;
        write(tag, value, &mut again);
    }
    assert!(!is_whole(rest), "one was passed over");
    assert!(again.len() <= data.len() - rest.len(), "DER is the shortest there is");
    assert_eq!(fuzzing::values(&again), values);
    // What is cut off takes no value away that stands before it.
    let half = fuzzing::values(&data[..data.len() / 2]);
    assert_eq!(values.get(..half.len()), Some(&half[..]));
}

/// Is there a value in front, with a length of at most four digits (X.690, section 8.1.3)?
fn is_whole(der: &[u8]) -> bool {
    let [_, first, rest @ ..] = der else { return false };
    let digits = match first {
        0..=0x7f => return usize::from(*first) <= rest.len(),
        0x81..=0x84 => usize::from(first - 0x80),
        _ => return false,
    };
    let Some((length, rest)) = rest.split_at_checked(digits) else { return false };
    length.iter().fold(0, |length, digit| length << 8 | u64::from(*digit))
        <= u64::try_from(rest.len()).unwrap_or(u64::MAX)
}

/// Appends a value with the shortest length (X.690, section 10.1).
fn write(tag: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    let digits = value.len().to_be_bytes();
    let digits = &digits[digits.iter().take_while(|digit| **digit == 0).count()..];
    match digits {
        [] => out.push(0),
        [short @ 0..=0x7f] => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(0x7f));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(value);
}

pub(crate) fn certificate(data: &[u8]) {
    let read = fuzzing::certificate(data);
    assert_eq!(read.pin, Pin::of(data));
    assert!(!read.self_signed || read.issuer == read.subject);
    for name in [&read.subject, &read.issuer] {
        assert!(name.len() <= 4 * data.len(), "longer than what it is read from");
        distinguished(name);
    }
    for name in &read.names {
        let found = data.windows(name.len().max(1)).any(|window| window == name.as_bytes());
        let is_made = name.parse::<IpAddr>().is_ok() || name.contains(char::REPLACEMENT_CHARACTER);
        assert!(found || is_made || name.is_empty(), "{name:?} does not stand there");
    }
    for time in [read.not_before_s, read.not_after_s].into_iter().flatten() {
        assert!(time < YEAR_10000_S, "{time} has no year of four digits");
    }
    // It ends where it says; what comes behind is in the pin alone.
    if !fuzzing::values(data).is_empty() {
        let mut longer = fuzzing::certificate(&[data, b"\x30\x00"].concat());
        longer.pin = read.pin;
        assert_eq!(longer, read);
    }
}

/// Every part of a name is a kind and a value, and no value looks like two.
fn distinguished(name: &str) {
    let (mut equals, mut is_escaped) = (0, false);
    for char in name.chars() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '=' => equals += 1,
            ',' => {
                assert_eq!(equals, 1, "{name:?}");
                equals = 0;
            }
            _ => assert!(!"+\"<>;".contains(char), "{char} is not escaped in {name:?}"),
        }
    }
    assert!(!is_escaped && (equals == 1 || name.is_empty()), "{name:?}");
}

/// The first second that four digits of a year cannot say, and a day for one of 60 seconds.
const YEAR_10000_S: u64 = 253_402_300_800 + 86_400;

/// How a peer begins: TLS, HTTP, or something else.
pub(crate) fn beginning(data: &[u8]) {
    let (pieces, whole) = cut(data);
    let at_once = fuzzing::beginning(&[whole]);
    assert_eq!(fuzzing::beginning(&pieces), at_once);
    let each: Vec<&[u8]> = whole.chunks(1).collect();
    assert_eq!(fuzzing::beginning(&each), at_once);
    assert_eq!(at_once.bytes, whole[..whole.len().min(8)]);
    // What is once known to be no TLS stays so, and a record of TLS is never taken for another thing.
    let mut was_plain = false;
    for end in 0..=whole.len().min(9) {
        let now = fuzzing::beginning(&[&whole[..end]]);
        assert!(now.is_plain || !(was_plain || now.is_http), "TLS after all, after {end} bytes");
        was_plain = now.is_plain;
    }
    let is_record = matches!(whole, [] | [20..=23] | [20..=23, 3, ..]);
    assert_eq!(at_once.is_plain, !is_record);
}

pub(crate) fn pin(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let prefix = text.get(..7).filter(|prefix| prefix.eq_ignore_ascii_case("sha256:"));
    let hex = &text[prefix.map_or(0, str::len)..];
    let is_plain = hex.len() == 64 && is_digits(hex);
    let has_colons = hex.split(':').count() == 32
        && hex.split(':').all(|pair| pair.len() == 2 && is_digits(pair));
    match text.parse::<Pin>() {
        Ok(pin) => {
            assert!(is_plain || has_colons, "{text:?}");
            assert_eq!(format!("{pin:x}"), hex.replace(':', "").to_lowercase());
            for written in [pin.to_string(), format!("{pin:x}"), pin.word()] {
                assert_eq!(written.parse::<Pin>().ok(), Some(pin), "{written}");
            }
        }
        Err(error) => {
            assert!(!is_plain && !has_colons, "{text:?}");
            let said = error.to_string();
            assert!(!said.chars().any(is_unsafe) && said.len() < 1_000, "{said:?}");
        }
    }
}
