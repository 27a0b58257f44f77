//! Values as people write them on the command line.

use std::time::Duration;

use ledgerline_client::{ByteSize, Offset, Quorum, StartPosition, SubscriptionMode, WallTime};

/// Reads `3/2`.
pub(super) fn quorum(text: &str) -> Result<Quorum, String> {
    let expected = "expected WRITE/ACK, such as 3/2: copies written, copies fsynced before the ack";
    let (write, ack) = text.split_once('/').ok_or(expected)?;
    let (Ok(write), Ok(ack)) = (write.parse(), ack.parse()) else {
        return Err(expected.to_owned());
    };
    Quorum::new(write, ack).map_err(|error| error.to_string())
}

/// Reads `2s`, `500ms`, `1m`, `12h`, `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a number with ms, s, m, h or d, such as 500ms, 2s or 7d";
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(0));
    let seconds = match unit {
        "ms" => 0,
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(expected.to_owned()),
    };
    if digits.is_empty() {
        return Err(expected.to_owned());
    }
    let long = "longer than a hundred years";
    let count: u64 = digits.parse().map_err(|_| long)?;
    let time = match seconds {
        0 => Duration::from_millis(count),
        seconds => Duration::from_secs(count.checked_mul(seconds).ok_or(long)?),
    };
    match time <= HUNDRED_YEARS {
        true => Ok(time),
        false => Err(long.to_owned()),
    }
}

/// The longest time that can be named.
const HUNDRED_YEARS: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A time as [`duration`] reads it.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    if time.subsec_nanos() > 0 {
        return format!("{}ms", time.as_millis());
    }
    match seconds {
        0 => "0s".to_owned(),
        _ if seconds.is_multiple_of(24 * 3600) => format!("{}d", seconds / (24 * 3600)),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// How often something is done by itself; none for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) Option<Duration>);

/// Reads a time, or `off`. No time at all means never as well: it cannot mean all the time.
pub(super) fn interval(text: &str) -> Result<Interval, String> {
    if text == "off" || text == "0" {
        return Ok(Interval(None));
    }
    let time = duration(text).map_err(|error| format!("{error}, or off"))?;
    Ok(Interval((!time.is_zero()).then_some(time)))
}

/// A limit of what is kept, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep<T> {
    /// Up to it.
    UpTo(T),
    /// Everything.
    All,
}

impl<T> Keep<T> {
    pub(super) fn limit(self) -> Option<T> {
        match self {
            Self::UpTo(limit) => Some(limit),
            Self::All => None,
        }
    }
}

/// Reads a time, or `forever`.
pub(super) fn keep_time(text: &str) -> Result<Keep<Duration>, String> {
    match text {
        "forever" => Ok(Keep::All),
        text => duration(text)
            .map(Keep::UpTo)
            .map_err(|error| format!("{error}, or forever")),
    }
}

/// Reads a size, or `all`.
pub(super) fn keep_bytes(text: &str) -> Result<Keep<ByteSize>, String> {
    match text {
        "all" => Ok(Keep::All),
        text => {
            let size = text.parse::<ByteSize>();
            size.map(Keep::UpTo)
                .map_err(|error| format!("{error}, or all"))
        }
    }
}

/// A tenant's name in full: `acme` is `tenants/acme`.
pub(super) fn tenant(text: &str) -> String {
    match text.contains('/') {
        true => text.to_owned(),
        false => format!("tenants/{text}"),
    }
}

/// A namespace's name in full: `orders` is the default tenant's.
pub(super) fn namespace(text: &str) -> String {
    match text.contains('/') {
        true => text.to_owned(),
        false => format!("tenants/default/namespaces/{text}"),
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
    time.to_string()
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
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(keep_time("0s"), Ok(Keep::UpTo(Duration::ZERO)));
        assert_eq!(keep_time("forever"), Ok(Keep::All));
        assert_eq!(keep_bytes("all"), Ok(Keep::All));
        assert_eq!(keep_bytes("1KiB"), Ok(Keep::UpTo(ByteSize::kib(1))));
        assert!(keep_bytes("much").unwrap_err().contains("or all"));
        for text in ["7d", "12h", "90m", "45s", "1500ms", "0s"] {
            assert_eq!(duration(text).map(time).unwrap(), text);
        }
        assert!(
            duration("99999999999d")
                .unwrap_err()
                .contains("hundred years")
        );
        for bad in ["", "2", "s", "2w", "-1s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for off in ["off", "0", "0s"] {
            assert_eq!(interval(off), Ok(Interval(None)), "{off}");
        }
        let every = Interval(Some(Duration::from_secs(2)));
        assert_eq!(interval("2s"), Ok(every));
        assert!(interval("on").unwrap_err().ends_with("or off"));
        assert_eq!(start("earliest"), Ok(StartPosition::Earliest));
        assert_eq!(start("7"), Ok(StartPosition::Offset(Offset::new(7))));
        assert!(start("-7").is_err() && mode("both").is_err());
    }

    #[test]
    fn single_names_are_completed_and_full_ones_are_left() {
        assert_eq!(tenant("acme"), "tenants/acme");
        assert_eq!(tenant("tenants/acme"), "tenants/acme");
        assert_eq!(namespace("eu"), "tenants/default/namespaces/eu");
        let full = "tenants/acme/namespaces/eu";
        assert_eq!(namespace(full), full);
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
