//! The laws of merging, over random histories of a small world: sites that sign people up, let them add and
//! remove addresses, change and reset passwords and cancel, each knowing only what has reached it. Transactions
//! arrive whole and in causal order, and otherwise in any order.

mod laws;
mod world;

use proptest::prelude::*;
use world::{Action, World};

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let number = || any::<u8>();
    let action = prop_oneof![
        4 => (number(), number()).prop_map(|(site, email)| Action::SignUp { site, email }),
        1 => (number(), number()).prop_map(|(site, staging)| Action::CompleteAgain { site, staging }),
        3 => (number(), number(), number()).prop_map(|(site, account, email)| Action::Add { site, account, email }),
        2 => (number(), number()).prop_map(|(site, email)| Action::Remove { site, email }),
        1 => (number(), number()).prop_map(|(site, account)| Action::Cancel { site, account }),
        2 => (number(), number()).prop_map(|(site, email)| Action::Reset { site, email }),
        2 => (number(), number()).prop_map(|(site, account)| Action::Change { site, account }),
        2 => (number(), number()).prop_map(|(site, account)| Action::Rehash { site, account }),
        8 => (number(), number(), number()).prop_map(|(from, to, which)| Action::Deliver { from, to, which }),
        1 => number().prop_map(|site| Action::Restart { site }),
    ];
    prop::collection::vec(action, 1..60)
}

/// How far each site's wall clock is off, in seconds.
fn skews() -> impl Strategy<Value = [i16; world::SITES]> {
    prop_oneof![Just([0; world::SITES]), prop::array::uniform5(-200_i16..200)]
}

#[test]
fn every_history_converges_and_keeps_its_promises() {
    let inputs = (actions(), skews(), any::<u64>());
    laws::hold(192, "--test histories", &inputs, |(actions, skews, order)| {
        let mut world = World::new(skews);
        for action in actions {
            world.act(action)?;
        }
        world.check_each_site()?;
        world.heal(order)?;
        world.check_agreement(order)?;
        world.check_promises()
    });
}
