//! Clients that ask one request each 10 ms through one way in each, and never twice.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::dns;
use crate::vm::Vm;

/// Between two requests of a client.
const EVERY: Duration = Duration::from_millis(10);
/// What a request may take.
const TIME_OUT: Duration = Duration::from_secs(2);
/// Failures that are told; more are the same.
const MOST: usize = 10_000;

/// A request that was not answered.
#[derive(Debug)]
pub struct Failure {
    /// When it began.
    pub at: Instant,
    way: &'static str,
    why: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.way, self.why)
    }
}

/// Where the clients' connections come from: every port in turn. The kernel would choose one anew within seconds, while
/// conntrack still remembers a connection from it that nobody answered (for two minutes), and lead the new one to the same
/// Pod, dead or not; that is how every kube-proxy's rules work, and would be counted as a failure of ours.
#[derive(Debug, Default)]
struct Ports(AtomicU32);

impl Ports {
    /// The ports that a process may take.
    const FIRST: u32 = 1024;
    const COUNT: u32 = 65536 - Self::FIRST;

    async fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let mut refused = None;
        for _ in 0..16 {
            let port = Self::FIRST + self.0.fetch_add(1, Ordering::Relaxed) % Self::COUNT;
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            let from = (Ipv4Addr::UNSPECIFIED, u16::try_from(port).expect("a port")).into();
            match socket.bind(from) {
                Ok(()) => return socket.connect(to).await,
                // Somebody listens there.
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()))
    }
}

/// What the clients have seen.
#[derive(Debug, Default)]
pub struct Asked {
    /// Requests in all.
    pub total: u64,
    /// Those that failed, in no order.
    pub failures: Vec<Failure>,
}

/// A way to ask.
#[derive(Debug, Clone, Copy)]
enum Way {
    ClusterIp(Ipv4Addr),
    NodePort,
    Headless,
    ByName,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::ClusterIp(_) => "cluster IP",
            Self::NodePort => "node port",
            Self::Headless => "headless",
            Self::ByName => "by name",
        }
    }

    async fn address(self) -> Result<SocketAddr, String> {
        let (address, port) = match self {
            Self::ClusterIp(address) => (address, 80),
            Self::NodePort => (Ipv4Addr::new(172, 30, 0, 12), 30080),
            Self::Headless => (dns::resolve("each.default.svc.cluster.local").await?, 80),
            Self::ByName => (dns::resolve("web.default.svc.cluster.local").await?, 80),
        };
        Ok((address, port).into())
    }

    async fn ask(self, ports: &Ports) -> Result<(), String> {
        let mut stage = "before it had an address".to_owned();
        let asked = async {
            let address = self.address().await?;
            stage = format!("while it connected to {address}");
            let stream = ports.connect(address).await;
            let stream = stream.map_err(|error| format!("{address}: {error}"))?;
            stage = format!("connected to {address}");
            get(stream).await.map_err(|error| format!("{address}: {error}"))
        };
        let answered = tokio::time::timeout(TIME_OUT, asked).await;
        answered.unwrap_or_else(|_elapsed| Err(format!("no answer within 2 s, {stage}")))
    }
}

async fn get(mut stream: TcpStream) -> std::io::Result<()> {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    if answer.ends_with(b" 200") {
        Ok(())
    } else {
        Err(std::io::Error::other(String::from_utf8_lossy(&answer).into_owned()))
    }
}

/// The clients at work.
pub struct Clients {
    stop: Arc<AtomicBool>,
    total: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<Failure>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts one a way: in a Pod, and outside for the node port.
    pub fn start(vm: &Vm) -> Self {
        let uid = vm.sh("kubectl get pod client -o jsonpath='{.metadata.uid}'").ok();
        let address = vm.sh("kubectl get service web -o jsonpath='{.spec.clusterIP}'").ok();
        let address = address.parse().expect("a cluster IP");
        let pod = format!("minik.minik.pod.{uid}");
        let mut clients = Self {
            stop: Arc::default(),
            total: Arc::default(),
            failures: Arc::default(),
            threads: Vec::new(),
        };
        let ports = Arc::<Ports>::default();
        for (way, namespace) in [
            (Way::ClusterIp(address), pod.as_str()),
            (Way::NodePort, "minik.minik.outside"),
            (Way::Headless, &pod),
            (Way::ByName, &pod),
        ] {
            let namespace = vm.namespace(namespace);
            let (stop, total, failures) = (clients.stop.clone(), clients.total.clone(), clients.failures.clone());
            let ports = ports.clone();
            clients.threads.push(std::thread::spawn(move || {
                setns(&namespace, CloneFlags::CLONE_NEWNET).expect("enters the client's namespace");
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(client(way, &ports, &stop, &total, &failures));
            }));
        }
        clients
    }

    /// Ends them, and tells what they saw.
    pub fn stop(self) -> Asked {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client does not panic");
        }
        let failures = std::mem::take(&mut *self.failures.lock().expect("no client panicked"));
        Asked {
            total: self.total.load(Ordering::Relaxed),
            failures,
        }
    }
}

async fn client(
    way: Way,
    ports: &Arc<Ports>,
    stop: &AtomicBool,
    total: &AtomicU64,
    failures: &Arc<Mutex<Vec<Failure>>>,
) {
    let mut ticks = tokio::time::interval(EVERY);
    // Later than planned is later, and not several at once.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut requests = tokio::task::JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        total.fetch_add(1, Ordering::Relaxed);
        let (failures, ports) = (failures.clone(), ports.clone());
        requests.spawn(async move {
            let at = Instant::now();
            if let Err(why) = way.ask(&ports).await {
                let mut failures = failures.lock().expect("no client panicked");
                if failures.len() < MOST {
                    let way = way.name();
                    failures.push(Failure { at, way, why });
                }
            }
        });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}
