//! One pass of the proxy, the same for every mode: update the table, compile, compare, write.

use std::sync::Arc;
use std::time::Instant;

use imbl::OrdMap;
use jiff::Timestamp;

use super::account::Triggers;
use super::conntrack::FlowCleaner;
use super::{ProxyConfig, ServiceProxy};
use crate::plan::service_table::{NodeFacts, NodePortAddresses, ServiceTable};
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
    triggers: Triggers,
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
            triggers: Triggers::new(Timestamp::now()),
        }
    }

    /// The mode, to look at what it does.
    pub fn proxy(&mut self) -> &mut P {
        &mut self.proxy
    }

    /// What a full pass would write now; `None` when all is in order. Writes nothing.
    ///
    /// # Errors
    /// When the rules cannot be read.
    pub async fn pending(&mut self, view: Arc<ClusterView>) -> Result<Option<P::Plan>, P::Error> {
        self.decide(view);
        let Some((_, table)) = &self.decided else {
            return Ok(None);
        };
        let desired = self.proxy.compile(table);
        Ok(P::plan(&self.proxy.observe().await?, &desired))
    }

    fn facts(&self, view: &ClusterView) -> NodeFacts {
        NodeFacts {
            name: self.config.node.clone(),
            address: self.config.node_ip,
            cluster_cidr: self.config.cluster_cidr,
            zone: view.this_node().and_then(|node| node.zone.clone()),
            node_port_addresses: NodePortAddresses::All,
            conntrack_tcp_liberal: self.config.conntrack_tcp_liberal,
        }
    }

    /// Brings the table to `view`; false when nothing that a proxy looks at has changed.
    fn decide(&mut self, view: Arc<ClusterView>) -> bool {
        let facts = self.facts(&view);
        let metrics = &self.config.metrics;
        let Some((seen, table)) = &mut self.decided else {
            let table = ServiceTable::full(&view, facts);
            metrics.queued(&ClusterView::default(), &view);
            self.triggers.note(&ClusterView::default(), &view);
            metrics.count_no_local(&OrdMap::new(), &table.services);
            self.decided = Some((view, table));
            return true;
        };
        let before = table.clone();
        table.update(&view, &view.changes_since(seen), facts);
        metrics.queued(seen, &view);
        self.triggers.note(seen, &view);
        metrics.count_no_local(&before.services, &table.services);
        *seen = view;
        // Entries that stay are the same objects, so this compares what changed.
        before.node != table.node || before.services.diff(&table.services).next().is_some()
    }

    async fn write(&mut self, pass: Pass) -> Result<(), P::Error> {
        let Some((_, table)) = &self.decided else {
            return Ok(());
        };
        let desired = self.proxy.compile(table);
        let observed = match (pass, self.applied.take()) {
            (Pass::Changed, Some(applied)) => applied,
            (Pass::Full, _) | (Pass::Changed, None) => self.proxy.observe().await?,
        };
        let metrics = &self.config.metrics;
        metrics.rules(P::size(&desired));
        if let Some(plan) = P::plan(&observed, &desired) {
            tracing::debug!(mode = P::MODE, %plan, "write rules");
            metrics.wrote(P::written(&plan));
            if let Err(error) = self.proxy.apply(&plan).await {
                metrics.write_failed(pass);
                return Err(error);
            }
        }
        self.applied = Some(desired);
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
        let began = Instant::now();
        let changed = self.decide(view);
        // An endpoint that served its last flows may have left without any rule changing.
        if pass == Pass::Changed && !changed && self.applied.is_some() {
            self.config.metrics.covered();
        } else if let Err(error) = self.write(pass).await {
            return Outcome::Failed(chain(&error));
        } else {
            self.config.metrics.synced(pass, began.elapsed());
        }
        self.triggers.covered(&self.config.metrics, Timestamp::now());
        self.clean(pass).await;
        Outcome::Synced
    }

    async fn disturbed(&mut self) {
        self.proxy.disturbed().await;
    }
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
