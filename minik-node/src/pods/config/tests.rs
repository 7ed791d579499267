//! Variables, one rule a row: what a container declares, and what it finds or why it does not start.

use super::*;
use crate::pods::env_file::EnvFile;
use serde_json::{Value, json};

fn sources() -> Sources {
    let data = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    Sources {
        namespace: "shop".to_owned(),
        config_maps: [("settings".to_owned(), data(&[("color", "blue"), ("A", "map")]))].into(),
        secrets: [("login".to_owned(), data(&[("password", "s3cret"), ("A", "secret")]))].into(),
        files: [
            (("vars", "config.env"), Ok("DB_ADDRESS='address'\nEMPTY=''\n")),
            (("vars", "broken.env"), Ok("DB_ADDRESS=address\n")),
            (("vars", "none.env"), Err("ENOENT: No such file or directory")),
        ]
        .into_iter()
        .map(|((volume, path), text)| {
            let file = EnvFile {
                path: PathBuf::from("/var").join(volume).join(path),
                text: text.map(str::to_owned).map_err(str::to_owned),
            };
            ((volume.to_owned(), path.to_owned()), file)
        })
        .collect(),
    }
}

fn file_key(path: &str, key: &str, optional: bool) -> Value {
    let reference = json!({"volumeName": "vars", "path": path, "key": key, "optional": optional});
    json!({"name": "F", "valueFrom": {"fileKeyRef": reference}})
}

fn environment(container: &Value) -> Result<String, String> {
    let mut container = container.clone();
    container["name"] = json!("main");
    container["resources"] = json!({"limits": {"cpu": "500m", "memory": "64Mi"}});
    let pod = json!({"metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}}, "spec": {"containers": [container]}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let setting = Setting {
        pod: &pod,
        container: &pod.spec.as_ref().unwrap().containers[0],
        facts: PodFacts {
            node: "worker1".to_owned(),
            host_ip: [172, 30, 0, 11].into(),
            pod_ip: [10, 244, 1, 2].into(),
        },
        allocatable: BTreeMap::new(),
    };
    let services = [
        ("DB_HOST".to_owned(), "10.96.0.5".to_owned()),
        ("A".to_owned(), "service".to_owned()),
    ]
    .into();
    let made = sources()
        .environment(&setting, services)
        .map_err(|error| error.to_string())?;
    let pairs = made
        .iter()
        .filter(|(name, value)| (name.as_str(), value.as_str()) != ("DB_HOST", "10.96.0.5"));
    Ok(pairs
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" "))
}

#[test]
fn variables_are_made_in_the_kubelets_order() {
    for (container, expected) in [
        (json!({}), "A=service"),
        (json!({"env": [{"name": "A", "value": "own"}]}), "A=own"),
        (
            json!({"envFrom": [{"configMapRef": {"name": "settings"}}]}),
            "A=map color=blue",
        ),
        (
            json!({"envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "login"}}]}),
            "A=secret color=blue password=s3cret",
        ),
        (
            json!({"envFrom": [{"prefix": "P_", "secretRef": {"name": "login"}}]}),
            "A=service P_A=secret P_password=s3cret",
        ),
        (
            json!({"envFrom": [{"configMapRef": {"name": "none", "optional": true}}]}),
            "A=service",
        ),
        (
            json!({"envFrom": [{"configMapRef": {"name": "settings"}}], "env": [{"name": "A", "value": "own"}]}),
            "A=own color=blue",
        ),
        (
            json!({"env": [{"name": "U", "value": "http://$(DB_HOST)/$(A)"}]}),
            "A=service U=http://10.96.0.5/service",
        ),
        (
            json!({"env": [{"name": "A", "value": "$(A)!"}, {"name": "B", "value": "$(A)?"}]}),
            "A=service! B=service!?",
        ),
        (
            json!({"env": [{"name": "B", "value": "$(C)"}, {"name": "C", "value": "later"}]}),
            "A=service B=$(C) C=later",
        ),
        (
            json!({"env": [{"name": "B", "value": "$$(A) $(NONE) $"}]}),
            "A=service B=$(A) $(NONE) $",
        ),
        (json!({"env": [{"name": "E", "value": ""}]}), "A=service E="),
    ] {
        assert_eq!(environment(&container).as_deref(), Ok(expected), "{container}");
    }
}

#[test]
fn variables_come_from_objects_fields_and_resources() {
    for (container, expected) in [
        (
            json!({"env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}}]}),
            "A=service K=blue",
        ),
        (
            json!({"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}]}),
            "A=service K=s3cret",
        ),
        (
            json!({"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "login", "key": "none", "optional": true}}}]}),
            "A=service",
        ),
        (
            json!({"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "none", "key": "none", "optional": true}}}]}),
            "A=service",
        ),
        (
            json!({"env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]}),
            "A=service N=worker1",
        ),
        (
            json!({"env": [{"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}]}),
            "A=service L=web",
        ),
        (
            json!({"env": [{"name": "R", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}]}),
            "A=service R=500",
        ),
        (
            json!({"env": [{"name": "R", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "containerName": "main"}}}]}),
            "A=service R=67108864",
        ),
        (
            json!({"env": [file_key("config.env", "DB_ADDRESS", false), {"name": "U", "value": "$(F)!"}]}),
            "A=service F=address U=address!",
        ),
        (json!({"env": [file_key("config.env", "NONE", true)]}), "A=service"),
        (json!({"env": [file_key("config.env", "EMPTY", true)]}), "A=service"),
    ] {
        assert_eq!(environment(&container).as_deref(), Ok(expected), "{container}");
    }
}

#[test]
fn what_is_missing_is_said_in_the_kubelets_words() {
    for (container, expected) in [
        (
            json!({"envFrom": [{"configMapRef": {"name": "none"}}]}),
            "configmap \"none\" not found",
        ),
        (
            json!({"envFrom": [{"secretRef": {"name": "none"}}]}),
            "secret \"none\" not found",
        ),
        (
            json!({"env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k"}}}]}),
            "configmap \"none\" not found",
        ),
        (
            json!({"env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "k"}}}]}),
            "couldn't find key k in ConfigMap shop/settings",
        ),
        (
            json!({"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "login", "key": "k"}}}]}),
            "couldn't find key k in Secret shop/login",
        ),
        (
            json!({"env": [{"name": "K", "valueFrom": {"fieldRef": {"fieldPath": "spec.hostname"}}}]}),
            "unsupported fieldPath: spec.hostname",
        ),
        (
            json!({"env": [{"name": "K", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "containerName": "x"}}}]}),
            "container x not found",
        ),
        (
            json!({"env": [file_key("config.env", "NONE", false)]}),
            "environment variable key \"NONE\" not found in file \"/var/vars/config.env\"",
        ),
        (
            json!({"env": [file_key("broken.env", "DB_ADDRESS", true)]}),
            "couldn't parse env file",
        ),
        (
            json!({"env": [file_key("none.env", "DB_ADDRESS", true)]}),
            "couldn't parse env file",
        ),
        (
            json!({"env": [{"name": "F", "valueFrom": {"fileKeyRef": {"volumeName": "other", "path": "config.env", "key": "K"}}}]}),
            "cannot find the volume \"other\" referenced by FileKeyRef",
        ),
    ] {
        assert_eq!(environment(&container), Err(expected.to_owned()), "{container}");
    }
}
