//! Units: times, sizes and rates as people write them.

use std::time::Duration;

use crate::escape::escape_line;

/// Text that is no quantity; what to write instead is its [`hint`](Self::hint).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// Not a time.
    #[error("\"{}\" is no time", shown(.0))]
    Time(String),
    /// Not a size.
    #[error("\"{}\" is no size", shown(.0))]
    Size(String),
    /// Not a rate.
    #[error("\"{}\" is no rate", shown(.0))]
    Rate(String),
}

impl UnitError {
    /// What to write instead.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Time(_) => "write 300ms, 2s, 1.5m or 1h",
            Self::Size(_) => "write 512, 64kB, 1MiB or 2GB",
            Self::Rate(_) => "write 50/s, 64kB/s or 1MiB/s",
        }
    }
}

fn shown(text: &str) -> String {
    escape_line(text.as_bytes(), 40)
}

/// A time: a number and `ms`, `s`, `m` or `h`; a bare number is seconds.
///
/// ```
/// use adit_proto::address::parse_duration;
/// assert_eq!(parse_duration("1.5s").unwrap().as_millis(), 1500);
/// ```
///
/// # Errors
/// The text is no time, or one beyond 584 years (64 bits of nanoseconds).
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let bad = || UnitError::Time(text.to_owned());
    let (number, unit) = split(text);
    let nanos: u64 = match unit {
        "ms" => 1_000_000,
        "s" | "" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(bad()),
    };
    let nanos = scaled(number, nanos).ok_or_else(bad)?;
    Ok(Duration::from_nanos(nanos))
}

/// A size: a number and `B`, `kB`, `MB`, `GB` (powers of 1000) or `KiB`, `MiB`, `GiB` (of 1024).
///
/// # Errors
/// The text is no size, or one beyond 64 bits.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Size(text.to_owned());
    let (number, unit) = split(text);
    let bytes = match unit {
        "" | "B" => 1,
        "kB" | "k" => 1_000,
        "MB" | "M" => 1_000_000,
        "GB" | "G" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(bad()),
    };
    scaled(number, bytes).ok_or_else(bad)
}

/// A rate: a count or a size, and `/s`; gives what passes in one second.
///
/// # Errors
/// The text is no rate, or one beyond 64 bits.
pub fn parse_rate(text: &str) -> Result<u64, UnitError> {
    let size = text.strip_suffix("/s").and_then(|size| parse_size(size).ok());
    size.ok_or_else(|| UnitError::Rate(text.to_owned()))
}

fn split(text: &str) -> (&str, &str) {
    let is_number = |char: char| char.is_ascii_digit() || char == '.';
    let end = text.find(|char| !is_number(char)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// `number` with up to 9 decimals, times `unit`, without rounding surprises of binary fractions.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || decimals.is_empty() || decimals.len() > 9 {
        return None;
    }
    let power = 10_u64.checked_pow(u32::try_from(decimals.len()).ok()?)?;
    let fraction = u128::from(decimals.parse::<u64>().ok()?).checked_mul(u128::from(unit))?;
    let fraction = u64::try_from(fraction.checked_div(u128::from(power))?).ok()?;
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::{parse_duration, parse_rate, parse_size};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn times_and_sizes_are_read_as_written() {
        assert_eq!(parse_duration("300ms").unwrap(), Duration::from_millis(300));
        assert_eq!(parse_duration("2").unwrap(), Duration::from_secs(2));
        assert_eq!(parse_duration("1.5m").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_duration("1h").unwrap(), Duration::from_secs(3600));
        assert_eq!(parse_size("64kB").unwrap(), 64_000);
        assert_eq!(parse_size("1MiB").unwrap(), 1 << 20);
        assert_eq!(parse_rate("50/s").unwrap(), 50);
        assert_eq!(parse_rate("1.5MB/s").unwrap(), 1_500_000);
        assert!(parse_rate("50").is_err());
        let error = parse_size("\u{1b}[2J").unwrap_err().to_string();
        assert_eq!(error, "\"\\x1b[2J\" is no size");
        for bad in ["", "s", "1x", "-1s", ".5s", "1.", "99999999999h", "1..2s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "\\PC*", number in "[0-9.]{0,30}[a-zA-Z]{0,3}") {
            drop((parse_duration(&text), parse_size(&text)));
            drop((parse_duration(&number), parse_size(&number), parse_rate(&number)));
        }
    }
}
