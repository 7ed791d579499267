//! Schedules of CronJobs: the syntax, five fields or a `@name`, judged in the words of the parser that Kubernetes
//! uses (robfig/cron v3, `ParseStandard`); and in [`next`](Schedule::next) when a schedule is due. Pure.

mod next;

use jiff::tz::TimeZone;

/// A field: its least and greatest number, and names for some of them.
struct Bounds {
    least: u32,
    most: u32,
    names: &'static [&'static str],
    /// The number of the first name.
    first: u32,
}

const fn numbers(least: u32, most: u32) -> Bounds {
    Bounds {
        least,
        most,
        names: &[],
        first: 0,
    }
}

const FIELDS: [Bounds; 5] = [
    numbers(0, 59),
    numbers(0, 23),
    numbers(1, 31),
    Bounds {
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
        first: 1,
        ..numbers(1, 12)
    },
    Bounds {
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
        ..numbers(0, 6)
    },
];
/// Schedules with a name, and the fields that they stand for.
const NAMED: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
const EVERY: &str = "@every ";
/// Units of Go's durations, in seconds.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// A schedule, ready to say when it is due.
#[derive(Debug, Clone)]
pub struct Schedule {
    rule: Rule,
    /// The zone that the schedule itself names; it goes before the CronJob's.
    zone: Option<TimeZone>,
}

#[derive(Debug, Clone)]
enum Rule {
    /// So many seconds after the last time.
    Every(i64),
    /// At these minutes, hours, days of the month, months, and days of the week.
    At([Field; 5]),
}

/// The numbers that a field allows, one bit each.
#[derive(Debug, Clone, Copy, Default)]
struct Field {
    bits: u64,
    /// Whether `*` or `?` is among its parts, without a step.
    any: bool,
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(schedule: &str) -> Result<Self, String> {
        let (schedule, zone) = zone_removed(schedule)?;
        let rule = if let Some(wait) = schedule.strip_prefix(EVERY) {
            let seconds =
                duration(wait).map_err(|problem| format!("failed to parse duration {schedule}: {problem}"))?;
            // Whole seconds, and no fewer than one. Validation has bounded the text, so the cast saturates at most.
            Rule::Every((seconds as i64).max(1))
        } else if schedule.starts_with('@') {
            let named = NAMED.iter().find(|(name, _)| *name == schedule);
            let (_, fields) = named.ok_or_else(|| format!("unrecognized descriptor: {schedule}"))?;
            Rule::At(fields_of(fields)?)
        } else {
            Rule::At(fields_of(schedule)?)
        };
        Ok(Self { rule, zone })
    }
}

fn fields_of(schedule: &str) -> Result<[Field; 5], String> {
    let texts: Vec<&str> = schedule.split_whitespace().collect();
    if texts.len() != FIELDS.len() {
        let found = texts.len();
        return Err(format!(
            "expected exactly 5 fields, found {found}: [{}]",
            texts.join(" ")
        ));
    }
    let mut fields = [Field::default(); 5];
    for ((field, text), bounds) in fields.iter_mut().zip(texts).zip(&FIELDS) {
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let part = range(part, bounds)?;
            field.bits |= part.bits;
            field.any |= part.any;
        }
    }
    Ok(fields)
}

/// The schedule after `TZ=…` or `CRON_TZ=…`, and that zone.
fn zone_removed(schedule: &str) -> Result<(&str, Option<TimeZone>), String> {
    let zoned = schedule
        .strip_prefix("CRON_TZ=")
        .or_else(|| schedule.strip_prefix("TZ="));
    let Some((zone, rest)) = zoned.and_then(|rest| rest.split_once(' ')) else {
        return Ok((schedule, None));
    };
    match TimeZone::get(zone) {
        Ok(zone) => Ok((rest.trim(), Some(zone))),
        Err(_) => Err(format!("provided bad location {zone}: unknown time zone {zone}")),
    }
}

/// `*`, `N`, `N-M`, each perhaps with `/STEP`.
fn range(part: &str, bounds: &Bounds) -> Result<Field, String> {
    let steps: Vec<&str> = part.split('/').collect();
    let ends: Vec<&str> = steps[0].split('-').collect();
    let (first, last) = match ends.as_slice() {
        ["*" | "?"] => (bounds.least, bounds.most),
        [one] => {
            let first = number(one, bounds)?;
            (first, first)
        }
        [first, last] if *first != "*" && *first != "?" => (number(first, bounds)?, number(last, bounds)?),
        [_, _] => (bounds.least, bounds.most),
        _ => return Err(format!("too many hyphens: {part}")),
    };
    let (mut last, mut step) = (last, 1);
    match steps.as_slice() {
        [_] => {}
        [_, text] => {
            step = plain(text)?;
            if ends.len() == 1 {
                last = bounds.most;
            }
        }
        _ => return Err(format!("too many slashes: {part}")),
    }
    let (least, most) = (bounds.least, bounds.most);
    if first < least {
        return Err(format!("beginning of range ({first}) below minimum ({least}): {part}"));
    }
    if last > most {
        return Err(format!("end of range ({last}) above maximum ({most}): {part}"));
    }
    if first > last {
        return Err(format!(
            "beginning of range ({first}) beyond end of range ({last}): {part}"
        ));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    let numbers = (first..=last).step_by(step as usize);
    Ok(Field {
        bits: numbers.fold(0, |bits, number| bits | 1 << number),
        any: step == 1 && matches!(ends[0], "*" | "?"),
    })
}

fn number(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match bounds
        .names
        .iter()
        .zip(bounds.first..)
        .find(|(name, _)| **name == lower)
    {
        Some((_, number)) => Ok(number),
        None => plain(text),
    }
}

fn plain(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
        Err(_) => {
            let problem = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
            Err(format!("failed to parse int from {text}: {problem}"))
        }
    }
}

/// A duration as Go writes it, `1h30m`, in seconds.
fn duration(text: &str) -> Result<f64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0.0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let unit_at = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (amount, tail) = rest.split_at(unit_at);
        let Ok(amount) = amount.parse::<f64>() else {
            return Err(invalid());
        };
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some((_, seconds)) = UNITS.iter().find(|(known, _)| *known == unit) else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        total += amount * seconds;
        rest = tail;
    }
    Ok(sign * total)
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn schedules_are_read_as_robfig_cron_reads_them() {
        for good in [
            "*/5 * * * *",
            "0 0 1 jan MON-fri",
            "1,2,3-9/2 ? * * 0",
            "@hourly",
            "@every 1h30m",
            "59 23 31 12 6",
        ] {
            assert_eq!(Schedule::parse(good).err(), None, "{good}");
        }
        let cases = [
            ("", "expected exactly 5 fields, found 0: []"),
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* 5-3 * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            (
                "a * * * *",
                "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
            ),
            ("@often", "unrecognized descriptor: @often"),
            (
                "@every soon",
                "failed to parse duration @every soon: time: invalid duration \"soon\"",
            ),
        ];
        for (bad, text) in cases {
            assert_eq!(Schedule::parse(bad).err().as_deref(), Some(text), "{bad}");
        }
    }
}
