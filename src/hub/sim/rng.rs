//! Numbers drawn from a seed: splitmix64. The same seed gives the same history everywhere.

/// A generator.
pub(in crate::hub) struct Rng(pub(in crate::hub) u64);

impl Rng {
    pub(in crate::hub) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`.
    pub(in crate::hub) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// True `percent` times of a hundred.
    pub(in crate::hub) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    pub(in crate::hub) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// `len` bytes that begin with `label`, as far as it fits.
    pub(in crate::hub) fn text(&mut self, label: u64, len: usize) -> Vec<u8> {
        let mut text = format!("{label}:").into_bytes();
        text.resize_with(len.max(text.len()), || self.next() as u8);
        text.truncate(len);
        text
    }
}
