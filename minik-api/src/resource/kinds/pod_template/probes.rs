//! Validation of probes and lifecycle handlers.

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::names;

const SCHEMES: &[&str] = &["HTTP", "HTTPS"];

/// Checks lifecycle handlers and probes of a container of a Pod that gets `grace` seconds to end.
pub(super) fn of_container(field: &str, container: &Container, grace: Option<i64>) -> FieldErrors {
    let mut errors = Vec::new();
    if let Some(lifecycle) = &container.lifecycle {
        for (child, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            errors.extend(
                handler
                    .iter()
                    .flat_map(|h| lifecycle_handler(&format!("{field}.lifecycle.{child}"), h, grace)),
            );
        }
    }
    let probes = [
        ("livenessProbe", &container.liveness_probe, true),
        ("readinessProbe", &container.readiness_probe, false),
        ("startupProbe", &container.startup_probe, true),
    ];
    for (child, probe, one_success) in probes {
        let Some(probe) = probe else { continue };
        let at = format!("{field}.{child}");
        errors.extend(validate(&at, probe));
        let successes = probe.success_threshold.unwrap_or_default();
        if one_success && successes != 1 {
            errors.push(FieldError::invalid(
                format!("{at}.successThreshold"),
                successes,
                "must be 1",
            ));
        }
        if let Some(grace) = probe
            .termination_grace_period_seconds
            .filter(|_| child == "readinessProbe")
        {
            let at = format!("{at}.terminationGracePeriodSeconds");
            errors.push(FieldError::invalid(at, grace, "must not be set for readinessProbes"));
        }
    }
    errors
}

/// Checks an init container, which may have probes only when it goes on running beside the others.
pub(super) fn of_init_container(field: &str, container: &Container, grace: Option<i64>) -> FieldErrors {
    let restarts = container.restart_policy.as_deref();
    match restarts {
        Some("Always") => return of_container(field, container, grace),
        Some(other) if !matches!(other, "Never" | "OnFailure") => {
            return vec![FieldError::not_supported(
                format!("{field}.restartPolicy"),
                other,
                &["Always", "Never", "OnFailure"],
            )];
        }
        _ => {}
    }
    let detail = "may not be set for init containers without restartPolicy=Always";
    let present = [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    present
        .into_iter()
        .filter(|(_, present)| *present)
        .map(|(child, _)| FieldError::forbidden(format!("{field}.{child}"), detail))
        .collect()
}

fn validate(field: &str, probe: &Probe) -> FieldErrors {
    let handlers = [
        ("exec", probe.exec.as_ref().map(|a| exec(&format!("{field}.exec"), a))),
        (
            "httpGet",
            probe
                .http_get
                .as_ref()
                .map(|a| http_get(&format!("{field}.httpGet"), a)),
        ),
        (
            "tcpSocket",
            probe
                .tcp_socket
                .as_ref()
                .map(|a| tcp_socket(&format!("{field}.tcpSocket"), a)),
        ),
        (
            "grpc",
            probe
                .grpc
                .as_ref()
                .map(|a| FieldError::each(&format!("{field}.grpc.port"), a.port, names::port_number(a.port))),
        ),
    ];
    let mut errors = exactly_one(field, handlers);
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (child, number) in numbers {
        if let Some(number) = number.filter(|n| *n < 0) {
            errors.push(FieldError::invalid(
                format!("{field}.{child}"),
                number,
                "must be greater than or equal to 0",
            ));
        }
    }
    if let Some(grace) = probe.termination_grace_period_seconds.filter(|grace| *grace <= 0) {
        let at = format!("{field}.terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(at, grace, "must be greater than 0"));
    }
    errors
}

fn lifecycle_handler(field: &str, handler: &LifecycleHandler, grace: Option<i64>) -> FieldErrors {
    let handlers = [
        ("exec", handler.exec.as_ref().map(|a| exec(&format!("{field}.exec"), a))),
        (
            "httpGet",
            handler
                .http_get
                .as_ref()
                .map(|a| http_get(&format!("{field}.httpGet"), a)),
        ),
        (
            "tcpSocket",
            handler
                .tcp_socket
                .as_ref()
                .map(|a| tcp_socket(&format!("{field}.tcpSocket"), a)),
        ),
        (
            "sleep",
            handler
                .sleep
                .as_ref()
                .map(|a| sleep(&format!("{field}.sleep"), a.seconds, grace.unwrap_or_default())),
        ),
    ];
    exactly_one(field, handlers)
}

/// The errors of the first handler; each further one is forbidden, and none at all is an error of its own.
fn exactly_one<const N: usize>(field: &str, handlers: [(&str, Option<FieldErrors>); N]) -> FieldErrors {
    let mut errors = Vec::new();
    let mut given = 0;
    for (child, handler) in handlers {
        let Some(handler) = handler else { continue };
        if given > 0 {
            errors.push(FieldError::forbidden(
                format!("{field}.{child}"),
                "may not specify more than 1 handler type",
            ));
        } else {
            errors.extend(handler);
        }
        given += 1;
    }
    if given == 0 {
        errors.push(FieldError::required(field, "must specify a handler type"));
    }
    errors
}

fn exec(field: &str, action: &ExecAction) -> FieldErrors {
    let empty = action.command.as_deref().unwrap_or_default().is_empty();
    if empty {
        vec![FieldError::required(format!("{field}.command"), "")]
    } else {
        Vec::new()
    }
}

fn http_get(field: &str, action: &HTTPGetAction) -> FieldErrors {
    let mut errors = Vec::new();
    if action.path.as_deref().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(format!("{field}.path"), ""));
    }
    errors.extend(port(&format!("{field}.port"), &action.port));
    let scheme = action.scheme.as_deref().unwrap_or_default();
    if !SCHEMES.contains(&scheme) {
        errors.push(FieldError::not_supported(format!("{field}.scheme"), scheme, SCHEMES));
    }
    for header in action.http_headers.iter().flatten() {
        let at = format!("{field}.httpHeaders");
        errors.extend(FieldError::each(
            &at,
            header.name.as_str(),
            names::header_name(&header.name),
        ));
    }
    errors
}

/// A pause may not be longer than what the Pod gets to end.
fn sleep(field: &str, seconds: i64, grace: i64) -> FieldErrors {
    let detail = || format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
    let wrong = !(0..=grace).contains(&seconds);
    wrong
        .then(|| FieldError::invalid(field, seconds, detail()))
        .into_iter()
        .collect()
}

fn tcp_socket(field: &str, action: &TCPSocketAction) -> FieldErrors {
    port(&format!("{field}.port"), &action.port)
}

/// A port by number or by name.
fn port(field: &str, port: &IntOrString) -> FieldErrors {
    match port {
        IntOrString::Int(number) => FieldError::each(field, *number, names::port_number(*number)),
        IntOrString::String(name) => FieldError::each(field, name.as_str(), names::port_name(name)),
    }
}
