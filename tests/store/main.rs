//! Replicas over the model of a disk: what a crash, a failing disk, damaged bytes and a restored backup leave.
#![allow(
    clippy::expect_used,
    reason = "a failure ends the run, and says what was expected"
)]

mod damage;
mod faults;
mod replica;
mod review;
mod snapshot;
mod world;
