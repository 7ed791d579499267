//! Numbers that a spec may also give as a percentage of its Pods. Pure.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a share of a Pod goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// To the next whole Pod.
    Up,
    /// Away.
    Down,
}

/// A number, or a percentage of `whole`. Validation refuses anything else; it counts as nothing.
pub fn share(value: &IntOrString, whole: i32, round: Round) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|digits| digits.parse().ok())
                .unwrap_or(0);
            let hundredths = percent * i64::from(whole);
            let rounded = match round {
                Round::Up => (hundredths + 99) / 100,
                Round::Down => hundredths / 100,
            };
            i32::try_from(rounded).unwrap_or(i32::MAX / 2)
        }
    }
}
