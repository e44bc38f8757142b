//! Worlds of replicas in virtual time: each is the real gossip core and the real commit logic over a model of a disk,
//! and one seed decides everything else. So hours pass in a moment, and what went wrong once goes wrong again.
//!
//! | file | what |
//! | --- | --- |
//! | `options` | what a seed chooses beforehand |
//! | `world`, `process`, `commits`, `network` | a calendar; a replica and what drives it; its batches; links between them |
//! | `talks`, `copies` | conversations about what two hold; whole copies |
//! | `settling` | losers that go once nothing concurrent is on its way |
//! | `members` | who belongs to the cluster, as each has it |
//! | `people`, `deeds` | who does what, at whichever site is reached; the domain's own operations |
//! | `trouble/` | those who make trouble |
//! | `check/` | those who check, ignorant of the trouble |
//! | `seed` | a run: a storm, then peace, then agreement within a bound |
//! | `telling` | the words in which a test tells a story |
//! | `shrink` | the smallest world that still fails |
//! | `plant` | bugs planted on purpose, to see that the checkers can fail |
//! | `campaign` | many seeds on every processor, and the command `persona sim` |
//!
//! Absent on purpose: RocksDB, whose threads are not deterministic (one conformance suite holds the model of a disk
//! against it), and QUIC, which runs under a simulator of its own in the gossip crate's tests.
//!
//! Compiled only with the feature `lab`.

#![allow(
    clippy::needless_pass_by_value,
    reason = "what the machines put out is used up here"
)]

mod campaign;
mod check;
mod commits;
mod copies;
mod deeds;
mod members;
mod network;
mod options;
mod people;
mod plant;
mod process;
mod rng;
mod seed;
mod settling;
mod shrink;
mod story;
mod talks;
mod tally;
mod telling;
mod trouble;
mod world;

pub use self::{
    campaign::{SimArgs, command},
    check::{Checker, Violation},
    options::Options,
    plant::Plant,
    seed::{Verdict, run},
    shrink::shrink,
    tally::Tally,
    telling::{At, Seed},
    trouble::Kind,
    world::World,
};
