//! Validation of who a Pod's processes run as, and what they may do to the node.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, Sysctl,
};
use serde_json::json;

use crate::resource::field::{FieldError, FieldErrors, Shown};
use crate::resource::validation::paths;

const IDS: std::ops::RangeInclusive<i64> = 0..=i32::MAX as i64;
const OUT_OF_RANGE: &str = "must be between 0 and 2147483647, inclusive";
const PROC_MOUNTS: [&str; 2] = ["Default", "Unmasked"];
const CHANGE_POLICIES: [&str; 2] = ["Always", "OnRootMismatch"];
const GROUP_POLICIES: [&str; 2] = ["Merge", "Strict"];
/// Types of seccomp and AppArmor profiles.
const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
const LONGEST_SYSCTL: usize = 253;
/// Longest name of an AppArmor profile: a path, without its end.
const LONGEST_PROFILE: usize = 4095;

/// Checks that a Pod with users of its own shares no other namespace with its node (KEP-127). Two of the fields are told
/// under their Go names.
pub(super) fn host_users(field: &str, spec: &PodSpec) -> FieldErrors {
    let shared = [
        ("hostNetwork", spec.host_network),
        ("HostPID", spec.host_pid),
        ("HostIPC", spec.host_ipc),
    ];
    let refused = shared
        .into_iter()
        .filter(|(_, shared)| spec.host_users == Some(false) && *shared == Some(true));
    refused
        .map(|(child, _)| FieldError::forbidden(format!("{field}.{child}"), "when `hostUsers` is false"))
        .collect()
}

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
    let policy = |child: &str, policy: &Option<String>, supported: &[&str]| {
        let policy = policy.as_deref().filter(|policy| !supported.contains(policy))?;
        Some(FieldError::not_supported(format!("{field}.{child}"), policy, supported))
    };
    errors.extend(policy(
        "fsGroupChangePolicy",
        &context.fs_group_change_policy,
        &CHANGE_POLICIES,
    ));
    if let Some(profile) = &context.seccomp_profile {
        errors.extend(seccomp(&format!("{field}.seccompProfile"), profile));
    }
    if let Some(profile) = &context.app_armor_profile {
        errors.extend(app_armor(&format!("{field}.appArmorProfile"), profile));
    }
    errors.extend(policy(
        "supplementalGroupsPolicy",
        &context.supplemental_groups_policy,
        &GROUP_POLICIES,
    ));
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
        if context.privileged == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid_shown(field, shown(context), detail));
        }
        let added = context.capabilities.as_ref().and_then(|c| c.add.as_ref());
        if added
            .into_iter()
            .flatten()
            .any(|capability| capability == "CAP_SYS_ADMIN")
        {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid_shown(field, shown(context), detail));
        }
    }
    if let Some(profile) = &context.seccomp_profile {
        errors.extend(seccomp(&format!("{field}.seccompProfile"), profile));
    }
    if let Some(profile) = &context.app_armor_profile {
        errors.extend(app_armor(&format!("{field}.appArmorProfile"), profile));
    }
    errors
}

/// A container's security context as Kubernetes' internal struct.
fn shown(context: &SecurityContext) -> Shown {
    let text = |text: &Option<String>| json!(text.as_deref().unwrap_or_default()).into();
    let capabilities = context.capabilities.as_ref().map(|capabilities| {
        Shown::go([
            ("Add", json!(capabilities.add).into()),
            ("Drop", json!(capabilities.drop).into()),
        ])
    });
    let se_linux = context.se_linux_options.as_ref().map(|options| {
        Shown::go([
            ("User", text(&options.user)),
            ("Role", text(&options.role)),
            ("Type", text(&options.type_)),
            ("Level", text(&options.level)),
        ])
    });
    let windows = context.windows_options.as_ref().map(|options| {
        Shown::go([
            (
                "GMSACredentialSpecName",
                json!(options.gmsa_credential_spec_name).into(),
            ),
            ("GMSACredentialSpec", json!(options.gmsa_credential_spec).into()),
            ("RunAsUserName", json!(options.run_as_user_name).into()),
            ("HostProcess", json!(options.host_process).into()),
        ])
    });
    let profile = |kind: &str, path: &Option<String>| shown_profile(kind, path.as_deref());
    let seccomp = context.seccomp_profile.as_ref();
    let app_armor = context.app_armor_profile.as_ref();
    Shown::go([
        ("Capabilities", Shown::pointer(capabilities)),
        ("Privileged", json!(context.privileged).into()),
        ("SELinuxOptions", Shown::pointer(se_linux)),
        ("WindowsOptions", Shown::pointer(windows)),
        ("RunAsUser", json!(context.run_as_user).into()),
        ("RunAsGroup", json!(context.run_as_group).into()),
        ("RunAsNonRoot", json!(context.run_as_non_root).into()),
        (
            "ReadOnlyRootFilesystem",
            json!(context.read_only_root_filesystem).into(),
        ),
        (
            "AllowPrivilegeEscalation",
            json!(context.allow_privilege_escalation).into(),
        ),
        ("ProcMount", json!(context.proc_mount).into()),
        (
            "SeccompProfile",
            Shown::pointer(seccomp.map(|p| profile(&p.type_, &p.localhost_profile))),
        ),
        (
            "AppArmorProfile",
            Shown::pointer(app_armor.map(|p| profile(&p.type_, &p.localhost_profile))),
        ),
    ])
}

/// A seccomp or AppArmor profile as Kubernetes' internal struct.
fn shown_profile(kind: &str, path: Option<&str>) -> Shown {
    Shown::go([("Type", json!(kind).into()), ("LocalhostProfile", json!(path).into())])
}

/// Checks what a Pod or container may ask of AppArmor.
fn app_armor(field: &str, profile: &AppArmorProfile) -> FieldErrors {
    let localhost = format!("{field}.localhostProfile");
    let required = || FieldError::required(localhost.as_str(), "must be set when AppArmor type is Localhost");
    let mut errors = Vec::new();
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", None) => errors.push(required()),
        ("Localhost", Some(path)) => {
            if path.trim() != path {
                let detail = "must not be padded with whitespace";
                errors.push(FieldError::invalid(localhost.as_str(), path, detail));
            } else if path.is_empty() {
                errors.push(required());
            }
            if path.len() > LONGEST_PROFILE {
                errors.push(FieldError::too_long(localhost.as_str(), LONGEST_PROFILE));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(path)) => {
            let detail = "can only be set when AppArmor type is Localhost";
            errors.push(FieldError::invalid(localhost.as_str(), path, detail));
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => {
            let detail = "type is required when appArmorProfile is set";
            errors.push(FieldError::required(format!("{field}.type"), detail));
        }
        (other, _) => errors.push(FieldError::not_supported(format!("{field}.type"), other, &PROFILES)),
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
            Some(path) => paths::descending(&localhost, path),
        },
        kind => {
            let mut errors = Vec::new();
            if kind.is_empty() {
                errors.push(FieldError::required(at, "type is required when seccompProfile is set"));
            } else if !PROFILES.contains(&kind) {
                errors.push(FieldError::not_supported(at, kind, &PROFILES));
            }
            if path.is_some() {
                let detail = "can only be set when seccomp type is Localhost";
                errors.push(FieldError::invalid_shown(localhost, shown_profile(kind, path), detail));
            }
            errors
        }
    }
}
