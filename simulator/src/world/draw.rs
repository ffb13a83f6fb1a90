//! Pseudo-random numbers that depend only on their key.

/// A stream of numbers fixed by a seed, a purpose and a key, the same in every release and on every machine
/// (which the generators of crates do not promise).
#[derive(Debug, Clone)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64, purpose: &str, key: &[u64]) -> Self {
        let mut draw = Self(seed);
        for part in purpose.bytes().map(u64::from).chain(key.iter().copied()) {
            draw.0 = draw.number() ^ part;
        }
        // Neighbouring keys differ in few bits; one more step separates them.
        draw.0 = draw.number();
        draw
    }

    /// Any 64 bits (the splitmix64 generator).
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number in 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        // 53 bits are what a double holds.
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True in this share of draws.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// A number below `end`; 0 when `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(end)) >> 64) as u64
    }

    /// A number between two bounds, both included.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below(high.abs_diff(low).saturating_add(1)) as i64
    }

    /// A number between two bounds, rounded to some decimals.
    pub(crate) fn decimal(&mut self, low: f64, high: f64, decimals: i32) -> f64 {
        round(low + self.unit() * (high - low), decimals)
    }

    /// One of some items; `None` only when there are none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }

    /// One of some words; the empty word when there are none.
    pub(crate) fn word(&mut self, words: &[&'static str]) -> &'static str {
        self.pick(words).copied().unwrap_or_default()
    }

    /// As many characters of an alphabet.
    pub(crate) fn code(&mut self, alphabet: &str, length: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..length).filter_map(|_| self.pick(&letters)).collect()
    }

    /// A random UUID.
    pub(crate) fn uuid(&mut self) -> String {
        let (a, b) = (self.number(), self.number());
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        )
    }
}

/// Rounds to some decimals.
pub(crate) fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_fixes_the_numbers() {
        let numbers = |seed, purpose, key: &[u64]| {
            let mut draw = Draw::new(seed, purpose, key);
            [draw.number(), draw.number()]
        };
        assert_eq!(numbers(7, "gps", &[1, 2]), numbers(7, "gps", &[1, 2]));
        assert_ne!(numbers(7, "gps", &[1, 2]), numbers(7, "gps", &[2, 1]));
        assert_ne!(numbers(7, "gps", &[1, 2]), numbers(7, "rpm", &[1, 2]));
    }

    #[test]
    fn numbers_stay_in_their_bounds() {
        let mut draw = Draw::new(1, "bounds", &[]);
        for _ in 0..1_000 {
            assert!((-3..=4).contains(&draw.between(-3, 4)));
            assert!((0.0..1.0).contains(&draw.unit()));
        }
        assert_eq!(draw.below(0), 0);
        assert_eq!(draw.uuid().len(), 36);
        assert!(draw.pick::<u8>(&[]).is_none());
    }
}
