//! How long a child that ended stays down. Pure: what is measured comes in.

use std::time::Duration;

/// After the first end.
const FIRST: Duration = Duration::from_millis(10);
/// At most.
const LONGEST: Duration = Duration::from_secs(10);
/// A child that lived this long was well: its next end counts as a first.
const WELL: Duration = Duration::from_secs(10);

/// One child's delays.
#[derive(Debug, Default)]
pub struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The delay before the next start of a child that has just ended after living for `lived`.
    pub fn after(&mut self, lived: Duration) -> Duration {
        let delay = match self.last {
            Some(last) if lived < WELL => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(delay);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_ten_seconds() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..13).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(
            delays,
            [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_000, 10_000, 10_000]
        );
    }

    #[test]
    fn starts_over_after_ten_seconds_of_life() {
        let mut backoff = Backoff::default();
        backoff.after(Duration::ZERO);
        backoff.after(Duration::ZERO);
        assert_eq!(backoff.after(Duration::from_millis(9_999)), Duration::from_millis(40));
        assert_eq!(backoff.after(Duration::from_secs(10)), Duration::from_millis(10));
    }
}
