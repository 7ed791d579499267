//! `minik debug …`: what a node's planners believe, and what its rules really do. Reads the API and the node's
//! kernel, changes neither.

mod node;
mod plan;
mod report;
mod trace;

use clap::{Subcommand, ValueEnum};

/// Show what the planners of a node believe.
#[derive(Debug, Subcommand)]
pub enum Debug {
    /// Show what the agents would still change in their nodes' rules
    Plan(plan::Plan),
    /// Follow a packet through a node's rules, on paper
    Trace(trace::Trace),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Json,
}

impl Debug {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Plan(plan) => plan.run(),
            Self::Trace(trace) => trace.run(),
        }
    }
}
