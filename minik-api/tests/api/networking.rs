//! The API behaviours that Kubernetes' sig-network tests name, for the kinds of networking.k8s.io, Endpoints,
//! EndpointSlices and Services: every verb on every kind, over the whole stack.

use http::StatusCode;
use serde_json::{Value, json};

use crate::common::Server;

const MERGE: &[(&str, &str)] = &[("content-type", "application/merge-patch+json")];

impl Server {
    async fn merge(&self, path: &str, change: &Value) -> Value {
        let answer = self.request("PATCH", path, MERGE, change.to_string()).await;
        assert_eq!(answer.code, StatusCode::OK, "{path}: {}", answer.message());
        answer.json()
    }

    async fn made(&self, collection: &str, object: &Value) -> Value {
        let answer = self.post(collection, object).await;
        assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.message());
        answer.json()
    }

    async fn names(&self, path: &str) -> Vec<String> {
        let list = self.get(path).await.json();
        let items = list["items"].as_array().expect("is a list").iter();
        items
            .map(|item| item["metadata"]["name"].as_str().expect("has a name").to_owned())
            .collect()
    }
}

/// Every verb on a collection of one kind: create, get, list, watch, patch, update, status where there is
/// one, delete, delete the collection.
async fn supports_api_operations(server: &Server, collection: &str, objects: [Value; 3], status: Option<Value>) {
    for object in &objects {
        server.made(collection, object).await;
    }
    let name = |object: &Value| object["metadata"]["name"].as_str().expect("has a name").to_owned();
    let first = format!("{collection}/{}", name(&objects[0]));
    assert_eq!(server.post(collection, &objects[0]).await.code, StatusCode::CONFLICT);
    let label = "labelSelector=special%3Dyes";
    for object in &objects {
        let change = json!({"metadata": {"labels": {"special": "yes"}}});
        server.merge(&format!("{collection}/{}", name(object)), &change).await;
    }
    assert_eq!(server.names(&format!("{collection}?{label}")).await.len(), 3);
    let mut read = server.get(&first).await.json();
    assert_eq!(read["metadata"]["labels"]["special"], "yes");
    read["metadata"]["annotations"] = json!({"updated": "true"});
    let replaced = server.put(&first, &read).await;
    assert_eq!(replaced.code, StatusCode::OK, "{}", replaced.message());
    assert_eq!(replaced.json()["metadata"]["annotations"]["updated"], "true");
    // What was read is old now.
    assert_eq!(server.put(&first, &read).await.code, StatusCode::CONFLICT);
    if let Some(status) = status {
        let shown = server
            .merge(&format!("{first}/status"), &json!({"status": status}))
            .await;
        assert_eq!(shown["status"], status);
        assert_eq!(server.get(&format!("{first}/status")).await.json()["status"], status);
        // The main resource does not change it.
        let kept = server
            .merge(&first, &json!({"status": null, "metadata": {"labels": {"a": "b"}}}))
            .await;
        assert_eq!(kept["status"], status);
    }
    let watch = format!("{collection}?watch=true&timeoutSeconds=1&{label}");
    let seen = String::from_utf8(server.get(&watch).await.body).expect("is text");
    assert_eq!(seen.matches(r#""type":"ADDED""#).count(), 3, "{seen}");
    assert_eq!(server.delete(&first).await.code, StatusCode::OK);
    assert_eq!(server.get(&first).await.code, StatusCode::NOT_FOUND);
    let rest = server.delete(&format!("{collection}?{label}")).await;
    assert_eq!(rest.code, StatusCode::OK, "{}", rest.message());
    assert_eq!(server.names(&format!("{collection}?{label}")).await, [""; 0]);
}

fn three(kind: &str, fields: &Value) -> [Value; 3] {
    ["one", "two", "three"].map(|name| {
        let version = match kind {
            "EndpointSlice" => "discovery.k8s.io/v1",
            _ => "networking.k8s.io/v1",
        };
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        object
            .as_object_mut()
            .expect("is an object")
            .extend(fields.as_object().expect("is an object").clone());
        object
    })
}

#[tokio::test]
async fn ingress_api_should_support_creating_ingress_api_operations() {
    let server = Server::start().await;
    let backend = json!({"service": {"name": "default-backend", "port": {"number": 80}}});
    let objects = three(
        "Ingress",
        &json!({"spec": {"defaultBackend": backend, "rules": [{"host": "foo.bar.com"}]}}),
    );
    let status = json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}});
    let collection = "/apis/networking.k8s.io/v1/namespaces/demo/ingresses";
    supports_api_operations(&server, collection, objects.clone(), Some(status)).await;
    server.made(collection, &objects[0]).await;
    assert_eq!(server.names("/apis/networking.k8s.io/v1/ingresses").await, ["one"]);
}

#[tokio::test]
async fn ingress_class_api_should_support_creating_ingress_class_api_operations() {
    let server = Server::start().await;
    let objects = three(
        "IngressClass",
        &json!({"spec": {"controller": "example.com/controller"}}),
    );
    supports_api_operations(&server, "/apis/networking.k8s.io/v1/ingressclasses", objects, None).await;
}

#[tokio::test]
async fn an_ingress_without_a_class_gets_the_default_one() {
    let server = Server::start().await;
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/demo/ingresses";
    let ingress = |name: &str| {
        json!({"metadata": {"name": name},
            "spec": {"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}}})
    };
    assert_eq!(
        server.made(ingresses, &ingress("none")).await["spec"].get("ingressClassName"),
        None
    );
    let class = json!({
        "metadata": {"name": "mine", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": "example.com/controller"},
    });
    server.made("/apis/networking.k8s.io/v1/ingressclasses", &class).await;
    assert_eq!(
        server.made(ingresses, &ingress("set")).await["spec"]["ingressClassName"],
        "mine"
    );
    let mut old = ingress("annotated");
    old["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "other"});
    let answer = server.post(ingresses, &old).await;
    assert_eq!(answer.json()["spec"].get("ingressClassName"), None);
    let warning = answer.headers["warning"].to_str().expect("is text");
    assert!(
        warning.contains("please use 'spec.ingressClassName' instead"),
        "{warning}"
    );
}

#[tokio::test]
async fn netpol_api_should_support_creating_network_policy_api_operations() {
    let server = Server::start().await;
    let objects = three(
        "NetworkPolicy",
        &json!({"spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}}),
    );
    let collection = "/apis/networking.k8s.io/v1/namespaces/demo/networkpolicies";
    supports_api_operations(&server, collection, objects, None).await;
}

#[tokio::test]
async fn netpol_api_should_support_creating_network_policy_api_with_endport_field() {
    let server = Server::start().await;
    let collection = "/apis/networking.k8s.io/v1/namespaces/demo/networkpolicies";
    let policy = json!({"metadata": {"name": "ports"}, "spec": {"podSelector": {},
        "egress": [{"ports": [{"port": 30000, "endPort": 32768}]}]}});
    let made = server.made(collection, &policy).await;
    assert_eq!(
        made["spec"]["egress"][0]["ports"][0],
        json!({"protocol": "TCP", "port": 30000, "endPort": 32768})
    );
    assert_eq!(made["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
}

#[tokio::test]
async fn endpoint_slice_should_support_creating_endpoint_slice_api_operations() {
    let server = Server::start().await;
    let fields = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"]}]});
    let collection = "/apis/discovery.k8s.io/v1/namespaces/demo/endpointslices";
    supports_api_operations(&server, collection, three("EndpointSlice", &fields), None).await;
}

#[tokio::test]
async fn endpoints_should_test_the_lifecycle_of_an_endpoint() {
    let server = Server::start().await;
    let collection = "/api/v1/namespaces/demo/endpoints";
    let one = format!("{collection}/testservice");
    let port = |number: i64| json!([{"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": number}]}]);
    let object =
        json!({"metadata": {"name": "testservice", "labels": {"test-endpoint-static": "true"}}, "subsets": port(80)});
    server.made(collection, &object).await;
    let label = "labelSelector=test-endpoint-static%3Dtrue";
    assert_eq!(
        server.names(&format!("/api/v1/endpoints?{label}")).await,
        ["testservice"]
    );
    let mut read = server.get(&one).await.json();
    read["metadata"]["labels"]["test-service"] = "updated".into();
    assert_eq!(server.put(&one, &read).await.code, StatusCode::OK);
    let patched = server.merge(&one, &json!({"subsets": port(8080)})).await;
    assert_eq!(patched["subsets"][0]["ports"][0]["port"], 8080);
    assert_eq!(patched["metadata"]["labels"]["test-service"], "updated");
    assert_eq!(
        server.delete(&format!("{collection}?{label}")).await.code,
        StatusCode::OK
    );
    assert_eq!(server.get(&one).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn services_should_complete_a_service_status_lifecycle() {
    let server = Server::start().await;
    let collection = "/api/v1/namespaces/demo/services";
    let object = json!({"metadata": {"name": "web", "labels": {"test": "yes"}},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
    let made = server.made(collection, &object).await;
    assert_eq!(made["status"], json!({"loadBalancer": {}}));
    let status = format!("{collection}/web/status");
    let balanced = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "VIP"}]}});
    let patched = server
        .merge(
            &status,
            &json!({"metadata": {"annotations": {"patched": "true"}}, "status": balanced}),
        )
        .await;
    assert_eq!(patched["status"], balanced);
    let condition = json!([{"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from test",
        "lastTransitionTime": "2026-11-21T02:00:00Z"}]);
    let mut read = server.get(&status).await.json();
    read["status"]["conditions"] = condition.clone();
    let updated = server.put(&status, &read).await;
    assert_eq!(updated.code, StatusCode::OK, "{}", updated.message());
    assert_eq!(updated.json()["status"]["conditions"], condition);
    let kept = server
        .merge(
            &format!("{collection}/web"),
            &json!({"metadata": {"labels": {"test": "patched"}}}),
        )
        .await;
    assert_eq!(kept["status"]["loadBalancer"], balanced["loadBalancer"]);
    assert_eq!(server.delete(&format!("{collection}/web")).await.code, StatusCode::OK);
}

#[tokio::test]
async fn services_should_delete_a_collection_of_services() {
    let server = Server::start().await;
    let collection = "/api/v1/namespaces/demo/services";
    for (name, label) in [("a", "yes"), ("b", "yes"), ("c", "no")] {
        let object =
            json!({"metadata": {"name": name, "labels": {"collect": label}}, "spec": {"ports": [{"port": 80}]}});
        server.made(collection, &object).await;
    }
    let deleted = server
        .delete(&format!("{collection}?labelSelector=collect%3Dyes"))
        .await;
    assert_eq!(deleted.code, StatusCode::OK, "{}", deleted.message());
    assert_eq!(server.names(collection).await, ["c"]);
    assert_eq!(server.names("/apis/networking.k8s.io/v1/ipaddresses").await.len(), 1);
}

#[tokio::test]
async fn services_should_find_a_service_from_listing_all_namespaces() {
    let server = Server::start().await;
    for namespace in ["default", "demo"] {
        let object = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
        server
            .made(&format!("/api/v1/namespaces/{namespace}/services"), &object)
            .await;
    }
    assert_eq!(server.names("/api/v1/services").await, ["web", "web"]);
    assert_eq!(
        server
            .names("/api/v1/services?fieldSelector=metadata.namespace%3Ddemo")
            .await,
        ["web"]
    );
}

/// One stored object, two versions of it.
#[tokio::test]
async fn an_event_is_seen_through_both_of_its_groups() {
    let server = Server::start().await;
    let (core, new) = (
        "/api/v1/namespaces/demo/events",
        "/apis/events.k8s.io/v1/namespaces/demo/events",
    );
    let about = json!({"kind": "Pod", "namespace": "demo", "name": "web"});
    let series = json!({"count": 3, "lastObservedTime": "2026-11-21T02:00:00.000000Z"});
    let event = json!({"metadata": {"name": "e"}, "regarding": about, "note": "pulled", "reason": "Pulled", "type": "Normal",
        "action": "Pull", "reportingController": "kubelet", "reportingInstance": "w1",
        "eventTime": "2026-11-21T02:00:00.000000Z", "series": series});
    let made = server.made(new, &event).await;
    assert_eq!(
        (&made["apiVersion"], &made["note"]),
        (&json!("events.k8s.io/v1"), &json!("pulled"))
    );
    let old = server.get(&format!("{core}/e")).await.json();
    assert_eq!((&old["apiVersion"], &old["message"]), (&json!("v1"), &json!("pulled")));
    assert_eq!(
        (&old["involvedObject"], &old["reportingComponent"]),
        (&about, &json!("kubelet"))
    );
    assert_eq!((&old["series"], old.get("note")), (&series, None));
    let legacy = json!({"metadata": {"name": "l"}, "involvedObject": about, "message": "old", "reason": "R", "type": "Normal",
        "source": {"component": "kubelet"}, "count": 2, "firstTimestamp": "2026-11-21T02:00:00Z"});
    server.made(core, &legacy).await;
    let seen = server.get(&format!("{new}/l")).await.json();
    assert_eq!((&seen["note"], &seen["deprecatedCount"]), (&json!("old"), &json!(2)));
    assert_eq!(seen["deprecatedSource"], json!({"component": "kubelet"}));
    assert_eq!(seen["deprecatedFirstTimestamp"], "2026-11-21T02:00:00Z");
    assert_eq!(
        server
            .names(&format!("{new}?fieldSelector=regarding.name%3Dweb,reason%3DPulled"))
            .await,
        ["e"]
    );
    assert_eq!(
        server
            .names(&format!("{core}?fieldSelector=involvedObject.name%3Dweb,reason%3DR"))
            .await,
        ["l"]
    );
    let patched = server.merge(&format!("{new}/l"), &json!({"note": "changed"})).await;
    assert_eq!(patched["note"], "changed");
    assert_eq!(server.get(&format!("{core}/l")).await.json()["message"], "changed");
    let list = server.get(new).await.json();
    assert_eq!(
        (&list["kind"], &list["items"][1]["note"]),
        (&json!("EventList"), &json!("changed"))
    );
    let bare = server
        .post(
            new,
            &json!({"metadata": {"name": "b"}, "regarding": about, "type": "Odd"}),
        )
        .await;
    let message = bare.message();
    for wanted in [
        "reportingController: Required value",
        "action: Required value",
        "eventTime: Required value",
        r#"type: Invalid value: "": has invalid value: Odd"#,
    ] {
        assert!(message.contains(wanted), "{message}");
    }
    assert_eq!(server.delete(&format!("{new}/e")).await.code, StatusCode::OK);
    assert_eq!(server.get(&format!("{core}/e")).await.code, StatusCode::NOT_FOUND);
}
