//! What this build can read that not every version can.
//!
//! A member says what it can (in the cluster record, and in its hello). A new format is written only once every
//! member can read it *and* an operator has finalised it (`persona cluster finalise`): until then going back to the
//! version before is safe, and after that it is not: whoever lacks what was finalised is not let in, and does not start.

use std::collections::BTreeSet;

use crdt::ClusterView;

/// Receipts that a cancelled account's data is gone from a site: a kind of cell that earlier versions do not know.
pub const ERASURE_RECEIPTS: &str = "erasure-receipts";

/// All that this build can read. Names are for good: one that was finalised somewhere is never given another meaning.
pub const KNOWN: [&str; 1] = [ERASURE_RECEIPTS];

/// The same, as it is advertised.
pub fn known() -> BTreeSet<String> {
    KNOWN.iter().map(|name| (*name).to_owned()).collect()
}

/// Why a feature cannot be finalised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFinalisable {
    /// Nobody here has heard of it.
    #[error("this build knows no feature `{0}`; `persona cluster features` lists those that it knows")]
    Unknown(String),
    /// A member could not read it.
    #[error("these members cannot read it yet: {}; update them first", .0.join(", "))]
    NotEverywhere(Vec<String>),
}

/// What was finalised and whoever can only so much cannot read.
pub fn lacked(cluster: &ClusterView, can: &BTreeSet<String>) -> Vec<String> {
    let finalised = cluster.all_finalised().filter(|feature| !can.contains(*feature));
    finalised.map(str::to_owned).collect()
}

/// Sees whether every member that counts can read what a feature writes.
pub fn finalisable(cluster: &ClusterView, feature: &str) -> Result<(), NotFinalisable> {
    if !KNOWN.contains(&feature) {
        return Err(NotFinalisable::Unknown(feature.to_owned()));
    }
    let lacking: Vec<String> = cluster
        .members
        .values()
        .filter(|member| !member.is_out() && !member.features.contains(feature))
        .map(|member| member.name.clone())
        .collect();
    if lacking.is_empty() {
        Ok(())
    } else {
        Err(NotFinalisable::NotEverywhere(lacking))
    }
}

#[cfg(test)]
mod tests {
    use crdt::{
        Actor, ClusterWrite, Document, Hlc, MemberField, MemberId, MemberState, RecordKind, View, Write,
    };

    use super::*;

    fn cluster(members: &[(u8, MemberState, &[&str])]) -> ClusterView {
        let mut writes = Vec::new();
        for (id, state, features) in members {
            let features = features.iter().map(|name| (*name).to_owned()).collect();
            for field in [
                MemberField::Name(format!("member-{id}")),
                MemberField::State(*state),
                MemberField::Features(features),
            ] {
                writes.push(Write::Cluster(ClusterWrite::Member {
                    id: MemberId::from_bytes([*id; 8]),
                    at: Hlc::new(1, 0),
                    field,
                }));
            }
        }
        let mut document = Document::new(RecordKind::Cluster);
        document.write(Actor([1; 8]), &writes).expect("good writes");
        match document.view() {
            View::Cluster(view) => view,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_feature_is_finalised_only_where_every_member_can_read_it() {
        use MemberState::{Active, Joining, Left};
        let able: &[&str] = &[ERASURE_RECEIPTS];
        let check = |members: &[(u8, MemberState, &[&str])], feature: &str, expected| {
            assert_eq!(finalisable(&cluster(members), feature), expected);
        };
        let lacked_by = |name: &str| Err(NotFinalisable::NotEverywhere(vec![name.to_owned()]));
        check(&[(1, Active, able), (2, Active, able)], ERASURE_RECEIPTS, Ok(()));
        check(
            &[(1, Active, able), (2, Active, &[])],
            ERASURE_RECEIPTS,
            lacked_by("member-2"),
        );
        check(
            &[(1, Active, able), (2, Joining, &[])],
            ERASURE_RECEIPTS,
            lacked_by("member-2"),
        );
        check(&[(1, Active, able), (2, Left, &[])], ERASURE_RECEIPTS, Ok(()));
        let unknown = NotFinalisable::Unknown("colour".to_owned());
        check(&[(1, Active, &["colour"])], "colour", Err(unknown));
    }
}
