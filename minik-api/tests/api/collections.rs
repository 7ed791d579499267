//! DELETE of collections and of one object: selectors, pages, dry runs, preconditions, propagation.

use serde_json::{Value, json};

use crate::common::{Server, config_map};

const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";

async fn with_maps(names: &[&str]) -> Server {
    let server = Server::start().await;
    for name in names {
        let mut map = config_map(name);
        map["metadata"]["labels"] = json!({"first": &name[..1]});
        assert_eq!(server.post(CONFIG_MAPS, &map).await.code.as_u16(), 201);
    }
    server
}

async fn names(server: &Server) -> Vec<String> {
    let list = server.get(CONFIG_MAPS).await.json();
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_collection_goes_as_selected_and_page_by_page() {
    let server = with_maps(&["a1", "a2", "b1", "b2", "b3"]).await;
    let dry = server.delete(&format!("{CONFIG_MAPS}?dryRun=All")).await.json();
    assert_eq!(
        (dry["kind"].as_str(), dry["items"].as_array().map(Vec::len)),
        (Some("ConfigMapList"), Some(5))
    );
    assert_eq!(names(&server).await.len(), 5);
    server.delete(&format!("{CONFIG_MAPS}?labelSelector=first%3Da")).await;
    assert_eq!(names(&server).await, ["b1", "b2", "b3"]);
    server
        .delete(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Db3"))
        .await;
    let page = server.delete(&format!("{CONFIG_MAPS}?limit=1")).await.json();
    assert!(page["metadata"]["continue"].is_string(), "{page}");
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    assert_eq!(names(&server).await, ["b2"]);
}

#[tokio::test]
async fn a_deletion_may_be_meant_for_one_state_of_one_object() {
    let server = with_maps(&["a"]).await;
    let path = format!("{CONFIG_MAPS}/a");
    let stored = server.get(&path).await.json();
    let (uid, version) = (&stored["metadata"]["uid"], &stored["metadata"]["resourceVersion"]);
    let send = |preconditions: Value| {
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions}).to_string();
        let (server, path) = (&server, &path);
        async move {
            server
                .request("DELETE", path, &[("content-type", "application/json")], body)
                .await
        }
    };
    let refused = send(json!({"uid": "x"})).await;
    assert_eq!(refused.code.as_u16(), 409);
    let uid_text = uid.as_str().unwrap();
    assert_eq!(
        refused.message(),
        format!(
            "Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: x, UID in object meta: {uid_text}"
        )
    );
    assert_eq!(send(json!({"resourceVersion": "1"})).await.code.as_u16(), 409);
    assert_eq!(
        send(json!({"uid": uid, "resourceVersion": version}))
            .await
            .code
            .as_u16(),
        200
    );
}

#[tokio::test]
async fn options_that_contradict_each_other_are_refused() {
    let server = with_maps(&["a"]).await;
    for (query, message) in [
        (
            "propagationPolicy=Never",
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Never\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        (
            "propagationPolicy=Orphan&orphanDependents=true",
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set",
        ),
        (
            "dryRun=Some",
            "DeleteOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
        ),
    ] {
        let answer = server.delete(&format!("{CONFIG_MAPS}/a?{query}")).await;
        assert_eq!((answer.code.as_u16(), answer.message().as_str()), (422, message));
    }
    assert_eq!(names(&server).await, ["a"]);
}
