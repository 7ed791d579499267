//! What is done to a cluster, and for how long requests may suffer from it.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use crate::vm::Vm;

/// A request that began so long before an event may have been under way when that happened.
const TIME_OUT: Duration = Duration::from_secs(2);
/// For how long before a failure events are told.
const TOLD: Duration = Duration::from_secs(3);

/// Something to do to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// One of minik's own processes, by SIGKILL. Nobody may notice.
    KillDaemon,
    /// The shim of a Pod, or what holds the Pod's namespaces, by SIGKILL. Nobody may notice.
    KillShim,
    /// A Pod's containers. One that was killed before is deleted too: nobody is to wait for the end of its back-off.
    KillPod,
    /// The packet rules of a node.
    Flush,
    /// A node's link.
    CutLink,
    /// Two nodes do not hear each other for a while.
    Partition,
    /// No byte can be written for a while.
    FillDisk,
}

/// What was done, and when.
#[derive(Debug)]
pub struct Event {
    harm: Harm,
    what: String,
    began: Instant,
    ended: Instant,
    /// How long the rules were gone.
    pub without_rules: Option<Duration>,
}

/// Waits for the rules of a node that are flushed, in its namespace; says for how many microseconds they were not there.
const FLUSH: &str = r#"laid() { iptables-save -t nat | grep -E '^-A (PREROUTING .*KUBE-SERVICES|KUBE-SVC-)' | cut -c1-10 | sort -u | wc -l; }
iptables -t nat -F
gone=${EPOCHREALTIME/./}
for _ in {1..1000}; do if (($(laid) == 2)); then echo $((${EPOCHREALTIME/./} - gone)); exit 0; fi; done
exit 1"#;

impl Harm {
    /// Does it. Returns when it is done, and undone where it has a length.
    pub fn carry_out(self, vm: &Vm, random: &mut StdRng) -> Event {
        let began = Instant::now();
        let node = ["control-plane", "worker1", "worker2"][random.random_range(0..3)];
        let mut without_rules = None;
        let what = match self {
            Self::KillDaemon => kill_daemon(vm, random),
            Self::KillShim => kill_shim(vm, random),
            Self::KillPod => kill_pod(vm, random),
            Self::Flush => {
                let flushed = vm.sh_with(FLUSH, &format!("ip netns exec minik.minik.{node} bash"));
                let microseconds = flushed.ok().trim().parse().expect("a number");
                without_rules = Some(Duration::from_micros(microseconds));
                format!("flushed the rules of {node}")
            }
            Self::CutLink => {
                vm.sh(&format!("ip -n minik.minik.{node} link set eth0 down")).ok();
                format!("cut the link of {node}")
            }
            Self::Partition => {
                let cut = format!("oifname {node} drop");
                vm.sh(&format!(
                    "in='ip netns exec minik.minik.fabric nft'; $in add table bridge cut; $in 'add chain bridge cut c {{ type filter hook forward priority 0; }}'; $in add rule bridge cut c {cut}; sleep 0.5; $in delete table bridge cut"
                ))
                .ok();
                format!("parted {node} from the others")
            }
            Self::FillDisk => {
                vm.sh("m=/var/lib/minik; used=$(df -k --output=used $m | tail -1); mount -o remount,size=$((used + 4))k $m; head -c 64k /dev/zero > $m/fill; kill -9 $(jq '.children.network.pid // empty' /run/minik/minik/supervisor.json); sleep 0.4; rm $m/fill; mount -o remount,size=2g $m")
                    .ok();
                "filled the disk".to_owned()
            }
        };
        let ended = Instant::now();
        Event {
            harm: self,
            what,
            began,
            ended,
            without_rules,
        }
    }

    /// For how long after it requests may fail; `None` if none may, ever.
    fn aftermath(self) -> Option<Duration> {
        match self {
            Self::KillDaemon | Self::KillShim | Self::FillDisk => None,
            // Until the API and every node know that the Pod is gone.
            Self::KillPod => Some(Duration::from_secs(2)),
            Self::Flush => Some(Duration::from_millis(500)),
            Self::CutLink | Self::Partition => Some(Duration::from_millis(1500)),
        }
    }
}

fn kill_daemon(vm: &Vm, random: &mut StdRng) -> String {
    let listed = "jq -r '(to_entries[] | select(.value | type == \"number\") | \"\\(.key) \\(.value)\"), (.children | to_entries[] | select(.value.pid) | \"\\(.key) \\(.value.pid)\")' /run/minik/minik/supervisor.json";
    let listed = vm.sh(listed).ok();
    let daemons: Vec<&str> = listed.lines().collect();
    let chosen = daemons[random.random_range(0..daemons.len())];
    let (name, pid) = chosen.split_once(' ').expect("a name and a number");
    // It may have been killed a second ago, and be another already.
    vm.sh(&format!("kill -9 {pid}; true")).ok();
    format!("killed {}", if name == "pid" { "the supervisor" } else { name })
}

fn kill_shim(vm: &Vm, random: &mut StdRng) -> String {
    let uids = vm
        .sh("kubectl get pods -A -o jsonpath='{range .items[*]}{.metadata.uid} {.metadata.name}{\"\\n\"}{end}'")
        .ok();
    let pods: Vec<&str> = uids.lines().collect();
    let (uid, name) = pods[random.random_range(0..pods.len())]
        .split_once(' ')
        .expect("two words");
    let (what, pattern) = if random.random_ratio(1, 4) {
        ("holder", "^/pause")
    } else {
        ("shim", "[i]nternal shim")
    };
    vm.sh(&format!("for p in $(ip netns pids minik.minik.pod.{uid}); do tr '\\0' ' ' < /proc/$p/cmdline | grep -q '{pattern}' && kill -9 $p; done; true")).ok();
    format!("killed the {what} of Pod {name}")
}

fn kill_pod(vm: &Vm, random: &mut StdRng) -> String {
    // The Pod in which the clients stand is not part of what is tried.
    let listed = "kubectl get pods -A -o jsonpath='{range .items[?(@.metadata.name!=\"client\")]}{.metadata.uid} {.metadata.namespace} {.metadata.name} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}'";
    let listed = vm.sh(listed).ok();
    let pods: Vec<&str> = listed.lines().collect();
    let chosen: Vec<&str> = pods[random.random_range(0..pods.len())].split(' ').collect();
    let [uid, namespace, name, restarts] = chosen[..] else {
        panic!("four words should be in {chosen:?}");
    };
    vm.sh(&format!("for p in $(ip netns pids minik.minik.pod.{uid}); do tr '\\0' ' ' < /proc/$p/cmdline | grep -qE '^/pause|internal shim' || kill -9 $p; done; true"))
        .ok();
    if restarts != "0" {
        vm.sh(&format!(
            "kubectl delete pod --namespace {namespace} {name} --wait=false --ignore-not-found"
        ))
        .ok();
    }
    format!(
        "killed Pod {name} for the {}th time",
        restarts.parse::<u32>().unwrap_or(0) + 1
    )
}

impl Event {
    /// Whether it is worth telling of a request that began `at`.
    pub fn is_around(&self, at: Instant) -> bool {
        self.excuses(at) || (self.began < at + TIME_OUT && at < self.ended + TOLD)
    }

    /// Whether it may have failed a request that began `at`.
    pub fn excuses(&self, at: Instant) -> bool {
        let aftermath = self.harm.aftermath();
        aftermath.is_some_and(|after| self.began < at + TIME_OUT && at < self.ended + after)
    }

    /// `0.3 s after: flushed the rules of worker1`
    pub fn told(&self, at: Instant) -> String {
        let after = at.saturating_duration_since(self.began).as_secs_f32();
        let before = self.began.saturating_duration_since(at).as_secs_f32();
        format!("{:+.3} s: {}", after - before, self.what)
    }
}
