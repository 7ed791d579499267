//! What goes with a request and what does not: tokens of paged lists, fields that stand twice in a patch.

use data_encoding::BASE64URL_NOPAD;
use http::StatusCode;
use serde_json::json;

use crate::common::{Server, config_map};

const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";

#[tokio::test]
async fn a_list_goes_on_where_and_when_it_was_cut() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        server.post(CONFIG_MAPS, &config_map(name)).await;
    }
    let first = server.get(&format!("{CONFIG_MAPS}?limit=2")).await.json();
    let (token, version) = (
        first["metadata"]["continue"].as_str().expect("goes on"),
        &first["metadata"]["resourceVersion"],
    );
    server.post(CONFIG_MAPS, &config_map("d")).await;
    server.delete(&format!("{CONFIG_MAPS}/c")).await;
    let rest = server
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"))
        .await
        .json();
    assert_eq!(
        rest["items"][0]["metadata"]["name"], "c",
        "as it was when the list began"
    );
    assert_eq!(
        (
            rest["items"].as_array().map(Vec::len),
            &rest["metadata"]["resourceVersion"]
        ),
        (Some(1), version)
    );
    let both = server
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}&resourceVersion=1"))
        .await;
    assert_eq!(both.code, StatusCode::BAD_REQUEST);
    assert_eq!(
        both.message(),
        "specifying resource version is not allowed when using continue"
    );
    let zero = server
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}&resourceVersion=0"))
        .await;
    assert_eq!(zero.code, StatusCode::OK);
}

#[tokio::test]
async fn a_token_that_is_none_is_refused() {
    let server = Server::start().await;
    let cases = [
        (
            json!({"v": "meta.k8s.io/v2", "rv": 3, "start": "a\u{0}"}),
            r#"server does not recognize this encoded version "meta.k8s.io/v2""#,
        ),
        (
            json!({"v": "meta.k8s.io/v1", "rv": 0, "start": "a\u{0}"}),
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        ),
        (
            json!({"v": "meta.k8s.io/v1", "rv": 3, "start": ""}),
            "encoded start key empty (version meta.k8s.io/v1)",
        ),
        (
            json!({"v": "meta.k8s.io/v1", "rv": 3, "start": "../secrets/a"}),
            "../secrets/a",
        ),
    ];
    for (token, words) in cases {
        let token = BASE64URL_NOPAD.encode(token.to_string().as_bytes());
        let refused = server.get(&format!("{CONFIG_MAPS}?continue={token}")).await;
        assert_eq!(refused.code, StatusCode::BAD_REQUEST);
        assert_eq!(
            refused.message(),
            format!("invalid continue token: continue key is not valid: {words}")
        );
    }
}

#[tokio::test]
async fn fields_that_stand_twice_in_a_patch_are_told() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a")).await;
    let patches = [
        (
            "application/merge-patch+json",
            r#"{"data":{"a":"1","a":"2"}}"#,
            "data.a",
        ),
        (
            "application/strategic-merge-patch+json",
            r#"{"data":{"a":"1"},"data":{"a":"3"}}"#,
            "data",
        ),
        (
            "application/json-patch+json",
            r#"[{"op":"replace","op":"add","path":"/data/a","value":"4"}]"#,
            "[0].op",
        ),
    ];
    for (media_type, patch, field) in patches {
        let send = |validation: &str| {
            let path = format!("{CONFIG_MAPS}/a?fieldValidation={validation}");
            let server = &server;
            async move {
                server
                    .request("PATCH", &path, &[("content-type", media_type)], patch.to_owned())
                    .await
            }
        };
        let warned = send("Warn").await;
        assert_eq!(warned.code, StatusCode::OK, "{}", warned.message());
        let warning = warned.headers[http::header::WARNING]
            .to_str()
            .expect("is text")
            .to_owned();
        assert_eq!(warning, format!(r#"299 - "duplicate field \"{field}\"""#));
        let refused = send("Strict").await;
        assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
        let words = format!(r#"strict decoding error: duplicate field "{field}""#);
        assert!(refused.message().ends_with(&words), "{}", refused.message());
        assert!(!send("Ignore").await.headers.contains_key(http::header::WARNING));
    }
}
