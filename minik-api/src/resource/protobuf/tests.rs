//! The table against the JSON schema, the transcoder's laws, and what Kubernetes' decoders say about broken bytes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::table::{Field, MessageId, Scalar, Type, standard};
use super::{Expected, from_json, to_json};
use crate::resource::Registry;
use crate::resource::schema::{self, StructId};

fn service() -> Expected {
    Expected {
        api_version: "v1".to_owned(),
        kind: "Service",
    }
}

fn json_of(body: &[u8]) -> Value {
    serde_json::from_slice(&to_json(body, &service()).expect("decodes")).expect("is JSON")
}

/// A Service body around the bytes of its message.
fn service_body(raw: &[u8]) -> Vec<u8> {
    let mut body = b"k8s\0".to_vec();
    super::wire::put_bytes(&mut body, 2, raw);
    body
}

fn refusal(body: &[u8]) -> String {
    to_json(body, &service()).expect_err("is refused").to_string()
}

/// The fields of a message, with those of the messages that stand in its place.
fn flattened(id: MessageId) -> Vec<&'static Field> {
    let fields = standard().fields(id).iter();
    fields
        .flat_map(|field| match &field.ty {
            Type::Message(inner) if field.is_inline() => flattened(*inner),
            _ => vec![field],
        })
        .collect()
}

fn agrees(json: &schema::Type, wire: &Type) -> bool {
    let scalar = match (json, wire) {
        (schema::Type::Struct(id), Type::Message(message)) => {
            return *schema::standard().get(*id).name == *standard().name(*message);
        }
        (schema::Type::List(json), Type::List(wire) | Type::Wrapped(wire))
        | (schema::Type::Map(json), Type::Map(wire)) => return agrees(json, wire),
        (_, Type::Scalar(scalar)) => *scalar,
        _ => return false,
    };
    matches!(
        (json, scalar),
        (schema::Type::Bool, Scalar::Bool)
            | (schema::Type::Int32, Scalar::Int32)
            | (schema::Type::Int64, Scalar::Int64)
            | (schema::Type::Float64, Scalar::Double)
            | (schema::Type::String, Scalar::String)
            | (schema::Type::Bytes, Scalar::Bytes)
            | (schema::Type::Time, Scalar::Time)
            | (schema::Type::MicroTime, Scalar::MicroTime)
            | (schema::Type::Quantity, Scalar::Quantity)
            | (schema::Type::IntOrString, Scalar::IntOrString)
            | (schema::Type::Any, Scalar::Json)
    )
}

fn check(id: StructId, seen: &mut BTreeSet<StructId>, wrong: &mut Vec<String>) {
    if !seen.insert(id) {
        return;
    }
    let definition = schema::standard().get(id);
    let name = &*definition.name;
    let Some(message) = standard().named(name) else {
        wrong.push(format!("{name}: no message (scripts/protobuf lists the packages)"));
        return;
    };
    let fields = flattened(message);
    let on_wire = |name: &str| fields.iter().find(|field| &*field.name == name);
    for field in definition.fields() {
        match on_wire(&field.name) {
            // A whole object's version and kind are in the envelope.
            None if matches!(&*field.name, "apiVersion" | "kind") => {}
            None => wrong.push(format!("{name}.{}: only in the schema", field.name)),
            Some(wire) if !agrees(&field.ty, &wire.ty) => {
                wrong.push(format!("{name}.{}: {:?} and {:?}", field.name, field.ty, wire.ty));
            }
            Some(_) => {}
        }
        let mut ty = &field.ty;
        while let schema::Type::List(inner) | schema::Type::Map(inner) = ty {
            ty = inner;
        }
        if let schema::Type::Struct(inner) = ty {
            check(*inner, seen, wrong);
        }
    }
    for field in fields {
        if definition.field(&field.name).is_none() {
            wrong.push(format!("{name}.{}: only in the table", field.name));
        }
    }
}

#[test]
fn the_table_and_the_schema_have_the_same_fields_of_the_same_types() {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
    let mut roots: Vec<String> = vec![
        "io.k8s.api.autoscaling.v1.Scale".to_owned(),
        "io.k8s.api.core.v1.Binding".to_owned(),
        format!("{META}.DeleteOptions"),
        format!("{META}.Status"),
    ];
    for kind in Registry::standard().iter() {
        let info = &kind.info;
        assert_eq!(
            standard()
                .of_kind(&info.api_version(), info.kind)
                .map(|id| standard().name(id)),
            Some(info.schema)
        );
        roots.extend([info.schema.to_owned(), format!("{}List", info.schema)]);
    }
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for root in &roots {
        if let Some(id) = schema::standard().named(root) {
            check(id, &mut seen, &mut wrong);
        }
    }
    assert!(seen.len() > 150, "only {} definitions compared", seen.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn numbers_of_a_message_are_distinct_and_in_order() {
    for id in standard().iter() {
        let fields = standard().fields(id);
        assert!(
            fields.windows(2).all(|pair| pair[0].number < pair[1].number),
            "{}",
            standard().name(id)
        );
        assert!(fields.first().is_none_or(|field| field.number > 0));
    }
}

#[test]
fn a_zero_is_kept_where_go_has_a_pointer_and_left_out_where_it_has_none() {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 0, "minReadySeconds": 0, "paused": false, "template": {"spec": {
            "automountServiceAccountToken": false, "hostNetwork": false,
            "containers": [{"name": "", "image": "", "ports": [{"containerPort": 0, "hostPort": 0}]}],
        }}},
    });
    let body = from_json(&deployment).expect("encodes");
    let back = json_of(&body);
    let spec = &back["spec"];
    assert_eq!(spec["replicas"], 0);
    assert!(
        spec.get("minReadySeconds").is_none() && spec.get("paused").is_none(),
        "{spec}"
    );
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert!(pod.get("hostNetwork").is_none(), "{pod}");
    let container = &pod["containers"][0];
    assert_eq!(container["name"], "");
    assert!(container.get("image").is_none(), "{container}");
    assert_eq!(container["ports"][0], json!({"containerPort": 0}));
}

#[test]
fn what_json_writes_in_its_own_way_comes_back_as_it_was() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "p", "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"a": "b", "c": ""},
            "managedFields": [{"manager": "m", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {".": {}}}}],
        },
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "w", "secret": {"secretName": "s", "defaultMode": 420}}],
            "containers": [{
                "name": "c",
                "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 10},
                "readinessProbe": {"tcpSocket": {"port": 80}},
                "env": [{"name": "k", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": false}}}],
            }],
            "securityContext": {"supplementalGroups": [1, 2, 3]},
            "overhead": {"cpu": "1"},
        },
        "status": {},
    });
    assert_eq!(json_of(&from_json(&pod).expect("encodes")), pod);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
        "spec": {"renewTime": "2026-01-02T03:04:05.000006Z", "holderIdentity": ""},
    });
    assert_eq!(json_of(&from_json(&lease).expect("encodes")), lease);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "AAECAw==", "empty": ""},
    });
    assert_eq!(json_of(&from_json(&secret).expect("encodes")), secret);
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
        "spec": {"extra": {"scopes": ["a", "b"], "none": []}}, "status": {"allowed": false},
    });
    assert_eq!(json_of(&from_json(&review).expect("encodes")), review);
}

#[test]
fn messages_come_in_pieces_and_with_unknown_fields() {
    // metadata twice, field 100 of every wire type between, a group among them.
    let mut raw = vec![0x0a, 3, 0x0a, 1, b'a'];
    raw.extend([
        0xa0, 6, 1, 0xa1, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0xa2, 6, 1, 7, 0xa5, 6, 0, 0, 0, 0,
    ]);
    raw.extend([0xa3, 6, 0x08, 1, 0xa4, 6]);
    raw.extend([0x0a, 3, 0x1a, 1, b'n']);
    let object = json_of(&service_body(&raw));
    assert_eq!(object["metadata"], json!({"name": "a", "namespace": "n"}));
}

/// The words are those of apimachinery's protobuf serializer and of gogo-protobuf's generated decoders.
#[test]
fn broken_bytes_are_refused_in_kubernetes_words() {
    assert_eq!(
        refusal(b""),
        "the object provided is unrecognized (must be of type Service): empty data (<empty>)"
    );
    assert_eq!(
        refusal(b"{}"),
        "the object provided is unrecognized (must be of type Service): provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] ({})"
    );
    assert_eq!(
        refusal(b"k8s\0"),
        "the object provided is unrecognized (must be of type Service): empty body (6b387300)"
    );
    assert_eq!(
        refusal(b"k8s\0\x12\x05a"),
        "the object provided is unrecognized (must be of type Service): unexpected EOF (6b387300120561)"
    );
    assert_eq!(
        refusal(b"k8s\0\x10\x05"),
        "the object provided is unrecognized (must be of type Service): proto: wrong wireType = 0 for field Raw (6b3873001005)"
    );
    let handled = |problem: &str| format!("Service in version \"v1\" cannot be handled as a Service: {problem}");
    for (raw, problem) in [
        (&[0x0a, 5][..], "unexpected EOF"),
        (&[0x08, 1], "proto: wrong wireType = 0 for field ObjectMeta"),
        (&[0x12, 2, 0x18, 1], "proto: wrong wireType = 0 for field ClusterIP"),
        (&[0x00, 1], "proto: Service: illegal tag 0 (wire type 0)"),
        (&[0x0c], "proto: Service: wiretype end group for non-group"),
        (&[0xff; 11], "proto: integer overflow"),
        (&[0xff; 5], "unexpected EOF"),
        (&[0xa6, 6], "proto: illegal wireType 6"),
        (
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            "proto: negative length found during unmarshaling",
        ),
    ] {
        assert_eq!(refusal(&service_body(raw)), handled(problem), "{raw:?}");
    }
}

#[test]
fn what_does_not_fit_its_message_is_not_written() {
    let wrong = json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": "http"}]}});
    let error = from_json(&wrong).expect_err("is refused");
    assert_eq!(error.to_string(), "ServicePort.port cannot be written as protobuf");
    let unknown = json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table"});
    assert_eq!(
        from_json(&unknown).expect_err("is refused").to_string(),
        "meta.k8s.io/v1 Table has no protobuf form"
    );
}

/// A value of a type, as the JSON decoder leaves it.
fn value_of(ty: &Type, depth: u32) -> BoxedStrategy<Value> {
    let word = "[a-z]{1,8}";
    match ty {
        Type::Message(id) => object_of(*id, depth),
        Type::List(item) | Type::Wrapped(item) => prop::collection::vec(value_of(item, depth), 1..3)
            .prop_map(Value::Array)
            .boxed(),
        Type::Map(value) => prop::collection::btree_map(word, value_of(value, depth), 1..3)
            .prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
            .boxed(),
        Type::Scalar(scalar) => match scalar {
            Scalar::Bool => Just(json!(true)).boxed(),
            Scalar::Int32 => any::<i32>()
                .prop_filter_map("zero", |n| (n != 0).then(|| json!(n)))
                .boxed(),
            Scalar::Int64 => any::<i64>()
                .prop_filter_map("zero", |n| (n != 0).then(|| json!(n)))
                .boxed(),
            Scalar::Double => (1..1000_i32).prop_map(|n| json!(f64::from(n) / 8.0)).boxed(),
            Scalar::String => "\\PC{1,8}".prop_map(Value::String).boxed(),
            Scalar::Bytes => prop::collection::vec(any::<u8>(), 1..9)
                .prop_map(|bytes| json!(data_encoding::BASE64.encode(&bytes)))
                .boxed(),
            Scalar::Time => (0..59_u8)
                .prop_map(|n| json!(format!("2026-01-02T03:04:{n:02}Z")))
                .boxed(),
            Scalar::MicroTime => (0..999_999_u32)
                .prop_map(|n| json!(format!("1962-01-02T03:04:05.{n:06}Z")))
                .boxed(),
            Scalar::Quantity => (1..999_u32).prop_map(|n| json!(format!("{n}Mi"))).boxed(),
            Scalar::IntOrString => prop_oneof![
                any::<i32>().prop_map(|n| json!(n)),
                "[a-z0-9%]{0,8}".prop_map(Value::String)
            ]
            .boxed(),
            Scalar::Json => Just(json!({"f:spec": {"f:x": [1, null]}})).boxed(),
        },
    }
}

/// An object of a message in which some fields are set, and every one that Go always writes.
fn object_of(id: MessageId, depth: u32) -> BoxedStrategy<Value> {
    let mut all = Just(Map::new()).boxed();
    for field in standard().fields(id) {
        let always = match &field.ty {
            Type::Message(_) => !field.pointer,
            Type::Scalar(scalar) => {
                !field.pointer
                    && (!field.omit_empty || matches!(scalar, Scalar::Quantity | Scalar::IntOrString))
                    && !matches!(scalar, Scalar::Time | Scalar::MicroTime | Scalar::Json | Scalar::Bytes)
            }
            _ => false,
        };
        if !always && depth == 0 {
            continue;
        }
        let value = value_of(&field.ty, depth.saturating_sub(1));
        let value = if always {
            value.prop_map(Some).boxed()
        } else {
            prop::option::weighted(0.2, value).boxed()
        };
        let name = field.name.to_string();
        all = (all, value)
            .prop_map(move |(mut object, value)| {
                match value {
                    Some(Value::Object(inner)) if name.is_empty() => object.extend(inner),
                    Some(value) => drop(object.insert(name.clone(), value)),
                    None => {}
                }
                object
            })
            .boxed();
    }
    all.prop_map(Value::Object).boxed()
}

fn any_kind() -> BoxedStrategy<Value> {
    let registry = Registry::standard();
    let kinds = registry.iter().map(|kind| {
        let (api_version, kind) = (kind.info.api_version(), kind.info.kind);
        let id = standard().of_kind(&api_version, kind).expect("has a message");
        object_of(id, 3)
            .prop_map(move |mut object| {
                object["apiVersion"] = api_version.as_str().into();
                object["kind"] = kind.into();
                object
            })
            .boxed()
    });
    prop::strategy::Union::new(kinds.collect::<Vec<_>>()).boxed()
}

proptest! {
    #[test]
    fn an_object_of_any_kind_comes_back_from_protobuf(object in any_kind()) {
        let body = from_json(&object).expect("encodes");
        prop_assert_eq!(json_of(&body), object);
    }

    #[test]
    fn broken_bodies_are_refused_without_panic(
        object in any_kind(), cut in any::<prop::sample::Index>(), flips in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4),
    ) {
        let mut body = from_json(&object).expect("encodes");
        for (at, value) in flips {
            let at = at.index(body.len());
            body[at] = value;
        }
        body.truncate(cut.index(body.len() + 1));
        if let Ok(json) = to_json(&body, &service()) {
            serde_json::from_slice::<Value>(&json).expect("is JSON");
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(raw in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(json) = to_json(&service_body(&raw), &service()) {
            serde_json::from_slice::<Value>(&json).expect("is JSON");
        }
    }
}
