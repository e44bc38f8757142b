//! What people's browsers ask: `/wsapi/NAME`, as the original service had it.
//!
//! Every tier that such a call reaches keeps to the same rules, and they are here:
//!
//! | module | subject |
//! | --- | --- |
//! | [`endpoint`] | every call: name, method, and who answers it |
//! | [`arguments`] | a call's arguments, read strictly |
//! | [`cookies`] | the cookies of the service |
//! | [`reception`] | who asks: cookies verified, CSRF, client, idempotency |
//! | [`signed_in`] | whether a session is good by the records, and how good |
//! | [`problem`] | refusals: status, code, sentence |
//! | [`openapi`] | the description that programs read |
//!
//! `DIFFERENCES.md` beside this file says what differs from the original, and why.

pub mod answer;
pub mod arguments;
pub mod cookies;
pub mod endpoint;
pub mod openapi;
pub mod problem;
pub mod reception;
pub mod signed_in;

pub use self::{
    endpoint::{ENDPOINTS, Endpoint, PREFIX},
    problem::Problem,
    reception::{Get, Post, Reception, Visitor},
};
