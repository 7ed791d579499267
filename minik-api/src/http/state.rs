//! What every request shares: the cluster's facts, where objects are, what is allocated and what has been worked out
//! once. Decides nothing; handlers and listeners hold it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::account_tokens::{AccountTokens, TokenError};
use crate::alloc::Allocators;
use crate::config::ApiConfig;
use crate::error::ApiError;
use crate::resource::Registry;
use crate::storage::Storage;

use super::openapi::Documents;
use super::policies::PolicyCache;

/// What every request shares.
pub struct State {
    /// The served kinds.
    pub registry: &'static Registry,
    /// Where objects are.
    pub storage: Arc<dyn Storage>,
    /// Cluster IPs and node ports in use.
    pub allocators: Allocators,
    /// The stored roles, as they were last read.
    pub policies: PolicyCache,
    /// Tokens of ServiceAccounts.
    pub account_tokens: AccountTokens,
    /// The cluster's facts.
    pub config: ApiConfig,
    /// Cancelled when the server stops: streams end, nothing new begins.
    pub shutdown: CancellationToken,
    ready: AtomicBool,
    openapi: OnceLock<Documents>,
}

/// [`State`], as handlers hold it.
pub type SharedState = Arc<State>;

/// Why there is no state to share.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A stored Service cannot be read.
    #[error("reading the stored Service {key}")]
    Service {
        /// Where it is stored.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The key of service account tokens is damaged.
    #[error("reading the key of service account tokens")]
    AccountKey(#[source] TokenError),
}

impl State {
    /// A server over `storage`: allocators adopt what the stored Services hold.
    ///
    /// # Errors
    /// A stored Service, or the key of tokens, is damaged.
    pub fn new(
        config: ApiConfig,
        storage: Arc<dyn Storage>,
        shutdown: CancellationToken,
    ) -> Result<SharedState, StateError> {
        let allocators = Allocators::new(config.service_cidr, config.node_ports.clone());
        for entry in storage.cache().snapshot().range("core/services/", None) {
            serde_json::from_slice(&entry.value)
                .and_then(|service| allocators.adopt(&service))
                .map_err(|source| StateError::Service {
                    key: entry.key.to_string(),
                    source,
                })?;
        }
        let account_tokens =
            AccountTokens::new(&config.account_key, &config.cluster_domain).map_err(StateError::AccountKey)?;
        Ok(Arc::new(Self {
            account_tokens,
            registry: standard_registry(),
            storage,
            allocators,
            policies: PolicyCache::default(),
            config,
            shutdown,
            ready: AtomicBool::new(false),
            openapi: OnceLock::new(),
        }))
    }

    /// Whether `/readyz` says so.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Says that the objects every cluster has are there.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// The OpenAPI documents, built when first asked for.
    ///
    /// # Errors
    /// They could not be built.
    pub fn openapi(&self) -> Result<&Documents, ApiError> {
        if let Some(documents) = self.openapi.get() {
            return Ok(documents);
        }
        let built = Documents::build(self.registry).map_err(|error| ApiError::Internal(error.to_string()))?;
        Ok(self.openapi.get_or_init(|| built))
    }
}

fn standard_registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::standard)
}
