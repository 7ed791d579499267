//! How the program speaks of what went wrong: one line, causes after colons, as kubectl does.

use std::error::Error;

use kube::core::Status;

/// An error and its causes: `a: b: c`.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Ends the program with this code and no further word: what failed has been told, or is the caller's own.
#[derive(Debug, thiserror::Error)]
#[error("exit code {0}")]
pub struct Exit(pub u8);

/// What to print for a command that failed, and the exit code. `None` prints nothing.
#[must_use]
pub fn report(error: &anyhow::Error) -> (Option<String>, u8) {
    if let Some(Exit(code)) = error.downcast_ref() {
        return (None, *code);
    }
    // Whoever read our output has seen enough: `minik get pods | head -1`.
    if error.chain().any(is_broken_pipe) {
        return (None, 1);
    }
    if let Some(status) = error.downcast_ref::<Rejected>() {
        return (Some(status.to_string()), 1);
    }
    if let Some(kube::Error::Api(status)) = error.downcast_ref() {
        return (Some(rejection(status, None)), 1);
    }
    (Some(format!("error: {error:#}")), 1)
}

fn is_broken_pipe(cause: &(dyn Error + 'static)) -> bool {
    cause
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The API server's refusal, told as kubectl tells it, with what was being done when it came.
#[derive(Debug)]
pub struct Rejected {
    /// The server's answer.
    pub status: Box<Status>,
    /// `error when creating "x.yaml"`, for commands that read manifests.
    pub doing: Option<String>,
}

impl Rejected {
    /// kube's error, with the server's answer taken out if it is one.
    #[must_use]
    pub fn from_kube(error: kube::Error) -> anyhow::Error {
        match error {
            kube::Error::Api(status) => Self { status, doing: None }.into(),
            other => other.into(),
        }
    }

    /// Whether the server knows no such object.
    #[must_use]
    pub fn is_not_found(error: &anyhow::Error) -> bool {
        error
            .downcast_ref::<Self>()
            .is_some_and(|rejected| rejected.status.reason == "NotFound")
    }

    /// Says what was being done when it came.
    #[must_use]
    pub fn while_doing(error: anyhow::Error, doing: String) -> anyhow::Error {
        match error.downcast::<Self>() {
            Ok(rejected) => Self {
                doing: Some(doing),
                ..rejected
            }
            .into(),
            Err(other) => other,
        }
    }
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&rejection(&self.status, self.doing.as_deref()))
    }
}

impl Error for Rejected {}

/// kubectl's `StandardErrorMessage` and its special case for invalid objects.
fn rejection(status: &Status, doing: Option<&str>) -> String {
    let details = status.details.as_ref();
    if status.reason == "Invalid" {
        let Some(details) = details.filter(|details| !details.kind.is_empty()) else {
            return format!("The request is invalid: {}", status.message);
        };
        let subject = format!("The {} {:?} is invalid", details.kind, details.name);
        let causes: Vec<String> = details
            .causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        return match causes.as_slice() {
            [] => subject,
            [only] => format!("{subject}: {only}"),
            many => format!("{subject}: \n* {}", many.join("\n* ")),
        };
    }
    let message = match doing {
        Some(doing) => format!("{doing}: {}", status.message),
        None => status.message.clone(),
    };
    match status.reason.as_str() {
        "" => format!("Error from server: {message}"),
        reason => format!("Error from server ({reason}): {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: serde_json::Value) -> Rejected {
        Rejected {
            status: serde_json::from_value(json).unwrap(),
            doing: None,
        }
    }

    #[test]
    fn a_refusal_reads_as_from_kubectl() {
        let missing = status(serde_json::json!({"reason": "NotFound", "message": "services \"nope\" not found"}));
        assert_eq!(
            missing.to_string(),
            "Error from server (NotFound): services \"nope\" not found"
        );
    }

    #[test]
    fn an_invalid_object_lists_its_causes() {
        let cause = |field, message| serde_json::json!({"field": field, "message": message});
        let one = status(serde_json::json!({"reason": "Invalid", "message": "…", "details": {
            "kind": "Service", "name": "my-service2",
            "causes": [cause("spec.ports[0].nodePort", "Invalid value: 30080: provided port is already allocated")]}}));
        assert_eq!(
            one.to_string(),
            "The Service \"my-service2\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is \
             already allocated"
        );
        let two = status(serde_json::json!({"reason": "Invalid", "message": "…", "details": {
            "kind": "Service", "name": "dupl",
            "causes": [cause("spec.ports[0].name", "Required value"), cause("spec.ports[1].name", "Required value")]}}));
        assert_eq!(
            two.to_string(),
            "The Service \"dupl\" is invalid: \n* spec.ports[0].name: Required value\n* spec.ports[1].name: Required value"
        );
    }

    #[test]
    fn a_manifest_is_named_where_kubectl_names_it() {
        let mut exists =
            status(serde_json::json!({"reason": "AlreadyExists", "message": "services \"my-service\" already exists"}));
        exists.doing = Some("error when creating \"svc.yaml\"".to_owned());
        assert_eq!(
            exists.to_string(),
            "Error from server (AlreadyExists): error when creating \"svc.yaml\": services \"my-service\" already exists"
        );
    }

    #[test]
    fn a_closed_pipe_is_no_news() {
        let error = anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).context("print");
        assert_eq!(report(&error), (None, 1));
        assert_eq!(report(&anyhow::Error::from(Exit(7))), (None, 7));
    }
}
