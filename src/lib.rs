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
//! | [`tiers`] | the parts of a data center, in one process or several |
//! | [`webhead`], [`secure_webhead`], [`keysigner`] | those parts: what strangers reach, what writes, what certifies |
//! | [`verifier`] | what an assertion proves |
//! | [`browserid`] | the protocol: certificates, assertions, who may speak for an address. Pure |
//! | [`replication`] | where `crdt`'s store and `gossip` meet, and nowhere else |
//! | [`session`] | who is signed in, as a signed cookie: pure |
//! | [`settlement`] | what is decided once nothing concurrent is on its way: losers go, the cancelled is forgotten |
//! | [`keyring`] | a site's signing keys: made here, published to all, replaced, revoked |
//! | [`limits`] | what a client, an address and a relying party may ask for in a while |
//! | [`members`] | who belongs to the cluster, and by which key |
//! | [`site`] | one data center in one process: starts everything, drains, stops |
//! | [`mail`] | what people are written: words, outbox, SMTP. Knows no HTTP and no record |
//! | [`outbound`] | requests to hosts that strangers name, kept from reaching anything of ours |
//! | [`idp`] | which domains certify their own users, and what that means for an address |
//! | `listener` | a TCP listener that serves a router |
//! | [`wsapi`] | what people's browsers ask: names, arguments, cookies, refusals |
//! | [`web`] | what people and web sites see: the dialog, the pages, `include.js` |
//! | [`words`] | the words of mails and pages in one language |
//! | [`public_url`] | the one address under which people reach the service |
//! | [`awaited`] | what somebody waits for that is not here yet |
//! | [`admin`] | the operator's API on a Unix socket |
//! | [`demo`] | the other side: a web site to sign in to, an email domain that certifies its users |
//! | [`config`] | a site's configuration file |
//! | `directory_lock` | a directory that one process has to itself |
//! | `prometheus` | the status, as gauges |
//! | [`load`] | plays people's browsers against a site, and measures what they wait for |
//! | `sim` | the laboratory: worlds of replicas in virtual time, a seed each (feature `lab`) |
//! | `laboratory` | what only a laboratory has, for who makes sure that nobody else does (feature `lab`) |
//! | `world` | the laboratory: ten sites on one machine, to break and watch (feature `lab`) |
//!
//! The binary (`src/main.rs`, `src/cli/`) is a thin command line over this library.

pub mod admin;
pub mod awaited;
pub mod browserid;
pub mod config;
pub mod demo;
mod directory_lock;
pub mod identity;
pub mod idp;
pub mod keyring;
pub mod keysigner;
#[cfg(feature = "lab")]
pub mod laboratory;
pub mod limits;
pub mod listener;
pub mod load;
pub mod mail;
pub mod members;
pub mod outbound;
mod planted;
mod prometheus;
pub mod public_url;
pub mod replication;
pub mod secure_webhead;
pub mod session;
pub mod settlement;
#[cfg(feature = "lab")]
pub mod sim;
pub mod site;
pub mod store;
pub mod tiers;
pub mod verifier;
pub mod web;
pub mod webhead;
pub mod words;
#[cfg(feature = "lab")]
pub mod world;
pub mod wsapi;
