//! Looks at the machine for [`super::judge`]. Leaves no trace: what has to be tried is tried in namespaces that
//! end with the try.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use minik_node::kernel::probe::{self, Probed};
use nix::unistd::{AccessFlags, Uid, access};

use super::{Facts, programs};
use crate::cluster::{ClusterSpec, names};
use crate::provider::conflicts::conflicts;
use crate::provider::egress::{self, EgressError};
use crate::provider::netns::ProviderError;

/// A feature, and a rule that needs it.
type Rule = (&'static str, &'static str, &'static str);

/// What kube-proxy's iptables rules are made of, one feature a rule: its name, the table, the rule.
const RULES: [Rule; 9] = [
    ("iptables nat", "nat", "-A PREROUTING -j ACCEPT"),
    ("iptables filter", "filter", "-A FORWARD -j REJECT"),
    (
        "iptables comment",
        "nat",
        "-A OUTPUT -m comment --comment probe -j ACCEPT",
    ),
    (
        "iptables conntrack",
        "filter",
        "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
    ),
    (
        "iptables statistic",
        "nat",
        "-A OUTPUT -m statistic --mode random --probability 0.5 -j ACCEPT",
    ),
    (
        "iptables recent",
        "nat",
        "-A OUTPUT -m recent --name probe --rcheck --seconds 10800 --reap -j ACCEPT",
    ),
    (
        "iptables addrtype",
        "nat",
        "-A OUTPUT -m addrtype --dst-type LOCAL -j ACCEPT",
    ),
    ("iptables MARK", "nat", "-A OUTPUT -j MARK --or-mark 0x4000"),
    (
        "iptables MASQUERADE",
        "nat",
        "-A POSTROUTING -j MASQUERADE --random-fully",
    ),
];

/// Looks at all there is to know for this cluster. The run directory must exist and be ours.
///
/// # Errors
/// [`ProviderError`] when the machine's routes cannot be read.
pub async fn look(spec: &ClusterSpec) -> Result<Facts, ProviderError> {
    let root = Uid::effective().is_root();
    if !root {
        return Ok(Facts::default());
    }
    let missing_programs: Vec<&str> = programs().filter(|name| !is_installed(name)).collect();
    let forwarding_refused_by = if spec.egress && !missing_programs.contains(&"nft") {
        egress::forwarding_refused_by().map_err(EgressError::from)?
    } else {
        Vec::new()
    };
    let can_restore = !missing_programs.contains(&"iptables-restore");
    let run_dir = names::run_dir(&spec.name);
    let (missing_features, conflicts) = tokio::join!(
        tokio::task::spawn_blocking(move || features(&run_dir, can_restore)),
        conflicts(spec)
    );
    Ok(Facts {
        root,
        missing_programs,
        missing_features: missing_features.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())),
        loopback: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).is_ok(),
        state_dir_problem: state_dir_problem(&spec.state_dir),
        conflicts: conflicts?,
        forwarding_refused_by,
    })
}

/// Whether a program is in the search path that the cluster's processes will have.
fn is_installed(name: &str) -> bool {
    [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ]
    .iter()
    .any(|dir| access(&Path::new(dir).join(name), AccessFlags::X_OK).is_ok())
}

fn features(scratch: &Path, can_restore: bool) -> Vec<(String, String)> {
    let mut missing = Vec::new();
    let mut note = |feature: &str, probed: Probed| {
        if let Err(said) = probed {
            missing.push((feature.to_owned(), said));
        }
    };
    if let Err(said) = probe::network_namespace() {
        note("network namespaces", Err(said));
        return missing;
    }
    note("veth links", probe::veth());
    note("overlay file systems", probe::overlay(scratch));
    let lock = scratch.join("xtables.lock");
    // All at once is what a good machine pays; a bad one is asked about each.
    if can_restore && probe::iptables(&rules(&RULES), &lock).is_err() {
        for rule in &RULES {
            note(rule.0, probe::iptables(&rules(std::slice::from_ref(rule)), &lock));
        }
    }
    // Made by the legacy variant only.
    std::fs::remove_file(lock).ok();
    missing
}

/// Input for `iptables-restore`.
fn rules(chosen: &[Rule]) -> String {
    ["nat", "filter"]
        .iter()
        .map(|table| {
            let lines: String = chosen
                .iter()
                .filter(|rule| rule.1 == *table)
                .map(|rule| format!("{}\n", rule.2))
                .collect();
            if lines.is_empty() {
                lines
            } else {
                format!("*{table}\n{lines}COMMIT\n")
            }
        })
        .collect()
}

/// The nearest directory there is must be one we can write to.
fn state_dir_problem(path: &Path) -> Option<String> {
    if !path.is_absolute() {
        return Some("it must be an absolute path".to_owned());
    }
    let nearest = path.ancestors().find(|ancestor| ancestor.exists())?;
    if !nearest.is_dir() {
        return Some(format!("{} is not a directory", nearest.display()));
    }
    access(nearest, AccessFlags::W_OK | AccessFlags::X_OK)
        .err()
        .map(|errno| errno.desc().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_grouped_by_table() {
        let all = rules(&RULES);
        assert_eq!(all.matches("*nat\n").count(), 1);
        assert_eq!(all.matches("COMMIT\n").count(), 2);
        assert_eq!(rules(&RULES[1..2]), "*filter\n-A FORWARD -j REJECT\nCOMMIT\n");
    }

    #[test]
    fn a_state_directory_must_be_one_that_can_be_made() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(state_dir_problem(&directory.path().join("a/b")), None);
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(
            state_dir_problem(&file.join("a"))
                .unwrap()
                .ends_with("is not a directory")
        );
        assert!(state_dir_problem(Path::new("relative")).is_some());
    }
}
