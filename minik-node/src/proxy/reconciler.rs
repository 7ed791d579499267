//! One pass of the proxy, the same for every mode: update the table, compile, compare, write.

use std::sync::Arc;
use std::time::Instant;

use super::conntrack::FlowCleaner;
use super::{ProxyConfig, ServiceProxy};
use crate::plan::service_table::{NodeFacts, ServiceTable};
use crate::reconcile::{Outcome, Pass, Reconciler};
use crate::view::ClusterView;

/// Keeps what was decided and written last, so that a change costs what it changes.
#[derive(Debug)]
pub struct ProxyReconciler<P: ServiceProxy> {
    proxy: P,
    config: ProxyConfig,
    decided: Option<(Arc<ClusterView>, ServiceTable)>,
    /// What the kernel holds as far as we know; `None` before the first pass and after a failure.
    applied: Option<P::Ruleset>,
    flows: FlowCleaner,
}

impl<P: ServiceProxy> ProxyReconciler<P> {
    /// A proxy that has written nothing yet.
    pub fn new(proxy: P, config: ProxyConfig) -> Self {
        Self {
            proxy,
            config,
            decided: None,
            applied: None,
            flows: FlowCleaner::default(),
        }
    }

    /// The mode, to look at what it does.
    pub fn proxy(&mut self) -> &mut P {
        &mut self.proxy
    }

    fn facts(&self, view: &ClusterView) -> NodeFacts {
        NodeFacts {
            name: self.config.node.clone(),
            address: self.config.node_ip,
            cluster_cidr: self.config.cluster_cidr,
            zone: view.this_node().and_then(|node| node.zone.clone()),
        }
    }

    /// Brings the table to `view`; false when nothing that a proxy looks at has changed.
    fn decide(&mut self, view: Arc<ClusterView>) -> bool {
        let facts = self.facts(&view);
        let Some((seen, table)) = &mut self.decided else {
            self.decided = Some((view.clone(), ServiceTable::full(&view, facts)));
            return true;
        };
        let before = table.clone();
        table.update(&view, &view.changes_since(seen), facts);
        *seen = view;
        // Entries that stay are the same objects, so this compares what changed.
        before.node != table.node || before.services.diff(&table.services).next().is_some()
    }

    async fn write(&mut self, pass: Pass) -> Result<(), P::Error> {
        let Some((_, table)) = &self.decided else {
            return Ok(());
        };
        let began = Instant::now();
        let desired = self.proxy.compile(table);
        let observed = match (pass, self.applied.take()) {
            (Pass::Changed, Some(applied)) => applied,
            (Pass::Full, _) | (Pass::Changed, None) => self.proxy.observe().await?,
        };
        if let Some(plan) = P::plan(&observed, &desired) {
            tracing::debug!(mode = P::MODE, %plan, "write rules");
            self.proxy.apply(&plan).await?;
        }
        self.applied = Some(desired);
        self.config
            .metrics
            .sync_proxy_rules_duration_seconds
            .observe(began.elapsed());
        Ok(())
    }
}

impl<P: ServiceProxy> ProxyReconciler<P> {
    /// Deletes stale flows, now that the rules are as decided. A kernel that does not let us costs clients that
    /// keep their port, not the Services: it is told, and tried again by the next pass.
    async fn clean(&mut self, pass: Pass) {
        let Some((view, table)) = &self.decided else {
            return;
        };
        let began = Instant::now();
        match self.flows.clean(view, table, pass).await {
            Ok(None) => {}
            Ok(Some(deleted)) => {
                let metrics = &self.config.metrics;
                metrics.conntrack_reconciler_deleted_entries_total.add(deleted);
                metrics
                    .conntrack_reconciler_sync_duration_seconds
                    .observe(began.elapsed());
            }
            Err(error) => tracing::warn!(error = chain(&error), "stale flows may stay"),
        }
    }
}

impl<P: ServiceProxy> Reconciler for ProxyReconciler<P> {
    type Desired = ClusterView;

    fn name(&self) -> &'static str {
        "service-proxy"
    }

    async fn reconcile(&mut self, view: Arc<ClusterView>, pass: Pass) -> Outcome {
        let changed = self.decide(view);
        // An endpoint that served its last flows may have left without any rule changing.
        let unchanged = pass == Pass::Changed && !changed && self.applied.is_some();
        if !unchanged && let Err(error) = self.write(pass).await {
            return Outcome::Failed(chain(&error));
        }
        self.clean(pass).await;
        Outcome::Synced
    }
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
