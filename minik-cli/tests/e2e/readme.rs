//! The labs' READMEs are true: every command in them is typed, and what they show is seen.

use std::path::PathBuf;

use crate::console::{Step, compare, steps};
use crate::vm::{Vm, eventually, workspace};

#[test]
fn nginx_svc() {
    follow("nginx-svc");
}

#[test]
fn clusterip() {
    follow("clusterip");
}

#[test]
fn nodeport() {
    follow("nodeport");
}

#[test]
fn headless() {
    follow("headless");
}

#[test]
fn externalname() {
    follow("externalname");
}

#[test]
fn every_lab_is_followed_above() {
    let source = include_str!("readme.rs");
    for lab in labs() {
        let name = lab.file_name().expect("a folder").to_string_lossy().into_owned();
        assert!(
            source.contains(&format!("follow(\"{name}\")")),
            "examples/{name} has no test here"
        );
    }
}

#[test]
fn both_languages_type_and_show_the_same() {
    for lab in labs() {
        let [english, chinese] = ["README.md", "README.zh.md"]
            .map(|name| steps(&std::fs::read_to_string(lab.join(name)).expect("a README")));
        assert!(!english.is_empty(), "{}: nothing to type", lab.display());
        assert_eq!(english, chinese, "{}", lab.display());
    }
}

/// Types a lab's README into a fresh machine.
fn follow(lab: &str) {
    let vm = Vm::boot();
    let folder = workspace().join("examples").join(lab);
    for step in steps(&std::fs::read_to_string(folder.join("README.md")).expect("a README")) {
        // A terminal shows both streams; errors come first here, as kubectl's warnings do.
        let look = || {
            let said = vm.sh_in(&folder, &step.command, "");
            compare(&step.shown, &format!("{}{}", said.err, said.out)).map_err(|why| format!("{why}\n{said}"))
        };
        if only_looks(&step) {
            // Rules and names follow an object a moment later: a reader would look again.
            eventually(look);
        } else if let Err(why) = look() {
            panic!("{why}");
        }
    }
}

/// Whether typing it twice is as good as typing it once.
fn only_looks(step: &Step) -> bool {
    let first_two: Vec<&str> = step.command.split_whitespace().take(2).collect();
    matches!(
        first_two[..],
        ["kubectl", "get" | "describe" | "exec" | "logs"] | ["minik", "host" | "node"]
    )
}

fn labs() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(workspace().join("examples")).expect("examples/");
    entries
        .map(|entry| entry.expect("reads examples/").path())
        .filter(|path| path.is_dir())
        .collect()
}
