//! `resource.Quantity`: parsing, comparing and the canonical text, exact within an `i128` of
//! nano-units (far beyond any resource of a lab).

use std::fmt;

/// An amount, in billionths, and the family of suffix it was written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity {
    nanos: i128,
    format: Suffixes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suffixes {
    /// `Ki`, `Mi` …
    Binary,
    /// `m`, none, `k`, `M` …
    Decimal,
    /// `e3`, `E6` …
    Exponent,
}

/// The text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct NotAQuantity;

const NANO: i128 = 1_000_000_000;
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

impl Quantity {
    /// Reads `500m`, `1.5Gi`, `1e3` …; what is finer than a billionth is rounded up, as Kubernetes does.
    ///
    /// # Errors
    /// The text is not in quantity syntax, or its amount is beyond all use.
    pub fn parse(text: &str) -> Result<Self, NotAQuantity> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let digits_end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(digits_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(NotAQuantity);
        }
        let (format, numerator, exponent) = scale(suffix)?;
        let digits: i128 = format!("{whole}{fraction}").parse().map_err(|_unread| NotAQuantity)?;
        let places = i32::try_from(fraction.len()).map_err(|_unread| NotAQuantity)?;
        let scaled = digits.checked_mul(numerator).ok_or(NotAQuantity)?;
        let magnitude = shift(scaled, exponent + 9 - places)?;
        let nanos = if text.starts_with('-') { -magnitude } else { magnitude };
        Ok(Self { nanos, format })
    }

    /// The amount in billionths.
    #[must_use]
    pub fn nanos(self) -> i128 {
        self.nanos
    }
}

/// A suffix as (family, factor, power of ten).
fn scale(suffix: &str) -> Result<(Suffixes, i128, i32), NotAQuantity> {
    if let Some(power) = BINARY.iter().position(|s| *s == suffix) {
        return Ok((Suffixes::Binary, 1_i128 << (10 * (power + 1)), 0));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((Suffixes::Decimal, 1, *power));
    }
    let power = suffix.strip_prefix(['e', 'E']).ok_or(NotAQuantity)?;
    let power: i32 = power.parse().map_err(|_unread| NotAQuantity)?;
    if power.abs() > 30 {
        return Err(NotAQuantity);
    }
    Ok((Suffixes::Exponent, 1, power))
}

/// `value * 10^power`, rounded up.
fn shift(value: i128, power: i32) -> Result<i128, NotAQuantity> {
    let factor = 10_i128.checked_pow(power.unsigned_abs());
    match (power >= 0, factor) {
        (true, Some(factor)) => value.checked_mul(factor).ok_or(NotAQuantity),
        (true, None) if value == 0 => Ok(0),
        (true, None) => Err(NotAQuantity),
        (false, Some(factor)) => Ok(value / factor + i128::from(value % factor != 0)),
        (false, None) => Ok(i128::from(value != 0)),
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANO == 0;
        if self.format == Suffixes::Binary && whole && self.nanos.abs() >= 1024 * NANO {
            let mut amount = self.nanos / NANO;
            let mut suffix = "";
            for next in BINARY {
                if amount % 1024 != 0 {
                    break;
                }
                amount /= 1024;
                suffix = next;
            }
            return write!(f, "{amount}{suffix}");
        }
        let step = DECIMAL.iter().rev().find(|(_, power)| {
            10_i128
                .checked_pow((power + 9).unsigned_abs())
                .is_some_and(|unit| self.nanos % unit == 0)
        });
        let (suffix, power) = step.copied().unwrap_or(("n", -9));
        let amount = self.nanos / 10_i128.pow((power + 9).unsigned_abs());
        match self.format {
            Suffixes::Exponent if power != 0 => write!(f, "{amount}e{power}"),
            _ => write!(f, "{amount}{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Quantity;
    use proptest::prelude::*;

    #[test]
    fn texts_are_canonical() {
        let cases = [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1", "1"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("0.5Gi", "512Mi"),
            ("1.5Gi", "1536Mi"),
            ("100m", "100m"),
            ("1e3", "1e3"),
            ("8Gi", "8Gi"),
            ("0Mi", "0"),
            ("-1", "-1"),
            ("+2", "2"),
            ("1500", "1500"),
            ("0.1n", "1n"),
            (".5", "500m"),
            ("5.", "5"),
            ("512Ki", "512Ki"),
        ];
        for (text, canonical) in cases {
            assert_eq!(
                Quantity::parse(text).map(|q| q.to_string()).as_deref(),
                Ok(canonical),
                "{text}"
            );
        }
        for text in ["", "abc", "1.2.3", "1x", "1 Gi", "--1", ".", "1ee3", "KI"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_text_is_a_fixed_point(text in "[+-]?[0-9]{1,6}(\\.[0-9]{1,4})?(m|k|M|Ki|Mi|Gi|e[0-6])?") {
            let quantity = Quantity::parse(&text).unwrap();
            let again = Quantity::parse(&quantity.to_string()).unwrap();
            prop_assert_eq!(again.nanos(), quantity.nanos());
            prop_assert_eq!(again.to_string(), quantity.to_string());
        }
    }
}
