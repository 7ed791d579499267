//! Everything that could keep a cluster from coming up, found before anything is touched, each with what to do.
//!
//! [`probe`] looks; [`judge`] decides, purely.

pub mod probe;

use crate::cluster::ClusterSpec;
use crate::provider::conflicts::Conflict;
use crate::provider::underlay::{outside_altname, outside_link};

/// What was seen on this machine.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Whether we may do anything.
    pub root: bool,
    /// Programs that are not in the search path.
    pub missing_programs: Vec<&'static str>,
    /// Kernel features that did not work, with what the kernel said.
    pub missing_features: Vec<(String, String)>,
    /// Whether 127.0.0.1 is there.
    pub loopback: bool,
    /// Why the state directory cannot be used.
    pub state_dir_problem: Option<String>,
    /// Ranges that something of this machine uses.
    pub conflicts: Vec<Conflict>,
    /// Chains of this machine that drop forwarded packets, for a cluster with a way out.
    pub forwarding_refused_by: Vec<String>,
}

/// One thing that is wrong or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// The judgement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Any of these, and nothing is started.
    pub errors: Vec<Finding>,
    /// The cluster comes up, but not all of it works.
    pub notes: Vec<Finding>,
}

/// A program, the Debian package that has it, and what is lost without it.
struct Program {
    name: &'static str,
    package: &'static str,
    without: Without,
}

/// What is lost.
enum Without {
    /// Everything.
    NoCluster,
    /// `--egress`; nobody else asks for it.
    NoEgress,
    /// This.
    Less(&'static str),
}

const PROGRAMS: [Program; 9] = [
    Program {
        name: "iptables-restore",
        package: "iptables",
        without: Without::NoCluster,
    },
    Program {
        name: "iptables-save",
        package: "iptables",
        without: Without::NoCluster,
    },
    Program {
        name: "nft",
        package: "nftables",
        without: Without::NoEgress,
    },
    Program {
        name: "nginx",
        package: "nginx-light",
        without: Without::Less("image nginx is a stand-in that understands a small part of nginx's configuration"),
    },
    Program {
        name: "busybox",
        package: "busybox",
        without: Without::Less("images busybox and tools, and shells in Pods, are unavailable"),
    },
    Program {
        name: "curl",
        package: "curl",
        without: Without::Less("image tools has no curl"),
    },
    Program {
        name: "dig",
        package: "bind9-dnsutils",
        without: Without::Less("image tools has no dig"),
    },
    Program {
        name: "ping",
        package: "iputils-ping",
        without: Without::Less("image tools has no ping"),
    },
    Program {
        name: "ip",
        package: "iproute2",
        without: Without::Less("image tools has no ip"),
    },
];

/// Names of all programs worth looking for.
pub fn programs() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|program| program.name)
}

/// What the facts mean for this cluster. Pure.
#[must_use]
pub fn judge(facts: &Facts, spec: &ClusterSpec) -> Report {
    let mut report = Report::default();
    if !facts.root {
        // Nothing else could be looked at.
        report.errors.push(Finding {
            what: "minik up must run as root".to_owned(),
            advice: "run it with sudo".to_owned(),
        });
        return report;
    }
    judge_programs(facts, spec, &mut report);
    for (feature, said) in &facts.missing_features {
        report.errors.push(Finding {
            what: format!("the kernel does not provide {feature}: {said}"),
            advice: "use a kernel that has it, such as Debian's linux-image-amd64; in a container, run it privileged"
                .to_owned(),
        });
    }
    if !facts.loopback {
        report.errors.push(Finding {
            what: "127.0.0.1 is not usable here".to_owned(),
            advice: "bring the loopback up: ip link set lo up".to_owned(),
        });
    }
    if let Some(problem) = &facts.state_dir_problem {
        report.errors.push(Finding {
            what: format!("state directory {} cannot be used: {problem}", spec.state_dir.display()),
            advice: "choose another with --state-dir".to_owned(),
        });
    }
    judge_forwarding(facts, spec, &mut report);
    for conflict in &facts.conflicts {
        let alone = if spec.isolated {
            ""
        } else {
            ", or give the cluster an outside world of its own with --isolated"
        };
        report.errors.push(Finding {
            what: conflict.to_string(),
            advice: format!("choose another {}{alone}", conflict.flag),
        });
    }
    report
}

fn judge_programs(facts: &Facts, spec: &ClusterSpec, report: &mut Report) {
    for program in PROGRAMS
        .iter()
        .filter(|program| facts.missing_programs.contains(&program.name))
    {
        let advice = format!("install Debian package {0}: apt-get install {0}", program.package);
        match program.without {
            Without::NoCluster => report.errors.push(Finding {
                what: format!("program {} is missing", program.name),
                advice,
            }),
            Without::NoEgress if spec.egress => report.errors.push(Finding {
                what: format!("program {} is missing, and --egress needs it", program.name),
                advice,
            }),
            Without::NoEgress => {}
            Without::Less(loss) => report.notes.push(Finding {
                what: loss.to_owned(),
                advice,
            }),
        }
    }
}

/// Rules of the machine's own, which minik does not touch.
fn judge_forwarding(facts: &Facts, spec: &ClusterSpec, report: &mut Report) {
    let link = outside_altname(&spec.name);
    for chain in &facts.forwarding_refused_by {
        report.notes.push(Finding {
            what: format!("chain {chain} of this machine drops forwarded packets, so Pods will not get out"),
            advice: format!(
                "once the cluster is up, let them: iptables -I FORWARD -i {0} -j ACCEPT; \
                 iptables -I FORWARD -o {0} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT \
                 (DOCKER-USER in place of FORWARD where Docker runs; {0} is {link})",
                outside_link(&spec.name)
            ),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{Asked, resolve};

    fn spec() -> ClusterSpec {
        resolve(
            &Asked {
                name: "minik".to_owned(),
                ..Asked::default()
            },
            None,
        )
        .unwrap()
    }

    fn well() -> Facts {
        Facts {
            root: true,
            loopback: true,
            ..Facts::default()
        }
    }

    #[test]
    fn a_good_machine_gives_no_finding() {
        assert_eq!(judge(&well(), &spec()), Report::default());
    }

    #[test]
    fn without_root_nothing_else_is_said() {
        let facts = Facts {
            root: false,
            loopback: false,
            missing_programs: vec!["iptables-restore"],
            ..well()
        };
        let report = judge(&facts, &spec());
        assert_eq!(report.errors.len(), 1);
        assert!(report.errors[0].advice.contains("sudo"));
    }

    #[test]
    fn a_missing_program_names_its_package_and_what_is_lost() {
        let report = judge(
            &Facts {
                missing_programs: vec!["iptables-restore", "nginx"],
                ..well()
            },
            &spec(),
        );
        assert_eq!(report.errors.len(), 1);
        assert!(report.errors[0].advice.contains("apt-get install iptables"));
        assert_eq!(report.notes.len(), 1);
        assert!(report.notes[0].what.contains("stand-in"));
        assert!(report.notes[0].advice.contains("nginx-light"));
    }

    #[test]
    fn a_way_out_needs_nft_and_says_who_is_in_the_way() {
        let facts = Facts {
            missing_programs: vec!["nft"],
            forwarding_refused_by: vec!["ip filter FORWARD".to_owned()],
            ..well()
        };
        assert_eq!(
            judge(
                &Facts {
                    forwarding_refused_by: Vec::new(),
                    ..facts.clone()
                },
                &spec()
            ),
            Report::default()
        );
        let report = judge(&facts, &ClusterSpec { egress: true, ..spec() });
        assert_eq!(report.errors[0].what, "program nft is missing, and --egress needs it");
        assert!(report.notes[0].what.contains("ip filter FORWARD"));
        assert!(report.notes[0].advice.contains("iptables -I FORWARD -i minik-"));
    }

    #[test]
    fn a_missing_feature_a_dead_loopback_and_a_bad_state_directory_are_errors() {
        let facts = Facts {
            missing_features: vec![(
                "iptables statistic".to_owned(),
                "No chain/target/match by that name".to_owned(),
            )],
            loopback: false,
            state_dir_problem: Some("Read-only file system".to_owned()),
            ..well()
        };
        let what: Vec<String> = judge(&facts, &spec())
            .errors
            .into_iter()
            .map(|finding| finding.what)
            .collect();
        assert_eq!(
            what,
            [
                "the kernel does not provide iptables statistic: No chain/target/match by that name",
                "127.0.0.1 is not usable here",
                "state directory /var/lib/minik/minik cannot be used: Read-only file system",
            ]
        );
    }

    #[test]
    fn a_taken_range_comes_with_a_free_one() {
        let conflict = Conflict {
            flag: "--node-network-cidr",
            range: "172.30.0.0/24".parse().unwrap(),
            taken_by: "route 172.30.0.0/16 dev br-1".to_owned(),
            free: Some("172.29.0.0/24".parse().unwrap()),
        };
        let report = judge(
            &Facts {
                conflicts: vec![conflict],
                ..well()
            },
            &spec(),
        );
        assert!(report.errors[0].what.contains("route 172.30.0.0/16 dev br-1"));
        assert!(
            report.errors[0]
                .what
                .contains("--node-network-cidr 172.29.0.0/24 is free")
        );
        assert!(report.errors[0].advice.contains("--isolated"));
    }
}
