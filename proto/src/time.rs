//! Times and durations on the wire.

use std::time::Duration;

use types::{Problem, WallTime};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A reading of a wall clock as a `google.protobuf.Timestamp`.
///
/// # Panics
///
/// Never: every reading fits.
pub fn to_wire(time: WallTime) -> prost_types::Timestamp {
    let nanos = time.as_nanos();
    let below_second = (nanos % NANOS_PER_SECOND).try_into();
    let seconds = (nanos / NANOS_PER_SECOND).try_into();
    prost_types::Timestamp {
        seconds: seconds.expect("64 bits of nanoseconds are few seconds"),
        nanos: below_second.expect("below a thousand million"),
    }
}

/// Reads a `google.protobuf.Timestamp`; none for one before 1970, after 2554, or that is not well formed.
pub fn from_wire(time: &prost_types::Timestamp) -> Option<WallTime> {
    let seconds = u64::try_from(time.seconds).ok()?;
    let nanos = u64::try_from(time.nanos).ok()?;
    if nanos >= NANOS_PER_SECOND {
        return None;
    }
    let all = seconds.checked_mul(NANOS_PER_SECOND)?.checked_add(nanos)?;
    Some(WallTime::from_nanos(all))
}

/// A duration as a `google.protobuf.Duration`; at the end of that type's range it stays there.
pub fn duration_to_wire(duration: Duration) -> prost_types::Duration {
    duration.try_into().unwrap_or(prost_types::Duration {
        seconds: i64::MAX,
        nanos: 0,
    })
}

/// Reads a `google.protobuf.Duration`.
///
/// # Errors
///
/// `BAD_FIELD` naming `field` when it is negative or not well formed.
pub fn duration_from_wire(
    field: &str,
    duration: &prost_types::Duration,
) -> Result<Duration, Problem> {
    let bad = || Problem::bad_field(field, "a duration of zero or more is needed");
    let seconds = u64::try_from(duration.seconds).map_err(|_| bad())?;
    match u32::try_from(duration.nanos) {
        Ok(nanos) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_both_ways() {
        for nanos in [
            0,
            1,
            999_999_999,
            1_000_000_000,
            1_767_225_600_123_456_789,
            u64::MAX,
        ] {
            let time = WallTime::from_nanos(nanos);
            assert_eq!(from_wire(&to_wire(time)), Some(time));
        }
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0)] {
            assert_eq!(from_wire(&prost_types::Timestamp { seconds, nanos }), None);
        }
    }

    #[test]
    fn only_durations_of_zero_or_more_are_read() {
        for duration in [
            Duration::ZERO,
            Duration::new(3, 4),
            Duration::from_secs(86_400 * 365),
        ] {
            assert_eq!(
                duration_from_wire("x", &duration_to_wire(duration)),
                Ok(duration)
            );
        }
        for (seconds, nanos) in [(-1, 0), (0, -1), (1, 1_000_000_000), (i64::MIN, i32::MIN)] {
            let wire = prost_types::Duration { seconds, nanos };
            let problem = duration_from_wire("nack.delay", &wire).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("nack.delay"));
        }
    }
}
