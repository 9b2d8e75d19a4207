//! What is told of many measurements.

use std::time::Duration;

pub fn ratio(left: Duration, right: Duration) -> f64 {
    left.as_secs_f64() / right.as_secs_f64()
}

pub fn megabytes(bytes: u64) -> u32 {
    u32::try_from(bytes / 1_000_000).unwrap_or(u32::MAX)
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), middle.checked_sub(1).and_then(|below| values.get(below))) {
        (Some(upper), Some(lower)) if values.len().is_multiple_of(2) => f64::midpoint(*upper, *lower),
        (Some(value), _) => *value,
        _ => f64::NAN,
    }
}

/// The value that so many hundredths of all do not exceed.
pub fn percentile(durations: &[Duration], hundredths: usize) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * hundredths).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
