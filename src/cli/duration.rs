//! Cli: durations as Go writes them: `300ms`, `5m`, `1h30m`, `1.5h`.

use std::time::Duration;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Reads a duration: numbers, each with its unit. Days are allowed too, which Go does not know.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: numbers with units such as 300ms, 5m, 1h30m are");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, later) = after.split_at(letters);
        if unit.is_empty() && !number.is_empty() {
            return Err(format!("`{text}` lacks a unit, as in {text}s or {text}m"));
        }
        let factor = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        let part = nanoseconds(number, factor).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(|| format!("`{text}` is too long"))?;
        rest = later;
    }
    Ok(Duration::from_nanos(total))
}

/// `number`, with or without a fraction, times `factor`; exact to the nanosecond.
fn nanoseconds(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(factor)?;
    let mut unit = factor;
    for digit in fraction.chars() {
        unit /= 10;
        total = total.checked_add(unit.checked_mul(digit.to_digit(10)?.into())?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, ns) in [
            ("0", 0),
            ("300ms", 300_000_000),
            ("5m", 300_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("2m30.5s", 150_500_000_000),
            (".5s", 500_000_000),
            ("1us", 1000),
            ("1µs", 1000),
            ("1d", 86_400_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "5", "m", "5x", "-5m", "5m3", "1.2.3s", ".s", "99999999999h", "5 m", "٣s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration("5").unwrap_err(), "`5` lacks a unit, as in 5s or 5m");
    }
}
