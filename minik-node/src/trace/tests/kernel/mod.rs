//! The tracer against the kernel: random rules are loaded in a namespace, random packets really sent, and the
//! rules' counters and the packets that come out elsewhere must be one of the outcomes that the tracer lists.
//!
//! `MINIK_TRACE_SEED` repeats a failure, `MINIK_TRACE_RULESETS` sets how many rulesets are tried.

mod generate;
mod lab;

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use self::lab::{Lab, Seen};
use super::super::iptables::Rules;
use super::super::{Outcome, State};

/// Rulesets in the suite, for each variant, and packets through each.
const RULESETS: u64 = 12;
const PACKETS: u16 = 12;

/// How often the kernel is looked at before a packet counts as gone.
const LOOKS: u32 = 20;

/// Matches of each rule: table, chain, number.
type Counts = BTreeMap<(String, String, usize), u64>;

fn agrees_with(variant: &'static str) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let seed: u64 = number("MINIK_TRACE_SEED").unwrap_or_else(|| rand::rng().random());
    let rulesets = number("MINIK_TRACE_RULESETS").unwrap_or(RULESETS);
    eprintln!("MINIK_TRACE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let lab = Lab::new(variant);
    let mut id = 20_000;
    for ruleset in 0..rulesets {
        lab.load(&generate::rules(&mut random));
        let text = lab.save();
        let rules = Rules::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        let mut state = State::default();
        let mut before = counts(&text);
        for _ in 0..PACKETS {
            id += 1;
            let sent = generate::packet(&mut random, id);
            let now = Duration::from_secs(1_000_000);
            let outcomes = rules
                .trace(&lab::host(), &state, now, &sent.origin, sent.packet.clone())
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            lab.send(&sent);
            let mut seen = Vec::new();
            let mut matched = Counts::new();
            let happened = (0..LOOKS).find_map(|_| {
                let after = counts(&lab.save());
                matched = difference(&before, &after);
                seen.extend(lab.seen());
                let happened = outcomes
                    .iter()
                    .find(|outcome| counts_of(outcome) == matched && *seen == lab::expected(outcome));
                happened.map(|outcome| (outcome, after))
            });
            let Some((outcome, after)) = happened else {
                let listed: String = outcomes
                    .iter()
                    .map(|outcome| {
                        let traced = counts_of(outcome);
                        let rules = matched.keys().chain(traced.keys());
                        let differ = rules.filter(|rule| matched.get(*rule) != traced.get(*rule));
                        format!("differ: {:?}\n{}", differ.collect::<Vec<_>>(), describe(outcome))
                    })
                    .collect();
                panic!(
                    "MINIK_TRACE_SEED={seed} {variant}, ruleset {ruleset}: {sent:?}\nkernel: {seen:?}\n{matched:#?}\ntracer:\n{listed}\n{text}"
                );
            };
            state = outcome.state.clone();
            before = after;
        }
        lab.clear();
    }
}

/// Counters of all rules but the first ones of raw OUTPUT, which keep the node from answering.
fn counts(save: &str) -> Counts {
    let mut counts = Counts::new();
    let mut table = "";
    let mut last = BTreeMap::<(&str, &str), usize>::new();
    for line in save.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        }
        let Some((counters, rule)) = line.strip_prefix('[').and_then(|line| line.split_once("] -A ")) else {
            continue;
        };
        let chain = rule.split(' ').next().expect("a chain");
        let number = last.entry((table, chain)).or_default();
        *number += 1;
        if (table, chain) == ("raw", "OUTPUT") && *number <= lab::SILENCE.len() {
            continue;
        }
        let packets = counters.split(':').next().expect("packets").parse().expect("a number");
        counts.insert((table.to_owned(), chain.to_owned(), *number), packets);
    }
    counts
}

fn difference(before: &Counts, after: &Counts) -> Counts {
    let grown = after.iter().map(|(rule, count)| (rule.clone(), count - before[rule]));
    grown.filter(|(_, count)| *count > 0).collect()
}

fn counts_of(outcome: &Outcome) -> Counts {
    let mut counts = Counts::new();
    for step in outcome.path.steps() {
        if step.miss.is_none() && step.place.number > 0 {
            let place = &step.place;
            let rule = (place.table.to_string(), place.chain.to_string(), place.number);
            *counts.entry(rule).or_default() += 1;
        }
    }
    counts
}

fn describe(outcome: &Outcome) -> String {
    let steps = outcome.path.steps();
    let lines = steps.iter().map(|step| {
        let place = &step.place;
        let miss = step
            .miss
            .as_ref()
            .map(|miss| format!(" [{}: {}]", miss.expected, miss.actual));
        let miss = miss.unwrap_or_default();
        format!(
            "    {} {} {} {} {}{miss}\n",
            place.hook, place.table, place.chain, place.number, step.rule
        )
    });
    format!(
        "  {} {} {}\n{}",
        outcome.probability,
        outcome.verdict,
        outcome.packet,
        lines.collect::<String>()
    )
}

#[test]
fn the_nft_variant_does_what_the_tracer_says() {
    agrees_with("iptables-nft");
}

#[test]
fn the_legacy_variant_does_what_the_tracer_says() {
    agrees_with("iptables-legacy");
}

/// The comparison itself: a rule that was hit, and a packet that came out elsewhere, are told apart.
#[test]
fn what_differs_is_noticed() {
    let seen = |link: &str| Seen {
        link: Some(link.to_owned()),
        protocol: 17,
        from: ("10.0.0.1".parse().expect("an address"), Some(1)),
        to: ("10.0.0.2".parse().expect("an address"), 2),
    };
    assert_ne!(seen("eth0"), seen("veth-a"));
    let hits = difference(
        &counts("*raw\n[1:5] -A PREROUTING -j A\n[0:0] -A A\n"),
        &counts("*raw\n[3:9] -A PREROUTING -j A\n[0:0] -A A\n"),
    );
    assert_eq!(
        hits,
        Counts::from([(("raw".to_owned(), "PREROUTING".to_owned(), 1), 2)])
    );
}
