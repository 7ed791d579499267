//! Validation of who a Pod's processes run as, and what they may do to the node.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, Sysctl};

use crate::resource::field::{FieldError, FieldErrors};

const IDS: std::ops::RangeInclusive<i64> = 0..=i32::MAX as i64;
const OUT_OF_RANGE: &str = "must be between 0 and 2147483647, inclusive";
const PROC_MOUNTS: [&str; 2] = ["Default", "Unmasked"];
const CHANGE_POLICIES: [&str; 2] = ["Always", "OnRootMismatch"];
const GROUP_POLICIES: [&str; 2] = ["Merge", "Strict"];
const SECCOMP: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
const LONGEST_SYSCTL: usize = 253;

/// Checks the security context of a Pod.
pub(super) fn of_pod(field: &str, spec: &PodSpec) -> FieldErrors {
    let Some(context) = &spec.security_context else {
        return Vec::new();
    };
    let mut errors = ids(field, context);
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(
            format!("{field}.shareProcessNamespace"),
            true,
            detail,
        ));
    }
    errors.extend(sysctls(
        &format!("{field}.sysctls"),
        context.sysctls.as_deref().unwrap_or_default(),
    ));
    for (child, policy, supported) in [
        ("fsGroupChangePolicy", &context.fs_group_change_policy, CHANGE_POLICIES),
        (
            "supplementalGroupsPolicy",
            &context.supplemental_groups_policy,
            GROUP_POLICIES,
        ),
    ] {
        if let Some(policy) = policy.as_deref().filter(|policy| !supported.contains(policy)) {
            errors.push(FieldError::not_supported(
                format!("{field}.{child}"),
                policy,
                &supported,
            ));
        }
    }
    if let Some(profile) = &context.seccomp_profile {
        errors.extend(seccomp(&format!("{field}.seccompProfile"), profile));
    }
    errors
}

fn id(field: &str, id: Option<i64>) -> Option<FieldError> {
    let id = id.filter(|id| !IDS.contains(id))?;
    Some(FieldError::invalid(field, id, OUT_OF_RANGE))
}

fn ids(field: &str, context: &PodSecurityContext) -> FieldErrors {
    let mut errors = Vec::new();
    errors.extend(id(&format!("{field}.fsGroup"), context.fs_group));
    errors.extend(id(&format!("{field}.runAsUser"), context.run_as_user));
    errors.extend(id(&format!("{field}.runAsGroup"), context.run_as_group));
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        errors.extend(id(&format!("{field}.supplementalGroups[{index}]"), Some(*group)));
    }
    errors
}

fn sysctls(field: &str, sysctls: &[Sysctl]) -> FieldErrors {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (index, sysctl) in sysctls.iter().enumerate() {
        let at = format!("{field}[{index}].name");
        let name = sysctl.name.as_str();
        if name.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if !is_sysctl(name) {
            let detail = format!(
                "must have at most {LONGEST_SYSCTL} characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            );
            errors.push(FieldError::invalid(at, name, detail));
        } else if !taken.insert(name) {
            errors.push(FieldError::duplicate(at, name));
        }
    }
    errors
}

fn is_sysctl(name: &str) -> bool {
    let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
    let outside = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.iter().all(|c| inside(*c)) && outside(bytes.first()) && outside(bytes.last())
    };
    name.len() <= LONGEST_SYSCTL && name.split(['.', '/']).all(part)
}

/// Checks the security context of a container.
pub(super) fn of_container(field: &str, context: &SecurityContext) -> FieldErrors {
    let mut errors = Vec::new();
    errors.extend(id(&format!("{field}.runAsUser"), context.run_as_user));
    errors.extend(id(&format!("{field}.runAsGroup"), context.run_as_group));
    if let Some(mount) = context
        .proc_mount
        .as_deref()
        .filter(|mount| !PROC_MOUNTS.contains(mount))
    {
        let at = format!("{field}.procMount");
        errors.push(FieldError::not_supported(at, mount, &PROC_MOUNTS));
    }
    if context.allow_privilege_escalation == Some(false) {
        let at = format!("{field}.allowPrivilegeEscalation");
        if context.privileged == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(at.as_str(), false, detail));
        }
        let added = context.capabilities.as_ref().and_then(|c| c.add.as_ref());
        if added
            .into_iter()
            .flatten()
            .any(|capability| capability == "CAP_SYS_ADMIN")
        {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(at, false, detail));
        }
    }
    if let Some(profile) = &context.seccomp_profile {
        errors.extend(seccomp(&format!("{field}.seccompProfile"), profile));
    }
    errors
}

fn seccomp(field: &str, profile: &SeccompProfile) -> FieldErrors {
    let at = format!("{field}.type");
    let localhost = format!("{field}.localhostProfile");
    let path = profile.localhost_profile.as_deref();
    match profile.type_.as_str() {
        "Localhost" => match path {
            None => vec![FieldError::required(
                localhost,
                "must be set when seccomp type is Localhost",
            )],
            Some(path) if path.starts_with('/') => {
                vec![FieldError::invalid(localhost, path, "must be a relative path")]
            }
            Some(path) if path.split('/').any(|part| part == "..") => {
                vec![FieldError::invalid(localhost, path, "must not contain '..'")]
            }
            Some(_) => Vec::new(),
        },
        kind => {
            let mut errors = Vec::new();
            if kind.is_empty() {
                errors.push(FieldError::required(at, "type is required when seccompProfile is set"));
            } else if !SECCOMP.contains(&kind) {
                errors.push(FieldError::not_supported(at, kind, &SECCOMP));
            }
            if let Some(path) = path {
                let detail = "can only be set when seccomp type is Localhost";
                errors.push(FieldError::invalid(localhost, path, detail));
            }
            errors
        }
    }
}
