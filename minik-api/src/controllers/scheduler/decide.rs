//! Where one Pod goes. Pure: counts in, a decision out.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::board::{Board, Site};
use super::facts::Facts;
use super::filter::Trial;
use super::preempt::{Room, make_room};
use super::refusal::{NO_NODES, Reason, Refusal, reasons, refused, refused_at_once};
use super::score::best;
use super::view::View;
use super::volumes::ClaimStep;

/// What becomes of a Pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It goes to this node, after its claims have been seen to.
    Bind {
        /// The node.
        node: String,
        /// Steps before.
        claims: Vec<ClaimStep>,
    },
    /// It goes nowhere for now.
    Refuse {
        /// Why, in the words of the condition and the event.
        message: String,
        /// What would have to change.
        reasons: BTreeSet<Reason>,
        /// Room that is to be made for it.
        room: Option<Room>,
        /// Whether an earlier promise still holds.
        keeps_promise: bool,
    },
}

/// Decides for one Pod.
pub fn decide(view: &View<'_>, facts: &Facts) -> Decision {
    let nodes = view.board.sites().len();
    if nodes == 0 {
        return without_room(NO_NODES.to_owned(), [Reason::NodeAffinity].into());
    }
    let wanted = match view.volumes.wanted(view.board, facts) {
        Ok(wanted) => wanted,
        Err(why) => return without_room(refused_at_once(nodes, &why), [Reason::NoVolume].into()),
    };
    // Room that is kept for others counts as taken, and yet those others may never come.
    let kept = with_promised(view, facts);
    let trial = Trial::new(view.board, facts, &wanted);
    let stricter = kept.as_ref().map(|board| Trial::new(board, facts, &wanted));
    let mut fitting = Vec::new();
    let mut refusals: Vec<(&Arc<Site>, Refusal)> = Vec::new();
    for site in view.board.sites() {
        let refusal = trial.refusal(site);
        let refusal = refusal.or_else(|| stricter.as_ref().and_then(|trial| trial.refusal(site)));
        match refusal {
            None => fitting.push(site),
            Some(refusal) => refusals.push((site, refusal)),
        }
    }
    let promised = view.nominations.get(&facts.key);
    let promised = promised.and_then(|node| fitting.iter().copied().find(|site| *site.name == **node));
    if let Some(site) = promised.or_else(|| best(view.board, facts, &fitting)) {
        return Decision::Bind {
            node: site.name.to_string(),
            claims: wanted.steps(site).unwrap_or_default(),
        };
    }
    refuse(view, kept.as_ref().unwrap_or(view.board), facts, &refusals)
}

fn refuse(view: &View<'_>, board: &Board, facts: &Facts, refusals: &[(&Arc<Site>, Refusal)]) -> Decision {
    let room = make_room(view, board, facts, refusals);
    let all = || refusals.iter().map(|(_, refusal)| refusal);
    let words = room.as_ref().err().map(String::as_str);
    Decision::Refuse {
        message: refused(refusals.len(), all(), words),
        reasons: reasons(all()),
        keeps_promise: words == Some(super::refusal::VICTIM_GOING),
        room: room.ok(),
    }
}

fn without_room(message: String, reasons: BTreeSet<Reason>) -> Decision {
    Decision::Refuse {
        message,
        reasons,
        room: None,
        keeps_promise: false,
    }
}

/// The board with the Pods on it that have been promised a node and are not less important; `None` without any.
fn with_promised(view: &View<'_>, facts: &Facts) -> Option<Board> {
    let others = view.nominations.iter().filter_map(|(key, node)| {
        let other = view.waiting.get(key)?;
        (other.priority >= facts.priority && *key != facts.key).then_some((node, other))
    });
    others.fold(None, |board: Option<Board>, (node, other)| {
        let mut board = board.unwrap_or_else(|| view.board.clone());
        board.place(node, other.clone());
        Some(board)
    })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
