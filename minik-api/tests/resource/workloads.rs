//! The kinds that make Pods, and those that give them storage or limit them: what 1.36 fills in, refuses and
//! prints. Texts are those of Kubernetes' `pkg/apis/{apps,batch,core}/validation`.

use minik_api::resource::Registry;
use serde_json::{Value, json};

use crate::{causes, prepared, row};

const UID: &str = "11111111-2222-3333-4444-555555555555";

fn template(labels: Value, restart: &str) -> Value {
    json!({"metadata": {"labels": labels}, "spec": {
        "restartPolicy": restart, "containers": [{"name": "web", "image": "nginx:1"}],
    }})
}

fn body(kind: &str, spec: &Value) -> Value {
    let uid = if kind == "Job" { json!(UID) } else { Value::Null };
    let mut body = json!({"metadata": {"name": "a", "creationTimestamp": "2026-11-21T02:55:53Z"}, "spec": spec});
    if !uid.is_null() {
        body["metadata"]["uid"] = uid;
    }
    body
}

fn created(kind: &str, spec: &Value) -> Value {
    let registry = Registry::standard();
    prepared(row(&registry, kind), &body(kind, spec))
}

fn refusals(kind: &str, spec: &Value) -> Vec<String> {
    let registry = Registry::standard();
    let errors = row(&registry, kind).strategy.validate(&created(kind, spec)).unwrap();
    causes(&errors)
        .into_iter()
        .map(|(field, text)| format!("{field}: {text}"))
        .collect()
}

fn update_refusals(kind: &str, before: &Value, after: &Value) -> Vec<String> {
    let registry = Registry::standard();
    let kind_row = row(&registry, kind);
    let old = created(kind, before);
    let mut new = old.clone();
    for (field, value) in after.as_object().unwrap() {
        new["spec"][field] = value.clone();
    }
    kind_row.strategy.default(&mut new).unwrap();
    kind_row.strategy.prepare_for_update(&mut new, &old).unwrap();
    let errors = kind_row.strategy.validate_update(&new, &old).unwrap();
    causes(&errors)
        .into_iter()
        .map(|(field, text)| format!("{field}: {text}"))
        .collect()
}

fn with(base: &Value, more: Value) -> Value {
    let mut spec = base.clone();
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn workload() -> Value {
    json!({"selector": {"matchLabels": {"app": "web"}}, "template": template(json!({"app": "web"}), "Always")})
}

fn job() -> Value {
    json!({"template": template(json!({"app": "web"}), "Never")})
}

#[test]
fn workloads_get_the_defaults_of_kubernetes() {
    let set = created("StatefulSet", &workload());
    assert_eq!(set["spec"]["podManagementPolicy"], "OrderedReady");
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
    );
    let keep = json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
    assert_eq!(set["spec"]["persistentVolumeClaimRetentionPolicy"], keep);
    assert_eq!(set["status"], json!({"replicas": 0, "availableReplicas": 0}));

    let set = created("DaemonSet", &workload());
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
    );
    assert_eq!(
        set["metadata"]["annotations"]["deprecated.daemonset.template.generation"],
        "1"
    );

    let controller = created(
        "ReplicationController",
        &json!({"template": template(json!({"app": "web"}), "Always")}),
    );
    assert_eq!(controller["spec"]["selector"], json!({"app": "web"}));
    assert_eq!(controller["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(controller["spec"]["replicas"], 1);
}

#[test]
fn jobs_get_a_selector_of_their_own() {
    let job = created("Job", &job());
    let labels = json!({
        "app": "web", "job-name": "a", "controller-uid": UID,
        "batch.kubernetes.io/job-name": "a", "batch.kubernetes.io/controller-uid": UID,
    });
    assert_eq!(job["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(job["metadata"]["labels"], labels);
    assert_eq!(
        job["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": UID}})
    );
    for (field, value) in [
        ("backoffLimit", json!(6)),
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("manualSelector", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
    ] {
        assert_eq!(job["spec"][field], value, "{field}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_makes_no_sense_is_refused() {
    let mismatch = "Invalid value: {\"app\":\"db\"}: `selector` does not match template `labels`";
    let other = with(
        &workload(),
        json!({"template": template(json!({"app": "db"}), "Always")}),
    );
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let volume = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/t"}});
    let cases: Vec<(&str, Value, Vec<String>)> = vec![
        ("StatefulSet", workload(), vec![]),
        ("StatefulSet", other.clone(), vec![format!("spec.template.metadata.labels: {mismatch}")]),
        ("DaemonSet", other, vec![format!("spec.template.metadata.labels: {mismatch}")]),
        (
            "StatefulSet",
            with(&workload(), json!({"podManagementPolicy": "Any", "replicas": -1})),
            vec![
                "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'".into(),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0".into(),
            ],
        ),
        (
            "StatefulSet",
            with(&workload(), json!({"template": template(json!({"app": "web"}), "Never")})),
            vec!["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"".into()],
        ),
        (
            "DaemonSet",
            with(&workload(), json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}})),
            vec!["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0".into()],
        ),
        (
            "DaemonSet",
            with(&workload(), json!({"updateStrategy": {"rollingUpdate": {"maxSurge": "10%"}}})),
            vec![
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: \"10%\": may not be set when maxUnavailable is non-zero".into(),
            ],
        ),
        (
            "ReplicationController",
            json!({"replicas": 1}),
            vec![
                "spec.selector: Required value".into(),
                "spec.template: Required value".into(),
            ],
        ),
        (
            "Job",
            json!({"template": template(json!({}), "Always")}),
            vec!["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"".into()],
        ),
        (
            "Job",
            with(&job(), json!({"completionMode": "Indexed", "parallelism": 2})),
            vec!["spec.completions: Required value: when completion mode is Indexed".into()],
        ),
        (
            "Job",
            with(&job(), json!({"backoffLimitPerIndex": 1, "managedBy": "me"})),
            vec![
                "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")".into(),
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode".into(),
            ],
        ),
        (
            "Job",
            with(&job(), json!({"podFailurePolicy": {"rules": [{"action": "FailJob"}]}})),
            vec!["spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required".into()],
        ),
        (
            "Job",
            with(
                &job(),
                json!({"completionMode": "Indexed", "completions": 200_000, "parallelism": 20_000, "backoffLimitPerIndex": 1}),
            ),
            vec![
                "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000".into(),
                "spec.parallelism: Invalid value: 20000: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index".into(),
            ],
        ),
        (
            "CronJob",
            json!({"schedule": "@daily", "jobTemplate": {"spec": with(&job(), json!({"manualSelector": true}))}}),
            vec!["spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"".into()],
        ),
        (
            "CronJob",
            json!({"schedule": "* * *", "concurrencyPolicy": "Maybe", "timeZone": "Nowhere", "jobTemplate": {"spec": job()}}),
            vec![
                "spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]".into(),
                "spec.timeZone: Invalid value: \"Nowhere\": unknown time zone Nowhere".into(),
                "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"".into(),
            ],
        ),
        ("PersistentVolumeClaim", claim.clone(), vec![]),
        (
            "PersistentVolumeClaim",
            json!({}),
            vec![
                "spec.accessModes: Required value: at least 1 access mode is required".into(),
                "spec.resources[storage]: Required value".into(),
            ],
        ),
        (
            "PersistentVolumeClaim",
            with(&claim, json!({"accessModes": ["ReadWriteOncePod", "ReadOnlyMany"], "volumeMode": "Tape"})),
            vec![
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes".into(),
                "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"".into(),
            ],
        ),
        (
            "PersistentVolume",
            with(&volume, json!({"nfs": {"server": "s", "path": "/"}, "persistentVolumeReclaimPolicy": "Burn"})),
            vec![
                "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \"Recycle\", \"Retain\"".into(),
                "spec.nfs: Forbidden: may not specify more than 1 volume type".into(),
            ],
        ),
        (
            "PersistentVolume",
            json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "0"}}),
            vec![
                "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero".into(),
                "spec: Required value: must specify a volume type".into(),
            ],
        ),
        (
            "LimitRange",
            json!({"limits": [{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "1"}}]}),
            vec![
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'".into(),
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1".into(),
            ],
        ),
        (
            "ResourceQuota",
            json!({"hard": {"pods": "1500m", "fish": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}),
            vec![
                "spec.hard[fish]: Invalid value: \"fish\": must be a standard resource type or fully qualified".into(),
                "spec.hard[fish]: Invalid value: \"fish\": must be a standard resource for quota".into(),
                "spec.hard[pods]: Invalid value: \"1500m\": must be an integer".into(),
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes".into(),
            ],
        ),
    ];
    for (kind, spec, expected) in cases {
        assert_eq!(refusals(kind, &spec), expected, "{kind} {spec}");
    }
}

#[test]
fn what_may_not_change_stays() {
    let stateful = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    assert_eq!(
        update_refusals("StatefulSet", &workload(), &json!({"podManagementPolicy": "Parallel"})),
        [stateful]
    );
    assert_eq!(
        update_refusals("StatefulSet", &workload(), &json!({"replicas": 3})),
        [""; 0]
    );
    assert_eq!(
        update_refusals("Job", &job(), &json!({"completions": 3})),
        ["spec.completions: Invalid value: 3: field is immutable"]
    );
    assert_eq!(update_refusals("Job", &job(), &json!({"parallelism": 3})), [""; 0]);
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    assert_eq!(
        update_refusals(
            "PersistentVolumeClaim",
            &claim,
            &json!({"accessModes": ["ReadOnlyMany"]})
        ),
        [
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"
        ]
    );
}

/// What is wrong with a Job that says `now` of itself after it said `before`.
fn status_refusals(spec: &Value, before: &Value, now: &Value) -> Vec<String> {
    let registry = Registry::standard();
    let kind = row(&registry, "Job");
    let mut old = created("Job", spec);
    old["status"] = before.clone();
    let mut new = old.clone();
    new["status"] = now.clone();
    let errors = kind.strategy.validate_update(&new, &old).unwrap();
    let texts = causes(&errors).into_iter();
    texts.map(|(field, text)| format!("{field}: {text}")).collect()
}

#[test]
fn a_jobs_status_tells_one_story() {
    let indexed = with(
        &job(),
        json!({"completionMode": "Indexed", "completions": 10, "parallelism": 2, "backoffLimitPerIndex": 1}),
    );
    let condition = |kind: &str| json!({"type": kind, "status": "True"});
    let cases = [
        (job(), json!({"active": 1, "startTime": "2026-11-21T02:55:53Z"}), vec![]),
        (
            job(),
            json!({"uncountedTerminatedPods": {"succeeded": ["a", ""], "failed": ["a"]}}),
            vec![
                "status.uncountedTerminatedPods.succeeded[1]: Invalid value: \"\": must not be empty",
                "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"a\"",
            ],
        ),
        (
            indexed.clone(),
            json!({"completedIndexes": "0,2-4,8", "failedIndexes": "1,4-6"}),
            vec![
                "status.failedIndexes: Invalid value: \"1,4-6\": failedIndexes and completedIndexes overlap at index: 4",
            ],
        ),
        (
            indexed.clone(),
            json!({"completedIndexes": "0,2-4,8", "failedIndexes": "1,5-7,9"}),
            vec![],
        ),
        (
            indexed,
            json!({"completedIndexes": "3,1", "failedIndexes": "10"}),
            vec![
                "status.completedIndexes: Invalid value: \"3,1\": error parsing completedIndexes: non-increasing order, previous: 3, current: 1",
                "status.failedIndexes: Invalid value: \"10\": error parsing failedIndexes: too large index: \"10\"",
            ],
        ),
        (
            job(),
            json!({"failedIndexes": "x"}),
            vec![
                "status.failedIndexes: Invalid value: \"x\": cannot set non-null failedIndexes when backoffLimitPerIndex is null",
            ],
        ),
        (
            with(
                &job(),
                json!({"completionMode": "Indexed", "completions": 2, "successPolicy": {"rules": [{"succeededCount": 1}]}}),
            ),
            json!({"conditions": [condition("Complete"), condition("FailureTarget")], "active": 1, "ready": 2}),
            vec![
                "status.conditions: Invalid value: cannot set Complete=True and FailureTarget=true conditions",
                "status.completionTime: Required value: completionTime is required for Complete jobs",
                "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
                "status.active: Invalid value: 1: active>0 is invalid for finished job",
                "status.startTime: Required value: startTime is required for finished job",
                "status.ready: Invalid value: 2: cannot set more ready pods than active",
                "status.conditions: Invalid value: cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
            ],
        ),
    ];
    for (spec, now, expected) in cases {
        assert_eq!(status_refusals(&spec, &json!({}), &now), expected, "{now}");
    }
    let failed = json!({"failed": 2, "conditions": [condition("FailureTarget")]});
    assert_eq!(
        status_refusals(&job(), &failed, &json!({"failed": 1})),
        [
            "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition",
            "status.failed: Invalid value: 1: cannot decrease the failed counter",
        ]
    );
}

#[test]
fn generations_follow_the_spec() {
    let registry = Registry::standard();
    let kind = row(&registry, "DaemonSet");
    let old = created("DaemonSet", &workload());
    let mut new = old.clone();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx:2".into();
    kind.strategy.prepare_for_update(&mut new, &old).unwrap();
    assert_eq!(new["metadata"]["generation"], 2);
    assert_eq!(
        new["metadata"]["annotations"]["deprecated.daemonset.template.generation"],
        "2"
    );
    let mut status = old.clone();
    status["status"]["numberReady"] = 1.into();
    kind.strategy.prepare_for_status_update(&mut status, &old).unwrap();
    assert_eq!(status["metadata"]["generation"], 1);
}

/// Column names and cells of an object 24 seconds old.
fn cells(kind: &str, spec: Value, status: Value) -> (String, Value) {
    let registry = Registry::standard();
    let mut object = created(kind, &spec);
    if !status.is_null() {
        object["status"] = status;
    }
    let now = "2026-11-21T02:56:17Z".parse().unwrap();
    let kind = row(&registry, kind);
    let headers: Vec<&str> = kind.strategy.columns().iter().map(|c| c.name).collect();
    let cells = kind.strategy.row(&object, now).unwrap();
    assert_eq!(headers.len(), cells.len());
    (headers.join("|"), Value::from(cells))
}

#[test]
fn rows_are_those_of_kubectl() {
    let selector = format!("batch.kubernetes.io/controller-uid={UID}");
    let running = json!({"startTime": "2026-11-21T02:56:00Z", "succeeded": 0});
    let volume = json!({"accessModes": ["ReadWriteMany", "ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/t"}, "claimRef": {"namespace": "demo", "name": "c"}});
    let cases = [
        (
            cells("StatefulSet", workload(), Value::Null),
            "Name|Ready|Age|Containers|Images",
            json!(["a", "0/1", "24s", "web", "nginx:1"]),
        ),
        (
            cells("DaemonSet", workload(), Value::Null),
            "Name|Desired|Current|Ready|Up-to-date|Available|Node Selector|Age|Containers|Images|Selector",
            json!(["a", 0, 0, 0, 0, 0, "<none>", "24s", "web", "nginx:1", "app=web"]),
        ),
        (
            cells("Job", job(), running),
            "Name|Status|Completions|Duration|Age|Containers|Images|Selector",
            json!(["a", "Running", "0/1", "17s", "24s", "web", "nginx:1", selector]),
        ),
        (
            cells(
                "CronJob",
                json!({"schedule": "@daily", "jobTemplate": {"spec": job()}}),
                Value::Null,
            ),
            "Name|Schedule|Timezone|Suspend|Active|Last Schedule|Age|Containers|Images|Selector",
            json!([
                "a", "@daily", "<none>", "False", 0, "<none>", "24s", "web", "nginx:1", "<none>"
            ]),
        ),
        (
            cells("PersistentVolume", volume, Value::Null),
            "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|VolumeMode",
            json!([
                "a",
                "1Gi",
                "RWO,RWX",
                "Retain",
                "Pending",
                "demo/c",
                "",
                "<unset>",
                "",
                "24s",
                "Filesystem"
            ]),
        ),
        (
            cells("LimitRange", json!({"limits": []}), Value::Null),
            "Name|Created At",
            json!(["a", "2026-11-21T02:55:53Z"]),
        ),
        (
            cells(
                "ResourceQuota",
                json!({}),
                json!({"hard": {"pods": "2", "limits.cpu": "4"}, "used": {"pods": "1", "limits.cpu": "0"}}),
            ),
            "Name|Request|Limit|Age",
            json!(["a", "pods: 1/2", "limits.cpu: 0/4", "24s"]),
        ),
    ];
    for ((headers, cells), expected_headers, expected) in cases {
        assert_eq!(headers, expected_headers);
        assert_eq!(cells, expected);
    }
}
