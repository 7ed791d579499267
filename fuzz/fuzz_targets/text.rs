//! Values with a grammar of their own: quantities, schedules and the times they are due.
#![no_main]

use jiff::{Timestamp, tz::TimeZone};
use libfuzzer_sys::fuzz_target;
use minik_api::resource::cron::Schedule;
use minik_api::resource::validation::quantity::Quantity;

fuzz_target!(|text: &str| {
    if let Ok(quantity) = Quantity::parse(text) {
        let _amount: i128 = quantity.nanos();
    }
    if let Ok(schedule) = Schedule::parse(text)
        && let Some(due) = schedule.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC)
    {
        assert!(due > Timestamp::UNIX_EPOCH, "time goes on");
    }
});
