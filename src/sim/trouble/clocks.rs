//! Clocks that are off, or jump.

use super::{Kind, Remedy};
use crate::sim::world::World;

impl World {
    pub(super) fn turn_clock(&mut self, kind: Kind) {
        let at = self.troubles.rng.below(self.processes.len());
        let rng = &mut self.troubles.rng;
        let far = match (kind, rng.below(4)) {
            (Kind::ClockSkew, 0) => rng.between(1, 4000),
            (Kind::ClockSkew, 1) => rng.between(4000, 59_000),
            (_, 2) => rng.between(60_000, 3_600_000),
            _ => rng.between(3_600_000, 400_000_000),
        } as i64;
        let off = if rng.chance(60) { far } else { -far };
        self.tally.fault(kind);
        let process = &mut self.processes[at];
        match kind {
            Kind::ClockSkew => process.clock_ms = off,
            _ => process.clock_ms += off,
        }
        self.tell(|| format!("the clock of process {at} is off by {off} ms"));
        self.remedy_later(2000, 15_000, Remedy::Clock(at));
    }
}
