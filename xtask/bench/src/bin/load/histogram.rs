//! A histogram of durations that needs the same memory for any number of values.
//!
//! The values are nanoseconds here, but can be any u64. A quantile is at most 1/64 above the exact one.

/// The number of buckets for each power of two.
const BUCKETS_PER_POWER: u64 = 64;
const BUCKETS_PER_POWER_LOG2: u32 = BUCKETS_PER_POWER.ilog2();

pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { buckets: vec![0; bucket_of(u64::MAX) + 1], count: 0 }
    }

    pub fn record(&mut self, value: u64) {
        self.buckets[bucket_of(value)] += 1;
        self.count += 1;
    }

    pub fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the value that this share of all values does not exceed; zero if there are no values.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|&count| {
            seen += count;
            seen >= wanted
        });
        bucket.map_or(0, largest_in)
    }

    pub fn quantile_us(&self, share: f64) -> f64 {
        self.quantile(share) as f64 / 1e3
    }
}

/// Each small value has its own bucket. The bucket of a larger value is its power of two and the next bits after it.
fn bucket_of(value: u64) -> usize {
    if value < BUCKETS_PER_POWER {
        return value as usize;
    }
    let shift = value.ilog2() - BUCKETS_PER_POWER_LOG2;
    let offset = (value >> shift) - BUCKETS_PER_POWER;
    (u64::from(shift + 1) * BUCKETS_PER_POWER + offset) as usize
}

fn largest_in(bucket: usize) -> u64 {
    let (power, offset) = (bucket as u64 / BUCKETS_PER_POWER, bucket as u64 % BUCKETS_PER_POWER);
    if power == 0 {
        return offset;
    }
    let shift = power - 1;
    let smallest = (BUCKETS_PER_POWER + offset) << shift;
    smallest + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_whose_top_is_at_most_a_64th_above_it() {
        let around_powers = (0..64).flat_map(|power| {
            let value = 1_u64 << power;
            [value - 1, value, value + value / 3, value + (value - 1)]
        });
        for value in around_powers.chain([u64::MAX]) {
            let top = largest_in(bucket_of(value));
            assert!(top >= value && top - value <= value / BUCKETS_PER_POWER, "{value} is reported as {top}");
        }
    }

    #[test]
    fn buckets_follow_one_another_without_a_gap() {
        for bucket in 0..bucket_of(u64::MAX) {
            assert_eq!(bucket_of(largest_in(bucket)), bucket);
            assert_eq!(bucket_of(largest_in(bucket) + 1), bucket + 1);
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|value| histogram.record(value * 1000));
        for (share, exact) in [(0.0, 1_000), (0.5, 500_000), (0.99, 990_000), (0.999, 999_000), (1.0, 1_000_000)] {
            let quantile = histogram.quantile(share);
            assert!((exact..=exact + exact / BUCKETS_PER_POWER).contains(&quantile), "{share}: {quantile} for {exact}");
        }
    }

    #[test]
    fn an_empty_histogram_has_zero_for_every_quantile() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.99), 0);
        histogram.record(7);
        histogram.clear();
        assert_eq!((histogram.quantile(0.99), histogram.count()), (0, 0));
    }
}
