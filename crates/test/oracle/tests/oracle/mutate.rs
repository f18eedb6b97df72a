//! Changes of bytes, the same on every machine.

/// A generator with a seed (xorshift64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    /// One to three changes of single bytes, or of the length.
    pub(crate) fn mutated(&mut self, original: &[u8]) -> Vec<u8> {
        let mut bytes = original.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.next().to_le_bytes()[0]),
                2 => bytes.push(self.next().to_le_bytes()[0]),
                3 => drop(bytes.drain(at..(at + 1).min(bytes.len()))),
                _ => {
                    let bit = self.below(8);
                    bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
                }
            }
        }
        bytes
    }
}
