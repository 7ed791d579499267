//! Names that the server makes up: of objects with `generateName`, of the volumes it adds to Pods.

/// What generated names end in: no vowels, so no words, and nothing that looks like another.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// The longest part of `generateName` that is kept.
const LONGEST_BASE: usize = 63 - SUFFIX_LENGTH;

/// `base`, cut where it is too long, with a suffix by chance.
pub fn generate(base: &str) -> String {
    let mut cut = base.len().min(LONGEST_BASE);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let letter = |_| char::from(SUFFIX_ALPHABET[rand::random_range(0..SUFFIX_ALPHABET.len())]);
    base[..cut].chars().chain((0..SUFFIX_LENGTH).map(letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_a_label() {
        let name = generate(&"é".repeat(60));
        assert!(name.len() <= 63 && name.starts_with("éé"), "{name}");
        let suffix = generate("web-").strip_prefix("web-").map(str::len);
        assert_eq!(suffix, Some(SUFFIX_LENGTH));
    }
}
