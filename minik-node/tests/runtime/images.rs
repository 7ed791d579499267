//! The built-in images at work.

use libtest_mimic::Trial;
use minik_node::kernel::netns::NetNs;
use minik_node::runtime::spec::{Access, Mount};

use crate::fixture::Fixture;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("images::nginx_serves_its_welcome_page", welcome),
        trial("images::nginx_serves_the_lesson_s_configuration", lesson),
        trial("images::every_tool_runs", tools),
        trial("images::an_unknown_image_names_what_there_is", unknown),
    ]
}

/// One HTTP exchange inside the Pod's namespace, tried until the server listens (at most 5 s).
fn get(pod: &Fixture, host: &str) -> String {
    use std::io::{Read, Write};
    let netns = NetNs::open(&pod.netns).unwrap();
    netns
        .run(|| {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
            let mut stream = loop {
                match std::net::TcpStream::connect("127.0.0.1:80") {
                    Ok(stream) => break stream,
                    Err(error) if std::time::Instant::now() > deadline => panic!("{error}"),
                    Err(_) => std::thread::yield_now(),
                }
            };
            write!(stream, "GET /path HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
        .unwrap()
}

async fn welcome() {
    let pod = Fixture::new();
    let spec = pod.container("main", "nginx", &[]).await;
    pod.client.start(spec).await.unwrap();
    let answer = get(&pod, "x");
    // `/path` is not there; the page of errors is nginx's own, and the log line has come to stdout.
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}\n{}", pod.log("main", 0));
    assert!(
        pod.image("nginx").await.layers[0]
            .join("usr/share/nginx/html/index.html")
            .exists()
    );
    pod.finish().await;
}

async fn lesson() {
    let pod = Fixture::new();
    let conf = pod.dir.path().join("default.conf");
    let text = "server { listen 80; location / { default_type text/plain; return 200 'srv : $server_addr:$server_port\\nhost: $hostname\\nuri : $request_method $host $request_uri\\ndate: $time_iso8601\\n'; } }";
    std::fs::write(&conf, text).unwrap();
    let mut spec = pod.container("main", "nginx", &[]).await;
    spec.mounts = vec![Mount {
        source: conf,
        target: "/etc/nginx/conf.d/default.conf".into(),
        access: Access::ReadOnly,
        sub_path: None,
    }];
    pod.client.start(spec).await.unwrap();
    let answer = get(&pod, "10.0.0.1");
    let body: Vec<&str> = answer.split_once("\r\n\r\n").unwrap().1.lines().collect();
    assert_eq!(
        &body[..3],
        ["srv : 127.0.0.1:80", "host: web", "uri : GET 10.0.0.1 /path"]
    );
    assert!(body[3].starts_with("date: 20") && body.len() == 4, "{body:?}");
    pod.finish().await;
}

async fn tools() {
    let pod = Fixture::new();
    let script = "curl --version >/dev/null && dig -v 2>/dev/null; nslookup -version >/dev/null; host -V 2>/dev/null; ip -V >/dev/null && ss -V >/dev/null && ping -V >/dev/null && wget --help 2>/dev/null; echo code $?";
    let spec = pod.container("main", "tools", &["bash", "-c", script]).await;
    let mut watch = pod.client.watch().await.unwrap();
    pod.client.start(spec).await.unwrap();
    crate::fixture::until(&mut watch, |states| {
        states.get("main").is_some_and(|state| state.current.ended.is_some())
    })
    .await;
    assert!(pod.log("main", 0).contains("F code 0"), "{}", pod.log("main", 0));
    pod.finish().await;
}

async fn unknown() {
    let pod = Fixture::new();
    let error = pod.images.get("mysql:5.7").await.unwrap_err().to_string();
    assert!(
        error.contains("mysql:5.7")
            && error.contains("agnhost, busybox, echoserver, etcd, goproxy, httpd, minik/dns, nginx, pause, tools"),
        "{error}"
    );
    pod.finish().await;
}
