//! Mail against a server that nobody here wrote: what arrives, what is kept when it does not, and what a kill leaves.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod crashes;
mod kinds;
mod refusals;
mod server;
