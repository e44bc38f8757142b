//! Domains that certify their own users, as far as the records know: when one was seen doing so.

use crdt::{CellKind, IdpSeen};

use super::address::DomainKey;
use crate::store::{ReadError, Records};

/// When a domain was last seen certifying its own users, in milliseconds since 1970; `None` if it was not in the last
/// thirty days, or has said since that it does not.
pub(super) fn seen_ms(
    records: &impl Records,
    now_ms: u64,
    domain: DomainKey,
) -> Result<Option<u64>, ReadError> {
    let cells = records.cells(CellKind::IDP_SEEN, domain.as_bytes())?;
    let live = cells.iter().filter(|cell| cell.is_live(now_ms));
    Ok(match IdpSeen::latest(live) {
        Some(IdpSeen::Seen { at_ms }) => Some(at_ms),
        Some(IdpSeen::Forgotten) | None => None,
    })
}
