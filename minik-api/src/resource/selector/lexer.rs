//! Tokens of the label selector grammar.

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Identifier(String),
    In,
    NotIn,
    Exists,
    Equals,
    DoubleEquals,
    NotEquals,
    GreaterThan,
    LessThan,
    Comma,
    Open,
    Close,
    End,
    Error(String),
}

impl Token {
    /// The literal as an error message quotes it.
    pub(super) fn literal(&self) -> &str {
        match self {
            Self::Identifier(text) | Self::Error(text) => text,
            Self::In => "in",
            Self::NotIn => "notin",
            Self::Exists => "!",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::GreaterThan => ">",
            Self::LessThan => "<",
            Self::Comma => ",",
            Self::Open => "(",
            Self::Close => ")",
            Self::End => "",
        }
    }
}

const SYMBOLS: [char; 7] = ['=', '!', '(', ')', ',', '>', '<'];

/// The tokens of `text`, with [`Token::End`] last.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if SYMBOLS.contains(&first) {
            rest.find(|c| !SYMBOLS.contains(&c)).unwrap_or(rest.len())
        } else {
            rest.find(|c: char| SYMBOLS.contains(&c) || c.is_whitespace())
                .unwrap_or(rest.len())
        };
        let (token, used) = if SYMBOLS.contains(&first) {
            symbol(&rest[..length])
        } else {
            word(&rest[..length])
        };
        out.push(token);
        rest = rest[used..].trim_start();
    }
    out.push(Token::End);
    out
}

fn word(text: &str) -> (Token, usize) {
    let token = match text {
        "in" => Token::In,
        "notin" => Token::NotIn,
        _ => Token::Identifier(text.to_owned()),
    };
    (token, text.len())
}

/// The longest symbol at the head of a run of symbol characters.
fn symbol(run: &str) -> (Token, usize) {
    let known = [
        ("==", Token::DoubleEquals),
        ("!=", Token::NotEquals),
        ("=", Token::Equals),
        ("!", Token::Exists),
        (">", Token::GreaterThan),
        ("<", Token::LessThan),
        (",", Token::Comma),
        ("(", Token::Open),
        (")", Token::Close),
    ];
    known.into_iter().find(|(text, _)| run.starts_with(text)).map_or_else(
        || (Token::Error(run.to_owned()), run.len()),
        |(text, token)| (token, text.len()),
    )
}
