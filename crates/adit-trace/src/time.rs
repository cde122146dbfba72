//! Wall clock time: between RFC 3339 and nanoseconds since 1970, UTC, without a clock.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

const NANOS: u64 = 1_000_000_000;
const DAY_SECONDS: u64 = 86_400;

/// A time as `2026-11-25T10:00:00.123456789Z`.
pub(crate) fn rfc3339(nanos: u64) -> String {
    let (seconds, fraction) = (nanos / NANOS, nanos % NANOS);
    let (days, of_day) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Nanoseconds of a time; `None` for what is no time since 1970, or beyond the year 2554.
pub(crate) fn nanos(text: &str) -> Option<u64> {
    let (date, clock) = text.trim().split_once(['T', 't', ' '])?;
    let (clock, ahead_seconds) = zone(clock)?;
    let mut parts = date.splitn(3, '-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.splitn(3, ':').map(number);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let is_valid = (1970..=2554).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !is_valid {
        return None;
    }
    let digits = fraction.get(..9).unwrap_or(fraction);
    let digits = if digits.is_empty() { "0" } else { digits };
    let scale = 10_u64.checked_pow(9_u32.checked_sub(u32::try_from(digits.len()).ok()?)?)?;
    let fraction = number(digits)?.checked_mul(scale)?;
    let of_day =
        hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?.checked_add(second)?;
    let seconds = days(year, month, day).checked_mul(DAY_SECONDS)?.checked_add(of_day)?;
    let seconds = seconds.checked_add_signed(ahead_seconds.checked_neg()?)?;
    seconds.checked_mul(NANOS)?.checked_add(fraction)
}

/// Takes `Z` or `+01:00` off; how many seconds that zone is ahead.
fn zone(clock: &str) -> Option<(&str, i64)> {
    if let Some(clock) = clock.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = clock.rfind(['+', '-'])?;
    let (clock, zone) = clock.split_at_checked(at)?;
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
    let seconds = i64::try_from(seconds).ok()?;
    Some((clock, if zone.starts_with('-') { seconds.checked_neg()? } else { seconds }))
}

fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

/// The date of a day since 1970. Years are counted from March, so that the leap day comes last
/// (Howard Hinnant, `chrono`-compatible low-level date algorithms).
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a day of 64 bits of nanoseconds, and no part is less than what is taken from it"
)]
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

/// The day since 1970 of a date from 1970 on.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "year, month and day were looked at, and the first day is that of 1970"
)]
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, of_era) = (year / 400, year % 400);
    let month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::{nanos, rfc3339};
    use proptest::prelude::*;

    #[test]
    fn known_times_come_out() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(1_709_164_800_000_000_001), "2024-02-29T00:00:00.000000001Z");
        assert_eq!(nanos("2024-02-29T00:00:00Z"), Some(1_709_164_800_000_000_000));
        assert_eq!(nanos("2024-02-29T01:00:00.5+01:00"), Some(1_709_164_800_500_000_000));
        assert_eq!(nanos("1970-01-01T00:00:00+01:00"), None);
        for text in ["", "now", "2024-02-29", "2024-13-01T00:00:00Z", "2024-01-01T00:00:00"] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(time: u64) {
            prop_assert_eq!(nanos(&rfc3339(time)), Some(time));
        }

        #[test]
        fn no_text_is_a_panic(text in "[-+0-9TZ:. é]{0,40}") {
            let _ = nanos(&text);
        }
    }
}
