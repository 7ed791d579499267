//! The architecture's invariants that can be read off the source: which crate may know which, which
//! modules are pure, and who may touch the kernel. ARCHITECTURE.md states them; this holds them.

use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
        .to_owned()
}

/// Every Rust file under `path` (a file or a folder), with its text up to an inline test module.
fn sources(path: &str) -> Vec<(String, String)> {
    let root = workspace();
    let mut found = Vec::new();
    let mut pending = vec![root.join(path)];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("readable source folder");
            pending.extend(entries.map(|e| e.expect("readable entry").path()));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("readable source file");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            let name = path
                .strip_prefix(&root)
                .expect("under the workspace")
                .display()
                .to_string();
            found.push((name, code));
        }
    }
    assert!(!found.is_empty(), "{path} holds no Rust source: was it moved?");
    found
}

/// Lines of code (comments left out) that contain one of `needles`.
fn offences(files: &[(String, String)], needles: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, code) in files {
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            if needles.iter().any(|needle| line.contains(needle)) {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

fn outside<'a>(files: &'a [(String, String)], allowed: &[&str]) -> Vec<(String, String)> {
    files
        .iter()
        .filter(|(name, _)| !allowed.iter().any(|a| name.starts_with(a)))
        .cloned()
        .collect()
}

#[test]
fn the_node_agent_does_not_know_the_api_server() {
    let manifest = fs::read_to_string(workspace().join("minik-node/Cargo.toml")).expect("manifest");
    assert!(
        !manifest.contains("minik-api"),
        "minik-node must not depend on minik-api"
    );
    let manifest = fs::read_to_string(workspace().join("minik-api/Cargo.toml")).expect("manifest");
    assert!(
        !manifest.contains("minik-node"),
        "minik-api must not depend on minik-node"
    );
}

#[test]
fn decisions_are_pure() {
    let mut files = Vec::new();
    for path in [
        "minik-node/src/plan",
        "minik-node/src/model",
        "minik-node/src/proxy/iptables/compile.rs",
        "minik-node/src/proxy/iptables/ruleset.rs",
        "minik-api/src/storage/mvcc.rs",
        "minik-api/src/alloc",
        "minik-api/src/resource",
    ] {
        files.extend(sources(path));
    }
    let found = offences(
        &files,
        &[
            "tokio::",
            "std::fs",
            "std::process",
            "Timestamp::now",
            "Instant::now",
            "SystemTime::now",
            "HashMap",
            "HashSet",
        ],
    );
    assert!(
        found.is_empty(),
        "pure modules do IO, read a clock or iterate in no order:\n{}",
        found.join("\n")
    );
}

#[test]
fn only_kernel_enters_namespaces_and_speaks_netlink() {
    let files = [sources("minik-node/src"), sources("minik-cli/src")].concat();
    let found = offences(
        &outside(&files, &["minik-node/src/kernel/", "minik-node/src/runtime/"]),
        &["setns(", "unshare(", "rtnetlink::new_connection", "netlink_sys"],
    );
    assert!(
        found.is_empty(),
        "namespaces and netlink belong to kernel/:\n{}",
        found.join("\n")
    );
}

#[test]
fn only_runtime_and_the_supervisor_start_processes() {
    let files = sources("minik-node/src");
    let found = offences(
        &outside(
            &files,
            &[
                "minik-node/src/kernel/",
                "minik-node/src/runtime/",
                "minik-node/src/proxy/iptables/kernel.rs",
            ],
        ),
        &["Command::new", "fork(", "execve", "posix_spawn"],
    );
    assert!(
        found.is_empty(),
        "programs are run by kernel/ and the proxy's kernel.rs, containers by runtime/:\n{}",
        found.join("\n")
    );
}
