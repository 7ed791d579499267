//! The differential law: whatever changes led there, what the rules do to a packet, followed on paper, is what
//! the service table decides.
//!
//! Rules are never compiled fresh: each state is reached from the one before by the plan that the agent would
//! apply. The suite runs [`CASES`] states; `MINIK_RULE_CASES` sets another number (`scripts/soak rules`).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};

use super::super::iptables::Rules;
use super::super::{Host, Outcome, Probability, State, Verdict, group};
use super::clusters::{self, Probe, Step};
use super::oracle::{self, Fate, Memory};
use super::paper::Paper;
use super::{facts, host};
use crate::plan::service_table::ServiceTable;
use crate::proxy::iptables::compile::Compiler;
use crate::proxy::iptables::plan::Plan;
use crate::proxy::iptables::ruleset::Ruleset;
use crate::view::Collector;

/// States of clusters in the suite, several packets each.
const CASES: u32 = 10_000;
/// Of one sequence.
const MOST_STEPS: usize = 15;
/// One change in so many is looked at between its commits too.
const BETWEEN: u64 = 4;
/// kube-proxy writes probabilities with ten digits, the kernel keeps 31 bits.
const ROUNDING: f64 = 1e-8;

/// A node's proxy from its first rules on, with the kernel on paper.
struct Node {
    collector: Collector,
    table: Option<ServiceTable>,
    compiler: Compiler,
    paper: Paper,
    host: Host,
    state: State,
    memory: Memory,
    now: Duration,
}

impl Node {
    fn new() -> Self {
        Self {
            collector: clusters::collector(),
            table: None,
            compiler: Compiler::default(),
            paper: Paper::new(),
            host: host(),
            state: State::default(),
            memory: Memory::default(),
            now: Duration::from_secs(1_000_000),
        }
    }

    /// Edits the cluster, brings the rules there, and asks about packets on the way and afterwards.
    fn step(&mut self, (edits, probes): &Step) -> Result<(), TestCaseError> {
        let before = self.collector.view().expect("synced").clone();
        edits.iter().for_each(|edit| clusters::apply(&mut self.collector, edit));
        let view = self.collector.view().expect("synced");
        let was = self.table.clone();
        match &mut self.table {
            Some(table) => table.update(view, &view.changes_since(&before), facts()),
            none => *none = Some(ServiceTable::full(view, facts())),
        }
        let table = self.table.clone().expect("decided");
        prop_assert_eq!(&table, &ServiceTable::full(view, facts()), "incremental equals full");

        let observed = Ruleset::parse(&self.paper.save()).expect("what is written parses");
        let desired = self.compiler.compile(&table);
        let plan = Plan::new(&observed, &desired);
        let plan = plan.to_string();
        let commits: Vec<&str> = plan.split_inclusive("COMMIT\n").collect();
        for (index, commit) in commits.iter().enumerate() {
            self.paper.restore(commit);
            let looks = probes.first().is_some_and(|probe| probe.luck % BETWEEN == 0);
            if let (Some(was), true) = (&was, looks && index + 1 < commits.len()) {
                self.between(was, &table, probes)?;
            }
        }
        let observed = Ruleset::parse(&self.paper.save()).expect("what is written parses");
        prop_assert_eq!(&observed, &desired, "a plan leads where it should");
        prop_assert!(Plan::new(&observed, &desired).is_empty(), "nothing is left to do");

        let rules = Rules::parse(&self.paper.save()).expect("rules");
        self.memory.keep_what_lives(&table);
        self.state = std::mem::take(&mut self.state).keeping(|list| rules.names_list(list));
        probes.iter().try_for_each(|probe| self.ask(&table, &rules, probe))
    }

    /// Between two commits a packet meets old rules, new ones or a refusal, never nobody.
    fn between(&self, was: &ServiceTable, becomes: &ServiceTable, probes: &[Probe]) -> Result<(), TestCaseError> {
        let rules = Rules::parse(&self.paper.save()).expect("rules");
        for probe in probes {
            let fates = |table| -> Vec<Fate> {
                let choices = oracle::decide(table, &Memory::default(), self.now, &probe.origin, &probe.packet);
                choices.into_iter().map(|(fate, _)| fate).collect()
            };
            let (old, new) = (fates(was), fates(becomes));
            let outcomes = rules
                .trace(
                    &self.host,
                    &State::default(),
                    self.now,
                    &probe.origin,
                    probe.packet.clone(),
                )
                .expect("every rule is known");
            for outcome in &outcomes {
                let fate = fate(outcome);
                let allowed =
                    old.contains(&fate) || new.contains(&fate) || matches!(fate, Fate::Refused | Fate::Dropped);
                prop_assert!(
                    allowed,
                    "between commits {probe:?}: {fate:?}, neither {old:?} nor {new:?}"
                );
            }
        }
        Ok(())
    }

    /// The distribution of outcomes equals the oracle's; one of them happens.
    fn ask(&mut self, table: &ServiceTable, rules: &Rules, probe: &Probe) -> Result<(), TestCaseError> {
        self.now += Duration::from_secs(probe.later);
        let outcomes = rules
            .trace(&self.host, &self.state, self.now, &probe.origin, probe.packet.clone())
            .expect("every rule is known");
        let choices = oracle::decide(table, &self.memory, self.now, &probe.origin, &probe.packet);
        let seen = group(&outcomes, fate);
        let share = 1.0 / choices.len() as f64;
        let mut wanted = BTreeMap::<&Fate, f64>::new();
        for (fate, _) in &choices {
            *wanted.entry(fate).or_default() += share;
        }
        let equal = seen.len() == wanted.len()
            && seen.iter().all(|(fate, probability)| {
                wanted
                    .get(fate)
                    .is_some_and(|wanted| (probability.as_f64() - wanted).abs() < ROUNDING)
            });
        let total = seen.values().fold(Probability::new(0, 1), |sum, part| sum.or(part));
        prop_assert_eq!(total, Probability::one(), "some outcome happens");
        prop_assert!(
            equal,
            "{probe:?}\nrules: {seen:?}\ntable: {wanted:?}\n{}\n{}",
            describe(&outcomes),
            self.paper.save()
        );
        let happens = usize::try_from(probe.luck % outcomes.len() as u64).expect("an index");
        let happened = fate(&outcomes[happens]);
        self.state = outcomes[happens].state.clone();
        let chosen = choices.into_iter().find(|(fate, _)| *fate == happened);
        if let Some((_, Some(seen))) = chosen {
            self.memory.note(seen, self.now);
        }
        Ok(())
    }
}

/// An outcome in the oracle's words.
fn fate(outcome: &Outcome) -> Fate {
    let link = match &outcome.verdict {
        Verdict::Dropped => return Fate::Dropped,
        Verdict::Rejected { .. } => return Fate::Refused,
        Verdict::Unroutable => panic!("node n1 has a default route: {outcome:?}"),
        Verdict::Delivered => None,
        Verdict::Forwarded { link, .. } => {
            let known = ["eth0", "dead0", "veth-a", "veth-b"];
            Some(*known.iter().find(|known| *known == link).expect("a link of n1"))
        }
    };
    Fate::Arrives {
        link,
        to: std::net::SocketAddrV4::new(outcome.packet.destination, outcome.packet.destination_port),
        from: outcome.packet.source,
    }
}

fn describe(outcomes: &[Outcome]) -> String {
    let line = |outcome: &Outcome| {
        let steps = outcome.path.steps();
        let matched = steps.iter().filter(|step| step.miss.is_none());
        let rules = matched
            .map(|step| format!("    {} {}\n", step.place.chain, step.rule))
            .collect::<String>();
        format!(
            "{} {} {}\n{rules}",
            outcome.probability, outcome.verdict, outcome.packet
        )
    };
    outcomes.iter().map(line).collect()
}

/// A sequence of steps, from no rules on. An agent that starts at its end writes the same bytes.
fn holds(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut node = Node::new();
    steps.iter().try_for_each(|step| node.step(step))?;
    let view = node.collector.view().expect("synced");
    let fresh = Compiler::default().compile(&ServiceTable::full(view, facts()));
    let reached = Ruleset::parse(&node.paper.save()).expect("what is written parses");
    prop_assert_eq!(reached.to_string(), fresh.to_string());
    Ok(())
}

/// How many states, spread over the machine's processors. Failures are kept in `proptest-regressions/` and
/// tried first.
#[test]
fn rules_do_what_the_table_says() {
    let states = match std::env::var("MINIK_RULE_CASES") {
        Ok(number) => number.parse().expect("MINIK_RULE_CASES is a number"),
        Err(_) => CASES,
    };
    let workers = std::thread::available_parallelism().map_or(1, |number| number.get() as u32);
    let began = Instant::now();
    let (states, packets) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|_| scope.spawn(move || sequences(states.div_ceil(workers))))
            .collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| match worker.join() {
            Ok(Ok(counts)) => counts,
            Ok(Err(failure)) => panic!("{failure}"),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let counts = workers.into_iter().map(join);
        counts.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1))
    });
    eprintln!(
        "{states} states of clusters, {packets} packets, {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

/// Sequences with about so many states together; counts states and packets.
fn sequences(states: u32) -> Result<(usize, usize), String> {
    let config = Config {
        cases: states.div_ceil((MOST_STEPS / 2) as u32 + 1),
        failure_persistence: Some(Box::new(FileFailurePersistence::SourceParallel("proptest-regressions"))),
        source_file: Some(file!()),
        ..Config::default()
    };
    let counts = Cell::new((0, 0));
    let result = TestRunner::new(config).run(&clusters::steps(MOST_STEPS), |steps| {
        let packets = steps.iter().map(|(_, probes)| probes.len()).sum::<usize>();
        counts.set((counts.get().0 + steps.len(), counts.get().1 + packets));
        holds(&steps)
    });
    result.map(|()| counts.get()).map_err(|failure| failure.to_string())
}
