//! Pod specs that 1.36 refuses for where they want to run, as whom, and with how much. Texts are those of
//! Kubernetes' `pkg/apis/core/validation`.

use minik_api::resource::Registry;
use serde_json::{Value, json};

use crate::{causes, prepared, row};

fn refusals(more: Value) -> Vec<String> {
    let mut spec = json!({"containers": [{"name": "a", "image": "nginx"}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let registry = Registry::standard();
    let kind = row(&registry, "Pod");
    let object = prepared(kind, &json!({"metadata": {"name": "p"}, "spec": spec}));
    let errors = kind.strategy.validate(&object).unwrap();
    causes(&errors)
        .into_iter()
        .map(|(field, text)| format!("{field}: {text}"))
        .collect()
}

fn container(more: Value) -> Value {
    let mut container = json!({"name": "a", "image": "nginx"});
    container
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"containers": [container]})
}

#[test]
fn where_a_pod_wants_to_run_is_checked() {
    let required = |term: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": term}}}});
    let at = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let cases = [
        (required(json!([])), format!("{at}: Required value: must have at least one node selector term")),
        (
            required(json!([{"matchExpressions": [{"key": "zone", "operator": "In"}]}])),
            format!("{at}[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"),
        ),
        (
            json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 0, "podAffinityTerm": {"topologyKey": "zone"}},
            ]}}}),
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100".to_owned(),
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero".to_owned(),
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "Maybe"}]}),
            "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Maybe\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"".to_owned(),
        ),
        (
            json!({"readinessGates": [{"conditionType": "example.com/"}]}),
            "spec.readinessGates[0].conditionType: Invalid value: \"example.com/\": name part must be non-empty".to_owned(),
        ),
    ];
    for (more, expected) in cases {
        assert_eq!(refusals(more.clone()).first(), Some(&expected), "{more}");
    }
}

#[test]
fn who_a_pod_runs_as_and_with_how_much_is_checked() {
    let cases = [
        (
            json!({"securityContext": {"runAsUser": -1}}),
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
        (
            container(json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false}})),
            "spec.containers[0].securityContext.allowPrivilegeEscalation: Invalid value: false: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
            "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
        (
            container(json!({"resources": {"limits": {"gpu": "1"}}})),
            "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
        ),
        (
            container(json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}})),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            container(json!({"resources": {"requests": {"example.com/gpu": "1"}}})),
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            json!({"ephemeralContainers": [{"name": "e", "image": "busybox"}]}),
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ),
        (
            json!({"overhead": {"fish": "1"}}),
            "spec.overhead.limits[fish]: Invalid value: \"fish\": must be a standard resource type or fully qualified",
        ),
    ];
    for (more, expected) in cases {
        assert_eq!(
            refusals(more.clone()).first().map(String::as_str),
            Some(expected),
            "{more}"
        );
    }
}
