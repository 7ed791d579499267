//! The table of served kinds. `http` routes, discovery and OpenAPI are all read from it, so a kind
//! that is listed here is served, and nothing else is.

use super::kind_info::Registered;
use super::kinds;

/// All served kinds, in discovery order.
pub struct Registry {
    kinds: Vec<Registered>,
}

impl Registry {
    /// The kinds of this server.
    #[must_use]
    pub fn standard() -> Self {
        Self { kinds: kinds::all() }
    }

    /// The kind served at `/apis/GROUP/VERSION/…/PLURAL`.
    #[must_use]
    pub fn by_plural(&self, group: &str, version: &str, plural: &str) -> Option<&Registered> {
        self.kinds
            .iter()
            .find(|k| k.info.group == group && k.info.version == version && k.info.plural == plural)
    }

    /// The kind with this group and kind name.
    #[must_use]
    pub fn by_kind(&self, group: &str, kind: &str) -> Option<&Registered> {
        self.kinds.iter().find(|k| k.info.group == group && k.info.kind == kind)
    }

    /// Every kind, in discovery order.
    pub fn iter(&self) -> impl Iterator<Item = &Registered> {
        self.kinds.iter()
    }
}
