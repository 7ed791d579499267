use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

fn access() -> Access {
    Access {
        name: "minik".to_owned(),
        server: "https://127.0.0.1:6443".to_owned(),
        ca_pem: "CA".to_owned(),
        certificate_pem: "CERT".to_owned(),
        key_pem: "KEY".to_owned(),
    }
}

fn variable(paths: &[&Path]) -> Environment {
    Environment {
        variable: Some(std::env::join_paths(paths).unwrap()),
        ..Environment::default()
    }
}

const WORK: &str = "\
apiVersion: v1
clusters:
- cluster:
    server: https://work
    x-unknown: yes please
  name: work
contexts:
- context:
    cluster: work
    user: me
  name: work
current-context: work
kind: Config
preferences: {}
users:
- name: me
  user:
    token: t
";

#[test]
fn files_are_chosen_as_kubectl_chooses() {
    let home = Environment {
        home: Some("/home/a".into()),
        ..Environment::default()
    };
    assert_eq!(home.files(), [PathBuf::from("/home/a/.kube/config")]);
    let list = Environment {
        variable: Some("/x:/y::/z".into()),
        ..home.clone()
    };
    assert_eq!(list.files(), [PathBuf::from("/x"), "/y".into(), "/z".into()]);
    assert_eq!(
        Environment {
            variable: Some("".into()),
            ..home.clone()
        }
        .files(),
        home.files()
    );
    assert_eq!(
        Environment {
            flag: Some("/f".into()),
            ..list
        }
        .files(),
        [PathBuf::from("/f")]
    );
}

#[test]
fn a_new_file_is_for_its_owner_alone_and_goes_again() {
    let directory = tempfile::tempdir().unwrap();
    let home = Environment {
        home: Some(directory.path().to_owned()),
        ..Environment::default()
    };
    let path = add(&home, &access()).unwrap();
    assert_eq!(path, directory.path().join(".kube/config"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!path.with_extension("lock").exists());
    assert_eq!(remove(&home, "minik").unwrap(), std::slice::from_ref(&path));
    assert!(!path.exists(), "a file that says nothing was ours");
}

#[test]
fn other_entries_come_back_to_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    fs::write(&path, WORK).unwrap();
    let environment = variable(&[&path]);
    add(&environment, &access()).unwrap();
    let with = read(&path).unwrap().unwrap();
    assert_eq!(edit::current_context(&with), Some("minik"));
    assert!(edit::holds(&with, "work"));
    remove(&environment, "minik").unwrap();
    let expected = WORK.replace("current-context: work", "current-context: \"\"");
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

#[test]
fn among_several_files_each_entry_stays_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let [missing, work, ours] = ["missing", "work", "ours"].map(|name| directory.path().join(name));
    fs::write(&work, WORK).unwrap();
    let environment = variable(&[&missing, &work, &ours]);
    assert_eq!(add(&environment, &access()).unwrap(), work, "the first that exists");
    assert!(!missing.exists() && !ours.exists());

    remove(&environment, "minik").unwrap();
    add(&variable(&[&ours]), &access()).unwrap();
    assert_eq!(
        add(&environment, &access()).unwrap(),
        ours,
        "the one that holds the entry"
    );
    assert!(!edit::holds(&read(&work).unwrap().unwrap(), "minik"));
    remove(&environment, "minik").unwrap();
    assert!(!ours.exists());
}

#[test]
fn a_link_is_followed_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    fs::write(&file, WORK).unwrap();
    symlink(&file, &link).unwrap();
    add(&variable(&[&link]), &access()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(edit::holds(&read(&file).unwrap().unwrap(), "minik"));
}

#[test]
fn a_lock_or_damage_stops_us_before_any_change() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    fs::write(&path, WORK).unwrap();
    fs::write(directory.path().join("config.lock"), "").unwrap();
    assert!(matches!(
        add(&variable(&[&path]), &access()),
        Err(KubeconfigError::Locked { .. })
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), WORK);

    let broken = directory.path().join("broken");
    fs::write(&broken, "clusters: [").unwrap();
    assert!(matches!(
        add(&variable(&[&broken]), &access()),
        Err(KubeconfigError::Parse { .. })
    ));
    assert_eq!(fs::read_to_string(&broken).unwrap(), "clusters: [");
}
