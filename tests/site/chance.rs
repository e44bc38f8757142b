//! The seed of a randomised test, and the line that repeats it.

use rand::{SeedableRng, rngs::StdRng};

/// Draws a seed, or takes `PERSONA_SEED`, and prints how to have it again.
pub(crate) fn seed(test: &str) -> u64 {
    let seed = match std::env::var("PERSONA_SEED") {
        Ok(seed) => seed.parse().expect("PERSONA_SEED is a number"),
        Err(_) => rand::random(),
    };
    println!(
        "to repeat: PERSONA_SEED={seed} cargo test --release --workspace --features lab --test site {test}"
    );
    seed
}

/// A generator of its own for each part of a test, so that one part does not move another's numbers.
pub(crate) fn part(seed: u64, part: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
