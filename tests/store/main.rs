//! Replicas over the model of a disk: what a crash, a failing disk, damaged bytes and a restored backup leave.

mod damage;
mod faults;
mod replica;
mod review;
mod world;
