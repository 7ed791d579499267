//! Kernel parameters of network namespaces. Files under `/proc/sys/net` show the namespace of the thread that
//! opens them, so every write happens on a thread inside.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// `write`
    #[error("set {key} = {value}")]
    Write {
        /// As `sysctl` names it.
        key: String,
        /// What was to be written.
        value: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `read`
    #[error("read {key}")]
    Read {
        /// As `sysctl` names it.
        key: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// One parameter, named as in `/etc/sysctl.conf`: dots between the parts (a link's name has none of its own).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sysctl {
    /// `net.ipv4.ip_forward`
    pub key: &'static str,
    /// What it is set to.
    pub value: &'static str,
    /// Whether a kernel without it (a protocol or module that is not there) is as good as set.
    pub optional: bool,
}

/// A parameter every kernel has.
#[must_use]
pub const fn sysctl(key: &'static str, value: &'static str) -> Sysctl {
    Sysctl {
        key,
        value,
        optional: false,
    }
}

/// A parameter of a part that the kernel may lack.
#[must_use]
pub const fn sysctl_if_any(key: &'static str, value: &'static str) -> Sysctl {
    Sysctl {
        key,
        value,
        optional: true,
    }
}

/// No IPv6: minik's clusters are single-stack, and a link-local address on every veth would cost duplicate
/// address detection and router solicitations. `[::]` still binds and then serves IPv4.
pub const NO_IPV6: [Sysctl; 2] = [
    sysctl_if_any("net.ipv6.conf.all.disable_ipv6", "1"),
    sysctl_if_any("net.ipv6.conf.default.disable_ipv6", "1"),
];

/// Sets parameters of the calling thread's namespace, in order.
///
/// # Errors
/// The first that could not be set.
pub fn set(sysctls: &[Sysctl]) -> Result<(), SysctlError> {
    for Sysctl { key, value, optional } in sysctls {
        match std::fs::write(path(key), value) {
            Err(error) if *optional && error.kind() == io::ErrorKind::NotFound => {}
            written => written.map_err(|source| SysctlError::Write {
                key: (*key).to_owned(),
                value: (*value).to_owned(),
                source,
            })?,
        }
    }
    Ok(())
}

/// Which parameters of the calling thread's namespace are not as they should be, with what they are.
#[must_use]
pub fn differing(sysctls: &[Sysctl]) -> Vec<(Sysctl, String)> {
    let found = sysctls.iter().filter_map(|sysctl| Some((*sysctl, get(sysctl.key)?)));
    found.filter(|(sysctl, found)| found != sysctl.value).collect()
}

/// What a parameter of the calling thread's namespace is set to; nothing where the kernel does not have it.
#[must_use]
pub fn get(key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path(key)).ok()?;
    Some(text.trim().to_owned())
}

/// Turns IPv6 off on one link of the calling thread's namespace, for a namespace that is not ours as a whole.
///
/// # Errors
/// [`SysctlError::Write`]; a kernel without IPv6 is none.
pub fn disable_ipv6_on(link: &str) -> Result<(), SysctlError> {
    match std::fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written.map_err(|source| SysctlError::Write {
            key: format!("net.ipv6.conf.{link}.disable_ipv6"),
            value: "1".to_owned(),
            source,
        }),
    }
}

/// Whether IPv4 packets that arrive by a link are forwarded, by the link's name, in the calling thread's
/// namespace; `all` and `default` among them, as the kernel lists them. Links that go meanwhile are left out.
///
/// # Errors
/// [`SysctlError::Read`].
pub fn forwarding() -> Result<BTreeMap<String, bool>, SysctlError> {
    let error = |key: &str| {
        let key = key.to_owned();
        move |source| SysctlError::Read { key, source }
    };
    let mut forwarding = BTreeMap::new();
    for entry in std::fs::read_dir(IPV4_CONF).map_err(error("net.ipv4.conf"))? {
        let entry = entry.map_err(error("net.ipv4.conf"))?;
        let link = entry.file_name().to_string_lossy().into_owned();
        match std::fs::read_to_string(entry.path().join("forwarding")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            text => {
                let text = text.map_err(error(&format!("net.ipv4.conf.{link}.forwarding")))?;
                forwarding.insert(link, text.trim() != "0");
            }
        }
    }
    Ok(forwarding)
}

/// Turns the forwarding of what arrives by one link on or off, in the calling thread's namespace. Other links and
/// `ip_forward` stay as they are.
///
/// # Errors
/// [`SysctlError::Write`].
pub fn set_forwarding(link: &str, on: bool) -> Result<(), SysctlError> {
    let value = if on { "1" } else { "0" };
    std::fs::write(Path::new(IPV4_CONF).join(link).join("forwarding"), value).map_err(|source| SysctlError::Write {
        key: format!("net.ipv4.conf.{link}.forwarding"),
        value: value.to_owned(),
        source,
    })
}

/// Parameters of links, a folder each.
const IPV4_CONF: &str = "/proc/sys/net/ipv4/conf";

fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key.replace('.', "/"))
}
