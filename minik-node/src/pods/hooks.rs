//! `postStart` and `preStop`: what a container's author wants to happen around its life.
//!
//! Runs one hook; when, and for how long, is decided elsewhere. Texts are the kubelet's.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use crate::probe::check::{self, Target, exec, http};

/// Runs a hook to its end. The error is the text of `PostStartHookError`; `pod` is `NAME_NAMESPACE(UID)`.
pub async fn run(handler: &LifecycleHandler, target: &Target, pod: &str) -> Result<(), String> {
    let about = format!("for Container {:?} in Pod {pod:?} failed", target.container.name);
    if let Some(action) = &handler.exec {
        let argv = action.command.clone().unwrap_or_default();
        let shown = argv.join(" ");
        let failed = |error: String, output: &str| {
            format!("Exec lifecycle hook ([{shown}]) {about} - error: {error}, message: {output:?}")
        };
        return match exec::run(&target.shim, &target.container.name, argv, None).await {
            Ok(ended) if ended.code == 0 => Ok(()),
            Ok(ended) => {
                let error = format!("command '{shown}' exited with {}: {}", ended.code, ended.output);
                Err(failed(error, &ended.output))
            }
            Err(error) => Err(failed(error.to_string(), "")),
        };
    }
    if let Some(action) = &handler.http_get {
        let path = action.path.as_deref().unwrap_or_default();
        let failed = |error: String| format!("HTTP lifecycle hook ({path}) {about} - error: {error}");
        let port = check::port(&target.container, &action.port).map_err(failed)?;
        let host = target.host(action.host.as_deref());
        let get = http::Get::new(action, &host, port, http::Asker::Lifecycle);
        let get = get.map_err(|error| failed(error.to_string()))?;
        // Any answer will do.
        return match get.send().await {
            Ok(_) | Err(http::GetError::Body(_)) => Ok(()),
            Err(http::GetError::Failed(error)) => Err(failed(error)),
        };
    }
    if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    // The API takes `tcpSocket` for the sake of old manifests; nothing has ever run it.
    Err("Cannot run handler: invalid handler: no exec, httpGet or sleep".to_owned())
}
