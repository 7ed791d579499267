//! Sets of fields and their FieldsV1 form: a tree whose marked nodes are the members. A member says
//! nothing about what is below it, and a node below says nothing about the nodes above.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Element, EntryError};

/// A set of fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet(BTreeMap<Element, Node>);

/// One field and what is known below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Whether the field itself is in the set.
    pub member: bool,
    /// Fields below it.
    pub children: FieldSet,
}

impl Node {
    /// A field of the set with nothing below it.
    #[must_use]
    pub fn leaf() -> Self {
        Self {
            member: true,
            children: FieldSet::default(),
        }
    }

    /// Whether neither the field nor anything below it is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    fn combined(&self, other: &Self, keep: fn(bool, bool) -> bool, children: FieldSet) -> Self {
        Self {
            member: keep(self.member, other.member),
            children,
        }
    }
}

impl FieldSet {
    /// The set that holds just the fields at these paths of field names.
    #[must_use]
    pub fn of(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
            set.insert_path(&path);
        }
        set
    }

    /// Adds the field at `path`; the empty path is the whole object, which nobody owns.
    pub fn insert_path(&mut self, path: &[Element]) {
        if let [first, rest @ ..] = path {
            let node = self.0.entry(first.clone()).or_default();
            if rest.is_empty() {
                node.member = true;
            } else {
                node.children.insert_path(rest);
            }
        }
    }

    /// Puts a node in its place, unless there is nothing in it.
    pub fn attach(&mut self, element: impl FnOnce() -> Element, node: Node) {
        if !node.is_empty() {
            self.0.insert(element(), node);
        }
    }

    /// Whether there is no field in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.values().all(Node::is_empty)
    }

    /// The node of `element`.
    #[must_use]
    pub fn get(&self, element: &Element) -> Option<&Node> {
        self.0.get(element)
    }

    /// Every node with its element, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Element, &Node)> {
        self.0.iter()
    }

    /// What is in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.absorb(other);
        all
    }

    fn absorb(&mut self, other: &Self) {
        for (element, node) in &other.0 {
            let mine = self.0.entry(element.clone()).or_default();
            mine.member |= node.member;
            mine.children.absorb(&node.children);
        }
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.with_partners_of(other, |mine, partner| {
            let theirs = partner?;
            Some(mine.combined(theirs, |a, b| a && b, mine.children.intersection(&theirs.children)))
        })
    }

    /// What is in this set and not in `other`. Fields below a field of `other` stay.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.with_partners_of(other, |mine, partner| {
            let Some(theirs) = partner else {
                return Some(mine.clone());
            };
            Some(mine.combined(theirs, |a, b| a && !b, mine.children.difference(&theirs.children)))
        })
    }

    /// What is in this set and neither in `other` nor below a field of it.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.with_partners_of(other, |mine, partner| match partner {
            None => Some(mine.clone()),
            Some(theirs) if theirs.member => None,
            Some(theirs) => Some(mine.combined(theirs, |a, _| a, mine.children.without(&theirs.children))),
        })
    }

    /// Every node after `decide` saw it beside the node that `other` has of the same element.
    fn with_partners_of(&self, other: &Self, decide: impl Fn(&Node, Option<&Node>) -> Option<Node>) -> Self {
        let decided = self.0.iter().filter_map(|(element, node)| {
            let kept = decide(node, other.0.get(element)).filter(|node| !node.is_empty())?;
            Some((element.clone(), kept))
        });
        Self(decided.collect())
    }

    /// Whether the field at `path` is in the set.
    #[must_use]
    pub fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.0.get(last).is_some_and(|node| node.member),
            [first, rest @ ..] => self.0.get(first).is_some_and(|node| node.children.has(rest)),
        }
    }

    /// The paths of all fields, a field's siblings before what is below it.
    #[must_use]
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut paths = Vec::new();
        self.collect_paths(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut Vec<Element>, into: &mut Vec<Vec<Element>>) {
        for (element, _) in self.0.iter().filter(|(_, node)| node.member) {
            into.push(prefix.iter().chain([element]).cloned().collect());
        }
        for (element, node) in &self.0 {
            prefix.push(element.clone());
            node.children.collect_paths(prefix, into);
            prefix.pop();
        }
    }

    /// The FieldsV1 form.
    #[must_use]
    pub fn to_json(&self) -> Value {
        Value::Object(self.fields())
    }

    fn fields(&self) -> Map<String, Value> {
        let fields = self.0.iter().filter(|(_, node)| !node.is_empty());
        fields
            .map(|(element, node)| {
                let mut below = node.children.fields();
                // A field without anything below it is in the set without saying so.
                if node.member && !below.is_empty() {
                    below.insert(".".to_owned(), Value::Object(Map::new()));
                }
                (element.as_str().to_owned(), Value::Object(below))
            })
            .collect()
    }

    /// Reads the FieldsV1 form.
    ///
    /// # Errors
    /// A key is no path element, or a value is no object.
    pub fn from_json(json: &Value) -> Result<Self, EntryError> {
        let fields = json.as_object().ok_or(EntryError::Fields)?;
        let mut set = BTreeMap::new();
        for (text, below) in fields.iter().filter(|(text, _)| *text != ".") {
            let children = Self::from_json(below)?;
            let marked = below.get(".").is_some();
            let node = Node {
                member: marked || children.is_empty(),
                children,
            };
            set.insert(Element::parse(text)?, node);
        }
        Ok(Self(set))
    }
}
