//! Reads the ```console blocks of a README and judges whether what was seen is what they show.
//!
//! A line that begins with `$ ` is typed; the lines up to the next one are shown. What differs from run to run is compared
//! by its kind: addresses by chance (not the nodes' and the cluster's own), ages, dates, the tails of Pods' names, chosen
//! ports, rule hashes made of those, times; and any run of spaces is one, since columns are as wide as what is in them.
//! Lines may come in any order (names by chance decide it). A line `...` stands for any lines. Pure.

use std::sync::LazyLock;

use regex::Regex;

/// One command of a README.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is typed, without the prompt.
    pub command: String,
    /// What is shown, line by line.
    pub shown: Vec<String>,
}

/// The steps of all console blocks, in order.
pub fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match (line, line.strip_prefix("$ "), steps.last_mut()) {
            ("```console", ..) => inside = true,
            ("```", ..) => inside = false,
            (_, Some(command), _) if inside => steps.push(Step {
                command: command.to_owned(),
                shown: Vec::new(),
            }),
            (_, None, Some(step)) if inside => step.shown.push(line.to_owned()),
            _ => {}
        }
    }
    steps
}

/// Whether `seen` is what `shown` promises.
///
/// # Errors
/// The first shown line that was not seen, or seen line that was not shown, by kind.
pub fn compare(shown: &[String], seen: &str) -> Result<(), String> {
    let more_allowed = shown.iter().any(|line| line == "...");
    let mut left: Vec<String> = seen.lines().map(by_kind).filter(|line| !line.is_empty()).collect();
    for line in shown
        .iter()
        .filter(|line| *line != "...")
        .map(|line| by_kind(line))
        .filter(|line| !line.is_empty())
    {
        match left.iter().position(|other| *other == line) {
            Some(index) => drop(left.remove(index)),
            None => return Err(format!("not seen: {line}")),
        }
    }
    match left.first() {
        Some(line) if !more_allowed => Err(format!("not in the README: {line}")),
        _ => Ok(()),
    }
}

/// A line with what differs from run to run replaced by the name of its kind.
fn by_kind(line: &str) -> String {
    static KINDS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", "<date>"),
            (r"\b10[.]96[.]0[.](1|10)\b", "<fixed-$1>"),
            (r"\b(10[.]\d+|192[.]168)[.]\d+[.]\d+\b", "<ip>"),
            (r"\b10-\d+-\d+-\d+\b", "<ip-with-dashes>"),
            (
                r"\b([a-z][a-z0-9-]*)-[a-z0-9]{8,10}-[bcdfghjklmnpqrstvwxz2456789]{5}\b",
                "$1-<pod>",
            ),
            (
                r"\b([a-z][a-z0-9-]*)-[bcdfghjklmnpqrstvwxz2456789]{5}\b(.*IPv4)",
                "$1-<slice>$2",
            ),
            (r"KUBE-SEP-[A-Z2-7]{16}", "KUBE-SEP-<hash>"),
            (r"80:3\d{4}/TCP", "80:<node-port>/TCP"),
            (r"\btime \d+ms", "time <ms>"),
            (r"\b\d+(ms|s|m|m\d+s)(\s|$)", "<age>$2"),
            (r"\bworker\d\b", "<worker>"),
            (r"\s+", " "),
        ]
        .into_iter()
        .map(|(pattern, kind)| (Regex::new(pattern).expect("a constant that the tests below use"), kind))
        .collect()
    });
    let line = KINDS.iter().fold(line.to_owned(), |line, (pattern, kind)| {
        pattern.replace_all(&line, *kind).into_owned()
    });
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_readme_is_commands_and_what_they_show() {
        let readme = "text\n```console\n$ a\none\n\ntwo\n$ b\n```\n$ not typed\n```yaml\nx: 1\n```\n";
        let step = |command: &str, lines: &[&str]| Step {
            command: command.to_owned(),
            shown: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        assert_eq!(steps(readme), [step("a", &["one", "", "two"]), step("b", &[])]);
    }

    #[test]
    fn what_differs_from_run_to_run_is_compared_by_kind() {
        let readme = shown(
            "NAME                   READY   AGE   IP           NODE\n\
             web-6c9f4d8b5d-4xk2p   1/1     2s    10.244.1.2   worker1\n\
             web-6c9f4d8b5d-w8n7v   1/1     2s    10.244.2.2   worker2",
        );
        let seen = "NAME                   READY   AGE     IP            NODE\n\
                    web-77dcccb96-5sx8z    1/1     3m17s   10.244.2.13   worker2\n\
                    web-77dcccb96-zn2rt    1/1     3m17s   10.244.1.4    worker1\n";
        assert_eq!(compare(&readme, seen), Ok(()));
    }

    #[test]
    fn what_does_not_differ_must_be_equal() {
        for (readme, seen) in [
            ("service/web created", "service/web configured"),
            ("web 1/1 2s", "web 0/1 2s"),
            ("10.96.0.10", "10.96.0.1"),
            ("10.96.0.10", "10.244.0.3"),
            ("172.30.0.10", "172.30.0.11"),
            ("web. 30 IN A 10.244.1.2", "web. 5 IN A 10.244.1.2"),
            ("80:30080/TCP", "8080:30080/TCP"),
            ("time 0ms", "time out"),
        ] {
            assert!(compare(&shown(readme), seen).is_err(), "{readme} is not {seen}");
        }
    }

    #[test]
    fn lines_may_be_neither_missing_nor_too_many_unless_the_readme_says_so() {
        assert!(compare(&shown("a\na"), "a\n").is_err());
        assert!(compare(&shown("a"), "a\na\n").is_err());
        assert_eq!(compare(&shown("...\na"), "x\na\ny\n"), Ok(()));
        assert!(compare(&shown("...\na"), "x\n").is_err());
        assert_eq!(compare(&[], ""), Ok(()));
        assert!(compare(&[], "x").is_err());
    }
}
