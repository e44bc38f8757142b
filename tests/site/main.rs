//! Real `persona site` processes: what they refuse and in which words, what `kill -9`, a full disk and junk leave of
//! them, and how they go out of service.
#![cfg(feature = "lab")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failure fails the test")]

mod backup;
mod chance;
mod drain;
mod erased;
mod forger;
mod full_disk;
mod gossiper;
mod junk;
mod keys;
mod kill_loop;
mod members;
mod process;
mod refusals;
mod relay;
