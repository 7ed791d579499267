//! One option of a rule, as `iptables-save` prints it.

use std::sync::Arc;

/// An option with its values, perhaps inverted.
#[derive(Debug, Clone)]
pub(super) struct Opt<'a> {
    pub not: bool,
    pub name: &'a str,
    pub values: Vec<&'a str>,
}

impl Opt<'_> {
    /// Its only value.
    pub fn value(&self) -> Result<&str, String> {
        match self.values.as_slice() {
            [value] => Ok(value),
            _ => Err(format!("{} wants one value", self.name)),
        }
    }

    /// As it is printed.
    pub fn text(&self) -> Arc<str> {
        let not = if self.not { "! " } else { "" };
        let values: String = self.values.iter().map(|value| format!(" {value}")).collect();
        format!("{not}{}{values}", self.name).into()
    }
}
