//! Which sessions are over, whoever ends them where: the laws of an account's epoch, when ends of sessions and what
//! sessions have seen travel in any order, and two sites may draw the same HLC.

mod laws;
mod replicas;

use crdt::{AccountView, AccountWrite, Epoch, Hlc, RecordKind, View, Write};
use proptest::prelude::*;
use replicas::{Replica, at};

const SITES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// One site hears all that another has.
    Hear { site: usize, from: usize },
    /// A sign-out everywhere or a reset, at an HLC of this counter, or later if it is to beat what is there.
    End { site: usize, counter: u16, resets: bool },
    /// Somebody signed in at one site comes to another.
    Visit { site: usize, from: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let site = 0..SITES;
    let pair = (0..SITES, 1..SITES).prop_map(|(site, further)| (site, (site + further) % SITES));
    let step = prop_oneof![
        2 => pair.clone().prop_map(|(site, from)| Step::Hear { site, from }),
        2 => (site, 0..3_u16, prop::bool::weighted(0.2))
            .prop_map(|(site, counter, resets)| Step::End { site, counter, resets }),
        1 => pair.prop_map(|(site, from)| Step::Visit { site, from }),
    ];
    prop::collection::vec(step, 0..16)
}

/// A site, and the ends that it has heard of.
#[derive(Clone)]
struct Site {
    record: Replica,
    ends: Vec<usize>,
}

impl Site {
    fn view(&self) -> AccountView {
        match self.record.view() {
            View::Account(view) => view,
            _ => unreachable!("an account's record has an account's view"),
        }
    }

    fn epoch(&self) -> Epoch {
        self.view().epoch
    }

    fn hear(&mut self, other: &Site) {
        self.record.hear(&other.record);
        self.ends.extend(&other.ends);
    }

    fn knows_no_less_than(&self, other: &Site) -> bool {
        other.ends.iter().all(|end| self.ends.contains(end))
    }

    fn write(&mut self, write: AccountWrite) {
        self.record.write(&[Write::Account(write)]);
    }
}

#[test]
fn sessions_that_are_over_stay_over_and_those_that_have_seen_all_are_good() {
    laws::hold(512, "--test epochs", &steps(), |steps| {
        let mut sites: Vec<Site> = (1..)
            .take(SITES)
            .map(|actor| Site {
                record: Replica::new(RecordKind::Account, actor),
                ends: Vec::new(),
            })
            .collect();
        for (number, step) in steps.into_iter().enumerate() {
            let (Step::Hear { site, .. } | Step::End { site, .. } | Step::Visit { site, .. }) = step;
            let before = sites[site].epoch();
            match step {
                Step::Hear { site, from } => {
                    let other = sites[from].clone();
                    sites[site].hear(&other);
                    prop_assert!(other.epoch() <= sites[site].epoch(), "who hears knows no less");
                }
                Step::End {
                    site,
                    counter,
                    resets,
                } => {
                    let at = Hlc::new(1, counter).max(sites[site].view().latest().succ());
                    let resets = before.resets + u32::from(resets);
                    sites[site].write(AccountWrite::SessionEpoch(Epoch { resets, at }));
                    sites[site].ends.push(number);
                    prop_assert!(before < sites[site].epoch(), "all sessions known here are over");
                }
                Step::Visit { site, from } => {
                    let signer = sites[from].clone();
                    let seen = signer.epoch();
                    if before < seen {
                        sites[site].write(AccountWrite::SeenEpoch(seen));
                        prop_assert_eq!(sites[site].epoch(), seen, "it is good here");
                    }
                    // Where an end is known that its signer did not know, it may be over.
                    if before <= seen && signer.knows_no_less_than(&sites[site]) {
                        let mut met = sites[site].clone();
                        met.hear(&signer);
                        prop_assert_eq!(met.epoch(), seen, "and it stays good where all is known");
                    }
                }
            }
            prop_assert!(
                before <= sites[site].epoch(),
                "{:?} after {:?}",
                sites[site].epoch(),
                before
            );
        }
        Ok(())
    });
}

/// Two sites, each with an end of its own.
fn two_that_met(first: u64, second: u64) -> (Replica, Replica) {
    let end = |ms| {
        Write::Account(AccountWrite::SessionEpoch(Epoch {
            resets: 0,
            at: at(ms),
        }))
    };
    let (mut one, mut two) = (
        Replica::new(RecordKind::Account, 1),
        Replica::new(RecordKind::Account, 2),
    );
    one.write(&[end(first)]);
    two.write(&[end(second)]);
    (one, two)
}

fn epoch_of(record: &Replica) -> Epoch {
    match record.view() {
        View::Account(view) => view.epoch,
        _ => unreachable!("an account's record has an account's view"),
    }
}

/// Ends of one value at two sites, one of which replaces a third that differed from the other.
#[test]
fn an_end_that_draws_the_hlc_of_another_s_takes_nothing_back() {
    let (mut one, mut two) = two_that_met(5, 6);
    let one_before = one.clone();
    two.hear(&one_before);
    let met = epoch_of(&two);
    assert_eq!(met.at, at(6).succ());
    one.write(&[Write::Account(AccountWrite::SessionEpoch(Epoch {
        resets: 0,
        at: at(6),
    }))]);
    two.hear(&one);
    assert_eq!(epoch_of(&two), met);
}

/// A session made where the later end was, shown where only the earlier is known.
#[test]
fn what_a_session_has_seen_does_not_hide_an_end_that_it_has_not() {
    let (mut one, mut two) = two_that_met(5, 6);
    let seen = epoch_of(&two);
    two.hear(&one.clone());
    let met = epoch_of(&two);
    one.write(&[Write::Account(AccountWrite::SeenEpoch(seen))]);
    assert_eq!(epoch_of(&one), seen);
    two.hear(&one);
    assert_eq!(epoch_of(&two), met, "it was over here");
}

/// A session made where two ends have met, shown where only one is known.
#[test]
fn a_session_made_where_all_was_known_is_good_though_it_was_shown_where_less_was() {
    let (mut one, mut two) = two_that_met(5, 6);
    two.hear(&one.clone());
    let met = epoch_of(&two);
    one.write(&[Write::Account(AccountWrite::SeenEpoch(met))]);
    two.hear(&one);
    assert_eq!(epoch_of(&two), met);
}
