//! What comes to the gossip port of a running site that should not: an error, a counted metric, a closed connection
//! or a quarantined record; no panic, no hang, memory bounded.
//!
//! Junk on the streams of a hand-made QUIC client is thrown at the gossip alone, in `gossip/tests/quic/hostile.rs`.
//! Here a whole process is under fire.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use crdt::{AccountId, EmailId, RecordKey, VaultId};
use gossip::{
    Dot, Envelope, FOLLOWS_COUNT_MAX, ReplicaId, TRANSACTION_BYTES_MAX, Tip, Writer, transaction_hash,
};
use persona::{
    members::make_identity,
    store::{Records, Store, disk::Family},
};
use rand::{Rng, RngExt, rngs::StdRng};
use tokio::net::UdpSocket;

use crate::{
    chance,
    forger::{Forger, giant},
    gossiper::{Gossiper, Quirks},
    process::{Plan, Site, assert_sound, loopback},
    relay::{Relay, spoil},
};

/// An idle site takes a third of this.
const RESIDENT_KIB_MAX: u64 = 200 * 1024;

async fn assert_well(site: &Site, address: &str) -> Dot {
    assert!(site.is_alive(), "{}", site.log.text());
    let resident_kib = site.resident_kib().expect("it runs");
    assert!(resident_kib < RESIDENT_KIB_MAX, "{resident_kib} KiB");
    let log = site.log.text();
    assert!(!log.contains("panicked"), "{log}");
    let (_, dot) = site
        .client
        .sign_up(address)
        .await
        .unwrap_or_else(|error| panic!("{error:?}\n{log}"));
    site.client.sign_in(address).await.expect("a sign-in");
    dot
}

/// The first datagram of a member that dials.
async fn a_first_datagram(plan: &Plan) -> Vec<u8> {
    let ear = UdpSocket::bind(loopback()).await.expect("a port");
    let dialer = Gossiper::start(
        plan,
        1,
        1,
        ear.local_addr().expect("an address"),
        Quirks::default(),
    )
    .await;
    let mut datagram = vec![0; 65_536];
    let length = ear.recv(&mut datagram).await.expect("it dials");
    dialer.stop().await;
    datagram.truncate(length);
    datagram
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_that_are_junk_or_almost_quic() {
    let seed = chance::seed("junk::datagrams");
    let mut random = chance::part(seed, 0);
    let plan = Plan::new(2);
    let site = plan.start(0).await;
    let first = a_first_datagram(&plan).await;
    let mut sockets = Vec::new();
    for _ in 0..64 {
        sockets.push(UdpSocket::bind(loopback()).await.expect("a port"));
    }
    for round in 0..10_000 {
        let datagram = match random.random_range(0..4) {
            0 => noise(&mut random, 1500),
            1 => noise(&mut random, 60),
            // A long header of QUIC 1, or of a version yet to come, and noise.
            2 => {
                let version: u32 = if random.random() { 1 } else { random.random() };
                let mut datagram = noise(&mut random, 1400);
                let head = [&[0xc0 | random.random::<u8>()][..], &version.to_be_bytes()].concat();
                datagram.splice(0..0, head);
                datagram
            }
            // A real first datagram, once more from elsewhere, or not quite that.
            _ => spoil(&first, &mut random),
        };
        let socket = &sockets[random.random_range(0..sockets.len())];
        // A full buffer on this machine loses it, which is all the same.
        let _ = socket.send_to(&datagram, plan.configs[0].listen).await;
        if round % 1000 == 0 {
            assert_well(&site, &format!("round{round}@example.org")).await;
        }
    }
    // And a member still gets through.
    let mut member = Gossiper::start(&plan, 1, 2, plan.configs[0].listen, Quirks::default()).await;
    let dot = member.write(Vec::new());
    site.has(dot).await;
    assert_well(&site, "last@example.org").await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_listed_gets_no_word_in() {
    let plan = Plan::new(2);
    let site = plan.start(0).await;
    let stranger = make_identity("a stranger").expect("an identity");
    let fingerprint = gossip::quic::fingerprint(&stranger.public_key);
    let pem = stranger.pem.as_bytes();
    let mut stranger = Gossiper::with_key(&plan, 1, 1, plan.configs[0].listen, Quirks::default(), pem).await;
    let dot = stranger.write(b"a word".to_vec());
    site.log.says(&["WARN", "connection refused", &fingerprint]).await;
    // It comes again and again.
    site.counted("handshakes_refused", 3).await;
    assert_well(&site, "ada@example.org").await;
    assert_eq!(site.vector().await.get(&dot.writer), None);
    assert_eq!(site.counter("push_bytes_received").await, 0);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_of_a_live_connection_again_cut_short_or_changed() {
    let seed = chance::seed("junk::datagrams_of_a_live");
    let plan = Plan::new(2);
    let site = plan.start(0).await;
    let relay = Relay::to(plan.configs[0].listen, chance::part(seed, 0)).await;
    let mut member = Gossiper::start(&plan, 1, 1, relay.address, Quirks::default()).await;
    let forger = Forger::new(plan.configs[0].cluster.index_key.0).await;
    let mut random = chance::part(seed, 1);
    let mut last = None;
    for number in 0..300 {
        let dot = member.write(forger.sound(&mut random));
        last = Some(dot);
        if number % 10 == 0 {
            site.has(dot).await;
        }
    }
    let last = last.expect("some");
    site.has(last).await;
    let forged = relay.forged.load(Ordering::Relaxed);
    assert!(forged > 100, "only {forged} datagrams were forged");
    println!("{forged} forged datagrams");
    assert_eq!(
        site.counter("frames_refused").await,
        0,
        "no forged datagram got as far as a frame"
    );
    assert_eq!(site.counter("misbehaved").await, 0);
    assert_eq!(site.vector().await[&last.writer], last.number);
    let dot = assert_well(&site, "ada@example.org").await;
    site.stop().await;
    assert_sound(&plan.open(0), &[dot, last]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_forged_by_a_member() {
    const TRANSACTIONS: usize = 1500;
    let seed = chance::seed("junk::transactions_forged");
    let mut random = chance::part(seed, 0);
    let plan = Plan::new(3);
    let sites = [plan.start(0).await, plan.start(1).await];
    let forger = Forger::new(plan.configs[0].cluster.index_key.0).await;
    // The second site has everything from the first alone.
    let mut member = Gossiper::start(&plan, 2, 1, plan.configs[0].listen, Quirks::default()).await;
    let mut answered = Vec::new();
    let mut written = Vec::new();
    for number in 0..TRANSACTIONS {
        let sound = random.random_range(0..5) == 0;
        let body = if sound {
            forger.sound(&mut random)
        } else {
            forger.forge(&mut random)
        };
        written.push(member.write(body));
        if number % 150 == 0 {
            sites[0].has(written[number]).await;
            answered.push(assert_well(&sites[0], &format!("round{number}@example.org")).await);
            // What they are about is served, or refused for a reason; it never spoils the rest.
            for address in &forger.addresses {
                assert_served_or_refused(&sites[0], address).await;
            }
        }
    }
    let last = *written.last().expect("some");
    for site in &sites {
        site.has(last).await;
        answered.push(assert_well(site, &format!("last{}@example.org", site.pid)).await);
        let status = site.client.get("/status").await.expect("its status");
        assert!(
            status["quarantined"].as_u64() > Some(TRANSACTIONS as u64 / 10),
            "{status}"
        );
        let alarms = status["alarms"].to_string();
        assert!(alarms.contains("lies in quarantine"), "{alarms}");
        println!("{} KiB resident", site.resident_kib().expect("it runs"));
    }
    for dot in &answered {
        sites[0].has(*dot).await;
        sites[1].has(*dot).await;
    }
    let same = async || {
        let (one, other) = (sites[0].vector().await, sites[1].vector().await);
        (one == other).then_some(())
    };
    sites[0].eventually("the same vector", same).await;
    let digest = sites[0].client.get("/digest").await.expect("its digest");

    // Replayed: nothing changes.
    let duplicates = sites[0].counter("duplicates").await;
    let log = member.log();
    for (dot, bytes) in log.iter().filter(|(dot, _)| dot.number % 7 == 0) {
        member.push(*dot, bytes.clone());
    }
    let replayed = log.len() as u64 / 7;
    sites[0].counted("duplicates", duplicates + replayed).await;
    let replayed = sites[0].client.get("/digest").await.expect("its digest");
    assert_eq!(replayed, digest);

    answered.extend(&written);
    let mut records = Vec::new();
    for (number, site) in sites.into_iter().enumerate() {
        let missing = site.counter("missing_values").await;
        site.stop().await;
        let store = plan.open(number);
        assert_sound_but_for_quarantine(&store, missing);
        records.push(people_s_records(&store));
        for dot in &answered {
            assert!(
                store.state().vector.covers(dot),
                "{dot:?} was answered and is lost"
            );
        }
        store.close();
    }
    // However little sense it made: both took it the same way. (Their digests also say which vault values are here,
    // and one that was not brought by whoever named it may have come with something else at the same moment.)
    assert_eq!(records[0], records[1]);
    // And it starts again over all that.
    let site = plan.start(0).await;
    assert_well(&site, "restarted@example.org").await;
    site.stop().await;
}

/// Every document and view but those of the cluster, to which each site wrote itself.
fn people_s_records(store: &Store) -> BTreeMap<(Family, Vec<u8>), Vec<u8>> {
    let mut records = BTreeMap::new();
    let scanned = store.scan_everything(|family, key, value| {
        if matches!(family, Family::Documents | Family::Views) && key != RecordKey::CLUSTER.as_bytes() {
            records.insert((family, key.to_vec()), value.to_vec());
        }
    });
    scanned.expect("a readable store");
    records
}

/// Nothing is wrong but what forged transactions do to themselves: they name values that they did not bring, which
/// was counted; and of a record in quarantine nothing is erased, since what is missing of it may name that still.
fn assert_sound_but_for_quarantine(store: &Store, missing_values: u64) {
    let audit = store.audit().expect("a readable store");
    assert!(audit.quarantined > 0, "{audit:?}");
    let mut spared = Vec::new();
    let mut missing = 0;
    for finding in &audit.findings {
        match finding.split_once(": ") {
            Some(("vault", rest)) if rest.ends_with("is named, and not there") => missing += 1,
            Some(("vault", rest)) => {
                let id = rest.strip_suffix(" is there, and nothing names it");
                let id: VaultId = id
                    .and_then(|id| id.parse().ok())
                    .unwrap_or_else(|| panic!("{finding}"));
                spared.push(id);
            }
            // Account and email; it is the email that no longer says so.
            Some(("index", rest)) => {
                let key = rest
                    .strip_suffix(" follows from no record")
                    .unwrap_or_else(|| panic!("{finding}"));
                let digits = key.trim_matches(['[', ']']).split(", ");
                let key: Vec<u8> = digits
                    .map(|byte| u8::from_str_radix(byte, 16).expect("a byte"))
                    .collect();
                let email = EmailId::from_bytes(key[AccountId::LEN..].try_into().expect("an email"));
                let looked = store.read(|records| records.email(email)).expect("a snapshot");
                assert!(looked.is_err(), "{finding}");
            }
            _ => panic!("{finding}"),
        }
    }
    assert!(
        missing <= missing_values,
        "{missing_values} counted: {:#?}",
        audit.findings
    );
    println!("{audit:?}");
    let quarantined = |key: &[u8]| {
        let key = RecordKey::from_bytes(key.try_into().expect("a record's key"));
        let looked = store.read(|records| match (key.account(), key.email()) {
            (Some(account), _) => records.account(account).is_err(),
            (_, Some(email)) => records.email(email).is_err(),
            _ => records.cluster().is_err(),
        });
        looked.expect("a snapshot")
    };
    let mut documents = Vec::new();
    let scanned = store.scan_everything(|family, key, document| {
        if family == Family::Documents {
            documents.push((key.to_vec(), document.to_vec()));
        }
    });
    scanned.expect("a readable store");
    for id in spared {
        let names = |document: &[u8]| document.windows(VaultId::LEN).any(|bytes| bytes == id.as_bytes());
        let by_quarantined = documents
            .iter()
            .any(|(key, document)| names(document) && quarantined(key));
        assert!(by_quarantined, "{id} should have been erased");
    }
}

async fn assert_served_or_refused(site: &Site, address: &str) {
    match site.client.get(&format!("/emails/{address}")).await {
        Ok(_) => {}
        Err(refused) => assert!(
            ["in-quarantine", "not-here-yet"].contains(&refused.code()),
            "{refused:?}"
        ),
    }
    match site.client.sign_in(address).await {
        Ok(_) => {}
        Err(refused) => {
            let code = refused.code();
            let codes = [
                "in-quarantine",
                "not-here-yet",
                "wrong-password",
                "locked",
                "busy",
            ];
            assert!(codes.contains(&code), "{address}: {refused:?}");
        }
    }
}

/// Counters that a site counts a peer's nonsense under.
async fn nonsense(site: &Site) -> u64 {
    let status = site.client.get("/status").await.expect("its status");
    let count = |name: &str| {
        status["counters"][name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {status}"))
    };
    count("misbehaved") + count("frames_refused") + count("forks")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_transaction_from_a_member() {
    let seed = chance::seed("junk::bytes_that_are_no");
    let mut random = chance::part(seed, 0);
    let plan = Plan::new(2);
    let site = plan.start(0).await;
    let forger = Forger::new(plan.configs[0].cluster.index_key.0).await;
    let sound = |random: &mut StdRng, dot, predecessor| Envelope {
        dot,
        predecessor,
        follows: Vec::new(),
        body: forger.sound(random),
    };
    type Make<'a> = Box<dyn Fn(&mut StdRng, Dot, [u8; 8]) -> Vec<u8> + 'a>;
    let cases: Vec<(&str, Make<'_>)> = vec![
        ("noise", Box::new(|random, _, _| noise_of(random, 400))),
        (
            "longer than a transaction may be",
            Box::new(|random, _, _| noise_of(random, TRANSACTION_BYTES_MAX + 1)),
        ),
        ("giant lengths", Box::new(|random, _, _| giant(random))),
        (
            "half a transaction",
            Box::new(|random, dot, before| {
                let mut bytes = sound(random, dot, before).encode();
                bytes.truncate(bytes.len() / 2);
                bytes
            }),
        ),
        (
            "number zero",
            Box::new(|random, dot, before| sound(random, Dot { number: 0, ..dot }, before).encode()),
        ),
        (
            "a first one that follows another",
            Box::new(|random, dot, before| sound(random, Dot { number: 1, ..dot }, before).encode()),
        ),
        (
            "another predecessor",
            Box::new(|random, dot, _| sound(random, dot, [9; 8]).encode()),
        ),
        (
            "one dot twice, with two contents",
            Box::new(|random, dot, _| {
                let before = Dot {
                    number: dot.number - 1,
                    ..dot
                };
                let mut again = sound(random, before, [9; 8]);
                again.body = b"another".to_vec();
                again.encode()
            }),
        ),
        (
            "more to follow than there can be",
            Box::new(|random, dot, before| {
                let mut envelope = sound(random, dot, before);
                envelope.follows = follows(random, FOLLOWS_COUNT_MAX + 1);
                envelope.encode()
            }),
        ),
    ];
    for (epoch, (what, make)) in cases.iter().enumerate() {
        let epoch = u32::try_from(epoch).expect("few") + 1;
        let mut member = Gossiper::start(&plan, 1, epoch, plan.configs[0].listen, Quirks::default()).await;
        member.write(forger.sound(&mut random));
        let dot = member.write(forger.sound(&mut random));
        site.has(dot).await;
        let before = nonsense(&site).await;
        let next = Dot {
            number: dot.number + 1,
            ..dot
        };
        let bytes = make(&mut random, next, member.last_hash());
        member.write_bytes(&bytes);
        let counted = async || (nonsense(&site).await > before).then_some(());
        site.eventually(&format!("{what} is counted"), counted).await;
        assert_well(&site, &format!("{epoch}@example.org")).await;
        assert_eq!(site.vector().await[&member.writer()], dot.number, "{what}");
        member.stop().await;
    }
    let status = site.client.get("/status").await.expect("its status");
    assert!(
        status["alarms"].to_string().contains("has another content"),
        "{status}"
    );

    // What follows something that nobody has waits; only so much of it, and not for ever.
    let mut member = Gossiper::start(&plan, 1, 100, plan.configs[0].listen, Quirks::default()).await;
    let dot = member.write(forger.sound(&mut random));
    site.has(dot).await;
    let early_max = gossip::Limits::default().early_bytes_max;
    let large = TRANSACTION_BYTES_MAX - 2048;
    for number in 0..(3 * early_max / large) as u64 {
        let writer = Writer {
            replica: ReplicaId(random.random()),
            epoch: 1,
            nonce: random.random(),
        };
        let envelope = Envelope {
            dot: Dot {
                writer,
                number: u64::MAX,
            },
            predecessor: [9; 8],
            follows: follows(&mut random, 3),
            body: vec![0x5a; large],
        };
        let bytes = envelope.encode();
        member.push(envelope.dot, bytes.into());
        // No more at once than its own queue takes.
        if number % 32 == 31 {
            site.counted("early", number).await;
        }
    }
    site.counted("early_dropped", 1).await;
    assert_well(&site, "early@example.org").await;
    let dot = member.write(forger.sound(&mut random));
    site.has(dot).await;
    member.stop().await;
    println!("{} KiB resident", site.resident_kib().expect("it runs"));
    let last = assert_well(&site, "last@example.org").await;
    site.stop().await;
    let audit = assert_sound(&plan.open(0), &[dot, last]);
    println!("{audit:?}");
}

fn follows(random: &mut StdRng, count: usize) -> Vec<(Writer, Tip)> {
    let mut follows = BTreeMap::new();
    while follows.len() < count {
        let writer = Writer {
            replica: ReplicaId(random.random()),
            epoch: random.random(),
            nonce: random.random(),
        };
        follows.insert(
            writer,
            Tip {
                number: random.random(),
                hash: transaction_hash(b""),
            },
        );
    }
    follows.into_iter().collect()
}

fn noise(random: &mut StdRng, length_max: usize) -> Vec<u8> {
    let length = random.random_range(0..length_max);
    noise_of(random, length)
}

fn noise_of(random: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill_bytes(&mut bytes);
    bytes
}
