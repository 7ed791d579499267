//! Field selectors: `status.phase=Running,spec.nodeName!=worker1`.

use super::SelectorError;

/// One comparison of a field selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field label, for example `metadata.name`.
    pub field: String,
    /// Whether the values must be equal, or must differ.
    pub equal: bool,
    /// What it is compared with.
    pub value: String,
}

/// A conjunction of comparisons; the empty one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<FieldRequirement>);

impl FieldSelector {
    /// Parses `a=b,c==d,e!=f`; a backslash escapes `\`, `,` and `=` in values.
    ///
    /// # Errors
    /// A term without an operator, or a bad escape.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let terms = split_terms(text);
        let invalid = |term: &str| SelectorError(format!("invalid selector: '{text}'; can't understand '{term}'"));
        terms
            .into_iter()
            .filter(|term| !term.is_empty())
            .map(|term| {
                let (field, equal, raw) = split_term(term).ok_or_else(|| invalid(term))?;
                let value = unescape(raw)?;
                Ok(FieldRequirement {
                    field: field.to_owned(),
                    equal,
                    value,
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether an object whose fields `lookup` gives is selected; a missing field counts as empty.
    pub fn matches(&self, lookup: impl Fn(&str) -> Option<String>) -> bool {
        self.0
            .iter()
            .all(|r| (lookup(&r.field).unwrap_or_default() == r.value) == r.equal)
    }

    /// The comparisons, in the order of the text.
    #[must_use]
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.0
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        if c == ',' && !escaped {
            terms.push(&text[start..at]);
            start = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.find(['=', '!'])?;
    let (field, rest) = term.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, false, value));
    }
    let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
    Some((field, true, value))
}

fn unescape(raw: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => {
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: \\{c}"
                    )));
                }
                None => {
                    return Err(SelectorError(
                        "invalid field selector: invalid escape sequence: \\".to_owned(),
                    ));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {c}"
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(label: &str) -> Option<String> {
        (label == "status.phase").then(|| "Running".to_owned())
    }

    #[test]
    fn compares_fields() {
        let cases = [
            ("", true),
            ("status.phase=Running", true),
            ("status.phase==Running", true),
            ("status.phase!=Running", false),
            ("status.phase=Running,status.phase!=Failed", true),
            ("spec.nodeName=", true),
            ("spec.nodeName!=", false),
        ];
        for (text, matches) in cases {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(phase), matches, "{text}");
        }
        let escaped = FieldSelector::parse(r"a=b\,c\=d").unwrap();
        assert_eq!(escaped.requirements()[0].value, "b,c=d");
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        let error = FieldSelector::parse("foo").unwrap_err().to_string();
        assert_eq!(error, "invalid selector: 'foo'; can't understand 'foo'");
        assert!(FieldSelector::parse(r"a=b\q").is_err());
    }
}
