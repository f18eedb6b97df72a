//! Times as people write them. The only place that reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

use heirloom_model::counter::Time;

/// Now, by the clock of this machine.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Time(since.map_or(0, |since| since.as_secs()))
}

/// `2027-01-31`, `2027-01-31T12:00:00Z`, `+90d`, `+12h` or seconds since 1970.
pub(crate) fn parse(text: &str) -> Result<Time, String> {
    parse_from(text, now()).ok_or_else(|| {
        format!(
            "{text:?} is no time: write 2027-01-31, 2027-01-31T12:00:00Z, +90d, +12h, \
             or seconds since 1970"
        )
    })
}

/// RFC 3339, in UTC.
pub(crate) fn show(time: Time) -> String {
    let (days, seconds) = (time.0 / DAY, time.0 % DAY);
    let Some((year, month, day)) = civil(days) else { return format!("{} s", time.0) };
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

const DAY: u64 = 86_400;
/// RFC 3339 has four digits for a year.
const YEAR_MAX: u64 = 9999;

fn parse_from(text: &str, now: Time) -> Option<Time> {
    if let Some(later) = text.strip_prefix('+') {
        let (digits, unit) = later.split_at_checked(later.len().checked_sub(1)?)?;
        let unit = match unit {
            "d" => DAY,
            "h" => 3600,
            _ => return None,
        };
        return Some(now.after(digits.parse::<u64>().ok()?.checked_mul(unit)?));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Time);
    }
    let (date, clock) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock.strip_suffix('Z')?, ':', [2, 2, 2])?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?;
    let midnight = days(year, month, day)?.checked_mul(DAY)?;
    midnight.checked_add(seconds)?.checked_add(second).map(Time)
}

fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut found = [0; 3];
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits)?;
        *number = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(found)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn month_days(year: u64) -> [u64; 12] {
    let february = if is_leap(year) { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

fn year_days(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

/// Days from 1970-01-01 to a date.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=YEAR_MAX).contains(&year) {
        return None;
    }
    let months = month_days(year);
    let before = usize::try_from(month.checked_sub(1)?).ok()?;
    if day == 0 || day > *months.get(before)? {
        return None;
    }
    let years: u64 = (1970..year).map(year_days).sum();
    let this_year: u64 = months.iter().take(before).sum();
    years.checked_add(this_year)?.checked_add(day)?.checked_sub(1)
}

/// The date that is so many days after 1970-01-01.
fn civil(mut days: u64) -> Option<(u64, u64, u64)> {
    let mut year = 1970;
    while days >= year_days(year) {
        days = days.checked_sub(year_days(year))?;
        year = (year < YEAR_MAX).then(|| year.checked_add(1))??;
    }
    for (month, length) in (1..).zip(month_days(year)) {
        match days.checked_sub(length) {
            Some(rest) => days = rest,
            None => return Some((year, month, days.checked_add(1)?)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown_in_the_same_way() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2027-01-31T12:34:56Z", 1_801_398_896),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(parse(text), Ok(Time(seconds)), "{text}");
            assert_eq!(show(Time(seconds)), text);
        }
        assert_eq!(parse_from("2000-02-29", Time(0)), Some(Time(951_782_400)));
        assert_eq!(parse_from("+2d", Time(7)), Some(Time(172_807)));
        assert_eq!(parse_from("951782400", Time(0)), Some(Time(951_782_400)));
        assert_eq!(show(Time(u64::MAX)), "18446744073709551615 s");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "",
            "+",
            "+d",
            "+1",
            "+1w",
            "tomorrow",
            "2027-13-01",
            "2027-02-29",
            "2027-1-1",
            "2027-01-00",
            "1969-01-01",
            "2027-01-01T24:00:00Z",
            "2027-01-01T00:00:00",
            "2027-01-01T00:00:00+01:00",
            "2027-01-01-01",
            "99999999999999999999",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
