//! The core, case by case: one machine driven by hand.

#![allow(clippy::unwrap_used, reason = "a broken case ends the test")]

mod agreement;
mod asking;
mod catching_up;
mod driven;
mod exchange;
mod hellos;
mod settled;
mod starts;
