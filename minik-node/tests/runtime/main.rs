//! Pods as real processes: shims, containers, logs, exec, adoption. Needs root; every Pod has a network
//! namespace of its own, with loopback and nothing else.
//!
//! This program is also the shim that its tests start, and the stand-ins in their containers, as `minik` is for the agent.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod api;
mod fixture;
mod forward;
mod grpc;
mod images;
mod life;
mod pods;
mod probes;
mod seen;
mod shim;
mod standins;
mod told;

use std::path::PathBuf;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use minik_node::kernel::netns::NetNs;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, internal, shim, flag, dir] = args.as_slice()
        && (internal.as_str(), shim.as_str(), flag.as_str()) == ("internal", "shim", "--dir")
    {
        return minik_node::runtime::shim::main(&minik_node::runtime::shim::ShimArgs {
            dir: PathBuf::from(dir),
        });
    }
    if let [_, internal, standin, program @ ..] = args.as_slice()
        && (internal.as_str(), standin.as_str()) == ("internal", "standin")
    {
        return minik_node::runtime::standin::run(program);
    }
    let trials = [
        shim::trials(),
        images::trials(),
        pods::trials(),
        life::trials(),
        probes::trials(),
        seen::trials(),
        standins::trials(),
        told::trials(),
        forward::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// One test on a tokio runtime whose every thread is in the network namespace of a node of its own, as an agent's are:
/// what is dialled is dialled from there.
fn trial_in_node<F>(name: &'static str, test: fn(pods::Node) -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    Trial::test(name, move || {
        let cluster = pods::fresh_cluster();
        let netns = NetNs::create(&format!("minik.{cluster}.worker1"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .on_thread_start(move || netns.enter().unwrap())
            .enable_all()
            .build()?;
        runtime.block_on(async { test(pods::Node::of(cluster)).await });
        Ok(())
    })
}

/// One test on a tokio runtime of its own, in a network namespace of its own that has a loopback and no way out: what a
/// test dials by mistake goes nowhere.
fn trial<F>(name: &'static str, test: fn() -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    Trial::test(name, move || {
        // The runtime's threads inherit it.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
        let raised = std::process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()?;
        assert!(raised.success(), "ip link set lo up");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(test());
        Ok(())
    })
}
