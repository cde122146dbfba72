//! Numbers that only a seed decides.

/// `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): one addition
/// and a mix for each number. The same seed gives the same numbers everywhere and for ever, which no
/// library of random numbers promises across its versions. Not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Numbers of their own for each way of each connection.
    pub(crate) fn of(seed: u64, connection: u64, way: u64) -> Self {
        let mut random = Self(seed);
        for part in [connection, way] {
            random.0 = random.next() ^ part;
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // The bias of a remainder is below one in 2^40 for the ends used here.
        self.next() % end.max(1)
    }

    /// A number below 2^`bits`, small ones as likely as large ones: each number of bits has the same
    /// chance.
    pub(crate) fn of_any_size(&mut self, bits: u64) -> u64 {
        let bits = self.below(bits + 1).min(63);
        self.below(1 << bits)
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_numbers_are_those_of_the_paper() {
        // The first three of seed 1234567, as in the reference implementation.
        let mut random = Random(1_234_567);
        let first = [random.next(), random.next(), random.next()];
        let known =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(first, known);
    }

    #[test]
    fn ways_and_connections_have_numbers_of_their_own() {
        let first = |seed, connection, way| Random::of(seed, connection, way).next();
        assert_eq!(first(1, 2, 0), first(1, 2, 0));
        let four = [first(1, 2, 0), first(1, 2, 1), first(1, 3, 0), first(2, 2, 0)];
        for (at, number) in four.iter().enumerate() {
            assert!(!four[..at].contains(number), "{four:?}");
        }
    }

    #[test]
    fn numbers_keep_below_their_end() {
        let mut random = Random::of(7, 1, 0);
        assert!((0..1000).all(|_| random.below(10) < 10));
        assert!((0..1000).all(|_| random.of_any_size(4) < 16));
        assert_eq!(random.below(0), 0);
        assert!((0..200).any(|_| random.of_any_size(16) > 1000));
        assert!((0..200).any(|_| random.of_any_size(16) < 10));
    }
}
