//! Where volumes come from and whom they are for: what 1.36 refuses, of Pods and of PersistentVolumes, and how a claim
//! may change. Texts are those of Kubernetes' `pkg/apis/core/validation`.

use minik_api::resource::Registry;
use serde_json::{Value, json};

use crate::{causes, prepared, row};

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

fn refusals(kind: &str, body: &Value) -> Vec<String> {
    let registry = Registry::standard();
    let kind = row(&registry, kind);
    let errors = kind.strategy.validate(&prepared(kind, body)).unwrap();
    let texts = causes(&errors).into_iter();
    texts.map(|(field, text)| format!("{field}: {text}")).collect()
}

fn of_persistent_volume(name: &str, source: &Value) -> Vec<String> {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}});
    spec.as_object_mut()
        .unwrap()
        .extend(source.as_object().unwrap().clone());
    refusals("PersistentVolume", &json!({"metadata": {"name": name}, "spec": spec}))
}

fn of_pod(name: &str, source: &Value) -> Vec<String> {
    let mut volume = json!({"name": name});
    volume
        .as_object_mut()
        .unwrap()
        .extend(source.as_object().unwrap().clone());
    let spec = json!({"containers": [{"name": "a", "image": "nginx"}], "volumes": [volume]});
    refusals("Pod", &json!({"metadata": {"name": "p"}, "spec": spec}))
}

/// Sources and what is wrong with each, whoever has it; fields are told from the owner on.
fn assert_refused<const N: usize>(cases: [(Value, &[&str]); N]) {
    for (source, expected) in cases {
        let under = |parent: &str| -> Vec<String> { expected.iter().map(|text| format!("{parent}.{text}")).collect() };
        assert_eq!(of_persistent_volume("pv", &source), under("spec"), "{source}");
        assert_eq!(of_pod("data", &source), under("spec.volumes[0]"), "{source}");
    }
}

#[test]
fn paths_and_disks_have_what_their_kind_requires() {
    assert_refused([
        (
            json!({"gcePersistentDisk": {"pdName": ""}}),
            &["persistentDisk.pdName: Required value"],
        ),
        (
            json!({"awsElasticBlockStore": {"volumeID": "v", "partition": 256}}),
            &["awsElasticBlockStore.partition: Invalid value: 256: must be between 1 and 255, inclusive"],
        ),
        (
            json!({"fc": {}}),
            &["fc.targetWWNs: Required value: must specify either targetWWNs or wwids, but not both"],
        ),
        (
            json!({"fc": {"targetWWNs": ["w"]}}),
            &["fc.lun: Required value: lun is required if targetWWNs is specified"],
        ),
        (json!({"hostPath": {"path": ""}}), &["hostPath.path: Required value"]),
        (
            json!({"hostPath": {"path": "/a/../b", "type": "Pipe"}}),
            &[
                "hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                "hostPath.type: Unsupported value: \"Pipe\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            ],
        ),
        (
            json!({"azureDisk": {"diskName": "d", "diskURI": "https://x", "kind": "Managed", "cachingMode": "Write"}}),
            &[
                "azureDisk.cachingMode: Unsupported value: \"Write\": supported values: \"None\", \"ReadOnly\", \"ReadWrite\"",
                "azureDisk.diskURI: Unsupported value: \"https://x\": supported values: \"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}\"",
            ],
        ),
    ]);
}

#[test]
fn storage_in_the_network_has_what_its_kind_requires() {
    assert_refused([
        (
            json!({"nfs": {"server": "", "path": ""}}),
            &[
                "nfs.server: Required value",
                "nfs.path: Required value",
                "nfs.path: Invalid value: \"\": must be an absolute path",
            ],
        ),
        (
            json!({"rbd": {"monitors": [], "image": ""}}),
            &["rbd.monitors: Required value", "rbd.image: Required value"],
        ),
        (
            json!({"flexVolume": {"driver": "d", "options": {"fs.kubernetes.io/type": "x", "other": "y"}}}),
            &[
                "flexVolume.options[fs.kubernetes.io/type]: Invalid value: \"fs.kubernetes.io/type\": kubernetes.io and k8s.io namespaces are reserved",
            ],
        ),
        (
            json!({"flocker": {"datasetName": "a/b", "datasetUUID": "u"}}),
            &[
                "flocker: Invalid value: \"resource\": datasetName and datasetUUID can not be specified simultaneously",
                "flocker.datasetName: Invalid value: \"a/b\": must not contain '/'",
            ],
        ),
        (
            json!({"quobyte": {"registry": "here", "volume": ""}}),
            &[
                "quobyte.registry: Invalid value: \"here\": must be a host:port pair or multiple pairs separated by commas",
                "quobyte.volume: Required value",
            ],
        ),
        (
            json!({"iscsi": {"targetPortal": "10.0.0.1:3260", "iqn": "iqn.2015-02.example.com", "lun": 300}}),
            &[
                "iscsi.iqn: Invalid value: \"iqn.2015-02.example.com\": must be valid format",
                "iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive",
            ],
        ),
        (
            json!({"iscsi": {"targetPortal": "10.0.0.1:3260", "iqn": "naa.0123456789abcdef0123456789abcdef", "lun": 0, "chapAuthSession": true}}),
            &["iscsi.secretRef: Required value"],
        ),
        (
            json!({"storageos": {"volumeName": "Data"}}),
            &[
                "storageos.volumeName: Invalid value: \"Data\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
    ]);
}

#[test]
fn the_two_owners_of_a_source_refer_to_secrets_in_their_own_way() {
    let cinder = json!({"cinder": {"volumeID": "1", "secretRef": {"name": "s"}}});
    assert_eq!(of_pod("data", &cinder), [""; 0]);
    assert_eq!(
        of_persistent_volume("pv", &cinder),
        ["spec.cinder.secretRef.namespace: Required value"]
    );
    assert_eq!(
        of_persistent_volume(
            "pv",
            &json!({"csi": {"driver": "d", "volumeHandle": "", "nodePublishSecretRef": {}}})
        ),
        [
            "spec.csi.volumeHandle: Required value",
            "spec.csi.nodePublishSecretRef.name: Required value",
            "spec.csi.nodePublishSecretRef.namespace: Required value",
        ]
    );
    assert_eq!(
        of_pod(
            "data",
            &json!({"csi": {"driver": "", "nodePublishSecretRef": {"name": ""}}})
        )[..1],
        ["spec.volumes[0].csi.driver: Required value"]
    );
    let named = "iqn.2015-02.example.com:disk";
    let iscsi = json!({"iscsi": {"targetPortal": "10.0.0.1:3260", "iqn": named, "lun": 0, "initiatorName": "me"}});
    let portal = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
    let long = "v".repeat(60);
    assert_eq!(
        of_persistent_volume(&long, &iscsi),
        [
            format!("spec.iscsi.targetportal: Invalid value: \"10.0.0.1:3260\": {portal}"),
            "spec.iscsi.initiatorname: Invalid value: \"me\": must be valid format".to_owned(),
        ]
    );
    assert_eq!(
        of_pod(&long, &iscsi),
        [
            "spec.volumes[0].iscsi.initiatorname: Invalid value: \"me\": must be valid format starting with iqn, eui, or naa".to_owned(),
            format!("spec.volumes[0].name: Invalid value: \"{long}\": {portal}"),
        ]
    );
}

#[test]
fn a_volume_of_a_pod_may_be_a_claim_of_its_own() {
    assert_eq!(
        of_pod("data", &json!({"ephemeral": {}})),
        ["spec.volumes[0].ephemeral.volumeClaimTemplate: Required value"]
    );
    let claim = json!({"metadata": {"labels": {"a b": "c"}}, "spec": {"accessModes": [], "resources": {"requests": {"storage": "1Gi"}}}});
    let found = of_pod("data", &json!({"ephemeral": {"volumeClaimTemplate": claim}}));
    let fields: Vec<&str> = found.iter().filter_map(|text| Some(text.split_once(": ")?.0)).collect();
    let at = "spec.volumes[0].ephemeral.volumeClaimTemplate";
    assert_eq!(
        fields,
        [format!("{at}.metadata.labels"), format!("{at}.spec.accessModes")]
    );
}

#[test]
fn a_local_volume_is_on_a_node() {
    assert_eq!(
        of_persistent_volume("pv", &json!({"local": {"path": "/disk"}})),
        ["spec.nodeAffinity: Required value: Local volume requires node affinity"]
    );
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In"}]});
    let source = json!({"local": {"path": "/disk"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}});
    assert_eq!(
        of_persistent_volume("pv", &source),
        [
            "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
        ]
    );
}

/// What is wrong with a claim that becomes `after`: annotations and spec.
fn claim_refusals(before: &Value, after: &Value) -> Vec<String> {
    let registry = Registry::standard();
    let kind = row(&registry, "PersistentVolumeClaim");
    let with = |more: &Value| {
        let mut body = json!({"metadata": {"name": "c"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        }});
        if let Some(class) = more["annotation"].as_str() {
            body["metadata"]["annotations"][CLASS] = class.into();
        }
        for field in ["storageClassName", "volumeAttributesClassName"] {
            if !more[field].is_null() {
                body["spec"][field] = more[field].clone();
            }
        }
        prepared(kind, &body)
    };
    let (old, mut new) = (with(before), with(after));
    kind.strategy.prepare_for_update(&mut new, &old).unwrap();
    let errors = kind.strategy.validate_update(&new, &old).unwrap();
    let texts = causes(&errors).into_iter();
    texts.map(|(field, text)| format!("{field}: {text}")).collect()
}

#[test]
fn a_claim_gets_its_class_once() {
    let unchangeable = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n";
    let cases = [
        (json!({}), json!({"storageClassName": "fast"}), vec![]),
        (
            json!({"storageClassName": "fast"}),
            json!({"storageClassName": "slow"}),
            vec![unchangeable.to_owned()],
        ),
        // The class of the annotation moves to the field.
        (
            json!({"annotation": "fast"}),
            json!({"annotation": "fast", "storageClassName": "fast"}),
            vec![],
        ),
        (
            json!({"annotation": "fast"}),
            json!({"storageClassName": "fast"}),
            vec![],
        ),
        (
            json!({"annotation": "fast"}),
            json!({"annotation": "fast", "storageClassName": "slow"}),
            vec![unchangeable.to_owned()],
        ),
        (
            json!({"annotation": "fast"}),
            json!({"annotation": "slow"}),
            vec![format!(
                "metadata.annotations.{CLASS}: Invalid value: \"slow\": field is immutable"
            )],
        ),
        (
            json!({"volumeAttributesClassName": "gold"}),
            json!({"volumeAttributesClassName": "silver"}),
            vec![],
        ),
        (
            json!({"volumeAttributesClassName": "gold"}),
            json!({}),
            vec!["spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden".to_owned()],
        ),
    ];
    for (before, after, expected) in cases {
        assert_eq!(claim_refusals(&before, &after), expected, "{before} → {after}");
    }
}

#[test]
fn the_class_of_the_annotation_is_shown_first() {
    let registry = Registry::standard();
    let now = "2026-11-21T02:56:17Z".parse().unwrap();
    for (kind, column) in [("PersistentVolume", 6), ("PersistentVolumeClaim", 5)] {
        let kind = row(&registry, kind);
        let body =
            json!({"metadata": {"name": "a", "annotations": {CLASS: "old"}}, "spec": {"storageClassName": "new"}});
        let cells = kind.strategy.row(&prepared(kind, &body), now).unwrap();
        assert_eq!(cells[column], "old");
    }
}
