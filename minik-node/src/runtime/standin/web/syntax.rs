//! nginx's configuration syntax: words, quotes, comments, blocks. Pure; knows no directive.

use std::path::{Path, PathBuf};

/// A directive with the place it stands at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Its name.
    pub name: String,
    /// Its words, quotes taken off.
    pub args: Vec<String>,
    /// What its braces hold; `None` when it ends with a semicolon.
    pub block: Option<Vec<Directive>>,
    /// Where.
    pub place: Place,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// File.
    pub file: PathBuf,
    /// Counting from 1.
    pub line: usize,
}

/// What nginx would refuse, in its words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} in {}:{}", .place.file.display(), .place.line)]
pub struct ConfError {
    /// For example `unknown directive "foo"`.
    pub message: String,
    /// Where.
    pub place: Place,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
}

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 16;

/// Parses the text of `file`.
pub fn parse(text: &str, file: &Path) -> Result<Vec<Directive>, ConfError> {
    let mut parser = Parser {
        chars: text.chars().peekable(),
        file,
        line: 1,
    };
    let directives = parser.block(0)?;
    Ok(directives)
}

struct Parser<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    file: &'a Path,
    line: usize,
}

impl Parser<'_> {
    fn block(&mut self, depth: usize) -> Result<Vec<Directive>, ConfError> {
        if depth > MAX_DEPTH {
            return Err(self.error("blocks are nested too deeply"));
        }
        let mut directives = Vec::new();
        let mut words: Vec<String> = Vec::new();
        let mut first_line = self.line;
        loop {
            let token = self.token()?;
            if words.is_empty() {
                first_line = self.line;
            }
            let block = match token {
                Some(Token::Word(word)) => {
                    words.push(word);
                    continue;
                }
                Some(Token::Semicolon) => None,
                Some(Token::Open) => Some(self.block(depth + 1)?),
                Some(Token::Close) if depth > 0 && words.is_empty() => return Ok(directives),
                Some(Token::Close) => return Err(self.error("unexpected \"}\"")),
                None if depth == 0 && words.is_empty() => return Ok(directives),
                None if words.is_empty() => return Err(self.error("unexpected end of file, expecting \"}\"")),
                None => return Err(self.error("unexpected end of file, expecting \";\" or \"}\"")),
            };
            if words.is_empty() {
                return Err(self.error(if block.is_some() {
                    "unexpected \"{\""
                } else {
                    "unexpected \";\""
                }));
            }
            let name = words.remove(0);
            let place = Place {
                file: self.file.to_owned(),
                line: first_line,
            };
            directives.push(Directive {
                name,
                args: std::mem::take(&mut words),
                block,
                place,
            });
        }
    }

    fn token(&mut self) -> Result<Option<Token>, ConfError> {
        while let Some(&next) = self.chars.peek() {
            match next {
                '#' => while self.chars.next_if(|char| *char != '\n').is_some() {},
                ';' | '{' | '}' => {
                    self.chars.next();
                    return Ok(Some(match next {
                        ';' => Token::Semicolon,
                        '{' => Token::Open,
                        _ => Token::Close,
                    }));
                }
                '"' | '\'' => {
                    self.chars.next();
                    return self.quoted(next).map(|word| Some(Token::Word(word)));
                }
                _ if next.is_whitespace() => {
                    self.line += usize::from(next == '\n');
                    self.chars.next();
                }
                _ => return Ok(Some(Token::Word(self.bare()))),
            }
        }
        Ok(None)
    }

    fn bare(&mut self) -> String {
        let mut word = String::new();
        while let Some(&next) = self.chars.peek() {
            let variable = next == '{' && word.ends_with('$');
            if !variable && (next.is_whitespace() || matches!(next, ';' | '{')) {
                break;
            }
            word.push(next);
            self.chars.next();
        }
        word
    }

    fn quoted(&mut self, quote: char) -> Result<String, ConfError> {
        let mut word = String::new();
        while let Some(next) = self.chars.next() {
            self.line += usize::from(next == '\n');
            match next {
                '\\' => match self.chars.next() {
                    Some('n') => word.push('\n'),
                    Some('t') => word.push('\t'),
                    Some('r') => word.push('\r'),
                    Some(char @ ('"' | '\'' | '\\')) => word.push(char),
                    Some(char) => word.extend(['\\', char]),
                    None => break,
                },
                _ if next == quote => return Ok(word),
                _ => word.push(next),
            }
        }
        Err(self.error("unexpected end of file, expecting closing quote"))
    }

    fn error(&self, message: &str) -> ConfError {
        ConfError {
            message: message.to_owned(),
            place: Place {
                file: self.file.to_owned(),
                line: self.line,
            },
        }
    }
}
