//! Volumes made of objects, one rule a row: what is declared, and which files come out or why none do.

use super::*;
use serde_json::{Value, json};

fn pod(volume: &Value, context: &Value) -> Pod {
    let pod = json!({
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web", "tier": "front"}},
        "spec": {
            "securityContext": context,
            "containers": [{"name": "main", "resources": {"limits": {"memory": "64Mi"}}}],
            "volumes": [volume],
        },
    });
    serde_json::from_value(pod).unwrap()
}

fn ingredients() -> Ingredients {
    let map = json!({"data": {"color": "blue", "size": "9"}, "binaryData": {"raw": "AP8="}});
    let secret = json!({"data": {"password": "czNjcmV0"}});
    let token = Token {
        text: "ey.j.w".to_owned(),
        renew_at: jiff::Timestamp::MAX,
    };
    let key = |audience: &str, seconds| TokenKey {
        audience: audience.to_owned(),
        seconds,
    };
    Ingredients {
        config_maps: [
            (
                "settings".to_owned(),
                Some(std::sync::Arc::new(serde_json::from_value(map).unwrap())),
            ),
            ("none".to_owned(), None),
        ]
        .into(),
        secrets: [
            (
                "login".to_owned(),
                Some(std::sync::Arc::new(serde_json::from_value(secret).unwrap())),
            ),
            ("none".to_owned(), None),
        ]
        .into(),
        tokens: [
            (key("", 3600), Ok(token)),
            (
                key("vault", 600),
                Err("serviceaccounts \"default\" not found".to_owned()),
            ),
        ]
        .into(),
        allocatable: BTreeMap::new(),
    }
}

/// `PATH MODE TEXT` of every file, bytes that are no text as `\xNN`.
fn made(volume: &Value, context: &Value) -> Result<Vec<String>, String> {
    let mut volume = volume.clone();
    volume["name"] = json!("v");
    let pod = pod(&volume, context);
    let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
    let payload = payload(volume, &pod, &ingredients())
        .unwrap()
        .map_err(|error| error.to_string())?;
    let line = |(path, file): (&PathBuf, &File)| {
        let user = file.user.map(|user| format!(" of {user}")).unwrap_or_default();
        format!("{} {:o}{user} {}", path.display(), file.mode, file.data.escape_ascii())
    };
    Ok(payload.iter().map(line).collect())
}

#[test]
fn files_are_what_the_source_says() {
    for (volume, expected) in [
        (
            json!({"configMap": {"name": "settings"}}),
            vec!["color 644 blue", "raw 644 \\x00\\xff", "size 644 9"],
        ),
        (
            json!({"configMap": {"name": "settings", "defaultMode": 0o400, "items": [{"key": "size", "path": "a/b"}, {"key": "color", "path": "c", "mode": 0o755}]}}),
            vec!["a/b 400 9", "c 755 blue"],
        ),
        (
            json!({"configMap": {"name": "settings", "optional": true, "items": [{"key": "absent", "path": "a"}]}}),
            vec![],
        ),
        (json!({"configMap": {"name": "none", "optional": true}}), vec![]),
        (
            json!({"secret": {"secretName": "login", "defaultMode": 0o600}}),
            vec!["password 600 s3cret"],
        ),
        (json!({"secret": {"secretName": "none", "optional": true}}), vec![]),
        (
            json!({"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}, {"path": "sub/memory", "mode": 0o600, "resourceFieldRef": {"containerName": "main", "resource": "limits.memory", "divisor": "1Mi"}}]}}),
            vec!["labels 644 app=\\\"web\\\"\\ntier=\\\"front\\\"", "sub/memory 600 64"],
        ),
        (
            json!({"projected": {"defaultMode": 0o440, "sources": [
                {"configMap": {"name": "settings", "items": [{"key": "color", "path": "conf"}]}},
                {"secret": {"name": "login"}},
                {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                {"serviceAccountToken": {"path": "token"}},
            ]}}),
            vec![
                "conf 440 blue",
                "name 440 web",
                "password 440 s3cret",
                "token 440 ey.j.w",
            ],
        ),
    ] {
        let expected = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(made(&volume, &json!({})), Ok(expected), "{volume}");
    }
}

#[test]
fn a_token_is_private_where_it_can_be_somebodys() {
    let volume =
        json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}});
    for (context, expected) in [
        (json!({}), "token 644 ey.j.w"),
        (json!({"fsGroup": 2000}), "token 600 ey.j.w"),
        (json!({"runAsUser": 1000}), "token 600 of 1000 ey.j.w"),
    ] {
        assert_eq!(made(&volume, &context), Ok(vec![expected.to_owned()]), "{context}");
    }
}

#[test]
fn what_is_missing_is_said_in_the_kubelets_words() {
    for (volume, expected) in [
        (json!({"configMap": {"name": "none"}}), "configmap \"none\" not found"),
        (json!({"secret": {"secretName": "none"}}), "secret \"none\" not found"),
        (
            json!({"configMap": {"name": "settings", "items": [{"key": "x", "path": "x"}]}}),
            "configmap references non-existent config key: x",
        ),
        (
            json!({"secret": {"secretName": "login", "items": [{"key": "x", "path": "x"}]}}),
            "references non-existent secret key: x",
        ),
        (
            json!({"configMap": {"name": "settings", "items": [{"key": "size", "path": "../x"}]}}),
            "invalid path: \"../x\" leads out of the volume",
        ),
        (
            json!({"configMap": {"name": "settings", "items": [{"key": "size", "path": "..data"}]}}),
            "invalid path: \"..data\" leads out of the volume",
        ),
        (
            json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault", "expirationSeconds": 600}}]}}),
            "failed to fetch token: serviceaccounts \"default\" not found",
        ),
        (
            json!({"projected": {"sources": [{"configMap": {"name": "none"}}, {"secret": {"name": "none"}}]}}),
            "[configmap \"none\" not found, secret \"none\" not found]",
        ),
        (
            json!({"projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}]}}),
            "ClusterTrustBundle projection is not enabled on this node",
        ),
        (
            json!({"downwardAPI": {"items": [{"path": "x", "resourceFieldRef": {"containerName": "none", "resource": "limits.cpu"}}]}}),
            "container none not found",
        ),
    ] {
        assert_eq!(made(&volume, &json!({})), Err(expected.to_owned()), "{volume}");
    }
}
