//! The way out: Pods of a cluster with `--egress` reach what the machine reaches, under its address, nobody comes in
//! by it, and `down` closes it.
//!
//! "The internet" is a network namespace of the test's machine, with a real web server and a real name server in it.

use crate::clean::{pretty_assert_same, snapshot};
use crate::vm::Vm;

/// `[minik] eth0 192.0.2.2 ── 192.0.2.1 [internet] 198.51.100.7`. nginx says who asks; dnsmasq knows `www.example.org`.
const INTERNET: &str = r#"set -e
mkdir -p /run/netns
sysctl -qw net.ipv6.conf.default.disable_ipv6=1
ip netns add internet
ip link add eth0 type veth peer name eth0 netns internet
ip address add 192.0.2.2/24 dev eth0
ip link set eth0 up
ip route add default via 192.0.2.1
ip -n internet address add 192.0.2.1/24 dev eth0
ip -n internet address add 198.51.100.7/32 dev lo
ip -n internet link set lo up
ip -n internet link set eth0 up
echo "nameserver 198.51.100.7" >~/resolv.conf
mount --bind ~/resolv.conf /etc/resolv.conf
mkdir ~/web
cat >~/web/nginx.conf <<'END'
pid nginx.pid; error_log error.log;
events {}
http { access_log off; server { listen 80; return 200 "you are $remote_addr\n"; } }
END
ip netns exec internet nginx -p ~/web -c nginx.conf
ip netns exec internet dnsmasq --no-hosts --no-resolv --user=root --pid-file=/run/dnsmasq.pid \
    --address=/www.example.org/198.51.100.7
"#;

fn online() -> Vm {
    let vm = Vm::boot();
    vm.sh(INTERNET).ok();
    vm
}

fn up_with_pod(vm: &Vm, flags: &str, context: &str) {
    vm.sh(&format!("minik up --egress --wait {flags}")).ok();
    vm.sh(&format!(
        "kubectl --context {context} run client --image=tools -- sleep infinity"
    ))
    .ok();
    vm.sh(&format!(
        "kubectl --context {context} wait --for=condition=Ready pod/client --timeout=30s"
    ))
    .ok();
}

fn asks(vm: &Vm, context: &str, url: &str) -> crate::vm::Said {
    vm.sh(&format!(
        "kubectl --context {context} exec client -- curl -s -m 5 {url}"
    ))
}

#[test]
fn pods_get_out_by_name_under_the_machine_s_address_and_nobody_gets_in() {
    let vm = online();
    let before = snapshot(&vm);
    up_with_pod(&vm, "", "minik");

    assert_eq!(asks(&vm, "minik", "http://198.51.100.7").ok(), "you are 192.0.2.2\n");
    assert_eq!(
        asks(&vm, "minik", "http://www.example.org").ok(),
        "you are 192.0.2.2\n",
        "cluster DNS asks the machine's name server"
    );
    vm.sh("kubectl exec client -- ping -n -c 1 -W 5 198.51.100.7").ok();

    // Cluster IPs and Pod addresses that nobody has end on the node as ever, in silence.
    let ping = vm
        .sh("kubectl exec client -- ping -n -c 1 -W 1 10.96.0.10 2>&1; kubectl exec client -- ping -n -c 1 -W 1 10.244.99.9 2>&1; true")
        .ok();
    assert_eq!(ping.matches("100% packet loss").count(), 2, "{ping}");
    assert!(
        !ping.contains("From "),
        "no router on a way round answers that the TTL is over: {ping}"
    );

    // The machine is no router for its neighbours: a node answers the machine, and nobody beyond it.
    vm.sh("ping -n -c 1 -W 5 172.30.0.10").ok();
    vm.sh("ip -n internet route add 172.30.0.0/24 via 192.0.2.2").ok();
    let through = vm.sh("ip netns exec internet ping -n -c 1 -W 1 172.30.0.10");
    assert!(through.out.contains("100% packet loss"), "{through}");
    vm.sh("ip -n internet route del 172.30.0.0/24").ok();

    vm.sh("minik down --purge").ok();
    vm.sh("ip neigh flush dev eth0").ok();
    pretty_assert_same(&before, &snapshot(&vm));
}

#[test]
fn the_way_out_stays_open_until_the_last_cluster_goes_however_it_went() {
    let vm = online();
    let before = snapshot(&vm);
    up_with_pod(&vm, "--name one", "minik-one");
    up_with_pod(
        &vm,
        "--name two --node-network-cidr 172.29.0.0/24 --pod-network-cidr 10.200.0.0/16 --service-cidr 10.201.0.0/16",
        "minik-two",
    );
    vm.sh("minik down --name one --purge").ok();
    assert_eq!(
        asks(&vm, "minik-two", "http://198.51.100.7").ok(),
        "you are 192.0.2.2\n"
    );
    // No process that could remember anything.
    vm.sh("for p in /proc/[0-9]*; do [[ $(readlink $p/exe) == */minik ]] && kill -9 ${p#/proc/}; done; true")
        .ok();
    let down = vm.sh("minik down --name two --purge");
    assert!(down.err.contains("forwarding of link eth0"), "{down}");
    vm.sh("ip neigh flush dev eth0").ok();
    pretty_assert_same(&before, &snapshot(&vm));
}

#[test]
fn a_firewall_in_the_way_is_named_and_left_alone() {
    let vm = online();
    vm.sh("iptables -P FORWARD DROP").ok();
    let up = vm.sh("minik up --egress --nodes 1");
    assert_eq!(up.code, 0, "{up}");
    assert!(
        up.err
            .contains("chain ip filter FORWARD of this machine drops forwarded packets"),
        "{up}"
    );
    assert_eq!(vm.sh("iptables -S FORWARD").ok(), "-P FORWARD DROP\n");
    let both = vm.sh("minik up --name b --egress --isolated");
    assert!(both.code != 0 && both.err.contains("leave one of them out"), "{both}");
}
