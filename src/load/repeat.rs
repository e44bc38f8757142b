//! One request over and over, by so many people at once as are given: what a site can do at most. A closed loop, unlike people's
//! days: each asks again when it was answered, so latencies say little, and what counts is the processor time of the site for each
//! request, beside that of the bare signatures in it.

use std::{
    sync::Arc,
    time::{Duration, Instant as Moment},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    },
};
use clap::ValueEnum;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Serialize;
use tokio::{sync::Semaphore, time::Instant};

use super::{
    activity::{Activity, Call},
    crowd::{Person, client},
    errand::{Errand, Ground, Setback},
};

/// How long each of the bare operations is measured.
const BARE_MEASURED: Duration = Duration::from_millis(300);

/// A request that can be asked for alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(crate) enum Repeated {
    /// The context of somebody who is signed in.
    SessionContext,
    /// A certificate for a new key.
    CertKey,
    /// The verdict on an assertion with its certificate.
    Verify,
}

impl Repeated {
    /// The signatures made, and those verified, that an answer rests on. That one is good may be remembered: a session's is of its
    /// second request on, and so is that of a certificate which was verified before.
    const fn signatures(self) -> (u32, u32) {
        match self {
            Repeated::SessionContext => (0, 0),
            Repeated::CertKey => (1, 0),
            // The certificate's, and the assertion's.
            Repeated::Verify => (0, 2),
        }
    }

    /// As the tables call it.
    pub(crate) const fn call(self) -> Call {
        match self {
            Repeated::SessionContext => Call::SessionContext,
            Repeated::CertKey => Call::CertKey,
            Repeated::Verify => Call::Verify,
        }
    }
}

/// When to count, and when to end.
#[derive(Clone, Copy)]
pub(crate) struct Period {
    pub(crate) begin_measuring: Instant,
    pub(crate) end: Instant,
}

/// Has so many people begin. They go on until the end.
pub(crate) fn begin(
    ground: &Arc<Ground>,
    repeated: Repeated,
    at_once: u16,
    seed: u64,
    period: Period,
    in_flight: &Arc<Semaphore>,
) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..at_once {
        let person = ground.crowd.take(Activity::SignIn, &mut random);
        let (Some(person), Ok(place)) = (person, in_flight.clone().try_acquire_owned()) else {
            ground.tally.counts().nobody_free += 1;
            continue;
        };
        let random = StdRng::seed_from_u64(random.random());
        let ground = ground.clone();
        tokio::spawn(async move {
            go_on(&ground, repeated, person, random, period).await;
            drop(place);
        });
    }
}

async fn go_on(ground: &Ground, repeated: Repeated, mut person: Person, mut random: StdRng, period: Period) {
    loop {
        let now = Instant::now();
        if now >= period.end {
            return;
        }
        let mut random = StdRng::seed_from_u64(random.random());
        let is_measured = now >= period.begin_measuring;
        // Each comes from an address of its own, as with many people: what one client may ask for is not what a site can do.
        let client = client(&mut random);
        let mut errand = Errand::new(ground, person.home, client, random, now, is_measured);
        if once(&mut errand, repeated, &mut person).await.is_err() {
            // It is counted; a site that refuses everything is not to be asked as fast as it can refuse.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn once(errand: &mut Errand<'_>, repeated: Repeated, person: &mut Person) -> Result<(), Setback> {
    match repeated {
        Repeated::SessionContext => errand.context(&mut person.browsers[0]).await.map(drop),
        Repeated::CertKey => {
            person.browsers[0].drop_certificates();
            errand.certify(person, 0, 0).await
        }
        Repeated::Verify => {
            errand.certify(person, 0, 0).await?;
            errand.verify(person, 0, 0).await
        }
    }
}

/// What the operations of the curve alone cost on this machine, on one processor, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Bare {
    /// An ES256 signature.
    pub(crate) sign_us: f64,
    /// The verification of one.
    pub(crate) verify_us: f64,
}

impl Bare {
    /// Measures both; `None` if the library makes no key. It takes [`BARE_MEASURED`] for each.
    pub(crate) fn measure() -> Option<Bare> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
        // About as much as a certificate's signature is over.
        let message = [0x5a; 400];
        let signature = key.sign(&random, &message).ok()?;
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key());
        Some(Bare {
            sign_us: each_us(|| key.sign(&random, &message).is_ok()),
            verify_us: each_us(|| public.verify(&message, signature.as_ref()).is_ok()),
        })
    }

    /// Those in one such request.
    pub(crate) fn of(self, repeated: Repeated) -> f64 {
        let (made, verified) = repeated.signatures();
        f64::from(made) * self.sign_us + f64::from(verified) * self.verify_us
    }
}

fn each_us(operation: impl Fn() -> bool) -> f64 {
    let began = Moment::now();
    let mut done = 0u32;
    while began.elapsed() < BARE_MEASURED {
        done += u32::from(operation());
    }
    began.elapsed().as_secs_f64() * 1e6 / f64::from(done.max(1))
}
