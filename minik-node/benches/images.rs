//! Unpacking the built-in images: with nothing there, and with the trees there already (what an agent does at each
//! start). Hard links where `/usr` and the temporary directory share a file system, copies elsewhere.

use divan::Bencher;
use minik_node::runtime::image::Images;

const IMAGES: [&str; 4] = ["busybox", "nginx", "tools", "minik/dns"];

fn main() {
    divan::main();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
}

#[divan::bench(args = IMAGES, sample_count = 20)]
fn from_nothing(bencher: Bencher<'_, '_>, image: &str) {
    let runtime = runtime();
    bencher
        .with_inputs(|| tempfile::tempdir_in("/var/tmp").expect("directory"))
        .bench_values(|dir| {
            runtime.block_on(Images::new(dir.path()).get(image)).expect("image");
            dir
        });
}

#[divan::bench(args = IMAGES, sample_count = 20)]
fn unpacked_already(bencher: Bencher<'_, '_>, image: &str) {
    let runtime = runtime();
    let dir = tempfile::tempdir_in("/var/tmp").expect("directory");
    runtime.block_on(Images::new(dir.path()).get(image)).expect("image");
    bencher.bench_local(|| runtime.block_on(Images::new(dir.path()).get(image)).expect("image"));
}
