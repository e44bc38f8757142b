//! The other side of Persona: a web site, and an email domain, as browsers and Persona see them.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(feature = "lab")]

mod identity_provider;
mod relying_party;
mod visitor;
mod world;
