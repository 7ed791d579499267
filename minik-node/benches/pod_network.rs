//! What a Pod's network costs to make and to remove, on a machine of its own. Needs root.

#[path = "../tests/lab/mod.rs"]
mod lab;

use divan::Bencher;
use minik_node::kernel::netns::NetNs;
use minik_node::kernel::pod_network::PodNetworks;
use minik_node::plan::pod_network::PodNetwork;
use tokio::runtime::Runtime;

fn main() {
    lab::become_a_machine();
    divan::main();
}

struct Bench {
    runtime: Runtime,
    networks: PodNetworks,
    pod: PodNetwork,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("tokio runtime");
        let node = NetNs::create("minik.bench.node").expect("node");
        let networks = runtime.block_on(async { PodNetworks::open_in(&node) }).expect("socket");
        let pod = PodNetwork::new("bench", "pod", [10, 244, 0, 2].into(), [10, 244, 0, 1].into());
        Self { runtime, networks, pod }
    }

    fn attach(&self) {
        self.runtime.block_on(self.networks.attach(&self.pod)).expect("attach");
    }

    fn detach(&self) {
        self.runtime.block_on(self.networks.detach(&self.pod)).expect("detach");
    }
}

#[divan::bench]
fn attach(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    bencher
        .with_inputs(|| bench.detach())
        .bench_local_refs(|()| bench.attach());
}

#[divan::bench]
fn attach_again(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    bencher.bench_local(|| bench.attach());
}

#[divan::bench]
fn detach(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    bencher
        .with_inputs(|| bench.attach())
        .bench_local_refs(|()| bench.detach());
}
