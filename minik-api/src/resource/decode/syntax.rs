//! The first syntax error of a JSON text in the words of Go's `encoding/json` scanner. Only asked
//! once a body is known to be broken, so that the parser itself can be serde_json.

/// What is open around the current position.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Object,
    List,
}

/// Go's words for the first error in `text`; `None` when Go would accept it.
pub(super) fn first_error(text: &[u8]) -> Option<String> {
    Scanner {
        text,
        at: 0,
        open: Vec::new(),
    }
    .document()
    .err()
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    open: Vec<Open>,
}

impl Scanner<'_> {
    fn document(mut self) -> Result<(), String> {
        self.value_start()?;
        while let Some(open) = self.open.last().copied() {
            self.after_value(open)?;
        }
        self.space();
        match self.peek() {
            None => Ok(()),
            Some(c) => Err(invalid(c, "after top-level value")),
        }
    }

    /// One scalar, or the head of a list or an object up to its first value.
    fn value_start(&mut self) -> Result<(), String> {
        loop {
            self.space();
            match self.next()? {
                b'{' => {
                    self.space();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                        return Ok(());
                    }
                    self.open.push(Open::Object);
                    self.key()?;
                }
                b'[' => {
                    self.space();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                        return Ok(());
                    }
                    self.open.push(Open::List);
                }
                b'"' => return self.string(),
                b't' => return self.literal("true"),
                b'f' => return self.literal("false"),
                b'n' => return self.literal("null"),
                c @ (b'-' | b'0'..=b'9') => return self.number(c),
                c => return Err(invalid(c, "looking for beginning of value")),
            }
        }
    }

    /// What may follow a value inside `open`.
    fn after_value(&mut self, open: Open) -> Result<(), String> {
        self.space();
        match (self.next()?, open) {
            (b',', Open::Object) => {
                self.key()?;
                self.value_start()
            }
            (b',', Open::List) => self.value_start(),
            (b'}', Open::Object) | (b']', Open::List) => {
                self.open.pop();
                Ok(())
            }
            (c, Open::Object) => Err(invalid(c, "after object key:value pair")),
            (c, Open::List) => Err(invalid(c, "after array element")),
        }
    }

    fn key(&mut self) -> Result<(), String> {
        self.space();
        match self.next()? {
            b'"' => self.string()?,
            c => return Err(invalid(c, "looking for beginning of object key string")),
        }
        self.space();
        match self.next()? {
            b':' => Ok(()),
            c => Err(invalid(c, "after object key")),
        }
    }

    fn string(&mut self) -> Result<(), String> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                c if c < b' ' => return Err(invalid(c, "in string literal")),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        match self.next()? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => Ok(()),
            b'u' => (0..4).try_for_each(|_| match self.next()? {
                c if c.is_ascii_hexdigit() => Ok(()),
                c => Err(invalid(c, "in \\u hexadecimal character escape")),
            }),
            c => Err(invalid(c, "in string escape code")),
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), String> {
        word.bytes().skip(1).try_for_each(|expected| match self.next()? {
            c if c == expected => Ok(()),
            c => Err(invalid(
                c,
                &format!("in literal {word} (expecting {})", quoted(expected)),
            )),
        })
    }

    fn number(&mut self, first: u8) -> Result<(), String> {
        let first = if first == b'-' {
            self.digit("in numeric literal")?
        } else {
            first
        };
        if first != b'0' {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }

    fn digit(&mut self, place: &str) -> Result<u8, String> {
        match self.next()? {
            c if c.is_ascii_digit() => Ok(c),
            c => Err(invalid(c, place)),
        }
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, String> {
        let c = self.peek().ok_or_else(|| "unexpected end of JSON input".to_owned())?;
        self.at += 1;
        Ok(c)
    }
}

fn invalid(c: u8, place: &str) -> String {
    format!("invalid character {} {place}", quoted(c))
}

fn quoted(c: u8) -> String {
    match c {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        c if c < b' ' || c == 0x7f => format!("'\\x{c:02x}'"),
        c if (0x80..0xa0).contains(&c) => format!("'\\u00{c:02x}'"),
        c => format!("'{}'", char::from(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::first_error;
    use proptest::prelude::*;

    #[test]
    fn speaks_as_go_does() {
        let cases = [
            (
                "{nope",
                "invalid character 'n' looking for beginning of object key string",
            ),
            ("", "unexpected end of JSON input"),
            ("{\"a\":1", "unexpected end of JSON input"),
            ("nul", "unexpected end of JSON input"),
            ("nope", "invalid character 'o' in literal null (expecting 'u')"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("\"\\q\"", "invalid character 'q' in string escape code"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("[1.x]", "invalid character 'x' after decimal point in numeric literal"),
            ("[-]", "invalid character ']' in numeric literal"),
            (
                "{'a':1}",
                "invalid character '\\'' looking for beginning of object key string",
            ),
        ];
        for (text, words) in cases {
            assert_eq!(first_error(text.as_bytes()).as_deref(), Some(words), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_parser_on_what_is_json(text in r#"[\[\]{}:,"a1-9.e tru\\n]{0,12}"#) {
            let parses = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            prop_assert_eq!(first_error(text.as_bytes()).is_none(), parses);
        }
    }
}
