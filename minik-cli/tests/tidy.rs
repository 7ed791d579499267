//! What the compiler does not check and ARCHITECTURE.md promises: where things may happen, how long a file gets, that
//! documents name what exists. Reads the sources as text; needs nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::path::{Path, PathBuf};

/// One idea a file; past this it is two. A file that must be longer is named here with the reason.
const LINES: usize = 500;
const LONGER: &[(&str, &str)] = &[];

/// Parts that decide: same input, same output, on any machine at any time (invariant 2).
const PURE: &[&str] = &[
    "minik-api/src/alloc/",
    "minik-api/src/controllers/cronjob/due",
    "minik-api/src/controllers/cronjob/plan",
    "minik-api/src/controllers/daemonset/placement",
    "minik-api/src/controllers/daemonset/plan",
    "minik-api/src/controllers/daemonset/rollout",
    "minik-api/src/controllers/deployment/plan",
    "minik-api/src/controllers/job/manage",
    "minik-api/src/controllers/job/plan",
    "minik-api/src/controllers/job/tally",
    "minik-api/src/controllers/replicaset/plan",
    "minik-api/src/controllers/statefulset/claims",
    "minik-api/src/controllers/statefulset/identity",
    "minik-api/src/controllers/statefulset/plan",
    "minik-api/src/resource/cron/",
    "minik-api/src/storage/mvcc",
    "minik-node/src/model/",
    "minik-node/src/plan/",
    "minik-node/src/pods/backoff",
    "minik-node/src/pods/decide",
    "minik-node/src/pods/env_file",
    "minik-node/src/pods/probes",
    "minik-node/src/pods/status",
    "minik-node/src/probe/schedule",
    "minik-node/src/trace/",
    "minik-node/src/proxy/iptables/compile",
    "minik-node/src/proxy/iptables/explain",
    "minik-node/src/proxy/iptables/plan",
    "minik-node/src/proxy/iptables/ruleset",
    "minik-node/src/proxy/iptables/service",
];

/// What a part that decides must not know.
const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "HashMap",
    "HashSet",
];

/// What only some folders may do, and which (invariant 3).
const DOORS: &[(&str, &[&str])] = &[
    ("setns(", &["minik-node/src/kernel/", "minik-node/src/runtime/"]),
    ("rtnetlink::", &["minik-node/src/kernel/"]),
    (
        "Command::new(",
        &[
            "minik-node/src/kernel/",
            "minik-node/src/runtime/",
            "minik-node/src/proxy/iptables/kernel.rs",
            "minik-cli/src/",
        ],
    ),
];

#[test]
fn no_file_is_too_long_and_each_says_what_it_is_for() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > LINES && !LONGER.iter().any(|(name, _)| *name == path) {
            wrong.push(format!("{path}: {lines} lines, and no reason in tidy.rs"));
        }
        // A module's own tests are spoken for by the module.
        if !text.starts_with("//!") && !path.ends_with("tests.rs") {
            wrong.push(format!(
                "{path}: does not open with `//!`: what it owns, what it never does"
            ));
        }
    }
    for (name, _) in LONGER {
        if read(name).lines().count() <= LINES {
            wrong.push(format!("{name}: no longer too long, but still in tidy.rs"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_unfinished_or_switched_off() {
    let words = ["todo!(", "unimplemented!(", "FIXME", "XXX", "TODO", "#[ignore"];
    let mut wrong = Vec::new();
    for (path, text) in sources().filter(|(path, _)| path != "minik-cli/tests/tidy.rs") {
        for (number, line) in text.lines().enumerate() {
            wrong.extend(
                words
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{path}:{}: {word}", number + 1)),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_node_does_not_know_the_api_server() {
    let manifest = read("minik-node/Cargo.toml");
    assert!(
        !manifest.contains("minik-api"),
        "invariant 1: an agent serves any Kubernetes API server"
    );
}

#[test]
fn what_decides_touches_nothing() {
    let mut wrong = Vec::new();
    // A part's tests may hold it against the kernel.
    let pure = |path: &str| PURE.iter().any(|part| path.starts_with(part)) && !path.contains("/tests/");
    for (path, text) in sources().filter(|(path, _)| pure(path)) {
        for (number, line) in code(&text) {
            wrong.extend(
                IMPURE
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{path}:{number}: {word}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_kernel_is_reached_by_one_door() {
    let mut wrong = Vec::new();
    let tests = ["/tests/", "/benches/", "tests.rs", "minik-node/src/private_net.rs"];
    for (path, text) in sources().filter(|(path, _)| !tests.iter().any(|part| path.contains(part))) {
        for (number, line) in code(&text) {
            for (word, folders) in DOORS {
                if line.contains(word) && !folders.iter().any(|folder| path.starts_with(folder)) {
                    wrong.push(format!("{path}:{number}: {word}…) belongs in {}", folders.join(" or ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn documents_name_what_exists() {
    let mut wrong = Vec::new();
    for document in [
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "DECISIONS.md",
        "README.md",
        "README.zh.md",
    ] {
        for path in paths_in(&read(document)) {
            if !root().join(&path).exists() {
                wrong.push(format!("{document}: {path} is not there"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_are_told_from_other_words() {
    let text = "See `minik-node/src/plan/`, (scripts/test) and [it](examples/a/README.md#x); not and/or, /run/minik, `minik up`, scripts/";
    assert_eq!(
        paths_in(text),
        [
            "minik-node/src/plan/",
            "scripts/test",
            "examples/a/README.md",
            "scripts/"
        ]
    );
}

/// Words of a document that are paths in this repository: those below one of its folders.
fn paths_in(text: &str) -> Vec<String> {
    const FOLDERS: &[&str] = &[
        "minik-api/",
        "minik-node/",
        "minik-cli/",
        "examples/",
        "scripts/",
        ".ci/",
        ".config/",
    ];
    text.split(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
        .map(str::to_owned)
        .collect()
}

/// The lines that do something, numbered from 1: no comments, and nothing of a file's inline tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
}

/// Every Rust file of the workspace, by its path in it.
fn sources() -> impl Iterator<Item = (String, String)> {
    let mut found = Vec::new();
    for member in ["minik-api", "minik-node", "minik-cli"] {
        collect(&root().join(member), &mut found);
    }
    assert!(found.len() > 20, "the sources are not where this test looks");
    found.sort();
    found.into_iter().map(|path| {
        let name = path
            .strip_prefix(root())
            .expect("below the root")
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&path).expect("reads a source");
        (name, text)
    })
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("reads a folder of ours").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the workspace")
}
