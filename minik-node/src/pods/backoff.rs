//! The delay before a container is started again or an image looked for again, as client-go's
//! `flowcontrol.Backoff` keeps it for the kubelet. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::probe::go;

/// First delay (`initialBackOff`).
const FIRST: SignedDuration = SignedDuration::from_secs(10);
/// Longest delay (`MaxContainerBackOff`); twice this without a failure starts over.
const LONGEST: SignedDuration = SignedDuration::from_secs(300);

/// Failures of one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    delay: SignedDuration,
    updated: Timestamp,
}

impl Backoff {
    /// When something that ended at `since` is tried again at `now`, given what came before.
    #[must_use]
    pub fn next(before: Option<Self>, since: Timestamp, now: Timestamp) -> Self {
        let delay = match before.filter(|before| !before.expired(since)) {
            Some(before) => (before.delay * 2).min(LONGEST),
            None => FIRST,
        };
        Self { delay, updated: now }
    }

    /// Until when to wait after something ended at `since`; `None` when nothing needs waiting for at `now`.
    #[must_use]
    pub fn wait(self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let until = since.saturating_add(self.delay).unwrap_or(Timestamp::MAX);
        (!self.expired(since) && now < until).then_some(until)
    }

    /// The delay as Go prints durations: `10s`, `1m20s`, `5m0s`.
    #[must_use]
    pub fn text(self) -> String {
        go::duration(self.delay.unsigned_abs())
    }

    /// Whether what ended at `since` ran for so long that it is a first failure again.
    fn expired(self, since: Timestamp) -> bool {
        since.duration_since(self.updated) > LONGEST * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn delays_double_to_five_minutes() {
        let mut backoff = None;
        let mut texts = Vec::new();
        for _ in 0..7 {
            let next = Backoff::next(backoff, at(0), at(0));
            texts.push(next.text());
            backoff = Some(next);
        }
        assert_eq!(texts, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
    }

    #[test]
    fn a_run_of_ten_minutes_starts_over() {
        let late = Backoff::next(Some(Backoff::next(None, at(0), at(0))), at(0), at(0));
        assert_eq!(Backoff::next(Some(late), at(601), at(601)).text(), "10s");
        assert_eq!(late.wait(at(601), at(601)), None);
        // What ran for less waits its time, however long ago it was started.
        assert_eq!(late.wait(at(599), at(602)), Some(at(619)));
    }

    #[test]
    fn waiting_counts_from_the_end_of_the_container() {
        let backoff = Backoff::next(None, at(0), at(0));
        assert_eq!(backoff.wait(at(5), at(6)), Some(at(15)));
        assert_eq!(backoff.wait(at(5), at(15)), None);
    }
}
