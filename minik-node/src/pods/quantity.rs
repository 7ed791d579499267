//! Amounts as Kubernetes writes them (`100m`, `1Gi`, `2e3`), as far as the downward API needs them. Pure.
//!
//! Source: `k8s.io/apimachinery/pkg/api/resource`; the API server has checked them before.

const NANO: i128 = 1_000_000_000;

/// Billionths of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(i128);

impl Amount {
    /// One of whatever is counted.
    pub const ONE: Self = Self(NANO);

    /// Reads a quantity; what is finer than a billionth is rounded up. `None` for what is none, or beyond all bounds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (negative, number) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let (factor, exponent) = scale(suffix)?;
        let exponent = exponent - i32::try_from(fraction.len()).ok()? + 9;
        let scaled = digits.checked_mul(factor)?;
        let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
        let nanos = if exponent >= 0 {
            scaled.checked_mul(power)?
        } else {
            div_up(scaled, power)
        };
        Some(Self(if negative { -nanos } else { nanos }))
    }

    /// Whether there is any of it.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// How many thousandths fill it.
    #[must_use]
    pub fn millis(self) -> i128 {
        div_up(self.0, NANO / 1000)
    }

    /// How many whole ones fill it.
    #[must_use]
    pub fn units(self) -> i128 {
        div_up(self.0, NANO)
    }
}

/// Quotient rounded up.
#[must_use]
pub fn div_up(dividend: i128, divisor: i128) -> i128 {
    let quotient = dividend.div_euclid(divisor);
    quotient + i128::from(dividend.rem_euclid(divisor) != 0)
}

/// Factor and power of ten that a suffix stands for.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(at) = binary.iter().position(|unit| *unit == suffix) {
        return Some((1 << (10 * (at + 1)), 0));
    }
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    if let Some(at) = decimal.iter().position(|unit| *unit == suffix) {
        return Some((1, i32::try_from(at).ok()? * 3 - 9));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    Some((1, exponent.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, millis, units) in [
            ("100m", 100, 1),
            ("1", 1000, 1),
            ("1.5", 1500, 2),
            ("0.1", 100, 1),
            ("1500m", 1500, 2),
            ("64Mi", 67_108_864_000, 67_108_864),
            ("1k", 1_000_000, 1000),
            ("2e3", 2_000_000, 2000),
            ("1E3", 1_000_000, 1000),
            ("1u", 1, 1),
            ("0", 0, 0),
            ("-1", -1000, -1),
        ] {
            let amount = Amount::parse(text).unwrap();
            assert_eq!((amount.millis(), amount.units()), (millis, units), "{text}");
        }
        assert_eq!(Amount::parse("1E").unwrap().units(), 10_i128.pow(18));
        for text in ["", "Mi", "1Q", "one", "1e99"] {
            assert_eq!(Amount::parse(text), None, "{text}");
        }
    }
}
