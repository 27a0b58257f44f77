//! Values as people write them on the command line.

use std::time::Duration;

use ledgerline_client::{Offset, Quorum, StartPosition, SubscriptionMode, WallTime};

/// Reads `3/2`.
pub(super) fn quorum(text: &str) -> Result<Quorum, String> {
    let expected = "expected WRITE/ACK, such as 3/2: copies written, copies fsynced before the ack";
    let (write, ack) = text.split_once('/').ok_or(expected)?;
    let (Ok(write), Ok(ack)) = (write.parse(), ack.parse()) else {
        return Err(expected.to_owned());
    };
    Quorum::new(write, ack).map_err(|error| error.to_string())
}

/// Reads `2s`, `500ms`, `1m`, `12h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a number with ms, s, m or h, such as 500ms or 2s";
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(0));
    let count: u64 = digits.parse().map_err(|_| expected)?;
    match unit {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "m" if count <= 1_000_000 => Ok(Duration::from_secs(count * 60)),
        "h" if count <= 100_000 => Ok(Duration::from_secs(count * 3600)),
        _ => Err(expected.to_owned()),
    }
}

/// Reads `earliest`, `latest`, or an offset.
pub(super) fn start(text: &str) -> Result<StartPosition, String> {
    match text {
        "earliest" => Ok(StartPosition::Earliest),
        "latest" => Ok(StartPosition::Latest),
        digits => match digits.parse() {
            Ok(offset) => Ok(StartPosition::Offset(Offset::new(offset))),
            Err(_) => Err("expected earliest, latest, or an offset such as 1000".to_owned()),
        },
    }
}

/// Reads `exclusive` or `shared`.
pub(super) fn mode(text: &str) -> Result<SubscriptionMode, String> {
    match text {
        "exclusive" => Ok(SubscriptionMode::Exclusive),
        "shared" => Ok(SubscriptionMode::Shared),
        _ => Err("expected exclusive (one consumer, in order) or shared (many)".to_owned()),
    }
}

/// A time as RFC 3339 in UTC.
pub(super) fn rfc3339(time: WallTime) -> String {
    let nanos = time.as_nanos();
    let (seconds, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// The date so many days after 1970-01-01, after Howard Hinnant's `civil_from_days`.
const fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // From 0000-03-01: leap days come last then.
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// Bytes as base64, with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let is_padding = digit > chunk.len();
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if is_padding {
                '='
            } else {
                char::from(DIGITS[index as usize])
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!(quorum("3/2"), Ok(Quorum::THREE_TWO));
        assert!(quorum("2/2").unwrap_err().contains("below write"));
        assert!(quorum("3").unwrap_err().contains("such as 3/2"));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("12h"), Ok(Duration::from_secs(43_200)));
        for bad in ["", "2", "s", "2d", "-1s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(start("earliest"), Ok(StartPosition::Earliest));
        assert_eq!(start("7"), Ok(StartPosition::Offset(Offset::new(7))));
        assert!(start("-7").is_err() && mode("both").is_err());
    }

    #[test]
    fn times_are_dates() {
        let at = |seconds: u64| rfc3339(WallTime::from_nanos(seconds * 1_000_000_000));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000000000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(at(1_767_225_600), "2026-01-01T00:00:00.000000000Z");
    }

    #[test]
    fn bytes_are_base64() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in cases {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xfe]), "//4=");
    }
}
