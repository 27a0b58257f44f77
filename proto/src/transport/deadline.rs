//! How long a caller waits for an answer.

use std::time::Duration;

use tonic::codegen::http::HeaderMap;

/// The header that gRPC has for it.
const HEADER: &str = "grpc-timeout";
/// Most digits that it may have.
const DIGITS_MAX: usize = 8;

/// How long the caller of a call with these headers waits for its answer, when it says so: up to eight digits and a unit, as gRPC's
/// `PROTOCOL-HTTP2.md` has it. What cannot be read is taken for nothing: the caller looks at its clock itself, and an answer
/// that it does not want does no harm.
pub(super) fn of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use tonic::codegen::http::HeaderValue;

    use super::*;

    fn read(text: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_static(text));
        of(&headers)
    }

    #[test]
    fn every_unit_is_known() {
        let seconds = Duration::from_secs;
        for (text, is) in [
            ("2H", seconds(7_200)),
            ("99999999H", seconds(359_999_996_400)),
            ("3M", seconds(180)),
            ("4S", seconds(4)),
            ("50m", Duration::from_millis(50)),
            ("6u", Duration::from_micros(6)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(read(text), Some(is), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_deadline() {
        for text in ["", "S", "5", "5s", "-5S", "+5S", "5 S", "123456789S"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(of(&HeaderMap::new()), None);
    }
}
