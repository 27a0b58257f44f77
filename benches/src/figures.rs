//! What the programs here make of what they measured.

use std::time::Duration;

/// The middle one, or the mean of the two in the middle; zero of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted[..] {
        [] => 0.0,
        _ if sorted.len() % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Millions a second, when there were so many in that time.
pub fn millions_per_second(count: u64, took: Duration) -> f64 {
    let millions = Duration::from_micros(count).as_secs_f64();
    millions / took.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_rate_is_millions_a_second() {
        let second = Duration::from_secs(1);
        assert_eq!(millions_per_second(512_000_000, second), 512.0);
        assert_eq!(millions_per_second(1_000_000, second / 4), 4.0);
    }
}
