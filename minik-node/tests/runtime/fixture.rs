//! One sandbox in directories and a network namespace of its own, taken down with the fixture.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use minik_node::kernel::netns::NetNs;
use minik_node::runtime::client::{ShimClient, States, Watch};
use minik_node::runtime::image::{Image, Images};
use minik_node::runtime::spec::{ContainerSpec, Privileges, SandboxSpec, Shares, Stdin, User};

pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub client: ShimClient,
    pub images: Images,
    pub netns: String,
}

impl Fixture {
    pub fn new() -> Self {
        Self::sharing(Shares::default())
    }

    pub fn sharing(shares: Shares) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        let uid = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let netns = format!("minik.rt-test.pod.{uid}");
        drop(NetNs::create(&netns).unwrap());
        let spec = SandboxSpec {
            pod_namespace: "default".into(),
            pod_name: "web".into(),
            pod_uid: uid,
            hostname: "web".into(),
            netns: Some(PathBuf::from("/run/netns").join(&netns)),
            address: [127, 0, 0, 1].into(),
            state_dir: dir.path().join("state"),
            tmpfs: Vec::new(),
            shares,
            host_ports: Vec::new(),
        };
        let client = ShimClient::spawn(&std::env::current_exe().unwrap(), &dir.path().join("run"), &spec).unwrap();
        let images = Images::new(&dir.path().join("images"));
        Self {
            dir,
            client,
            images,
            netns,
        }
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub fn log(&self, name: &str, attempt: u32) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("logs/{name}/{attempt}.log"))).unwrap()
    }

    /// Text of a log without times.
    pub fn lines(&self, name: &str, attempt: u32) -> Vec<String> {
        self.log(name, attempt)
            .lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    pub async fn image(&self, name: &str) -> Arc<Image> {
        self.images.get(name).await.unwrap()
    }

    pub async fn container(&self, name: &str, image: &str, argv: &[&str]) -> ContainerSpec {
        let image = self.image(image).await;
        let default = || [image.entrypoint.clone(), image.cmd.clone()].concat();
        ContainerSpec {
            name: name.into(),
            id: format!("{name}-id"),
            attempt: 0,
            image: image.name.clone(),
            image_id: image.id.clone(),
            layers: image.layers.clone(),
            writable: self.dir.path().join("state/containers").join(name),
            argv: if argv.is_empty() {
                default()
            } else {
                argv.iter().map(ToString::to_string).collect()
            },
            env: image.env.clone(),
            cwd: "/".into(),
            user: User::default(),
            capabilities: [
                "CAP_CHOWN",
                "CAP_SETUID",
                "CAP_SETGID",
                "CAP_NET_BIND_SERVICE",
                "CAP_NET_RAW",
                "CAP_DAC_OVERRIDE",
            ]
            .map(str::to_owned)
            .to_vec(),
            mounts: Vec::new(),
            read_only: false,
            privileges: Privileges::default(),
            stdin: Stdin::default(),
            stop_signal: image.stop_signal,
            log: self.dir.path().join(format!("logs/{name}/0.log")),
        }
    }

    /// Runs a shell script as container `main` to its end; gives the states then.
    pub async fn run(&self, script: &str) -> States {
        let spec = self.container("main", "busybox", &["sh", "-c", script]).await;
        let mut watch = self.client.watch().await.unwrap();
        self.client.start(spec).await.unwrap();
        until(&mut watch, |states| {
            states.get("main").is_some_and(|state| state.current.ended.is_some())
        })
        .await
    }

    /// Ends the shim and checks that it leaves nothing.
    pub async fn finish(self) {
        self.client.shutdown().await.unwrap();
        NetNs::delete(&self.netns).unwrap();
        let dir = self.dir.path().display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&dir), "a mount is left");
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            end_shims(vec![self.run_dir()]);
        }
        // After a failed assertion; the namespace's name is all that would stay.
        if let Err(error) = NetNs::delete(&self.netns) {
            eprintln!("{error}");
        }
    }
}

/// Ends the shims of these run directories, from a place that may not wait.
pub fn end_shims(dirs: Vec<PathBuf>) {
    let ended = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for dir in dirs {
            if let Ok((client, _)) = ShimClient::adopt(&dir)
                && let Err(error) = runtime.block_on(client.shutdown())
            {
                eprintln!("{error}");
            }
        }
    });
    if ended.join().is_err() {
        eprintln!("a shim is left");
    }
}

pub async fn until(watch: &mut Watch, condition: impl Fn(&States) -> bool) -> States {
    loop {
        let states = watch.next().await.unwrap();
        if condition(&states) {
            return states;
        }
    }
}
