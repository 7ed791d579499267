//! What a node counts of its Pods, in the kubelet's names (`pkg/kubelet/metrics`, `pkg/kubelet/prober`): how long making
//! and starting took, and what probes found. Written by the Pods' workers, read by the kubelet's endpoint.
//!
//! Labels are bounded by the Pods that are there: those of one that goes go with it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use prometheus::core::Collector;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder, exponential_buckets,
};

use crate::probe::check::Outcome;
use crate::probe::schedule::Kind;

/// Results of a probe, as the label `result` has them.
const RESULTS: [&str; 3] = ["successful", "failed", "unknown"];
/// Labels that name a probe.
const PROBE: [&str; 4] = ["probe_type", "container", "pod", "namespace"];

/// Something that is done for a Pod, as the label `operation_type` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Network, files and shim; all of a sandbox.
    RunPodSandbox,
    /// The network of it: namespace, veth, address and routes.
    SetUpPod,
    /// A container's image, variables and mounts.
    CreateContainer,
    /// Its root file system and program, in the shim.
    StartContainer,
    /// Telling the API server.
    PatchStatus,
}

impl Operation {
    fn label(self) -> &'static str {
        match self {
            Self::RunPodSandbox => "run_podsandbox",
            Self::SetUpPod => "set_up_pod",
            Self::CreateContainer => "create_container",
            Self::StartContainer => "start_container",
            Self::PatchStatus => "patch_status",
        }
    }
}

/// The numbers of one node; cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Numbers>);

#[derive(Debug)]
struct Numbers {
    own: Registry,
    probes: Registry,
    operations: HistogramVec,
    probed: IntCounterVec,
    probe_duration: HistogramVec,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new().expect("names and buckets are constant and valid")
    }
}

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let histogram = |name, help, buckets, labels: &[&str]| {
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels)
        };
        let operations = histogram(
            "kubelet_runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations. Broken down by operation type.",
            exponential_buckets(0.005, 2.5, 14)?,
            &["operation_type"],
        )?;
        let probed = IntCounterVec::new(
            Opts::new(
                "prober_probe_total",
                "Cumulative number of a liveness, readiness or startup probe for a container by result.",
            ),
            &["probe_type", "result", "container", "pod", "namespace", "pod_uid"],
        )?;
        let probe_duration = histogram(
            "prober_probe_duration_seconds",
            "Duration in seconds for a probe response.",
            prometheus::DEFAULT_BUCKETS.to_vec(),
            &PROBE,
        )?;
        let (own, probes) = (Registry::new(), Registry::new());
        own.register(boxed(&operations))?;
        probes.register(boxed(&probed))?;
        probes.register(boxed(&probe_duration))?;
        Ok(Self(Arc::new(Numbers {
            own,
            probes,
            operations,
            probed,
            probe_duration,
        })))
    }

    /// An operation took so long.
    pub fn took(&self, operation: Operation, time: Duration) {
        let labels = [operation.label()];
        self.0.operations.with_label_values(&labels).observe(time.as_secs_f64());
    }

    /// A probe of a container was answered.
    pub fn probed(&self, pod: &Pod, container: &str, kind: Kind, outcome: &Outcome, time: Duration) {
        let (name, namespace, uid) = names(pod);
        let result = match outcome.result() {
            Some(true) => RESULTS[0],
            Some(false) => RESULTS[1],
            None => RESULTS[2],
        };
        let total = [kind.word(), result, container, name, namespace, uid];
        self.0.probed.with_label_values(&total).inc();
        let duration = [kind.word(), container, name, namespace];
        self.0
            .probe_duration
            .with_label_values(&duration)
            .observe(time.as_secs_f64());
    }

    /// Forgets the probes of a Pod that goes.
    pub fn forget(&self, pod: &Pod) {
        let (name, namespace, uid) = names(pod);
        let spec = pod.spec.iter();
        let containers = spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        for container in containers {
            for kind in Kind::ALL.iter().filter(|kind| kind.of(container).is_some()) {
                let (word, container) = (kind.word(), container.name.as_str());
                // What was never asked has no numbers.
                for result in RESULTS {
                    let labels = [word, result, container, name, namespace, uid];
                    self.0.probed.remove_label_values(&labels).ok();
                }
                let labels = [word, container, name, namespace];
                self.0.probe_duration.remove_label_values(&labels).ok();
            }
        }
    }

    /// `/metrics`, as Prometheus' text.
    pub fn text(&self) -> prometheus::Result<String> {
        text(&self.0.own)
    }

    /// `/metrics/probes`, as Prometheus' text.
    pub fn probes_text(&self) -> prometheus::Result<String> {
        text(&self.0.probes)
    }
}

fn boxed<C: Collector + Clone + 'static>(metric: &C) -> Box<dyn Collector> {
    Box::new(metric.clone())
}

fn text(registry: &Registry) -> prometheus::Result<String> {
    let mut out = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Name, namespace and UID.
fn names(pod: &Pod) -> (&str, &str, &str) {
    let metadata = &pod.metadata;
    (
        metadata.name.as_deref().unwrap_or_default(),
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.uid.as_deref().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn probes_are_counted_by_result_and_forgotten_with_their_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"containers": [{"name": "c", "livenessProbe": {"exec": {"command": ["true"]}}}]},
        }))
        .unwrap();
        let metrics = Metrics::default();
        let time = Duration::from_millis(3);
        metrics.probed(&pod, "c", Kind::Liveness, &Outcome::Success, time);
        metrics.probed(&pod, "c", Kind::Liveness, &Outcome::Failure("no".into()), time);
        metrics.probed(&pod, "c", Kind::Liveness, &Outcome::Failure("no".into()), time);
        let text = metrics.probes_text().unwrap();
        let failed = r#"prober_probe_total{container="c",namespace="default",pod="web",pod_uid="u",probe_type="Liveness",result="failed"} 2"#;
        assert!(text.lines().any(|line| line == failed), "{text}");
        let count = r#"prober_probe_duration_seconds_count{container="c",namespace="default",pod="web",probe_type="Liveness"} 3"#;
        assert!(text.lines().any(|line| line == count), "{text}");
        metrics.forget(&pod);
        assert_eq!(metrics.probes_text().unwrap(), "");
    }

    #[test]
    fn operations_are_timed_by_type() {
        let metrics = Metrics::default();
        metrics.took(Operation::SetUpPod, Duration::from_millis(3));
        let text = metrics.text().unwrap();
        let first = r#"kubelet_runtime_operations_duration_seconds_bucket{operation_type="set_up_pod",le="0.005"} 1"#;
        assert!(text.lines().any(|line| line == first), "{text}");
    }
}
