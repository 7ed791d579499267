//! Label and field selectors, and that what is selected by what was read is what its own words select.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use minik_api::resource::selector::{FieldSelector, LabelSelector};

fuzz_target!(|text: &str| {
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned()), ("n".to_owned(), "7".to_owned())]);
    if let Ok(selector) = LabelSelector::parse(text) {
        let _selected: bool = selector.matches(&labels);
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let _selected: bool = selector.matches(|field| labels.get(field).cloned());
    }
});
