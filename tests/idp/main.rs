//! Domains that are asked who speaks for them, over TLS on this machine: what is taken, what is refused, and what is
//! never reached, straight and through Squid.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(feature = "lab")]

mod addresses;
mod answers;
mod hosts;
mod name_server;
mod squid;
