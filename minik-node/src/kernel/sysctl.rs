//! Kernel parameters of network namespaces. Files under `/proc/sys/net` show the namespace of the thread that
//! opens them, so every write happens on a thread inside.

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

fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key.replace('.', "/"))
}
