//! A private machine for tests of the real kernel: a network namespace with nothing in it but loopback, and a
//! `/run` of its own, so that namespaces get their usual names under `/run/netns` without anybody else seeing
//! them. Nothing in it has a way out.
//!
//! Both belong to one thread. The kernel takes them down with everything inside when that thread is gone, also
//! after a panic: there is nothing to clean up and nothing to collide with, so tests may run in parallel.
//! Needs root.

#![allow(dead_code, reason = "each test crate that includes this uses a part of it")]

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::Duration;

use minik_node::kernel::netns::NetNs;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// How long a packet may take inside one machine that has better things to do.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `test` on a machine of its own.
pub fn on_a_machine<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    std::thread::scope(|scope| {
        let machine = scope.spawn(|| {
            become_a_machine();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("tokio runtime").block_on(test());
        });
        if let Err(panic) = machine.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Makes the calling thread, and those it starts from now on, such a machine.
pub fn become_a_machine() {
    assert!(nix::unistd::geteuid().is_root(), "tests of the real kernel need root");
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make mounts private");
    mount(Some("lab"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("mount /run");
    run("ip link set lo up");
}

/// Runs a command line (no quoting) and returns its standard output; panics when it fails.
pub fn run(command_line: &str) -> String {
    let output = try_run(command_line);
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{command_line}: {}\n{stdout}{stderr}",
        output.status
    );
    stdout.into_owned()
}

/// Runs a command line (no quoting), however it ends.
pub fn try_run(command_line: &str) -> Output {
    let mut words = command_line.split_whitespace();
    let program = words.next().expect("a program");
    Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Whether one ping from `namespace` to `to` is answered within a second.
pub fn pings(namespace: &NetNs, to: impl Into<IpAddr>) -> bool {
    let command_line = format!("ping -n -c 1 -W 1 {}", to.into());
    namespace
        .run(|| try_run(&command_line))
        .expect("enter")
        .status
        .success()
}

/// Opens a TCP connection from one namespace to a listener in another and tells which source address the
/// listener sees.
pub fn source_seen(from: &NetNs, to: &NetNs, address: impl Into<IpAddr>) -> IpAddr {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let listener = to.run(|| TcpListener::bind(any)).expect("enter").expect("listen");
    let port = listener.local_addr().expect("local address").port();
    let target = SocketAddr::new(address.into(), port);
    let _client = from
        .run(|| TcpStream::connect_timeout(&target, PATIENCE))
        .expect("enter")
        .unwrap_or_else(|error| panic!("connect to {target}: {error}"));
    listener.accept().expect("accept").1.ip()
}
