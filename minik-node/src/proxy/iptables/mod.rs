//! The iptables mode: kube-proxy's chains, written in one transaction of what changed.
//!
//! ```text
//! PREROUTING, OUTPUT ─ KUBE-SERVICES ┬ cluster IP ──────────────────────────── KUBE-SVC-… or KUBE-SVL-…
//!                                    ├ external, load-balancer IP (KUBE-FW-…) ─ KUBE-EXT-… ─ KUBE-SVC-…, KUBE-SVL-…
//!                                    └ KUBE-NODEPORTS ───────────────────────── KUBE-EXT-…
//! KUBE-SVC-…, KUBE-SVL-… ─ KUBE-SEP-… (DNAT)            marked 0x4000 ─ KUBE-POSTROUTING (MASQUERADE)
//! ```
//! [`compile`] is pure, [`ruleset`] is the canonical text, [`plan`] the difference of two, [`kernel`] the
//! programs. Of `mangle` it uses nothing but a canary.

mod chain;
pub mod compile;
pub mod explain;
pub mod kernel;
pub mod plan;
pub mod ruleset;
mod service;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use self::compile::Compiler;
use self::kernel::{Kernel, KernelError};
use self::plan::Plan;
use self::ruleset::{Ruleset, Table};
use super::ServiceProxy;
use crate::plan::service_table::ServiceTable;

/// The iptables mode on this node.
#[derive(Debug)]
pub struct Iptables {
    compiler: Compiler,
    lock_file: PathBuf,
    /// Found on first use, so that a machine on which the package is missing mends itself once it is there.
    kernel: Option<Kernel>,
}

impl Iptables {
    /// `lock_file` stands in for `/run/xtables.lock` and belongs to this node alone.
    #[must_use]
    pub fn new(lock_file: PathBuf) -> Self {
        Self {
            compiler: Compiler::default(),
            lock_file,
            kernel: None,
        }
    }

    /// Uses a variant that was chosen instead of probing for one.
    pub fn use_kernel(&mut self, kernel: Kernel) {
        self.kernel = Some(kernel);
    }

    async fn kernel(&mut self) -> Result<&mut Kernel, KernelError> {
        match &mut self.kernel {
            Some(kernel) => Ok(kernel),
            none => Ok(none.insert(Kernel::probe(self.lock_file.clone()).await?)),
        }
    }
}

impl ServiceProxy for Iptables {
    const MODE: &'static str = "iptables";
    type Ruleset = Ruleset;
    type Plan = Plan;
    type Error = KernelError;

    fn compile(&mut self, table: &ServiceTable) -> Ruleset {
        self.compiler.compile(table)
    }

    fn plan(observed: &Ruleset, desired: &Ruleset) -> Option<Plan> {
        let plan = Plan::new(observed, desired);
        (!plan.is_empty()).then_some(plan)
    }

    async fn observe(&mut self) -> Result<Ruleset, KernelError> {
        self.kernel().await?.save().await
    }

    async fn apply(&mut self, plan: &Plan) -> Result<(), KernelError> {
        self.kernel().await?.apply(plan).await
    }

    fn size(ruleset: &Ruleset) -> [usize; 2] {
        [Table::Filter, Table::Nat].map(|table| ruleset.table(table).own_rules())
    }

    fn written(plan: &Plan) -> [usize; 2] {
        [Table::Filter, Table::Nat].map(|table| plan.rules_written(table))
    }

    async fn disturbed(&mut self) {
        let Some(kernel) = &mut self.kernel else {
            return std::future::pending().await;
        };
        if let Err(error) = kernel.changed().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "rules are no longer watched");
            // The next use finds a variant anew, and watches it.
            self.kernel = None;
        }
    }
}
