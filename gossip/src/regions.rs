//! Ten real regions, and how far apart they are.
//!
//! Round trips are those between AWS regions that cloudping.co published for 22 March 2024 (90th percentile of
//! that day), the mean of both directions, in whole milliseconds. Laboratories and simulations shape their links
//! by them; nothing in production reads this table.

use std::time::Duration;

/// A place with a data center.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Region {
    /// AWS's code.
    pub code: &'static str,
    pub city: &'static str,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// All ten; round trips go by the index.
#[must_use]
pub fn regions() -> &'static [Region; 10] {
    &REGIONS
}

/// The round trip between regions `a` and `b`, by index; within one, 1 ms. Indices wrap around, so that a
/// laboratory with more sites than regions puts several in one.
#[must_use]
pub fn round_trip(a: usize, b: usize) -> Duration {
    let (low, high) = (a.min(b) % REGIONS.len(), a.max(b) % REGIONS.len());
    let (low, high) = (low.min(high), low.max(high));
    let row = high
        .checked_sub(1)
        .and_then(|row| ROUND_TRIPS_MS.get(row))
        .copied()
        .unwrap_or_default();
    Duration::from_millis(if low == high {
        1
    } else {
        row.get(low).copied().unwrap_or(1)
    })
}

const fn region(code: &'static str, city: &'static str, latitude: f64, longitude: f64) -> Region {
    Region {
        code,
        city,
        latitude,
        longitude,
    }
}

static REGIONS: [Region; 10] = [
    region("us-east-1", "Virginia", 38.95, -77.45),
    region("us-west-2", "Oregon", 45.84, -119.70),
    region("sa-east-1", "São Paulo", -23.55, -46.63),
    region("eu-west-1", "Ireland", 53.35, -6.26),
    region("eu-central-1", "Frankfurt", 50.11, 8.68),
    region("af-south-1", "Cape Town", -33.92, 18.42),
    region("ap-south-1", "Mumbai", 19.08, 72.88),
    region("ap-southeast-1", "Singapore", 1.35, 103.82),
    region("ap-northeast-1", "Tokyo", 35.68, 139.69),
    region("ap-southeast-2", "Sydney", -33.87, 151.21),
];

/// Row `r` holds the round trips between region `r + 1` and regions `0..=r`, in milliseconds.
#[rustfmt::skip]
static ROUND_TRIPS_MS: [&[u64]; 9] = [
    &[ 67],                                             // Oregon
    &[119, 176],                                        // São Paulo
    &[ 72, 118, 178],                                   // Ireland
    &[ 95, 155, 207,  29],                              // Frankfurt
    &[227, 288, 341, 165, 156],                         // Cape Town
    &[206, 221, 320, 142, 124, 255],                    // Mumbai
    &[250, 165, 332, 183, 160, 281,  62],               // Singapore
    &[170,  99, 272, 218, 232, 356, 142,  81],          // Tokyo
    &[202, 143, 314, 257, 252, 391, 156,  95, 112],     // Sydney
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_a_round_trip_the_same_both_ways() {
        for a in 0..10 {
            for b in 0..10 {
                assert_eq!(round_trip(a, b), round_trip(b, a));
                let least = if a == b { 1 } else { 20 };
                assert!(round_trip(a, b) >= Duration::from_millis(least), "{a} {b}");
            }
        }
        assert_eq!(round_trip(0, 3), Duration::from_millis(72));
        assert_eq!(round_trip(10, 13), round_trip(0, 3));
    }
}
