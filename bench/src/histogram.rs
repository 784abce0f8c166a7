//! Counts of durations by size, exact to about 1.5 %, in memory that processes share.
//!
//! Values below [`FINE`] have a bucket each. Above, each power of two has [`FINE`] buckets of equal width.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets for each power of two.
const FINE: u64 = 64;
const FINE_BITS: u32 = FINE.trailing_zeros();

/// Durations of up to 2^42 ns, more than an hour.
const TOP_BIT: u32 = 42;

/// Number of counters of a histogram.
pub(crate) const BUCKETS: usize = ((TOP_BIT - FINE_BITS + 2) as usize) << FINE_BITS;

fn bucket(value: u64) -> usize {
    let value = value.min((1 << (TOP_BIT + 1)) - 1);
    if value < FINE {
        return value as usize;
    }
    let shift = value.ilog2() - FINE_BITS;
    ((u64::from(shift + 1) << FINE_BITS) + ((value >> shift) - FINE)) as usize
}

/// The middle of a bucket.
fn value(bucket: usize) -> u64 {
    let (row, column) = (bucket as u64 >> FINE_BITS, bucket as u64 & (FINE - 1));
    if row == 0 {
        return column;
    }
    let width = 1_u64 << (row - 1);
    (FINE + column) * width + width / 2
}

/// Counts a value. Only one process may write to these counters at a time.
pub(crate) fn record(counters: &[AtomicU64], duration: u64) {
    let counter = &counters[bucket(duration)];
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

/// The percentiles asked for, in per mille and ascending, of several histograms together. Empty if they are empty.
pub(crate) fn percentiles(histograms: &[&[AtomicU64]], per_mille: &[u64]) -> Vec<u64> {
    let count = |bucket: usize| -> u64 {
        histograms.iter().map(|counters| counters[bucket].load(Relaxed)).sum()
    };
    let total: u64 = (0..BUCKETS).map(count).sum();
    let (mut wanted, mut seen, mut found) = (per_mille.iter(), 0, Vec::new());
    let Some(mut next) = wanted.next() else { return found };
    if total == 0 {
        return found;
    }
    for bucket in 0..BUCKETS {
        seen += count(bucket);
        // The smallest value that at least that part of all values does not exceed.
        while seen * 1000 >= total * next && seen > 0 {
            found.push(value(bucket));
            match wanted.next() {
                Some(more) => next = more,
                None => return found,
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Vec<AtomicU64> {
        (0..BUCKETS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_bucket_is_narrow_and_in_order() {
        let mut last = 0;
        for exponent in 0..44 {
            for offset in [0, 1, 3, 17] {
                let number = (1_u64 << exponent) + ((offset << exponent) >> 5);
                let place = bucket(number);
                assert!(place >= last && place < BUCKETS, "{number}");
                last = place;
                if exponent <= TOP_BIT {
                    let error = value(place).abs_diff(number) as f64 / number as f64;
                    assert!(error < 0.016, "{number} is counted as {}", value(place));
                }
            }
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn percentiles_of_two_histograms() {
        let (one, two) = (empty(), empty());
        for number in 1..=1000 {
            record(if number % 2 == 0 { &one } else { &two }, number * 1000);
        }
        let found = percentiles(&[&one, &two], &[500, 990, 999]);
        for (found, exact) in found.iter().zip([500_000_f64, 990_000.0, 999_000.0]) {
            assert!((*found as f64 / exact - 1.0).abs() < 0.02, "{found} {exact}");
        }
        assert!(percentiles(&[&empty()], &[500]).is_empty());
        assert!(percentiles(&[&one], &[]).is_empty());
    }
}
