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
fn a_pod_asks_of_its_system_what_that_one_has() {
    let own_users = json!({"hostUsers": false, "hostNetwork": true, "hostPID": true, "hostIPC": true});
    let windows = json!({
        "os": {"name": "windows"}, "hostPID": true, "securityContext": {"runAsUser": 1},
        "containers": [{"name": "a", "image": "nginx", "securityContext": {"privileged": false}}],
    });
    let on_windows = "Forbidden: cannot be set for a windows pod";
    let cases = [
        (json!({"hostUsers": false}), vec![]),
        (
            own_users,
            ["hostNetwork", "HostPID", "HostIPC"]
                .map(|child| format!("spec.{child}: Forbidden: when `hostUsers` is false"))
                .to_vec(),
        ),
        (json!({"os": {"name": "linux"}, "terminationGracePeriodSeconds": -5}), vec![]),
        (json!({"os": {"name": ""}}), vec!["spec.os.name: Required value: cannot be empty".to_owned()]),
        (
            json!({"os": {"name": "plan9"}}),
            vec!["spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\"".to_owned()],
        ),
        (
            json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}}),
            vec!["spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod".to_owned()],
        ),
        (
            windows,
            vec![
                format!("spec.securityContext.runAsUser: {on_windows}"),
                format!("spec.hostPID: {on_windows}"),
                format!("spec.containers[0].securityContext.privileged: {on_windows}"),
            ],
        ),
        (
            json!({"runtimeClassName": "g_visor"}),
            vec!["spec.runtimeClassName: Invalid value: \"g_visor\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".to_owned()],
        ),
    ];
    for (more, expected) in cases {
        assert_eq!(refusals(more.clone()), expected, "{more}");
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
            "spec.containers[0].securityContext: Invalid value: {\"Capabilities\":null,\"Privileged\":true,\"SELinuxOptions\":null,\"WindowsOptions\":null,\"RunAsUser\":null,\"RunAsGroup\":null,\"RunAsNonRoot\":null,\"ReadOnlyRootFilesystem\":null,\"AllowPrivilegeEscalation\":false,\"ProcMount\":null,\"SeccompProfile\":null,\"AppArmorProfile\":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
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

/// Lists of supported values stand as Kubernetes declares them, and sorted only where it keeps a set.
#[test]
fn choices_are_listed_as_kubernetes_lists_them() {
    let toleration = |more: Value| {
        let mut toleration = json!({"key": "a", "operator": "Exists"});
        toleration
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"tolerations": [toleration]})
    };
    let cases = [
        (
            json!({"restartPolicy": "Maybe"}),
            r#"spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never""#,
        ),
        (
            json!({"dnsPolicy": "Maybe"}),
            r#"spec.dnsPolicy: Unsupported value: "Maybe": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None""#,
        ),
        (
            json!({"preemptionPolicy": "Maybe"}),
            r#"spec.preemptionPolicy: Unsupported value: "Maybe": supported values: "PreemptLowerPriority", "Never""#,
        ),
        (
            container(json!({"terminationMessagePolicy": "Maybe"})),
            r#"spec.containers[0].terminationMessagePolicy: Unsupported value: "Maybe": supported values: "File", "FallbackToLogsOnError""#,
        ),
        (
            container(json!({"imagePullPolicy": "Maybe"})),
            r#"spec.containers[0].imagePullPolicy: Unsupported value: "Maybe": supported values: "Always", "IfNotPresent", "Never""#,
        ),
        (
            toleration(json!({"effect": "Maybe"})),
            r#"spec.tolerations[0].effect: Unsupported value: "Maybe": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#,
        ),
        (
            toleration(json!({"value": "b"})),
            r#"spec.tolerations[0].operator: Invalid value: {"Key":"a","Operator":"Exists","Value":"b","Effect":"","TolerationSeconds":null}: value must be empty when `operator` is 'Exists'"#,
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined", "localhostProfile": "p"}}}),
            r#"spec.securityContext.seccompProfile.localhostProfile: Invalid value: {"Type":"Unconfined","LocalhostProfile":"p"}: can only be set when seccomp type is Localhost"#,
        ),
        (
            json!({"securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": " p"}}}),
            r#"spec.securityContext.appArmorProfile.localhostProfile: Invalid value: " p": must not be padded with whitespace"#,
        ),
    ];
    for (more, expected) in cases {
        assert_eq!(refusals(more.clone()), [expected], "{more}");
    }
}

#[test]
fn two_constraints_on_one_topology_are_refused_at_the_first() {
    let spread = |skew| json!({"maxSkew": skew, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    assert_eq!(
        refusals(json!({"topologySpreadConstraints": [spread(1), spread(2)]})),
        [
            r#"spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{zone, DoNotSchedule}""#
        ]
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_a_container_is_given_is_checked() {
    let env = |from: Value| container(json!({"env": [{"name": "A", "valueFrom": from}]}));
    let from = "spec.containers[0].env[0].valueFrom";
    let mount = |more: Value| {
        let mut mount = json!({"name": "v", "mountPath": "/v"});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut spec = container(json!({"volumeMounts": [mount]}));
        spec["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
        spec
    };
    let probe = |name: &str, more: Value| {
        let mut probe = json!({"tcpSocket": {"port": 80}});
        probe.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        container(json!({name: probe}))
    };
    let cases = [
        (
            env(json!({"fieldRef": {"fieldPath": "spec.nodename"}})),
            vec![format!("{from}.fieldRef.fieldPath: Invalid value: \"spec.nodename\": error converting fieldPath: field label not supported: spec.nodename")],
        ),
        (
            env(json!({"fieldRef": {"fieldPath": "status.phase"}})),
            vec![format!("{from}.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"")],
        ),
        (env(json!({"fieldRef": {"fieldPath": "metadata.labels['app']"}})), vec![]),
        (
            env(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "10m"}})),
            vec![format!("{from}.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource")],
        ),
        (
            env(json!({"resourceFieldRef": {"resource": "cpu"}})),
            vec![format!("{from}.resourceFieldRef.resource: Unsupported value: \"cpu\": supported values: \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \"requests.ephemeral-storage\", \"requests.memory\"")],
        ),
        (
            env(json!({"configMapKeyRef": {"name": "c", "key": ""}})),
            vec![format!("{from}.configMapKeyRef.key: Required value")],
        ),
        (
            container(json!({"env": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}, "configMapKeyRef": {"name": "c", "key": "k"}}}]})),
            vec![format!("{from}: Invalid value: \"\": may not be specified when `value` is not empty")],
        ),
        (
            container(json!({"envFrom": [{"prefix": "A"}]})),
            vec!["spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`".to_owned()],
        ),
        (
            mount(json!({"subPath": "/../a"})),
            vec![
                "spec.containers[0].volumeMounts.subPath: Invalid value: \"/../a\": must be a relative path".to_owned(),
                "spec.containers[0].volumeMounts.subPath: Invalid value: \"/../a\": must not contain '..'".to_owned(),
            ],
        ),
        (
            probe("readinessProbe", json!({"terminationGracePeriodSeconds": 5})),
            vec!["spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes".to_owned()],
        ),
        (
            probe("livenessProbe", json!({"terminationGracePeriodSeconds": 0})),
            vec!["spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0".to_owned()],
        ),
        (
            container(json!({"startupProbe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "X_A", "value": "b"}]}}})),
            vec!["spec.containers[0].startupProbe.httpGet.httpHeaders: Invalid value: \"X_A\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')".to_owned()],
        ),
        (
            container(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}})),
            vec!["spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)".to_owned()],
        ),
        (
            container(json!({"image": " nginx"})),
            vec!["spec.containers[0].image: Invalid value: \" nginx\": must not have leading or trailing whitespace".to_owned()],
        ),
    ];
    for (more, expected) in cases {
        assert_eq!(refusals(more.clone()), expected, "{more}");
    }
}

#[test]
fn volumes_are_checked() {
    let volume = |source: Value| {
        let mut volume = json!({"name": "v"});
        volume
            .as_object_mut()
            .unwrap()
            .extend(source.as_object().unwrap().clone());
        json!({"volumes": [volume]})
    };
    let items = |path: &str| json!({"configMap": {"name": "c", "items": [{"key": "k", "path": path}]}});
    let at = "spec.volumes[0]";
    let mode = "must be a number between 0 and 0777 (octal), both inclusive";
    let cases = [
        (
            volume(json!({"emptyDir": {}, "downwardAPI": {}})),
            vec![format!(
                "{at}.downwarAPI: Forbidden: may not specify more than 1 volume type"
            )],
        ),
        (
            volume(json!({"secret": {"secretName": "s", "defaultMode": 512}})),
            vec![format!("{at}.secret.defaultMode: Invalid value: 512: {mode}")],
        ),
        (
            volume(items("../a")),
            vec![format!(
                "{at}.configMap.items[0].path: Invalid value: \"../a\": must not contain '..'"
            )],
        ),
        (
            volume(items("..a")),
            vec![format!(
                "{at}.configMap.items[0].path: Invalid value: \"..a\": must not start with '..'"
            )],
        ),
        (
            volume(json!({"hostPath": {"path": "/a", "type": "Tape"}})),
            vec![format!(
                "{at}.hostPath.type: Unsupported value: \"Tape\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\""
            )],
        ),
        (
            volume(json!({"persistentVolumeClaim": {"claimName": ""}})),
            vec![format!("{at}.persistentVolumeClaim.claimName: Required value")],
        ),
        (
            volume(json!({"downwardAPI": {"items": [{"path": "a", "resourceFieldRef": {"resource": "limits.cpu"}}]}})),
            vec![format!(
                "{at}.downwardAPI.resourceFieldRef.containerName: Required value"
            )],
        ),
        (
            volume(json!({"projected": {"sources": [
                {"secret": {"name": "s", "items": [{"key": "k", "path": "a"}]}},
                {"configMap": {"name": "c", "items": [{"key": "k", "path": "a"}]}, "secret": {"name": "t"}},
                {"serviceAccountToken": {"path": "t", "expirationSeconds": 10}},
            ]}})),
            vec![
                format!("{at}.projected: Invalid value: \"c\": conflicting duplicate paths"),
                format!("{at}.projected.sources[1]: Forbidden: may not specify more than 1 volume type"),
                format!(
                    "{at}.projected.sources[2].serviceAccountToken.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes"
                ),
            ],
        ),
    ];
    for (more, expected) in cases {
        assert_eq!(refusals(more.clone()), expected, "{more}");
    }
}

#[test]
fn a_volume_that_is_wrong_is_no_volume() {
    let mut spec = container(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
    spec["volumes"] = json!([{"name": "v", "secret": {}}]);
    assert_eq!(
        refusals(spec),
        [
            "spec.volumes[0].secret.secretName: Required value",
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\""
        ]
    );
}

#[test]
fn files_of_variables_are_in_an_empty_dir_of_the_pod() {
    let referring = |reference: Value| {
        let mut spec = container(json!({"env": [{"name": "K", "valueFrom": {"fileKeyRef": reference}}]}));
        spec["volumes"] = json!([{"name": "config", "emptyDir": {}}, {"name": "map", "configMap": {"name": "m"}}]);
        refusals(spec)
    };
    let at = "spec.containers[0].env[0].valueFrom.fileKeyRef";
    for (reference, expected) in [
        (
            json!({"volumeName": "config", "path": "a/config.env", "key": "K"}),
            vec![],
        ),
        (
            json!({"volumeName": "", "path": "", "key": ""}),
            vec![
                "key: Required value",
                "volumeName: Required value",
                "path: Required value",
            ],
        ),
        (
            json!({"volumeName": "config", "path": "../config.env", "key": "A=B"}),
            vec![
                "key: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
                "path: Invalid value: \"../config.env\": must not contain '..'",
            ],
        ),
        (
            json!({"volumeName": "none", "path": "config.env", "key": "K"}),
            vec!["volumeName: Not found: \"none\""],
        ),
        (
            json!({"volumeName": "map", "path": "config.env", "key": "K"}),
            vec!["volumeName: Invalid value: \"map\": referenced volume must be of type emptyDir"],
        ),
    ] {
        let expected: Vec<String> = expected.into_iter().map(|text| format!("{at}.{text}")).collect();
        assert_eq!(referring(reference.clone()), expected, "{reference}");
    }
    let file = json!({"volumeName": "config", "path": "config.env", "key": ""});
    let mut spec = container(json!({"env": [{"name": "K", "value": "v", "valueFrom": {"fileKeyRef": file}}]}));
    spec["volumes"] = json!([{"name": "config", "emptyDir": {}}]);
    assert_eq!(
        refusals(spec),
        [
            format!("{at}.key: Required value"),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"
                .to_owned(),
        ]
    );
}
