//! Thousands of watchers on one window: each sees every change once and in order, and costs little.

use futures::StreamExt;
use futures::future::join_all;
use http::Request;
use minik_api::server::Identity;
use tower::ServiceExt;

use crate::common::{Server, config_map};

const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const WATCHERS: usize = 2000;
const CHANGES: usize = 40;

/// This process's memory, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("is there");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("is there");
    let kilobytes = line.split_whitespace().nth(1).expect("is there");
    kilobytes.parse::<usize>().expect("is a number") << 10
}

#[tokio::test]
async fn two_thousand_watchers_miss_and_repeat_nothing() {
    let server = Server::start().await;
    let before = resident();
    let mut watchers = Vec::with_capacity(WATCHERS);
    for _ in 0..WATCHERS {
        let request = Request::get(format!("{CONFIG_MAPS}?watch=1"))
            .body(axum::body::Body::empty())
            .expect("is a request");
        let Ok(response) = server.app(Identity::admin()).oneshot(request).await;
        watchers.push(response.into_body().into_data_stream());
    }
    let each = resident().saturating_sub(before) / WATCHERS;
    eprintln!("{each} bytes a watcher");
    assert!(each < 32 << 10, "{each} bytes a watcher");

    let wanted: Vec<String> = (0..CHANGES).map(|n| format!("c{n}")).collect();
    let writer = async {
        for name in &wanted {
            server.post(CONFIG_MAPS, &config_map(name)).await;
        }
    };
    let readers = watchers.into_iter().map(async |mut watcher| {
        let mut text = Vec::new();
        while text.iter().filter(|byte| **byte == b'\n').count() < CHANGES {
            let chunk = watcher.next().await.expect("goes on").expect("is read");
            text.extend_from_slice(&chunk);
        }
        String::from_utf8(text).expect("is text")
    });
    let ((), seen) = tokio::join!(writer, join_all(readers));
    for text in seen {
        let names: Vec<&str> = text
            .lines()
            .map(|line| {
                let (_, rest) = line.split_once("\"name\":\"").expect("has a name");
                rest.split('"').next().expect("ends")
            })
            .collect();
        assert_eq!(names, wanted);
    }
}
