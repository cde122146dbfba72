//! Dates: seconds since 1970 to and from the calendar, which certificates speak.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

const DAY_S: u64 = 86_400;

/// The date of a time, in seconds since 1970, UTC: year, month from 1, day from 1.
///
/// Days are counted in eras of 400 years, which all have the same number of them, from a March on, so
/// that the leap day is the last of its year (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
pub(crate) fn date_of(seconds: u64) -> (u64, u8, u8) {
    let days = (seconds / DAY_S).saturating_add(719_468);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leaps = (day_of_era / 1_460).saturating_add(day_of_era / 146_096);
    let years = day_of_era.saturating_add(day_of_era / 36_524).saturating_sub(leaps) / 365;
    let before = (years.saturating_mul(365)).saturating_add(years / 4).saturating_sub(years / 100);
    let day_of_year = day_of_era.saturating_sub(before);
    let month_from_march = day_of_year.saturating_mul(5).saturating_add(2) / 153;
    let first_day = month_from_march.saturating_mul(153).saturating_add(2) / 5;
    let day = day_of_year.saturating_sub(first_day).saturating_add(1);
    let (month, carry) = match month_from_march {
        0..=9 => (month_from_march.saturating_add(3), 0),
        _ => (month_from_march.saturating_sub(9), 1),
    };
    let year = era.saturating_mul(400).saturating_add(years).saturating_add(carry);
    (year, u8::try_from(month).unwrap_or(1), u8::try_from(day).unwrap_or(1))
}

/// Seconds since 1970 of a date and a time of the day; nothing before 1970.
pub(crate) fn seconds_of((year, month, day): (u64, u64, u64), of_day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || of_day > DAY_S {
        return None;
    }
    let (year, from_march) = if month > 2 {
        (year, month.checked_sub(3)?)
    } else {
        (year.checked_sub(1)?, month.checked_add(9)?)
    };
    let (era, of_era) = (year / 400, year % 400);
    let day_of_year = (from_march.checked_mul(153)?.checked_add(2)? / 5).checked_add(day)?;
    let leaps = (of_era / 4).checked_sub(of_era / 100)?;
    let day_of_era = of_era.checked_mul(365)?.checked_add(leaps)?.checked_add(day_of_year)?;
    let days = era.checked_mul(146_097)?.checked_add(day_of_era)?.checked_sub(719_469)?;
    days.checked_mul(DAY_S)?.checked_add(of_day)
}

/// `2026-11-25 12:39 UTC`.
pub(crate) fn text_of(seconds: u64) -> String {
    let (year, month, day) = date_of(seconds);
    let minutes = seconds % DAY_S / 60;
    let (hour, minute) = (minutes / 60, minutes % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// The day so many days after a time.
pub(crate) fn days_after(seconds: u64, days: u64) -> (u64, u8, u8) {
    date_of(seconds.saturating_add(days.saturating_mul(DAY_S)))
}

#[cfg(test)]
mod tests {
    use super::{date_of, seconds_of, text_of};
    use proptest::prelude::*;

    #[test]
    fn days_that_calendars_get_wrong() {
        // Each as `date -u -d @N +%F` prints it.
        for (seconds, date) in [
            (0, (1970, 1, 1)),
            (68_169_600, (1972, 2, 29)),
            (951_782_400, (2000, 2, 29)),
            (951_868_800, (2000, 3, 1)),
            (4_107_456_000, (2100, 2, 28)),
            (4_107_542_400, (2100, 3, 1)),
            (253_402_214_400, (9999, 12, 31)),
        ] {
            assert_eq!(date_of(seconds), date);
        }
        assert_eq!(text_of(1_764_074_399), "2025-11-25 12:39 UTC");
        assert_eq!(seconds_of((1969, 12, 31), 0), None);
        assert_eq!(seconds_of((2026, 13, 1), 0), None);
    }

    proptest! {
        #[test]
        fn there_and_back(seconds in 0..253_402_300_800_u64) {
            let (year, month, day) = date_of(seconds);
            let back = seconds_of((year, month.into(), day.into()), seconds % 86_400);
            prop_assert_eq!(back, Some(seconds));
        }

        #[test]
        fn no_number_panics(a in any::<u64>(), b in any::<u64>(), c in any::<u64>(), d in any::<u64>()) {
            drop(text_of(a));
            let _ = seconds_of((a, b, c), d);
        }
    }
}
