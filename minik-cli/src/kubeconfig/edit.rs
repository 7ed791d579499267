//! What adding and removing a cluster does to a kubeconfig. Pure, over plain values, so that fields and entries
//! we know nothing of survive.

use serde_json::{Map, Value, json};

/// How to reach a cluster as its administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Name of the cluster, the user and the context.
    pub name: String,
    /// `https://127.0.0.1:6443`
    pub server: String,
    /// Certificate authority, PEM.
    pub ca_pem: String,
    /// Client certificate, PEM.
    pub certificate_pem: String,
    /// Client key, PEM.
    pub key_pem: String,
}

/// The lists an entry lies in, and the entry's own field.
const LISTS: [(&str, &str); 3] = [("clusters", "cluster"), ("contexts", "context"), ("users", "user")];

/// A kubeconfig that holds nothing, as kubectl writes it.
#[must_use]
pub fn empty() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {},
        "clusters": [], "contexts": [], "users": [], "current-context": "",
    })
}

/// Puts the cluster, the user and the context there, in place of any of that name.
pub fn add(config: &mut Value, access: &Access) {
    let data = |pem: &str| data_encoding::BASE64.encode(pem.as_bytes());
    let name = &access.name;
    let bodies = [
        json!({"certificate-authority-data": data(&access.ca_pem), "server": access.server}),
        json!({"cluster": name, "user": name}),
        json!({"client-certificate-data": data(&access.certificate_pem), "client-key-data": data(&access.key_pem)}),
    ];
    let config = object(config);
    for ((list, field), body) in LISTS.into_iter().zip(bodies) {
        let entries = array(config, list);
        entries.retain(|entry| entry["name"] != name.as_str());
        entries.push(json!({"name": name, field: body}));
    }
}

/// Makes `name` the context that kubectl uses.
pub fn use_context(config: &mut Value, name: &str) {
    object(config).insert("current-context".to_owned(), json!(name));
}

/// The context that kubectl uses, if this file says.
#[must_use]
pub fn current_context(config: &Value) -> Option<&str> {
    config["current-context"].as_str().filter(|name| !name.is_empty())
}

/// Whether any of the three entries of that name is there.
#[must_use]
pub fn holds(config: &Value, name: &str) -> bool {
    LISTS.iter().any(|(list, _)| {
        config[list]
            .as_array()
            .is_some_and(|entries| entries.iter().any(|entry| entry["name"] == name))
    })
}

/// Takes the three entries of that name out, and the current context if it was that one. Returns whether
/// anything changed.
pub fn remove(config: &mut Value, name: &str) -> bool {
    let mut changed = false;
    let config = object(config);
    for (list, _) in LISTS {
        if let Some(entries) = config.get_mut(list).and_then(Value::as_array_mut) {
            let before = entries.len();
            entries.retain(|entry| entry["name"] != name);
            changed |= entries.len() != before;
        }
    }
    if config.get("current-context").is_some_and(|current| current == name) {
        config.insert("current-context".to_owned(), json!(""));
        changed = true;
    }
    changed
}

/// Whether the file says nothing that anybody could miss.
#[must_use]
pub fn is_empty(config: &Value) -> bool {
    config.as_object().is_some_and(|config| {
        config.iter().all(|(key, value)| match key.as_str() {
            "apiVersion" | "kind" => true,
            _ => {
                matches!(value, Value::Null)
                    || value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(Map::is_empty)
                    || value == ""
            }
        })
    })
}

fn object(config: &mut Value) -> &mut Map<String, Value> {
    if !config.is_object() {
        *config = empty();
    }
    config.as_object_mut().expect("was made an object")
}

/// kubectl writes `null` for a list without entries in some versions.
fn array<'a>(config: &'a mut Map<String, Value>, list: &str) -> &'a mut Vec<Value> {
    let value = config.entry(list).or_insert_with(|| json!([]));
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("was made an array")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(name: &str) -> Access {
        Access {
            name: name.to_owned(),
            server: "https://127.0.0.1:6443".to_owned(),
            ca_pem: "CA".to_owned(),
            certificate_pem: "CERT".to_owned(),
            key_pem: "KEY".to_owned(),
        }
    }

    /// Another cluster's file, with fields that only its tools know.
    fn foreign() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "preferences": {"colors": true},
            "extensions": [{"name": "x", "extension": {"deep": [1, 2]}}],
            "clusters": [{"name": "work", "cluster": {"server": "https://w", "proxy-url": "socks5://p", "x-new": 1}}],
            "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me", "namespace": "n"}}],
            "users": [{"name": "me", "user": {"exec": {"command": "c", "unknown": [true]}}}],
            "current-context": "work",
        })
    }

    #[test]
    fn adding_makes_what_kubectl_reads() {
        let mut config = empty();
        add(&mut config, &access("minik"));
        use_context(&mut config, "minik");
        assert_eq!(
            config,
            json!({
                "apiVersion": "v1", "kind": "Config", "preferences": {},
                "clusters": [{"name": "minik", "cluster": {
                    "certificate-authority-data": "Q0E=", "server": "https://127.0.0.1:6443"}}],
                "contexts": [{"name": "minik", "context": {"cluster": "minik", "user": "minik"}}],
                "users": [{"name": "minik", "user": {
                    "client-certificate-data": "Q0VSVA==", "client-key-data": "S0VZ"}}],
                "current-context": "minik",
            })
        );
    }

    #[test]
    fn adding_and_removing_leaves_all_that_is_others() {
        let mut config = foreign();
        add(&mut config, &access("minik"));
        assert!(holds(&config, "minik"));
        assert!(remove(&mut config, "minik"));
        assert_eq!(config, foreign());
        assert!(!remove(&mut config, "minik"));
    }

    #[test]
    fn adding_again_replaces() {
        let mut config = foreign();
        add(&mut config, &access("minik"));
        add(
            &mut config,
            &Access {
                server: "https://127.0.0.1:7000".to_owned(),
                ..access("minik")
            },
        );
        let clusters = config["clusters"].as_array().unwrap();
        assert_eq!(clusters.len(), 2);
        assert_eq!(clusters[1]["cluster"]["server"], "https://127.0.0.1:7000");
    }

    #[test]
    fn the_current_context_is_unset_only_if_ours() {
        for (current, left) in [("minik", ""), ("work", "work"), ("minik-2", "minik-2")] {
            let mut config = foreign();
            add(&mut config, &access("minik"));
            use_context(&mut config, current);
            remove(&mut config, "minik");
            assert_eq!(config["current-context"], left);
        }
    }

    #[test]
    fn odd_files_are_taken_as_they_are() {
        for mut config in [
            Value::Null,
            json!({}),
            json!({"clusters": null, "users": null, "contexts": null}),
        ] {
            assert!(!remove(&mut config, "minik"));
            add(&mut config, &access("minik"));
            assert!(holds(&config, "minik"));
        }
    }

    #[test]
    fn only_a_file_that_says_nothing_is_empty() {
        let mut config = empty();
        add(&mut config, &access("minik"));
        use_context(&mut config, "minik");
        assert!(!is_empty(&config));
        remove(&mut config, "minik");
        assert!(is_empty(&config));
        assert!(!is_empty(&json!({"kind": "Config", "preferences": {"colors": true}})));
    }
}
