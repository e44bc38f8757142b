//! Persona: a person proves to a web site that they own an email address.
//!
//! Ten data centers, each with a full replica. Reads and writes are local; replicas gossip. The map:
//!
//! | where | what |
//! | --- | --- |
//! | `crdt/` | what an account is, and how two copies become one: pure |
//! | `gossip/` | who has which transactions, and how peers come to agree: a pure core, and a QUIC driver |
//! | [`store`] | every record on this replica's disk: commit logic, committer, RocksDB |
//! | [`identity`] | what people do: accounts, addresses, passwords. Knows no HTTP and no disk |
//! | [`browserid`] | the protocol: certificates, assertions, who may speak for an address. Pure |
//! | [`replication`] | where `crdt`'s store and `gossip` meet, and nowhere else |
//! | [`session`] | who is signed in, as a signed cookie: pure |
//! | [`settlement`] | what is decided once nothing concurrent is on its way: losers go, the cancelled is forgotten |
//! | [`keyring`] | a site's signing keys: made here, published to all, replaced, revoked |
//! | [`members`] | who belongs to the cluster, and by which key |
//! | [`site`] | one data center in one process: starts everything, drains, stops |
//! | [`mail`] | what people are written: words, outbox, SMTP. Knows no HTTP and no record |
//! | [`outbound`] | requests to hosts that strangers name, kept from reaching anything of ours |
//! | [`idp`] | which domains certify their own users, and what that means for an address |
//! | [`public_url`] | the one address under which people reach the service |
//! | [`admin`] | the operator's API on a Unix socket |
//! | [`config`] | a site's configuration file |
//! | `directory_lock` | a directory that one process has to itself |
//! | `prometheus` | the status, as gauges |
//! | `sim` | the laboratory: worlds of replicas in virtual time, a seed each (feature `lab`) |
//! | `world` | the laboratory: ten sites on one machine, to break and watch (feature `lab`) |
//!
//! The binary (`src/main.rs`, `src/cli/`) is a thin command line over this library.

pub mod admin;
pub mod browserid;
pub mod config;
mod directory_lock;
pub mod identity;
pub mod idp;
pub mod keyring;
pub mod mail;
pub mod members;
pub mod outbound;
mod planted;
mod prometheus;
pub mod public_url;
pub mod replication;
pub mod session;
pub mod settlement;
#[cfg(feature = "lab")]
pub mod sim;
pub mod site;
pub mod store;
#[cfg(feature = "lab")]
pub mod world;
