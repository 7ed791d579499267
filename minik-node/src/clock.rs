//! The clock that a node's waits are measured by, and word of a step of the machine's.
//!
//! The kernel's wall clock is set by people, by time servers, and by a laptop that wakes. What is waited for (a back-off, a
//! grace period, the next probe) must neither be over at once then, nor stand still for hours. So decisions are given a
//! steady time: the wall clock's when the process began, and what the monotonic clock has counted since. What is written for
//! others to read (statuses, events, Leases, logs) is dated by the wall clock, and so is what Kubernetes counts from such a
//! date: `activeDeadlineSeconds`, the life of a token.

use std::io;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// A moment of the wall clock that never comes: the kernel counts in 64 bits of nanoseconds.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// A clock that nobody sets. It starts at the wall clock's time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    began: Instant,
}

impl Clock {
    /// One that begins now. Two of them agree only if no step came between; a process needs one.
    #[must_use]
    pub fn start() -> Self {
        Self {
            wall: Timestamp::now(),
            began: Instant::now(),
        }
    }

    /// The time by it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wall.saturating_add(self.began.elapsed()).unwrap_or(Timestamp::MAX)
    }

    /// How far the wall clock is ahead of it by now.
    #[must_use]
    pub fn ahead(&self) -> SignedDuration {
        Timestamp::now().duration_since(self.now())
    }
}

/// Tells of every step of the wall clock, as a change of the value. Needs a tokio runtime; nothing is polled.
///
/// # Errors
/// Those of `timerfd_create(2)` and `timerfd_settime(2)`.
pub fn steps() -> io::Result<watch::Receiver<()>> {
    let timer = TimerFd::new(
        ClockId::CLOCK_REALTIME,
        TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
    )?;
    timer.set(
        Expiration::OneShot(TimeSpec::from_duration(NEVER)),
        TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET,
    )?;
    // SAFETY: the descriptor lives and stays the same for as long as the `TimerFd` that owns it.
    let timer = unsafe { AsyncFd::register_with_interest(Timer(timer), Interest::READABLE) }?;
    let (sender, receiver) = watch::channel(());
    tokio::spawn(async move {
        loop {
            let ready = tokio::select! {
                ready = timer.readable() => ready,
                () = sender.closed() => return,
            };
            // Reading is what makes the timer wait for the next step.
            match ready.map(|mut ready| ready.try_io(|timer| Ok(timer.get_ref().0.wait()?))) {
                Ok(Ok(Ok(()))) => sender.send_replace(()),
                Ok(Err(_nothing_yet)) => {}
                Ok(Ok(Err(error))) | Err(error) => {
                    tracing::warn!(%error, "steps of the clock are not noticed any more");
                    return sender.closed().await;
                }
            }
        }
    });
    Ok(receiver)
}

/// For tokio to wait on.
struct Timer(TimerFd);

impl std::os::fd::AsRawFd for Timer {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(&self.0).as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_with_the_wall_clock_until_that_is_set() {
        let clock = Clock::start();
        assert!(clock.ahead().abs() < SignedDuration::from_secs(1));
        assert!(clock.now() <= clock.now());
    }

    #[test]
    fn a_clock_that_was_set_is_ahead_or_behind_by_so_much() {
        let hours = SignedDuration::from_hours(3);
        let set_back = Clock {
            wall: Timestamp::now() + hours,
            began: Instant::now(),
        };
        assert_eq!((set_back.ahead() + hours).as_secs(), 0);
    }

    #[tokio::test]
    async fn no_step_is_no_word() {
        let mut steps = steps().unwrap();
        let told = tokio::time::timeout(Duration::from_millis(50), steps.changed()).await;
        assert!(told.is_err(), "nobody set the clock: {told:?}");
    }
}
