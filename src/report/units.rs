//! Report: numbers for people.

use std::time::{Duration, SystemTime};

/// A long time, as short as it can be read: `45s`, `5m`, `1h30m`, `3d4h`. Rounded down, as all that is
/// known of waits is a lower bound.
pub fn coarse(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |big: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match seconds {
        0 => format!("{}ms", time.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

/// A short time with its unit: `812 µs`, `8.1 ms`, `2.3 s`.
pub fn fine(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    match us {
        ..1000.0 => format!("{us:.0} µs"),
        ..1e5 => format!("{:.1} ms", us / 1e3),
        ..1e6 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.1} s", us / 1e6),
    }
}

/// A size: `512 B`, `46.1 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = "KiB";
    for next in UNITS.into_iter().skip(1) {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 100.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A count and its noun: `1 thread`, `9 threads`.
pub fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A moment as RFC 3339 in UTC, to the nanosecond; `None` outside the years that it can write.
pub fn rfc3339(at: SystemTime) -> Option<String> {
    jiff::Timestamp::try_from(at).ok().map(|t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_down() {
        for (seconds, expected) in [
            (0.25, "250ms"),
            (1.9, "1s"),
            (59.9, "59s"),
            (300.0, "5m"),
            (301.0, "5m1s"),
            (5400.0, "1h30m"),
            (7259.0, "2h"),
            (273600.0, "3d4h"),
        ] {
            assert_eq!(coarse(Duration::from_secs_f64(seconds)), expected);
        }
    }

    #[test]
    fn pauses_and_sizes_carry_their_unit() {
        assert_eq!(fine(Duration::from_nanos(8_123_456)), "8.1 ms");
        assert_eq!(fine(Duration::from_nanos(312_000)), "312 µs");
        assert_eq!(fine(Duration::from_millis(2340)), "2.3 s");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(85_123_456), "81.2 MiB");
        assert_eq!(size(u64::MAX), "16384 PiB");
    }

    #[test]
    fn moments_are_in_utc() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_323_600);
        assert_eq!(rfc3339(at).as_deref(), Some("2026-11-22T05:00:00Z"));
    }
}
