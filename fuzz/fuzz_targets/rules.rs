//! What `iptables-save` prints, as the proxy and as the tracer read it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use minik_node::proxy::iptables::ruleset::Ruleset;
use minik_node::trace::iptables::Rules;

fuzz_target!(|text: &str| {
    // Either may refuse any text; neither may fall over it.
    let _read = (Ruleset::parse(text).is_ok(), Rules::parse(text).is_ok());
});
