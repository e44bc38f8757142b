//! Runs a law over random inputs, and says how to repeat a failure.

use std::hash::{BuildHasher, Hasher};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

/// Holds `law` against `cases` inputs. The seed is a new one each time, unless `PROPTEST_RNG_SEED` names it;
/// `PROPTEST_CASES` asks for more.
#[track_caller]
pub(crate) fn hold<S: Strategy>(
    cases: u32,
    name: &str,
    inputs: &S,
    law: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed =
        env("PROPTEST_RNG_SEED").unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
    let cases = env("PROPTEST_CASES")
        .and_then(|cases| u32::try_from(cases).ok())
        .unwrap_or(cases);
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    };
    if let Err(failure) = TestRunner::new(config).run(inputs, law) {
        panic!(
            "{failure}\nTo repeat it:\n  PROPTEST_CASES={cases} PROPTEST_RNG_SEED={seed} cargo test --release -p crdt {name}\n"
        );
    }
}
