//! Replicas over the model of a disk: what a crash, a failing disk, damaged bytes and a restored backup leave.
#![allow(
    clippy::expect_used,
    reason = "a failure ends the run, and says what was expected"
)]

mod catch_up;
mod cells;
mod damage;
mod doubts;
mod faults;
mod receipts;
mod repair;
mod replica;
mod review;
mod settlement;
mod snapshot;
mod world;
