//! Which buckets of the index hold a channel: a tree of bits for each shard.
//!
//! ```text
//!   level 2                     ..0010..                  one word; a bit: something below
//!   level 1        ..0000..     ..0100..     ..0000..
//!   level 0   ..0000..   ..0000..   ..1000..   ..0000..   a bit a bucket
//! ```
//!
//! With it, a walk over all channels costs as much as there are channels, however large the zone is. A
//! channel never changes its bucket, so a walk can stop behind any bucket and go on later.

use crate::store::arena::{Record, W32};
use crate::store::undo::Section;
use crate::store::zone::{SHARDS, Store};

/// Bits of a word.
const WIDTH: usize = 32;
/// At most so many levels: a shard has at most 2^24 buckets.
const LEVELS_MAX: usize = 5;

/// A word of the tree.
#[repr(C)]
pub(crate) struct Bits {
    pub(crate) word: W32,
}

// SAFETY: `repr(C)`, one word; it has no kind, its place is fixed.
unsafe impl Record for Bits {
    const KIND: u32 = 0;
}

/// The shape of one shard's tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    levels: usize,
    /// How many bits each level has. The first level is that of the buckets.
    bits: [usize; LEVELS_MAX],
    /// The first word of each level.
    starts: [usize; LEVELS_MAX],
    /// How many words it has.
    words: usize,
}

impl Shape {
    /// The tree over so many buckets.
    pub(crate) fn of(buckets: usize) -> Self {
        let mut shape =
            Self { levels: 0, bits: [0; LEVELS_MAX], starts: [0; LEVELS_MAX], words: 0 };
        let mut bits = buckets;
        loop {
            shape.bits[shape.levels] = bits;
            shape.starts[shape.levels] = shape.words;
            shape.levels += 1;
            bits = bits.div_ceil(WIDTH);
            shape.words += bits;
            if bits <= 1 {
                return shape;
            }
        }
    }

    /// How many bytes the trees of all shards have, for so many buckets each.
    pub(crate) fn bytes(buckets: usize) -> usize {
        Self::of(buckets).words * SHARDS * size_of::<Bits>()
    }
}

impl Store {
    fn bits(&self, shape: &Shape, shard: usize, level: usize, word: usize) -> &W32 {
        let number = shard * shape.words + shape.starts[level] + word;
        let at = self.header().occupied_at.get() as usize;
        &self.arena.at::<Bits>(at + number * size_of::<Bits>()).word
    }

    /// The first bucket from this number on that holds a channel, in any shard. The caller has the locks.
    /// If a tree is wrong, the answer is wrong, but nothing worse happens.
    pub(crate) fn next_occupied(&self, from: usize) -> Option<usize> {
        let per_shard = self.buckets_per_shard();
        (from / per_shard..SHARDS).find_map(|shard| {
            let first = shard * per_shard;
            self.next_occupied_of(shard, from.saturating_sub(first)).map(|bucket| first + bucket)
        })
    }

    /// The same within one shard. Buckets are counted from its first one.
    pub(crate) fn next_occupied_of(&self, shard: usize, from: usize) -> Option<usize> {
        let shape = Shape::of(self.buckets_per_shard());
        let (mut level, mut at) = (0, from);
        // The loop ends: going up moves to the right, and going down leads to a set bit or to going up.
        while at < shape.bits[level] {
            let word = self.bits(&shape, shard, level, at / WIDTH).get();
            let rest = word & (u32::MAX << (at % WIDTH));
            if rest == 0 {
                at = at / WIDTH + 1;
                level += 1;
                if level == shape.levels {
                    return None;
                }
                continue;
            }
            at = at / WIDTH * WIDTH + rest.trailing_zeros() as usize;
            if level == 0 {
                return (at < shape.bits[0]).then_some(at);
            }
            level -= 1;
            at *= WIDTH;
        }
        None
    }

    /// Do all levels of the tree say that this bucket holds a channel?
    pub(crate) fn is_occupied(&self, bucket: usize) -> bool {
        let per_shard = self.buckets_per_shard();
        let shape = Shape::of(per_shard);
        let mut at = bucket % per_shard;
        (0..shape.levels).all(|level| {
            let word = self.bits(&shape, bucket / per_shard, level, at / WIDTH).get();
            let bit = at % WIDTH;
            at /= WIDTH;
            word & 1 << bit != 0
        })
    }
}

impl Section<'_> {
    /// Notes whether a bucket of this section's shard holds a channel. Changes at most one word of each
    /// level.
    pub(crate) fn mark_occupied(&self, bucket: usize, on: bool) {
        let shape = Shape::of(self.store.buckets_per_shard());
        let shard = self.shard_number();
        let mut at = bucket - shard * self.store.buckets_per_shard();
        for level in 0..shape.levels {
            let word = self.store.bits(&shape, shard, level, at / WIDTH);
            let old = word.get();
            self.flag(word, 1 << (at % WIDTH), on);
            // The levels above do not change.
            if (if on { old } else { word.get() }) != 0 {
                return;
            }
            at /= WIDTH;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::Now;
    use crate::store::memory::Memory;

    #[test]
    fn the_shape_holds_every_bucket() {
        for (buckets, levels, words) in
            [(1, 1, 1), (32, 1, 1), (64, 2, 3), (1024, 2, 33), (1 << 24, 5, 541_201)]
        {
            let shape = Shape::of(buckets);
            assert_eq!((shape.levels, shape.words), (levels, words), "{buckets} buckets");
        }
    }

    #[test]
    fn a_walk_meets_what_is_marked_and_nothing_else() {
        // 4,096 buckets, 512 to a shard: two levels.
        let memory = Memory::format(2 << 20, 2, Now::both(0)).expect("a zone");
        let store = memory.open(1).expect("a seat");
        let per_shard = store.buckets_per_shard();
        let walk = || {
            let next = |from: &usize| store.next_occupied(from + 1);
            std::iter::successors(store.next_occupied(0), next).collect::<Vec<_>>()
        };
        assert_eq!(walk(), [0; 0]);
        let mut marked = BTreeSet::new();
        let mut number = 1;
        for step in 0..600 {
            number = (number * 5 + 77) % (SHARDS * per_shard);
            let bucket = if step % 3 == 0 { number / 64 * 64 } else { number };
            let on = step < 300 && marked.insert(bucket);
            let off = step >= 300 && marked.remove(&bucket);
            if on || off {
                let section = store.section(bucket / per_shard);
                section.mark_occupied(bucket, on);
                section.commit();
                assert_eq!(store.is_occupied(bucket), on);
            }
            if step % 50 == 0 {
                assert!(walk().iter().eq(&marked), "after step {step}");
            }
        }
        for bucket in std::mem::take(&mut marked) {
            let section = store.section(bucket / per_shard);
            section.mark_occupied(bucket, false);
            section.commit();
        }
        assert_eq!(walk(), [0; 0]);
        let shape = Shape::of(per_shard);
        for (shard, level) in (0..SHARDS).flat_map(|s| (0..shape.levels).map(move |l| (s, l))) {
            assert_eq!(store.bits(&shape, shard, level, 0).get(), 0, "no level remembers anything");
        }
    }
}
