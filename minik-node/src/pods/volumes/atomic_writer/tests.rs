//! The writer against readers that look while it writes, and against what an interrupted one leaves.

use std::fs::File as Handle;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use proptest::prelude::*;

use super::*;

fn file(data: &str, mode: u32) -> File {
    File {
        data: data.as_bytes().to_vec(),
        mode,
        user: None,
    }
}

fn payload(files: &[(&str, &str)]) -> Payload {
    files
        .iter()
        .map(|(path, data)| (PathBuf::from(path), file(data, 0o644)))
        .collect()
}

fn put(dir: &Path, payload: &Payload) -> bool {
    write(dir, payload, &Owner::default(), Timestamp::now()).unwrap()
}

/// What a program finds that goes by the visible names.
fn visible(dir: &Path) -> Payload {
    let mut found = Payload::new();
    for entry in fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name();
        if name.to_string_lossy().starts_with("..") {
            continue;
        }
        let path = dir.join(&name);
        let mut below = BTreeSet::new();
        if path.is_dir() {
            files(&path, Path::new(""), &mut below).unwrap();
        } else {
            below.insert(PathBuf::new());
        }
        for rest in below {
            let path = if rest.as_os_str().is_empty() {
                path.clone()
            } else {
                path.join(&rest)
            };
            let inner = path.strip_prefix(dir).unwrap().to_owned();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            found.insert(
                inner,
                File {
                    data: fs::read(&path).unwrap(),
                    mode,
                    user: None,
                },
            );
        }
    }
    found
}

#[test]
fn the_layout_is_the_kubelets() {
    let dir = tempfile::tempdir().unwrap();
    assert!(put(dir.path(), &payload(&[("a", "1"), ("sub/b", "2")])));
    let version = fs::read_link(dir.path().join(DATA)).unwrap();
    let name = version.to_str().unwrap();
    assert!(name.starts_with("..20") && name.len() > 22, "{name}");
    for (link, target) in [("a", "..data/a"), ("sub", "..data/sub")] {
        assert_eq!(fs::read_link(dir.path().join(link)).unwrap(), Path::new(target));
    }
    assert_eq!(fs::read_to_string(dir.path().join("sub/b")).unwrap(), "2");
}

#[test]
fn what_is_as_wanted_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = payload(&[("a", "1")]);
    assert!(put(dir.path(), &first));
    let version = fs::read_link(dir.path().join(DATA)).unwrap();
    assert!(!put(dir.path(), &first));
    assert_eq!(fs::read_link(dir.path().join(DATA)).unwrap(), version);
    let mut other = first;
    other.insert("a".into(), file("1", 0o600));
    assert!(put(dir.path(), &other), "a mode is a change");
}

#[test]
fn the_group_of_the_pod_reads() {
    let dir = tempfile::tempdir().unwrap();
    let group = nix::unistd::getgid().as_raw();
    let owner = Owner {
        group: Some(group),
        read_only: true,
    };
    let secret = [(PathBuf::from("key"), file("s", 0o400))].into();
    assert!(write(dir.path(), &secret, &owner, Timestamp::now()).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&dir.path().join("key")), 0o440);
    assert_eq!(mode(&dir.path().join(DATA)), 0o2755);
    assert!(!write(dir.path(), &secret, &owner, Timestamp::now()).unwrap());
}

/// A reader that opens the present version once, then file by file: as a program does that wants one version.
fn read_version(dir: &Path, names: &[&str]) -> Option<Vec<String>> {
    let data = Handle::open(dir.join(DATA)).ok()?;
    let read = |name: &&str| {
        let fd = openat(data.as_fd(), *name, OFlag::O_RDONLY, Mode::empty()).ok()?;
        let mut text = String::new();
        Handle::from(fd).read_to_string(&mut text).ok()?;
        Some(text)
    };
    // A version that is removed meanwhile gives fewer files, never others.
    names.iter().map(read).collect()
}

#[test]
fn a_reader_never_sees_a_mix_of_two_versions() {
    const NAMES: [&str; 4] = ["a", "b", "c/d", "e"];
    const VERSIONS: u32 = 300;
    let dir = tempfile::tempdir().unwrap();
    let version = |n: u32| -> Payload {
        let text = n.to_string();
        NAMES
            .iter()
            .map(|name| (PathBuf::from(name), file(&text, 0o644)))
            .collect()
    };
    put(dir.path(), &version(0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut last, mut whole) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let Some(texts) = read_version(dir.path(), &NAMES) else {
                    continue;
                };
                assert!(texts.iter().all(|text| *text == texts[0]), "a mix: {texts:?}");
                let seen: u32 = texts[0].parse().unwrap();
                assert!(seen >= last, "{seen} after {last}");
                (last, whole) = (seen, whole + 1);
            }
            whole
        });
        for n in 1..=VERSIONS {
            put(dir.path(), &version(n));
        }
        while !reader.is_finished() && read_version(dir.path(), &NAMES).is_none() {}
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0, "the reader saw nothing");
    });
}

fn any_payload() -> impl Strategy<Value = Payload> {
    let path = prop::sample::select(vec!["a", "b", "dir/a", "dir/b", "dir/deep/c", ".hidden"]);
    let file =
        ("[a-z]{0,4}", prop::sample::select(vec![0o644, 0o400, 0o600])).prop_map(|(data, mode)| file(&data, mode));
    prop::collection::btree_map(path.prop_map(PathBuf::from), file, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever came before, whole or cut short, the volume ends as what was written last.
    #[test]
    fn any_order_of_versions_ends_with_the_last(versions in prop::collection::vec((any_payload(), any::<bool>()), 1..6)) {
        let dir = tempfile::tempdir().unwrap();
        for (payload, interrupted) in &versions {
            if *interrupted {
                // Killed after filling a version and making its link, before the rename.
                fs::create_dir_all(dir.path()).unwrap();
                let version = fill(dir.path(), payload, &Owner::default(), Timestamp::now()).unwrap();
                remove(&dir.path().join(NEW_DATA)).unwrap();
                symlink(version, dir.path().join(NEW_DATA)).unwrap();
            } else {
                put(dir.path(), payload);
                prop_assert_eq!(&visible(dir.path()), payload);
            }
        }
        let (last, _) = &versions[versions.len() - 1];
        put(dir.path(), last);
        prop_assert_eq!(&visible(dir.path()), last);
        put(dir.path(), &payload(&[("end", "1")]));
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut left: Vec<String> = names.filter(|name| !name.starts_with("..2")).collect();
        left.sort();
        prop_assert_eq!(left, vec!["..data".to_owned(), "end".to_owned()]);
        let versions = fs::read_dir(dir.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
        let real = versions.filter(|entry| !entry.as_ref().unwrap().file_type().unwrap().is_symlink()).count();
        prop_assert_eq!(real, 1, "old versions are gone");
    }
}
