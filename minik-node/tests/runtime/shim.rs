//! The shim against the real kernel.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Command;

use libtest_mimic::Trial;
use minik_node::kernel::netns::NetNs;
use minik_node::runtime::client::{ShimClient, ShimClientError, States, Watch};
use minik_node::runtime::protocol::{Exec, Exit};
use minik_node::runtime::spec::{Processes, Shares};

use crate::fixture::{Fixture, until};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("shim::output_is_logged_and_the_exit_code_kept", output),
        trial("shim::a_container_sees_its_own_world", world),
        trial("shim::containers_share_name_and_memory_but_not_processes", shared),
        trial("shim::a_program_that_is_missing_is_named", missing),
        trial("shim::exec_carries_output_and_exit_code", exec),
        trial("shim::an_agent_finds_its_shim_again", adopt),
        trial("shim::signals_reach_the_first_process", signal),
        trial("shim::another_takes_over_from_one_that_was_killed", killed),
        trial("shim::what_ended_unseen_is_unknown", unseen),
        trial("shim::a_sandbox_lasts_as_long_as_somebody_holds_it", held),
        trial("shim::one_space_of_processes_outlives_the_shim_too", one_space),
        trial("shim::a_container_starts_again_with_a_fresh_layer", restart),
    ]
}

async fn output() {
    let pod = Fixture::new();
    let states = pod.run("echo out; echo err >&2; printf last; exit 7").await;
    let ended = states["main"].current.ended.clone().unwrap();
    assert_eq!((ended.exit.code, ended.exit.signal), (7, None));
    let mut lines = pod.lines("main", 0);
    lines.sort();
    assert_eq!(lines, ["stderr F err", "stdout F out", "stdout P last"]);
    let saved = std::fs::read_to_string(pod.dir.path().join("state/exits/main.json")).unwrap();
    assert!(saved.contains("\"code\":7"), "{saved}");
    pod.finish().await;
}

async fn world() {
    let pod = Fixture::new();
    let script = "echo $$; hostname; ls /dev | tr '\\n' ' '; echo; \
        (echo 1 > /proc/sys/kernel/panic) 2>/dev/null || echo sealed; \
        test -e /dev/pts/ptmx && echo pts; echo x > /dev/null && echo null; \
        head -c 3 /dev/zero | wc -c; ls / | tr '\\n' ' '; echo; ls /sys/class/net; \
        cat /proc/kcore | wc -c; grep NoNewPrivs /proc/self/status; id -u; echo /dev/stdout works > /dev/stdout";
    pod.run(script).await;
    let lines = pod.lines("main", 0);
    let text = lines.join("\n");
    assert_eq!(&lines[..2], ["stdout F 1", "stdout F web"], "{text}");
    for expected in [
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero",
        "F sealed",
        "F pts",
        "F null",
        "F 3",
        "bin dev etc home",
        "F lo",
        "stdout F 0\n",
        "NoNewPrivs:\t0",
        "/dev/stdout works",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    pod.finish().await;
}

async fn shared() {
    let pod = Fixture::new();
    let first = pod
        .container(
            "first",
            "busybox",
            &["sh", "-c", "echo hello > /dev/shm/note; exec sleep 1000"],
        )
        .await;
    pod.client.start(first).await.unwrap();
    pod.run(
        "until test -s /dev/shm/note; do usleep 1000; done; cat /dev/shm/note; ls /proc | grep -c '^[0-9]'; hostname",
    )
    .await;
    let lines = pod.lines("main", 0);
    assert_eq!(lines[0], "stdout F hello");
    assert_eq!(lines[2], "stdout F web");
    assert!(
        lines[1].trim_start_matches("stdout F ").parse::<u32>().unwrap() <= 4,
        "{lines:?}"
    );
    pod.finish().await;
}

async fn missing() {
    let pod = Fixture::new();
    let spec = pod.container("main", "busybox", &["nonesuch"]).await;
    let mut watch = pod.client.watch().await.unwrap();
    let Err(ShimClientError::Refused(failure)) = pod.client.start(spec).await else {
        panic!("started")
    };
    assert_eq!(
        failure.message,
        "exec: \"nonesuch\": executable file not found in $PATH"
    );
    let states = until(&mut watch, |states| states.contains_key("main")).await;
    let ended = states["main"].current.ended.clone().unwrap();
    assert_eq!((ended.exit.code, ended.start_error), (128, Some(failure.message)));
    pod.finish().await;
}

/// Runs a program in container `main`; gives stdout and the exit code.
async fn run(client: &ShimClient, argv: &[&str]) -> Result<(String, i32), ShimClientError> {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let stdio = [null(), OwnedFd::from(writer), null()];
    let exec = Exec {
        container: "main".into(),
        argv: argv.iter().map(ToString::to_string).collect(),
        tty: false,
    };
    let running = client.exec(exec, &stdio).await?;
    drop(stdio);
    let exit = running.wait().await?;
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    Ok((text, exit.code))
}

async fn exec() {
    let pod = Fixture::new();
    let spec = pod.container("main", "busybox", &["sleep", "1000"]).await;
    pod.client.start(spec).await.unwrap();
    assert_eq!(
        run(&pod.client, &["sh", "-c", "hostname; cat /proc/1/comm; exit 3"])
            .await
            .unwrap(),
        ("web\nsleep\n".into(), 3)
    );
    for (argv, code, text) in [
        (
            ["bash?"].as_slice(),
            127,
            "exec: \"bash?\": executable file not found in $PATH",
        ),
        (&["/etc/passwd"], 126, "exec: \"/etc/passwd\": permission denied"),
        (
            &["/no/such"],
            127,
            "exec: \"/no/such\": stat /no/such: no such file or directory",
        ),
    ] {
        let Err(ShimClientError::Refused(failure)) = run(&pod.client, argv).await else {
            panic!("ran {argv:?}")
        };
        assert_eq!((failure.code, failure.message.as_str()), (code, text));
    }
    pod.finish().await;
}

async fn adopt() {
    let pod = Fixture::new();
    let spec = pod.container("main", "busybox", &["sleep", "1000"]).await;
    pod.client.start(spec).await.unwrap();
    let (found, sandbox) = ShimClient::adopt(&pod.run_dir()).unwrap();
    let states = found.watch().await.unwrap().next().await.unwrap();
    assert_eq!(
        (sandbox.pod_name.as_str(), states["main"].current.ended.as_ref()),
        ("web", None)
    );
    assert_eq!(run(&found, &["hostname"]).await.unwrap(), ("web\n".into(), 0));
    pod.finish().await;
}

async fn signal() {
    let pod = Fixture::new();
    let spec = pod
        .container(
            "main",
            "busybox",
            &[
                "sh",
                "-c",
                "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done",
            ],
        )
        .await;
    let mut watch = pod.client.watch().await.unwrap();
    pod.client.start(spec).await.unwrap();
    // A first process without a handler ignores the signal, so the trap must be set.
    while !std::fs::read_to_string(pod.dir.path().join("logs/main/0.log")).is_ok_and(|log| log.contains("ready")) {
        tokio::task::yield_now().await;
    }
    pod.client.signal("main", libc::SIGTERM).await.unwrap();
    let states = until(&mut watch, |states| {
        states.get("main").is_some_and(|state| state.current.ended.is_some())
    })
    .await;
    assert_eq!(states["main"].current.ended.clone().unwrap().exit.code, 5);
    pod.finish().await;
}

/// Kills the shim of a container's first process; returns when it is gone. Its children fall to the test, as they fall to
/// the supervisor of a cluster.
fn kill_shim(pod: &Fixture, pid: i32) {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let shim = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().to_owned();
    kill(&shim);
    let socket = pod.run_dir().join("shim.sock");
    while std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        std::thread::yield_now();
    }
}

fn kill(pid: &str) {
    assert!(Command::new("kill").args(["-KILL", pid]).status().unwrap().success());
}

/// Reaps an orphan that fell to the test, once it has ended.
fn inherit(pid: i32) {
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
}

/// Starts another shim in the place of one that was killed; gives its states.
async fn revive(pod: &Fixture) -> Result<(Watch, States), ShimClientError> {
    assert!(
        pod.client.revive(&std::env::current_exe().unwrap())?,
        "there is a sandbox"
    );
    let mut watch = pod.client.watch().await?;
    let states = watch.next().await?;
    Ok((watch, states))
}

/// Starts a container that sleeps; gives its first process.
async fn sleeper(pod: &Fixture, name: &str) -> i32 {
    let mut watch = pod.client.watch().await.unwrap();
    let spec = pod.container(name, "busybox", &["sleep", "1000"]).await;
    pod.client.start(spec).await.unwrap();
    until(&mut watch, |states| states.contains_key(name)).await[name]
        .current
        .pid
}

fn holder(pod: &Fixture) -> i64 {
    let text = std::fs::read_to_string(pod.run_dir().join("holder.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["pid"]
        .as_i64()
        .unwrap()
}

async fn killed() {
    let pod = Fixture::new();
    let script = "printf 'half '; until test -e /dev/shm/go; do usleep 1000; done; echo whole; exit 7";
    let spec = pod.container("main", "busybox", &["sh", "-c", script]).await;
    let mut watch = pod.client.watch().await.unwrap();
    pod.client.start(spec).await.unwrap();
    pod.client
        .start(pod.container("done", "busybox", &["sh", "-c", "exit 3"]).await)
        .await
        .unwrap();
    let before = until(&mut watch, |states| {
        states.contains_key("main") && states.get("done").is_some_and(|state| state.current.ended.is_some())
    })
    .await;
    let rest = pod.run_dir().join("main-id.out.rest");
    while !std::fs::read(&rest).is_ok_and(|text| text == b"half ") {
        tokio::task::yield_now().await;
    }
    let pid = before["main"].current.pid;
    kill_shim(&pod, pid);
    assert!(watch.next().await.is_err(), "its connection broke");

    let (mut watch, after) = revive(&pod).await.unwrap();
    assert_eq!(after, before, "nothing has ended or begun");
    let heir = std::thread::spawn(move || inherit(pid));
    // Exec, the Pod's memory and its namespaces are what they were.
    let beside = "hostname; cat /proc/1/comm; echo from exec > /dev/shm/note";
    let said = run(&pod.client, &["sh", "-c", beside]).await.unwrap();
    assert_eq!(said, ("web\nsh\n".into(), 0));
    let other = pod.container("other", "busybox", &["cat", "/dev/shm/note"]).await;
    pod.client.start(other).await.unwrap();
    // It may be killed with the container that it ends.
    run(&pod.client, &["touch", "/dev/shm/go"]).await.unwrap();

    heir.join().unwrap();
    let ended = until(&mut watch, |states| {
        ["main", "other"]
            .iter()
            .all(|name| states.get(*name).is_some_and(|state| state.current.ended.is_some()))
    })
    .await;
    assert_eq!(ended["main"].current.ended.as_ref().unwrap().exit.code, 7);
    assert_eq!(pod.lines("main", 0), ["stdout F half whole"]);
    assert_eq!(pod.lines("other", 0), ["stdout F from exec"]);
    pod.finish().await;
}

async fn unseen() {
    let pod = Fixture::new();
    let pid = sleeper(&pod, "main").await;
    kill_shim(&pod, pid);
    kill(&pid.to_string());
    inherit(pid);
    let (_watch, states) = revive(&pod).await.unwrap();
    let ended = states["main"].current.ended.as_ref().unwrap();
    assert_eq!(ended.exit, Exit::LOST);
    pod.finish().await;
}

async fn held() {
    let pod = Fixture::new();
    let pid = sleeper(&pod, "main").await;
    let first = holder(&pod);
    kill(&first.to_string());
    while holder(&pod) == first {
        tokio::task::yield_now().await;
    }
    kill_shim(&pod, pid);
    let (_watch, states) = revive(&pod).await.unwrap();
    assert_eq!(states["main"].current.ended, None, "another holds what the first held");

    // The parent of an adopted container is another.
    kill_shim(&pod, sleeper(&pod, "beside").await);
    kill(&holder(&pod).to_string());
    inherit(holder(&pod).try_into().unwrap());
    assert!(revive(&pod).await.is_err(), "nobody holds it");
    inherit(pid);
    let error = pod.client.watch().await.map(drop).unwrap_err();
    assert!(matches!(error, ShimClientError::Connect(_)), "{error}");
    NetNs::delete(&pod.netns).unwrap();
}

async fn one_space() {
    let pod = Fixture::sharing(Shares {
        processes: Processes::Pod,
        ..Shares::default()
    });
    let pid = sleeper(&pod, "main").await;
    kill_shim(&pod, pid);
    let (mut watch, states) = revive(&pod).await.unwrap();
    assert_eq!(states["main"].current.ended, None);
    let said = run(&pod.client, &["cat", "/proc/1/comm"]).await.unwrap();
    assert_eq!(said, ("pause\n".into(), 0));
    // The first process takes all others with it, and the shim sees that.
    kill(&holder(&pod).to_string());
    inherit(pid);
    while watch.next().await.is_ok() {}
    assert!(revive(&pod).await.is_err());
    NetNs::delete(&pod.netns).unwrap();
}

async fn restart() {
    let pod = Fixture::new();
    let script = "test -e /mark && echo old; touch /mark; echo done";
    pod.run(script).await;
    let mut again = pod.container("main", "busybox", &["sh", "-c", script]).await;
    again.attempt = 1;
    again.id = "second".into();
    again.log = pod.dir.path().join("logs/main/1.log");
    let mut watch = pod.client.watch().await.unwrap();
    pod.client.start(again).await.unwrap();
    let states = until(&mut watch, |states| {
        states["main"].current.attempt == 1 && states["main"].current.ended.is_some()
    })
    .await;
    assert_eq!(states["main"].previous.as_ref().unwrap().attempt, 0);
    assert_eq!(pod.lines("main", 1), ["stdout F done"]);
    pod.finish().await;
}
