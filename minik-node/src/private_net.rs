//! Network namespaces for tests: private, nameless, and gone with the last thread in them.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A namespace with nothing but loopback, and a thread that lives in it.
#[derive(Debug)]
pub(crate) struct Space {
    jobs: Sender<Job>,
    /// Where other namespaces find it.
    path: String,
}

impl Space {
    /// Makes one; needs root.
    pub fn new() -> Self {
        let (jobs, inbox): (Sender<Job>, Receiver<Job>) = channel();
        let (ready, path) = channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("tests of the network run as root");
            ip(&["link", "set", "lo", "up"]);
            let path = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
            ready.send(path).expect("the test waits");
            inbox.into_iter().for_each(|job| job());
        });
        Self {
            jobs,
            path: path.recv().expect("a namespace"),
        }
    }

    /// Where other namespaces find it, for `ip … netns PATH`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Runs `f` inside and waits. Threads and programs that it starts are inside too.
    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, wait) = channel();
        self.jobs
            .send(Box::new(move || drop(result.send(f()))))
            .expect("the thread lives");
        wait.recv().expect("the job does not panic")
    }

    /// Runs a future inside, on a runtime of its own.
    pub fn block_on<F: Future<Output: Send + 'static> + 'static>(
        &self,
        f: impl FnOnce() -> F + Send + 'static,
    ) -> F::Output {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(f())
        })
    }

    /// Hangs a Pod on this namespace, as minik hangs Pods on nodes: a routed veth, the gateway's address on
    /// the near end, and the default route over it.
    pub fn pod(&self, name: &'static str, address: Ipv4Addr, gateway: Ipv4Addr) -> Space {
        let pod = Space::new();
        let peer = pod.path.clone();
        self.run(move || {
            ip(&[
                "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &peer,
            ]);
            ip(&["addr", "add", &format!("{gateway}/32"), "dev", name]);
            ip(&["link", "set", name, "up"]);
            ip(&[
                "route",
                "add",
                &format!("{address}/32"),
                "dev",
                name,
                "src",
                &gateway.to_string(),
            ]);
        });
        pod.run(move || {
            ip(&["addr", "add", &format!("{address}/32"), "dev", "eth0"]);
            ip(&["link", "set", "eth0", "up"]);
            ip(&["route", "add", &gateway.to_string(), "dev", "eth0", "scope", "link"]);
            ip(&["route", "add", "default", "via", &gateway.to_string()]);
        });
        pod
    }
}

/// Runs `ip` where the calling thread is.
pub(crate) fn ip(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("ip (Debian package iproute2)");
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
