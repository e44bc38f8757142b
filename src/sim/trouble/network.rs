//! Wires: loss, delays, and cuts.

use super::{Kind, Remedy};
use crate::sim::{network::Weather, world::World};

impl World {
    pub(super) fn bad_weather(&mut self, kind: Kind) {
        let rng = &mut self.troubles.rng;
        let weather: &mut Weather = &mut self.network.weather;
        match kind {
            Kind::Loss => weather.lost_percent = rng.between(5, 70) as u32,
            Kind::Duplication => weather.doubled_percent = rng.between(10, 60) as u32,
            Kind::Delay => weather.jitter_ms = rng.between(50, 600) as u64,
            _ => weather.straggling_percent = rng.between(3, 25) as u32,
        }
        let weather = *weather;
        self.tell(|| format!("the weather: {weather:?}"));
        self.remedy_later(1000, 8000, Remedy::Weather);
    }

    /// Cuts a group off from the rest, which may be one from all or a pair.
    pub(super) fn cut_some(&mut self) {
        let count = self.processes.len();
        let rng = &mut self.troubles.rng;
        let aside: Vec<bool> = match rng.below(3) {
            0 => {
                let one = rng.below(count);
                (0..count).map(|at| at == one).collect()
            }
            _ => (0..count).map(|_| rng.chance(50)).collect(),
        };
        let mut pairs = Vec::new();
        for a in 0..count {
            for b in 0..count {
                if aside[a] != aside[b] {
                    pairs.push((a, b));
                }
            }
        }
        self.cut_pairs(pairs);
    }

    pub(super) fn cut_one_way(&mut self) {
        let count = self.processes.len();
        let rng = &mut self.troubles.rng;
        let deaf = rng.below(count);
        let only = rng.chance(50).then(|| rng.below(count));
        let pairs = (0..count)
            .filter(|other| *other != deaf && only.is_none_or(|only| only == *other))
            .map(|other| (other, deaf))
            .collect();
        self.cut_pairs(pairs);
    }

    fn cut_pairs(&mut self, pairs: Vec<(usize, usize)>) {
        self.tell(|| format!("cut: {pairs:?}"));
        self.network.cuts.extend(pairs.iter().copied());
        self.remedy_later(1000, 12_000, Remedy::Join(pairs));
    }
}
