//! The numbers that decide a history: drawn from a seed (splitmix64), or taken from a fuzzer's input.
//! The same seed, or the same input, gives the same history everywhere.

use std::collections::VecDeque;

/// A generator.
pub(crate) struct Rng(Source);

enum Source {
    Seed(u64),
    /// The rest of an input. When it is used up, every number is the smallest one.
    Input(VecDeque<u8>),
}

impl Rng {
    #[cfg_attr(fuzzing, expect(dead_code, reason = "a fuzzer gives inputs only"))]
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(Source::Seed(seed))
    }

    pub(crate) fn of_input(input: &[u8]) -> Self {
        Self(Source::Input(input.to_vec().into()))
    }

    /// The input is used up. Never true with a seed.
    pub(crate) fn is_spent(&self) -> bool {
        match &self.0 {
            Source::Seed(_) => false,
            Source::Input(rest) => rest.is_empty(),
        }
    }

    #[cfg_attr(fuzzing, expect(dead_code, reason = "the simulation asks for less"))]
    pub(crate) fn next(&mut self) -> u64 {
        match &mut self.0 {
            Source::Seed(state) => splitmix(state),
            Source::Input(rest) => taken(rest, u64::MAX),
        }
    }

    /// A number of `0..n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = n.max(1) as u64;
        let number = match &mut self.0 {
            Source::Seed(state) => splitmix(state),
            Source::Input(rest) => taken(rest, n - 1),
        };
        (number % n) as usize
    }

    /// True `percent` times out of a hundred.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of the choices.
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// `len` bytes that begin with `label`, as far as it fits. The others decide nothing, so they take
    /// nothing from an input.
    pub(crate) fn text(&mut self, label: u64, len: usize) -> Vec<u8> {
        let mut filler = match &mut self.0 {
            Source::Seed(state) => splitmix(state),
            Source::Input(_) => label,
        };
        let mut text = format!("{label}:").into_bytes();
        text.resize_with(len.max(text.len()), || splitmix(&mut filler) as u8);
        text.truncate(len);
        text
    }
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number from as few bytes as `max` has, so that each byte of an input decides something.
fn taken(rest: &mut VecDeque<u8>, max: u64) -> u64 {
    let len = (u64::BITS - max.leading_zeros()).div_ceil(8) as usize;
    rest.drain(..len.min(rest.len())).fold(0, |number, byte| number << 8 | u64::from(byte))
}
