//! Splits a rule into words as `iptables-save` quotes them: a word that holds more than plain characters
//! stands between double quotes, in which a backslash keeps the next character as it is.

/// `None` when a quote does not end.
pub(super) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().push(characters.next()?),
            ' ' if !quoted => words.extend(word.take()),
            character => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn quotes_hold_words_together() {
        let words = split(r#"-m comment --comment "it\'s \"a b\"" --name "" -j X"#);
        let words = words.expect("the quotes end");
        assert_eq!(
            words,
            ["-m", "comment", "--comment", "it's \"a b\"", "--name", "", "-j", "X"]
        );
        assert_eq!(split("\"open"), None);
    }
}
