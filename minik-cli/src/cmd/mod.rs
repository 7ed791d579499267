//! The commands, one a file: each parses its flags, calls what does the work, and prints.

mod apply;
mod completion;
mod debug;
mod delete;
mod down;
mod exec;
mod foreground;
mod get;
mod host;
mod internal;
mod kubeconfig;
mod logs;
mod node;
mod rules;
mod status;
mod support_bundle;
mod up;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::client::manifest::Manifest;
use crate::client::resource::Resource;

/// A small Kubernetes cluster of real processes and real packets on this machine.
#[derive(Debug, Parser)]
#[command(name = "minik", version, arg_required_else_help = true)]
pub struct Minik {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster
    Up(up::Up),
    /// Stop a cluster and leave the machine as it was
    Down(down::Down),
    /// Show how a cluster is
    Status(status::Status),
    /// Print the kubeconfig of a cluster
    Kubeconfig(kubeconfig::Kubeconfig),
    /// List nodes, or run a command on one
    #[command(subcommand)]
    Node(node::Node),
    /// Run a command in the lab's outside world
    #[command(subcommand)]
    Host(host::Host),
    /// Show objects
    Get(get::Get),
    /// Make objects as manifests describe them
    Apply(apply::Apply),
    /// Delete objects
    Delete(delete::Delete),
    /// Print what a container has said
    Logs(logs::Logs),
    /// Run a command in a container
    Exec(exec::Exec),
    /// Show what the planners of a node believe
    #[command(subcommand)]
    Debug(debug::Debug),
    /// Show what is programmed for a Service, and why
    Rules(rules::Rules),
    /// Collect what helps to find out what is wrong
    SupportBundle(support_bundle::SupportBundle),
    /// Print a shell's completion script
    Completion(completion::Completion),
    /// Processes of a running cluster
    #[command(subcommand, hide = true)]
    Internal(internal::Internal),
}

/// Which cluster a command is about.
#[derive(Debug, Clone, Args)]
pub struct Cluster {
    /// Name of the cluster
    #[arg(long, default_value = "minik", value_parser = cluster_name)]
    pub name: String,
}

fn cluster_name(text: &str) -> Result<String, crate::parameters::ParameterError> {
    crate::parameters::check_name(text).map(|()| text.to_owned())
}

impl Command {
    /// Runs it.
    ///
    /// # Errors
    /// Whatever failed; [`crate::errors::report`] says how to print it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(up) => up.run(),
            Self::Down(down) => down.run(),
            Self::Status(status) => status.run(),
            Self::Kubeconfig(kubeconfig) => kubeconfig.run().map(|()| ExitCode::SUCCESS),
            Self::Node(node) => node.run(),
            Self::Host(host) => host.run(),
            Self::Get(get) => get.run().map(|()| ExitCode::SUCCESS),
            Self::Apply(apply) => apply.run().map(|()| ExitCode::SUCCESS),
            Self::Delete(delete) => delete.run().map(|()| ExitCode::SUCCESS),
            Self::Logs(logs) => logs.run().map(|()| ExitCode::SUCCESS),
            Self::Exec(exec) => exec.run(),
            Self::Debug(debug) => debug.run().map(|()| ExitCode::SUCCESS),
            Self::Rules(rules) => rules.run(),
            Self::SupportBundle(bundle) => bundle.run(),
            Self::Completion(completion) => completion.run().map(|()| ExitCode::SUCCESS),
            Self::Internal(internal) => internal.run(),
        }
    }
}

/// A runtime on the calling thread, for commands that mostly wait.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")
}

/// For a query's value: everything but RFC 3986's unreserved characters.
fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// The namespace of a manifest's object: its own, or the one asked for, which must not differ.
fn namespace_of(manifest: &Manifest, resource: &Resource, asked: &str) -> anyhow::Result<String> {
    let own = manifest.text("/metadata/namespace");
    if !resource.namespaced || own.is_empty() || own == asked {
        return Ok(asked.to_owned());
    }
    if asked == "default" {
        return Ok(own.to_owned());
    }
    anyhow::bail!(
        "the namespace from the provided object {own:?} does not match the namespace {asked:?}. You must pass \
         '--namespace={own}' to perform this operation."
    )
}

/// The container that is meant: the one named, the one the Pod says, or its first; told as kubectl does when
/// there was a choice.
fn container_of(pod: &Pod, asked: Option<&str>) -> anyhow::Result<String> {
    if let Some(asked) = asked {
        return Ok(asked.to_owned());
    }
    let preferred = pod.annotations().get("kubectl.kubernetes.io/default-container");
    let names: Vec<&str> = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .map(|container| container.name.as_str())
        .collect();
    match (preferred, names.as_slice()) {
        (Some(preferred), _) => Ok(preferred.clone()),
        (None, []) => anyhow::bail!("pod {} has no containers", pod.name_any()),
        (None, [only]) => Ok((*only).to_owned()),
        (None, [first, ..]) => {
            eprintln!("Defaulted container {first:?} out of: {}", names.join(", "));
            Ok((*first).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Minik::command().debug_assert();
    }

    #[test]
    fn a_query_is_encoded() {
        assert_eq!(
            percent_encode("app=web,tier in (a,b)"),
            "app%3Dweb%2Ctier%20in%20%28a%2Cb%29"
        );
    }

    #[test]
    fn commands_for_others_come_after_the_dashes() {
        let parsed = Minik::try_parse_from(["minik", "node", "exec", "worker1", "--", "ip", "-br", "--name", "x"]);
        assert!(parsed.is_ok(), "{parsed:?}");
        assert!(Minik::try_parse_from(["minik", "host", "exec", "ip"]).is_err());
    }
}
