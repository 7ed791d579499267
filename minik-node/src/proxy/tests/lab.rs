//! Two nodes with a proxy each, their Pods, and an outside world, joined as minik joins them.
//!
//! ```text
//! outside 172.30.0.1 ── bridge ─┬─ n1 172.30.0.11 ─ Pods 10.244.1.2, .3 and .4 (gateway 10.244.1.1)
//!                               └─ n2 172.30.0.12 ─ Pods 10.244.2.2 and .3 (gateway 10.244.2.1)
//! ```
//! Service addresses and [`VIPS`] lead from outside to n1, which is the entry node of every test.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::private_net::{Space, ip};
use crate::proxy::metrics::Metrics;
use crate::proxy::{self, ProxyConfig};
use crate::reconcile::{Outcome, Status};
use crate::view::{ClusterView, testing};

/// Addresses that no machine has, for external and load-balancer addresses.
pub const VIPS: &str = "192.0.2.0/24";
/// How long an answer may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long silence must last to count as such. A dropped packet is never answered, however long one waits.
pub const SILENCE: Duration = Duration::from_millis(400);

/// A node: its namespace and the proxy that runs in it.
pub struct Node {
    pub space: Space,
    pub metrics: Arc<Metrics>,
    /// The node's own lock of the legacy variant.
    pub lock_file: PathBuf,
    name: &'static str,
    views: watch::Sender<Option<Arc<ClusterView>>>,
    status: watch::Receiver<Status>,
    shutdown: CancellationToken,
    _run_dir: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Node {
    fn new(fabric: &Space, name: &'static str, host: u8, variant: Variant) -> Self {
        let space = Space::new();
        space.run(move || {
            for (key, value) in [
                ("ip_forward", "1"),
                ("conf/all/route_localnet", "1"),
                ("conf/all/rp_filter", "0"),
                ("conf/default/rp_filter", "0"),
                ("conf/all/send_redirects", "0"),
                ("conf/default/send_redirects", "0"),
            ] {
                std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value).expect("the namespace's own sysctl");
            }
        });
        join(fabric, &space, name, host);
        let lines = [
            // A dead end as default route: without one, addresses that only rules know are unreachable.
            "link add dead0 type veth peer name dead1".to_owned(),
            "link set dead0 up".to_owned(),
            "link set dead1 up".to_owned(),
            "neigh add 169.254.0.1 lladdr 02:00:00:00:00:01 dev dead0 nud permanent".to_owned(),
            format!("route add default via 169.254.0.1 dev dead0 onlink src 172.30.0.{host}"),
        ];
        space.run(move || lines.iter().for_each(|line| ip_line(line)));

        let run_dir = tempfile::tempdir().expect("a directory");
        let lock_file = run_dir.path().join("xtables.lock");
        if variant == Variant::Legacy {
            let lock = lock_file.clone();
            space.run(move || hint(&lock));
        }
        let metrics = Arc::new(Metrics::default());
        let config = ProxyConfig {
            node: name.to_owned(),
            node_ip: Ipv4Addr::new(172, 30, 0, host),
            cluster_cidr: "10.244.0.0/16".parse().expect("a range"),
            lock_file: lock_file.clone(),
            conntrack_tcp_liberal: false,
            metrics: metrics.clone(),
        };
        let (views, seen) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let status = run_proxy(&space, config, seen, shutdown.clone());
        Self {
            space,
            metrics,
            lock_file,
            name,
            views,
            status,
            shutdown,
            _run_dir: run_dir,
        }
    }

    /// Shows the proxy a cluster and waits until the kernel is as the cluster says.
    pub fn apply(&mut self, manifests: &str) {
        let before = self.status.borrow_and_update().passes;
        self.show(&testing::view(Some(self.name), manifests));
        let status = self.after(before);
        assert_eq!(status.outcome, Some(Outcome::Synced), "{}", self.name);
    }

    /// Shows the proxy a cluster and waits for nothing.
    pub fn show(&self, view: &ClusterView) {
        self.views.send_replace(Some(Arc::new(view.clone())));
    }

    /// Waits until the kernel is as the newest view says, also where a pass was under way when that was shown.
    pub fn settle(&mut self) {
        let under_way = self.status.borrow_and_update().passes;
        self.views.send_modify(|_same| ());
        let begun = self.after(under_way).passes;
        self.views.send_modify(|_same| ());
        let status = self.after(begun);
        assert_eq!(status.outcome, Some(Outcome::Synced), "{}", self.name);
    }

    /// Number of passes that ended.
    pub fn passes(&self) -> u64 {
        self.status.borrow().passes
    }

    /// Waits until more than `passes` have ended.
    pub fn await_pass(&mut self, passes: u64) {
        self.after(passes);
    }

    /// The status once more than `passes` have ended.
    fn after(&mut self, passes: u64) -> Status {
        let done = self.status.wait_for(|status| status.passes > passes);
        futures::executor::block_on(done).expect("the proxy runs").clone()
    }
}

/// Which of the two kinds of iptables a lab's nodes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Whatever the proxy finds: nf_tables where both work.
    Default,
    /// The nodes hold a chain of the kubelet's in the legacy tables, by which the proxy knows them.
    Legacy,
}

/// Leaves the kubelet's hint in the legacy tables.
fn hint(lock_file: &Path) {
    let hint = Command::new("iptables-legacy")
        .args(["-w", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"])
        .env("XTABLES_LOCKFILE", lock_file)
        .status();
    assert!(hint.expect("iptables-legacy").success(), "a chain of the kubelet's");
}

/// The proxy on a thread of its own in the node's namespace, which lives as long as it does.
fn run_proxy(
    space: &Space,
    config: ProxyConfig,
    views: watch::Receiver<Option<Arc<ClusterView>>>,
    shutdown: CancellationToken,
) -> watch::Receiver<Status> {
    let (started, status) = channel();
    space.run(move || {
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                started
                    .send(proxy::spawn(views, config, shutdown.clone()))
                    .expect("the test waits");
                shutdown.cancelled().await;
            });
        });
    });
    status.recv().expect("the proxy starts")
}

/// The lab. Every Pod answers on TCP and UDP 8080 and 9090 with its name and the source address it saw.
pub struct Lab {
    pub n1: Node,
    pub n2: Node,
    /// `a`, 10.244.1.2 on n1.
    pub a: Space,
    /// `b`, 10.244.1.3 on n1.
    pub b: Space,
    /// `c`, 10.244.1.4 on n1.
    pub c: Space,
    /// `x`, 10.244.2.2 on n2.
    pub x: Space,
    /// `y`, 10.244.2.3 on n2.
    pub y: Space,
    pub outside: Space,
    _fabric: Space,
}

impl Lab {
    pub fn new() -> Self {
        Self::with(Variant::Default)
    }

    pub fn with(variant: Variant) -> Self {
        let fabric = Space::new();
        fabric.run(|| ["link add br0 type bridge", "link set br0 up"].map(ip_line));
        let n1 = Node::new(&fabric, "n1", 11, variant);
        let n2 = Node::new(&fabric, "n2", 12, variant);
        let outside = Space::new();
        join(&fabric, &outside, "out", 1);
        outside.run(|| {
            for to in ["10.96.0.0/12", "10.244.1.0/24", VIPS] {
                ip_line(&format!("route add {to} via 172.30.0.11"));
            }
            ip_line("route add 10.244.2.0/24 via 172.30.0.12");
        });
        n1.space.run(|| ip_line("route add 10.244.2.0/24 via 172.30.0.12"));
        n2.space.run(|| ip_line("route add 10.244.1.0/24 via 172.30.0.11"));
        let pod = |node: &Node, net, link: &'static str, host| {
            let name = &link["pod-".len()..];
            let pod = node
                .space
                .pod(link, Ipv4Addr::new(10, 244, net, host), Ipv4Addr::new(10, 244, net, 1));
            pod.run(move || [8080, 9090].map(|port| serve(name, port)));
            pod
        };
        Self {
            a: pod(&n1, 1, "pod-a", 2),
            b: pod(&n1, 1, "pod-b", 3),
            c: pod(&n1, 1, "pod-c", 4),
            x: pod(&n2, 2, "pod-x", 2),
            y: pod(&n2, 2, "pod-y", 3),
            n1,
            n2,
            outside,
            _fabric: fabric,
        }
    }

    /// Shows both proxies a cluster.
    pub fn apply(&mut self, manifests: &str) {
        self.n1.apply(manifests);
        self.n2.apply(manifests);
    }
}

/// Hangs a namespace on the bridge as 172.30.0.`host`.
fn join(fabric: &Space, space: &Space, name: &'static str, host: u8) {
    let path = space.path().to_owned();
    fabric.run(move || {
        ip_line(&format!("link add {name} type veth peer name eth0 netns {path}"));
        ip_line(&format!("link set {name} master br0 up"));
    });
    space.run(move || {
        ip_line(&format!("addr add 172.30.0.{host}/24 dev eth0"));
        ip_line("link set eth0 up");
    });
}

pub fn ip_line(line: &str) {
    ip(&line.split_whitespace().collect::<Vec<_>>());
}

/// Answers `NAME SOURCE:PORT OWN-PORT` to every datagram, to every new connection and to every line on it.
fn serve(name: &'static str, port: u16) {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    let tcp = TcpListener::bind(any).expect("a free port");
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.expect("a connection");
            let answer = format!("{name} {} {port}\n", stream.peer_addr().expect("a peer"));
            std::thread::spawn(move || -> io::Result<()> {
                stream.write_all(answer.as_bytes())?;
                for line in BufReader::new(stream.try_clone()?).lines() {
                    line?;
                    stream.write_all(answer.as_bytes())?;
                }
                Ok(())
            });
        }
    });
    let udp = UdpSocket::bind(any).expect("a free port");
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, source)) = udp.recv_from(&mut buffer) {
            udp.send_to(format!("{name} {source} {port}\n").as_bytes(), source)
                .expect("a way back");
        }
    });
}

/// Who answered, and whom it saw.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    pub pod: String,
    pub source: Ipv4Addr,
    pub port: u16,
}

impl Answer {
    pub fn parse(text: &str) -> Self {
        let [pod, source, port] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{text:?} is no answer");
        };
        let source: SocketAddrV4 = source.parse().expect("a socket address");
        Self {
            pod: pod.to_owned(),
            source: *source.ip(),
            port: port.parse().expect("a port"),
        }
    }
}

/// A TCP connection that stays open.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(from: &Space, to: &str, patience: Duration) -> io::Result<Self> {
        let to: SocketAddr = to.parse().expect("a socket address");
        let stream = from.run(move || TcpStream::connect_timeout(&to, patience))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// What the Pod says: once by itself, and again after each [`Connection::ask`].
    pub fn read(&mut self) -> io::Result<Answer> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(Answer::parse(&line)),
        }
    }

    pub fn ask(&mut self) -> io::Result<Answer> {
        self.0.get_mut().write_all(b"again\n")?;
        self.read()
    }

    pub fn local_port(&self) -> u16 {
        self.0.get_ref().local_addr().expect("an address").port()
    }
}

/// Whether one ping is answered within a second.
pub fn ping(from: &Space, to: Ipv4Addr) -> bool {
    let ping = move || {
        Command::new("ping")
            .args(["-n", "-c1", "-W1", &to.to_string()])
            .output()
    };
    from.run(ping)
        .expect("ping (Debian package iputils-ping)")
        .status
        .success()
}

/// A UDP socket that keeps its port.
pub struct Datagrams(UdpSocket);

impl Datagrams {
    pub fn from(space: &Space) -> Self {
        Self(space.run(|| UdpSocket::bind("0.0.0.0:0").expect("a port")))
    }

    /// Sends one datagram and waits for its answer.
    pub fn ask(&self, to: &str, patience: Duration) -> Option<Answer> {
        self.send(to);
        self.receive(patience)
    }

    pub fn send(&self, to: &str) {
        match self.0.send_to(b"?", to) {
            // What the sender's own rules refuse is never sent, as good as unanswered.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            sent => drop(sent.expect("sent")),
        }
    }

    /// The next answer; anything else is silence, since this socket hears of no ICMP.
    pub fn receive(&self, patience: Duration) -> Option<Answer> {
        self.0.set_read_timeout(Some(patience)).expect("a timeout");
        let mut buffer = [0; 64];
        let length = self.0.recv(&mut buffer).ok()?;
        Some(Answer::parse(&String::from_utf8_lossy(&buffer[..length])))
    }
}
