//! One number for a state that ranks must agree on: FNV-1a over 64-bit words, the same on every
//! machine. It finds accidents, not attackers.

/// A digest in the making.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) const fn new() -> Self {
        Digest(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn words(&mut self, words: &[u64]) {
        for byte in words.iter().flat_map(|word| word.to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) const fn finish(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn it_is_fnv_1a() {
        let mut digest = Digest::new();
        assert_eq!(digest.finish(), 0xcbf2_9ce4_8422_2325);
        digest.words(&[0x6867_6665_6463_6261]);
        // The bytes "abcdefgh", worked out by the definition in another language.
        assert_eq!(digest.finish(), 0x25da_8c18_36a8_d66d);
    }
}
