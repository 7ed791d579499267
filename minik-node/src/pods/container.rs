//! One container of a Pod as the shim wants it: command, environment, user, capabilities. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::expand::expand;
use crate::runtime::image::Image;
use crate::runtime::spec::{ContainerSpec, Mount, Privileges, Stdin, User};

/// The capabilities that container runtimes give by default.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What a container is made of beside the Pod.
#[derive(Debug)]
pub struct Parts {
    /// Its image.
    pub image: std::sync::Arc<Image>,
    /// How often it was started before.
    pub attempt: u32,
    /// All variables but those of the image and the runtime.
    pub env: BTreeMap<String, String>,
    /// Host name of the Pod.
    pub hostname: String,
    /// Files and volumes.
    pub mounts: Vec<Mount>,
    /// Directory of the writable layer.
    pub writable: PathBuf,
    /// Log file.
    pub log: PathBuf,
}

/// Puts the parts together. The error is the kubelet's text for `CreateContainerConfigError`.
pub fn spec(pod: &Pod, pod_spec: &PodSpec, container: &Container, parts: Parts) -> Result<ContainerSpec, String> {
    let image = &parts.image;
    let argv = argv(container, image, &parts.env);
    let user = user(pod_spec, container);
    let context = container.security_context.as_ref();
    let non_root = context
        .and_then(|context| context.run_as_non_root)
        .or_else(|| pod_spec.security_context.as_ref()?.run_as_non_root);
    if non_root == Some(true) && user.uid == 0 {
        let metadata = &pod.metadata;
        return Err(format!(
            "container has runAsNonRoot and image will run as root (pod: \"{}_{}({})\", container: {})",
            metadata.name.as_deref().unwrap_or_default(),
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.uid.as_deref().unwrap_or_default(),
            container.name
        ));
    }
    let cwd = container
        .working_dir
        .clone()
        .filter(|dir| !dir.is_empty())
        .unwrap_or_else(|| image.working_dir.clone());
    let home = if user.uid == 0 { "/root" } else { "/" };
    let own = [("HOSTNAME", parts.hostname.as_str()), ("HOME", home)];
    let mut env: BTreeMap<String, String> = own
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if container.tty == Some(true) {
        env.insert("TERM".to_owned(), "xterm".to_owned());
    }
    let of_image = image.env.iter().filter_map(|pair| pair.split_once('='));
    env.extend(of_image.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env.extend(parts.env);
    Ok(ContainerSpec {
        name: container.name.clone(),
        id: HEXLOWER.encode(&rand::random::<[u8; 32]>()),
        attempt: parts.attempt,
        image: container.image.clone().unwrap_or_default(),
        image_id: image.id.clone(),
        layers: image.layers.clone(),
        writable: parts.writable,
        argv,
        env: env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        cwd: PathBuf::from(cwd),
        user,
        capabilities: capabilities(container)?,
        mounts: parts.mounts,
        read_only: context
            .and_then(|context| context.read_only_root_filesystem)
            .unwrap_or(false),
        privileges: privileges(container),
        stdin: match (container.stdin, container.stdin_once) {
            (Some(true), Some(true)) => Stdin::Once,
            (Some(true), _) => Stdin::Open,
            _ => Stdin::Closed,
        },
        stop_signal: image.stop_signal,
        log: parts.log,
    })
}

/// `command` replaces entrypoint and arguments of the image, `args` its arguments alone.
fn argv(container: &Container, image: &Image, env: &BTreeMap<String, String>) -> Vec<String> {
    let given = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
    let lookup = |name: &str| env.get(name).cloned();
    let expanded = |list: Vec<String>| list.into_iter().map(|text| expand(&text, lookup)).collect::<Vec<_>>();
    match (given(&container.command), given(&container.args)) {
        (Some(command), args) => [expanded(command), expanded(args.unwrap_or_default())].concat(),
        (None, Some(args)) => [image.entrypoint.clone(), expanded(args)].concat(),
        (None, None) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
    }
}

fn user(pod: &PodSpec, container: &Container) -> User {
    let own = container.security_context.as_ref();
    let shared = pod.security_context.as_ref();
    let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    let uid = number(own.and_then(|own| own.run_as_user)).or_else(|| number(shared?.run_as_user));
    let gid = number(own.and_then(|own| own.run_as_group)).or_else(|| number(shared?.run_as_group));
    let gid = gid.unwrap_or(0);
    let extra = shared.into_iter().flat_map(|shared| {
        let groups = shared.supplemental_groups.iter().flatten();
        groups.chain(&shared.fs_group).copied()
    });
    let groups: BTreeSet<u32> = extra.filter_map(|group| number(Some(group))).chain([gid]).collect();
    User {
        uid: uid.unwrap_or(0),
        gid,
        groups: groups.into_iter().collect(),
    }
}

fn privileges(container: &Container) -> Privileges {
    let Some(context) = &container.security_context else {
        return Privileges::default();
    };
    Privileges {
        privileged: context.privileged.unwrap_or(false),
        unmasked: context.proc_mount.as_deref() == Some("Unmasked"),
        no_new_privileges: context.allow_privilege_escalation == Some(false),
    }
}

fn capabilities(container: &Container) -> Result<Vec<String>, String> {
    let context = container.security_context.as_ref();
    let all = || {
        caps::all()
            .into_iter()
            .map(|capability| capability.to_string())
            .collect::<Vec<_>>()
    };
    let privileged = context.and_then(|context| context.privileged).unwrap_or(false);
    let mut set: Vec<String> = if privileged {
        all()
    } else {
        DEFAULT_CAPABILITIES.map(str::to_owned).to_vec()
    };
    let Some(wanted) = context.and_then(|context| context.capabilities.as_ref()) else {
        return Ok(set);
    };
    let canonical = |name: &String| {
        let name = caps::to_canonical(&name.to_uppercase());
        name.parse::<caps::Capability>()
            .map(|_| name.clone())
            .map_err(|_unknown| format!("unknown capability {name:?}"))
    };
    let is_all = |names: &Option<Vec<String>>| names.iter().flatten().any(|name| name.eq_ignore_ascii_case("all"));
    if is_all(&wanted.drop) {
        set.clear();
    }
    if is_all(&wanted.add) {
        set = all();
    }
    let named = |names: &Option<Vec<String>>| {
        names
            .iter()
            .flatten()
            .filter(|name| !name.eq_ignore_ascii_case("all"))
            .map(canonical)
            .collect::<Result<Vec<_>, _>>()
    };
    let drop = named(&wanted.drop)?;
    set.retain(|name| !drop.contains(name));
    set.extend(named(&wanted.add)?);
    set.sort();
    set.dedup();
    Ok(set)
}
