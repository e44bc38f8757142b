//! When people come: at random, whatever became of those before them.
//!
//! An *open loop*: arrivals are a Poisson process whose rate no answer changes. A closed loop, in which so many clients ask
//! again once they were answered, asks less of a server the slower it is, and leaves out of its measurements exactly the
//! moments that users suffer from (Gil Tene calls that *coordinated omission*). So an arrival has a time at which it is due,
//! and all latencies count from then, also when the generator itself was late.
//!
//! The rate rises evenly during the ramp, and is the full one from then on. Pure: one seed, one schedule.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::activity::{Activity, Mix, activities};

/// How many come, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// Active users. A part of one is no mistake: a rate may be any.
    pub(crate) users: f64,
    /// What for.
    pub(crate) mix: Mix,
    /// The time during which ever more come. What is due in it is not measured.
    pub(crate) ramp: Duration,
    /// The time after it.
    pub(crate) measured: Duration,
}

/// One arrival.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Arrival {
    /// When, counted from the begin of the ramp.
    pub(crate) due: Duration,
    /// What for.
    pub(crate) activity: Activity,
    /// For whatever else is drawn for it.
    pub(crate) seed: u64,
}

/// All arrivals, in the order in which they are due.
pub(crate) struct Schedule {
    demand: Demand,
    /// Arrivals a second after the ramp.
    rate: f64,
    /// Arrivals that are to be expected until the latest one.
    expected: f64,
    random: StdRng,
}

impl Schedule {
    pub(crate) fn new(demand: Demand, seed: u64) -> Schedule {
        Schedule {
            demand,
            rate: activities(demand.users),
            expected: 0.0,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// When so many arrivals are to be expected: the inverse of the integral of the rate over time (a Poisson process of
    /// any rate is one of rate 1 in which time runs differently).
    fn when(&self, expected: f64) -> Duration {
        let ramp = self.demand.ramp.as_secs_f64();
        let in_ramp = self.rate * ramp / 2.0;
        let seconds = if expected < in_ramp {
            (2.0 * expected * ramp / self.rate).sqrt()
        } else {
            ramp + (expected - in_ramp) / self.rate
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    fn draw(&mut self) -> Activity {
        let mut ball = self.random.random::<f64>();
        for activity in Activity::ALL {
            ball -= activity.share(self.demand.mix);
            if ball < 0.0 {
                return activity;
            }
        }
        // The sum of what was taken away may differ from one by the last bits.
        Activity::IncludeOnly
    }
}

impl Iterator for Schedule {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        // Between arrivals of rate 1 lies an exponentially distributed time; 1 - u is never 0.
        self.expected -= (1.0 - self.random.random::<f64>()).ln();
        let due = self.when(self.expected);
        if due >= self.demand.ramp.saturating_add(self.demand.measured) {
            return None;
        }
        Some(Arrival {
            due,
            activity: self.draw(),
            seed: self.random.random(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: Demand = Demand {
        users: 1_000_000.0,
        mix: Mix::Model,
        ramp: Duration::from_secs(10),
        measured: Duration::from_secs(60),
    };

    #[test]
    fn a_seed_is_a_schedule() {
        let of = |seed| Schedule::new(DEMAND, seed).collect::<Vec<_>>();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        assert!(of(7).is_sorted_by_key(|arrival| arrival.due));
    }

    /// The number of Poisson arrivals strays from what is expected by its root; five times that happens once in millions.
    #[track_caller]
    fn check(what: &str, count: usize, expected: f64) {
        assert!(
            (count as f64 - expected).abs() < 5.0 * expected.sqrt(),
            "{what}: {count} for {expected}"
        );
    }

    #[test]
    fn as_many_come_as_are_expected_of_each_kind_and_half_as_many_in_the_ramp() {
        let arrivals: Vec<_> = Schedule::new(DEMAND, 1).collect();
        let (ramp, measured): (Vec<Arrival>, Vec<Arrival>) = arrivals
            .into_iter()
            .partition(|arrival| arrival.due < DEMAND.ramp);
        for activity in Activity::ALL {
            let count = measured
                .iter()
                .filter(|arrival| arrival.activity == activity)
                .count();
            check(
                activity.name(),
                count,
                activity.rate(DEMAND.mix, DEMAND.users) * 60.0,
            );
        }
        let rate = 1_000_000.0 * 40.0 / 86_400.0;
        check("ramp", ramp.len(), rate * 10.0 / 2.0);
        // A quarter of the ramp's arrivals in its first half.
        let early = ramp
            .iter()
            .filter(|arrival| arrival.due < DEMAND.ramp / 2)
            .count();
        check("first half of the ramp", early, rate * 10.0 / 8.0);
    }

    #[test]
    fn times_between_arrivals_are_exponential() {
        let demand = Demand {
            ramp: Duration::ZERO,
            ..DEMAND
        };
        let arrivals: Vec<_> = Schedule::new(demand, 3).collect();
        let mean = 86_400.0 / 40.0 / 1_000_000.0;
        let gaps = arrivals
            .windows(2)
            .map(|pair| (pair[1].due - pair[0].due).as_secs_f64());
        // Of such times, the part that is longer than the mean is 1/e, and longer than twice the mean 1/e².
        let longer = |times: f64| gaps.clone().filter(|gap| *gap > times * mean).count();
        let all = arrivals.len() as f64;
        check("longer than the mean", longer(1.0), all * (-1.0_f64).exp());
        check("longer than twice the mean", longer(2.0), all * (-2.0_f64).exp());
    }

    #[test]
    fn nobody_comes_for_nobody() {
        let demand = Demand { users: 0.0, ..DEMAND };
        assert_eq!(Schedule::new(demand, 1).next(), None);
    }
}
