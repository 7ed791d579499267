//! Sets of completion indexes, in memory and in the form of a Job's status: `1,3-5,7`. Pure.

use std::collections::BTreeSet;

/// A set of completion indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes(BTreeSet<i32>);

impl Indexes {
    /// Reads what a status or a success policy says, up to `completions`. What cannot be read is left out.
    pub fn parse(text: &str, completions: i32) -> Self {
        let ranges = text.split(',').filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<i32>().ok()?..=last.parse::<i32>().ok()?.min(completions - 1))
        });
        Self(ranges.flatten().collect())
    }

    /// Whether the index is in the set.
    pub fn has(&self, index: i32) -> bool {
        self.0.contains(&index)
    }

    /// How many there are.
    pub fn total(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }

    /// Adds one.
    pub fn insert(&mut self, index: i32) {
        self.0.insert(index);
    }

    /// Those that are in both sets.
    pub fn common(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<I: IntoIterator<Item = i32>>(indexes: I) -> Self {
        Self(indexes.into_iter().collect())
    }
}

impl std::fmt::Display for Indexes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if_eq(&(last + 1)) {
                last = next;
            }
            // Two neighbours are written one by one, as Kubernetes does.
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                1 => write!(f, "{separator}{first},{last}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Indexes;

    /// The form that the documentation of JobStatus gives: "1,3,4,5,7" is "1,3-5,7".
    #[test]
    fn neighbours_are_written_as_ranges() {
        let indexes: Indexes = [1, 3, 4, 5, 7].into_iter().collect();
        assert_eq!(indexes.to_string(), "1,3-5,7");
        assert_eq!(Indexes::parse("1,3-5,7", 10), indexes);
        assert_eq!(Indexes::parse("1,3-5,7", 5).to_string(), "1,3,4");
        assert_eq!(Indexes::parse("", 5).total(), 0);
    }
}
