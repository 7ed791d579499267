//! How long a child that ended stays down. Pure: what is measured comes in.

use std::time::Duration;

/// After the first end.
const FIRST: Duration = Duration::from_millis(10);
/// At most.
const LONGEST: Duration = Duration::from_secs(10);
/// At most for a child that other hands killed: it is not to blame, and is missed.
const KILLED: Duration = Duration::from_millis(320);
/// A child that lived this long was well: its next end counts as a first.
const WELL: Duration = Duration::from_secs(10);

/// One child's delays.
#[derive(Debug, Default)]
pub struct Backoff {
    last: Option<Duration>,
    in_a_row: u32,
}

impl Backoff {
    /// The delay before the next start of a child that has just ended after living for `lived`; `killed` if by SIGKILL.
    pub fn after(&mut self, lived: Duration, killed: bool) -> Duration {
        let well = lived >= WELL;
        self.in_a_row = if well { 1 } else { self.in_a_row.saturating_add(1) };
        let delay = match self.last {
            Some(last) if !well => (last * 2).min(if killed { KILLED } else { LONGEST }),
            _ => FIRST,
        };
        self.last = Some(delay);
        delay
    }

    /// How many ends there were since the child was last well.
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_ten_seconds() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..13)
            .map(|_| backoff.after(Duration::ZERO, false).as_millis())
            .collect();
        assert_eq!(
            delays,
            [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_000, 10_000, 10_000]
        );
    }

    #[test]
    fn one_that_is_killed_again_and_again_is_back_within_a_second() {
        let mut backoff = Backoff::default();
        let longest = (0..20).map(|_| backoff.after(Duration::ZERO, true)).max();
        assert_eq!(longest, Some(Duration::from_millis(320)));
    }

    #[test]
    fn starts_over_after_ten_seconds_of_life() {
        let mut backoff = Backoff::default();
        backoff.after(Duration::ZERO, false);
        backoff.after(Duration::ZERO, false);
        assert_eq!(
            backoff.after(Duration::from_millis(9_999), false),
            Duration::from_millis(40)
        );
        assert_eq!(backoff.in_a_row(), 3);
        assert_eq!(backoff.after(Duration::from_secs(10), false), Duration::from_millis(10));
        assert_eq!(backoff.in_a_row(), 1);
    }
}
