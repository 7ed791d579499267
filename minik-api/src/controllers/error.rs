//! Why a reconciliation stopped: one variant for each operation that can fail.

use std::error::Error;
use std::fmt;

/// One failed step. The queue retries the key; the texts are for the log.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A POST of a new object.
    #[error("cannot create {what}")]
    Create {
        /// Kind and key of the object.
        what: String,
        /// What the server answered.
        #[source]
        source: kube::Error,
    },
    /// A PUT or PATCH of an object.
    #[error("cannot update {what}")]
    Update {
        /// Kind and key of the object.
        what: String,
        /// What the server answered.
        #[source]
        source: kube::Error,
    },
    /// A PUT of an object's status.
    #[error("cannot update the status of {what}")]
    UpdateStatus {
        /// Kind and key of the object.
        what: String,
        /// What the server answered.
        #[source]
        source: kube::Error,
    },
    /// A DELETE.
    #[error("cannot delete {what}")]
    Delete {
        /// Kind and key of the object.
        what: String,
        /// What the server answered.
        #[source]
        source: kube::Error,
    },
    /// A live GET or LIST.
    #[error("cannot read {what}")]
    Read {
        /// Kind and key of the object, or the kind listed.
        what: String,
        /// What the server answered.
        #[source]
        source: kube::Error,
    },
    /// Reading the kinds that the server serves.
    #[error("cannot discover the served kinds")]
    Discover(#[source] kube::Error),
    /// A label selector that validation should have refused.
    #[error("{what} has an unusable selector")]
    Selector {
        /// Kind and key of the object.
        what: String,
        /// What is wrong with it.
        #[source]
        source: kube::core::ParseExpressionError,
    },
    /// The data of a volume.
    #[error("cannot remove the data of {what}")]
    Disk {
        /// Kind and name of the object.
        what: String,
        /// What the file system says.
        #[source]
        source: std::io::Error,
    },
    /// Waiting for volumes to be made.
    #[error("volumes are not there after {seconds} s")]
    Volumes {
        /// How long was waited.
        seconds: u64,
    },
    /// A value that does not serialise.
    #[error("cannot serialise {what}")]
    Serialise {
        /// What was to be written.
        what: String,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
}

impl ReconcileError {
    /// Whether another writer was faster.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Create { source, .. }
            | Self::Update { source, .. }
            | Self::UpdateStatus { source, .. }
            | Self::Delete { source, .. } => is_conflict(source),
            Self::Read { .. }
            | Self::Discover(_)
            | Self::Selector { .. }
            | Self::Disk { .. }
            | Self::Volumes { .. }
            | Self::Serialise { .. } => false,
        }
    }

    /// The error and all its sources in one line.
    pub fn chain(&self) -> impl fmt::Display + '_ {
        Chain(self)
    }
}

struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Whether the server answered 409 Conflict.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_conflict())
}

/// Whether the server answered 404 NotFound.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

/// Whether the server answered that the name is taken.
pub fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_already_exists())
}

/// The server's own words for a refusal, as events quote them.
pub fn server_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Turns the answer "there is no such object" into `None`.
pub fn found<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
