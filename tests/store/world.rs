//! Several replicas that write at once, hear of each other in any order, crash and come back: they end the same.

use persona::{
    identity::{OperationError, Outcome, Word},
    store::{KeepLog, disk::memory::Fault},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::replica::{Replica, Time, address, password, passwords};

const SEEDS_FIXED: std::ops::Range<u64> = 0..12;
const SEEDS_FRESH: usize = 4;
const STEPS: usize = 120;
const REPLICAS: usize = 4;
const PEOPLE: usize = 6;

#[tokio::test]
async fn replicas_end_the_same_whatever_happened() {
    let seeds: Vec<u64> = match std::env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIM_SEED is a number")],
        Err(_) => SEEDS_FIXED
            .chain((0..SEEDS_FRESH).map(|_| rand::random()))
            .collect(),
    };
    for seed in seeds {
        let story = tokio::spawn(history(seed));
        if let Err(panic) = story.await {
            eprintln!(
                "to repeat: SIM_SEED={seed} cargo test --release --workspace --features lab --test store replicas_end"
            );
            std::panic::resume_unwind(panic.into_panic());
        }
    }
}

async fn history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (time, passwords) = (Time::new(), passwords());
    let mut replicas: Vec<Replica> = (0..REPLICAS)
        .map(|name| Replica::new(name as u8, &time, &passwords, KeepLog::Everything))
        .collect();
    let mut answered = Vec::new();
    for _ in 0..STEPS {
        time.pass(random.random_range(0..50));
        let at = random.random_range(0..REPLICAS);
        match random.random_range(0..100) {
            0..60 => {
                let dot = someone_does_something(&replicas[at], &mut random).await;
                answered.extend(dot);
            }
            60..90 => {
                let from = random.random_range(0..REPLICAS);
                if from != at {
                    replicas[at].pull(&replicas[from]).await;
                }
            }
            90..95 => {
                let faults = [Fault::Full, Fault::Lost, Fault::Landed, Fault::Unsynced];
                replicas[at]
                    .disk
                    .plan(faults[random.random_range(0..faults.len())]);
            }
            _ => replicas[at].restart(random.random()),
        }
    }
    for _ in 0..REPLICAS {
        for at in 0..REPLICAS {
            // A fault that was planned and never met must not meet the last exchange.
            replicas[at].restart(true);
            for from in (0..REPLICAS).filter(|from| *from != at) {
                replicas[at].pull(&replicas[from]).await;
            }
        }
    }
    for replica in &replicas {
        replica.assert_same(&replicas[0]);
        replica.assert_sound();
        for dot in &answered {
            assert!(
                replica.store.state().vector.covers(dot),
                "{dot:?} was answered and is lost"
            );
        }
    }
}

/// One of a few people, so that they meet, does something; the dot if it was written.
async fn someone_does_something(replica: &Replica, random: &mut StdRng) -> Option<gossip::Dot> {
    let address = address(&format!("person{}@example.org", random.random_range(0..PEOPLE)));
    let identity = &replica.identity;
    let known = identity
        .email(&address)
        .await
        .ok()
        .and_then(|state| state.holder)
        .map(|holder| holder.account);
    fn dot(outcome: Result<Outcome<()>, OperationError>) -> Option<gossip::Dot> {
        match outcome {
            Ok(Outcome::Done { dot, .. }) => dot,
            Ok(Outcome::Refused(_)) | Err(OperationError::Store(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }
    #[allow(clippy::needless_pass_by_value, reason = "the calls read better")]
    fn unit<T>(outcome: Outcome<T>) -> Outcome<()> {
        match outcome {
            Outcome::Done { dot, .. } => Outcome::Done { value: (), dot },
            Outcome::Refused(refusal) => Outcome::Refused(refusal),
        }
    }
    let Some(account) = known else {
        return dot(identity
            .create_account(address, password("correct horse"), Word::Operator)
            .await
            .map(unit));
    };
    let other = crate::replica::address(&format!("person{}@example.org", random.random_range(0..PEOPLE)));
    match random.random_range(0..7) {
        0 => dot(identity.sign_out_everywhere(account).await.map(unit)),
        1 => dot(identity
            .reset_password(address, password("battery staple"), Word::Operator)
            .await
            .map(unit)),
        2 | 3 => dot(identity.add_email(account, other, Word::Operator).await.map(unit)),
        4 => dot(identity.remove_email(account, &address).await.map(unit)),
        5 => dot(identity.cancel_account(account).await.map(unit)),
        _ => {
            let changed = identity
                .change_password(
                    account,
                    password("correct horse"),
                    password("battery staple"),
                    None,
                )
                .await;
            dot(changed.map(unit))
        }
    }
}
