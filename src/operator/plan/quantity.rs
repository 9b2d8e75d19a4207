//! Kubernetes quantities as whole bytes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The most that a quantity counts; Kubernetes takes more than that for as much.
const MOST: u64 = i64::MAX.unsigned_abs();

/// The bytes of a quantity such as `256Mi`, `1.5Gi` or `1e9`, rounded down.
/// None when it is not a quantity, or negative.
///
/// Source: Kubernetes API reference, "Quantity".
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (multiplier, divisor) = factor(suffix)?;
    // At most nine decimal places count: exact, and far below one byte.
    let fraction: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let billionths = whole
        .parse::<u128>()
        .or(if whole.is_empty() { Ok(0) } else { Err(()) })
        .ok()?
        .saturating_mul(1_000_000_000)
        .saturating_add(fraction.parse::<u128>().ok()?);
    let bytes = billionths.saturating_mul(multiplier) / divisor / 1_000_000_000;
    Some(u64::try_from(bytes).map_or(MOST, |bytes| bytes.min(MOST)))
}

/// So many bytes, as people write them where that is exact.
pub(in crate::operator) fn written(count: u64) -> Quantity {
    const MEBIBYTE: u64 = 1 << 20;
    if count.is_multiple_of(MEBIBYTE) {
        Quantity(format!("{}Mi", count / MEBIBYTE))
    } else {
        Quantity(count.to_string())
    }
}

/// Whether a text is a quantity, of whichever sign.
pub(super) fn is_quantity(text: &str) -> bool {
    bytes(text.strip_prefix('-').unwrap_or(text)).is_some() && !text.starts_with("-+")
}

fn factor(suffix: &str) -> Option<(u128, u128)> {
    let binary = |power: u32| Some((1024_u128.pow(power), 1));
    let decimal = |power: u32| Some((1000_u128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => decimal(1),
        "M" => decimal(2),
        "G" => decimal(3),
        "T" => decimal(4),
        "P" => decimal(5),
        "E" => decimal(6),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_u128.saturating_pow(exponent.unsigned_abs());
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_become_bytes() {
        for (text, expected) in [
            ("1", 1),
            ("256Mi", 268_435_456),
            ("1.5Gi", 1_610_612_736),
            ("1e9", 1_000_000_000),
            ("1E3", 1000),
            ("5k", 5000),
            ("1500m", 1),
            (".5Ki", 512),
            ("1.Ki", 1024),
            ("+256Mi", 268_435_456),
            ("12e+3", 12_000),
            ("12E-3", 0),
            ("1E", 1_000_000_000_000_000_000),
            ("99999999999Ei", MOST),
            ("9223372036854775808", MOST),
            ("1e99", MOST),
            ("1e-99", 0),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_of_bytes_is_refused() {
        for text in ["", ".", "-1Mi", "++1Mi", "+", "1.2.3", "1Zi", "Mi", "1 Mi", "1e"] {
            assert_eq!(bytes(text), None, "{text}");
            assert_eq!(is_quantity(text), text == "-1Mi", "{text}");
        }
    }
}
