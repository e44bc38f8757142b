//! What a certificate and a verification cost beside the bare signature operations, in the same run.
//!
//! `cargo bench --bench jose`; the goal is a ratio below 1.5 for both: making a certificate against one signature,
//! verifying an assertion with its certificate against two verifications.
#![allow(
    clippy::expect_used,
    reason = "a failure ends the run, and says what was expected"
)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    },
};
use crdt::{AccountId, Epoch, Hlc};
use criterion::{Criterion, criterion_group, criterion_main};
use persona::{
    browserid::{
        Authority, BackedAssertion, Domain, KeySet, NewAssertion, NewCertificate, SignatureCache, SigningKey,
        Standing, Usage,
    },
    identity::Address,
    session::{Methods, Session},
};
use rand::{SeedableRng, rngs::StdRng};

const NOW_MS: u64 = 1_800_000_000_000;
const RP: &str = "https://rp.example";

fn jose(criterion: &mut Criterion) {
    let mut rng = StdRng::seed_from_u64(1);
    let site = SigningKey::generate(&mut rng).expect("a key");
    let browser = SigningKey::generate(&mut rng).expect("a key");
    let mut keys = KeySet::ours(Usage::Certificate);
    keys.add(site.public().clone()).expect("few keys");
    let issuer = Domain::parse("persona.example").expect("a domain");
    let email = Address::parse("ada@example.org").expect("an address");
    let new = NewCertificate {
        issuer: &issuer,
        email: &email,
        public_key: browser.public(),
        now_ms: NOW_MS,
        rests_on_ms: NOW_MS - 60_000,
        resets: 0,
        short: false,
        session_ends_ms: u64::MAX,
    };
    let certificate = new.issue(&site).expect("a certificate");
    let assertion = NewAssertion {
        audience: RP,
        expires_ms: NOW_MS + 120_000,
        nonce: None,
    };
    let backed = assertion.back(&certificate, &browser).expect("an assertion");
    let standing = Standing::Held {
        verified: true,
        done: Hlc::ZERO,
        session_epoch: Epoch::default(),
    };
    // Of the certificate each time, as of one that was never seen.
    let signatures = SignatureCache::new(0);
    let verify = || {
        let authority = Authority::Ourselves {
            domain: &issuer,
            keys: &keys,
            signatures: &signatures,
            standing: &standing,
        };
        BackedAssertion::parse(black_box(&backed))
            .expect("readable")
            .verify(RP, authority, NOW_MS)
            .expect("okay")
    };

    let bare_key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let random = SystemRandom::new();
    let message = certificate.as_bytes();
    let bare_sign = || bare_key.sign(&random, black_box(message)).expect("a signature");
    let signature = bare_sign();
    let bare_public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bare_key.public_key());
    // Two, as for an assertion and its certificate. Whoever is given a key has to parse it.
    let bare_verify_two = || {
        for _ in 0..2 {
            bare_public
                .verify(black_box(message), signature.as_ref())
                .expect("verified");
        }
    };

    let mut sessions = KeySet::ours(Usage::Session);
    sessions.add(site.public().clone()).expect("few keys");
    let session = Session {
        id: [1; 16],
        account: AccountId::from_bytes([2; 15]),
        methods: Methods {
            assertion_ms: None,
            password_ms: Some(NOW_MS),
        },
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + persona::session::LIFETIME_MS,
        csrf: [3; 16],
        last_dot: None,
        epoch: Epoch::default(),
    };
    let cookie = session.sign(&site).expect("a cookie");
    let (cached, uncached) = (SignatureCache::new(1024), SignatureCache::new(0));
    let read_session = |cache: &SignatureCache| {
        Session::verify(black_box(&cookie), &sessions, cache, NOW_MS).expect("a session")
    };

    let mut group = criterion.benchmark_group("jose");
    group.bench_function("bare ES256 sign", |bencher| bencher.iter(bare_sign));
    group.bench_function("issue a certificate", |bencher| bencher.iter(|| new.issue(&site)));
    group.bench_function("bare ES256 verify, twice", |bencher| {
        bencher.iter(bare_verify_two);
    });
    group.bench_function("verify a backed assertion", |bencher| bencher.iter(verify));
    group.bench_function("read a session", |bencher| {
        bencher.iter(|| read_session(&uncached));
    });
    group.bench_function("read a session, signature known", |bencher| {
        bencher.iter(|| read_session(&cached));
    });
    group.finish();

    let issue_one = || {
        black_box(new.issue(&site).expect("a certificate"));
    };
    let sign_one = || {
        black_box(bare_sign());
    };
    let verify_one = || {
        black_box(verify());
    };
    let issuing = ratio(issue_one, sign_one);
    let verifying = ratio(verify_one, bare_verify_two);
    println!("issuing a certificate: {issuing:.2} times a bare signature (goal: below 1.5)");
    println!("verifying a backed assertion: {verifying:.2} times two bare verifications (goal: below 1.5)");
}

/// The median of the ratio of two costs, measured in turns so that what else the machine does falls on both.
fn ratio(mut one: impl FnMut(), mut other: impl FnMut()) -> f64 {
    const ROUNDS: usize = 41;
    const TIMES: u32 = 100;
    let time = |what: &mut dyn FnMut()| -> Duration {
        let start = Instant::now();
        (0..TIMES).for_each(|_| what());
        start.elapsed()
    };
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| time(&mut one).as_secs_f64() / time(&mut other).as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ROUNDS / 2).copied().unwrap_or(f64::NAN)
}

criterion_group!(benches, jose);
criterion_main!(benches);
