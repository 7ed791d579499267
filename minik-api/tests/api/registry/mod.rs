//! The registry's promises, for every kind: random objects, valid and not, go through create, get, apply, patches, updates
//! and deletion with kube-rs, and after each step everything is looked at ([`laws`]). A step is a line of [`walk`].
//!
//! `MINIK_REGISTRY_CASES` says how many walks each kind takes; `scripts/soak registry` takes many.

mod laws;
mod walk;

use std::sync::LazyLock;

use minik_api::resource::{KindInfo, Registry};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::objects::Generator;

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::standard);
static GENERATOR: LazyLock<Generator> = LazyLock::new(|| Generator::new(&REGISTRY));

/// Walks a kind takes in a run of the suite.
const CASES: u32 = 4;
/// Bytes that choices are made from; what a walk needs beyond them is chosen as plainly as can be.
const CHOICES: usize = 2048;

fn walks(info: &'static KindInfo) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("starts");
    let take = |choices: &[u8]| runtime.block_on(walk::walk(info, &GENERATOR, choices));
    // With nothing to choose from, an example as it stands is made and deleted; no kind may refuse that.
    let plain = take(&[]).map_err(|problem| format!("{}: {problem}", info.kind))?;
    if !plain.created {
        return Err(format!("{}: its example is refused", info.kind));
    }
    let cases = std::env::var("MINIK_REGISTRY_CASES").map_or(CASES, |cases| cases.parse().expect("is a number"));
    let mut runner = TestRunner::new(Config {
        cases,
        source_file: Some(file!()),
        max_shrink_time: 5_000,
        ..Config::default()
    });
    let choices = proptest::collection::vec(proptest::num::u8::ANY, 0..CHOICES);
    let outcome = runner.run(&choices, |choices| {
        take(&choices).map(drop).map_err(TestCaseError::fail)
    });
    outcome.map_err(|problem| format!("{}: {problem}", info.kind))
}

/// The kinds that are kept, in `parts` parts.
fn walks_of(part: usize, parts: usize) {
    let kinds = REGISTRY.iter().filter(|kind| kind.info.stored).enumerate();
    let own = kinds.filter(|(at, _)| at % parts == part);
    let broken: Vec<String> = own.filter_map(|(_, kind)| walks(&kind.info).err()).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

/// One test for each part, so that processors share the work.
macro_rules! parts {
    ($($name:ident: $part:literal),*) => {$(
        #[test]
        fn $name() {
            walks_of($part, 4);
        }
    )*};
}

parts!(
    every_kind_keeps_its_promises_first_quarter: 0,
    every_kind_keeps_its_promises_second_quarter: 1,
    every_kind_keeps_its_promises_third_quarter: 2,
    every_kind_keeps_its_promises_last_quarter: 3
);
