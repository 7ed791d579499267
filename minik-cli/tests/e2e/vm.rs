//! A machine for one test, made of namespaces: processes, mounts and network of its own, with no way out.
//!
//! `/run` and `/var/lib/minik` are empty and private, so a lab in it may use minik's default name and paths, and two
//! tests never meet. When the machine's first process dies the kernel kills every other and drops every mount, which is
//! how a test leaves nothing behind, however it ended. Knows how to run commands and what they said; nothing of clusters
//! beyond `minik up`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tempfile::TempDir;

/// What a command may take unless the test says otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// What the tests call themselves, and the Debian package of each.
const PROGRAMS: &[(&str, &str)] = &[
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("timeout", "coreutils"),
    ("ip", "iproute2"),
    ("iptables-save", "iptables"),
    ("nft", "nftables"),
    ("ps", "procps"),
    ("jq", "jq"),
];

/// The first process: makes the machine, says so, then reaps whatever is orphaned until it is killed.
///
/// `/var/lib` is a layer of its own, so that the mount in it rests on a folder that nobody else can remove: that would
/// take the mount away, here too. For the same reason mounts of clusters outside go first.
const INIT: &str = "set -e
mount -t sysfs sysfs /sys
cut -d' ' -f5 /proc/self/mountinfo | grep -E '^/(run|var/lib/minik)/' | sort -r | while read -r m; do umount -l $m 2> /dev/null || true; done
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/upper /mnt/work
mount -t overlay -o lowerdir=/var/lib,upperdir=/mnt/upper,workdir=/mnt/work overlay /var/lib
mkdir -p /var/lib/minik
mount -t tmpfs -o mode=755 tmpfs /var/lib/minik
mount -t tmpfs -o mode=755 tmpfs /run
rm -rf /run/mount
ip link set lo up
trap 'exit 0' TERM
echo ready
while :; do sleep infinity & wait; done";

/// A machine. Dropped, it is gone with all that ran in it.
pub struct Vm {
    unshare: Child,
    init: i32,
    home: TempDir,
    path: String,
}

/// What a command said and how it ended.
pub struct Said {
    command: String,
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Vm {
    /// Boots a machine without a cluster.
    ///
    /// # Panics
    /// If it cannot, with what is missing.
    pub fn boot() -> Self {
        assert!(
            Uid::effective().is_root(),
            "end-to-end tests make namespaces and mounts: run them as root"
        );
        for (program, package) in PROGRAMS {
            assert!(
                on_path(program),
                "end-to-end tests need `{program}` (Debian package {package}): run scripts/setup"
            );
        }
        let tools = workspace().join("tools");
        assert!(
            tools.join("kubectl").exists(),
            "end-to-end tests need kubectl 1.37: run scripts/kubectl"
        );
        let minik = minik();
        let minik = minik.parent().expect("the binary is in a folder");

        let mut unshare = Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--mount-proc",
                "--propagation=private",
            ])
            .args(["--kill-child=SIGKILL", "bash", "-c", INIT])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut ready = String::new();
        BufReader::new(unshare.stdout.take().expect("piped"))
            .read_line(&mut ready)
            .expect("reads the first line");
        assert_eq!(
            ready, "ready\n",
            "the test's machine did not come up (its reason is above)"
        );

        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let init = std::fs::read_to_string(children)
            .expect("reads its child")
            .trim()
            .parse()
            .expect("one child");
        Self {
            unshare,
            init,
            home: TempDir::new().expect("makes a home"),
            path: format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.display(), minik.display()),
        }
    }

    /// Boots a machine with a cluster of three nodes whose system Pods run.
    pub fn with_cluster() -> Self {
        let vm = Self::boot();
        vm.sh("minik up --isolated --wait").ok();
        vm
    }

    /// The home folder of whoever types here; empty, and outside too at the same path.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file into the home folder.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.home().join(name), text).expect("writes a file of the test's own");
    }

    /// A network namespace of the machine, to be entered from outside of it.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn namespace(&self, name: &str) -> std::fs::File {
        std::fs::File::open(format!("/proc/{}/root/run/netns/{name}", self.init)).expect("the namespace has a name")
    }

    /// Runs a line of bash in the home folder.
    pub fn sh(&self, line: &str) -> Said {
        self.sh_in(self.home(), line, "")
    }

    /// Runs a line of bash in the home folder with `input` as its standard input.
    pub fn sh_with(&self, input: &str, line: &str) -> Said {
        self.sh_in(self.home(), line, input)
    }

    /// Runs a line of bash in `folder`. Fails the test if it takes longer than [`LIMIT`].
    pub fn sh_in(&self, folder: &Path, line: &str, input: &str) -> Said {
        let mut child = self.command(folder, line).spawn().expect("nsenter starts");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_owned();
        // A command may end without having read all of it.
        let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().expect("reads what it says");
        writer.join().expect("writer ends");
        let said = Said {
            command: line.to_owned(),
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert_ne!(said.code, 124, "took longer than {LIMIT:?}: {said}");
        said
    }

    /// Starts a line of bash that goes on beside the test; its end is the caller's to see to.
    pub fn start(&self, line: &str) -> Child {
        self.command(self.home(), line).spawn().expect("nsenter starts")
    }

    fn command(&self, folder: &Path, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.init))
            .args(["--mount", "--net", "--pid"])
            .arg(format!("--wdns={}", folder.display()))
            .args([
                "timeout",
                "--kill-after=2",
                &LIMIT.as_secs().to_string(),
                "bash",
                "-o",
                "pipefail",
                "-c",
                line,
            ])
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.home())
            .env("KUBECONFIG", self.home().join("kubeconfig"))
            .env("LC_ALL", "C.UTF-8")
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.command(
                Path::new("/"),
                "tail -n 40 /var/lib/minik/*/log/* /var/lib/minik/*/*/log/* 2>/dev/null",
            );
            let logs = { logs }.output().map(|output| output.stdout).unwrap_or_default();
            eprintln!("the cluster's own logs:\n{}", String::from_utf8_lossy(&logs));
        }
        // The kernel ends everything else before this one is gone, and `unshare` waits for it. Either may be gone already.
        kill(Pid::from_raw(self.init), Signal::SIGTERM).ok();
        self.unshare.wait().ok();
    }
}

impl Said {
    /// Standard output of a command that must succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "should succeed: {self}");
        self.out
    }

    /// Standard error of a command that must end with `code`.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "should end with {code}: {self}");
        self.err
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "$ {}\n{}{}[exit code {}]",
            self.command, self.out, self.err, self.code
        )
    }
}

/// Looks again until `look` is content, for what the cluster does on its own after a command was answered.
///
/// # Panics
/// After ten seconds, with the last complaint.
#[track_caller]
#[expect(
    clippy::disallowed_methods,
    reason = "an outside observer of rules and names has nothing to wait on"
)]
pub fn eventually<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(complaint) if began.elapsed() > Duration::from_secs(10) => panic!("still after 10 s: {complaint}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// The program under test: what this build made, or another build that `MINIK` names.
fn minik() -> PathBuf {
    std::env::var_os("MINIK").map_or_else(|| env!("CARGO_BIN_EXE_minik").into(), PathBuf::from)
}

/// The workspace's root.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the workspace")
        .to_owned()
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_no_way_out_and_only_its_own_processes() {
        let vm = Vm::boot();
        assert_eq!(vm.sh("ip -o link").ok().lines().count(), 1, "loopback alone");
        assert_eq!(
            vm.sh("ip route show table all type unicast; ls /run /var/lib/minik")
                .ok(),
            "/run:\n\n/var/lib/minik:\n"
        );
        assert!(vm.sh("ps -e").ok().lines().count() < 10);
    }

    #[test]
    fn a_command_has_input_output_and_exit_code() {
        let vm = Vm::boot();
        let said = vm.sh_with("in", "cat; echo err >&2; exit 7");
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (7, "in", "err\n"));
    }

    #[test]
    fn a_machine_takes_all_with_it() {
        let vm = Vm::boot();
        vm.sh("setsid sleep 1000 > /dev/null 2>&1 & ip netns add left-behind")
            .ok();
        let first = format!("/proc/{}", vm.init);
        assert!(Path::new(&first).exists());
        drop(vm);
        assert!(!Path::new(&first).exists());
        assert!(!Path::new("/run/netns/left-behind").exists());
    }
}
