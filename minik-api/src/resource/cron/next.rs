//! When a schedule is due: the next minute, as clocks in its zone show it, that all fields allow.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

use super::{Field, Rule, Schedule};

/// A schedule that is not due within so many years never is: 29 February comes sooner.
const YEARS: i16 = 5;
const MINUTE: i64 = 60;

impl Field {
    fn allows(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.bits & 1 << number != 0)
    }
}

impl Schedule {
    /// The first time later than `after` that the schedule is due on clocks of `zone`, or of the zone that it
    /// names itself. Where clocks are put forward what falls into the gap is left out; where they are put back it
    /// is due twice, as with robfig/cron.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(seconds) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(SignedDuration::from_secs(*seconds)).ok()
            }
            Rule::At(fields) => next_minute(fields, after, self.zone.as_ref().unwrap_or(zone)),
        }
    }
}

fn next_minute(fields: &[Field; 5], after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let [minutes, hours, ..] = fields;
    // A field of commas alone allows nothing.
    if minutes.bits == 0 || hours.bits == 0 {
        return None;
    }
    let start = (after.as_second().div_euclid(MINUTE) + 1) * MINUTE;
    let mut now = Timestamp::from_second(start).ok()?.to_zoned(zone.clone());
    let last = now.year().checked_add(YEARS)?;
    while now.year() <= last {
        if !is_a_day(fields, &now) {
            now = midnight_after(&now)?;
        } else if hours.allows(now.hour()) && minutes.allows(now.minute()) {
            return Some(now.timestamp());
        } else {
            now = now.checked_add(1.minute()).ok()?;
        }
    }
    None
}

/// Either day field decides when both are given, both must allow the day when one is `*`.
fn is_a_day([_, _, days, months, weekdays]: &[Field; 5], now: &Zoned) -> bool {
    let of_month = days.allows(now.day());
    let of_week = weekdays.allows(now.weekday().to_sunday_zero_offset());
    let day = if days.any || weekdays.any {
        of_month && of_week
    } else {
        of_month || of_week
    };
    months.allows(now.month()) && day
}

fn midnight_after(now: &Zoned) -> Option<Zoned> {
    let tomorrow = now.date().tomorrow().ok()?;
    tomorrow
        .to_datetime(Time::midnight())
        .to_zoned(now.time_zone().clone())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(schedule: &str, after: &str, zone: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(schedule).unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let mut now: Timestamp = after.parse().unwrap();
        let mut seen = Vec::new();
        for _ in 0..count {
            now = schedule.next(now, &zone).unwrap();
            seen.push(now.to_zoned(zone.clone()).strftime("%F %H:%M").to_string());
        }
        seen
    }

    /// The cases of robfig/cron's documentation and of `man 5 crontab`.
    #[test]
    fn schedules_are_due_when_the_clock_shows_it() {
        let after = "2026-11-21T10:03:30Z";
        let cases: [(&str, [&str; 2]); 9] = [
            ("*/5 * * * *", ["2026-11-21 10:05", "2026-11-21 10:10"]),
            ("3 * * * *", ["2026-11-21 11:03", "2026-11-21 12:03"]),
            ("0 0 * * MON-fri", ["2026-11-23 00:00", "2026-11-24 00:00"]),
            // Both day fields given: either decides.
            ("0 0 13 * 5", ["2026-11-27 00:00", "2026-12-04 00:00"]),
            // A step makes it a field that is given: 1, 3, 5 … of the month, or a Friday.
            ("0 0 */2 * 5", ["2026-11-23 00:00", "2026-11-25 00:00"]),
            ("30 8 29 2 *", ["2028-02-29 08:30", "2032-02-29 08:30"]),
            ("@weekly", ["2026-11-22 00:00", "2026-11-29 00:00"]),
            ("@monthly", ["2026-12-01 00:00", "2027-01-01 00:00"]),
            ("CRON_TZ=Asia/Tokyo 0 9 * * *", ["2026-11-22 00:00", "2026-11-23 00:00"]),
        ];
        for (schedule, expected) in cases {
            assert_eq!(due(schedule, after, "UTC", 2), expected, "{schedule}");
        }
        let every = Schedule::parse("@every 1m30s").unwrap();
        let next = every.next(after.parse().unwrap(), &TimeZone::UTC);
        assert_eq!(next, "2026-11-21T10:05:00Z".parse().ok());
    }

    /// Clocks in New York went from 02:00 to 03:00 on 2026-03-08, and go from 02:00 to 01:00 on 2026-11-01.
    #[test]
    fn clocks_that_are_put_forward_leave_out_and_put_back_repeat() {
        let zone = "America/New_York";
        let forward = due("30 2 * * *", "2026-03-07T12:00:00Z", zone, 1);
        assert_eq!(forward, ["2026-03-09 02:30"]);
        let back = due("30 1 * * *", "2026-11-01T04:00:00Z", zone, 3);
        assert_eq!(back, ["2026-11-01 01:30", "2026-11-01 01:30", "2026-11-02 01:30"]);
    }

    #[test]
    fn what_never_comes_is_not_waited_for() {
        let schedule = Schedule::parse("0 0 30 2 *").unwrap();
        assert_eq!(schedule.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    }

    #[test]
    fn no_hour_and_no_minute_are_never() {
        for schedule in [", * * * *", "* , * * *"] {
            let schedule = Schedule::parse(schedule).unwrap();
            assert_eq!(schedule.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
        }
    }
}
