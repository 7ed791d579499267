//! Label selectors: `app=web,tier in (a, b),!canary`.

use std::collections::{BTreeMap, BTreeSet};

use super::SelectorError;
use super::lexer::{Token, tokens};
use crate::resource::validation::names;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compares(value, |a, b| a > b),
            Operator::LessThan => self.compares(value, |a, b| a < b),
        }
    }

    fn compares(&self, value: Option<&String>, holds: impl Fn(i64, i64) -> bool) -> bool {
        let number = |text: &String| text.parse::<i64>().ok();
        match (value.and_then(number), self.values.first().and_then(number)) {
            (Some(a), Some(b)) => holds(a, b),
            _ => false,
        }
    }
}

/// A conjunction of requirements; the empty one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

impl LabelSelector {
    /// Parses the `labelSelector` query parameter.
    ///
    /// # Errors
    /// A text outside the grammar, or a key or value that no label can have.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser {
            tokens: tokens(text),
            at: 0,
        };
        parser.selector().map(Self)
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::Identifier(_) | Token::Exists | Token::In | Token::NotIn => {
                    requirements.push(self.requirement()?);
                    match self.next() {
                        Token::End => return Ok(requirements),
                        Token::Comma => {
                            if !matches!(
                                self.peek(),
                                Token::Identifier(_) | Token::Exists | Token::In | Token::NotIn
                            ) {
                                let found = self.peek().literal();
                                return Err(SelectorError(format!(
                                    "found '{found}', expected: identifier after ','"
                                )));
                            }
                        }
                        other => {
                            return Err(SelectorError(format!(
                                "found '{}', expected: ',' or 'end of string'",
                                other.literal()
                            )));
                        }
                    }
                }
                Token::End => return Ok(requirements),
                other => {
                    return Err(SelectorError(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        other.literal()
                    )));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let unable = |error: SelectorError| SelectorError(format!("unable to parse requirement: {}", error.0));
        let negated = *self.peek() == Token::Exists;
        if negated {
            self.next();
        }
        let key = self.key().map_err(unable)?;
        if matches!(self.peek(), Token::End | Token::Comma) || negated {
            let operator = if negated {
                Operator::DoesNotExist
            } else {
                Operator::Exists
            };
            return Ok(Requirement {
                key,
                operator,
                values: BTreeSet::new(),
            });
        }
        let (operator, is_set) = self.operator().map_err(unable)?;
        let values = if is_set {
            self.set().map_err(unable)?
        } else {
            BTreeSet::from([self.exact_value().map_err(unable)?])
        };
        for value in &values {
            check_value(&key, operator, value)?;
        }
        Ok(Requirement { key, operator, values })
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        let key = match self.next() {
            Token::Identifier(key) => key,
            Token::In => "in".to_owned(),
            Token::NotIn => "notin".to_owned(),
            other => {
                return Err(SelectorError(format!(
                    "found '{}', expected: identifier",
                    other.literal()
                )));
            }
        };
        match names::qualified_name(&key).first() {
            None => Ok(key),
            Some(problem) => Err(SelectorError(format!("<nil>: Invalid value: {key:?}: {problem}"))),
        }
    }

    fn operator(&mut self) -> Result<(Operator, bool), SelectorError> {
        match self.next() {
            Token::Equals | Token::DoubleEquals => Ok((Operator::In, false)),
            Token::NotEquals => Ok((Operator::NotIn, false)),
            Token::In => Ok((Operator::In, true)),
            Token::NotIn => Ok((Operator::NotIn, true)),
            Token::GreaterThan => Ok((Operator::GreaterThan, false)),
            Token::LessThan => Ok((Operator::LessThan, false)),
            other => Err(SelectorError(format!(
                "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                other.literal()
            ))),
        }
    }

    fn set(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let expected =
            |found: &Token, what: &str| SelectorError(format!("found '{}', expected: {what}", found.literal()));
        match self.next() {
            Token::Open => {}
            other => return Err(expected(&other, "'('")),
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value());
            match self.next() {
                Token::Comma => {}
                Token::Close => return Ok(values),
                other => return Err(expected(&other, "',' or ')'")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            Token::End | Token::Comma | Token::Identifier(_) | Token::In | Token::NotIn => Ok(self.value()),
            other => Err(SelectorError(format!(
                "found '{}', expected: identifier",
                other.literal()
            ))),
        }
    }

    /// A value, which may be empty.
    fn value(&mut self) -> String {
        match self.peek() {
            Token::Identifier(_) | Token::In | Token::NotIn => self.next().literal().to_owned(),
            _ => String::new(),
        }
    }
}

fn check_value(key: &str, operator: Operator, value: &str) -> Result<(), SelectorError> {
    if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
        return Err(SelectorError(format!(
            "values[0][{key}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
        )));
    }
    match names::label_value(value).first() {
        None => Ok(()),
        Some(problem) => Err(SelectorError(format!(
            "values[0][{key}]: Invalid value: {value:?}: {problem}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> BTreeMap<String, String> {
        [("app", "web"), ("tier", "b"), ("n", "5")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    }

    #[test]
    fn matches_labels() {
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app!=web", false),
            ("app", true),
            ("!app", false),
            ("!canary", true),
            ("tier in (a, b)", true),
            ("tier notin (a,b)", false),
            ("missing notin (a)", true),
            ("n>4,n<6", true),
            ("n>5", false),
            ("app=web,tier=a", false),
            ("in in (in)", false),
            ("missing=", false),
        ];
        for (text, matches) in cases {
            assert_eq!(
                LabelSelector::parse(text).unwrap().matches(&labels()),
                matches,
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_with_the_words_of_the_api_server() {
        let cases = [
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b', expected: '('"),
            ("a,", "found '', expected: identifier after ','"),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("!=b", "found '!=', expected: !, identifier, or 'end of string'"),
            ("a==!b", "unable to parse requirement: found '!', expected: identifier"),
            ("a===b", "unable to parse requirement: found '=', expected: identifier"),
        ];
        for (text, words) in cases {
            assert_eq!(LabelSelector::parse(text).unwrap_err().to_string(), words, "{text}");
        }
    }
}
