//! The syntax of a schedule, five fields or a `@name`, judged in the words of the parser that Kubernetes
//! uses (robfig/cron v3, `ParseStandard`). Says whether a schedule can be read, never when it is due.

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
const NAMED: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];
const EVERY: &str = "@every ";
/// Units of Go's durations.
const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];

/// Checks a schedule.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let schedule = zone_removed(schedule)?;
    if let Some(wait) = schedule.strip_prefix(EVERY) {
        return duration(wait).map_err(|problem| format!("failed to parse duration {schedule}: {problem}"));
    }
    if schedule.starts_with('@') {
        let known = NAMED.contains(&schedule);
        return if known {
            Ok(())
        } else {
            Err(format!("unrecognized descriptor: {schedule}"))
        };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let found = fields.len();
        return Err(format!(
            "expected exactly 5 fields, found {found}: [{}]",
            fields.join(" ")
        ));
    }
    let mut parts = fields.iter().zip(&FIELDS).flat_map(|(field, bounds)| {
        let ranges = field.split(',').filter(|part| !part.is_empty());
        ranges.map(move |part| range(part, bounds))
    });
    parts.try_for_each(|checked| checked)
}

/// The schedule after `TZ=…` or `CRON_TZ=…`.
fn zone_removed(schedule: &str) -> Result<&str, String> {
    let zoned = schedule
        .strip_prefix("CRON_TZ=")
        .or_else(|| schedule.strip_prefix("TZ="));
    let Some((zone, rest)) = zoned.and_then(|rest| rest.split_once(' ')) else {
        return Ok(schedule);
    };
    match jiff::tz::TimeZone::get(zone) {
        Ok(_) => Ok(rest.trim()),
        Err(_) => Err(format!("provided bad location {zone}: unknown time zone {zone}")),
    }
}

/// `*`, `N`, `N-M`, each perhaps with `/STEP`.
fn range(part: &str, bounds: &Bounds) -> Result<(), String> {
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
    Ok(())
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

/// A duration as Go writes it: `1h30m`.
fn duration(text: &str) -> Result<(), String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let unit_at = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (amount, tail) = rest.split_at(unit_at);
        if amount.parse::<f64>().is_err() {
            return Err(invalid());
        }
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        if !UNITS.contains(&unit) {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        }
        rest = tail;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

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
            assert_eq!(check(good), Ok(()), "{good}");
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
            assert_eq!(check(bad), Err(text.to_owned()), "{bad}");
        }
    }
}
