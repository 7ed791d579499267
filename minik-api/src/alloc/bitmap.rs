//! A range of numbers and which of them are taken. Pure.
//!
//! Numbers that nobody asked for come from the upper band of the range first, so that the lower one stays
//! free for those who name theirs (KEP-3070 for cluster IPs, KEP-3668 for node ports).

use rand::Rng;

/// Which offsets of `0..size` are taken.
#[derive(Debug, Clone)]
pub struct Bitmap {
    words: Vec<u64>,
    size: u32,
    static_band: u32,
}

impl Bitmap {
    /// A free range of `size` numbers, the first `static_band` of which are handed out last.
    #[must_use]
    pub fn new(size: u32, static_band: u32) -> Self {
        let words = usize::try_from(size.div_ceil(64)).unwrap_or(usize::MAX);
        Self {
            words: vec![0; words],
            size,
            static_band: static_band.min(size),
        }
    }

    /// Whether `offset` is taken.
    #[must_use]
    pub fn contains(&self, offset: u32) -> bool {
        let (word, bit) = place(offset);
        offset < self.size && self.words[word] & bit != 0
    }

    /// Takes `offset`; false when it is taken already or out of range.
    pub fn take(&mut self, offset: u32) -> bool {
        if offset >= self.size || self.contains(offset) {
            return false;
        }
        let (word, bit) = place(offset);
        self.words[word] |= bit;
        true
    }

    /// Takes a free number: a random place in the upper band and the first free one after it, then the same
    /// in the lower band. Looks at 64 numbers a step.
    pub fn take_any(&mut self, random: &mut impl Rng) -> Option<u32> {
        let offset = [(self.static_band, self.size), (0, self.static_band)]
            .into_iter()
            .filter(|(start, end)| start < end)
            .find_map(|(start, end)| {
                let from = random.random_range(start..end);
                self.first_free(from, end).or_else(|| self.first_free(start, from))
            })?;
        self.take(offset).then_some(offset)
    }

    /// Gives `offset` back; false when it was free.
    pub fn give_back(&mut self, offset: u32) -> bool {
        let held = self.contains(offset);
        if held {
            let (word, bit) = place(offset);
            self.words[word] &= !bit;
        }
        held
    }

    fn first_free(&self, start: u32, end: u32) -> Option<u32> {
        let mut at = start;
        while at < end {
            let (word, _) = place(at);
            let free = !self.words[word] & (u64::MAX << (at % 64));
            if free != 0 {
                let offset = at - at % 64 + free.trailing_zeros();
                return (offset < end).then_some(offset);
            }
            at = at - at % 64 + 64;
        }
        None
    }
}

fn place(offset: u32) -> (usize, u64) {
    ((offset / 64) as usize, 1 << (offset % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Take(u32),
        Any,
        GiveBack(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..220u32).prop_map(Step::Take),
            Just(Step::Any),
            (0..220u32).prop_map(Step::GiveBack)
        ];
        proptest::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(size in 1..200u32, band in 0..100u32, seed: u64, steps in steps()) {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut bitmap = Bitmap::new(size, band);
            let mut model = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Take(n) => prop_assert_eq!(bitmap.take(n), n < size && model.insert(n)),
                    Step::GiveBack(n) => prop_assert_eq!(bitmap.give_back(n), model.remove(&n)),
                    Step::Any => match bitmap.take_any(&mut random) {
                        Some(n) => {
                            let upper_was_full = (band.min(size)..size).all(|o| model.contains(&o));
                            prop_assert!(n >= band || upper_was_full, "{} from the static band too early", n);
                            prop_assert!(n < size && model.insert(n), "{} handed out twice", n);
                        }
                        None => prop_assert_eq!(model.len(), size as usize),
                    },
                }
                prop_assert!((0..size).all(|n| bitmap.contains(n) == model.contains(&n)));
            }
        }
    }
}
